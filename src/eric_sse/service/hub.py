"""The open streams of this process and the channel tails they follow; one sweep serves them all."""

import asyncio
import contextlib
import time

from eric_sse._util import get_logger
from eric_sse.log import CursorKey, Head
from eric_sse.service.stream import EventStream
from eric_sse.service.tail import ChannelTail, ReadLog

logger = get_logger()


class Hub:
    """Who listens to what, in this process. Belongs to one event loop.

    Args:
        read: Reads a log.
        heartbeat_s: How long a stream may be silent, in seconds.
        send_timeout_s: How long a peer may take nothing of what is sent to it, in seconds.
    """

    def __init__(self, read: ReadLog, heartbeat_s: float, send_timeout_s: float) -> None:
        self._read = read
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        self._streams: set[EventStream] = set()
        self._tails: dict[str, ChannelTail] = {}
        self.draining = False
        self._emptied: asyncio.Event | None = None

    def tail(self, channel_id: str, head: Head) -> ChannelTail:
        """The tail of a channel whose log stands, or stood a moment ago, at ``head``."""
        tail = self._tails.get(channel_id)
        if tail is None or tail.ended or tail.epoch != head.epoch:
            if tail is not None:
                tail.end()
            tail = self._tails[channel_id] = ChannelTail(channel_id, head, self._read)
            # A wake-up may have come between the reading of the head and now.
            tail.mark_dirty()
        return tail

    def add(self, stream: EventStream) -> None:
        """Take in an open stream."""
        self._streams.add(stream)
        if self.draining:
            stream.close_for_restart()

    def remove(self, stream: EventStream) -> None:
        """Forget a stream; its channel's tail too, where it was the last."""
        self._streams.discard(stream)
        if not self._streams and self._emptied is not None:
            self._emptied.set()
        tail = self._tails.get(stream.channel_id)
        if tail is not None and not tail.subscribers:
            del self._tails[stream.channel_id]

    def count(self, channel_id: str | None = None) -> int:
        """How many streams are open, of one channel or of all."""
        return sum(1 for stream in self._streams if channel_id in {None, stream.channel_id})

    def wake(self, channel_id: str | None) -> None:
        """A channel, or with None any of them, may have something new."""
        tails = list(self._tails.values()) if channel_id is None else [self._tails.get(channel_id)]
        for tail in tails:
            if tail is not None:
                tail.mark_dirty()

    def end_channel(self, channel_id: str) -> None:
        """The channel is gone."""
        tail = self._tails.pop(channel_id, None)
        if tail is not None:
            tail.end()

    def end_listener(self, channel_id: str, listener_id: str) -> None:
        """The listener is gone."""
        for stream in list(self._streams):
            if (stream.channel_id, stream.listener_id) == (channel_id, listener_id):
                stream.close_removed("listener")

    def sweep(self) -> None:
        """Heartbeats for the silent, an end for those whose peer takes nothing. To be called every second or so."""
        now = time.monotonic()
        for stream in list(self._streams):
            silent = now - stream.last_activity
            if stream.is_writing:
                if silent > self._send_timeout_s:
                    logger.info("a stream of channel %r takes nothing for %d s: closed", stream.channel_id, silent)
                    stream.abort()
            elif silent >= self._heartbeat_s:
                stream.heartbeat()

    def channels(self) -> list[str]:
        """The channels that are followed."""
        return list(self._tails)

    def listeners(self) -> set[CursorKey]:
        """The named listeners that have an open stream."""
        return {CursorKey(s.channel_id, s.listener_id) for s in self._streams if s.listener_id is not None}

    def check_heads(self, heads: dict[str, Head]) -> None:
        """Compare with where the logs stand: what a lost wake-up would have told."""
        for channel_id, tail in list(self._tails.items()):
            tail.check(heads.get(channel_id))

    async def drain(self, timeout_s: float) -> None:
        """End all streams, politely at first; returns when they are gone or after ``timeout_s`` seconds."""
        self.draining = True
        for stream in list(self._streams):
            stream.close_for_restart()
        if self._streams:
            self._emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), timeout_s)
        for stream in list(self._streams):
            stream.abort()
