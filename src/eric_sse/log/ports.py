"""The ports that a storage engine implements, beside `KvStorage`: the log, the cursors, and the notifier.

Every method may be called from any thread, and blocks until it is done. What goes wrong in the store is raised as a
`RepositoryError`; what the caller got wrong as the error named at the method.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from eric_sse.exception import ChannelNotFound, ConfigurationError, EpochMismatch, EricError
from eric_sse.message import Position

DEDUP_WINDOW_S = 300.0
"""How long, in seconds, an entry's key is remembered."""
DEFAULT_PAGE_MESSAGES = 256
DEFAULT_PAGE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a log keeps messages. Both are lower bounds: what they keep is never trimmed.

    Args:
        max_messages: Keep at least the last so many, broadcasts and dispatches together; None: no bound by count.
        max_age_s: Keep at least what is younger than so many seconds; None: no bound by age.

    A message is trimmed when either bound no longer keeps it.

    Raises:
        ConfigurationError: A bound is not positive.
    """

    max_messages: int | None = 100_000
    max_age_s: float | None = 7 * 24 * 3600.0

    def __post_init__(self) -> None:
        for name, value in (("max_messages", self.max_messages), ("max_age_s", self.max_age_s)):
            if value is not None and not value > 0:
                raise ConfigurationError(f"retention {name} is {value}; give a positive number, or null for no bound")


class Head(NamedTuple):
    """Where a log stands.

    Attributes:
        epoch: The random mark made when the log was created.
        trimmed: The offset up to which messages were trimmed; 0 where none were.
        last: The largest offset given; 0 where none was.
        retention: How long it keeps messages.
        removals: How many cursors were dropped from it: who follows the log learns by it that a listener may be gone.
    """

    epoch: str
    trimmed: int
    last: int
    retention: Retention
    removals: int = 0


class NewEntry(NamedTuple):
    """A message to append.

    Attributes:
        data: The encoded message.
        receiver: The id of the listener that it is for; None: a broadcast.
        key: Makes repeating harmless: an entry whose key was appended to the same channel for the same receiver
            within the engine's window is not stored again. None: always stored.
    """

    data: bytes
    receiver: str | None = None
    key: str | None = None


class Entry(NamedTuple):
    """A message in a log."""

    offset: int
    receiver: str | None
    data: bytes


class Append(NamedTuple):
    """One caller's entries for one channel, stored all or none.

    Attributes:
        channel_id: Where to.
        entries: In their order.
        epoch: Where given, the log must still be of this epoch.
    """

    channel_id: str
    entries: Sequence[NewEntry]
    epoch: str | None = None

    def refusal(self, found: str | None) -> EricError | None:
        """Why it cannot be stored in a log of the epoch ``found``, None: that is not there; None where it can."""
        if found is None:
            return ChannelNotFound(self.channel_id)
        if self.epoch is not None and self.epoch != found:
            return EpochMismatch(self.channel_id, self.epoch, found)
        return None


class Appended(NamedTuple):
    """What an `Append` came to.

    Attributes:
        epoch: The log's.
        offsets: One for each entry, in their order; that of the entry stored before where the key was known.
        previous: The largest offset that the log had given before: nothing lies between it and what was stored now.
            None: the engine cannot tell.
    """

    epoch: str
    offsets: Sequence[int]
    previous: int | None = None


class View(Enum):
    """Which of a channel's messages to read, where it is not one listener's (a listener's id says that)."""

    BROADCASTS = "broadcasts"
    EVERYTHING = "everything"


class Page(NamedTuple):
    """A piece of a log, read as it was at one moment.

    Attributes:
        head: Where the log stood then.
        entries: In offset order.
        through: The offset up to which the view is complete with these entries: where to read on from.
    """

    head: Head
    entries: Sequence[Entry]
    through: int


def new_epoch() -> str:
    """A random mark for a new log."""
    return secrets.token_hex(6)


def cut_page(head: Head, entries: Sequence[Entry], after: int, limit: int, max_bytes: int | None) -> Page:
    """The page of ``entries``, read up to ``limit`` from a log at ``head``, cut where it holds ``max_bytes``."""
    size = 0
    if max_bytes is not None:
        for number, entry in enumerate(entries, start=1):
            size += len(entry.data)
            if size >= max_bytes:
                return Page(head, entries[:number], entry.offset)
    if entries and len(entries) >= limit:
        return Page(head, entries, entries[-1].offset)
    return Page(head, entries, max(after, head.last))


class MessageLog(ABC):
    """What channels sent, in order. One log a channel; broadcasts and dispatches share its sequence of offsets.

    Offsets grow, need not be consecutive, are below 2**53, and are never given twice. They become visible in order:
    who has seen offset n will never later find a smaller one.
    """

    @abstractmethod
    def create(self, channel_id: str, retention: Retention) -> bool:
        """Create the channel's log, empty and with a fresh epoch, unless it has one.

        Returns:
            Whether this call created it. A log that was there is left as it is.
        """

    @abstractmethod
    def append_group(self, appends: Sequence[Append]) -> Sequence[Appended | EricError]:
        """Store several callers' entries with one commit, as durable as the engine promises when this returns.

        Each append is stored whole or not at all, and one that fails leaves the others alone. It never creates a log.

        Returns:
            For each append, in order: what it came to, or its error (`ChannelNotFound`, `EpochMismatch`, …).

        Raises:
            RepositoryError: The commit failed; none of them was stored. (`OutcomeUnknown`: nobody knows.)
        """

    @abstractmethod
    def read(
        self,
        channel_id: str,
        after: int,
        view: View | str,
        limit: int = DEFAULT_PAGE_MESSAGES,
        max_bytes: int | None = DEFAULT_PAGE_BYTES,
    ) -> Page:
        """Read on after an offset.

        Args:
            channel_id: The channel.
            after: Messages with larger offsets are read.
            view: `View.BROADCASTS`; `View.EVERYTHING`, each entry tagged with its receiver; or a listener's id:
                broadcasts and its own dispatches.
            limit: How many entries at most.
            max_bytes: Stop at the entry with which the page holds so many bytes of data; None: no bound.

        Raises:
            ChannelNotFound: There is no such log.
        """

    @abstractmethod
    def heads(self, channel_ids: Collection[str]) -> Mapping[str, Head]:
        """Where the logs of many channels stand, in one round trip. A channel without a log is left out."""

    @abstractmethod
    def trim(self, limit: int = 10_000) -> int:
        """Remove what retention no longer keeps, of all channels, oldest first; also dedup keys out of the window.

        Returns:
            How many messages were removed. About ``limit`` at most: call again while it returns that many.
        """

    @abstractmethod
    def drop(self, channel_id: str) -> None:
        """Remove the channel's log and its cursors. Nothing happens where there is none."""

    def append(self, channel_id: str, entries: Sequence[NewEntry], epoch: str | None = None) -> Appended:
        """Store entries, all or none, and return their offsets; durable when it returns.

        Raises:
            ChannelNotFound: There is no such log.
            EpochMismatch: The log is of another epoch than the one given.
            RepositoryError: The store failed.
        """
        (outcome,) = self.append_group([Append(channel_id, entries, epoch)])
        if isinstance(outcome, EricError):
            raise outcome
        return outcome

    def count(self, channel_id: str, after: int, view: View | str, cap: int) -> int:
        """How many messages the view holds after an offset, counted up to ``cap``.

        Raises:
            ChannelNotFound: There is no such log.
        """
        return len(self.read(channel_id, after, view, limit=cap, max_bytes=None).entries)


class CursorKey(NamedTuple):
    """Whose cursor: a listener of a channel."""

    channel_id: str
    listener_id: str


def by_channel(keys: Iterable[CursorKey]) -> dict[str, list[str]]:
    """The listeners of each channel, in the order of the keys."""
    found: dict[str, list[str]] = {}
    for channel_id, listener_id in keys:
        found.setdefault(channel_id, []).append(listener_id)
    return found


class Cursors(ABC):
    """How far each listener has acknowledged. A cursor is a position: it belongs to one epoch of its channel's log."""

    @abstractmethod
    def create(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        """Create cursors at the log's end for the listeners that have none. In one commit.

        Returns:
            The ids of those that this call created.

        Raises:
            ChannelNotFound: The channel has no log.
        """

    @abstractmethod
    def get(self, keys: Collection[CursorKey]) -> Mapping[CursorKey, Position]:
        """The cursors of many listeners, in one round trip. Who has none is left out."""

    @abstractmethod
    def advance(self, positions: Mapping[CursorKey, Position]) -> None:
        """Move many cursors forward, in one commit.

        A cursor that is further already, of another epoch, or not there, is left as it is.
        """

    @abstractmethod
    def compare_and_set(self, key: CursorKey, expected: Position, new: Position) -> bool:
        """Move a cursor if it stands at ``expected``. Returns whether it did."""

    @abstractmethod
    def drop(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        """Remove listeners' cursors, and count them in the log's head (`Head.removals`), in one commit.

        Returns:
            The ids of those that had one.
        """


class Notifier(ABC):
    """Tells that a channel has something new. Lossy by contract: a wake-up may be late, doubled or lost, never data."""

    @abstractmethod
    def wake(self, channel_ids: Iterable[str]) -> None:
        """Tell everybody who listens, in this process and others, after a commit. Never raises, never blocks long."""

    @abstractmethod
    def listen(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        """Have ``callback`` called with the id of a channel that may have news; None: any of them may.

        It is called from any thread and must not block. Returns what ends the subscription.
        """

    @property
    @abstractmethod
    def healthy(self) -> bool:
        """Whether wake-ups of other processes arrive. While not, readers look for themselves more often."""
