"""The queue that is a cursor: a view of a channel's log for one listener, on the memory engine."""

import pytest

from eric_sse.engine import EngineChannelRepository
from eric_sse.engines import open_engine
from eric_sse.exception import (
    ChannelNotFound,
    EpochMismatch,
    InvalidMessageFormat,
    ListenerNotFound,
    NoMessagesException,
)
from eric_sse.listener import MessageQueueListener
from eric_sse.log import ACK_EXPLICIT, CursorKey, LogQueue, Retention, View, connection_id
from eric_sse.message import Message, SignedMessage, UniqueMessage
from support.payloads import UNSTORABLE


@pytest.fixture
def engine():
    """A memory engine."""
    with open_engine("memory://") as engine:
        yield engine


@pytest.fixture
def channel(engine):
    """A durable channel with two listeners that run."""
    channel = engine.channels.create({"channel_id": "c"})
    for listener_id in ("one", "two"):
        channel.register_listener(MessageQueueListener(listener_id))
        channel.get_listener(listener_id).start()
    engine.channels.persist(channel)
    return channel


def queue(channel, listener_id="one"):
    """The listener's queue."""
    return channel._get_queue(listener_id)


def send(channel, *payloads):
    """Broadcast each payload."""
    for payload in payloads:
        channel.broadcast(Message("m", payload))


def payloads(messages):
    """Of the messages."""
    return [message.payload for message in messages]


async def take(channel, count, listener_id="one"):
    """What a new stream of the listener yields first, until its next item is asked for."""
    stream = channel.message_stream(channel.get_listener(listener_id))
    taken = [await anext(stream) for _ in range(count)]
    await stream.aclose()
    return [event["data"] for event in taken]


def test_a_broadcast_is_one_entry_however_many_listeners(engine, channel):
    """The log is written once; with no listener at all, too."""
    send(channel, 1)
    empty = engine.channels.create({"channel_id": "empty"})
    engine.channels.persist(empty)
    send(empty, 1)
    for channel_id in ("c", "empty"):
        assert len(engine.log.read(channel_id, 0, View.EVERYTHING).entries) == 1


def test_what_is_refused_is_not_stored(engine, channel):
    """A message whose sender could not be read again stops none that follow."""
    with pytest.raises(InvalidMessageFormat):
        channel.broadcast(SignedMessage(42, "m"))
    send(channel, 1)
    assert channel.deliver_next("one").payload == 1
    assert engine.log.heads(["c"])["c"].last == 1


def test_broadcasts_and_dispatches_come_in_one_order_and_know_their_places(channel):
    """A dispatch to another listener is not seen; classes and senders come back."""
    send(channel, 1)
    queue(channel).push(SignedMessage("two", "m", 2))
    queue(channel, "two").push(Message("m", 3))
    channel.broadcast(UniqueMessage(Message("m", 4), "two", "id"))
    messages = [queue(channel).pop() for _ in range(3)]
    assert payloads(messages) == [1, 2, 4]
    assert [message.position.offset for message in messages] == [1, 2, 4]
    assert [type(message) for message in messages] == [Message, SignedMessage, UniqueMessage]
    with pytest.raises(NoMessagesException, match="'one'"):
        queue(channel).pop()


@pytest.mark.parametrize("name", UNSTORABLE)
@pytest.mark.parametrize("use", ["broadcast", "dispatch"])
def test_a_payload_that_json_cannot_hold_is_refused_and_nothing_is_stored(engine, channel, name, use):
    """NaN, objects, cycles, lone surrogates and the like."""
    message = Message("m", {"value": UNSTORABLE[name]})
    with pytest.raises(InvalidMessageFormat):
        channel.broadcast(message) if use == "broadcast" else channel.dispatch("one", message)
    assert engine.log.heads(["c"])["c"].last == 0


@pytest.mark.parametrize("message_type", ["", "eric.gap", "a\nb", "\ud800"])
def test_a_type_that_cannot_be_streamed_is_refused_and_nothing_is_stored(engine, channel, message_type):
    """Reserved ones too."""
    with pytest.raises(InvalidMessageFormat):
        channel.broadcast(Message(message_type))
    assert engine.log.heads(["c"])["c"].last == 0


def test_repeating_a_unique_message_stores_nothing(engine, channel):
    """Within the window, for the same receiver; for another receiver it is another message."""
    for _ in range(2):
        channel.broadcast(UniqueMessage(Message("m", 1), message_id="id"))
        channel.dispatch("one", UniqueMessage(Message("m", 1), message_id="id"))
    assert engine.log.heads(["c"])["c"].last == 2


def test_a_channel_that_was_not_persisted_or_was_deleted_takes_no_messages(engine, channel):
    """Appending never creates a log: a deleted channel is not resurrected."""
    engine.channels.delete("c")
    for homeless in (channel, engine.channels.create({"channel_id": "never"})):
        with pytest.raises(ChannelNotFound):
            send(homeless, 1)
    with pytest.raises(ChannelNotFound):
        channel.dispatch("one", Message("m"))
    with pytest.raises(ListenerNotFound):
        queue(channel).pop()


def test_a_listener_starts_at_the_end_of_the_log_when_it_is_persisted(engine, channel):
    """What was sent before is not for it; persisting again does not move it."""
    send(channel, 1)
    channel.register_listener(MessageQueueListener("late"))
    engine.channels.persist(channel)
    send(channel, 2)
    engine.channels.persist(channel)
    assert queue(channel, "late").pop().payload == 2


def test_creating_a_connection_stores_nothing_and_two_creations_meet(engine, channel):
    """Its id follows from channel and listener, and no other pair has it."""
    for _ in range(2):
        connection = engine.log_queues.for_channel("c").create(MessageQueueListener("new"))
        assert connection.id == connection_id("c", "new")
    assert not engine.cursors.get([CursorKey("c", "new")])
    assert connection_id("ab", "c") != connection_id("a", "bc")


def test_popping_moves_the_cursor_and_other_processes_see_it(engine, channel):
    """A message popped in one place is not popped in another."""
    send(channel, 1, 2)
    assert queue(channel).pop().payload == 1
    assert queue(engine.channels.load_one("c")).pop().payload == 2
    with pytest.raises(NoMessagesException):
        queue(channel).pop()


async def test_a_stream_acknowledges_what_was_followed_by_another_step(engine, channel):
    """What was yielded last may not have arrived: the next stream begins with it."""
    send(channel, 1, 2, 3)
    assert await take(channel, 2) == [1, 2]
    engine.acks.flush()
    assert queue(channel).cursor().offset == 1
    assert await take(channel, 2) == [2, 3]


async def test_an_explicit_listeners_cursor_moves_by_an_ack_alone(engine):
    """Forward only."""
    channel = engine.channels.create({"channel_id": "c"})
    engine.channels.persist(channel)
    listener = MessageQueueListener("one")
    channel.register_connection(engine.log_queues.for_channel("c").create(listener, ACK_EXPLICIT))
    engine.channels.persist(channel)
    listener.start()
    send(channel, 1, 2, 3)
    places = []
    channel.adapt = lambda message: places.append(message.position) or {"data": message.payload}
    assert await take(channel, 3) == [1, 2, 3]
    engine.acks.flush()
    assert queue(engine.channels.load_one("c")).acks_by == ACK_EXPLICIT
    assert queue(channel).cursor().offset == 0
    queue(channel).ack(places[1])
    queue(channel).ack(places[0])
    assert await take(channel, 1) == [3]


async def test_streams_of_a_log_are_independent_of_pops(channel):
    """A stream under way has a position of its own; a new one begins at the cursor."""
    send(channel, 1, 2)
    stream = channel.message_stream(channel.get_listener("one"))
    assert (await anext(stream))["data"] == 1
    assert payloads([queue(channel).pop(), queue(channel).pop()]) == [1, 2]
    assert (await anext(stream))["data"] == 2
    await stream.aclose()
    send(channel, 3)
    assert await take(channel, 1) == [3]


def trimmed(engine, channel_id):
    """A channel whose log kept one message, with a listener that has received none."""
    engine.log.create(channel_id, Retention(max_messages=1, max_age_s=None))
    channel = engine.channels.create({"channel_id": channel_id})
    channel.register_listener(MessageQueueListener("one"))
    channel.get_listener("one").start()
    engine.channels.persist(channel)
    send(channel, 1, 2, 3)
    engine.log.trim()
    return channel


async def test_what_was_trimmed_is_a_gap_before_what_follows(engine):
    """For a stream, and for a pop, which moves the cursor past it: a gap is told once."""
    channel = trimmed(engine, "t")
    events = channel.message_stream(channel.get_listener("one"))
    gap, event = await anext(events), await anext(events)
    await events.aclose()
    assert (gap["event"], gap["data"]["reason"], event["data"]) == ("eric.gap", "trimmed", 3)
    popped = [queue(channel).pop() for _ in range(2)]
    assert [message.type for message in popped] == ["eric.gap", "m"]
    with pytest.raises(NoMessagesException):
        queue(channel).pop()


async def test_a_log_made_anew_under_a_stream_is_a_gap(engine, channel):
    """Its offsets are others'; nothing is taken for what it is not."""
    send(channel, 1)
    stream = channel.message_stream(channel.get_listener("one"))
    await anext(stream)
    engine.log.drop("c")
    engine.log.create("c", Retention())
    send(engine.channels.load_one("c"), 2)
    events = [await anext(stream) for _ in range(2)]
    await stream.aclose()
    assert events[0]["data"]["reason"] == "epoch"
    assert events[1]["data"] == 2


def test_an_anonymous_listener_reads_on_from_the_end(engine, channel):
    """It was never persisted, so it has no cursor."""
    send(channel, 1)
    reader = LogQueue(engine.log_queues.for_channel("c"), "anonymous").reader()
    assert list(reader.read()) == []
    send(channel, 2)
    assert payloads(reader.read()) == [2]


def test_a_queue_is_told_of_its_own_channels_news_alone(engine, channel):
    """Until the subscription ends."""
    other = engine.channels.create({"channel_id": "other"})
    engine.channels.persist(other)
    told = []
    end = queue(channel).subscribe(lambda: told.append("news"))
    send(other, 1)
    send(channel, 1)
    end()
    send(channel, 2)
    assert told == ["news"]


def test_removing_a_listener_and_persisting_drops_its_cursor(engine, channel):
    """Nothing of it is left; added again it starts anew."""
    channel.remove_listener("one")
    engine.channels.persist(channel)
    assert not engine.cursors.get([CursorKey("c", "one")])
    assert [c.listener.id for c in engine.channels.load_one("c").get_connections()] == ["two"]


@pytest.mark.parametrize(
    "use",
    [
        lambda channels, stale: stale.broadcast(Message("t")),
        lambda channels, stale: stale.dispatch("one", Message("t")),
        lambda channels, stale: channels.persist(stale),
    ],
)
def test_a_channel_made_anew_elsewhere_is_not_written_to_by_who_has_not_heard(engine, channel, use):
    """Neither a broadcast, nor a dispatch, nor persisting reaches the new log; loading the channel again does."""
    elsewhere = EngineChannelRepository(engine.storage, engine.log_queues)
    stale = engine.channels.load_one("c")
    elsewhere.delete("c")
    with pytest.raises(ChannelNotFound):
        use(engine.channels, stale)
    elsewhere.persist(elsewhere.create({"channel_id": "c"}))
    with pytest.raises(EpochMismatch):
        use(engine.channels, stale)
    assert not engine.log.read("c", 0, View.EVERYTHING).entries
    engine.channels.load_one("c").broadcast(Message("t"))


def test_who_deleted_a_channel_may_persist_it_again(engine, channel):
    """It begins anew, with a log of its own."""
    engine.channels.delete("c")
    engine.channels.persist(channel)
    channel.broadcast(Message("t"))
    assert len(engine.log.read("c", 0, View.EVERYTHING).entries) == 1


def test_deleting_a_channel_leaves_nothing(engine, channel):
    """No row, no log, no cursor; again is fine."""
    send(channel, 1)
    for _ in range(2):
        engine.channels.delete("c")
    assert list(engine.storage.fetch_all()) == []
    assert not engine.log.heads(["c"])
    assert not engine.cursors.get([CursorKey("c", "one"), CursorKey("c", "two")])
