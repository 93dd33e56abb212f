"""The real command line, as processes of its own or in this one."""

import os
import subprocess
import sys
from typing import NamedTuple

from eric_sse.cli.app import run

COMMAND = [sys.executable, "-m", "eric_sse.cli"]


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without our variables, and with ``variables``."""
    # Compiled files are kept, whatever the environment says: else every process would compile the package anew.
    left_out = ("ERIC_SSE_", "PYTHONDONTWRITEBYTECODE")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**clean, **variables}


def eric(*arguments: str, stdin: str | bytes = "", env: dict[str, str] | None = None) -> Outcome:
    """Run ``eric-sse`` to its end."""
    sent = stdin if isinstance(stdin, bytes) else stdin.encode()
    done = subprocess.run(
        [*COMMAND, *arguments], check=False, input=sent, capture_output=True, timeout=20, env=environment(**(env or {}))
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def eric_here(capsys, *arguments: str) -> Outcome:
    """Run ``eric-sse`` in this process: quicker, for command lines that are refused before anything runs."""
    status = run([*arguments])
    return Outcome(status, *capsys.readouterr())


def started(*arguments: str, **streams) -> subprocess.Popen:
    """Start ``eric-sse``, with pipes, and leave it running. Use it as a context manager, and end it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([*COMMAND, *arguments], text=True, env=environment(), **pipes)
