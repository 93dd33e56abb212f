"""10,000 named listeners stream from one channel on Redis: what comes is read once, not once for each."""

import resource
import selectors
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import redis

from benchmarks.common import Result, open_stream, server
from benchmarks.engines import fresh_stores
from eric_sse.engines import open_engine
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message

CHANNEL = "crowd"
PATIENCE_S = 60.0
_OTHER_FILES = 500
# Reads of the log are scripts that may not write; what they call is counted apart.
_READ = "cmdstat_evalsha_ro"


def run(*, quick: bool = False) -> list[Result]:
    """Count the reads that broadcasts cost, each made when all streams have the one before."""
    wake_ups = 2 if quick else 20
    streams = _allowed(100 if quick else 10_000)
    with ExitStack() as stack:
        url = stack.enter_context(fresh_stores(["redis"]))["redis"]
        engine = stack.enter_context(open_engine(url))
        channel = engine.channels.create({"channel_id": CHANNEL})
        for number in range(streams):
            channel.register_listener(MessageQueueListener(str(number)))
        engine.channels.persist(channel)
        port = stack.enter_context(server(url)).port
        readers = _Readers(_open(stack, port, streams))
        client = stack.enter_context(redis.Redis.from_url(url.partition("?")[0]))
        channel.broadcast(Message("count", "first"))
        readers.read_until(b'"first"')
        before = _calls(client)
        started = time.monotonic()
        for number in range(wake_ups):
            channel.broadcast(Message("count", f"number {number}"))
            readers.read_until(f'"number {number}"'.encode())
        seconds = (time.monotonic() - started) / wake_ups
        after = _calls(client)
    reads = after.get(_READ, 0) - before.get(_READ, 0)
    detail = f"{reads} reads in {wake_ups} wake-ups; {seconds * 1e3:.0f} ms from a broadcast until all streams have it"
    return [Result(f"reads a wake-up, {streams:,} listeners streaming, redis", reads / wake_ups, "", 1, True, detail)]


def _allowed(streams: int) -> int:
    """How many streams may be open here, and in a server that is started here; raises the limit as far as it can."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return streams if hard == resource.RLIM_INFINITY else min(streams, hard - _OTHER_FILES)


def _open(stack: ExitStack, port: int, streams: int) -> list[socket.socket]:
    """Streams that have begun."""

    def open_one(number: int) -> socket.socket:
        stream = open_stream(port, f"/channels/{CHANNEL}/listeners/{number}/events")
        stream.settimeout(PATIENCE_S)
        if not stream.recv(4096).startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the stream of listener {number} was refused")
        stream.setblocking(False)
        return stream

    with ThreadPoolExecutor(64) as pool:
        return [stack.enter_context(stream) for stream in pool.map(open_one, range(streams))]


class _Readers:
    """Reads many streams beside each other.

    Args:
        streams: Their connections.
    """

    def __init__(self, streams: Sequence[socket.socket]) -> None:
        self._selector = selectors.EpollSelector()
        self._unread = dict.fromkeys(streams, b"")
        for stream in streams:
            self._selector.register(stream, selectors.EVENT_READ)

    def read_until(self, text: bytes) -> None:
        """Read until each of them has brought ``text``.

        Raises:
            TimeoutError: Some have not, for long.
        """
        waiting = set(self._unread)
        while waiting:
            ready = self._selector.select(PATIENCE_S)
            if not ready:
                raise TimeoutError(f"{len(waiting)} streams have not brought {text!r} within {PATIENCE_S:g} s")
            for key, _ in ready:
                stream = key.fileobj
                assert isinstance(stream, socket.socket)
                self._unread[stream] += stream.recv(65536)
                if text in self._unread[stream]:
                    self._unread[stream] = b""
                    waiting.discard(stream)


def _calls(client: redis.Redis) -> dict[str, int]:
    """How often each command was called."""
    stats: dict[str, dict[str, int]] = client.info("commandstats")
    return {name: values["calls"] for name, values in stats.items()}
