"""The open streams of this process and the channel tails they follow; one sweep serves them all."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping

from eric_sse._util import get_logger
from eric_sse.log import Append, Appended, CursorKey, Head, View
from eric_sse.message import Position
from eric_sse.service.stream import EventStream
from eric_sse.service.tail import ChannelTail, ReadLog

logger = get_logger()


class Hub:
    """Who listens to what, in this process. Belongs to one event loop.

    Args:
        read: Reads a log.
        get_cursors: As `Cursors.get`, without blocking the event loop.
        heartbeat_s: How long a stream may be silent, in seconds.
        send_timeout_s: How long a peer may take nothing of what is sent to it, in seconds.
        gather_s: How long to gather messages between two rounds of writes, in seconds, at most.

    Attributes:
        draining: Whether streams are being ended for good.
    """

    def __init__(
        self,
        read: ReadLog,
        get_cursors: Callable[[Collection[CursorKey]], Awaitable[Mapping[CursorKey, Position]]],
        heartbeat_s: float,
        send_timeout_s: float,
        gather_s: float,
    ) -> None:
        self._read = read
        self._get_cursors = get_cursors
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        self._gather_s = gather_s
        self._sweep_at = 0.0
        self._streams: dict[str, set[EventStream]] = {}
        self._tails: dict[str, ChannelTail] = {}
        self.draining = False
        self._emptied = asyncio.Event()

    def tail(self, channel_id: str, head: Head, retry_ms: int) -> ChannelTail | None:
        """The tail of a channel whose log stands, or stood a moment ago, at ``head``.

        None where what is followed is another log than that of ``head``: one of the two is gone. Ask the store again.
        """
        tail = self._tails.get(channel_id)
        if tail is None or tail.ended:
            tail = ChannelTail(channel_id, head, retry_ms, self._read, self.end_removed, gather_s=self._gather_s)
            self._tails[channel_id] = tail
            # A wake-up may have come between the reading of the head and now.
            tail.mark_dirty()
        elif tail.epoch != head.epoch:
            tail.mark_dirty()
            return None
        return tail

    def following(self, channel_id: str) -> ChannelTail | None:
        """The tail of a channel that is followed already, where it knows of no news, such as that it is gone."""
        tail = self._tails.get(channel_id)
        return None if tail is None or tail.ended or tail.is_dirty else tail

    def add(self, stream: EventStream) -> None:
        """Take in an open stream."""
        self._streams.setdefault(stream.channel_id, set()).add(stream)
        self._sweep_at = 0.0
        if self.draining:
            stream.close_for_restart()

    def remove(self, stream: EventStream) -> None:
        """Forget a stream; its channel's tail too, where it was the last."""
        streams = self._streams.get(stream.channel_id, set())
        streams.discard(stream)
        if not streams:
            self._streams.pop(stream.channel_id, None)
        if not self._streams:
            self._emptied.set()
        tail = self._tails.get(stream.channel_id)
        if tail is not None and not tail.fan_out:
            del self._tails[stream.channel_id]
            tail.stop()

    def count(self, channel_id: str) -> int:
        """How many streams of a channel are open. May be called from any thread."""
        return len(self._streams.get(channel_id, ()))

    def stored(self, append: Append, appended: Appended | None) -> None:
        """Messages were stored through this process; or perhaps, where it is not known what they came to."""
        tail = self._tails.get(append.channel_id)
        if tail is not None and appended is not None:
            tail.stored(append.entries, appended)
        elif tail is not None:
            tail.mark_dirty()

    def wake(self, channel_id: str | None) -> None:
        """A channel, or with None any of them, may have something new."""
        tails = list(self._tails.values()) if channel_id is None else [self._tails.get(channel_id)]
        for tail in tails:
            if tail is not None:
                tail.mark_dirty()

    async def end_removed(self, channel_id: str) -> None:
        """End the streams of those of a channel's listeners that are gone, here or by another server's doing.

        Raises:
            ChannelNotFound: The channel is gone.
            RepositoryError: The store does not answer.
        """
        # Taken before the store is asked: a stream that comes later may be of a listener that was added later.
        named = [stream for stream in self._streams.get(channel_id, ()) if stream.listener_id is not None]
        if not named:
            return
        cursors = await self._get_cursors({CursorKey(channel_id, str(stream.listener_id)) for stream in named})
        gone = [stream for stream in named if CursorKey(channel_id, str(stream.listener_id)) not in cursors]
        if gone:
            # Where the whole channel is gone, its streams are to be told that.
            await self._read(channel_id, 0, View.BROADCASTS, 1, 1)
        for stream in gone:
            stream.close_removed("listener")

    def sweep_if_due(self) -> None:
        """Sweep, unless nothing can be due. To be called every second or so.

        Streams that are all live and idle are not looked at: after a second without work their objects are in no cache,
        and to go through a thousand of them would be most of what they cost.
        """
        tails = self._tails.values()
        if time.monotonic() >= self._sweep_at or any(tail.fan_out.has_changed for tail in tails):
            for tail in tails:
                tail.fan_out.has_changed = False
            self._sweep_at = self.sweep()

    def sweep(self) -> float:
        """Heartbeats for the silent, an end for those whose peer takes nothing, acknowledgements for what was sent.

        Returns:
            When to sweep again, where no stream comes, leaves or is sent something before (`time.monotonic`).
        """
        now = time.monotonic()
        soonest_s = min(self._heartbeat_s, self._send_timeout_s)
        due = now + soonest_s
        for stream in list(self._all()):
            if not stream.is_live:
                due = now
            elif stream.delivered is not None:
                stream.acknowledge()
                due = now if stream.is_writing else due
            silent = now - stream.silent_since
            due = min(due, now - silent + soonest_s)
            if silent < soonest_s:
                continue
            if not stream.is_writing:
                if silent >= self._heartbeat_s:
                    stream.heartbeat()
            elif silent > self._send_timeout_s and not stream.has_progressed:
                logger.info("a stream of channel %r takes nothing for %d s: closed", stream.channel_id, silent)
                stream.abort()
        return due

    def tails(self) -> dict[str, ChannelTail]:
        """What is followed now, by channel."""
        return dict(self._tails)

    async def drain(self, timeout_s: float) -> None:
        """End all streams, politely at first; returns when they are gone or after ``timeout_s`` seconds.

        Streams that are opened from now on end at once.
        """
        self.draining = True
        for stream in list(self._all()):
            stream.close_for_restart()
        if self._streams:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), timeout_s)
        for stream in list(self._all()):
            stream.abort()

    def _all(self) -> Iterator[EventStream]:
        for streams in self._streams.values():
            yield from streams
