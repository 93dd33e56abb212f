"""SIGTERM with open streams: the server ends within 2 s, whatever the store does, and nobody loses anything."""

import asyncio
import contextlib
import os
import random
import socket
import sqlite3
from pathlib import Path

import httpx2
import pytest

from support.load import (
    CHANNEL,
    END,
    Follower,
    Publisher,
    add_listener,
    assert_exactly_once,
    create_channel,
    expected,
)
from support.restarts import Restartable, Stopped

pytestmark = pytest.mark.usefixtures("stream_path")

WITHIN_S = 2.0
EVENTS = f"/channels/{CHANNEL}/events"


@pytest.fixture
async def server(tmp_path):
    """A server on a SQLite store, with a channel."""
    async with Restartable(f"sqlite:///{tmp_path}/events.db") as server:
        await prepare(server)
        yield server


async def prepare(server: Restartable) -> None:
    """Create what the tests use."""
    async with httpx2.AsyncClient(base_url=server.url) as http:
        await create_channel(http)
        await add_listener(http, "auto")


async def publish(url: str, payload: object, **fields: object) -> None:
    """Publish a message."""
    async with httpx2.AsyncClient(base_url=url) as http:
        answer = await http.post(f"/channels/{CHANNEL}/messages", json={"payload": payload, **fields})
        answer.raise_for_status()


def assert_clean(stopped: Stopped) -> None:
    """It ended in time and with success."""
    assert stopped.status == 0
    assert stopped.seconds < WITHIN_S


class RawStream:
    """A stream as its bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, server: Restartable) -> "RawStream":
        """Open one; returns when its first block has come."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.server.port)
        writer.write(f"GET {EVENTS} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await reader.readuntil(b"\n\n")
        return cls(reader, writer)

    async def rest(self) -> bytes:
        """What comes until it is closed."""
        try:
            return await self.reader.read()
        finally:
            self.writer.close()


@pytest.mark.parametrize("number", [1, 200])
async def test_idle_streams_end_with_a_retry(server, number):
    """Each open stream is ended whole, and told when to come back: not all at one moment."""
    streams = [await RawStream.open(server) for _ in range(number)]
    assert_clean(await server.stop())
    rests = [await stream.rest() for stream in streams]
    assert all(b"retry: " in rest and rest.endswith(b"0\r\n\r\n") for rest in rests)
    assert number == 1 or len(set(rests)) > 10


async def test_a_peer_that_reads_nothing_does_not_hold_it_up(server):
    """A connection whose buffers are full is cut."""
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", server.server.port))
        peer.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await asyncio.to_thread(peer.recv, 1)
        for _ in range(8):
            await publish(server.url, "x" * 1_000_000)
        assert_clean(await server.stop())


async def test_clients_come_back_after_a_restart_under_load(server):
    """Three restarts under load: what was answered with 201 arrives once and in order."""
    publishers = [Publisher(server.url, f"p{n}", random.Random(n), ("auto",)) for n in range(4)]
    followers = [
        Follower(f"{server.url}{EVENTS}"),
        Follower(f"{server.url}/channels/{CHANNEL}/listeners/auto/events", "auto"),
    ]
    async with asyncio.TaskGroup() as tasks:
        for follower in followers:
            tasks.create_task(follower.run())
            await follower.is_listening()
        publishing = [tasks.create_task(publisher.run()) for publisher in publishers]
        for _ in range(3):
            await asyncio.sleep(0.3)
            assert_clean(await server.stop())
            await server.start()
        for publisher in publishers:
            publisher.is_done = True
        await asyncio.wait(publishing)
        await publish(server.url, None, type=END)
    for follower in followers:
        assert_exactly_once(follower.events, expected(publishers, follower.listener))


@contextlib.contextmanager
def write_lock(store: str):
    """Hold the store's write lock, as another process would."""
    holder = sqlite3.connect(store.removeprefix("sqlite:///"), isolation_level=None)
    with contextlib.closing(holder):
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


async def waiting(publishers: list[Publisher], tasks: asyncio.TaskGroup) -> list[asyncio.Task]:
    """Have publishers publish one message each; returns when each waits for its answer."""
    published = [tasks.create_task(publisher.run(limit=1)) for publisher in publishers]
    _, pending = await asyncio.wait(published, timeout=0.3)
    assert len(pending) == len(publishers)
    return published


async def test_a_writer_that_hangs_does_not_hold_it_up(server):
    """With publishes waiting for a lock that another process holds, it ends; once it is free they are stored once."""
    publishers = [Publisher(server.url, f"p{n}", random.Random(n)) for n in range(5)]
    follower = Follower(f"{server.url}{EVENTS}")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follower.run())
        await follower.is_listening()
        with write_lock(server.store):
            published = await waiting(publishers, tasks)
            assert_clean(await server.stop())
        await server.start()
        await asyncio.wait(published)
        await publish(server.url, None, type=END)
    assert_exactly_once(follower.events, expected(publishers, None))


@pytest.fixture
async def hanging(tmp_path):
    """A server on an engine of a third party, which hangs while the FIFO that it names is there."""
    info = tmp_path / "hanging-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[eric_sse.engines]\nhanging = e2e.hanging_engine:open_hanging\n")
    tests = Path(__file__).parent.parent
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])}
    async with Restartable(f"hanging:///{tmp_path}/events.db", env=env) as server:
        await prepare(server)
        yield server


async def test_a_store_that_hangs_does_not_hold_it_up(hanging, tmp_path):
    """With reads and writes that never return it ends within 2 s; restarted, clients go on where they were."""
    fifo = tmp_path / "events.db.hang"
    publishers = [Publisher(hanging.url, f"p{n}", random.Random(n)) for n in range(5)]
    follower = Follower(f"{hanging.url}{EVENTS}")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follower.run())
        await follower.is_listening()
        os.mkfifo(fifo)
        published = await waiting(publishers, tasks)
        waits = await RawStream.open(hanging)  # opens all the same, and waits for the store
        assert_clean(await hanging.stop())
        fifo.unlink()
        await hanging.start()
        await asyncio.wait(published)
        await publish(hanging.url, None, type=END)
    assert b"retry: " in await waits.rest()
    assert_exactly_once(follower.events, expected(publishers, None))
