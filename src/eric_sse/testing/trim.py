"""What every `MessageLog` does: retention."""

import time

import pytest

from eric_sse.engine import Engine
from eric_sse.log import Append, CursorKey, MessageLog, NewEntry, Retention, View
from eric_sse.testing.log import entries, texts


class TrimSuite:
    """Logs: retention."""

    @pytest.fixture
    def log(self, engine: Engine) -> MessageLog:
        """The log to test."""
        return engine.log

    def test_by_count(self, log: MessageLog) -> None:
        """The last ones stay, broadcasts and dispatches counted together."""
        log.create("c", Retention(3, None))
        offsets = log.append("c", [NewEntry(b"%d" % n, "a" if n % 2 else None) for n in range(10)]).offsets
        assert log.trim() == 7  # noqa: PLR2004 - ten without three
        page = log.read("c", 0, View.EVERYTHING)
        assert texts(page) == ["7", "8", "9"]
        assert texts(log.read("c", 0, "a")) == ["7", "8", "9"]
        assert (page.head.trimmed, page.head.last) == (offsets[6], offsets[9])
        assert log.trim() == 0

    def test_by_age(self, log: MessageLog) -> None:
        """What is too old goes, though its number would be kept."""
        log.create("c", Retention(None, 0.001))
        last = log.append("c", entries("1", "2")).offsets[-1]
        _trim_until(log, 2)
        head = log.heads(["c"])["c"]
        assert (head.trimmed, head.last) == (last, last)

    def test_either_bound_trims(self, log: MessageLog) -> None:
        """The stricter of the two bounds decides."""
        log.create("c", Retention(2, 3600))
        log.append("c", entries("1", "2", "3"))
        log.trim()
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["2", "3"]

    def test_what_is_kept(self, log: MessageLog) -> None:
        """Retention is a lower bound: what it keeps is never trimmed."""
        log.create("c", Retention(3, 3600))
        log.create("d", Retention(None, None))
        log.append_group([Append("c", entries("1", "2", "3")), Append("d", entries("4"))])
        assert log.trim() == 0
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["1", "2", "3"]

    def test_bounded(self, log: MessageLog) -> None:
        """A call removes about as many as it may, the oldest; calling again goes on."""
        log.create("c", Retention(1, None))
        log.append("c", entries(*map(str, range(30))))
        assert log.trim(10) == 10  # noqa: PLR2004
        assert texts(log.read("c", 0, View.EVERYTHING)) == [str(n) for n in range(10, 30)]
        assert log.trim(10) + log.trim(10) == 19  # noqa: PLR2004

    def test_offsets_are_not_given_again(self, log: MessageLog) -> None:
        """After everything was trimmed, offsets go on growing."""
        log.create("c", Retention(None, 0.001))
        before = log.append("c", entries("1", "2")).offsets[-1]
        _trim_until(log, 2)
        assert log.append("c", entries("3")).offsets[0] > before

    def test_key_outlives_its_message(self, log: MessageLog) -> None:
        """A key is remembered for its window, also where the message is trimmed."""
        log.create("c", Retention(1, None))
        first = log.append("c", [NewEntry(b"1", None, "key"), NewEntry(b"2")])
        log.trim()
        assert log.append("c", [NewEntry(b"1", None, "key")]).offsets[0] == first.offsets[0]
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["2"]

    def test_boundary(self, log: MessageLog) -> None:
        """Who has seen just what was trimmed misses nothing, and reads all that is kept."""
        log.create("c", Retention(4, None))
        offsets = log.append("c", [NewEntry(b"%d" % n, "a" if n % 2 else None) for n in range(9)]).offsets
        log.trim()
        head = log.heads(["c"])["c"]
        assert (head.trimmed, head.last) == (offsets[4], offsets[8])
        for after in (0, head.trimmed):
            assert texts(log.read("c", after, View.EVERYTHING)) == ["5", "6", "7", "8"]
            assert texts(log.read("c", after, "b")) == ["6", "8"]
            assert log.count("c", after, "a", 100) == 4  # noqa: PLR2004

    def test_much(self, log: MessageLog) -> None:
        """Thousands of messages of several logs go in a few calls, and the rest is untouched."""
        for name in "abc":
            log.create(name, Retention(10, None))
            log.append(name, [NewEntry(b"%d" % n, "l" if n % 2 else None) for n in range(1000)])
        _trim_until(log, 3 * 990)
        for name in "abc":
            assert texts(log.read(name, 0, View.EVERYTHING)) == [str(n) for n in range(990, 1000)]
        assert log.trim() == 0

    def test_dropped_logs(self, log: MessageLog) -> None:
        """What was due in a log that was dropped is not taken from the one created anew."""
        log.create("c", Retention(None, 0.001))
        log.append("c", entries("1", "2"))
        log.drop("c")
        assert log.trim() == 0
        log.create("c", Retention(None, 3600))
        log.append("c", entries("3", "4"))
        assert log.trim() == 0
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["3", "4"]

    def test_cursors_stay(self, engine: Engine, log: MessageLog) -> None:
        """Cursors stay where they are, also where what follows them is gone; new ones start at the end."""
        log.create("c", Retention(None, 0.001))
        engine.cursors.create("c", ["l"])
        before = engine.cursors.get([CursorKey("c", "l")])
        last = log.append("c", entries("1", "2")).offsets[-1]
        _trim_until(log, 2)
        assert engine.cursors.get([CursorKey("c", "l")]) == before
        engine.cursors.create("c", ["m"])
        assert engine.cursors.get([CursorKey("c", "m")])[CursorKey("c", "m")].offset == last


def _trim_until(log: MessageLog, removed: int) -> None:
    deadline = time.monotonic() + 10
    while removed > 0 and time.monotonic() < deadline:
        removed -= log.trim()
    assert removed == 0
