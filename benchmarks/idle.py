"""What waiting costs: 1,000 idle streams with heartbeats, and a library stream that waits on a queue."""

import asyncio
import resource
import tempfile
import time
from contextlib import ExitStack

import httpx2

from benchmarks.common import Result, open_stream, server
from eric_sse.engines import open_engine
from eric_sse.prefabs import SSEChannel

STREAMS = 1_000
SECONDS = 60
SETTLE_SECONDS = 6
WAITING_SECONDS = 5


def _idle_server() -> Result:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        running = stack.enter_context(server(f"sqlite:///{folder}/events.db"))
        httpx2.post(f"http://127.0.0.1:{running.port}/channels", json={"id": "quiet"}).raise_for_status()
        for _ in range(STREAMS):
            connection = stack.enter_context(open_stream(running.port, "/channels/quiet/events"))
            connection.recv(4096)
        time.sleep(2)
        before = running.cpu_seconds()
        time.sleep(SECONDS)
        percent = (running.cpu_seconds() - before) / SECONDS * 100
    return Result("1,000 idle streams with heartbeats", percent, "% of a core", 1, True, f"over {SECONDS} s")


async def _wait(channel: SSEChannel) -> int:
    """How often the process was woken while a stream waited."""
    listener = channel.add_listener()
    listener.start()
    stream = channel.message_stream(listener)
    waiting = asyncio.ensure_future(anext(stream))
    # What was just written is looked after for some seconds, until it must be visible to everybody.
    await asyncio.sleep(SETTLE_SECONDS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    await asyncio.sleep(WAITING_SECONDS)
    woken = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before
    waiting.cancel()
    return woken


def run() -> list[Result]:
    """Measure both."""
    results = []
    # The sleep that ends the measurement is one wake-up.
    woken = asyncio.run(_wait(SSEChannel()))
    results.append(Result("wake-ups of a waiting stream, in memory", woken, "", 1, True, f"in {WAITING_SECONDS} s"))
    with tempfile.TemporaryDirectory() as folder, open_engine(f"sqlite:///{folder}/events.db") as engine:
        channel = engine.channels.create({"channel_id": "quiet"})
        engine.channels.persist(channel)
        woken = asyncio.run(_wait(channel))
    results.append(Result("wake-ups of a waiting stream, SQLite", woken, "", 1, True, f"in {WAITING_SECONDS} s"))
    results.append(_idle_server())
    return results
