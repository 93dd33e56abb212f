"""An engine for the tests: a SQLite one that hangs on every read of a log while a FIFO is there.

``hanging:////path/to/events.db`` hangs while ``/path/to/events.db.hang`` exists, in an ``open()`` that no timeout ends.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eric_sse.engine import Engine
from eric_sse.engines import open_engine
from eric_sse.log import MessageLog


def _hanging(name: str) -> Callable[..., Any]:
    def call(self: "HangingLog", *arguments: object, **options: object) -> Any:
        if self.fifo.exists():
            self.fifo.read_bytes()  # until somebody writes: nobody does
        return getattr(self.log, name)(*arguments, **options)

    return call


class HangingLog(MessageLog):
    """A log whose every call hangs while there is a FIFO."""

    create = _hanging("create")
    append_group = _hanging("append_group")
    read = _hanging("read")
    heads = _hanging("heads")
    trim = _hanging("trim")
    drop = _hanging("drop")

    def __init__(self, log: MessageLog, fifo: Path) -> None:
        self.log = log
        self.fifo = fifo


def open_hanging(url: str) -> Engine:
    """Open the engine."""
    engine = open_engine(url.replace("hanging:", "sqlite:", 1))
    engine.log = HangingLog(engine.log, Path(url.removeprefix("hanging:///") + ".hang"))
    return engine
