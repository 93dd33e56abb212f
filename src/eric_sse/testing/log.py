"""What every `MessageLog` does: logs created, appended to, and dropped."""

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from eric_sse.engine import Engine
from eric_sse.exception import ChannelNotFound, EpochMismatch
from eric_sse.log import Append, Appended, MessageLog, NewEntry, Page, Retention, View
from eric_sse.message import Position
from eric_sse.testing.ids import ASCII_IDS, ODD_IDS


def entries(*texts: str, receiver: str | None = None) -> list[NewEntry]:
    """New entries with these data."""
    return [NewEntry(text.encode(), receiver) for text in texts]


def texts(page: Page) -> list[str]:
    """The data of a page's entries."""
    return [entry.data.decode() for entry in page.entries]


def in_threads(works: Sequence[Callable[[], object]]) -> None:
    """Do all of it at once, each in a thread of its own, and raise what any of them raised."""
    start = threading.Barrier(len(works))
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        start.wait()
        try:
            work()
        except BaseException as failure:  # noqa: BLE001 - raised below
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def log_with_channel(engine: Engine) -> MessageLog:
    """The engine's log, with a channel ``c`` that keeps everything."""
    engine.log.create("c", Retention(None, None))
    return engine.log


class MessageLogSuite:
    """Logs: creating, appending, dropping."""

    @pytest.fixture
    def log(self, engine: Engine) -> MessageLog:
        """The log to test, with a channel ``c`` that keeps everything."""
        return log_with_channel(engine)

    def test_create_tells_who_won(self, log: MessageLog) -> None:
        """A log is created once, and keeps its epoch and retention when it is created again."""
        assert log.create("d", Retention(10, 0.1 + 0.2))
        head = log.heads(["d"])["d"]
        assert not log.create("d", Retention(20, None))
        assert log.heads(["d"]) == {"d": head}
        assert (head.trimmed, head.last, head.retention) == (0, 0, Retention(10, 0.1 + 0.2))

    def test_one_creates(self, log: MessageLog) -> None:
        """Of threads that create the same log at once, one is told that it did, and all find the same epoch."""
        outcomes: list[tuple[int, bool, str]] = []

        def create() -> None:
            for number in range(10):
                created = log.create(f"new {number}", Retention())
                outcomes.append((number, created, log.heads([f"new {number}"])[f"new {number}"].epoch))

        in_threads([create] * 4)
        assert sum(created for _, created, _ in outcomes) == 10  # noqa: PLR2004 - one each
        assert len({(number, epoch) for number, _, epoch in outcomes}) == 10  # noqa: PLR2004

    def test_epochs_are_marks(self, log: MessageLog) -> None:
        """An epoch is never used again, and fits into the ids of messages."""
        epochs = set()
        for _ in range(5):
            log.drop("c")
            log.create("c", Retention())
            epochs.add(log.heads(["c"])["c"].epoch)
        assert len(epochs) == 5  # noqa: PLR2004
        for epoch in epochs:
            assert Position.parse(str(Position(epoch, 1))) == Position(epoch, 1)

    def test_heads_of_many(self, log: MessageLog) -> None:
        """Where thousands of logs stand is found out at once; those that are not there are left out."""
        for number in range(20):
            log.create(f"there {number}", Retention())
        asked = [f"{what} {number}" for number in range(5000) for what in ("there", "missing")]
        assert set(log.heads(asked)) == {f"there {number}" for number in range(20)}
        assert log.heads([]) == {}

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

    def test_large_entries(self, log: MessageLog) -> None:
        """A megabyte of data is stored and read like anything else."""
        data = bytes(range(256)) * 4096
        log.append("c", [NewEntry(data), NewEntry(b"small", "a"), NewEntry(data[::-1], "a")])
        found = [entry.data for entry in log.read("c", 0, "a", max_bytes=None).entries]
        assert found == [data, b"small", data[::-1]]
        assert len(log.read("c", 0, "a").entries) == 1

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
        (outcome,) = log.append_group([Append("c", [NewEntry(b"2", "a", "key")], epoch)])
        assert isinstance(outcome, EpochMismatch)
        assert texts(log.read("c", 0, View.EVERYTHING)) == []
        assert log.heads(["c"])["c"].last == 0

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

    def test_previous(self, log: MessageLog) -> None:
        """An append tells the largest offset given before, by others and in its own group, or that it cannot tell."""
        first, second = log.append_group([Append("c", entries("1", "2")), Append("c", entries("3"))])
        third = log.append("c", [NewEntry(b"4", None, "key")])
        again = log.append("c", [NewEntry(b"4", None, "key"), NewEntry(b"5")])
        expected = [0, *(appended.offsets[-1] for appended in (first, second, third) if isinstance(appended, Appended))]
        told = [appended.previous for appended in (first, second, third, again) if isinstance(appended, Appended)]
        assert told in (expected, [None] * 4)

    def test_large_group(self, log: MessageLog) -> None:
        """Thousands of entries of many channels in one group keep their order."""
        for number in range(3):
            log.create(f"large {number}", Retention())
        log.append_group([Append(f"large {n % 3}", entries(f"{n}", f"{n}+")) for n in range(1500)])
        for number in range(3):
            expected = [text for n in range(number, 1500, 3) for text in (f"{n}", f"{n}+")]
            assert texts(log.read(f"large {number}", 0, View.EVERYTHING, 5000)) == expected

    @pytest.mark.parametrize("odd_ids", [ODD_IDS, ASCII_IDS], ids=["odd", "ascii"])
    def test_odd_ids_stay_apart(self, log: MessageLog, odd_ids: Sequence[str]) -> None:
        """Channels and receivers whose ids look alike are not the same."""
        for id_ in odd_ids:
            log.create(id_, Retention())
        log.append_group([Append(id_, entries(f"in {id_}")) for id_ in odd_ids])
        log.append_group([Append("c", entries(f"for {id_}", receiver=id_)) for id_ in odd_ids])
        assert [texts(log.read(id_, 0, View.EVERYTHING)) for id_ in odd_ids] == [[f"in {id_}"] for id_ in odd_ids]
        assert [texts(log.read("c", 0, id_)) for id_ in odd_ids] == [[f"for {id_}"] for id_ in odd_ids]
        assert set(log.heads([*odd_ids, "none"])) == set(odd_ids)
        for id_ in odd_ids[::2]:
            log.drop(id_)
        assert set(log.heads(odd_ids)) == set(odd_ids[1::2])

    def test_drop(self, log: MessageLog) -> None:
        """A dropped log is gone with what it held, also when it is created anew; dropping again does nothing."""
        log.append("c", [NewEntry(b"1", None, "key")])
        log.drop("c")
        log.drop("c")
        assert log.heads(["c"]) == {}
        log.create("c", Retention())
        assert texts(log.read("c", 0, View.EVERYTHING)) == []
        log.append("c", [NewEntry(b"2", None, "key")])
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["2"]


class DedupSuite:
    """Logs: keys, which make repeating harmless."""

    @pytest.fixture
    def log(self, engine: Engine) -> MessageLog:
        """The log to test, with a channel ``c`` that keeps everything."""
        return log_with_channel(engine)

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

    def test_key_across_groups_and_receivers(self, log: MessageLog) -> None:
        """Known and new keys may be mixed in one append, for several receivers, in any order."""
        first = log.append("c", [NewEntry(b"1", "a", "x"), NewEntry(b"2", None, "x"), NewEntry(b"3", "a", "y")]).offsets
        mixed = [
            *(NewEntry(b"4", "b", "x"), NewEntry(b"5", "a", "y"), NewEntry(b"6")),
            *(NewEntry(b"7", None, "x"), NewEntry(b"8", "a", "x"), NewEntry(b"9", None, "y")),
        ]
        again = log.append("c", mixed).offsets
        assert [again[1], again[3], again[4]] == [first[2], first[1], first[0]]
        assert first[-1] < again[0] < again[2] < again[5]
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["1", "2", "3", "4", "6", "9"]

    def test_key_of_what_failed(self, log: MessageLog) -> None:
        """The key of an entry that was refused is not known: repeating stores it."""
        with pytest.raises(EpochMismatch):
            log.append("c", [NewEntry(b"1", None, "key")], "otherepoch")
        log.append("c", [NewEntry(b"1", None, "key")])
        assert texts(log.read("c", 0, View.EVERYTHING)) == ["1"]

    def test_odd_keys(self, log: MessageLog) -> None:
        """Keys are any text: those that look alike are not the same."""
        keyed = [NewEntry(key.encode(), None, key) for key in (*ODD_IDS, *ASCII_IDS, "", "a\0", "a\0b")]
        first = log.append("c", keyed).offsets
        assert len(set(first)) == len(keyed)
        assert list(log.append("c", keyed).offsets) == list(first)
