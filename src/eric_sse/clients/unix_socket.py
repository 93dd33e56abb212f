"""The client of the unix-socket server: one connection a command, JSON out, text in."""

import json
from asyncio import StreamReader, StreamWriter, open_unix_connection
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from eric_sse.exception import InvalidMessageFormat

_MAX_LINE_BYTES = 16 * 1024 * 1024  # asyncio's own default, 64 KiB, would fail on a large message


class SocketClient:
    """A little facade to interact with :class:`~eric_sse.servers.SocketServer`.

    Every coroutine opens a connection of its own and closes it, also when it fails or is cancelled, and returns what
    the server answered: ``ack``, an id, or the text of an error.

    Args:
        file_descriptor_path: The path of the server's socket.
    """

    def __init__(self, file_descriptor_path: str | Path) -> None:
        self._path = Path(file_descriptor_path)

    async def send_payload(self, payload: dict[str, Any]) -> str:
        """Send one command as it is and return the whole answer.

        Args:
            payload: Keys ``v`` (verb), ``c`` (channel), ``t`` (type), ``p`` (payload) and ``r`` (receiver).

        Raises:
            InvalidMessageFormat: JSON cannot hold ``payload``.
            OSError: The server cannot be reached.
        """
        async with self._command(payload) as reader:
            return (await reader.read()).decode()

    async def create_channel(self) -> str:
        """Create a channel and return its id."""
        return await self.send_payload({"v": "c"})

    async def register(self, channel_id: str) -> str:
        """Add a listener to a channel and return its id."""
        return await self.send_payload({"v": "r", "c": channel_id})

    async def stream(self, channel_id: str, listener_id: str) -> AsyncGenerator[str, None]:
        """Start a listener and yield what it receives: one line of JSON a message, with its line end.

        An error arrives as a line as well. Leaving the loop early closes the connection once the generator is closed
        or collected; ``contextlib.aclosing`` does it at once.

        Raises:
            OSError: The server cannot be reached.
        """
        async with self._command({"v": "l", "c": channel_id, "r": listener_id}) as reader:
            while line := await reader.readline():
                yield line.decode()

    async def broadcast_message(self, channel_id: str, message_type: str, payload: Any) -> str:
        """Send a message to every listener of a channel."""
        return await self.send_payload({"v": "b", "c": channel_id, "t": message_type, "p": payload})

    async def dispatch(self, channel_id: str, receiver_id: str, message_type: str, payload: Any) -> str:
        """Send a message to one listener of a channel."""
        return await self.send_payload({"v": "d", "c": channel_id, "r": receiver_id, "t": message_type, "p": payload})

    async def remove_listener(self, channel_id: str, listener_id: str) -> str:
        """Remove a listener from a channel."""
        return await self.send_payload({"v": "rl", "c": channel_id, "r": listener_id})

    async def remove_channel(self, channel_id: str) -> str:
        """Remove a channel."""
        return await self.send_payload({"v": "rc", "c": channel_id})

    @asynccontextmanager
    async def _command(self, payload: dict[str, Any]) -> AsyncIterator[StreamReader]:
        command = _encode(payload)
        reader, writer = await open_unix_connection(self._path, limit=_MAX_LINE_BYTES)
        try:
            writer.write(command)
            writer.write_eof()
            await writer.drain()
            yield reader
        finally:
            await _close(writer)


def _encode(payload: dict[str, Any]) -> bytes:
    try:
        return json.dumps(payload, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessageFormat(f"JSON cannot hold this command: {error}; send plain JSON values") from error


async def _close(writer: StreamWriter) -> None:
    writer.close()
    # A server that went away first is no news at a goodbye.
    with suppress(OSError):
        await writer.wait_closed()
