"""Engines that break one promise each, for the conformance suites to find out."""

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import ClassVar

from eric_sse.engine import Engine
from eric_sse.engines import memory
from eric_sse.engines.sqlite import SqliteEngine
from eric_sse.engines.sqlite.url import options_of
from eric_sse.log import Append, Appended, Retention
from eric_sse.log.ports import cut_page


class CreatesLogs(memory.MemoryLog):
    """Appending brings a channel's log back."""

    def append_group(self, appends):
        for append in appends:
            self.create(append.channel_id, Retention())
        return super().append_group(appends)


class IgnoresEpochs(memory.MemoryLog):
    """Appends to whatever log is there."""

    def append_group(self, appends):
        return super().append_group([append._replace(epoch=None) for append in appends])


class ForgetsKeys(memory.MemoryLog):
    """Stores what is repeated."""

    def append_group(self, appends):
        def without(append):
            return append._replace(entries=[entry._replace(key=None) for entry in append.entries])

        return super().append_group([without(append) for append in appends])


class AppendsTwice(memory.MemoryLog):
    """Tries again where it need not."""

    def append_group(self, appends):
        super().append_group(appends)
        return super().append_group(appends)


class ShowsOffsetsLate(memory.MemoryLog):
    """Whoever sees a new message first does not see the one before it."""

    _seen = 0

    def read(self, channel_id, after, view, limit=256, max_bytes=None):
        page = super().read(channel_id, after, view, limit, max_bytes)
        late, self._seen = page.head.last > self._seen, page.head.last
        return page._replace(entries=[entry for entry in page.entries if not late or entry.offset != self._seen - 1])


class ReadsNotThrough(memory.MemoryLog):
    """Stays before what is for others."""

    def read(self, channel_id, after, view, limit=256, max_bytes=None):
        page = super().read(channel_id, after, view, limit, max_bytes)
        return page._replace(through=page.entries[-1].offset if page.entries else after)


class CutsByBytesAlone(memory.MemoryLog):
    """Returns more than it was asked for."""

    def read(self, channel_id, after, view, limit=256, max_bytes=None):
        page = super().read(channel_id, after, view, 1_000_000, None)
        return cut_page(page.head, page.entries, after, 1_000_000, max_bytes)


class TrimsTooMuch(memory.MemoryLog):
    """Keeps one message less than it must."""

    def create(self, channel_id, retention):
        if retention.max_messages is not None and retention.max_messages > 1:
            retention = Retention(retention.max_messages - 1, retention.max_age_s)
        return super().create(channel_id, retention)

    def heads(self, channel_ids):
        def shown(keep):
            return Retention(keep.max_messages and keep.max_messages + 1, keep.max_age_s)

        return {id_: head._replace(retention=shown(head.retention)) for id_, head in super().heads(channel_ids).items()}


class GoesBack(memory.MemoryCursors):
    """A cursor is wherever it was moved last."""

    def advance(self, positions):
        for key, position in positions.items():
            for current in self.get([key]).values():
                self.compare_and_set(key, current, position)


class LetsBothWin(memory.MemoryCursors):
    """Compares, then sets."""

    def compare_and_set(self, key, expected, new):
        if self.get([key]).get(key) != expected:
            return False
        time.sleep(0.02)
        self._memory.set(self._memory.cursors, key, new)
        return True


class StartsAtTheBeginning(memory.MemoryCursors):
    """New cursors stand before everything."""

    def create(self, channel_id, listener_ids):
        created = super().create(channel_id, listener_ids)
        for id_ in created:
            key = memory.CursorKey(channel_id, id_)
            self._memory.set(self._memory.cursors, key, self._memory.cursors[key]._replace(offset=0))
        return created


class CountsNoRemovals(memory.MemoryCursors):
    """Nobody learns that a listener is gone."""

    def _count_removals(self, log, count):
        pass


class Globs(memory.MemoryStorage):
    """A prefix is a pattern."""

    def fetch_by_prefix(self, prefix):
        return self.fetch_many([key for key in self._memory.values if fnmatchcase(key, f"{prefix}*")]).values()


class UndoesNothing(memory.MemoryStorage):
    """A transaction is a block like any other."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield


class ActsAtOnce(memory.MemoryStorage):
    """What is to wait for the commit does not."""

    def after_commit(self, action):
        action()


class ActsAnyway(memory.MemoryStorage):
    """What waits for a commit happens after a rollback, too."""

    _due = ()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            with super().transaction():
                yield
        finally:
            if not self._memory._depth:
                due, self._due = self._due, ()
                for action in due:
                    action()

    def after_commit(self, action):
        self._due = (*self._due, action)


class StoresOneByOne(memory.MemoryStorage):
    """Half of a batch may be stored."""

    def upsert_many(self, items):
        for key, value in items.items():
            super().upsert_many({key: value})


class WakesNobody(memory.MemoryNotifier):
    """Says nothing."""

    def wake(self, channel_ids):
        pass


class FailsWithCallbacks(memory.MemoryNotifier):
    """A callback's failure is everybody's."""

    def wake(self, channel_ids):
        for channel_id, callback in itertools.product(channel_ids, list(self._callbacks.values())):
            callback(channel_id)


class LeavesThread(Engine):
    """Closing it does not end its thread."""

    def __init__(self, *parts):
        super().__init__(*parts)
        threading.Thread(target=time.sleep, args=(1,), name="left").start()


class LeavesFile(Engine):
    """Closing it does not close its file."""

    left: ClassVar[list[tuple[int, int]]] = []

    def __init__(self, *parts):
        super().__init__(*parts)
        self.left.append(os.pipe())


class ClosesSlowly(Engine):
    """Takes its time."""

    def close(self):
        super().close()
        time.sleep(0.3)


class StoresLater(SqliteEngine):
    """Says of each append that it is stored, and stores all of them when it is closed."""

    def __init__(self, options):
        super().__init__(options)
        self._held = []
        self._store = self.log.append_group
        self.log.append_group = self._hold

    def _hold(self, appends):
        self._held += appends
        return [Appended(self.log.heads(["c"])["c"].epoch, [len(self._held)])]

    def close(self):
        held, self._held = self._held, []
        self._store(held)
        super().close()


def open_broken(part: type) -> Engine:
    """A memory engine, of which one part is another."""
    store = memory._Memory()
    parts = [memory.MemoryStorage, memory.MemoryLog, memory.MemoryCursors, memory.MemoryNotifier]
    chosen = [part if issubclass(part, one) else one for one in parts]
    made = [one() if issubclass(one, memory.MemoryNotifier) else one(store) for one in chosen]
    return (part if issubclass(part, Engine) else Engine)(*made)


def open_late(path: str) -> Engine:
    """An engine that stores later."""
    return StoresLater(options_of(f"sqlite:///{path}"))


def opener(name: str):
    """Opens the broken engine of that name."""
    return partial(open_broken, globals()[name])


def fail(engine: Engine) -> Iterator[int]:
    """Work that goes wrong in another process."""
    yield 1
    engine.log.append_group([Append("none", [])])
    raise ZeroDivisionError("something went wrong there")
