"""One step of tests/test_eric_redis_queues.py, each in a process of its own: ``redis_channel.py STEP PORT``.

Prints what it found, as JSON.
"""

import json
import sys

from eric_redis_queues import RedisConnection
from eric_redis_queues.repository import RedisSSEChannelRepository

from eric_sse.exception import ItemNotFound, NoMessagesException
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message, SignedMessage

CHANNEL_ID = "a:b*"


def store(repository):
    """Persist a channel with two listeners for whom messages wait."""
    channel = repository.create({"channel_id": CHANNEL_ID, "retry_timeout_milliseconds": 7})
    for listener_id in ("one", "two"):
        channel.register_listener(MessageQueueListener(listener_id))
    channel.broadcast(Message("to all", {"n": 1}))
    channel.dispatch("two", SignedMessage("one", "to two", ["é"]))
    repository.persist(channel)
    repository.persist(repository.create({"channel_id": "a:b*c"}))
    return [connection.listener.id for connection in channel.get_connections()]


def load(repository):
    """Load it, and receive all that waits."""
    channel = repository.load_one(CHANNEL_ID)
    return {
        "retry": channel.retry_timeout_milliseconds,
        "channels": sorted(channel.id for channel in repository.load_all()),
        "received": {c.listener.id: pop_all(c.queue) for c in channel.get_connections()},
    }


def pop_all(queue):
    """What waits in ``queue``: classes, types and payloads."""
    received = []
    while True:
        try:
            message = queue.pop()
        except NoMessagesException:
            return received
        received.append([type(message).__name__, message.type, message.payload])


def delete(repository):
    """Delete it twice, and another, and try to load it."""
    repository.load_one(CHANNEL_ID).broadcast(Message("left over"))
    for channel_id in (CHANNEL_ID, CHANNEL_ID, "a:b*c"):
        repository.delete(channel_id)
    try:
        repository.load_one(CHANNEL_ID)
    except ItemNotFound as error:
        return type(error).__name__


if __name__ == "__main__":
    step = {"store": store, "load": load, "delete": delete}[sys.argv[1]]
    print(json.dumps(step(RedisSSEChannelRepository(RedisConnection(port=int(sys.argv[2]))))))
