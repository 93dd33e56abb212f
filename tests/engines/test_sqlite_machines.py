"""The SQLite engine does what the memory engine does, whatever is done to both."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

from eric_sse.engine import Engine
from eric_sse.engines.sqlite import SqliteEngine
from eric_sse.engines.sqlite.database import Options
from eric_sse.testing.machines import BatchStorageMachine, EngineMachine, LogMachine, ReopeningMixin


class _OnSqlite(ReopeningMixin, EngineMachine):
    """Opens files in a folder of its own."""

    def open_engine(self) -> Engine:
        self._folder = tempfile.mkdtemp()
        return self.reopen_engine()

    def reopen_engine(self, engine: Engine | None = None) -> Engine:
        opened = SqliteEngine(Options(str(Path(self._folder, "events.db")), synchronous="normal"))
        # The model does not trim by the clock.
        opened._log._trimmer._next = float("inf")
        return opened

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self._folder)


class _SqliteStorageMachine(_OnSqlite, BatchStorageMachine):
    """Storage."""


class _SqliteLogMachine(_OnSqlite, LogMachine):
    """Log and cursors."""


TestStorage = _SqliteStorageMachine.TestCase
TestLog = _SqliteLogMachine.TestCase
TestStorage.settings = TestLog.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
