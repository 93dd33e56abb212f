"""What an engine does whose stores serve several processes at once: they never get in each other's way."""

import queue
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from eric_sse.engine import Engine
from eric_sse.exception import NoMessagesException
from eric_sse.listener import MessageQueueListener
from eric_sse.log import CursorKey, MessageLog, NewEntry, Retention, View
from eric_sse.message import Message
from eric_sse.testing.fixtures import Opener
from eric_sse.testing.processes import PATIENCE_S, run_at_once, worker

_KEY = CursorKey("c", "l")
_MESSAGES = 100


class TwoProcessesSuite:
    """Processes that use one store at the same time."""

    def test_offsets_become_visible_in_order(self, engine: Engine, opener: Opener) -> None:
        """While two processes append, who reads on never misses what becomes visible below what it has read."""
        engine.log.create("c", Retention(None, None))
        readers = [_Reader(engine.log, view) for view in (View.EVERYTHING, View.BROADCASTS, "l")]
        with worker(opener, _append, "a") as a, worker(opener, _append, "b") as b:
            a.go()
            b.go()
            deadline = time.monotonic() + PATIENCE_S
            while readers[0].found < 2 * _MESSAGES and time.monotonic() < deadline:
                for reader in readers:
                    reader.read_on()
            told = [*a.finish(), *b.finish()]
        for reader in readers:
            reader.read_on()
            reader.check()
        assert sorted(told) == readers[0].offsets

    def test_each_keeps_its_order(self, engine: Engine, opener: Opener) -> None:
        """Nothing that two processes append at once is lost, and each one's messages stay in its order."""
        engine.log.create("c", Retention(None, None))
        run_at_once(opener, [(_append, "a"), (_append, "b")])
        found = [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING, 10_000).entries]
        for name in (b"a", b"b"):
            own = [data for data in found if data.startswith(name)]
            assert own == [b"%s %d" % (name, number) for number in range(_MESSAGES)]

    def test_pops_compete(self, engine: Engine, opener: Opener) -> None:
        """Of two processes that pop one listener's queue, each message goes to one; and all are taken."""
        channel = engine.channels.create({"channel_id": "c"})
        channel.register_listener(MessageQueueListener("l"))
        engine.channels.persist(channel)
        for number in range(50):
            channel.broadcast(Message("m", number))
        taken = run_at_once(opener, [(_pop_all,), (_pop_all,)])
        assert sorted(taken[0] + taken[1]) == list(range(50))
        assert all(one == sorted(one) for one in taken)

    def test_one_moves_a_cursor(self, engine: Engine, opener: Opener) -> None:
        """Of two processes that expect the same position, one moves the cursor."""
        engine.log.create("c", Retention())
        engine.cursors.create("c", ["l"])
        won = run_at_once(opener, [(_race,), (_race,)])
        assert sorted(won[0] + won[1]) == list(range(50))

    def test_one_creates(self, engine: Engine, opener: Opener) -> None:  # noqa: ARG002 - a third, which waits
        """Of two processes that create the same log, one does; both know the same epoch then."""
        (first, second) = run_at_once(opener, [(_create,), (_create,)])
        assert [epoch for _, epoch in first] == [epoch for _, epoch in second]
        assert [mine + theirs for (mine, _), (theirs, _) in zip(first, second, strict=True)] == [1] * len(first)

    def test_the_same_is_stored_once(self, engine: Engine, opener: Opener) -> None:
        """Messages that two processes append under the same keys are stored once, and both learn where."""
        engine.log.create("c", Retention(None, None))
        (first, second) = run_at_once(opener, [(_append_keyed,), (_append_keyed,)])
        assert first == second
        found = Counter(entry.data for entry in engine.log.read("c", 0, View.EVERYTHING, 10_000).entries)
        assert found == Counter({b"%d" % number: 1 for number in range(50)})

    def test_one_is_killed(self, engine: Engine, opener: Opener) -> None:
        """Who has the store open while another process is killed in the midst of appending uses it as before."""
        engine.log.create("c", Retention(None, None))
        with worker(opener, _append, "a") as other:
            other.go()
            told = [other.report() for _ in range(5)] + other.kill()
        last = engine.log.append("c", [NewEntry(b"after")]).offsets[0]
        found = [entry.offset for entry in engine.log.read("c", 0, View.EVERYTHING, 10_000).entries]
        assert set(told) < set(found)
        assert found[-1] == last

    def test_woken_by_another_process(self, engine: Engine, opener: Opener) -> None:
        """What another process appends, and tells, is heard here; and is there then."""
        engine.log.create("c", Retention())
        heard: queue.Queue[str | None] = queue.Queue()
        end = engine.notifier.listen(heard.put)
        with worker(opener, _append_and_wake) as other:
            other.go()
            while heard.get(timeout=PATIENCE_S) not in {"c", None}:
                pass
            assert engine.log.count("c", 0, View.EVERYTHING, 10) == 1
            other.finish()
        end()


class _Reader:
    """Reads a view on from where it is, and remembers what it found."""

    def __init__(self, log: MessageLog, view: View | str) -> None:
        self._log = log
        self._view = view
        self._through = 0
        self.offsets: list[int] = []

    @property
    def found(self) -> int:
        return len(self.offsets)

    def read_on(self) -> None:
        page = self._log.read("c", self._through, self._view, limit=7)
        self.offsets += [entry.offset for entry in page.entries]
        assert page.through >= self._through
        assert page.head.last >= page.through
        self._through = page.through

    def check(self) -> None:
        """Read everything again: it must be what was found bit by bit."""
        while self._through < self._log.heads(["c"])["c"].last:
            self.read_on()
        again = [entry.offset for entry in self._log.read("c", 0, self._view, 10_000, None).entries]
        assert self.offsets == again
        assert all(a < b for a, b in pairwise(again))


def _append(engine: Engine, name: str) -> Iterator[int]:
    """Append for everybody, for one and for another, in turn; report the offsets."""
    for number in range(_MESSAGES):
        entry = NewEntry(f"{name} {number}".encode(), (None, "l", "m")[number % 3])
        yield from engine.log.append("c", [entry]).offsets


def _append_keyed(engine: Engine) -> Iterator[int]:
    for number in range(50):
        yield from engine.log.append("c", [NewEntry(b"%d" % number, None, f"key {number}")]).offsets


def _append_and_wake(engine: Engine) -> Iterator[int]:
    yield from engine.log.append("c", [NewEntry(b"1")]).offsets
    engine.notifier.wake(["c"])


def _pop_all(engine: Engine) -> Iterator[object]:
    channel = engine.channels.load_one("c")
    channel.get_listener("l").start()
    try:
        while True:
            yield channel.deliver_next("l").payload
    except NoMessagesException:
        pass


def _race(engine: Engine) -> Iterator[int]:
    """Try to move a cursor from each position to the next, and report from which it was this process."""
    while (at := engine.cursors.get([_KEY])[_KEY]).offset < 50:  # noqa: PLR2004
        if engine.cursors.compare_and_set(_KEY, at, at._replace(offset=at.offset + 1)):
            yield at.offset


def _create(engine: Engine) -> Iterator[tuple[bool, str]]:
    for number in range(20):
        created = engine.log.create(f"c{number}", Retention())
        yield created, engine.log.heads([f"c{number}"])[f"c{number}"].epoch
