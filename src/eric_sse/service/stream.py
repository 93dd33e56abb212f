"""One open event stream: catches up from the log, then goes live. Bytes out, no transport."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import NamedTuple

from eric_sse._util import get_logger
from eric_sse.exception import ChannelNotFound, EricError
from eric_sse.log import Gap, View, resume
from eric_sse.message import Position
from eric_sse.service.tail import CHUNK_BYTES, ChannelTail, ReadLog, Segment, encode_frame, encode_gap
from eric_sse.wire.sse import encode_comment, encode_event

logger = get_logger()

MESSAGE_TYPE_CLOSED = "eric.closed"
"""Type of the in-band message that says that the channel or listener is gone: there is nothing to come back to."""


def _nothing() -> None:
    """Nothing is to be done."""


_HEARTBEAT = encode_comment()
_READ_AGAIN_SECONDS = 0.5


class Start(NamedTuple):
    """Where a stream starts.

    Attributes:
        tail: What it goes live on.
        offset: What it holds follows this.
        gap: Told first, where something is missing.
        retry_ms: How long a client is to wait before it comes back, in milliseconds.
    """

    tail: ChannelTail
    offset: int
    gap: Gap | None
    retry_ms: int


class EventStream:
    """The bytes of one event stream. Belongs to one event loop and one consumer.

    The consumer hands each chunk to its transport as it is, and asks for the next when the transport took it: what
    was returned before then counts as delivered. It must :meth:`release` the stream in the end.

    Args:
        channel_id: Of which channel.
        listener_id: Whose; None: an anonymous stream, which holds broadcasts only.
        read: Reads the log.
        released: Called when the consumer is done.
        retry_ms: What a client is told to wait, in milliseconds, while nothing better is known.

    Attributes:
        delivered: Called with the position through which everything was delivered, where somebody wants to know. Set
            it before the stream starts.
        aborted: Called when the stream is given up; set by the consumer, to let go of its transport at once.
        last_activity: When a chunk was last returned or asked for (`time.monotonic`).
        is_writing: Whether a chunk is with the transport.
    """

    def __init__(
        self,
        channel_id: str,
        listener_id: str | None,
        read: ReadLog,
        released: Callable[["EventStream"], None],
        retry_ms: int,
    ) -> None:
        self.channel_id = channel_id
        self.listener_id = listener_id
        self.last_activity = time.monotonic()
        self.is_writing = False
        self.delivered: Callable[[Position], None] | None = None
        self.aborted: Callable[[], object] = _nothing
        self._read = read
        self._released = released
        self._retry_ms = retry_ms
        self._woken = asyncio.Event()
        self._heartbeat_due = False
        self._last_words: bytes | None = None
        self._ended = False
        self._start: Start | None = None
        self._unsubscribe: Callable[[], object] = _nothing
        self._greeted = False
        self._opened = False
        # Offsets: how far what was returned reaches, was delivered, and was told to the client as an id.
        self._position = self._acknowledged = self._told = 0

    def started(self, start: Start) -> None:
        """Say where the stream starts: until then it only shows that it lives."""
        self._start = start
        self._retry_ms = start.retry_ms
        self._position = self._acknowledged = self._told = start.offset
        self._unsubscribe = start.tail.subscribe(self._woken.set)
        self._woken.set()

    def heartbeat(self) -> None:
        """Have it send a sign of life, unless something else is sent first."""
        self._heartbeat_due = True
        self._woken.set()

    def close(self, last_words: bytes = b"") -> None:
        """End the stream, after ``last_words``. Does not wait for the consumer."""
        if self._last_words is None:
            self._last_words = last_words
            self._woken.set()

    def close_removed(self, what: str) -> None:
        """End the stream and say that the ``channel`` or ``listener`` is gone."""
        self.close(encode_event(f'{{"removed":"{what}"}}', event=MESSAGE_TYPE_CLOSED))

    def close_for_restart(self) -> None:
        """End the stream and have the clients come back, not all at the same moment."""
        spread = random.randint(self._retry_ms // 2, self._retry_ms * 3 // 2)  # noqa: S311 - no secret
        self.close(encode_event(None, retry_ms=spread))

    def abort(self) -> None:
        """Give the stream up: its peer takes nothing, or its time is over."""
        self.close()
        self.aborted()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come, at most last words."""
        return self._ended or self._last_words is not None

    def release(self) -> None:
        """The consumer is done; nothing more is delivered, and who still asks for a chunk gets None. Idempotent."""
        self._ended = True
        self._woken.set()
        self._unsubscribe()
        self._released(self)

    async def next_chunk(self) -> bytes | None:
        """The next bytes to send, when there are some; None when the stream has ended."""
        self.is_writing = False
        self.last_activity = time.monotonic()
        self._acknowledge()
        while not self._ended:
            self._woken.clear()
            behind = self._tail_ahead()
            chunk = self._take() if behind is None else await self._catch_up(behind)
            if chunk := chunk or self._take_heartbeat():
                self.is_writing = True
                self.last_activity = time.monotonic()
                return chunk
            if self._has_nothing_to_do():
                await self._woken.wait()
        return None

    def _tail_ahead(self) -> ChannelTail | None:
        """The tail, where what comes next is in the log alone."""
        start = self._start
        if start is None or not self._opened or self._last_words is not None or start.tail.ended:
            return None
        return start.tail if self._position < start.tail.window.start else None

    def _take(self) -> bytes:
        """What is to be sent now, and needs no reading."""
        if self._last_words is not None:
            self._ended = True
            return self._last_words
        if self._start is None:
            return self._greeting()
        if not self._opened:
            return self._opening(self._start)
        if self._start.tail.ended:
            self.close_removed("channel")
            return b""
        window = self._start.tail.window
        return b"" if self._position >= window.through else self._advance(window.after(self._position))

    def _has_nothing_to_do(self) -> bool:
        if self.has_ended:
            return False
        return self._start is None or self._position >= self._start.tail.window.through

    def _acknowledge(self) -> None:
        # Closed without a word, the peer is gone: a server takes what is sent then, and throws it away.
        if self.delivered is None or self._start is None or self._last_words == b"":
            return
        if self._position > self._acknowledged:
            self._acknowledged = self._position
            self.delivered(Position(self._start.tail.epoch, self._position))

    def _greeting(self) -> bytes:
        # EventSource gives up for good on any status but 200: with the store away the stream opens, and waits.
        if self._greeted:
            return b""
        self._greeted = True
        return encode_event(None, retry_ms=self._retry_ms)

    def _opening(self, start: Start) -> bytes:
        # A block that holds only an id: a client that drops before its first event still knows where it was.
        self._opened = True
        position = Position(start.tail.epoch, start.offset)
        opening = encode_event(None, event_id=str(position), retry_ms=start.retry_ms)
        return opening if start.gap is None else opening + encode_gap(start.gap, position)

    def _take_heartbeat(self) -> bytes:
        if not self._heartbeat_due or self.has_ended:
            return b""
        self._heartbeat_due = False
        if self._start is None or self._told == self._position:
            return _HEARTBEAT
        self._told = self._position
        return encode_event(None, event_id=str(Position(self._start.tail.epoch, self._position)))

    def _advance(self, segment: Segment) -> bytes:
        self._position = segment.through
        chunk = segment.for_listener(self.listener_id)
        if chunk:
            self._told = self._position
            self._heartbeat_due = False
        return chunk

    async def _catch_up(self, tail: ChannelTail) -> bytes:
        """Read on from the log."""
        view = View.BROADCASTS if self.listener_id is None else self.listener_id
        try:
            page = await self._read(tail.channel_id, self._position, view, 256, CHUNK_BYTES)
        except ChannelNotFound:
            tail.end()
            return b""
        except EricError as error:
            logger.warning("channel %r: catching up failed, trying again: %s", tail.channel_id, error)
            await asyncio.sleep(_READ_AGAIN_SECONDS)
            return b""
        if page.head.epoch != tail.epoch:
            tail.end()
            return b""
        offset, gap = resume(page.head, str(Position(tail.epoch, self._position)))
        if gap is not None:
            self._position = self._told = offset
            return encode_gap(gap, Position(tail.epoch, offset))
        return self._advance(Segment([encode_frame(tail.epoch, entry) for entry in page.entries], page.through))
