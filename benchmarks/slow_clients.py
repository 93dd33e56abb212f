"""100 clients that read nothing while 100,000 events pass: what the server keeps for them, and what they get."""

import json
import selectors
import socket
import tempfile
from contextlib import ExitStack

import httpx2

from benchmarks.common import Result, ServerProcess, open_stream, server
from eric_sse.wire.sse import Event, EventStreamParser

CLIENTS = 100
EVENTS = 100_000
BATCH = 500


def _publish(running: ServerProcess) -> None:
    url = f"http://127.0.0.1:{running.port}/channels/busy/messages"
    with httpx2.Client(timeout=30) as client:
        for first in range(0, EVENTS, BATCH):
            lines = "".join(
                json.dumps({"payload": {"n": n, "text": "x" * 80}}) + "\n" for n in range(first, first + BATCH)
            )
            client.post(url, content=lines, headers={"content-type": "application/x-ndjson"}).raise_for_status()


class _Reader:
    """Reads one stream to its end and checks it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.complete = False
        self._parser = EventStreamParser()
        self._pending = b""
        self._headers_read = False
        self._expected: int | None = 0

    def read_on(self) -> bool:
        """Take what is there. Returns whether more is to come: false at the last event, or where one is missing."""
        chunk = self.connection.recv(1 << 18)
        self._pending += chunk
        if not self._headers_read:
            head, found, rest = self._pending.partition(b"\r\n\r\n")
            self._pending, self._headers_read = (rest, True) if found else (head, False)
        body, self._pending = _dechunk(self._pending) if self._headers_read else (b"", self._pending)
        return bool(chunk) and all(self._check(event) for event in self._parser.feed(body)) and not self.complete

    def _check(self, event: Event) -> bool:
        if event.type == "eric.gap":
            self._expected = None
            return True
        n = int(event.data[len('{"n":') : event.data.index(",")])
        as_expected = self._expected in {None, n}
        self._expected = n + 1
        self.complete = as_expected and n + 1 == EVENTS
        return as_expected


def _dechunk(data: bytes) -> tuple[bytes, bytes]:
    """The whole chunks of a chunked body, and what follows them."""
    body, at = [], 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        if len(data) < end + 2 + size + 2:
            break
        body.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(body), data[at:]


def _read_all(streams: list[socket.socket]) -> int:
    """Read all streams on, beside each other; how many held everything, or a gap, through the last event."""
    readers = [_Reader(stream) for stream in streams]
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.connection, selectors.EVENT_READ, reader)
        while selector.get_map():
            for key, _ in selector.select(timeout=60):
                if not key.data.read_on():
                    selector.unregister(key.fileobj)
    return sum(reader.complete for reader in readers)


def _run_once(clients: int) -> tuple[int, int]:
    """How much the server grew while the events passed, in bytes, and how many clients got what they must."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        running = stack.enter_context(server(f"sqlite:///{folder}/events.db"))
        httpx2.post(f"http://127.0.0.1:{running.port}/channels", json={"id": "busy"}).raise_for_status()
        before = running.rss_bytes()
        path = "/channels/busy/events?from=earliest"
        streams = [
            stack.enter_context(open_stream(running.port, path, receive_buffer=16 * 1024)) for _ in range(clients)
        ]
        _publish(running)
        grown = running.rss_bytes() - before
        return grown, _read_all(streams)


def run() -> list[Result]:
    """Measure with them and without."""
    without, _ = _run_once(0)
    grown, complete = _run_once(CLIENTS)
    detail = f"grew by {grown / 1e6:.1f} MB with them, {without / 1e6:.1f} MB without"
    return [
        Result("100 clients that read nothing", (grown - without) / 1e6, "MB", 10, True, detail),
        Result("of them got everything, or a gap, in the end", complete, "", CLIENTS, False, f"of {EVENTS:,} events"),
    ]
