"""The ``memory://`` engine: everything in this process, gone when it ends.

It keeps what it is given as bytes, like the others, so that it fails where they fail; and it is the model that the
other engines are tested against.
"""

import heapq
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from eric_sse._util import get_logger
from eric_sse.codec import decode_json, encode_value
from eric_sse.engine import Engine
from eric_sse.exception import (
    ChannelNotFound,
    EricError,
    RepositoryError,
)
from eric_sse.log import (
    Append,
    Appended,
    CursorKey,
    Cursors,
    Entry,
    Head,
    MessageLog,
    NewEntry,
    Notifier,
    Page,
    Retention,
    View,
)
from eric_sse.log.ports import DEDUP_WINDOW_S, DEFAULT_PAGE_BYTES, DEFAULT_PAGE_MESSAGES, cut_page, new_epoch
from eric_sse.message import Position
from eric_sse.repository import BatchKvStorage, TransactionalKvStorage

logger = get_logger()


def open_memory(url: str = "memory://") -> Engine:  # noqa: ARG001 - the URL of this engine has no options
    """Open a new empty engine in this process's memory."""
    memory = _Memory()
    return Engine(
        MemoryStorage(memory), MemoryLog(memory), MemoryCursors(memory), MemoryNotifier(), returns_at_once=True
    )


@dataclass(eq=False)
class _Log:
    """One channel's log: all entries, and by receiver; offsets and times in parallel for bisection."""

    epoch: str
    retention: Retention
    trimmed: int = 0
    last: int = 0
    removals: int = 0
    entries: list[Entry] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    by_receiver: dict[str | None, list[Entry]] = field(default_factory=dict)
    keys: dict[tuple[str | None, str], tuple[int, float]] = field(default_factory=dict)

    @property
    def head(self) -> Head:
        return Head(self.epoch, self.trimmed, self.last, self.retention, self.removals)


class _Memory:
    """What the parts of one engine share: the data, a lock, and how to undo what a transaction did."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.values: dict[str, bytes] = {}
        self.logs: dict[str, _Log] = {}
        self.cursors: dict[CursorKey, Position] = {}
        self._undo: list[Callable[[], None]] = []
        self._depth = 0
        self._after: list[Callable[[], None]] = []

    def set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Set or, with None, remove a value; undone where the transaction around it fails."""
        if self._depth:
            old = table.get(key)
            self._undo.append(lambda: _put(table, key, old))
        _put(table, key, value)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.lock:
            savepoint, after = len(self._undo), len(self._after)
            self._depth += 1
            try:
                yield
            except BaseException:
                while len(self._undo) > savepoint:
                    self._undo.pop()()
                del self._after[after:]
                raise
            finally:
                self._depth -= 1
                if not self._depth:
                    self._undo.clear()
                    due, self._after = self._after, []
                    for action in due:
                        action()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call it when the transaction is over, unless it is undone; now where there is none."""
        with self.lock:
            if self._depth:
                self._after.append(action)
                return
        action()

    def log(self, channel_id: str) -> _Log:
        try:
            return self.logs[channel_id]
        except KeyError:
            raise ChannelNotFound(channel_id) from None

    def on_undo(self, action: Callable[[], None]) -> None:
        if self._depth:
            self._undo.append(action)


def _put(table: dict[Any, Any], key: Any, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _utf8(key: str) -> str:
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise RepositoryError(f"key {key!r} holds a lone surrogate, which UTF-8 cannot carry") from error
    return key


class MemoryStorage(BatchKvStorage, TransactionalKvStorage):
    """JSON values in memory."""

    def __init__(self, memory: _Memory) -> None:
        self._memory = memory

    def fetch_by_prefix(self, prefix: str) -> Iterable[Any]:
        with self._memory.lock:
            found = [value for key, value in self._memory.values.items() if key.startswith(prefix)]
        return [decode_json(value) for value in found]

    def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Any]:
        with self._memory.lock:
            found = {key: self._memory.values[key] for key in keys if key in self._memory.values}
        return {key: decode_json(value) for key, value in found.items()}

    def upsert_many(self, items: Mapping[str, Any]) -> None:
        encoded = {_utf8(key): encode_value(key, value) for key, value in items.items()}
        with self._memory.lock:
            for key, value in encoded.items():
                self._memory.set(self._memory.values, key, value)

    def delete_many(self, keys: Collection[str]) -> None:
        with self._memory.lock:
            for key in keys:
                self._memory.set(self._memory.values, key, None)

    def fetch_page(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, Any]]:
        with self._memory.lock:
            keys = sorted(key for key in self._memory.values if key.startswith(prefix) and key > after)[:limit]
            found = [(key, self._memory.values[key]) for key in keys]
        return [(key, decode_json(value)) for key, value in found]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._memory.transaction():
            yield

    def after_commit(self, action: Callable[[], None]) -> None:
        self._memory.after_commit(action)


class MemoryLog(MessageLog):
    """Logs in memory."""

    def __init__(self, memory: _Memory) -> None:
        self._memory = memory

    def create(self, channel_id: str, retention: Retention) -> bool:
        with self._memory.lock:
            if channel_id in self._memory.logs:
                return False
            self._memory.set(self._memory.logs, channel_id, _Log(new_epoch(), retention))
            return True

    def append_group(self, appends: Sequence[Append]) -> Sequence[Appended | EricError]:
        with self._memory.lock:
            return [self._append(append) for append in appends]

    def _append(self, append: Append) -> Appended | EricError:
        log = self._memory.logs.get(append.channel_id)
        if log is None:
            return ChannelNotFound(append.channel_id)
        if (refusal := append.refusal(log.epoch)) is not None:
            return refusal
        now, previous = time.time(), log.last
        return Appended(log.epoch, [self._append_entry(log, entry, now) for entry in append.entries], previous)

    def _append_entry(self, log: _Log, new: NewEntry, now: float) -> int:
        if new.key is not None:
            known = log.keys.get((new.receiver, new.key))
            if known is not None and known[1] > now - DEDUP_WINDOW_S:
                return known[0]
        offset = log.last + 1
        entry = Entry(offset, new.receiver, new.data)
        log.entries.append(entry)
        log.times.append(now)
        log.by_receiver.setdefault(new.receiver, []).append(entry)
        log.last = offset
        if new.key is not None:
            log.keys[new.receiver, new.key] = (offset, now)
        self._memory.on_undo(lambda: _unappend(log, entry, new.key))
        return offset

    def read(
        self,
        channel_id: str,
        after: int,
        view: View | str,
        limit: int = DEFAULT_PAGE_MESSAGES,
        max_bytes: int | None = DEFAULT_PAGE_BYTES,
    ) -> Page:
        with self._memory.lock:
            log = self._memory.log(channel_id)
            entries = islice(_after(log, after, view), limit)
            return cut_page(log.head, list(entries), after, limit, max_bytes)

    def heads(self, channel_ids: Collection[str]) -> Mapping[str, Head]:
        with self._memory.lock:
            return {id_: self._memory.logs[id_].head for id_ in channel_ids if id_ in self._memory.logs}

    def trim(self, limit: int = 10_000) -> int:
        removed, now = 0, time.time()
        with self._memory.lock:
            for log in self._memory.logs.values():
                removed += _trim(log, limit - removed, now)
        return removed

    def drop(self, channel_id: str) -> None:
        with self._memory.lock:
            self._memory.set(self._memory.logs, channel_id, None)
            for key in [key for key in self._memory.cursors if key.channel_id == channel_id]:
                self._memory.set(self._memory.cursors, key, None)

    def count(self, channel_id: str, after: int, view: View | str, cap: int) -> int:
        with self._memory.lock:
            return sum(1 for _ in islice(_after(self._memory.log(channel_id), after, view), cap))


def _unappend(log: _Log, entry: Entry, key: str | None) -> None:
    log.entries.pop()
    log.times.pop()
    log.by_receiver[entry.receiver].pop()
    if key is not None:
        del log.keys[entry.receiver, key]
    # `last` stays: an offset is never given twice.


def _after(log: _Log, after: int, view: View | str) -> Iterator[Entry]:
    if view is View.EVERYTHING:
        sources = [log.entries]
    elif view is View.BROADCASTS:
        sources = [log.by_receiver.get(None, [])]
    else:
        sources = [log.by_receiver.get(None, []), log.by_receiver.get(str(view), [])]
    slices = [islice(source, bisect_right(source, after, key=_offset), None) for source in sources]
    return heapq.merge(*slices, key=_offset)


def _offset(entry: Entry) -> int:
    return entry.offset


def _trim(log: _Log, limit: int, now: float) -> int:
    excess = 0
    if log.retention.max_messages is not None:
        excess = max(0, len(log.entries) - log.retention.max_messages)
    if log.retention.max_age_s is not None:
        excess = max(excess, bisect_left(log.times, now - log.retention.max_age_s))
    log.keys = {key: known for key, known in log.keys.items() if known[1] > now - DEDUP_WINDOW_S}
    excess = min(excess, limit)
    if excess <= 0:
        return 0
    log.trimmed = log.entries[excess - 1].offset
    del log.entries[:excess]
    del log.times[:excess]
    for receiver, entries in list(log.by_receiver.items()):
        del entries[: bisect_right(entries, log.trimmed, key=_offset)]
        if not entries:
            del log.by_receiver[receiver]
    return excess


class MemoryCursors(Cursors):
    """Cursors in memory."""

    def __init__(self, memory: _Memory) -> None:
        self._memory = memory

    def create(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        with self._memory.lock:
            head = self._memory.log(channel_id).head
            created = [id_ for id_ in listener_ids if CursorKey(channel_id, id_) not in self._memory.cursors]
            for id_ in created:
                self._memory.set(self._memory.cursors, CursorKey(channel_id, id_), Position(head.epoch, head.last))
            return created

    def get(self, keys: Collection[CursorKey]) -> Mapping[CursorKey, Position]:
        with self._memory.lock:
            return {key: self._memory.cursors[key] for key in keys if key in self._memory.cursors}

    def advance(self, positions: Mapping[CursorKey, Position]) -> None:
        with self._memory.lock:
            for key, position in positions.items():
                current = self._memory.cursors.get(key)
                if current is not None and current.epoch == position.epoch and current.offset < position.offset:
                    self._memory.set(self._memory.cursors, key, position)

    def compare_and_set(self, key: CursorKey, expected: Position, new: Position) -> bool:
        with self._memory.lock:
            if self._memory.cursors.get(key) != expected:
                return False
            self._memory.set(self._memory.cursors, key, new)
            return True

    def drop(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        with self._memory.lock:
            dropped = [id_ for id_ in listener_ids if CursorKey(channel_id, id_) in self._memory.cursors]
            for id_ in dropped:
                self._memory.set(self._memory.cursors, CursorKey(channel_id, id_), None)
            if dropped:
                self._count_removals(self._memory.log(channel_id), len(dropped))
            return dropped

    def _count_removals(self, log: _Log, count: int) -> None:
        def undo() -> None:
            log.removals -= count

        log.removals += count
        self._memory.on_undo(undo)


def _call(callback: Callable[[str | None], None], channel_id: str | None) -> None:
    try:
        callback(channel_id)
    except Exception:
        # Whoever wakes has stored something, which must not look as if it had failed; nor are the others to miss it.
        logger.exception("a callback of the notifier failed")


class MemoryNotifier(Notifier):
    """Wake-ups within this process."""

    def __init__(self) -> None:
        self._callbacks: dict[object, Callable[[str | None], None]] = {}
        self._lock = threading.Lock()

    def wake(self, channel_ids: Iterable[str | None]) -> None:
        with self._lock:
            callbacks = tuple(self._callbacks.values())
        for channel_id in channel_ids:
            for callback in callbacks:
                _call(callback, channel_id)

    def listen(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        token = object()
        with self._lock:
            self._callbacks[token] = callback

        def end() -> None:
            with self._lock:
                self._callbacks.pop(token, None)

        return end

    @property
    def healthy(self) -> bool:
        return True
