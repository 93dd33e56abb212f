"""Clients that read nothing for a while, or for ever: they cost little, miss nothing silently, and are noticed."""

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager, closing

import httpx2
import psutil
import pytest

from eric_sse.clients import Gap
from eric_sse.wire.sse import Event, EventStreamParser
from support.load import CHANNEL, add_listener, assert_in_order, create_channel, offset
from support.restarts import Restartable

pytestmark = pytest.mark.usefixtures("stream_path")

CLIENTS = 100
EVENTS = 5_000
PADDING = "x" * 1_000  # 5 MB a client, of which the system takes three
BEHIND = 1_000  # lag is counted no further
MAX_GROWTH_BYTES = 20_000_000  # what waits for all of them together is ten times that
PATH = f"/channels/{CHANNEL}"


@asynccontextmanager
async def serving(tmp_path, **settings):
    """A server on a SQLite store, with a channel, and a client for its interface."""
    env = {f"ERIC_SSE_{name.upper()}": str(value) for name, value in settings.items()}
    async with Restartable(f"sqlite:///{tmp_path}/events.db", env=env) as server, api_of(server) as api:
        yield server, api


def api_of(server: Restartable) -> httpx2.AsyncClient:
    """A client for a server's interface."""
    return httpx2.AsyncClient(base_url=server.url)


async def publish(api: httpx2.AsyncClient, number: int) -> None:
    """Publish so many numbered events, 250 at once."""
    for first in range(0, number, 250):
        messages = [{"payload": [n, PADDING]} for n in range(first, min(first + 250, number))]
        (await api.post(f"{PATH}/messages", json=messages)).raise_for_status()


async def channel(api: httpx2.AsyncClient) -> dict:
    """The channel as it stands."""
    return (await api.get(PATH)).raise_for_status().json()


async def becomes(api: httpx2.AsyncClient, **wanted: object) -> None:
    """Wait until the channel stands so."""
    async with asyncio.timeout(15):
        while not wanted.items() <= (await channel(api)).items():
            await asyncio.sleep(0.05)


class LazyClient:
    """A peer that reads its stream when it is told to, and until then only the response's head.

    Attributes:
        events: What it has read.
        numbers: What those events hold; None for a gap.
    """

    def __init__(self, peer: socket.socket) -> None:
        self.events: list[Event] = []
        self.numbers: list[int | None] = []
        self._peer = peer
        self._unread = b""
        self._parser = EventStreamParser()

    @classmethod
    async def open(cls, server: Restartable, name: str) -> "LazyClient":
        """Open a listener's stream."""
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        client = cls(peer)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, ("127.0.0.1", server.server.port))
        await loop.sock_sendall(peer, f"GET {PATH}/listeners/{name}/events HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        while b"\r\n\r\n" not in client._unread:
            client._unread += await loop.sock_recv(peer, 1)
        client._unread = b""
        return client

    async def read_through(self, last: int) -> None:
        """Read through the event of a number."""
        self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        while self.numbers[-1:] != [last]:
            received = await asyncio.get_running_loop().sock_recv(self._peer, 1 << 18)
            assert received, f"the stream ended after {self.events[-1:]}"
            body, self._unread = dechunked(self._unread + received)
            events = self._parser.feed(body)
            self.events += events
            self.numbers += [None if Gap.of(event) else number(event) for event in events]

    def close(self) -> None:
        """Go away."""
        self._peer.close()


def number(event: Event) -> int:
    """Of an event that `publish` published."""
    return int(event.data[1 : event.data.index(",")])


def dechunked(data: bytes) -> tuple[bytes, bytes]:
    """The whole chunks of a chunked body, and what follows them."""
    chunks, start = [], 0
    while (end := data.find(b"\r\n", start)) >= 0:
        size = int(data[start:end], 16)
        if len(data) < end + 2 + size + 2:
            break
        chunks.append(data[end + 2 : end + 2 + size])
        start = end + 2 + size + 2
    return b"".join(chunks), data[start:]


async def lazy_clients(
    count: int, server: Restartable, api: httpx2.AsyncClient, stack: AsyncExitStack
) -> list[LazyClient]:
    """Many of them, with a listener each."""
    names = [f"lazy{n}" for n in range(count)]
    for name in names:
        await add_listener(api, name)
    return [stack.enter_context(closing(await LazyClient.open(server, name))) for name in names]


async def lags(api: httpx2.AsyncClient) -> set[int]:
    """How far the listeners are behind; more than 1,000 is not counted."""
    found = (await api.get(f"{PATH}/listeners", params={"limit": 1000})).raise_for_status().json()["listeners"]
    return {listener["lag"] for listener in found}


async def test_slow_clients_miss_nothing_and_cost_little(tmp_path):
    """100 clients that read nothing while 5,000 events pass receive them all when they read on."""
    async with serving(tmp_path) as (server, api), AsyncExitStack() as stack:
        await create_channel(api)
        clients = await lazy_clients(CLIENTS, server, api, stack)
        before = psutil.Process(server.server.pid).memory_info().rss
        await publish(api, EVENTS)
        assert await lags(api) == {BEHIND}
        assert psutil.Process(server.server.pid).memory_info().rss - before < MAX_GROWTH_BYTES
        await asyncio.gather(*(client.read_through(EVENTS - 1) for client in clients))
        for client in clients:
            assert client.numbers == list(range(EVENTS))
            assert_in_order(client.events)


async def test_slow_clients_are_told_what_was_trimmed(tmp_path):
    """Clients that are behind what is kept receive what they had asked for, one gap, and all that follows it."""
    async with serving(tmp_path) as (server, api), AsyncExitStack() as stack:
        await create_channel(api, retention={"max_messages": 500, "max_age_s": None})
        clients = await lazy_clients(10, server, api, stack)
        await publish(api, EVENTS)
        await until_trimmed(api, EVENTS - 500)
        await asyncio.gather(*(client.read_through(EVENTS - 1) for client in clients))
        for client in clients:
            gap = client.numbers.index(None)
            assert client.numbers[:gap] == list(range(gap))
            assert client.numbers[gap + 1 :] == list(range(EVENTS - 500, EVENTS))
            assert_gap_is_true(client, gap)


def assert_gap_is_true(client: LazyClient, index: int) -> None:
    """It says that what followed the event before it was trimmed."""
    gap = Gap.of(client.events[index])
    assert gap is not None
    assert gap.reason == "trimmed"
    assert offset(gap.resumed_from) < offset(client.events[index].id) < offset(client.events[index + 1].id)
    assert gap.resumed_from == client.events[index - 1].id


async def until_trimmed(api: httpx2.AsyncClient, number: int) -> None:
    """Wait until so many events are gone."""
    async with asyncio.timeout(15):
        while offset((await channel(api))["oldest_id"]) <= number:
            await asyncio.sleep(0.05)


async def test_a_peer_that_takes_nothing_is_given_up(tmp_path):
    """After the send timeout its stream ends; one that reads goes on."""
    async with serving(tmp_path, send_timeout_s=0.5) as (server, api), AsyncExitStack() as stack:
        await create_channel(api)
        await lazy_clients(5, server, api, stack)
        await add_listener(api, "quick")
        quick = stack.enter_context(closing(await LazyClient.open(server, "quick")))
        reading = asyncio.create_task(quick.read_through(EVENTS - 1))
        await publish(api, EVENTS)
        await reading
        await becomes(api, streams=1)


async def test_a_peer_that_closes_is_noticed(tmp_path):
    """A stream whose peer is gone ends, with nothing to send and before any timeout."""
    async with serving(tmp_path) as (server, api):
        await create_channel(api)
        async with AsyncExitStack() as stack:
            await lazy_clients(5, server, api, stack)
            await becomes(api, streams=5)
        await becomes(api, streams=0)


async def test_heartbeats_arrive(tmp_path):
    """A silent stream brings comments, time after time."""
    async with serving(tmp_path, heartbeat_s=0.2) as (_, api):
        await create_channel(api)
        async with api.stream("GET", f"{PATH}/events") as answer:
            chunks = answer.aiter_bytes()
            beats = [await anext(chunks) for _ in range(3)]
            await chunks.aclose()
    assert beats[1:] == [b":\n\n", b":\n\n"]


async def test_head_ends(tmp_path):
    """HEAD on a stream answers with the stream's head, and the connection can be used again."""
    async with serving(tmp_path) as (_, api):
        await create_channel(api)
        await add_listener(api, "named")
        for path in 2 * [f"{PATH}/events", f"{PATH}/listeners/named/events"]:
            answer = await api.head(path)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        await becomes(api, streams=0)
