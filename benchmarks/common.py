"""What the measurements share: results, servers, and counting what a process costs."""

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """One figure against what it must reach.

    Attributes:
        name: What was measured.
        value: The figure.
        unit: What it is in; ``x`` for a ratio.
        limit: What it must reach.
        at_most: Whether the limit is an upper one.
        detail: What the figure was made of.
    """

    name: str
    value: float
    unit: str
    limit: float
    at_most: bool
    detail: str

    @property
    def reached(self) -> bool:
        """Whether the figure is on the right side of its limit."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def median_seconds(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median time of each call, over rounds in which all of them take their turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for number, call in enumerate(calls):
            started = time.perf_counter()
            call()
            times[number].append(time.perf_counter() - started)
    return [statistics.median(values) for values in times]


class ServerProcess(NamedTuple):
    """A running server."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """The processor time that it has used, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def server(store: str, *options: str) -> Iterator[ServerProcess]:
    """`eric-sse serve` on a free port, stopped in the end."""
    command = [sys.executable, "-m", "eric_sse.cli", "serve", "--store", store, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield ServerProcess(process.pid, int(line.rstrip("/\n").rpartition(":")[2]))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=10)


def open_stream(port: int, path: str, receive_buffer: int | None = None) -> socket.socket:
    """A connection that has asked for a stream and read nothing yet."""
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
    return connection
