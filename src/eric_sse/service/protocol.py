"""An event stream on a transport, to which its channel's tail writes.

No task, no coroutine and no queue belong to it. While it is up to date, what is new is written to it together with all
others, past its `EventStream`; else it takes from that what it has missed, for as long as the transport takes it.
"""

import asyncio
import os
import time

from eric_sse._util import get_logger
from eric_sse.service.fan_out import Framing
from eric_sse.service.stream import EventStream

logger = get_logger()


class EventStreamProtocol(asyncio.Protocol):
    """The protocol of a transport that carries the body of a response, which has begun.

    Args:
        stream: What to send. Released when the connection is lost.
        framing: How the transport wants it.

    Attributes:
        transport: Where to.
        listener_id: Whose stream it is; None: an anonymous one's.
        fileno: The transport's socket, where it takes what is written as it is; None else.
    """

    __slots__ = ("_buffered", "_catching_up", "_framing", "_is_paused", "_stream", "fileno", "listener_id", "transport")

    def __init__(self, stream: EventStream, framing: Framing) -> None:
        self._framing = framing
        self.listener_id = stream.listener_id
        self.fileno: int | None = None
        self.transport: asyncio.Transport
        self._stream = stream
        self._is_paused = False
        self._buffered = 0
        self._catching_up: asyncio.Task[None] | None = None

    @property
    def framing(self) -> Framing:
        """How the transport wants what it is written."""
        return self._framing

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to send."""
        self.transport = transport
        self.fileno = _plain_socket(transport)
        if self.fileno is not None:
            # What the socket does not take pauses this: so the transport holds nothing of those who are live.
            transport.set_write_buffer_limits(high=0)
        self._stream.consumer = self
        self.wake()

    def wake(self) -> None:
        """Send what there is, until nothing is left or the transport has enough."""
        stream = self._stream
        self._leave_live()
        if self._is_paused or self.transport.is_closing():
            return
        if self._catching_up is not None:
            if not stream.has_ended:
                self._send(stream.take_heartbeat())
                return
            self._catching_up.cancel()
        while not self._is_paused:
            if stream.is_behind:
                self._catching_up = asyncio.ensure_future(self._catch_up())
                return
            if not (chunk := stream.take()):
                break
            self._send(chunk)
        if stream.has_ended:
            self._finish()
        elif not self._is_paused and (tail := stream.go_live()) is not None:
            tail.fan_out.join(self)

    def abort(self) -> None:
        """The peer takes nothing, or its time is over."""
        self.transport.abort()

    def has_sent_all(self) -> bool:
        """Whether the transport holds nothing."""
        return self.transport.get_write_buffer_size() == 0

    def has_progressed(self) -> bool:
        """Whether the transport holds less than when this was last asked."""
        before, self._buffered = self._buffered, self.transport.get_write_buffer_size()
        if self._buffered < before:
            self._stream.last_activity = time.monotonic()
        return self._buffered < before

    def fall_behind(self) -> None:
        """The channel's tail is about to forget what this has not been sent."""
        self._leave_live()

    def pause_writing(self) -> None:
        """The transport has enough: what comes next is read from the log, when it takes more."""
        self._leave_live()
        self._is_paused = True
        self._buffered = self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._is_paused = False
        self._stream.acknowledge()
        self.wake()

    def eof_received(self) -> None:
        """The peer leaves: it has what the transport took, and nothing more."""
        self._leave_live()
        self._stream.acknowledge()
        self._stream.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """The peer is gone, or the response is over."""
        self._leave_live()
        if self._catching_up is not None:
            self._catching_up.cancel()
        self._stream.close()
        self._stream.release()

    def _send(self, chunk: bytes) -> None:
        if chunk and not self.transport.is_closing():  # an empty one would end the body
            self._stream.last_activity = time.monotonic()
            self.transport.write(self._framing(chunk))

    def _finish(self) -> None:
        self._stream.acknowledge()
        self.transport.write(self._framing(b""))
        self.transport.close()
        # The sweep gives up a peer that does not take it.
        self._buffered = self.transport.get_write_buffer_size()

    def _leave_live(self) -> None:
        if (tail := self._stream.leave_live()) is not None:
            tail.fan_out.leave(self)

    async def _catch_up(self) -> None:
        try:
            chunk = await self._stream.catch_up()
        except Exception:
            logger.exception("an event stream of channel %r cannot be read on", self._stream.channel_id)
            self.transport.abort()
            return
        finally:
            self._catching_up = None
        if self.transport.is_closing():
            return
        self._send(chunk)
        self._stream.acknowledge()
        self.wake()


def _plain_socket(transport: asyncio.Transport) -> int | None:
    socket = transport.get_extra_info("socket")
    # On Windows a socket's number is no file's.
    if socket is None or transport.get_extra_info("sslcontext") is not None or os.name != "posix":
        return None
    return int(socket.fileno())
