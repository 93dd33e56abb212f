"""Conformance suites: what every storage engine promises, as tests that anyone can run against their own.

Needs the extra ``eric-sse[testing]``. A suite is a class of pytest tests that asks for a fixture ``engine``, which
gives an empty engine and closes it; powers that only some engines have are classes of their own.

Example:
    >>> class TestMyStorage(KvStorageSuite, BatchKvStorageSuite):  # doctest: +SKIP
    ...     @pytest.fixture
    ...     def engine(self):
    ...         with open_engine("mine://") as engine:
    ...             yield engine
"""

from eric_sse.testing.cursors import CursorsSuite
from eric_sse.testing.ids import ODD_IDS
from eric_sse.testing.log import MessageLogSuite, TrimSuite
from eric_sse.testing.notifier import NotifierSuite, SharedNotifierSuite
from eric_sse.testing.storage import BatchKvStorageSuite, KvStorageSuite, TransactionalKvStorageSuite
from eric_sse.testing.transactions import EngineTransactionSuite

__all__ = [
    "ODD_IDS",
    "BatchKvStorageSuite",
    "CursorsSuite",
    "EngineTransactionSuite",
    "KvStorageSuite",
    "MessageLogSuite",
    "NotifierSuite",
    "SharedNotifierSuite",
    "TransactionalKvStorageSuite",
    "TrimSuite",
]
