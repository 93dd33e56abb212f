"""What every `MessageLog` does: logs read, as a whole and by their views."""

import threading
import time
from collections.abc import Sequence

import pytest

from eric_sse.engine import Engine
from eric_sse.exception import ChannelNotFound
from eric_sse.log import Entry, MessageLog, NewEntry, Page, View
from eric_sse.testing.log import entries, log_with_channel, texts

_PATIENCE_S = 10


class ReadingSuite:
    """Logs: reading, by views and pages, while others append."""

    @pytest.fixture
    def log(self, engine: Engine) -> MessageLog:
        """The log to test, with a channel ``c`` that keeps everything."""
        return log_with_channel(engine)

    def test_unknown_receivers(self, log: MessageLog) -> None:
        """A dispatch is stored whether its receiver is known or not: who may send is decided elsewhere."""
        log.append("c", entries("1", receiver="nobody yet"))
        assert texts(log.read("c", 0, "nobody yet")) == ["1"]

    def test_views(self, log: MessageLog) -> None:
        """Listeners read the broadcasts and their own dispatches, merged by offset; nobody else's."""
        for text, receiver in (("1", None), ("2", "a"), ("3", "b"), ("4", None), ("5", "a")):
            log.append("c", entries(text, receiver=receiver))
        assert texts(log.read("c", 0, "a")) == ["1", "2", "4", "5"]
        assert texts(log.read("c", 0, "nobody")) == texts(log.read("c", 0, View.BROADCASTS)) == ["1", "4"]
        everything = log.read("c", 0, View.EVERYTHING)
        assert texts(everything) == ["1", "2", "3", "4", "5"]
        assert [entry.receiver for entry in everything.entries] == [None, "a", "b", None, "a"]

    def test_read_by_pages(self, log: MessageLog) -> None:
        """Reading on from where each page ends gives everything once, and ends at the log's end."""
        log.append("c", [NewEntry(b"%d" % n, "b" if n % 3 == 0 else None) for n in range(20)])
        found, after = [], 0
        while True:
            page = log.read("c", after, "a", limit=4)
            assert len(page.entries) <= 4  # noqa: PLR2004 - the limit
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
        assert [*log.read("c", last, "a").entries, *log.read("c", last + 100, "a").entries] == []
        assert log.read("c", last + 100, "a").through == last + 100

    def test_read_without_log(self, log: MessageLog) -> None:
        """Reading and counting where there is no log are errors."""
        for view in (View.EVERYTHING, View.BROADCASTS, "a"):
            with pytest.raises(ChannelNotFound):
                log.read("none", 0, view)
            with pytest.raises(ChannelNotFound):
                log.count("none", 0, view, 10)

    def test_through(self, log: MessageLog) -> None:
        """A page says up to where it is complete: a full one to its last entry, else the log's end."""
        offsets = log.append("c", [NewEntry(b"", "b" if n > 4 else None) for n in range(10)]).offsets  # noqa: PLR2004
        assert log.read("c", 0, View.BROADCASTS).through == offsets[-1]
        assert log.read("c", 0, "nobody", limit=3).through == offsets[2]
        others_only = log.read("c", offsets[4], "nobody", limit=3)
        assert (others_only.head, list(others_only.entries)) == (log.heads(["c"])["c"], [])
        assert others_only.through == offsets[-1]
        full = log.read("c", 0, View.EVERYTHING, limit=10)
        assert (len(full.entries), full.through) == (10, offsets[-1])

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    def test_merged_by_pages(self, log: MessageLog, limit: int) -> None:
        """However pages are cut, a listener's broadcasts and dispatches are merged without loss or repeat."""
        pattern = "aab..ba.b.a..aaa...bbb...a.b"
        log.append("c", [NewEntry(b"%d" % n, None if who == "." else who) for n, who in enumerate(pattern)])
        found: list[str] = []
        page = log.read("c", 0, "a", limit, 5)
        while page.through < page.head.last or page.entries:
            found += texts(page)
            page = log.read("c", page.through, "a", limit, 5)
        assert found == [str(n) for n, who in enumerate(pattern) if who != "b"]

    def test_page_is_of_one_moment(self, log: MessageLog) -> None:
        """While others append, what a page says of the log and what it holds fit together."""
        log.append("c", [NewEntry(b"", "a"), NewEntry(b"")])
        stop = threading.Event()

        def append() -> None:
            while not stop.is_set():
                log.append("c", [NewEntry(b"", "a"), NewEntry(b"")])

        thread = threading.Thread(target=append)
        thread.start()
        try:
            pages = _different_pages(log, 20)
        finally:
            stop.set()
            thread.join()
        for page in pages:
            assert len(page.entries) % 2 == 0
            assert page.through == page.head.last == max((entry.offset for entry in page.entries), default=0)

    def test_count(self, log: MessageLog) -> None:
        """Counting counts what the view holds after an offset, and no further than the cap."""
        offsets = log.append("c", [NewEntry(b"", "a" if n % 2 else None) for n in range(10)]).offsets
        assert log.count("c", 0, View.EVERYTHING, 100) == log.count("c", 0, "a", 100) == 10  # noqa: PLR2004
        assert log.count("c", 0, View.BROADCASTS, 100) == log.count("c", 0, "b", 100) == 5  # noqa: PLR2004
        assert log.count("c", offsets[-2], "a", 100) == 1
        assert log.count("c", 0, "a", 3) == 3  # noqa: PLR2004

    def test_threads(self, log: MessageLog) -> None:
        """Threads that append at once lose nothing, and who reads meanwhile never finds a smaller offset later."""

        def append(thread: int) -> None:
            for number in range(25):
                log.append("c", entries(f"{thread} {number}", receiver=(None, "a", "b")[number % 3]))

        threads = [threading.Thread(target=append, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        seen = _read_while(log, threads)
        assert [entry.offset for entry in seen] == sorted({entry.offset for entry in seen})
        for thread_number in range(4):
            own = [entry.data.decode() for entry in seen if entry.data.startswith(b"%d " % thread_number)]
            assert own == [f"{thread_number} {number}" for number in range(25)]


def _different_pages(log: MessageLog, count: int) -> list[Page]:
    """Read everything, in turn by two views, until the log has stood at so many places, or for some seconds."""
    pages: list[Page] = []
    deadline = time.monotonic() + _PATIENCE_S
    while len({page.head.last for page in pages}) < count and time.monotonic() < deadline:
        pages += [log.read("c", 0, view, 100_000, None) for view in (View.EVERYTHING, "a")]
    return pages


def _read_while(log: MessageLog, threads: Sequence[threading.Thread]) -> list[Entry]:
    """Read on while threads append, and once more when they have ended."""
    seen: list[Entry] = []
    through = 0
    alive = True
    while alive:
        alive = any(thread.is_alive() for thread in threads)
        page = log.read("c", through, View.EVERYTHING, 1000, None)
        seen += page.entries
        through = page.through
    for thread in threads:
        thread.join()
    return seen
