"""The suites, bundled by what an engine can do. Each is a class within the bundle, with fixtures of its own."""

from eric_sse.testing.cancellation import CancellationSuite
from eric_sse.testing.channels import ChannelsSuite
from eric_sse.testing.cursors import CursorsSuite
from eric_sse.testing.fixtures import StoreFixtures
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


class EngineSuite(StoreFixtures):
    """What every engine promises."""

    class TestStorage(KvStorageSuite):
        """Values, one by one."""

    class TestBatchStorage(BatchKvStorageSuite):
        """Values, many at once."""

    class TestLog(MessageLogSuite):
        """Logs."""

    class TestReading(ReadingSuite):
        """Reading them."""

    class TestDedup(DedupSuite):
        """Repeating harmlessly."""

    class TestTrim(TrimSuite):
        """Retention."""

    class TestCursors(CursorsSuite):
        """Cursors."""

    class TestNotifier(NotifierSuite):
        """Wake-ups."""

    class TestChannels(ChannelsSuite):
        """Channels."""

    class TestStreams(StreamsSuite):
        """Streams."""

    class TestService(ServiceSuite):
        """Publishing and streaming at once."""

    class TestCancellation(CancellationSuite):
        """Cancelled at any moment."""

    class TestModel(ModelSuite):
        """The memory engine as the model."""


class TransactionsSuite(StoreFixtures):
    """The power of transactions, which storage, log and cursors take part in."""

    class TestStorageTransactions(TransactionalKvStorageSuite):
        """Values in transactions."""

    class TestEngineTransactions(EngineTransactionSuite):
        """All of it in one transaction."""

    class TestTransactionalModel(TransactionalModelSuite):
        """The memory engine as the model."""


class PersistentSuite(StoreFixtures):
    """The power of outliving the process."""

    class TestReopening(ReopeningSuite):
        """Closed, and opened again."""

    class TestCrash(CrashSuite):
        """Killed."""

    class TestReopenedModel(ReopenedModelSuite):
        """The memory engine as the model, which is never closed."""


class SharedSuite(StoreFixtures):
    """The power of serving several engines and processes at once."""

    class TestSharedStore(SharedStoreSuite):
        """Two engines."""

    class TestTwoProcesses(TwoProcessesSuite):
        """Two processes."""

    class TestSharedNotifier(SharedNotifierSuite):
        """Wake-ups of others."""
