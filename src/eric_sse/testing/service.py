"""What every engine does under the service: publishing and streaming at once."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from eric_sse.codec import decode_json
from eric_sse.engine import Engine
from eric_sse.exception import (
    ChannelExists,
    ChannelNotFound,
    ListenerNotFound,
)
from eric_sse.log import ACK_EXPLICIT, MESSAGE_TYPE_GAP, Retention, View
from eric_sse.message import MAX_OFFSET
from eric_sse.service import MESSAGE_TYPE_CLOSED, EventStream, Outgoing, Service
from eric_sse.testing.chunks import ChunkReader
from eric_sse.wire.sse import Event, EventStreamParser

_PATIENCE_S = 30
PROMPTLY_S = 5.0


class Follower:
    """Somebody who reads a stream, goes away, and comes back with the last id.

    Args:
        service: Where the streams are.
        listener_id: Whose they are.

    Attributes:
        events: All that they held.
    """

    def __init__(self, service: Service, listener_id: str | None = None) -> None:
        self._service = service
        self._listener_id = listener_id
        self._last_id: str | None = None
        self.events: list[Event] = []

    async def read(self, count: int) -> list[Any]:
        """Read on until there are ``count`` events in all, on a stream of its own; return what they carry."""
        stream = await self._service.open_stream("c", self._listener_id, self._last_id, "earliest")
        reader, parser = ChunkReader(stream), EventStreamParser(self._last_id or "")
        try:
            while len(self.events) < count:
                await self._read_chunk(reader, parser)
        finally:
            stream.release()
        return [_payload(event) for event in self.events]

    async def _read_chunk(self, reader: ChunkReader, parser: EventStreamParser) -> None:
        chunk = await reader.next_chunk()
        assert chunk is not None, f"the stream ended after {len(self.events)} events"
        self.events += parser.feed(chunk)
        self._last_id = parser.last_event_id


class ServiceSuite:
    """Use cases and event streams."""

    def test_publish_and_stream(self, engine: Engine) -> None:
        """What many publish at once is on the streams, in the order of the log; dispatches on their listener's only."""

        async def main(service: Service) -> None:
            await service.add_listener("c", "l")
            readers = [Follower(service), Follower(service, "l")]
            reading = [asyncio.create_task(one.read(count)) for one, count in zip(readers, (40, 60), strict=True)]
            sent = [Outgoing(number, to="l" if number % 3 == 0 else None) for number in range(60)]
            published = await asyncio.gather(*(service.publish("c", [message]) for message in sent))
            await asyncio.gather(*reading)
            in_order = sorted(((id_, number) for number, (id_,) in enumerate(published)), key=_offset)
            expected = [[one for one in in_order if one[1] % 3], in_order]
            assert [[(event.id, _payload(event)) for event in reader.events] for reader in readers] == expected

        run(engine, main)

    def test_resume(self, engine: Engine) -> None:
        """Who comes back with an id receives what follows it, neither less nor more."""

        async def main(service: Service) -> None:
            follower = Follower(service)
            for number in range(0, 20, 5):
                await service.publish("c", [Outgoing(n) for n in range(number, number + 5)])
                assert await follower.read(number + 1 + number % 2) is not None
            assert await follower.read(20) == list(range(20))

        run(engine, main)

    @pytest.mark.parametrize(
        ("last_id", "reason"),
        [
            ("other-0", "epoch"),
            ("malformed", "unknown"),
            (f"{{epoch}}-{MAX_OFFSET}", "unknown"),
            ("{epoch}-0", "trimmed"),
        ],
    )
    def test_gap(self, engine: Engine, last_id: str, reason: str) -> None:
        """An id of another epoch, malformed, ahead of the log, or from before what was trimmed, begins with a gap."""
        engine.log.create("c", Retention(2, None))

        async def main(service: Service) -> Event:
            await service.publish("c", [Outgoing(number) for number in range(5)])
            await asyncio.to_thread(engine.log.trim)
            epoch = engine.log.heads(["c"])["c"].epoch
            stream = await service.open_stream("c", last_event_id=last_id.format(epoch=epoch))
            return (await _events(stream, 1))[0]

        gap = run(engine, main)
        assert (gap.type, _payload(gap)["reason"]) == (MESSAGE_TYPE_GAP, reason)

    def test_same_id_again(self, engine: Engine) -> None:
        """Repeating a request, or a message with an id, answers the same ids and stores nothing."""

        async def main(service: Service) -> None:
            for messages, key in (([Outgoing(1, id="a"), Outgoing(2, id="b")], None), ([Outgoing(3)] * 2, "request")):
                answers = [await service.publish("c", messages, key) for _ in range(3)]
                assert answers == [answers[0]] * 3

        run(engine, main)
        assert engine.log.count("c", 0, View.EVERYTHING, 10) == 4  # noqa: PLR2004

    def test_deleted(self, engine: Engine) -> None:
        """The streams of a channel that is deleted say so, and end; it takes no messages."""

        async def main(service: Service) -> list[Event]:
            stream = await service.open_stream("c")
            reading = asyncio.create_task(_events(stream, 1))
            await service.delete_channel("c")
            with pytest.raises(ChannelNotFound):
                await service.publish("c", [Outgoing(1)])
            return await reading

        assert [event.type for event in run(engine, main)] == [MESSAGE_TYPE_CLOSED]

    def test_listener_removed(self, engine: Engine) -> None:
        """The streams of a listener that is removed say so, and end; nothing can be sent to it."""

        async def main(service: Service) -> list[Event]:
            await service.add_listener("c", "l", ACK_EXPLICIT)
            stream = await service.open_stream("c", "l")
            reading = asyncio.create_task(_events(stream, 1))
            await service.remove_listener("c", "l")
            with pytest.raises(ListenerNotFound):
                await service.publish("c", [Outgoing(1, to="l")])
            return await reading

        assert [event.type for event in run(engine, main)] == [MESSAGE_TYPE_CLOSED]

    def test_one_creates(self, engine: Engine) -> None:
        """Of many who create the same channel at once, one does."""

        async def main(service: Service) -> list[Any]:
            return await asyncio.gather(*(service.create_channel("d") for _ in range(5)), return_exceptions=True)

        assert Counter(isinstance(outcome, ChannelExists) for outcome in run(engine, main)) == {True: 4, False: 1}


def run(engine: Engine, main: Any) -> Any:
    """Run ``main`` with a service that has a channel ``c``; both it and the engine must close promptly."""

    async def with_service() -> tuple[Any, float]:
        async with asyncio.timeout(_PATIENCE_S), Service(engine) as service:
            with suppress(ChannelExists):
                await service.create_channel("c", retention=Retention(None, None))
            result = await main(service)
            return result, time.monotonic()

    result, begun = asyncio.run(with_service())
    engine.storage.upsert("used after it", 1)
    assert time.monotonic() - begun < PROMPTLY_S, "closing the service took too long"
    return result


def _offset(published: tuple[str, int]) -> int:
    return int(published[0].partition("-")[2])


def _payload(event: Event) -> Any:
    return decode_json(event.data.encode())


async def _events(stream: EventStream, count: int) -> list[Event]:
    """The first events of a stream, which is released then."""
    reader, parser = ChunkReader(stream), EventStreamParser()
    events: list[Event] = []
    try:
        while len(events) < count and (chunk := await reader.next_chunk()) is not None:
            events += parser.feed(chunk)
    finally:
        stream.release()
    return events
