"""An engine for the tests: a SQLite one that hangs on every read of a log while a FIFO is there.

``hanging:////path/to/events.db`` hangs while ``/path/to/events.db.hang`` exists, in an ``open()`` that no timeout ends.
"""

from pathlib import Path

from eric_sse.engine import Engine
from eric_sse.engines import open_engine
from eric_sse.log import MessageLog


class HangingLog(MessageLog):
    """A log whose every call may hang."""

    def __init__(self, log, fifo):
        self._log = log
        self._fifo = fifo

    def _hang(self):
        if self._fifo.exists():
            self._fifo.read_bytes()  # until somebody writes: nobody does

    def create(self, channel_id, retention):
        self._hang()
        return self._log.create(channel_id, retention)

    def append_group(self, appends):
        self._hang()
        return self._log.append_group(appends)

    def read(self, channel_id, after, view, limit=256, max_bytes=None):
        self._hang()
        return self._log.read(channel_id, after, view, limit, max_bytes)

    def heads(self, channel_ids):
        self._hang()
        return self._log.heads(channel_ids)

    def trim(self, limit=10_000):
        self._hang()
        return self._log.trim(limit)

    def drop(self, channel_id):
        self._hang()
        self._log.drop(channel_id)


def open_hanging(url: str) -> Engine:
    """Open the engine."""
    engine = open_engine(url.replace("hanging:", "sqlite:", 1))
    engine.log = HangingLog(engine.log, Path(url.removeprefix("hanging:///") + ".hang"))
    return engine
