"""One open event stream: catches up from the log, then goes live. Bytes out, no transport."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from eric_sse._util import get_logger
from eric_sse.exception import ChannelNotFound, EricError
from eric_sse.log import Gap, Page, View, resume
from eric_sse.message import Position
from eric_sse.service.tail import ChannelTail, ReadLog
from eric_sse.service.window import CHUNK_BYTES, Segment, encode_frame, encode_gap
from eric_sse.wire.sse import encode_comment, encode_event

logger = get_logger()

MESSAGE_TYPE_CLOSED = "eric.closed"
"""Type of the in-band message that says that the channel or listener is gone: there is nothing to come back to."""


def _removed(what: str) -> bytes:
    return encode_event(f'{{"removed":"{what}"}}', event=MESSAGE_TYPE_CLOSED)


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


class Consumer(Protocol):
    """Whoever takes from a stream when it is woken."""

    def wake(self) -> None:
        """There may be something to take, or the stream has ended."""
        ...

    def abort(self) -> None:
        """The stream is given up: let go of the transport at once."""
        ...

    def has_sent_all(self) -> bool:
        """Whether all that was taken, or written by the channel's tail, has left."""
        ...

    def has_progressed(self) -> bool:
        """Whether a peer that seems to take nothing has taken something since this was last asked."""
        ...


class EventStream:
    """The bytes of one event stream. Belongs to one event loop and one consumer.

    The consumer sets itself as the `consumer`, and whenever it is woken takes what there is, with :meth:`take` and
    :meth:`catch_up`. It must :meth:`release` the stream in the end.

    Args:
        channel_id: Of which channel.
        listener_id: Whose; None: an anonymous stream, which holds broadcasts only.
        read: Reads the log.
        released: Called when the consumer is done.
        retry_ms: What a client is told to wait, in milliseconds, while nothing better is known.

    Attributes:
        delivered: Called with the position through which everything was delivered, where somebody wants to know. Set
            it before the stream starts.
        consumer: Who takes what there is when woken.
        last_activity: When the transport last took something (`time.monotonic`).
        is_live: Whether the channel's tail writes to the consumer's transport, past the stream.
    """

    __slots__ = (
        "_acknowledged",
        "_ended",
        "_greeted",
        "_heartbeat_due",
        "_last_words",
        "_opened",
        "_position",
        "_read",
        "_released",
        "_retry_ms",
        "_start",
        "_told",
        "channel_id",
        "consumer",
        "delivered",
        "is_live",
        "last_activity",
        "listener_id",
    )

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
        self.is_live = False
        self.delivered: Callable[[Position], None] | None = None
        self.consumer: Consumer | None = None
        self._read = read
        self._released = released
        self._retry_ms = retry_ms
        self._heartbeat_due = False
        self._last_words: bytes | None = None
        self._ended = False
        self._start: Start | None = None
        self._greeted = False
        self._opened = False
        # Offsets: how far what was taken reaches, was delivered, and was told to the client as an id.
        self._position = self._acknowledged = self._told = 0

    def started(self, start: Start) -> None:
        """Say where the stream starts: until then it only shows that it lives."""
        self._start = start
        self._retry_ms = start.retry_ms
        self._position = self._acknowledged = self._told = start.offset
        start.tail.fan_out.waiting.add(self)
        self.wake()

    def wake(self) -> None:
        """There may be something to take."""
        if self.consumer is not None:
            self.consumer.wake()

    def heartbeat(self) -> None:
        """Have it send a sign of life, unless something else is sent first."""
        self._heartbeat_due = True
        self.wake()

    def close(self, last_words: bytes = b"") -> None:
        """End the stream, after ``last_words``. Does not wait for the consumer."""
        if self._last_words is None:
            self._last_words = last_words
            self.wake()

    def close_removed(self, what: str) -> None:
        """End the stream and say that the ``channel`` or ``listener`` is gone."""
        self.close(_removed(what))

    def close_for_restart(self) -> None:
        """End the stream and have the clients come back, not all at the same moment."""
        spread = random.randint(self._retry_ms // 2, self._retry_ms * 3 // 2)  # noqa: S311 - no secret
        self.close(encode_event(None, retry_ms=spread))

    def abort(self) -> None:
        """Give the stream up: its peer takes nothing, or its time is over."""
        self.close()
        if self.consumer is not None:
            self.consumer.abort()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come, at most last words."""
        return self._ended or self._last_words is not None

    @property
    def is_writing(self) -> bool:
        """Whether something has been taken that has not left."""
        return self.consumer is not None and not self.consumer.has_sent_all()

    @property
    def has_progressed(self) -> bool:
        """Whether a peer that seems to take nothing has taken something since this was last asked."""
        return self.consumer is not None and self.consumer.has_progressed()

    @property
    def silent_since(self) -> float:
        """When something was last sent (`time.monotonic`)."""
        if self.is_live and self._start is not None:
            return max(self.last_activity, self._start.tail.fan_out.pushed_at)
        return self.last_activity

    def release(self) -> None:
        """The consumer is done; nothing more is delivered. Idempotent."""
        self._ended = True
        if self._start is not None:
            self._start.tail.fan_out.waiting.discard(self)
        self._released(self)

    @property
    def is_behind(self) -> bool:
        """Whether what comes next is in the log alone: it takes :meth:`catch_up`."""
        start = self._start
        if start is None or not self._opened or self._last_words is not None or start.tail.ended:
            return False
        return self._position < start.tail.window.start

    def take(self) -> bytes:
        """What is to be sent now, and needs no reading; nothing where there is nothing, or the stream has ended."""
        chunk = b"" if self._ended else self._take()
        return chunk or self.take_heartbeat()

    def take_heartbeat(self) -> bytes:
        """A sign of life, where one is due."""
        if not self._heartbeat_due or self.has_ended:
            return b""
        self._heartbeat_due = False
        if self._start is None or self._told == self._position:
            return _HEARTBEAT
        self._told = self._position
        return encode_event(None, event_id=str(Position(self._start.tail.epoch, self._position)))

    def acknowledge(self) -> None:
        """Take everything as delivered, if it was sent."""
        # Closed without a word, the peer is gone: a server takes what is sent then, and throws it away.
        if self.delivered is None or self._start is None or self._last_words == b"" or self.is_writing:
            return
        reached = self._start.tail.window.through if self.is_live else self._position
        if reached > self._acknowledged:
            self._acknowledged = reached
            self.delivered(Position(self._start.tail.epoch, reached))

    def go_live(self) -> ChannelTail | None:
        """The tail that may write to the consumer's transport from now on: nothing is left to be taken. Else None."""
        start = self._start
        # Having read the log, it may be ahead of the window: what the tail writes next it has then sent already.
        if start is None or not self._opened or self.has_ended or self._position != start.tail.window.through:
            return None
        start.tail.fan_out.waiting.discard(self)
        self.is_live = True
        return start.tail

    def leave_live(self) -> ChannelTail | None:
        """The stream goes on from what the tail's window reaches now. Returns the tail, where it was live."""
        if not self.is_live or self._start is None:
            return None
        tail = self._start.tail
        self.is_live = False
        self.last_activity = max(self.last_activity, tail.fan_out.pushed_at)
        self._position = tail.window.through
        self._told = max(self._told, tail.fan_out.told)
        tail.fan_out.waiting.add(self)
        return tail

    def _take(self) -> bytes:
        if self._last_words is not None:
            self._ended = True
            return self._last_words
        if self._start is None:
            return self._greeting()
        if not self._opened:
            return self._opening(self._start)
        if self._start.tail.ended:
            self._last_words = _removed("channel")
            return self._take()
        window, chunk = self._start.tail.window, b""
        while not chunk and self._position < window.through:
            chunk = self._advance(window.after(self._position))
        return chunk

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

    def _advance(self, segment: Segment) -> bytes:
        self._position = segment.through
        chunk = segment.for_listener(self.listener_id)
        if chunk:
            self._told = self._position
            self._heartbeat_due = False
        return chunk

    async def catch_up(self) -> bytes:
        """Read on from the log, where the stream is behind what its tail remembers."""
        if self._start is None:
            return b""
        tail = self._start.tail
        try:
            if await tail.reach(self._position):
                return b""
            return self._follow(tail, await self._read_page(tail))
        except ChannelNotFound:
            tail.end()
        except EricError as error:
            tail.complain("catching up", error)
            await asyncio.sleep(_READ_AGAIN_SECONDS)
        return b""

    async def _read_page(self, tail: ChannelTail) -> Page:
        view = View.BROADCASTS if self.listener_id is None else self.listener_id
        return await self._read(tail.channel_id, self._position, view, 256, CHUNK_BYTES)

    def _follow(self, tail: ChannelTail, page: Page) -> bytes:
        if page.head.epoch != tail.epoch:
            tail.end()
            return b""
        offset, gap = resume(page.head, str(Position(tail.epoch, self._position)))
        if gap is not None:
            self._position = self._told = offset
            return encode_gap(gap, Position(tail.epoch, offset))
        return self._advance(Segment([encode_frame(tail.epoch, entry) for entry in page.entries], page.through))
