"""Conformance suites: what every storage engine promises, as tests that anyone can run against their own.

Needs the extra ``eric-sse[testing]``. An engine's test file is one class and one fixture. The class is made of bundles:
`EngineSuite` is for every engine, the others are for what only some can do. The fixture ``new_store`` is a callable:
each time it is called, it makes a fresh, empty store and gives what opens it. That is a callable without arguments that
returns an `Engine`, on the same store each time where the engine can. It pickles, for other processes call it, too.

Example:
    >>> class TestMine(EngineSuite, TransactionsSuite, PersistentSuite, SharedSuite):  # doctest: +SKIP
    ...     @pytest.fixture
    ...     def new_store(self, tmp_path):
    ...         return lambda: partial(open_engine, f"mine:///{tmp_path}/{uuid4()}")

A bundle holds suites: classes of tests of one port or subject. One can be used alone, together with `StoreFixtures`.
"""

from eric_sse.testing.bundles import EngineSuite, PersistentSuite, SharedSuite, TransactionsSuite
from eric_sse.testing.cancellation import CancellationSuite
from eric_sse.testing.channels import ChannelsSuite
from eric_sse.testing.cursors import CursorsSuite
from eric_sse.testing.fixtures import MACHINE_SETTINGS, NewStore, Opener, StoreFixtures
from eric_sse.testing.ids import ASCII_IDS, ODD_IDS
from eric_sse.testing.log import DedupSuite, MessageLogSuite
from eric_sse.testing.model import ModelSuite, ReopenedModelSuite, TransactionalModelSuite
from eric_sse.testing.notifier import NotifierSuite, SharedNotifierSuite
from eric_sse.testing.persistence import CrashSuite, ReopeningSuite
from eric_sse.testing.reading import ReadingSuite
from eric_sse.testing.service import ServiceSuite
from eric_sse.testing.sharing import SharedStoreSuite
from eric_sse.testing.storage import BatchKvStorageSuite, KvStorageSuite, TransactionalKvStorageSuite
from eric_sse.testing.streams import StreamsSuite
from eric_sse.testing.transactions import EngineTransactionSuite
from eric_sse.testing.trim import TrimSuite
from eric_sse.testing.two_processes import TwoProcessesSuite

__all__ = [
    "ASCII_IDS",
    "MACHINE_SETTINGS",
    "ODD_IDS",
    "BatchKvStorageSuite",
    "CancellationSuite",
    "ChannelsSuite",
    "CrashSuite",
    "CursorsSuite",
    "DedupSuite",
    "EngineSuite",
    "EngineTransactionSuite",
    "KvStorageSuite",
    "MessageLogSuite",
    "ModelSuite",
    "NewStore",
    "NotifierSuite",
    "Opener",
    "PersistentSuite",
    "ReadingSuite",
    "ReopenedModelSuite",
    "ReopeningSuite",
    "ServiceSuite",
    "SharedNotifierSuite",
    "SharedStoreSuite",
    "SharedSuite",
    "StoreFixtures",
    "StreamsSuite",
    "TransactionalKvStorageSuite",
    "TransactionalModelSuite",
    "TransactionsSuite",
    "TrimSuite",
    "TwoProcessesSuite",
]
