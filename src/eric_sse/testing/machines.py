"""State machines that do the same, at random, to an engine and to the memory engine, and compare what comes of it.

Subclass one, say how an engine is opened, and give its ``TestCase`` to pytest:

    class MyLogMachine(ReopeningMixin, LogMachine):
        def open_engine(self): ...
        def reopen_engine(self, engine): ...

    TestMyLog = MyLogMachine.TestCase
"""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Collection
from contextlib import nullcontext
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from eric_sse.engine import Engine
from eric_sse.engines import open_engine
from eric_sse.exception import EricError, ItemNotFound
from eric_sse.log import Append, Appended, CursorKey, NewEntry, Page, Retention, View
from eric_sse.message import Position
from eric_sse.repository import BatchKvStorage, TransactionalKvStorage
from eric_sse.testing.storage import undone

_CHANNELS = ("a", "ab", "a:b")
_LISTENERS = ("l", "l*", "é")
_KEYS = ("a", "ab", "a/b", "a%", "A", "é", "\U0010ffff", "\ud7ff", "a\0")
_channels = st.sampled_from(_CHANNELS)
_listeners = st.sampled_from(_LISTENERS)
_receivers = st.none() | _listeners
_entries = st.lists(
    st.builds(NewEntry, st.binary(max_size=8), _receivers, st.none() | st.sampled_from("kq")), max_size=4
)
_views = st.sampled_from(View) | _listeners
_retentions = st.builds(Retention, st.none() | st.integers(1, 5), st.none())
_ranks = st.integers(0, 40)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


class EngineMachine(RuleBasedStateMachine):
    """An engine and its model."""

    def __init__(self) -> None:
        super().__init__()
        self.model = open_engine("memory://")
        self.engine = self.open_engine()

    @abstractmethod
    def open_engine(self) -> Engine:
        """Open an engine on a new, empty store."""

    def teardown(self) -> None:
        """Close what was opened."""
        self.engine.close()
        self.model.close()


class ReopeningMixin(EngineMachine):
    """The power of some engines: what is stored outlives the engine object."""

    @abstractmethod
    def reopen_engine(self, engine: Engine) -> Engine:
        """Open the store of ``engine`` again."""

    @rule()
    def close_and_reopen(self) -> None:
        """Close it properly."""
        self.engine.close()
        self.engine = self.reopen_engine(self.engine)

    @rule()
    def crash_and_reopen(self) -> None:
        """Open it again while the old one is still there, and never used again."""
        self._crashed = [*getattr(self, "_crashed", []), self.engine]
        self.engine = self.reopen_engine(self.engine)

    def teardown(self) -> None:
        """Close also those that were left."""
        super().teardown()
        for engine in getattr(self, "_crashed", []):
            engine.close()


class StorageMachine(EngineMachine):
    """Key-value storage, against the model."""

    @rule(key=st.sampled_from(_KEYS), value=_values)
    def upsert(self, key: str, value: Any) -> None:
        """Store a value."""
        for engine in (self.model, self.engine):
            engine.storage.upsert(key, value)

    @rule(key=st.sampled_from(_KEYS))
    def delete(self, key: str) -> None:
        """Delete a key, whether it is there or not."""
        for engine in (self.model, self.engine):
            engine.storage.delete(key)

    @rule(key=st.sampled_from(_KEYS))
    def fetch_one(self, key: str) -> None:
        """Look for one value."""
        assert _fetch(self.engine, key) == _fetch(self.model, key)

    @rule(prefix=st.sampled_from(["", *_KEYS]))
    def fetch_by_prefix(self, prefix: str) -> None:
        """Look for many."""
        expected, found = (list(engine.storage.fetch_by_prefix(prefix)) for engine in (self.model, self.engine))
        assert sorted(map(repr, found)) == sorted(map(repr, expected))


class BatchStorageMachine(StorageMachine):
    """With the powers of many keys at once, and of transactions."""

    @rule(
        items=st.dictionaries(st.sampled_from(_KEYS), _values), keys=st.sets(st.sampled_from(_KEYS)), keep=st.booleans()
    )
    def in_transaction(self, items: dict[str, Any], keys: Collection[str], keep: bool) -> None:  # noqa: FBT001
        """Store some and delete some, together, for good or not."""
        for engine in (self.model, self.engine):
            storage = engine.storage
            assert isinstance(storage, TransactionalKvStorage)
            assert isinstance(storage, BatchKvStorage)
            with storage.transaction() if keep else undone(storage):
                storage.upsert_many(items)
                storage.delete_many(keys)

    @rule(prefix=st.sampled_from(["", *_KEYS]), after=st.sampled_from(["", *_KEYS]), limit=st.integers(1, 5))
    def fetch_page(self, prefix: str, after: str, limit: int) -> None:
        """Look at a page of them."""
        pages = []
        for engine in (self.model, self.engine):
            assert isinstance(engine.storage, BatchKvStorage)
            pages.append(list(engine.storage.fetch_page(prefix, after, limit)))
        assert pages[0] == pages[1]


class _Side(NamedTuple):
    """One of the two engines, and the offsets that it gave, by channel."""

    engine: Engine
    offsets: dict[str, list[int]]

    def rank(self, channel: str, offset: int) -> int:
        """How many messages were given an offset up to this one: what both engines agree about."""
        return bisect_right(self.offsets.get(channel, []), offset)

    def offset(self, channel: str, rank: int) -> int:
        """The offset of the message of that rank, or the one before the first."""
        given = self.offsets.get(channel, [])[:rank]
        return given[-1] if given else 0


class LogMachine(EngineMachine):
    """Log and cursors, against the model. Offsets differ: they are compared by their rank."""

    def __init__(self) -> None:
        super().__init__()
        self._offsets: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})

    @property
    def _sides(self) -> tuple[_Side, _Side]:
        return _Side(self.model, self._offsets[0]), _Side(self.engine, self._offsets[1])

    @rule(channel=_channels, retention=_retentions)
    def create(self, channel: str, retention: Retention) -> None:
        """Create a log."""
        expected, created = (side.engine.log.create(channel, retention) for side in self._sides)
        assert created == expected

    @rule(channel=_channels)
    def drop(self, channel: str) -> None:
        """Drop a log."""
        for side in self._sides:
            side.engine.log.drop(channel)
            side.offsets.pop(channel, None)

    @rule(group=st.lists(st.tuples(_channels, _entries), max_size=4), epoch=st.sampled_from([None, "other"]))
    def append(self, group: list[tuple[str, list[NewEntry]]], epoch: str | None) -> None:
        """Append for several callers, perhaps all of them to a log that is no more."""
        appends = [Append(channel, entries, epoch) for channel, entries in group]
        expected, outcomes = (_append(side, appends) for side in self._sides)
        assert outcomes == expected

    @rule(channel=_channels, entries=_entries)
    def append_in_vain(self, channel: str, entries: list[NewEntry]) -> None:
        """Append in a transaction that is rolled back: nobody will ever have seen it."""
        for side in self._sides:
            storage = side.engine.storage
            with undone(storage) if isinstance(storage, TransactionalKvStorage) else nullcontext():
                side.engine.log.append_group([Append(channel, entries)])

    @rule(channel=_channels, rank=_ranks, view=_views, limit=st.integers(1, 9), size=st.none() | st.integers(1, 30))
    def read(self, channel: str, rank: int, view: View | str, limit: int, size: int | None) -> None:
        """Read a page, and count."""
        expected, found = (_read(side, channel, rank, (view, limit, size)) for side in self._sides)
        assert found == expected

    @rule()
    def heads(self) -> None:
        """Ask where all logs stand."""
        expected, found = (
            {
                channel: (side.rank(channel, head.trimmed), side.rank(channel, head.last), head.retention)
                for channel, head in side.engine.log.heads(_CHANNELS).items()
            }
            for side in self._sides
        )
        assert found == expected

    @rule()
    def trim(self) -> None:
        """Trim."""
        expected, removed = (side.engine.log.trim() for side in self._sides)
        assert removed == expected

    @rule(channel=_channels, listeners=st.sets(_listeners))
    def create_cursors(self, channel: str, listeners: Collection[str]) -> None:
        """Create cursors."""
        expected, created = (_outcome(side.engine.cursors.create, channel, listeners) for side in self._sides)
        assert created == expected

    @rule(channel=_channels, listeners=st.sets(_listeners))
    def drop_cursors(self, channel: str, listeners: Collection[str]) -> None:
        """Drop cursors."""
        expected, dropped = (_outcome(side.engine.cursors.drop, channel, listeners) for side in self._sides)
        assert dropped == expected

    @rule(key=st.builds(CursorKey, _channels, _listeners), rank=_ranks, old_epoch=st.booleans())
    def advance(self, key: CursorKey, rank: int, old_epoch: bool) -> None:  # noqa: FBT001
        """Move a cursor forward, if it has not been there and the epoch is right."""
        for side in self._sides:
            head = side.engine.log.heads([key.channel_id]).get(key.channel_id)
            epoch = "other" if head is None or old_epoch else head.epoch
            side.engine.cursors.advance({key: Position(epoch, side.offset(key.channel_id, rank))})

    @rule(key=st.builds(CursorKey, _channels, _listeners), expected=_ranks, new=_ranks)
    def compare_and_set(self, key: CursorKey, expected: int, new: int) -> None:
        """Move a cursor, if it is there."""
        expected_moved, moved = (_compare_and_set(side, key, expected, new) for side in self._sides)
        assert moved == expected_moved

    @rule()
    def cursors(self) -> None:
        """Look at all cursors."""
        keys = [CursorKey(channel, listener) for channel in _CHANNELS for listener in _LISTENERS]
        expected, found = (
            {key: side.rank(key.channel_id, at.offset) for key, at in side.engine.cursors.get(keys).items()}
            for side in self._sides
        )
        assert found == expected


def _fetch(engine: Engine, key: str) -> Any:
    try:
        return engine.storage.fetch_one(key)
    except ItemNotFound as error:
        return error.args


def _outcome(call: Any, *args: Any) -> Any:
    try:
        return sorted(call(*args))
    except EricError as error:
        return type(error)


def _append(side: _Side, appends: list[Append]) -> list[Any]:
    outcomes: list[Any] = []
    for append, outcome in zip(appends, side.engine.log.append_group(appends), strict=True):
        if isinstance(outcome, Appended):
            given = side.offsets.setdefault(append.channel_id, [])
            given += sorted({offset for offset in outcome.offsets if not given or offset > given[-1]})
            outcomes.append([side.rank(append.channel_id, offset) for offset in outcome.offsets])
        else:
            outcomes.append(type(outcome))
    return outcomes


def _read(side: _Side, channel: str, rank: int, bounds: tuple[View | str, int, int | None]) -> Any:
    after, (view, limit, max_bytes) = side.offset(channel, rank), bounds
    try:
        page: Page = side.engine.log.read(channel, after, view, limit, max_bytes)
    except EricError as error:
        return type(error)
    entries = [(side.rank(channel, entry.offset), entry.receiver, entry.data) for entry in page.entries]
    return entries, side.rank(channel, page.through), side.engine.log.count(channel, after, view, limit)


def _compare_and_set(side: _Side, key: CursorKey, expected: int, new: int) -> bool:
    head = side.engine.log.heads([key.channel_id]).get(key.channel_id)
    found = side.engine.cursors.get([key]).get(key)
    # Where it stands behind the last message's offset, after a rollback, that is as good as at it.
    if head is None or found is None or side.rank(key.channel_id, found.offset) != expected:
        return side.engine.cursors.compare_and_set(key, Position("other", 0), Position("other", 1))
    return side.engine.cursors.compare_and_set(key, found, Position(head.epoch, side.offset(key.channel_id, new)))
