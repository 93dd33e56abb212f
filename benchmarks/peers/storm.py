"""A reconnect storm: 5,000 clients return at once, each some messages behind, while others listen to live messages."""

import json
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Self

from benchmarks.peers.load import Figures, load
from benchmarks.peers.processes import Running
from benchmarks.peers.targets import OURS_EVENTS, OURS_MESSAGES, PeerError

CLIENTS = 5_000
BEHIND = 1_000
NUMBERED_FROM = 1_000_000
"""What they missed is numbered from here on, and live messages from 0."""
LIVE_STREAMS = 100
LIVE_RATE = 5
_MARK = b'"due":'


def reconnect_storm(server: Running) -> Figures:
    """Until all have caught up; and the latency of live messages meanwhile, from when each was due.

    Raises:
        PeerError: Somebody did not get what was missed, or live messages stopped.
    """
    ids = _fill(server.port)
    with _Live(server.port) as live:
        time.sleep(1)  # live messages flow, before
        began = time.monotonic()
        figures = load(
            server,
            list(_paths(ids)),
            mode="listen",
            conns=CLIENTS,
            msgs=len(ids),
            base=NUMBERED_FROM,
            ramp_conc=CLIENTS,
            settle=0,
            timeout=60,
        )
        waited = live.latencies(began, began + figures["caught_up_s"])
    if len(waited) < LIVE_STREAMS:
        raise PeerError(f"{len(waited)} live messages came during the storm: too few to tell their latency")
    cuts = statistics.quantiles(waited, n=100, method="inclusive")
    live_ms = {"p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3, "max": max(waited) * 1e3, "n": len(waited)}
    return figures | {"live_ms": live_ms}


def _fill(port: int) -> list[str]:
    """Publish what they miss; the ids, oldest first."""
    lines = (json.dumps({"payload": {"n": NUMBERED_FROM + n, "p": "x" * 80}}) for n in range(BEHIND + 1))
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", OURS_MESSAGES, "\n".join(lines), {"Content-Type": "application/x-ndjson"})
    answer = json.load(connection.getresponse())
    connection.close()
    ids: list[str] = answer["ids"]
    return ids


def _paths(ids: list[str]) -> Iterator[str]:
    """The stream that each client asks for, the number of the first message that it lacks, and the id it comes with."""
    for client in range(CLIENTS):
        missed = 1 + client % BEHIND
        yield f"{OURS_EVENTS} {len(ids) - missed} {ids[-1 - missed]}"


class _Live:
    """Streams from the latest message on, and a publisher of messages that tell when they were due."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._seen: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._streams = [self._open() for _ in range(LIVE_STREAMS)]
        self._threads = [threading.Thread(target=work) for work in (self._listen, self._publish)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)
        for stream in self._streams:
            stream.close()

    def latencies(self, began: float, ended: float) -> list[float]:
        """Those of the messages due in a time, in seconds; called after that time, it waits for the last to come."""
        time.sleep(0.3)
        return [seen - due for due, seen in self._seen if began <= due <= ended]

    def _open(self) -> socket.socket:
        stream = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        stream.sendall(f"GET {OURS_EVENTS} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
        stream.recv(4096)
        return stream

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for stream in self._streams:
                selector.register(stream, selectors.EVENT_READ, _Reader(stream))
            while not self._stop.is_set():
                for key, _ in selector.select(timeout=0.2):
                    self._note(key.data.lines())

    def _note(self, lines: list[bytes]) -> None:
        now = time.monotonic()
        for line in lines:
            if _MARK in line:
                self._seen.append((float(line.partition(_MARK)[2].rstrip(b"}\r")), now))

    def _publish(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.monotonic()
        n = 0
        while not self._stop.wait(max(0.0, began + n / LIVE_RATE - time.monotonic())):
            body = json.dumps({"payload": {"n": n, "due": round(began + n / LIVE_RATE, 6)}})
            connection.request("POST", OURS_MESSAGES, body, {"Content-Type": "application/json"})
            connection.getresponse().read()
            n += 1
        connection.close()


class _Reader:
    """The complete lines that a stream brings."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._rest = b""

    def lines(self) -> list[bytes]:
        """Those of one read."""
        *lines, self._rest = (self._rest + self._stream.recv(1 << 16)).split(b"\n")
        return lines
