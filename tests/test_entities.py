"""Channels: subscribing, sending, and streams that wait without waking."""

import asyncio
import gc
import weakref

import pytest

from eric_sse import entities
from eric_sse.codec import encode_message
from eric_sse.connection import Connection, ConnectionsFactory, InMemoryConnectionsFactory
from eric_sse.engines import open_engine
from eric_sse.entities import AbstractChannel
from eric_sse.exception import (
    ChannelNotFound,
    InvalidChannelException,
    InvalidConnectionException,
    ListenerNotFound,
    NoMessagesException,
    RepositoryError,
    StoreUnavailable,
)
from eric_sse.listener import MessageQueueListener
from eric_sse.log import NewEntry, Retention
from eric_sse.message import Message
from eric_sse.queues import InMemoryQueue, Queue
from support.loops import run_counting


class Channel(AbstractChannel):
    """Its streams hold payloads, or the types of messages that have none."""

    def adapt(self, msg):
        """What a stream yields."""
        return msg.type if msg.payload is None else msg.payload


class SilentQueue(Queue):
    """A user's queue, which cannot tell when there is something new."""

    def __init__(self):
        self.messages, self.pops = [], 0

    def push(self, message):
        """Append."""
        self.messages.append(message)

    def pop(self):
        """Take the first."""
        self.pops += 1
        if not self.messages:
            raise NoMessagesException
        return self.messages.pop(0)


class FailingQueue(InMemoryQueue):
    """Raises what it is told to, once each."""

    def __init__(self, *errors):
        super().__init__()
        self.errors = list(errors)

    def pop(self):
        """Raise the next error, or take the first."""
        if self.errors:
            raise self.errors.pop(0)
        return super().pop()


@pytest.fixture(params=["memory", "log"])
def channel(request):
    """A channel with in-memory queues, and one whose queues are views of a log."""
    with open_engine("memory://") as engine:
        factory = engine.log_queues if request.param == "log" else None
        channel = Channel(channel_id="c", connections_factory=factory)
        if factory:
            engine.log.create("c", Retention())
        yield channel


@pytest.fixture
def memory():
    """A channel with in-memory queues."""
    return Channel()


def running(channel, listener_id=None):
    """A running listener that ``channel`` knows; on a log, with a cursor at its end."""
    listener = MessageQueueListener(listener_id)
    channel.register_listener(listener)
    listener.start()
    for connection in channel.get_connections():
        if hasattr(connection.queue, "persist"):
            connection.queue.persist()
    return listener


def send(channel, *payloads):
    """Broadcast each payload."""
    for payload in payloads:
        channel.broadcast(Message("a", payload))


async def take(stream, count):
    """The next ``count`` items of ``stream``."""
    return [await anext(stream) for _ in range(count)]


def test_a_broadcast_reaches_every_listener_and_a_dispatch_one(channel):
    """Each listener receives what was sent to it, in the order in which it was sent."""
    one, two = running(channel), running(channel)
    send(channel, 1)
    channel.dispatch(two.id, Message("a", 2))
    send(channel, 3)
    assert [channel.deliver_next(two.id).payload for _ in range(3)] == [1, 2, 3]
    assert [channel.deliver_next(one.id).payload for _ in range(2)] == [1, 3]
    with pytest.raises(NoMessagesException):
        channel.deliver_next(one.id)


def test_a_listener_that_does_not_run_is_delivered_nothing_and_loses_nothing(channel):
    """What came while it was stopped waits for it."""
    listener = running(channel)
    listener.stop()
    send(channel, 1)
    with pytest.raises(NoMessagesException, match="not running"):
        channel.deliver_next(listener.id)
    listener.start()
    assert channel.deliver_next(listener.id).payload == 1


def test_delivering_runs_the_listeners_code(memory):
    """The hook gets the message that is returned."""
    received = []
    listener = running(memory)
    listener.on_message = received.append
    send(memory, 1)
    assert memory.deliver_next(listener.id) is received[0]


@pytest.mark.parametrize("use", ["dispatch", "deliver_next", "remove_listener", "get_listener"])
def test_an_unknown_listener_is_refused_by_name(memory, use):
    """The error names the channel and the listener."""
    arguments = ("nobody", Message("a")) if use == "dispatch" else ("nobody",)
    with pytest.raises(ListenerNotFound, match=f"{memory.id}.*nobody"):
        getattr(memory, use)(*arguments)


def test_a_stream_of_an_unknown_listener_is_refused_at_once(memory):
    """Not at the first step, when an HTTP response would have begun."""
    with pytest.raises(ListenerNotFound):
        memory.message_stream(MessageQueueListener())


@pytest.mark.parametrize("channel_id", ["", "..", "a\n", "x" * 256, "\ud800"])
def test_a_channel_id_that_cannot_be_one_is_refused(channel_id):
    """As with listeners."""
    with pytest.raises(InvalidChannelException, match="id"):
        Channel(channel_id=channel_id)


def test_connections_are_listed_and_found_by_listener(memory):
    """Adding, registering and removing change what is listed."""
    listener, connection = MessageQueueListener("l"), InMemoryConnectionsFactory().create()
    added = memory.add_listener()
    memory.register_listener(listener)
    memory.register_connection(connection)
    assert [c.listener for c in memory.get_connections()] == [added, listener, connection.listener]
    assert memory.get_listener("l") is listener
    memory.remove_listener("l")
    assert [c.listener for c in memory.get_connections()] == [added, connection.listener]


def test_a_queue_bound_to_another_channel_or_listener_is_refused():
    """It would receive another channel's messages."""
    with open_engine("memory://") as engine:
        one = Channel(channel_id="one", connections_factory=engine.log_queues)
        other = Channel(channel_id="other", connections_factory=engine.log_queues)
        one.register_listener(MessageQueueListener("l"))
        (connection,) = one.get_connections()
        with pytest.raises(InvalidConnectionException, match=r"one.*other"):
            other.register_connection(connection)
        with pytest.raises(InvalidConnectionException):
            one.register_connection(Connection(MessageQueueListener("m"), connection.queue))


def test_a_factory_is_asked_for_one_bound_to_the_channel():
    """So a user's factory can know whose connections it makes."""

    class Factory(ConnectionsFactory):
        def create(self, listener=None):
            raise NotImplementedError

        def for_channel(self, channel_id):
            bound.append(channel_id)
            return InMemoryConnectionsFactory()

    bound = []
    assert Channel(channel_id="c", connections_factory=Factory()).add_listener()
    assert bound == ["c"]


def test_a_users_queue_on_a_durable_channel_is_pushed_to(channel):
    """A broadcast reaches queues that are no view of the log as well, once each."""
    listener, queue = MessageQueueListener(), SilentQueue()
    channel.register_connection(Connection(listener, queue))
    view = running(channel)
    send(channel, 1)
    assert [message.payload for message in queue.messages] == [1]
    assert channel.deliver_next(view.id).payload == 1


async def test_a_stream_yields_what_waits_and_then_what_comes(channel):
    """Messages are adapted, and arrive in order."""
    listener = running(channel)
    send(channel, 1, 2)
    stream = channel.message_stream(listener)
    assert await take(stream, 2) == [1, 2]
    waiting = asyncio.create_task(anext(stream))
    send(channel, 3)
    assert await waiting == 3
    await stream.aclose()


@pytest.mark.parametrize("end", ["stop", "remove", "replace"])
async def test_a_waiting_stream_ends_when_its_listener_goes(channel, end):
    """Stopped, removed, or subscribed anew: nobody waits for ever."""
    listener = running(channel)
    stream = channel.message_stream(listener)
    send(channel, 1)
    await take(stream, 1)
    waiting = asyncio.create_task(anext(stream, "ended"))
    await asyncio.sleep(0)
    if end == "stop":
        await asyncio.to_thread(listener.stop)
    elif end == "remove":
        channel.remove_listener(listener.id)
    else:
        channel.register_listener(listener)
    assert await asyncio.wait_for(waiting, 5) == "ended"


@pytest.mark.parametrize("durable", [False, True])
def test_a_stream_that_waits_never_wakes_up(durable):
    """Over 0.2 s of waiting the event loop turns only for this test's own timer, and the queue is not looked at."""

    async def main(selector):
        with open_engine("memory://") as engine:
            factory = engine.log_queues if durable else None
            channel = Channel(connections_factory=factory)
            if durable:
                engine.log.create(channel.id, Retention())
            listener = running(channel)
            stream = channel.message_stream(listener)
            waiting = asyncio.create_task(anext(stream))
            await asyncio.sleep(0.1)
            before = selector.turns
            await asyncio.sleep(0.2)
            assert selector.turns - before <= 2
            send(channel, 1)
            assert await waiting == 1
            await stream.aclose()

    run_counting(main)


def test_a_queue_that_cannot_tell_is_looked_at_less_and_less_often():
    """A user's queue is polled with back-off: a few looks at once, then four a second."""

    async def main(selector):
        channel, queue = Channel(), SilentQueue()
        listener = MessageQueueListener()
        channel.register_connection(Connection(listener, queue))
        listener.start()
        stream = channel.message_stream(listener)
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.5)
        assert 3 <= queue.pops <= 7
        queue.push(Message("a", 1))
        assert await waiting == 1
        await stream.aclose()

    run_counting(main)


async def test_a_stream_left_mid_way_takes_at_most_the_yielded_message(channel):
    """What was not yielded is there for the next stream; on a log, so is what was yielded last."""
    listener = running(channel)
    send(channel, 1, 2, 3)
    stream = channel.message_stream(listener)
    assert await take(stream, 1) == [1]
    await stream.aclose()
    rest = [channel.deliver_next(listener.id).payload for _ in range(2)]
    assert rest in ([2, 3], [1, 2])


async def test_a_cancelled_wait_loses_nothing(channel):
    """A client that goes while its stream waits takes no message with it."""
    listener = running(channel)
    waiting = asyncio.create_task(anext(channel.message_stream(listener)))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    send(channel, 1)
    assert channel.deliver_next(listener.id).payload == 1


async def test_two_streams_on_one_plain_queue_compete(memory):
    """Each message goes to one of them."""
    listener = running(memory)
    one, two = memory.message_stream(listener), memory.message_stream(listener)
    send(memory, 1, 2, 3)
    assert [*await take(one, 1), *await take(two, 1), *await take(one, 1)] == [1, 2, 3]


async def test_two_streams_on_a_log_both_receive_all():
    """Each has a position of its own."""
    with open_engine("memory://") as engine:
        channel = engine.channels.create({"channel_id": "c"})
        engine.channels.persist(channel)
        listener = running(channel)
        send(channel, 1, 2, 3)
        one, two = channel.message_stream(listener), channel.message_stream(listener)
        for number in (1, 2, 3):
            assert (await anext(one))["data"] == (await anext(two))["data"] == number


async def test_a_message_whose_delivery_fails_is_replaced_by_an_error(channel, caplog):
    """The stream goes on with the next one, and the log says what happened."""
    listener = running(channel)

    def fail_on_one(message):
        if message.payload == 1:
            raise LookupError("no such thing")

    listener.on_message = fail_on_one
    send(channel, 1, 2)
    assert await take(channel.message_stream(listener), 2) == ["error", 2]
    assert "no such thing" in caplog.text


async def test_a_stream_outlives_a_store_that_is_away(memory, caplog):
    """It tries again, without waiting for another wake-up, and goes on where it was."""
    listener, queue = MessageQueueListener(), FailingQueue(StoreUnavailable("away"), StoreUnavailable("still"))
    memory.register_connection(Connection(listener, queue))
    listener.start()
    send(memory, 1)
    assert await asyncio.wait_for(take(memory.message_stream(listener), 1), 5) == [1]
    assert caplog.text.count("tries again") == 2


async def test_a_stream_over_a_store_that_is_away_can_be_stopped(memory):
    """Stopping the listener ends it, though the store never comes back."""
    listener, queue = MessageQueueListener(), FailingQueue(*[StoreUnavailable("away")] * 1000)
    memory.register_connection(Connection(listener, queue))
    listener.start()
    waiting = asyncio.create_task(anext(memory.message_stream(listener), "ended"))
    await asyncio.sleep(0)
    listener.stop()
    assert await asyncio.wait_for(waiting, 5) == "ended"


async def test_a_store_that_cannot_be_read_ends_the_stream_with_its_error(memory):
    """Damaged data is not to be tried for ever."""
    listener, queue = MessageQueueListener(), FailingQueue(RepositoryError("damaged"))
    memory.register_connection(Connection(listener, queue))
    listener.start()
    with pytest.raises(RepositoryError, match="damaged"):
        await anext(memory.message_stream(listener))


async def test_a_stream_of_a_deleted_durable_channel_ends_with_an_error():
    """It does not wait for what cannot come."""
    with open_engine("memory://") as engine:
        channel = engine.channels.create({"channel_id": "c"})
        engine.channels.persist(channel)
        listener = running(channel)
        engine.channels.delete("c")
        with pytest.raises(ChannelNotFound):
            await anext(channel.message_stream(listener))


async def test_a_delay_comes_after_each_message():
    """Three messages of a channel with a delay of 20 ms take two delays at least."""
    channel = Channel(stream_delay_seconds=0.02)
    listener = running(channel)
    send(channel, 1, 2, 3)
    begin = asyncio.get_running_loop().time()
    assert await take(channel.message_stream(listener), 3) == [1, 2, 3]
    assert asyncio.get_running_loop().time() - begin >= 0.039


async def test_watching_subscribes_a_new_running_listener(channel):
    """The stream begins with what is sent after it was asked for."""
    stream = await channel.watch()
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0.05)
    send(channel, 1)
    assert await asyncio.wait_for(waiting, 5) == 1
    assert [c.listener.is_running() for c in channel.get_connections()] == [True]
    await stream.aclose()


async def test_what_is_sent_before_a_watcher_looks_is_on_its_stream(channel):
    """The stream begins where it was asked for, not where it is first read."""
    stream = await channel.watch()
    send(channel, 1, 2)
    assert await take(stream, 2) == [1, 2]
    await stream.aclose()


async def test_a_lost_wake_up_costs_time_only(monkeypatch):
    """A stream over a log looks for itself now and then."""
    monkeypatch.setattr(entities, "_LOOK_ANYWAY_S", 0.05)
    with open_engine("memory://") as engine:
        channel = Channel(channel_id="c", connections_factory=engine.log_queues)
        engine.log.create("c", Retention())
        waiting = asyncio.create_task(anext(channel.message_stream(running(channel))))
        await asyncio.sleep(0.01)
        engine.log.append("c", [NewEntry(encode_message(Message("m", 1)))])  # and nobody is told
        assert await asyncio.wait_for(waiting, 5) == 1


async def test_a_closed_stream_leaves_no_subscription(channel):
    """Streams come and go; what they subscribed to keeps nothing of them."""
    listener = running(channel)
    stream = channel.message_stream(listener)
    send(channel, 1)
    await take(stream, 1)
    await stream.aclose()
    assert not listener.changed._subscribers


async def test_a_channel_is_collected_when_nobody_holds_it(memory):
    """Nothing global keeps channels."""
    channel = Channel()
    await channel.watch()
    gone = weakref.ref(channel)
    del channel
    gc.collect()
    assert gone() is None
