"""Running what is measured: each server in a process of its own, on one core; the client on another."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from benchmarks.engines import fresh_stores
from benchmarks.peers.targets import NotStarted, PeerError, Target, ours

START_S = 20
STOP_S = 5
_CORES = sorted(os.sched_getaffinity(0))
CLIENT_CORE, SERVER_CORE = (_CORES * 2)[:2]
"""The same, where there is but one: ``take_the_clients_core`` refuses that."""

QUIET_PERCENT = 6
"""What other processes may use of all cores before a run."""


class Running(NamedTuple):
    """A server that accepts connections."""

    target: Target
    port: int
    process: psutil.Process
    folder: Path

    def pids(self) -> list[int]:
        """Those of its processes."""
        return [self.process.pid, *(child.pid for child in self.process.children(recursive=True))]


def take_the_clients_core() -> None:
    """Pin this process, and what it starts, to the client's core; let it open as many files as it may.

    From then on, SIGTERM raises KeyboardInterrupt as SIGINT does.

    Raises:
        PeerError: The machine has one core only.
    """
    if CLIENT_CORE == SERVER_CORE:
        raise PeerError("the benchmark needs two cores: one for the server, one for the client")
    os.sched_setaffinity(0, {CLIENT_CORE})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # so that the servers are ended, also where this runs in the background
        signal.signal(number, signal.default_int_handler)


def wait_until_quiet(seconds: float) -> bool:
    """Wait, for so long at most, until nothing else uses the cores; whether that came to be."""
    end = time.monotonic() + seconds
    while True:
        if psutil.cpu_percent(interval=0.5) < QUIET_PERCENT:
            return True
        if time.monotonic() > end:
            return False


def foreign_cpu_seconds() -> float:
    """What all processes but this one, and what it started, have used of all cores so far: compare two of these."""
    busy = psutil.cpu_times()
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return float(sum(busy) - busy.idle - busy.iowait - busy.guest - busy.guest_nice) - sum(map(_cpu_seconds, family))


def _cpu_seconds(process: psutil.Process) -> float:
    """Of a process and of its children that have ended."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def on_core(core: int, command: Sequence[str]) -> list[str]:
    """The command that runs a command on one core."""
    return ["taskset", "-c", str(core), *command]


@contextlib.contextmanager
def running(target: Target) -> Iterator[Running]:
    """A server, fresh, on a free port; ended with the block.

    Raises:
        NotStarted: It does not accept connections.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        target = _with_store(target, stack)
        yield stack.enter_context(_started(target, folder))


def _with_store(target: Target, stack: contextlib.ExitStack) -> Target:
    """Ours on Redis or PostgreSQL gets a server of its own."""
    engine = target.name.removeprefix("ours_")
    if engine not in {"redis", "postgres"}:
        return target
    try:
        url = stack.enter_context(fresh_stores((engine,)))[engine]
    except Exception as error:
        raise NotStarted(f"no {engine} to store in: {error}") from error
    return ours(target.name, target.title, url, target.scenarios)


@contextlib.contextmanager
def _started(target: Target, folder: Path) -> Iterator[Running]:
    port = _free_port()
    log = folder / "log"
    command = on_core(SERVER_CORE, target.command(port, folder))
    with log.open("wb") as output:
        process = psutil.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **target.environment}
        )
    try:
        _wait_for(port, process, log)
        if target.prepare is not None:
            target.prepare(port)
        yield Running(target, port, process, folder)
    finally:
        _end(process)


def _wait_for(port: int, process: psutil.Popen, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    died = process.poll() is not None
    what = f"it ended with status {process.returncode}" if died else f"no server on its port after {START_S} s"
    raise NotStarted(f"{what}; its last words: {log.read_text(errors='replace')[-300:]!r}")


def _end(process: psutil.Popen) -> None:
    """End it and what it started: politely, then for good."""
    family = [*process.children(recursive=True), process] if process.is_running() else []
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    for member in psutil.wait_procs(family, timeout=STOP_S)[1]:
        member.kill()
    process.wait(timeout=STOP_S)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
