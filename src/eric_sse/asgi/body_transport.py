"""The body of an ASGI response as a transport: what writes to sockets writes to any ASGI server's connections."""

import asyncio
import contextlib

from starlette.types import Send

from eric_sse._util import get_logger

logger = get_logger()

_ENOUGH_BYTES = 4 * 1024  # the log has it all

PEER_IS_GONE = (OSError, RuntimeError)
"""What ``send()`` raises when the peer is gone. ASGI has it do nothing or raise OSError; where uvicorn has not noticed
yet, what uvloop says of its closed transport, a RuntimeError, comes through."""


class BodyTransport(asyncio.Transport):
    """Sends what its protocol writes as body events, all that has gathered in each. The response must have begun.

    Args:
        protocol: Who writes.
        send: ASGI's.
    """

    __slots__ = (
        "_is_closing",
        "_is_paused",
        "_is_sending",
        "_protocol",
        "_send",
        "_size",
        "_task",
        "_woken",
        "_written",
    )

    def __init__(self, protocol: asyncio.Protocol, send: Send) -> None:
        super().__init__()
        self._protocol = protocol
        self._send = send
        self._task: asyncio.Task[None] | None = None
        self._woken: asyncio.Future[None] | None = None
        self._written: list[bytes | bytearray | memoryview] = []
        self._size = 0
        self._is_sending = False
        self._is_paused = False
        self._is_closing = False

    async def carry(self) -> None:
        """Send; returns when the protocol has closed the transport, or the peer is gone.

        Raises:
            asyncio.CancelledError: It was aborted: the response stays incomplete.
        """
        self._task = asyncio.current_task()
        try:
            self._protocol.connection_made(self)
            await self._send_all()
        finally:
            self._is_closing = True
            self._protocol.connection_lost(None)

    def disconnect(self) -> None:
        """The peer is gone."""
        if self._size or self._task is None:
            self.abort()
        elif not self._is_closing:
            self._protocol.eof_received()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Have it sent."""
        if not data:
            return
        self._written.append(data)
        self._size += len(data)
        self._wake()
        # A server whose send() does not return at once has enough, too.
        if (self._is_sending or self._size > _ENOUGH_BYTES) and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """How many bytes were written and are not sent."""
        return self._size

    def is_closing(self) -> bool:
        """Whether nothing more is taken."""
        return self._is_closing

    def close(self) -> None:
        """End the response when what was written is sent."""
        self._is_closing = True
        self._wake()

    def abort(self) -> None:
        """Leave the response as it is."""
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()

    async def _send_all(self) -> None:
        # One coroutine for it all: this runs once for every event and connection.
        loop = asyncio.get_running_loop()
        while self._written or not self._is_closing:
            if not self._written:
                self._woken = loop.create_future()
                await self._woken
                continue
            data = b"".join(self._written)
            self._written.clear()
            self._is_sending = True
            try:
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
            except PEER_IS_GONE as error:
                logger.debug("an event stream's peer is gone: %s", error)
                return
            self._is_sending = False
            self._size -= len(data)
            if self._is_paused and self._size <= _ENOUGH_BYTES:
                self._is_paused = False
                self._protocol.resume_writing()
        with contextlib.suppress(*PEER_IS_GONE):
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
