"""A signal handler's exception, such as that of a time limit, comes at any moment: nothing is left half done."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eric_sse.engines.sqlite import SqliteEngine, open_sqlite
from eric_sse.exception import OutcomeUnknown
from eric_sse.log import NewEntry, Retention, View
from tests.support.sqlite_locks import locked_for, thread_in_a_transaction


class TimeLimit(Exception):
    """It was exceeded."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    """An engine on a new file, with a channel ``c`` that holds a message."""
    with open_sqlite(f"sqlite:///{tmp_path}/a.db") as engine:
        engine.log.create("c", Retention(None, None))
        engine.log.append("c", [NewEntry(b"1")])
        yield engine


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeLimit` in this thread, the main one, after so long."""

    def exceed(*_: object) -> None:
        raise TimeLimit

    previous = signal.signal(signal.SIGALRM, exceed)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def texts(engine: SqliteEngine) -> list[bytes]:
    """What the channel holds."""
    return [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries]


def test_while_a_transaction_waits_to_begin(engine: SqliteEngine, tmp_path: Path):
    """It does not stay open: what is stored afterwards is stored, and others can write."""
    with locked_for(tmp_path / "a.db", 0.2), pytest.raises(TimeLimit), time_limit(0.05):
        engine.cursors.create("c", ["l"])
    engine.log.append("c", [NewEntry(b"2")])
    with open_sqlite(f"sqlite:///{tmp_path}/a.db?busy_timeout_ms=100") as other:
        other.log.append("c", [NewEntry(b"3")])
        assert texts(other) == [b"1", b"2", b"3"]


def test_while_it_waits_for_its_turn(engine: SqliteEngine):
    """An append that was given up is not stored by the next one."""
    with thread_in_a_transaction(engine), pytest.raises(TimeLimit), time_limit(0.05):
        engine.log.append("c", [NewEntry(b"given up")])
    engine.log.append("c", [NewEntry(b"2")])
    assert texts(engine) == [b"1", b"2"]


def test_while_it_stores_for_others(engine: SqliteEngine, tmp_path: Path):
    """Those for whom the interrupted thread was storing are told that nobody knows; here it was stored."""
    told: list[object] = []

    def append() -> None:
        with pytest.raises(OutcomeUnknown, match="interrupted") as caught:
            engine.log.append("c", [NewEntry(b"another thread's")])
        told.append(caught.value)

    def append_both() -> None:
        with engine._database.turn:  # so that both wait, and the main thread has it first
            thread.start()
            while not engine.log._waiting:
                pass
            engine.log.append("c", [NewEntry(b"2")])

    thread = threading.Thread(target=append)
    with locked_for(tmp_path / "a.db", 0.4), time_limit(0.2), pytest.raises(TimeLimit):
        append_both()
    thread.join(10)
    assert (len(told), sorted(texts(engine))) == (1, [b"1", b"2", b"another thread's"])
