"""Whatever is done to an engine and to the memory engine, at random, the same comes of it.

How long that is tried the fixture ``machine_settings`` says: by default twenty times, in up to thirty steps each.
"""

from functools import partial

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from eric_sse.testing.fixtures import NewStore
from eric_sse.testing.log_machines import LogMachine, TransactionalLogMachine
from eric_sse.testing.machines import EngineMachine, ReopeningMixin, StorageMachine, TransactionalStorageMachine


def _run(machine: type[EngineMachine], new_store: NewStore, how_long: settings) -> None:
    run_state_machine_as_test(partial(machine, new_store), settings=how_long)  # type: ignore[arg-type]  # a factory


class ModelSuite:
    """An engine does what the memory engine does."""

    def test_storage(self, new_store: NewStore, machine_settings: settings) -> None:
        """Values stored, deleted and looked for."""
        _run(StorageMachine, new_store, machine_settings)

    def test_log(self, new_store: NewStore, machine_settings: settings) -> None:
        """Logs appended to, read, trimmed and dropped, and their cursors."""
        _run(LogMachine, new_store, machine_settings)


class TransactionalModelSuite:
    """It does so, too, in transactions, kept and rolled back."""

    def test_storage(self, new_store: NewStore, machine_settings: settings) -> None:
        """Values."""
        _run(TransactionalStorageMachine, new_store, machine_settings)

    def test_log(self, new_store: NewStore, machine_settings: settings) -> None:
        """Logs and cursors."""
        _run(TransactionalLogMachine, new_store, machine_settings)


class _ReopenedStorage(ReopeningMixin, StorageMachine):
    """Values, and an engine that is closed, or left as by a crash, and opened again."""


class _ReopenedLog(ReopeningMixin, LogMachine):
    """Logs and cursors, and such an engine."""


class ReopenedModelSuite:
    """It does so, too, where it is closed, or left as by a crash, and opened again in between."""

    def test_storage(self, new_store: NewStore, machine_settings: settings) -> None:
        """Values."""
        _run(_ReopenedStorage, new_store, machine_settings)

    def test_log(self, new_store: NewStore, machine_settings: settings) -> None:
        """Logs and cursors."""
        _run(_ReopenedLog, new_store, machine_settings)
