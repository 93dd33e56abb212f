"""The live tail of a channel: its news are read once, whatever the number of streams."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from eric_sse._util import get_logger
from eric_sse.exception import ChannelNotFound, EricError
from eric_sse.log import Appended, Entry, Head, NewEntry, Page, View
from eric_sse.service.fan_out import FanOut
from eric_sse.service.turns import Turns
from eric_sse.service.window import WINDOW_BYTES, WINDOW_FRAMES, Frame, Segment, Window, encode_frame

logger = get_logger()

_PAGE_FRAMES = WINDOW_FRAMES // 4
_PAGE_BYTES = WINDOW_BYTES // 4

_MAX_GATHERED = 4 * WINDOW_FRAMES

# How many times as long as a round of writes took to wait before the next, up to the cap: while messages pour in,
# writing takes a quarter of the time then, and three quarters are left for receiving them.
_REST = 3
# A round that took less, in seconds, is not worth a pause, which takes a millisecond at least.
_SHORT_ROUND_S = 0.0002

# Of those who return: some milliseconds of work.
_SERVED_AT_ONCE = 16

_COMPLAIN_EVERY_S = 10.0

_RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)


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
        retry_ms: How long its clients are told to wait before they come back, in milliseconds.
        read: Reads the log.
        end_removed: Ends the streams of the channel's listeners that are gone.
        gather_s: How long to gather what comes after a round of writes, in seconds, at most.

    Attributes:
        epoch: Of the log that is followed.
        window: The recent frames.
        fan_out: Who follows.
        ended: Whether the channel is gone.
    """

    def __init__(
        self,
        channel_id: str,
        head: Head,
        retry_ms: int,
        read: ReadLog,
        end_removed: Callable[[str], Awaitable[None]],
        *,
        gather_s: float,
    ) -> None:
        self.channel_id = channel_id
        self.retry_ms = retry_ms
        self.epoch = head.epoch
        self.window = Window(head.last)
        self.ended = False
        self._read = read
        self._end_removed = end_removed
        self._gather_s = gather_s
        # None: not looked yet. A listener may have been removed while its first stream was about to open.
        self._removals: int | None = None
        self.fan_out = FanOut()
        # After a round of writes (`time.monotonic`).
        self._rests_until = 0.0
        self._dirty = False
        self._is_reading = False
        # What was stored through this process, and follows the window or what was gathered before.
        self._gathered: list[Entry] = []
        self._task: asyncio.Task[None] | None = None
        self._reach = Reach(self)
        self._complained_at = -_COMPLAIN_EVERY_S

    @property
    def is_dirty(self) -> bool:
        """Whether the log is to be looked at."""
        return self._dirty or self._is_reading

    def mark_dirty(self) -> None:
        """Something may be new: read until there is nothing more."""
        self._dirty = True
        self._start_following()

    def _start_following(self) -> None:
        if self._task is None and not self.ended:
            self._task = asyncio.create_task(self._follow(), name=f"eric_sse tail of {self.channel_id}")

    def stored(self, entries: Sequence[NewEntry], appended: Appended) -> None:
        """Messages were stored through this process: where nothing lies in between, they need no reading."""
        known = self._gathered[-1].offset if self._gathered else self.window.through
        if appended.epoch != self.epoch or appended.previous != known:
            self.mark_dirty()
            return
        for offset, (data, receiver, _) in zip(appended.offsets, entries, strict=True):
            if offset > known:
                self._gathered.append(Entry(offset, receiver, data))
                known = offset
        if len(self._gathered) > _MAX_GATHERED:
            # It is stored faster than sent, and the log has it all.
            self._gathered.clear()
            self._dirty = True
        self._start_following()

    def check(self, head: Head | None) -> None:
        """Compare with where the log stands now (None: it is gone): what a lost wake-up would have told."""
        if head is None or head.epoch != self.epoch:
            self.end()
        elif head.last > self.window.through or head.removals != self._removals:
            self.mark_dirty()

    def end(self) -> None:
        """The channel is gone: its streams end."""
        self.ended = True
        self.fan_out.wake_all()

    def stop(self) -> None:
        """Follow no longer: nobody listens."""
        self.ended = True
        self._reach.stop()
        if self._task is not None:
            self._task.cancel()

    async def _follow(self) -> None:
        failures = 0
        try:
            while (self._dirty or self._gathered) and not self.ended:
                await self._rest()
                try:
                    # What others have stored, or removed, is not to wait for a lull here.
                    if await self._send_gathered() and not self._dirty:
                        continue
                    self._dirty = False
                    self._is_reading = True
                    page = await self.read(self.window.through)
                    await self._heed_removals(page.head)
                    failures = 0
                    begun = time.monotonic()
                    news = self._take(page)
                    self._is_reading = False
                    if news:
                        await self._let_send(begun)
                except ChannelNotFound:
                    self.end()
                except EricError as error:
                    # The store is away: streams stay open, and go on where they were.
                    self.complain("reading its news", error)
                    failures = await self._back_off(failures)
                except Exception:
                    logger.exception("channel %r: reading its news failed, trying again", self.channel_id)
                    failures = await self._back_off(failures)
        finally:
            self._task = None

    async def _send_gathered(self) -> bool:
        """Send of what was gathered as much as one read would have brought. Returns whether there was something."""
        count, size = 0, 0
        while count < min(len(self._gathered), _PAGE_FRAMES) and size < _PAGE_BYTES:
            size += len(self._gathered[count].data)
            count += 1
        entries = self._gathered[:count]
        del self._gathered[:count]
        # What was read meanwhile may hold some of them.
        fresh = [entry for entry in entries if entry.offset > self.window.through]
        if fresh:
            begun = time.monotonic()
            self._extend(fresh, fresh[-1].offset)
            self.fan_out.wake()
            await self._let_send(begun)
        return count > 0

    async def _heed_removals(self, head: Head) -> None:
        if head.epoch == self.epoch and head.removals != self._removals:
            await self._end_removed(self.channel_id)
            self._removals = head.removals

    def complain(self, what: str, error: EricError) -> None:
        """Log that something failed and is tried again: now and then, whatever the number of streams."""
        now = time.monotonic()
        if now - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = now
            logger.warning("channel %r: %s failed, trying again: %s", self.channel_id, what, error)

    async def read(self, after: int) -> Page:
        """A page of everything that follows an offset.

        Raises:
            ChannelNotFound: The channel is gone.
            RepositoryError: The store does not answer.
        """
        return await self._read(self.channel_id, after, View.EVERYTHING, _PAGE_FRAMES, _PAGE_BYTES)

    async def reach(self, offset: int) -> bool:
        """Try to have the window begin at ``offset``; whether it does. Reads once for all who ask at the same time.

        Raises:
            ChannelNotFound: The channel is gone.
            RepositoryError: The store does not answer.
        """
        return await self._reach.back_to(offset)

    async def _let_send(self, begun: float) -> None:
        """Let the streams send, and see how long the round of writes took."""
        await asyncio.sleep(0)  # the streams that were woken run before this returns
        now = time.monotonic()
        if now - begun >= _SHORT_ROUND_S:
            self._rests_until = now + min(_REST * (now - begun), self._gather_s)

    async def _rest(self) -> None:
        """Pause for a few times as long as the last round of writes took: what comes meanwhile leaves together.

        Writing to thousands takes longer than storing a message; without the pause each would cost a write to each. So
        the delay fits the load: what comes when nothing else does is sent at once.
        """
        if (left := self._rests_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _back_off(self, failures: int) -> int:
        # What was gathered may have been lost; the log has it.
        self._gathered.clear()
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
            self._leave_behind()
            self.window = Window(page.through)
        elif page.through > self.window.through:
            self._extend(page.entries, page.through)
        else:
            return False
        self._dirty = self._dirty or page.through < page.head.last
        self.fan_out.wake()
        return True

    def _extend(self, entries: Sequence[Entry], through: int) -> None:
        frames = [encode_frame(self.epoch, entry) for entry in entries]
        if sum(len(frame.data) for frame in frames) > WINDOW_BYTES:
            self._leave_behind()  # the window will not hold it
        self.window.extend(frames, through)
        self.fan_out.push(Segment(frames, through))

    def _leave_behind(self) -> None:
        for peer in self.fan_out.live():
            peer.fall_behind()


class Reach:
    """Brings a tail's window back to where streams that return want to go on: one reading for all of them.

    Args:
        tail: Whose window.
    """

    def __init__(self, tail: ChannelTail) -> None:
        self._tail = tail
        self._turns = Turns(_SERVED_AT_ONCE)
        self._wanted: list[int] = []
        self._reading: asyncio.Future[None] | None = None
        # From here back, the window would hold too much.
        self._too_far = 0

    async def back_to(self, offset: int) -> bool:
        """As `ChannelTail.reach`."""
        if offset <= self._too_far or self._tail.window.is_full:
            return False
        self._wanted.append(offset)
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read_wanted())
            # Whoever asked may be gone when it fails.
            self._reading.add_done_callback(lambda reading: reading.cancelled() or reading.exception())
        await asyncio.shield(self._reading)
        await self._turns.wait()  # thousands may go on from here
        return offset >= self._tail.window.start

    def stop(self) -> None:
        """Nobody listens: read no more."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read_wanted(self) -> None:
        try:
            await asyncio.sleep(0)  # others ask in the same turn of the loop
            while self._wanted:
                offset = min(self._wanted)
                self._wanted = [other for other in self._wanted if other > offset]
                if self._too_far < offset < self._tail.window.start:
                    await self._read_from(offset)
        finally:
            self._wanted.clear()
            self._reading = None

    async def _read_from(self, offset: int) -> None:
        window, epoch = self._tail.window, self._tail.epoch
        frames: list[Frame] = []
        through, size = offset, 0
        while through < window.start and len(frames) <= WINDOW_FRAMES and size <= WINDOW_BYTES:
            page = await self._tail.read(through)
            if page.head.epoch != epoch or page.head.trimmed > offset or window is not self._tail.window:
                return
            frames += [encode_frame(epoch, entry) for entry in page.entries]
            size = sum(len(frame.data) for frame in frames)
            through = page.through
        if through < window.start:
            self._too_far = max(self._too_far, through)
        elif window.prepend(frames, offset) > offset:
            self._too_far = max(self._too_far, window.start - 1)
