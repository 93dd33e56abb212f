"""The SQLite engine keeps the promises of every engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eric_sse.engine import Engine
from eric_sse.engines import open_engine
from eric_sse.testing import (
    BatchKvStorageSuite,
    CursorsSuite,
    EngineTransactionSuite,
    KvStorageSuite,
    MessageLogSuite,
    NotifierSuite,
    SharedNotifierSuite,
    TransactionalKvStorageSuite,
    TrimSuite,
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine on a new file."""
    with open_engine(f"sqlite:///{tmp_path}/events.db") as engine:
        yield engine


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Engine]:
    """Another engine on the same file."""
    with open_engine(f"sqlite:///{tmp_path}/events.db") as engine:
        yield engine


class TestStorage(KvStorageSuite, BatchKvStorageSuite, TransactionalKvStorageSuite):
    """Storage."""


class TestLog(MessageLogSuite):
    """Log."""


class TestTrim(TrimSuite):
    """Retention."""


class TestCursors(CursorsSuite):
    """Cursors."""


class TestNotifier(NotifierSuite, SharedNotifierSuite):
    """Notifier."""


class TestTransactions(EngineTransactionSuite):
    """Transactions."""
