"""Queues: first in first out, consumers compete, and waiting ones are told."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from eric_sse.engines import open_engine
from eric_sse.exception import NoMessagesException
from eric_sse.message import Message
from eric_sse.queues import InMemoryQueue, Queue


def pop_all(queue):
    """The payloads that are left in ``queue``, popped."""
    payloads = []
    while True:
        try:
            payloads.append(queue.pop().payload)
        except NoMessagesException:
            return payloads


def test_messages_come_out_in_the_order_in_which_they_went_in():
    """First in, first out; then it is empty."""
    queue = InMemoryQueue([Message("a", 0)])
    for number in (1, 2):
        queue.push(Message("a", number))
    assert pop_all(queue) == [0, 1, 2]
    with pytest.raises(NoMessagesException):
        queue.pop()


def test_what_is_pending_can_be_looked_at_and_stays():
    """A repository stores what is pending without emptying the queue."""
    queue = InMemoryQueue([Message("a", 1), Message("a", 2)])
    assert [message.payload for message in queue.pending()] == [1, 2]
    assert pop_all(queue) == [1, 2]


def test_a_push_tells_whoever_subscribed_after_the_message_is_there():
    """Who is woken finds the message."""
    queue, found = InMemoryQueue(), []
    end = queue.subscribe(lambda: found.append(queue.pop().payload))
    queue.push(Message("a", 1))
    end()
    queue.push(Message("a", 2))
    assert found == [1]


def test_a_queue_of_a_users_own_needs_pop_and_push():
    """Two abstract methods, no more."""
    assert Queue.__abstractmethods__ == {"pop", "push"}


@pytest.mark.parametrize("kind", ["memory", "log"])
def test_two_threads_that_pop_never_get_one_message_twice(kind):
    """Each message goes to one consumer, and all go to some."""
    with open_engine("memory://") as engine:
        channel = engine.channels.create({"channel_id": "c"})
        channel.add_listener()
        engine.channels.persist(channel)
        queue = InMemoryQueue() if kind == "memory" else next(iter(channel.get_connections())).queue
        for number in range(1000):
            queue.push(Message("a", number))
        with ThreadPoolExecutor(2) as threads:
            popped = list(threads.map(pop_all, [queue, queue]))
    assert sorted(popped[0] + popped[1]) == list(range(1000))
    assert all(part == sorted(part) for part in popped)


def test_threads_that_push_and_pop_at_once_lose_nothing():
    """A queue is safe between a producer and a consumer."""
    queue, numbers = InMemoryQueue(), count()

    def push_all():
        for _ in range(2000):
            queue.push(Message("a", next(numbers)))

    with ThreadPoolExecutor(2) as threads:
        pushing, received = threads.submit(push_all), []
        while not pushing.done():
            received += pop_all(queue)
    assert received + pop_all(queue) == list(range(2000))
