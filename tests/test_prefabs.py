"""Ready-made channels: SSE fields, concurrent processing, distributed applications, the channel repository."""

import asyncio
import os
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

from eric_sse.connection import Connection
from eric_sse.engine import EngineChannelRepository
from eric_sse.engines import open_engine
from eric_sse.exception import InvalidChannelException, InvalidListenerException, ListenerNotFound
from eric_sse.listener import MessageQueueListener
from eric_sse.log import Retention
from eric_sse.message import Message, Position, SignedMessage, UniqueMessage
from eric_sse.prefabs import (
    DataProcessingChannel,
    SimpleDistributedApplicationChannel,
    SimpleDistributedApplicationListener,
    SSEChannel,
)
from eric_sse.queues import InMemoryQueue
from support.listeners import Noting, Worker

SPAWNED = partial(ProcessPoolExecutor, mp_context=get_context("spawn"))


@pytest.fixture
def engine():
    """A memory engine."""
    with open_engine("memory://") as engine:
        yield engine


def persisted(engine, channel, *listeners):
    """Subscribe ``listeners`` to ``channel``, persist it, and return it."""
    for listener in listeners:
        channel.register_listener(listener)
        listener.start()
    engine.channels.persist(channel)
    return channel


# SSEChannel


def test_an_sse_channel_yields_event_retry_and_data():
    """Clients are told to wait for three seconds unless the channel says otherwise."""
    message = Message("news", {"a": [1]})
    assert SSEChannel().adapt(message) == {"event": "news", "retry": 3000, "data": {"a": [1]}}
    assert SSEChannel(0, 50).adapt(message)["retry"] == 50


def test_an_event_has_the_messages_place_as_its_id_or_else_its_own_id():
    """A place comes first: it is what a stream resumes from."""
    message = UniqueMessage(Message("news"), message_id="mine")
    assert SSEChannel().adapt(message)["id"] == "mine"
    message.position = Position("e", 7)
    assert SSEChannel().adapt(message)["id"] == "e-7"


async def test_a_durable_sse_channel_streams_places(engine):
    """What is read from a log carries where it was."""
    listener = MessageQueueListener("l")
    channel = persisted(engine, engine.channels.create({"channel_id": "c"}), listener)
    channel.broadcast(Message("news", 1))
    event = await anext(channel.message_stream(listener))
    epoch = engine.log.heads(["c"])["c"].epoch
    assert event == {"event": "news", "retry": 3000, "data": 1, "id": f"{epoch}-1"}


# DataProcessingChannel


def processing(count, listener=None, **options):
    """A processing channel with a listener for whom ``count`` messages wait."""
    channel, listener = DataProcessingChannel(**{"max_workers": 3} | options), listener or Worker()
    channel.register_listener(listener)
    for number in range(count):
        channel.dispatch(listener.id, Message("work", {"n": number}))
    return channel, listener


def pending(channel):
    """How many messages wait in the channel's only queue."""
    (connection,) = channel.get_connections()
    return len(connection.queue.pending())


@pytest.mark.parametrize("executor_class", [ThreadPoolExecutor, SPAWNED])
async def test_all_that_waits_is_processed_elsewhere_and_yielded(executor_class):
    """In threads as in processes, what the listener made of a message is what is yielded."""
    channel, listener = processing(5, executor_class=executor_class)
    events = [event async for event in channel.process_queue(listener)]
    assert sorted(event["data"]["n"] for event in events) == [0, 1, 2, 3, 4]
    assert {event["event"] for event in events} == {"work"}
    here = [os.getpid(), threading.get_ident()]
    assert all(event["data"]["done_by"] != here for event in events)


async def test_messages_are_processed_at_the_same_time_and_yielded_as_they_finish():
    """Three workers meet at a barrier, which one alone would never pass; the first message finishes last."""
    barrier, others_yielded = threading.Barrier(3, timeout=10), threading.Event()
    listener = MessageQueueListener()

    def meet(message):
        barrier.wait()
        if message.payload["n"] == 0:
            others_yielded.wait(10)

    listener.on_message = meet
    channel, _ = processing(3, listener)
    numbers = []
    async for event in channel.process_queue(listener):
        numbers.append(event["data"]["n"])
        if len(numbers) == 2:
            others_yielded.set()
    assert numbers[-1] == 0


async def test_a_message_that_cannot_be_processed_is_replaced_and_the_others_go_on(caplog):
    """The log says why."""
    channel, listener = processing(2)
    channel.dispatch(listener.id, Message("fail"))
    channel.dispatch(listener.id, Message("work", {"n": 2}))
    events = [event async for event in channel.process_queue(listener)]
    assert sorted(event["event"] for event in events) == ["error", "work", "work", "work"]
    assert "this message cannot be processed" in caplog.text


async def test_what_was_not_begun_stays_in_the_queue_when_processing_is_abandoned():
    """No more messages are taken than there are workers, and their threads end."""
    channel, listener = processing(10)
    before = set(threading.enumerate())
    results = channel.process_queue(listener)
    await anext(results)
    await results.aclose()
    assert pending(channel) >= 10 - 3 - 1
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


async def test_an_executor_that_dies_is_an_error_and_not_a_failed_message():
    """Else the whole queue would be emptied into error messages."""
    channel, listener = processing(0, executor_class=SPAWNED, max_workers=1)
    channel.dispatch(listener.id, Message("die"))
    channel.dispatch(listener.id, Message("work", {"n": 1}))
    with pytest.raises(BrokenExecutor):
        await anext(channel.process_queue(listener))
    assert pending(channel) == 1


async def test_processing_an_empty_queue_or_an_unknown_listener():
    """Nothing to do ends at once; nobody to do it for is an error."""
    channel, listener = processing(0)
    assert [event async for event in channel.process_queue(listener)] == []
    with pytest.raises(ListenerNotFound):
        await anext(channel.process_queue(Worker()))


async def test_a_durable_channel_can_be_processed(engine):
    """Its queue is popped: what was processed does not come again, and messages know their places."""
    listener = Worker()
    channel = DataProcessingChannel(2, channel_id="c", connections_factory=engine.log_queues)
    places = []
    channel.adapt = lambda message: places.append(message.position.offset)
    engine.log.create("c", Retention())
    channel.register_listener(listener)
    next(iter(channel.get_connections())).queue.persist()
    for number in range(4):
        channel.broadcast(Message("work", {"n": number}))
    for expected in ([1, 2, 3, 4], [1, 2, 3, 4]):
        [_ async for _ in channel.process_queue(listener)]
        assert sorted(places) == expected


@pytest.mark.parametrize("executor_class", [ThreadPoolExecutor, SPAWNED])
async def test_what_was_taken_is_processed_though_it_is_stopped(tmp_path, executor_class):
    """However far it was with handing them to the workers: each message is in the queue, or done."""
    channel = DataProcessingChannel(4, executor_class=executor_class)
    listener = Noting(tmp_path)
    channel.register_listener(listener)
    for number in range(8):
        channel.dispatch(listener.id, Message("work", number))
    results = channel.process_queue(listener)
    processing = asyncio.create_task(anext(results))
    await asyncio.sleep(0)
    processing.cancel()
    await asyncio.gather(processing, return_exceptions=True)
    await results.aclose()
    taken = {str(number) for number in range(8 - pending(channel))}
    assert taken
    async with asyncio.timeout(20):
        while {path.name for path in tmp_path.iterdir()} != taken:
            await asyncio.sleep(0.01)


async def test_a_durable_channel_s_message_is_processed_though_it_is_stopped(engine):
    """Also where it is stopped while a thread takes the message, whose cursor moves."""
    listener, popping, go_on = Worker(), threading.Event(), threading.Event()
    channel = DataProcessingChannel(1, channel_id="c", connections_factory=engine.log_queues)
    engine.log.create("c", Retention())
    channel.register_listener(listener)
    queue = next(iter(channel.get_connections())).queue
    queue.persist()
    channel.broadcast(Message("work", {"n": 1}))
    done, pop = threading.Event(), queue.pop
    listener.on_message = lambda message: done.set()

    def slow_pop():
        message = pop()
        popping.set()
        go_on.wait(10)
        return message

    queue.pop = slow_pop
    processing = asyncio.create_task(anext(channel.process_queue(listener)))
    assert await asyncio.to_thread(popping.wait, 10)
    processing.cancel()
    await asyncio.gather(processing, return_exceptions=True)
    go_on.set()
    assert await asyncio.to_thread(done.wait, 10)


# SimpleDistributedApplication*


def answering(listener_id, answers=()):
    """A listener whose action ``ask`` gives ``answers``."""
    listener = SimpleDistributedApplicationListener(listener_id)
    listener.set_action("ask", lambda message: list(answers))
    return listener


@pytest.mark.parametrize("durable", [False, True])
def test_answers_go_back_to_the_sender_signed(engine, durable):
    """A request is signed by who asks, an answer by who answers; a durable channel keeps the signatures."""
    asking, other = answering("asking"), answering("other", [Message("answer", 1), Message("answer", 2)])
    factory = engine.log_queues if durable else None
    channel = SimpleDistributedApplicationChannel(channel_id="c", connections_factory=factory)
    for listener in (asking, other):
        channel.register_listener(listener)
        listener.start()
    if durable:
        engine.channels.persist(channel)
    asking.dispatch_to(other, Message("ask", "how much?"))
    request = channel.deliver_next("other")
    answers = [channel.deliver_next("asking") for _ in range(2)]
    assert (type(request), request.sender_id, request.payload) == (SignedMessage, "asking", "how much?")
    assert [(type(a), a.sender_id, a.payload) for a in answers] == [
        (SignedMessage, "other", 1),
        (SignedMessage, "other", 2),
    ]
    assert durable is (request.position is not None)


@pytest.mark.parametrize("name", ["start", "stop"])
def test_reserved_actions_cannot_be_set(name):
    """They start and stop the listener."""
    with pytest.raises(KeyError, match=name):
        SimpleDistributedApplicationListener().set_action(name, list)


def test_messages_of_reserved_types_start_and_stop_the_listener():
    """Any sender may do it, also one without a name."""
    listener = SimpleDistributedApplicationListener()
    listener.on_message(Message("start"))
    assert listener.is_running()
    listener.on_message(SignedMessage("s", "stop"))
    assert not listener.is_running()


def test_unknown_actions_are_ignored():
    """Nothing happens, and nobody is answered."""
    listener = answering("l")
    channel = SimpleDistributedApplicationChannel()
    channel.register_listener(listener)
    assert listener.on_message(SignedMessage("l", "unknown")) is None
    assert pending(channel) == 0


def test_a_key_error_in_an_action_is_the_actions_own():
    """It is not taken for an unknown action."""
    listener = SimpleDistributedApplicationListener()
    listener.set_action("ask", lambda message: {}["missing"])
    with pytest.raises(KeyError, match="missing"):
        listener.on_message(SignedMessage("s", "ask"))


def test_answers_to_nobody_are_dropped_with_a_warning(caplog):
    """A message that names no sender has nobody to answer; an action may give no answer at all."""
    answering("l", [Message("answer")]).on_message(Message("ask"))
    assert "no sender" in caplog.text
    silent = SimpleDistributedApplicationListener()
    silent.set_action("ask", lambda message: None)
    silent.on_message(SignedMessage("s", "ask"))


def test_a_unique_messages_sender_is_answered_too():
    """Both kinds of messages that name a sender do."""
    listener = answering("l", [Message("answer", 1)])
    channel = SimpleDistributedApplicationChannel()
    channel.register_listener(listener)
    listener.on_message(UniqueMessage(Message("ask"), sender_id="l"))
    assert pending(channel) == 1


def test_a_listener_without_a_channel_says_so():
    """It cannot send."""
    with pytest.raises(InvalidListenerException, match="no channel"):
        answering("a").dispatch_to(answering("b"), Message("ask"))


def test_a_connection_gives_its_listener_the_channel_as_registering_does():
    """However it came to be subscribed; a listener of another class may be there as well."""
    channel, listener = SimpleDistributedApplicationChannel(), answering("l")
    channel.register_connection(Connection(listener, InMemoryQueue()))
    other = channel.add_listener()
    listener.dispatch_to(other, Message("hello"))
    other.start()
    assert channel.deliver_next(other.id).sender_id == "l"


def test_a_distributed_listener_is_persisted_and_loaded(engine):
    """Its class and id come back; actions are code, and are set again. A repository may make channels of its class."""

    class Repository(EngineChannelRepository):
        channel_class = SimpleDistributedApplicationChannel

    repository = Repository(engine.storage, engine.log_queues)
    channel = repository.create({"channel_id": "c"})
    channel.register_listener(answering("l"))
    repository.persist(channel)
    loaded = repository.load_one("c")
    listener = loaded.get_listener("l")
    assert type(listener) is SimpleDistributedApplicationListener
    listener.dispatch_to(listener, Message("hello"))
    listener.start()
    assert loaded.deliver_next("l").sender_id == "l"


# SSEChannelRepository


def test_a_channel_is_created_from_its_constructors_arguments(engine):
    """Nothing is stored; its connections come from the repository's factory."""
    data = {"channel_id": "c", "retry_timeout_milliseconds": 5, "stream_delay_seconds": 0.5}
    channel = engine.channels.create(data)
    assert (type(channel), channel.id) == (SSEChannel, "c")
    assert engine.channels._channel_to_dict(channel) == data
    assert list(engine.channels.load_all()) == []
    assert engine.channels.create({}).id


def test_unknown_arguments_are_refused_by_name(engine):
    """A misspelt setting is not silently left out."""
    with pytest.raises(InvalidChannelException, match=r"'colour', 'retry'.*retry_timeout_milliseconds"):
        engine.channels.create({"channel_id": "c", "retry": 1, "colour": "red"})
