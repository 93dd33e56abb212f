"""What a channel sent last, as the bytes of its events: encoded once, whatever the number of streams."""

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from eric_sse._util import get_logger
from eric_sse.codec import decode_json, decode_stored, encode_json
from eric_sse.exception import RepositoryError
from eric_sse.log import MESSAGE_TYPE_GAP, Entry, Gap
from eric_sse.message import Position
from eric_sse.wire.sse import encode_json_event, field_value

logger = get_logger()

WINDOW_FRAMES = 2048
"""How many recent messages a tail keeps at most, encoded, for the streams that are not quite up to date."""
WINDOW_BYTES = 512 * 1024
"""How many bytes of them it keeps at most."""

CHUNK_BYTES = 8 * 1024
"""How many bytes a stream that catches up hands to its connection at once, about. A peer that reads nothing costs a
little more."""

_MAX_SEGMENTS = 64

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
        shared: The bytes of the broadcasts.
    """

    __slots__ = ("_broadcasts", "_dispatches", "shared", "through")

    def __init__(self, frames: Sequence[Frame], through: int) -> None:
        self.through = through
        self._broadcasts = [frame for frame in frames if frame.receiver is None]
        self.shared = b"".join([frame.data for frame in self._broadcasts])
        self._dispatches: dict[str, list[Frame]] = {}
        for frame in frames:
            if frame.receiver is not None:
                self._dispatches.setdefault(frame.receiver, []).append(frame)

    @property
    def receivers(self) -> Collection[str]:
        """Who has frames of their own."""
        return self._dispatches.keys()

    def for_listener(self, listener_id: str | None) -> bytes:
        """The bytes for one listener, or, with None, for an anonymous stream."""
        own = self._dispatches.get(listener_id) if listener_id is not None else None
        if own is None:
            return self.shared
        return b"".join(frame.data for frame in heapq.merge(self._broadcasts, own, key=_offset))


def _offset(frame: Frame) -> int:
    return frame.offset


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
        # Where each frame ends, counted in bytes through all that the window ever held; and where the first begins.
        self._ends: list[int] = []
        self._floor = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        # Streams that wait together ask for what follows the same offset: it is put together once.
        self._segments: dict[int, Segment] = {}

    @property
    def is_full(self) -> bool:
        """Whether the oldest frame goes when another comes."""
        held = self._ends[-1] - self._floor if self._ends else 0
        return len(self._frames) >= self._max_frames or held >= self._max_bytes

    def extend(self, frames: Iterable[Frame], through: int) -> None:
        """Add what follows; forget the oldest where it becomes too much."""
        end = self._ends[-1] if self._ends else self._floor
        for frame in frames:
            end += len(frame.data)
            self._frames.append(frame)
            self._ends.append(end)
        self.through = through
        self._segments.clear()
        surplus = max(0, len(self._frames) - self._max_frames)
        if end - self._floor > self._max_bytes:
            surplus = max(surplus, bisect_left(self._ends, end - self._max_bytes) + 1)
        if surplus:
            self.start = self._frames[surplus - 1].offset
            self._floor = self._ends[surplus - 1]
            del self._frames[:surplus], self._ends[:surplus]

    def prepend(self, frames: Sequence[Frame], start: int) -> int:
        """Begin at ``start``, with the frames that follow it up to where the window began, or beyond.

        Returns:
            Where it begins now: later, where it would hold too much.
        """
        frames = frames[: bisect_right(frames, self.start, key=_offset)]
        size = sum(len(frame.data) for frame in frames)
        held = (self._ends[-1] if self._ends else self._floor) - self._floor
        surplus = 0
        while surplus < len(frames) and (
            len(frames) - surplus + len(self._frames) > self._max_frames or size + held > self._max_bytes
        ):
            size -= len(frames[surplus].data)
            start = frames[surplus].offset
            surplus += 1
        frames = frames[surplus:]
        self._floor -= size
        self._ends[:0] = accumulate((len(frame.data) for frame in frames), initial=self._floor)
        del self._ends[0]
        self._frames[:0] = frames
        self.start = start
        return start

    def after(self, offset: int) -> Segment:
        """Some of what follows ``offset``, which must lie between start and through; about `CHUNK_BYTES`."""
        segment = self._segments.get(offset)
        if segment is None:
            if len(self._segments) >= _MAX_SEGMENTS:
                self._segments.clear()
            segment = self._segments[offset] = self._segment(offset)
        return segment

    def _segment(self, offset: int) -> Segment:
        first = bisect_right(self._frames, offset, key=_offset)
        if first == len(self._frames):
            return Segment((), self.through)
        # It ends where the count of bytes passes a multiple, wherever it begins: streams that come back with different
        # ids soon ask for the same segments.
        end = bisect_left(self._ends, (self._ends[first] // CHUNK_BYTES + 1) * CHUNK_BYTES, first)
        through = self.through if end == len(self._frames) else self._frames[end - 1].offset
        return Segment(self._frames[first:end], through)
