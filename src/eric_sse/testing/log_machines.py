"""The state machines of logs and cursors; see `eric_sse.testing.machines`."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from eric_sse.engine import Engine
from eric_sse.exception import EricError
from eric_sse.log import Append, Appended, CursorKey, NewEntry, Page, Retention, View
from eric_sse.message import Position
from eric_sse.repository import TransactionalKvStorage
from eric_sse.testing.fixtures import NewStore
from eric_sse.testing.machines import EngineMachine
from eric_sse.testing.storage import undone

_CHANNELS = ("a", "a:b")
_LISTENERS = ("l", "l*", "é")
_channels = st.sampled_from(_CHANNELS)
_listeners = st.sampled_from(_LISTENERS)
_receivers = st.none() | _listeners
_entries = st.lists(
    st.builds(NewEntry, st.binary(max_size=8), _receivers, st.none() | st.sampled_from("kq")), min_size=1, max_size=4
)
_views = st.sampled_from(View) | _listeners
_retentions = st.builds(Retention, st.none() | st.integers(1, 5), st.none())
_epochs = st.sampled_from([None, None, None, "other"])
_ranks = st.integers(0, 40)


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
    """Log and cursors, against the model. Offsets differ: they are compared by their rank.

    Args:
        new_store: Gives the opener of the store to test.
    """

    def __init__(self, new_store: NewStore) -> None:
        super().__init__(new_store)
        self._offsets: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})

    @property
    def _sides(self) -> tuple[_Side, _Side]:
        return _Side(self.model, self._offsets[0]), _Side(self.engine, self._offsets[1])

    def _compare(self, question: Callable[[_Side], Any]) -> None:
        """Ask both; they must answer the same."""
        expected, found = map(question, self._sides)
        if found != expected and len({str(_trimmed(side)) for side in self._sides}) > 1:
            # An engine may trim whenever it likes, the model does it when it is told: tell both.
            self._trim_all()
            expected, found = map(question, self._sides)
        assert found == expected

    def _trim_all(self) -> None:
        for side in self._sides:
            while side.engine.log.trim():
                pass

    @initialize(retentions=st.tuples(_retentions, _retentions))
    def begin(self, retentions: Sequence[Retention]) -> None:
        """Begin with logs and some cursors: there is little to do without them."""
        for channel, retention in zip(_CHANNELS, retentions, strict=True):
            self.create(channel, retention)
            self.create_cursors(channel, _LISTENERS[:1])
            self.append(channel, [NewEntry(b"", receiver) for receiver in (None, *_LISTENERS)])

    @invariant()
    def stands_alike(self) -> None:
        """After each step the logs stand alike, and so do the cursors."""
        self._compare(_heads)
        self._compare(_cursors)

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

    @rule(channel=_channels, entries=_entries)
    def append(self, channel: str, entries: list[NewEntry]) -> None:
        """Append."""
        self.append_group([(channel, entries)], None)

    @rule(group=st.lists(st.tuples(_channels, _entries), min_size=2, max_size=4), epoch=_epochs)
    def append_group(self, group: list[tuple[str, list[NewEntry]]], epoch: str | None) -> None:
        """Append for several callers, perhaps all of them to a log that is no more."""
        appends = [Append(channel, entries, epoch) for channel, entries in group]
        expected, outcomes = (_append(side, appends) for side in self._sides)
        assert outcomes == expected

    @rule(channel=_channels, rank=_ranks, view=_views, limit=st.integers(1, 9), size=st.none() | st.integers(1, 30))
    def read(self, channel: str, rank: int, view: View | str, limit: int, size: int | None) -> None:
        """Read a page, and count."""
        self._compare(lambda side: _read(side, channel, rank, (view, limit, size)))

    @rule()
    def trim(self) -> None:
        """Trim all there is to trim."""
        self._trim_all()

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


class TransactionalLogMachine(LogMachine):
    """With transactions."""

    @rule(channel=_channels, entries=_entries)
    def append_in_vain(self, channel: str, entries: list[NewEntry]) -> None:
        """Append in a transaction that is rolled back: nobody will ever have seen it."""
        for side in self._sides:
            storage = side.engine.storage
            assert isinstance(storage, TransactionalKvStorage)
            with undone(storage):
                side.engine.log.append_group([Append(channel, entries)])

    @rule(channel=_channels, listeners=st.sets(_listeners))
    def remove_in_vain(self, channel: str, listeners: Collection[str]) -> None:
        """Drop cursors, then the log, in a transaction that is rolled back."""
        for side in self._sides:
            storage = side.engine.storage
            assert isinstance(storage, TransactionalKvStorage)
            with undone(storage):
                side.engine.cursors.drop(channel, listeners)
                side.engine.log.drop(channel)


def _heads(side: _Side) -> dict[str, tuple[int, int, Retention, int]]:
    return {
        channel: (side.rank(channel, head.trimmed), side.rank(channel, head.last), head.retention, head.removals)
        for channel, head in side.engine.log.heads(_CHANNELS).items()
    }


def _cursors(side: _Side) -> dict[CursorKey, int]:
    keys = [CursorKey(channel, listener) for channel in _CHANNELS for listener in _LISTENERS]
    return {key: side.rank(key.channel_id, at.offset) for key, at in side.engine.cursors.get(keys).items()}


def _trimmed(side: _Side) -> list[tuple[str, int]]:
    return sorted((channel, trimmed) for channel, (trimmed, *_) in _heads(side).items())


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
