"""The live tail of a channel: its news are read once and encoded once, whatever the number of streams."""

import asyncio
import heapq
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from eric_sse._util import Signal, get_logger
from eric_sse.codec import decode_json, decode_stored, encode_json
from eric_sse.exception import ChannelNotFound, EricError, RepositoryError
from eric_sse.log import MESSAGE_TYPE_GAP, Entry, Gap, Head, Page, View
from eric_sse.message import Position
from eric_sse.wire.sse import encode_json_event, field_value

logger = get_logger()

WINDOW_FRAMES = 2048
"""How many recent messages a tail keeps at most, encoded, for the streams that are not quite up to date."""
WINDOW_BYTES = 512 * 1024
"""How many bytes of them it keeps at most."""

CHUNK_BYTES = 8 * 1024
"""How many bytes a stream hands to its connection at once, about. A peer that reads nothing costs a little more."""

_REST_MIN_S, _REST_MAX_S = 0.001, 0.02

_RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)

_type_field = lru_cache(maxsize=1024)(field_value)


class Frame(NamedTuple):
    """A message as the bytes of its event."""

    offset: int
    receiver: str | None
    data: bytes


def encode_frame(epoch: str, entry: Entry) -> Frame:
    """The event that a stream carries for a stored message; a gap in the place of one that cannot be read."""
    try:
        stored = decode_stored(entry.data)
        data = encode_json_event(
            _one_line(bytes(stored.payload)),
            event=_type_field(stored.type),
            event_id=b"%b-%d" % (epoch.encode(), entry.offset),
        )
    except (RepositoryError, ValueError):
        logger.exception("message %s-%d cannot be read", epoch, entry.offset)
        gap = Gap("unknown", str(Position(epoch, entry.offset - 1)))
        data = encode_gap(gap, Position(epoch, entry.offset))
    return Frame(entry.offset, entry.receiver, data)


def _one_line(payload: bytes) -> bytes:
    # The codec writes one line always; another program that writes to the store may not, and a line break would let
    # it forge fields.
    if b"\n" in payload or b"\r" in payload:
        return encode_json(decode_json(payload))
    return payload


def encode_gap(gap: Gap, position: Position) -> bytes:
    """The event that tells a gap, with the id just before what follows."""
    return encode_json_event(
        encode_json(gap._asdict()), event=MESSAGE_TYPE_GAP.encode(), event_id=str(position).encode()
    )


class Segment:
    """Some frames that follow one another: the bytes that all share, and who has frames of their own in between.

    Attributes:
        through: What comes next follows this offset.
    """

    def __init__(self, frames: Sequence[Frame], through: int) -> None:
        self.through = through
        self._broadcasts = [frame for frame in frames if frame.receiver is None]
        self._shared = b"".join(frame.data for frame in self._broadcasts)
        self._dispatches: dict[str, list[Frame]] = {}
        for frame in frames:
            if frame.receiver is not None:
                self._dispatches.setdefault(frame.receiver, []).append(frame)

    def for_listener(self, listener_id: str | None) -> bytes:
        """The bytes for one listener, or, with None, for an anonymous stream."""
        own = self._dispatches.get(listener_id) if listener_id is not None else None
        if own is None:
            return self._shared
        return b"".join(frame.data for frame in heapq.merge(self._broadcasts, own, key=lambda frame: frame.offset))


class Window:
    """The most recent frames of a channel, bounded in number and bytes, without a hole.

    Attributes:
        start: Everything after this offset is in it,
        through: up to this one.
    """

    def __init__(self, start: int, max_frames: int = WINDOW_FRAMES, max_bytes: int = WINDOW_BYTES) -> None:
        self.start = start
        self.through = start
        self._frames: list[Frame] = []
        self._bytes = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        # Streams that wait together ask for what follows the same offset: it is put together once.
        self._segments: dict[int, Segment] = {}

    def extend(self, frames: Iterable[Frame], through: int) -> None:
        """Add what follows; forget the oldest where it becomes too much."""
        for frame in frames:
            self._frames.append(frame)
            self._bytes += len(frame.data)
        self.through = through
        self._segments.clear()
        surplus = max(0, len(self._frames) - self._max_frames)
        self._bytes -= sum(len(frame.data) for frame in self._frames[:surplus])
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._frames[surplus].data)
            surplus += 1
        if surplus:
            self.start = self._frames[surplus - 1].offset
            del self._frames[:surplus]

    def after(self, offset: int) -> Segment:
        """What follows ``offset``, which must lie between start and through."""
        segment = self._segments.get(offset)
        if segment is None:
            segment = self._segments[offset] = self._segment(offset)
        return segment

    def _segment(self, offset: int) -> Segment:
        first = bisect_right(self._frames, offset, key=lambda frame: frame.offset)
        end, size = first, 0
        while end < len(self._frames) and size < CHUNK_BYTES:
            size += len(self._frames[end].data)
            end += 1
        through = self.through if end == len(self._frames) else self._frames[end - 1].offset
        return Segment(self._frames[first:end], through)


class ReadLog(Protocol):
    """Reads a page of a channel's log without blocking the event loop."""

    async def __call__(self, channel_id: str, after: int, view: View | str, limit: int, max_bytes: int) -> Page:
        """As `MessageLog.read`."""
        ...


class ChannelTail:
    """Follows one channel and wakes its streams. Belongs to one event loop.

    Args:
        channel_id: The channel.
        head: Where its log stood when following began.
        read: Reads the log.
        end_removed: Ends the streams of the channel's listeners that are gone.

    Attributes:
        epoch: Of the log that is followed.
        window: The recent frames.
        ended: Whether the channel is gone.
    """

    def __init__(
        self, channel_id: str, head: Head, read: ReadLog, end_removed: Callable[[str], Awaitable[None]]
    ) -> None:
        self.channel_id = channel_id
        self.epoch = head.epoch
        self.window = Window(head.last)
        self.ended = False
        self._read = read
        self._end_removed = end_removed
        # None: not looked yet. A listener may have been removed while its first stream was about to open.
        self._removals: int | None = None
        self._news = Signal()
        self._dirty = False
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called when there is something new or the channel is gone. Returns what ends that."""
        return self._news.subscribe(wake)

    @property
    def subscribers(self) -> int:
        """How many streams follow."""
        return len(self._news)

    def mark_dirty(self) -> None:
        """Something may be new: read until there is nothing more."""
        self._dirty = True
        if self._task is None and not self.ended:
            self._task = asyncio.create_task(self._follow(), name=f"eric_sse tail of {self.channel_id}")

    def check(self, head: Head | None) -> None:
        """Compare with where the log stands now (None: it is gone): what a lost wake-up would have told."""
        if head is None or head.epoch != self.epoch:
            self.end()
        elif head.last > self.window.through or head.removals != self._removals:
            self.mark_dirty()

    def end(self) -> None:
        """The channel is gone: its streams end."""
        self.ended = True
        self._news.notify()

    def stop(self) -> None:
        """Follow no longer: nobody listens."""
        self.ended = True
        if self._task is not None:
            self._task.cancel()

    async def _follow(self) -> None:
        failures = 0
        try:
            while self._dirty and not self.ended:
                self._dirty = False
                try:
                    page = await self._read(
                        self.channel_id, self.window.through, View.EVERYTHING, WINDOW_FRAMES // 4, WINDOW_BYTES // 4
                    )
                    await self._heed_removals(page.head)
                    failures = 0
                    if self._take(page):
                        await self._rest()
                except ChannelNotFound:
                    self.end()
                except EricError as error:
                    # The store is away: streams stay open, and go on where they were.
                    logger.warning("channel %r: reading its news failed, trying again: %s", self.channel_id, error)
                    failures = await self._back_off(failures)
                except Exception:
                    logger.exception("channel %r: reading its news failed, trying again", self.channel_id)
                    failures = await self._back_off(failures)
        finally:
            self._task = None

    async def _heed_removals(self, head: Head) -> None:
        if head.epoch == self.epoch and head.removals != self._removals:
            await self._end_removed(self.channel_id)
            self._removals = head.removals

    async def _rest(self) -> None:
        """Let the streams send, and pause as long again: what comes meanwhile leaves together.

        Sending to thousands takes longer than storing a message; without the pause each would cost a write to each.
        """
        begun = time.monotonic()
        await asyncio.sleep(0)  # the streams that were woken run before this returns
        took = time.monotonic() - begun
        if took >= _REST_MIN_S:
            await asyncio.sleep(min(took, _REST_MAX_S))

    async def _back_off(self, failures: int) -> int:
        self._dirty = True
        await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
        return failures + 1

    def _take(self, page: Page) -> bool:
        """Add what was read to the window. Returns whether it was news."""
        if page.head.epoch != self.epoch:
            self.end()
            return False
        if page.head.trimmed > self.window.through:
            # It was trimmed before it was read here; each stream finds out, and says so, when it reads the log.
            self.window = Window(page.through)
        elif page.through > self.window.through:
            self.window.extend([encode_frame(self.epoch, entry) for entry in page.entries], page.through)
        else:
            return False
        self._dirty = self._dirty or page.through < page.head.last
        self._news.notify()
        return True
