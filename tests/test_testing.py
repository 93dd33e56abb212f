"""The conformance suites find what an engine does wrong."""

from functools import partial

import pytest

from eric_sse.engines import open_engine
from eric_sse.testing import cancellation, leaks, notifier, processes
from support import broken_engines

pytest_plugins = ["pytester"]

MODULE = """
import pytest
from functools import partial
from hypothesis import Phase, settings
import eric_sse.testing as kit
from support import broken_engines
class TestBroken(kit.StoreFixtures, kit.{suite}):
    @pytest.fixture
    def new_store(self, tmp_path):
        return lambda: {opener}
    @pytest.fixture
    def machine_settings(self):
        # What was found is not made smaller: that takes its time.
        return settings(kit.MACHINE_SETTINGS, phases=[Phase.generate], database=None, derandomize=True)
"""
BROKEN = [
    ("CreatesLogs", "MessageLogSuite", "test_append_creates_no_log"),
    ("CreatesLogs", "ChannelsSuite", "test_deleted"),
    ("CreatesLogs", "ServiceSuite", "test_deleted"),
    ("IgnoresEpochs", "MessageLogSuite", "test_append_to_another_epoch"),
    ("IgnoresEpochs", "ChannelsSuite", "test_not_resurrected"),
    ("ForgetsKeys", "DedupSuite", "test_key_makes_repeating_harmless"),
    ("ForgetsKeys", "ServiceSuite", "test_same_id_again"),
    ("AppendsTwice", "CancellationSuite", "test_publishing"),
    ("ShowsOffsetsLate", "ReadingSuite", "test_page_is_of_one_moment"),
    ("ReadsNotThrough", "ReadingSuite", "test_through"),
    ("CutsByBytesAlone", "ReadingSuite", "test_read_by_pages"),
    ("TrimsTooMuch", "TrimSuite", "test_by_count"),
    ("TrimsTooMuch", "ModelSuite", "test_log"),
    ("GoesBack", "CursorsSuite", "test_never_back"),
    ("GoesBack", "StreamsSuite", "test_explicit_acknowledgement"),
    ("LetsBothWin", "CursorsSuite", "test_one_competitor_wins"),
    ("LetsBothWin", "ChannelsSuite", "test_pops_compete"),
    ("StartsAtTheBeginning", "CursorsSuite", "test_created_at_the_end"),
    ("StartsAtTheBeginning", "ModelSuite", "test_log"),
    ("CountsNoRemovals", "CursorsSuite", "test_removals_are_counted"),
    ("Globs", "KvStorageSuite", "test_prefix_is_literal"),
    ("UndoesNothing", "TransactionalKvStorageSuite", "test_rollback"),
    ("ActsAtOnce", "TransactionalKvStorageSuite", "test_after_commit"),
    ("ActsAnyway", "TransactionalKvStorageSuite", "test_not_after_rollback"),
    ("UndoesNothing", "EngineTransactionSuite", "test_rollback_together"),
    ("UndoesNothing", "TransactionalModelSuite", "test_storage"),
    ("StoresOneByOne", "BatchKvStorageSuite", "test_upsert_many_all_or_none"),
    ("WakesNobody", "NotifierSuite", "test_wakes_everybody"),
    ("FailsWithCallbacks", "NotifierSuite", "test_failing_callback"),
    ("LeavesThread", "KvStorageSuite", "test_delete_twice"),
    ("LeavesFile", "KvStorageSuite", "test_delete_twice"),
    ("ClosesSlowly", "CancellationSuite", "test_closing"),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """What does not come is not waited for long."""
    monkeypatch.setattr(leaks, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(notifier, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(cancellation, "PROMPTLY_S", 0.2)


def outcomes(pytester, suite, test, opener):
    """How a suite's test ends on an engine: how many passed and failed."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    path = pytester.makepyfile(MODULE.format(suite=suite, opener=opener))
    run = pytester.inline_run(path, "-k", test, "-p", "no:cacheprovider", "-p", "no:randomly")
    passed, skipped, failed = run.listoutcomes()
    assert not skipped
    return len(passed), [report.longreprtext for report in failed]


@pytest.mark.parametrize(("engine", "suite", "test"), BROKEN)
def test_broken_engines_fail(pytester, engine, suite, test):
    """Each broken promise is found by the test that is about it."""
    assert outcomes(pytester, suite, test, f"broken_engines.opener({engine!r})")[1]


def test_a_leak_is_named(pytester):
    """A thread that is left has its name in the message."""
    _, (failure,) = outcomes(pytester, "KvStorageSuite", "test_delete_twice", "broken_engines.opener('LeavesThread')")
    assert "close() left behind: thread left" in failure


def test_what_a_crash_loses_is_found(pytester):
    """An engine that says too early that something is stored is found out by killing it."""
    opener = "partial(broken_engines.open_late, str(tmp_path / 'a.db'))"
    assert outcomes(pytester, "CrashSuite", "test_what_was_stored_is_there", opener)[1]


@pytest.mark.parametrize("suite", ["SharedStoreSuite", "ReopeningSuite"])
def test_powers_that_are_not_there_are_found(pytester, suite):
    """The memory engine is neither shared nor persistent: no test of these powers passes but what holds anyhow."""
    passed, failed = outcomes(pytester, suite, "test_", "broken_engines.opener('Engine')")
    assert len(failed) > passed


def test_a_good_engine_passes(pytester):
    """The same way, the memory engine as it is passes."""
    assert outcomes(pytester, "CursorsSuite", "test_", "broken_engines.opener('Engine')")[1] == []


def test_failures_elsewhere_are_shown():
    """What another process raises is in the message."""
    with pytest.raises(AssertionError, match="something went wrong there"):
        processes.run_at_once(partial(open_engine, "memory://"), [(broken_engines.fail,)])


def test_openers_that_fail_elsewhere_are_shown(tmp_path):
    """So is what opening the engine there raises."""
    with pytest.raises(AssertionError, match="no known scheme"):
        processes.run_at_once(partial(open_engine, "none://"), [(broken_engines.fail,)])


def test_processes_that_hang_are_not_waited_for(monkeypatch):
    """Who reports nothing fails the test, after some time, and is killed."""
    with processes.worker(partial(open_engine, "memory://"), broken_engines.fail) as other:
        monkeypatch.setattr(processes, "PATIENCE_S", 0.2)
        with pytest.raises(AssertionError, match="reported nothing"):
            other.report()
        monkeypatch.undo()
