"""Other processes that use the same store: started anew, not forked, and never waited for without a bound."""

import json
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

from eric_sse.engine import Engine
from eric_sse.testing.fixtures import Opener

PATIENCE_S = 60.0
"""How long another process may take for anything, in seconds; then the test fails."""

Work: TypeAlias = Callable[..., Iterator[Any]]
"""What another process does: a generator function at the top of a module. It is called with an engine, and arguments
that pickle; what it yields, as JSON has it, is reported at once."""

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from eric_sse.testing.processes import main; main()"
)
_READY = "ready"
_END = object()


class Worker:
    """Another process, with an engine of its own open. Made by :func:`worker`.

    Args:
        process: It, with pipes for its standard input and output.
        errors: Where its standard error goes.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", errors: Any) -> None:
        self._process = process
        self._errors = errors
        self._reports: queue.Queue[Any] = queue.Queue()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def ready(self) -> None:
        """Wait until its engine is open."""
        first = self.report()
        assert first == _READY, f"the other process began with {first!r}"

    def go(self) -> None:
        """Have it begin."""
        self._pipe.write(b"\n")
        self._pipe.flush()

    def report(self) -> Any:
        """Its next report."""
        found = self._next()
        if found is _END:
            self._raise_failure()
        return found

    def finish(self) -> list[Any]:
        """All its further reports, when it has ended well."""
        found = list(iter(self._next, _END))
        if self._process.wait(PATIENCE_S) != 0:
            self._raise_failure()
        return found

    def kill(self) -> list[Any]:
        """Kill it, in the midst of what it does, and return all its further reports."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        return list(iter(self._next, _END))

    def close(self) -> None:
        """Kill it, if it still runs, and let go of it."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._thread.join()
        self._pipe.close()

    @property
    def _pipe(self) -> Any:
        return self._process.stdin

    def _next(self) -> Any:
        try:
            return self._reports.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"the other process has reported nothing for {PATIENCE_S:g} s") from None

    def _raise_failure(self) -> None:
        self._process.wait(PATIENCE_S)
        self._errors.seek(0)
        raise AssertionError(
            f"the other process ended with {self._process.returncode}:\n{self._errors.read().decode(errors='replace')}"
        )

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else it was killed while it wrote
                    self._reports.put(json.loads(line))
        self._reports.put(_END)


@contextmanager
def worker(opener: Opener, work: Work, *args: Any) -> Iterator[Worker]:
    """Start a process that opens an engine, and, when it is told to go, does ``work`` with it. Killed at the end."""
    options = [option for warning in sys.warnoptions for option in ("-W", warning)]
    command = [sys.executable, *options, "-c", _PROGRAM, json.dumps([str(folder) for folder in sys.path])]
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(  # noqa: S603 - this interpreter
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        started = Worker(process, errors)
        stack.callback(started.close)
        assert process.stdin is not None
        pickle.dump((opener, work, args), process.stdin)
        process.stdin.flush()
        started.ready()
        yield started


def run_at_once(opener: Opener, works: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Do each of the works (a generator function and its arguments) in a process of its own, all at the same time.

    Returns:
        The reports of each.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(opener, *work)) for work in works]
        for one in workers:
            one.go()
        return [one.finish() for one in workers]


def main() -> None:
    """The other process."""
    opener, work, args = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    with opener() as engine:
        _report(_READY)
        sys.stdin.buffer.readline()
        for found in _work(work, engine, args):
            _report(found)


def _work(work: Work, engine: Engine, args: Sequence[Any]) -> Iterator[Any]:
    return work(engine, *args)


def _report(found: Any) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
