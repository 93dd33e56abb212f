"""A redis-server of one's own, on a free port, gone at the end."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 10


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Start a server that keeps nothing, and yield its port."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise AssertionError("redis-server is missing; install it with: apt-get install redis-server")
    port = _free_port()
    options = {"--port": str(port), "--bind": "127.0.0.1", "--save": "", "--appendonly": "no", "--dir": str(folder)}
    command = [binary, *(word for option in options.items() for word in option)]
    with (folder / "redis.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_until_ready(process, port)
            yield port
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(process: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
                client.sendall(b"PING\r\n")
                if client.recv(16).startswith(b"+PONG"):
                    return
        except OSError:
            if process.poll() is not None:
                break
        time.sleep(0.02)
    raise AssertionError(f"redis-server did not answer on port {port}; it exited with {process.poll()}")
