"""Reads event streams as a client would, whatever brings their bytes."""

import asyncio

from eric_sse.wire.sse import EventStreamParser

PATIENCE_S = 10


class Reader:
    """What a client makes of a stream that is read chunk by chunk.

    Attributes:
        stream: The stream.
        chunks: What was read until now.
        events: The events in it.
    """

    def __init__(self, stream):
        self.stream = stream
        self.chunks = []
        self.events = []
        self._parser = EventStreamParser()

    @property
    def last_id(self):
        """What a client would send as its Last-Event-ID."""
        return self._parser.last_event_id

    @property
    def retry_ms(self):
        """What the client was told to wait."""
        return self._parser.retry_ms

    async def chunk(self):
        """The next chunk; None at the end."""
        chunk = await asyncio.wait_for(self.stream.next_chunk(), PATIENCE_S)
        if chunk is not None:
            self.take(chunk)
        return chunk

    def take(self, chunk):
        """Take a chunk that was read."""
        self.chunks.append(chunk)
        self.events += self._parser.feed(chunk)

    async def until(self, count):
        """Read until there are so many events; returns their data, as it was sent."""
        while len(self.events) < count:
            assert await self.chunk() is not None, f"the stream ended after {self.events}"
        return [event.data for event in self.events]

    async def rest(self):
        """Read to the end; returns the types of all events."""
        while await self.chunk() is not None:
            pass
        return [event.type for event in self.events]
