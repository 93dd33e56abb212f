"""Two servers on one store, as their clients see them."""

import asyncio
import itertools
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx2

from eric_sse.clients import AsyncEventSource
from eric_sse.wire.sse import Event
from support.load import END, Follower, Publisher, acknowledge, add_listener, create_channel, publish_end
from support.streams import Reader

STREAM_S = 10


class Chunks:
    """The body of an answer, chunk by chunk."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._chunks = answer.aiter_bytes()

    async def next_chunk(self) -> bytes | None:
        """The next chunk; None at the end."""
        return await anext(self._chunks, None)

    async def aclose(self) -> None:
        """Read no more."""
        await self._chunks.aclose()


class Pair:
    """A client for each of two servers, and a channel that both have.

    Args:
        a: For the one,
        b: for the other.
        b_pid: The other's process.

    Attributes:
        channel: The channel's id, new for each pair.
        path: Where the channel is.
    """

    def __init__(self, a: httpx2.AsyncClient, b: httpx2.AsyncClient, b_pid: int) -> None:
        self.a = a
        self.b = b
        self._b_pid = b_pid
        self.channel = f"c{secrets.token_hex(6)}"
        self.path = f"/channels/{self.channel}"

    async def create(self) -> None:
        """Create the channel, through a."""
        await create_channel(self.a, self.channel)

    async def add_listener(self, listener: str, ack: str = "auto") -> None:
        """Subscribe a listener to the channel, through a."""
        await add_listener(self.a, listener, ack, self.channel)

    def events(self, listener: str | None = None) -> str:
        """The path of a stream."""
        return f"{self.path}/events" if listener is None else f"{self.path}/listeners/{listener}/events"

    def ack(self, listener: str) -> str:
        """The path where a listener acknowledges."""
        return f"{self.path}/listeners/{listener}/ack"

    @contextmanager
    def b_stopped(self) -> Iterator[None]:
        """Inside the block b hears nothing and does nothing (SIGSTOP); then it goes on."""
        os.kill(self._b_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._b_pid, signal.SIGCONT)

    def follower(self, server: httpx2.AsyncClient, listener: str | None = None) -> Follower:
        """A follower of the channel at one of the servers."""
        return Follower(url(server, self.events(listener)), listener)

    def publisher(self, server: httpx2.AsyncClient, name: str, chance, listeners=()) -> Publisher:
        """A publisher to the channel at one of the servers."""
        return Publisher(url(server), name, chance, listeners, self.channel)

    async def publish(self, server: httpx2.AsyncClient, payload: object, **fields: object) -> str:
        """Publish one message through a server; returns its id."""
        answer = await server.post(f"{self.path}/messages", json={"payload": payload, **fields})
        return answer.raise_for_status().json()["ids"][0]

    async def publish_end(self, server: httpx2.AsyncClient) -> None:
        """Publish what followers end at."""
        await publish_end(url(server), self.channel)

    @asynccontextmanager
    async def reading(
        self, server: httpx2.AsyncClient, listener: str | None = None, last_event_id: str | None = None
    ) -> AsyncIterator[Reader]:
        """A stream at one of the servers, of which the opening was read."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        async with server.stream("GET", self.events(listener), headers=headers) as answer:
            answer.raise_for_status()
            chunks = Chunks(answer)
            reader = Reader(chunks)
            await reader.chunk()
            try:
                yield reader
            finally:
                await chunks.aclose()

    async def wander(self, listener: str | None, last_event_id: str | None) -> list[Event]:
        """Read a stream to its end, seven events at one server and seven at the other, by turns.

        Args:
            listener: Whose.
            last_event_id: Where it starts, and from then on the last one received. None: it goes on from the
                listener's cursor each time, which it moves through the server that it leaves.
        """
        events: list[Event] = []
        for server in itertools.cycle((self.a, self.b)):
            source = AsyncEventSource(url(server, self.events(listener)), last_event_id=last_event_id)
            if await _read_some(source, events, 7):
                return events
            if last_event_id is not None:
                last_event_id = source.last_event_id
            else:
                assert await acknowledge(server, self.ack(str(listener)), events[-1].id)
        raise AssertionError("it never ends")


async def _read_some(source: AsyncEventSource, events: list[Event], count: int) -> bool:
    """Add so many events, and close the stream; whether it is at its end."""
    async with asyncio.timeout(STREAM_S), source:
        for _ in range(count):
            event = await anext(source)
            if event.type == END:
                return True
            events.append(event)
    return False


def url(server: httpx2.AsyncClient, path: str = "") -> str:
    """Where a server, or something on it, is."""
    return str(server.base_url).rstrip("/") + path
