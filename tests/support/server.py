"""The real server as a process of its own: ``eric-sse serve`` on a free port, ended by its pid."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

STOP_S = 5
STREAM_PATH = "ERIC_SSE_TEST_STREAM_PATH"
"""The environment variable that says how servers send streams: ``direct``, the default, or ``portable``."""

# As on an ASGI server that gives no connection away.
_PORTABLE = """
from eric_sse.asgi import server
from eric_sse.cli import main
server._Protocol._hand_over = lambda *_: False
main()
"""
_PROGRAMS = {"direct": ("-m", "eric_sse.cli"), "portable": ("-c", _PORTABLE)}


class RunningServer:
    """A server that accepts connections.

    Attributes:
        line: What it printed when it was ready.
        url: Where it is: ``http://127.0.0.1:<port>``, or ``unix:<path>``.
        process: The process.
    """

    def __init__(self, process: subprocess.Popen, line: str, errors) -> None:
        self.process = process
        self.line = line
        self._errors = errors
        self.url = line.rsplit(maxsplit=1)[-1]

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    @property
    def port(self) -> int:
        """Its TCP port: pass it to the next ``running_server`` to restart a server in its place."""
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What it wrote on standard error until now."""
        return os.pread(self._errors.fileno(), os.fstat(self._errors.fileno()).st_size, 0).decode()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it with SIGTERM, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


@contextmanager
def running_server(
    store: str, *options: str, port: int = 0, env: dict[str, str] | None = None
) -> Iterator[RunningServer]:
    """Serve the store of a URL until the block ends, or until it is stopped or killed in it.

    Args:
        store: The store's URL.
        options: More of ``eric-sse serve``, such as ``"--uds", path``.
        port: The port; 0 takes any that is free.
        env: Environment variables to add.
    """
    program = _PROGRAMS[os.environ.get(STREAM_PATH, "direct")]
    command = [sys.executable, *program, "serve", "--store", store, "--port", str(port), *options]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **(env or {})}
        )
        with process:  # waits for it, and closes the pipe
            try:
                yield RunningServer(process, _first_line(process, errors), errors)
            finally:
                _end(process)


def _first_line(process: subprocess.Popen, errors) -> str:
    line = process.stdout.readline()
    if line:
        return line.strip()
    status = process.wait()
    errors.seek(0)
    raise AssertionError(f"the server exited with {status}: {errors.read()}")


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"the server did not stop within {STOP_S} s of SIGTERM") from None
