"""The unix-socket server: one connection a command, JSON in, an answer out."""

import asyncio
import signal
import socket
from asyncio import CancelledError, StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path

from eric_sse._util import get_logger
from eric_sse.codec import check_type, encode_json
from eric_sse.entities import AbstractChannel
from eric_sse.exception import ConfigurationError, EricError, InvalidMessageFormat
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message
from eric_sse.prefabs import SSEChannel
from eric_sse.servers.channels import ChannelContainer
from eric_sse.servers.hangups import Hangups
from eric_sse.unix_socket import listening
from eric_sse.wire.commands import ACK, Command, CommandError, ErrorAnswer, encode_error, parse_command

logger = get_logger()

MAX_COMMAND_BYTES = 16 * 1024 * 1024
"""How large a command may be, unless told otherwise."""

_GRACE_S = 2.0
"""How long, in seconds, a shutdown waits for commands that are being carried out."""


class SocketServer:
    """Serves channels on a unix socket. A connection carries one command, and its answer.

    Who may write to the socket's file may use it; by default that is this user alone.

    Args:
        file_descriptor_path: Where the socket is made.
        channels: What it serves; an empty container by default. Channels that the command ``c`` creates are added.
        max_command_bytes: Larger commands are refused.

    Attributes:
        cc: The channels it serves. Each server's own, unless two are given the same: what one program serves on one
            path is no business of the clients of another.
        started: Set while it accepts connections.
    """

    def __init__(
        self,
        file_descriptor_path: str | Path,
        channels: ChannelContainer | None = None,
        max_command_bytes: int = MAX_COMMAND_BYTES,
    ) -> None:
        self.cc = ChannelContainer() if channels is None else channels
        self.started = asyncio.Event()
        self._path = Path(file_descriptor_path)
        self._max_command_bytes = max_command_bytes
        self._stop = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._streams: dict[asyncio.Task[None], str] = {}
        self._hangups = Hangups()
        self._verbs = {
            "d": self._dispatch,
            "b": self._broadcast,
            "c": self._create_channel,
            "r": self._add_listener,
            "rl": self._remove_listener,
            "rc": self._remove_channel,
        }

    @classmethod
    def start(cls, file_descriptor_path: str | Path) -> None:
        """Run a server with no channels until SIGINT or SIGTERM.

        Raises:
            ConfigurationError: The socket cannot be made there.
        """
        asyncio.run(cls(file_descriptor_path).main())

    async def main(self) -> None:
        """Serve until :meth:`shutdown` is called, or, in the main thread, until SIGINT or SIGTERM.

        A socket's file that a dead server left is replaced.

        Raises:
            ConfigurationError: The socket cannot be made: another server answers there, or the path is no place for
                one. Or this server is running already.
        """
        if not self._stopped.is_set():
            raise ConfigurationError(f"this server runs already on {self._path}")
        with listening(self._path) as bound:
            self._stop.clear()
            self._stopped.clear()
            try:
                with _signals(self._stop.set):
                    await self._serve(bound)
            finally:
                self._stopped.set()

    async def shutdown(self) -> None:
        """End all streams, let commands in progress finish, and remove the socket. Returns when it is done.

        Nothing happens where the server does not run.
        """
        self._stop.set()
        await self._stopped.wait()

    async def _serve(self, listening: socket.socket) -> None:
        server = await asyncio.start_unix_server(self._on_connection, sock=listening)
        logger.info("serving on %s", self._path)
        self.started.set()
        try:
            await self._stop.wait()
        finally:
            self.started.clear()
            server.close()
            await self._end_connections()
            await server.wait_closed()

    async def _end_connections(self) -> None:
        for task in self._connections - self._busy:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_GRACE_S)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _on_connection(self, reader: StreamReader, writer: StreamWriter) -> None:
        task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]  # asyncio runs this as a task
        self._connections.add(task)
        try:
            async with aclosing(self._answers(task, reader, writer)) as answers:
                async for answer in answers:
                    writer.write(answer)
                    await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (CancelledError, OSError) as reason:
            # The server stops, the channel is removed, or the client is gone.
            logger.debug("a connection ended early: %r", reason)
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _answers(
        self, task: asyncio.Task[None], reader: StreamReader, writer: StreamWriter
    ) -> AsyncGenerator[bytes, None]:
        try:
            command = parse_command(await self._read_command(reader))
            if command.verb in _STREAMS:
                async with aclosing(self._stream(task, writer, command)) as lines:
                    async for line in lines:
                        yield line
            else:
                self._busy.add(task)
                yield await self._verbs[command.verb](command)
        except OSError:
            raise
        except CommandError as error:
            yield encode_error(ErrorAnswer(InvalidMessageFormat.__name__, str(error)))
        except EricError as error:
            yield encode_error(ErrorAnswer(type(error).__name__, str(error)))
        except Exception as error:
            logger.exception("a command failed")
            yield encode_error(ErrorAnswer(type(error).__name__, str(error)))
        finally:
            self._busy.discard(task)

    async def _read_command(self, reader: StreamReader) -> bytes:
        data = bytearray()
        while chunk := await reader.read(64 * 1024):
            # What is too large is read to its end all the same: a client that still writes reads no answer.
            if len(data) <= self._max_command_bytes:
                data += chunk
        if len(data) > self._max_command_bytes:
            raise CommandError(f"a command has at most {self._max_command_bytes} bytes; send less at once")
        return bytes(data)

    async def _stream(
        self, task: asyncio.Task[None], writer: StreamWriter, command: Command
    ) -> AsyncGenerator[bytes, None]:
        channel = self._channel(command)
        self._streams[task] = channel.id
        try:
            fd = writer.get_extra_info("socket").fileno()
            with self._hangups.watch(fd, task.cancel), _STREAMS[command.verb](channel, command) as listener:
                listener.start()
                async with aclosing(channel.message_stream(listener)) as messages:
                    async for message in messages:
                        yield encode_json(message) + b"\n"
        finally:
            del self._streams[task]

    def _channel(self, command: Command) -> AbstractChannel:
        return self.cc.get(command.channel_id or "")

    async def _dispatch(self, command: Command) -> bytes:
        check_type(command.message_type)
        message = Message(command.message_type, command.payload)
        # In a thread: on a durable channel it returns when the message is stored.
        await asyncio.to_thread(self._channel(command).dispatch, command.receiver_id, message)
        return ACK

    async def _broadcast(self, command: Command) -> bytes:
        check_type(command.message_type)
        message = Message(command.message_type, command.payload)
        await asyncio.to_thread(self._channel(command).broadcast, message)
        return ACK

    async def _create_channel(self, command: Command) -> bytes:
        channel = SSEChannel(channel_id=command.channel_id)
        self.cc.register(channel)
        return channel.id.encode()

    async def _add_listener(self, command: Command) -> bytes:
        return self._channel(command).add_listener().id.encode()

    async def _remove_listener(self, command: Command) -> bytes:
        self._channel(command).remove_listener(command.receiver_id)
        return ACK

    async def _remove_channel(self, command: Command) -> bytes:
        self.cc.rm(command.channel_id or "")
        for task, channel_id in self._streams.items():
            if channel_id == command.channel_id:
                task.cancel()
        return ACK


@contextmanager
def _known_listener(channel: AbstractChannel, command: Command) -> Iterator[MessageQueueListener]:
    yield channel.get_listener(command.receiver_id)


@contextmanager
def _temporary_listener(channel: AbstractChannel, command: Command) -> Iterator[MessageQueueListener]:
    del command
    listener = channel.add_listener()
    try:
        yield listener
    finally:
        with suppress(EricError):
            channel.remove_listener(listener.id)


_STREAMS = {"l": _known_listener, "w": _temporary_listener}


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    loop, handled = asyncio.get_running_loop(), []
    for number in (signal.SIGINT, signal.SIGTERM):
        # Only the main thread may handle signals.
        with suppress(RuntimeError, ValueError, NotImplementedError):
            loop.add_signal_handler(number, stop)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
