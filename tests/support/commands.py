"""The real command line, as processes of its own."""

import os
import subprocess
import sys
from typing import NamedTuple

COMMAND = [sys.executable, "-m", "eric_sse.cli"]


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without our variables, and with ``variables``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ERIC_SSE_")}
    return {**clean, **variables}


def eric(*arguments: str, stdin: str | bytes = "", env: dict[str, str] | None = None) -> Outcome:
    """Run ``eric-sse`` to its end."""
    sent = stdin if isinstance(stdin, bytes) else stdin.encode()
    done = subprocess.run(
        [*COMMAND, *arguments], check=False, input=sent, capture_output=True, timeout=20, env=environment(**(env or {}))
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def started(*arguments: str, **streams) -> subprocess.Popen:
    """Start ``eric-sse``, with pipes, and leave it running. Use it as a context manager, and end it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([*COMMAND, *arguments], text=True, env=environment(), **pipes)
