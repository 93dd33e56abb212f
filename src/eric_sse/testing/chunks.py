"""Reading a service's event streams without a connection."""

import asyncio
import time

from eric_sse.service import EventStream


class ChunkReader:
    """The consumer of a stream that asks for one chunk after the other: what it got counts as delivered then.

    Args:
        stream: What to read. Whoever opened it releases it, when it is not being read.

    Attributes:
        aborted: Set when the stream is given up.
    """

    def __init__(self, stream: EventStream) -> None:
        self.aborted = asyncio.Event()
        self._woken = asyncio.Event()
        self._stream = stream
        self._holds_chunk = False
        stream.consumer = self

    async def next_chunk(self) -> bytes | None:
        """The next bytes, when there are some; None when the stream has ended."""
        stream = self._stream
        self._holds_chunk = False
        stream.last_activity = time.monotonic()
        stream.acknowledge()
        chunk = await self._next()
        self._holds_chunk = chunk is not None
        stream.last_activity = time.monotonic()
        return chunk

    async def _next(self) -> bytes | None:
        stream, chunk = self._stream, b""
        while not chunk:
            self._woken.clear()
            if stream.is_behind:
                chunk = await stream.catch_up() or stream.take_heartbeat()
            elif not (chunk := stream.take()):
                if stream.has_ended:
                    return None
                await self._woken.wait()
        return chunk

    def wake(self) -> None:
        """There may be something to take."""
        self._woken.set()

    def abort(self) -> None:
        """The stream is given up."""
        self.aborted.set()

    def has_sent_all(self) -> bool:
        """Whether more was asked for since the last chunk."""
        return not self._holds_chunk

    def has_progressed(self) -> bool:
        """As a peer that takes nothing."""
        return False
