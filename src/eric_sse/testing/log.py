"""What every `MessageLog` does."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import pytest

from eric_sse.engine import Engine
from eric_sse.exception import ChannelNotFound, EpochMismatch
from eric_sse.log import Append, Appended, MessageLog, NewEntry, Page, Retention, View
from eric_sse.testing.ids import ODD_IDS


def entries(*texts: str, receiver: str | None = None) -> list[NewEntry]:
    """New entries with these data."""
    return [NewEntry(text.encode(), receiver) for text in texts]


def texts(page: Page) -> list[str]:
    """The data of a page's entries."""
    return [entry.data.decode() for entry in page.entries]


class MessageLogSuite:
    """Logs: creating, appending, reading, dropping."""

    @pytest.fixture
    def log(self, engine: Engine) -> MessageLog:
        """The log to test, with a channel ``c`` that keeps everything."""
        engine.log.create("c", Retention(None, None))
        return engine.log

    def test_create_tells_who_won(self, log: MessageLog) -> None:
        """A log is created once, and keeps its epoch and retention when it is created again."""
        assert log.create("d", Retention(10, 0.1 + 0.2))
        head = log.heads(["d"])["d"]
        assert not log.create("d", Retention(20, None))
        assert log.heads(["d"]) == {"d": head}
        assert (head.trimmed, head.last, head.retention) == (0, 0, Retention(10, 0.1 + 0.2))

    def test_offsets_grow(self, log: MessageLog) -> None:
        """Each entry gets an offset larger than all before, and below 2**53."""
        first = log.append("c", entries("1", "2"))
        second = log.append("c", entries("3"))
        offsets = [0, *first.offsets, *second.offsets]
        assert all(a < b < 2**53 for a, b in pairwise(offsets))
        assert log.heads(["c"])["c"].last == offsets[-1]
        assert first.epoch == second.epoch == log.heads(["c"])["c"].epoch

    def test_bytes_come_back(self, log: MessageLog) -> None:
        """Data come back as they were, whatever bytes they are."""
        data = [b"", b"\0", bytes(range(256)), b'{"a":1}\n', "é".encode(), b"x" * 100_000]
        log.append("c", [NewEntry(one) for one in data])
        assert [entry.data for entry in log.read("c", 0, View.BROADCASTS, max_bytes=None).entries] == data

    def test_append_creates_no_log(self, log: MessageLog) -> None:
        """Appending to a channel without a log is an error, and still there is none."""
        with pytest.raises(ChannelNotFound):
            log.append("none", entries("1"))
        assert log.heads(["none"]) == {}

    def test_append_to_another_epoch(self, log: MessageLog) -> None:
        """Who knew the log before it was dropped and created anew is told, and stores nothing."""
        epoch = log.heads(["c"])["c"].epoch
        log.drop("c")
        log.create("c", Retention())
        assert log.heads(["c"])["c"].epoch != epoch
        with pytest.raises(EpochMismatch):
            log.append("c", entries("1"), epoch)
        assert texts(log.read("c", 0, View.EVERYTHING)) == []

    def test_group_fails_one_by_one(self, log: MessageLog) -> None:
        """In a group what fails fails alone, and the outcomes are in order."""
        epoch = log.heads(["c"])["c"].epoch
        outcomes = log.append_group(
            [
                Append("c", entries("1", "2"), epoch),
                Append("none", entries("x")),
                Append("c", entries("y"), "otherepoch"),
                Append("c", entries("3")),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [Appended, ChannelNotFound, EpochMismatch, Appended]
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["1", "2", "3"]

    def test_nothing_to_append(self, log: MessageLog) -> None:
        """No appends, and an append of no entries, come to nothing."""
        assert list(log.append_group([])) == []
        assert list(log.append("c", []).offsets) == []

    def test_large_group(self, log: MessageLog) -> None:
        """Thousands of entries of many channels in one group keep their order."""
        for number in range(3):
            log.create(f"large {number}", Retention())
        log.append_group([Append(f"large {n % 3}", entries(f"{n}", f"{n}+")) for n in range(1500)])
        for number in range(3):
            expected = [text for n in range(number, 1500, 3) for text in (f"{n}", f"{n}+")]
            assert texts(log.read(f"large {number}", 0, View.EVERYTHING, 5000)) == expected

    def test_views(self, log: MessageLog) -> None:
        """Listeners read the broadcasts and their own dispatches, merged by offset; nobody else's."""
        for text, receiver in (("1", None), ("2", "a"), ("3", "b"), ("4", None), ("5", "a")):
            log.append("c", entries(text, receiver=receiver))
        assert texts(log.read("c", 0, "a")) == ["1", "2", "4", "5"]
        assert texts(log.read("c", 0, "nobody")) == texts(log.read("c", 0, View.BROADCASTS)) == ["1", "4"]
        everything = log.read("c", 0, View.EVERYTHING)
        assert texts(everything) == ["1", "2", "3", "4", "5"]
        assert [entry.receiver for entry in everything.entries] == [None, "a", "b", None, "a"]

    def test_odd_ids_stay_apart(self, log: MessageLog) -> None:
        """Channels and receivers whose ids look alike are not the same."""
        for id_ in ODD_IDS:
            log.create(id_, Retention())
            log.append(id_, entries(f"in {id_}"))
            log.append("c", entries(f"for {id_}", receiver=id_))
        assert [texts(log.read(id_, 0, View.EVERYTHING)) for id_ in ODD_IDS] == [[f"in {id_}"] for id_ in ODD_IDS]
        assert [texts(log.read("c", 0, id_)) for id_ in ODD_IDS] == [[f"for {id_}"] for id_ in ODD_IDS]
        assert set(log.heads([*ODD_IDS, "none"])) == set(ODD_IDS)

    def test_read_by_pages(self, log: MessageLog) -> None:
        """Reading on from where each page ends gives everything once, and ends at the log's end."""
        log.append("c", [NewEntry(b"%d" % n, "b" if n % 3 == 0 else None) for n in range(20)])
        found, after = [], 0
        while True:
            page = log.read("c", after, "a", limit=4)
            found += texts(page)
            after = page.through
            if len(page.entries) < 4:  # noqa: PLR2004 - the limit
                break
        assert found == [str(n) for n in range(20) if n % 3]
        assert after == page.head.last

    def test_read_by_bytes(self, log: MessageLog) -> None:
        """A page ends with the entry with which it holds that many bytes, and has one at least."""
        log.append("c", entries("1" * 10, "2" * 10, "3" * 10))
        assert len(log.read("c", 0, View.EVERYTHING, max_bytes=1).entries) == 1
        page = log.read("c", 0, View.EVERYTHING, max_bytes=11)
        assert len(page.entries) == 2  # noqa: PLR2004 - eleven bytes of ten each
        assert texts(log.read("c", page.through, View.EVERYTHING, max_bytes=11)) == ["3" * 10]

    def test_read_beyond_the_end(self, log: MessageLog) -> None:
        """After the last offset, and after ones never given, there is nothing."""
        last = log.append("c", entries("1")).offsets[-1]
        assert log.read("c", last, "a").entries == log.read("c", last + 100, "a").entries == []
        assert log.read("c", last + 100, "a").through == last + 100

    def test_read_without_log(self, log: MessageLog) -> None:
        """Reading and counting where there is no log are errors."""
        for view in (View.EVERYTHING, View.BROADCASTS, "a"):
            with pytest.raises(ChannelNotFound):
                log.read("none", 0, view)
            with pytest.raises(ChannelNotFound):
                log.count("none", 0, view, 10)

    def test_count(self, log: MessageLog) -> None:
        """Counting counts what the view holds after an offset, and no further than the cap."""
        offsets = log.append("c", [NewEntry(b"", "a" if n % 2 else None) for n in range(10)]).offsets
        assert log.count("c", 0, View.EVERYTHING, 100) == log.count("c", 0, "a", 100) == 10  # noqa: PLR2004
        assert log.count("c", 0, View.BROADCASTS, 100) == log.count("c", 0, "b", 100) == 5  # noqa: PLR2004
        assert log.count("c", offsets[-2], "a", 100) == 1
        assert log.count("c", 0, "a", 3) == 3  # noqa: PLR2004

    def test_drop(self, log: MessageLog) -> None:
        """A dropped log is gone with what it held, also when it is created anew; dropping again does nothing."""
        log.append("c", [NewEntry(b"1", None, "key")])
        log.drop("c")
        log.drop("c")
        assert log.heads(["c"]) == {}
        log.create("c", Retention())
        assert texts(log.read("c", 0, View.EVERYTHING)) == []
        assert texts(_append_and_read(log, [NewEntry(b"2", None, "key")])) == ["2"]

    def test_key_makes_repeating_harmless(self, log: MessageLog) -> None:
        """An entry whose key is known answers the offset of the one stored before."""
        first = log.append("c", [NewEntry(b"1", None, "key"), NewEntry(b"2")])
        again = log.append("c", [NewEntry(b"1", None, "key"), NewEntry(b"3")])
        assert again.offsets[0] == first.offsets[0]
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["1", "2", "3"]

    def test_key_within_one_group(self, log: MessageLog) -> None:
        """A key repeated within an append, or a group, is known as well."""
        append = Append("c", [NewEntry(b"1", None, "key"), NewEntry(b"1", None, "key")])
        outcomes = log.append_group([append, append])
        offsets = [offset for outcome in outcomes if isinstance(outcome, Appended) for offset in outcome.offsets]
        assert (len(offsets), len(set(offsets))) == (4, 1)
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["1"]

    def test_keys_belong_to_channel_and_receiver(self, log: MessageLog) -> None:
        """The same key for another receiver, or in another channel, is another key."""
        log.create("d", Retention())
        log.append("c", [NewEntry(b"1", None, "key"), NewEntry(b"2", "a", "key"), NewEntry(b"3", "b", "key")])
        log.append("d", [NewEntry(b"4", None, "key")])
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["1", "2", "3"]
        assert texts(log.read("d", 0, View.EVERYTHING)) == ["4"]

    def test_threads(self, log: MessageLog) -> None:
        """Threads that append at once lose nothing, and who reads meanwhile never finds a smaller offset later."""
        seen = _read_until(log, 200, lambda n: log.append("c", entries(f"{n}")))
        assert len(seen) == 200  # noqa: PLR2004 - four threads of fifty
        assert all(a < b for a, b in pairwise(seen))


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


def _append_and_read(log: MessageLog, new: Sequence[NewEntry]) -> Page:
    log.append("c", new)
    return log.read("c", 0, View.EVERYTHING)


def _trim_until(log: MessageLog, removed: int) -> None:
    deadline = time.monotonic() + 10
    while removed > 0 and time.monotonic() < deadline:
        removed -= log.trim()
    assert removed == 0


def _read_until(log: MessageLog, count: int, append: Callable[[int], object]) -> list[int]:
    """Run four threads that append, and read on meanwhile until there are ``count`` entries."""

    def work(numbers: Iterable[int]) -> None:
        for number in numbers:
            append(number)

    threads = [threading.Thread(target=work, args=(range(n, count, 4),)) for n in range(4)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    after, deadline = 0, time.monotonic() + 30
    while len(seen) < count and time.monotonic() < deadline:
        page = log.read("c", after, View.EVERYTHING)
        seen += [entry.offset for entry in page.entries]
        after = page.through
    for thread in threads:
        thread.join()
    return seen
