"""The memory engine keeps the promises of every engine."""

from collections.abc import Iterator

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
    TransactionalKvStorageSuite,
    TrimSuite,
)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An empty engine."""
    with open_engine("memory://") as engine:
        yield engine


class TestStorage(KvStorageSuite, BatchKvStorageSuite, TransactionalKvStorageSuite):
    """Storage."""


class TestLog(MessageLogSuite):
    """Log."""


class TestTrim(TrimSuite):
    """Retention."""


class TestCursors(CursorsSuite):
    """Cursors."""


class TestNotifier(NotifierSuite):
    """Notifier."""


class TestTransactions(EngineTransactionSuite):
    """Transactions."""
