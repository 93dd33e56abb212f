"""Reads event streams as a client would, whatever brings their bytes."""

import asyncio

from eric_sse.service import Outgoing
from eric_sse.service.fan_out import chunked
from eric_sse.service.messages import new_entry
from eric_sse.service.protocol import EventStreamProtocol
from eric_sse.testing.chunks import ChunkReader
from eric_sse.wire.sse import EventStreamParser

PATIENCE_S = 10


def publish_elsewhere(engine, *payloads, channel="c"):
    """Publish as another process on the same store does."""
    engine.log.append(channel, [new_entry(Outgoing(payload), None, 0) for payload in payloads])
    engine.notifier.wake([channel])


class Reader:
    """What a client makes of a stream that comes chunk by chunk.

    Attributes:
        source: Where its chunks come from.
        chunks: What was read until now.
        events: The events in it.
    """

    def __init__(self, source):
        self.source = source
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
        chunk = await asyncio.wait_for(self.source.next_chunk(), PATIENCE_S)
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


class FakeTransport(asyncio.Transport):
    """A connection whose peer takes something when it is told to.

    Attributes:
        enough: With more bytes than this, the protocol is told to pause.
        is_aborted: Whether it was given up.
    """

    def __init__(self, protocol, enough=100):
        super().__init__()
        self.enough = enough
        self.is_aborted = False
        self._protocol = protocol
        self._buffer = bytearray()
        self._is_closing = False
        protocol.connection_made(self)

    def write(self, data):
        """Take bytes."""
        was_enough = len(self._buffer) > self.enough
        self._buffer += data
        if len(self._buffer) > self.enough and not was_enough:
            self._protocol.pause_writing()

    def get_write_buffer_size(self):
        """How many bytes it holds."""
        return len(self._buffer)

    def is_closing(self):
        """Whether the connection is going to end."""
        return self._is_closing

    def close(self):
        """End it."""
        self._is_closing = True

    def abort(self):
        """End it at once."""
        self._is_closing = self.is_aborted = True
        self._buffer.clear()

    def drain(self):
        """What the peer takes: all that it holds."""
        data, had_enough = bytes(self._buffer), len(self._buffer) > self.enough
        self._buffer.clear()
        if had_enough and not self._is_closing:
            self._protocol.resume_writing()
        return data


class StreamReader(Reader):
    """What a client makes of a service's stream, which it asks for one chunk after the other."""

    def __init__(self, stream):
        super().__init__(ChunkReader(stream))
        self.stream = stream


class TransportReader(Reader):
    """What a client makes of a service's stream that is written to a connection."""

    def __init__(self, stream, enough=100):
        super().__init__(None)
        self.stream = stream
        self.protocol = EventStreamProtocol(stream, chunked)
        self.transport = FakeTransport(self.protocol, enough)
        self.has_ended = False

    def look(self):
        """Take what is there; whether there was something."""
        body = data = self.transport.drain()
        while body:
            size, _, rest = body.partition(b"\r\n")
            chunk, body = rest[: int(size, 16)], rest[int(size, 16) + 2 :]
            self.has_ended = not chunk
            if chunk:
                self.take(chunk)
        return bool(data)
