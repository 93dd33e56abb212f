"""What waiting costs: a server with 1,000 idle streams and heartbeats, and a library stream that waits on a queue."""

import asyncio
import resource
import tempfile
import time
from contextlib import ExitStack
from typing import NamedTuple

import httpx2

from benchmarks.common import Result, open_stream, server
from benchmarks.engines import fresh_stores
from eric_sse.engines import open_engine
from eric_sse.prefabs import SSEChannel


class _Sizes(NamedTuple):
    streams: int
    seconds: float
    settle_seconds: float
    waiting_seconds: float


_FULL = _Sizes(streams=1_000, seconds=60, settle_seconds=6, waiting_seconds=5)
_QUICK = _Sizes(streams=20, seconds=2, settle_seconds=0.5, waiting_seconds=0.5)


def _idle_servers(sizes: _Sizes) -> list[Result]:
    """A server on each engine, all at the same time."""
    with ExitStack() as stack:
        stores = stack.enter_context(fresh_stores())
        servers = {engine: stack.enter_context(server(url)) for engine, url in stores.items()}
        for running in servers.values():
            httpx2.post(f"http://127.0.0.1:{running.port}/channels", json={"id": "quiet"}).raise_for_status()
            for _ in range(sizes.streams):
                connection = stack.enter_context(open_stream(running.port, "/channels/quiet/events"))
                connection.recv(4096)
        time.sleep(2)
        before = {engine: running.cpu_seconds() for engine, running in servers.items()}
        time.sleep(sizes.seconds)
        used = {engine: running.cpu_seconds() - before[engine] for engine, running in servers.items()}
    name, detail = f"a server with {sizes.streams:,} idle streams and heartbeats", f"over {sizes.seconds} s"
    return [
        Result(f"{name}, {engine}", seconds / sizes.seconds * 100, "% of a core", 1, True, detail)
        for engine, seconds in used.items()
    ]


async def _wait(channel: SSEChannel, sizes: _Sizes) -> int:
    """How often the process was woken while a stream waited."""
    listener = channel.add_listener()
    listener.start()
    stream = channel.message_stream(listener)
    waiting = asyncio.ensure_future(anext(stream))
    # What was just written is looked after for some seconds, until it must be visible to everybody.
    await asyncio.sleep(sizes.settle_seconds)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    await asyncio.sleep(sizes.waiting_seconds)
    woken = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before
    waiting.cancel()
    return woken


def run(*, quick: bool = False) -> list[Result]:
    """Measure both."""
    sizes = _QUICK if quick else _FULL
    # The sleep that ends the measurement is one wake-up.
    woken = {"in memory": asyncio.run(_wait(SSEChannel(), sizes))}
    with tempfile.TemporaryDirectory() as folder, open_engine(f"sqlite:///{folder}/events.db") as engine:
        channel = engine.channels.create({"channel_id": "quiet"})
        engine.channels.persist(channel)
        woken["SQLite"] = asyncio.run(_wait(channel, sizes))
    detail = f"in {sizes.waiting_seconds} s"
    results = [
        Result(f"wake-ups of a waiting stream, {where}", times, "", 1, True, detail) for where, times in woken.items()
    ]
    return results + _idle_servers(sizes)
