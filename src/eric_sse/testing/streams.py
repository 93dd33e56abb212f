"""What the streams of every engine's durable channels do."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from eric_sse.engine import Engine
from eric_sse.entities import AbstractChannel
from eric_sse.exception import ChannelNotFound
from eric_sse.listener import MessageQueueListener
from eric_sse.log import ACK_EXPLICIT, LogQueue, Retention
from eric_sse.message import Message
from eric_sse.testing.channels import make_channel, take

_PATIENCE_S = 20


class StreamsSuite:
    """The streams of durable channels."""

    @pytest.fixture
    def channel(self, engine: Engine) -> AbstractChannel:
        """A durable channel ``c`` with listeners ``l`` and ``m``, which run."""
        return make_channel(engine, "c", ["l", "m"])

    def test_live(self, channel: AbstractChannel) -> None:
        """A stream holds what was there, and what comes: the one that waits is woken."""

        async def main() -> list[Any]:
            channel.broadcast(Message("m", 0))
            stream = _stream(channel, "l")
            found = [await _next(stream)]
            for number in range(1, 5):
                waiting = asyncio.ensure_future(_next(stream))
                await asyncio.to_thread(channel.broadcast, Message("m", number))
                found.append(await waiting)
            await stream.aclose()
            return found

        assert asyncio.run(main()) == list(range(5))

    def test_streams_do_not_compete(self, channel: AbstractChannel) -> None:
        """Two streams of one listener both hold everything."""
        for number in range(3):
            channel.broadcast(Message("m", number))

        async def main() -> list[list[Any]]:
            return [await _take(channel, "l", 3) for _ in range(2)]

        # The first has not acknowledged its last message: acknowledgements are gathered, and flushed later.
        assert asyncio.run(main()) == [[0, 1, 2]] * 2

    def test_automatic_acknowledgement(self, engine: Engine, channel: AbstractChannel) -> None:
        """What a stream has handed on is acknowledged, soon, when the next is asked for."""
        for number in range(4):
            channel.broadcast(Message("m", number))
        assert asyncio.run(_take(channel, "l", 3)) == [0, 1, 2]
        engine.acks.flush()
        assert take(engine.channels.load_one("c"), "l") == [2, 3]

    def test_explicit_acknowledgement(self, engine: Engine, channel: AbstractChannel) -> None:
        """Where acknowledgement is explicit, a cursor moves by that alone, and never back."""
        queue = _explicit(engine, channel, "n")
        for number in range(4):
            channel.broadcast(Message("m", number))
        assert asyncio.run(_take(channel, "n", 3)) == [0, 1, 2]
        engine.acks.flush()
        positions = [entry.offset for entry in engine.log.read("c", 0, "n").entries]
        for place in (2, 0):
            queue.ack(queue.cursor()._replace(offset=positions[place]))
        assert take(engine.channels.load_one("c"), "n") == [3]

    def test_gap(self, engine: Engine, channel: AbstractChannel) -> None:
        """A stream that is behind what was trimmed begins with a gap, and goes on from the oldest message kept."""
        engine.log.create("d", Retention(2, None))
        channel = make_channel(engine, "d", ["l"])
        for number in range(5):
            channel.broadcast(Message("m", number))
        engine.log.trim()
        gap, *rest = asyncio.run(_take(channel, "l", 3))
        assert (gap["reason"], rest) == ("trimmed", [3, 4])

    def test_deleted_meanwhile(self, engine: Engine, channel: AbstractChannel) -> None:
        """A stream that waits on a channel that is deleted says so, once it looks."""

        async def main() -> None:
            stream = _stream(channel, "l")
            channel.broadcast(Message("m", 0))
            await _next(stream)
            waiting = asyncio.ensure_future(_next(stream))
            await asyncio.to_thread(engine.channels.delete, "c")
            engine.notifier.wake(["c"])
            with pytest.raises(ChannelNotFound):
                await waiting

        asyncio.run(main())

    def test_stopped(self, channel: AbstractChannel) -> None:
        """A stream that waits ends when its listener is stopped."""

        async def main() -> list[Any]:
            channel.broadcast(Message("m", 0))
            stream = _stream(channel, "l")
            await _next(stream)
            reading = asyncio.ensure_future(_all(stream))
            await asyncio.sleep(0)
            channel.get_listener("l").stop()
            async with asyncio.timeout(_PATIENCE_S):
                return await reading

        assert asyncio.run(main()) == []


def _explicit(engine: Engine, channel: AbstractChannel, listener_id: str) -> LogQueue:
    """Add a listener that acknowledges explicitly; its queue."""
    listener = MessageQueueListener(listener_id)
    connection = engine.log_queues.for_channel(channel.id).create(listener, ACK_EXPLICIT)
    channel.register_connection(connection)
    listener.start()
    engine.channels.persist(channel)
    assert isinstance(connection.queue, LogQueue)
    return connection.queue


def _stream(channel: AbstractChannel, listener_id: str) -> AsyncGenerator[Any, None]:
    return channel.message_stream(channel.get_listener(listener_id))


async def _next(stream: AsyncGenerator[Any, None]) -> Any:
    async with asyncio.timeout(_PATIENCE_S):
        return (await anext(stream))["data"]


async def _take(channel: AbstractChannel, listener_id: str, count: int) -> list[Any]:
    """What a new stream holds first; of the last it is not known that it was handed on."""
    stream = _stream(channel, listener_id)
    taken = [await _next(stream) for _ in range(count)]
    await stream.aclose()
    return taken


async def _all(stream: AsyncGenerator[Any, None]) -> list[Any]:
    return [event["data"] async for event in stream]
