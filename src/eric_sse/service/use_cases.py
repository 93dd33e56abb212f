"""The use cases, once: HTTP and the command line call these."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from eric_sse._util import generate_uuid, get_logger
from eric_sse.engine import Engine
from eric_sse.exception import EricError
from eric_sse.listener import MessageQueueListener
from eric_sse.log import ACK_AUTO, Append, CursorKey, Page, Retention, View
from eric_sse.message import Position
from eric_sse.service.batcher import Batcher
from eric_sse.service.channels import ChannelDetails, ChannelInfo, Channels
from eric_sse.service.hub import Hub
from eric_sse.service.listeners import ListenerInfo, Listeners
from eric_sse.service.messages import Outgoing, new_entry
from eric_sse.service.opening import Opener, Request
from eric_sse.service.stream import EventStream
from eric_sse.service.threads import StoreThreads
from eric_sse.service.upkeep import Upkeep

logger = get_logger()

_STORE_THREADS = 4


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How a service behaves.

    Args:
        heartbeat_s: How long a stream may be silent, in seconds. Proxies drop idle streams after 29 to 60.
        send_timeout_s: How long a peer may take nothing of what is sent to it, in seconds.
        retry_ms: What clients of a channel without its own setting are told to wait, in milliseconds.
        max_waiting: How many messages may wait to be stored before more are refused.
        gather_s: After a round of writes to a channel's streams, what comes is gathered for three times as long as
            the round took, in seconds at most this; 0 sends each message by itself.
    """

    heartbeat_s: float = 15.0
    send_timeout_s: float = 60.0
    retry_ms: int = 3000
    max_waiting: int = 20_000
    gather_s: float = 0.01


class Service:
    """Durable channels on an engine, for one event loop. Use it as an async context manager, or close it.

    It starts to work when it is first used. The engine stays yours to close, after the service. While the store does
    not answer, or after the service was closed, every use case raises `StoreUnavailable`.

    Args:
        engine: Where channels are kept.
        options: How it behaves.
    """

    def __init__(self, engine: Engine, options: ServiceOptions | None = None) -> None:
        self._engine = engine
        self._options = options or ServiceOptions()
        self._threads = StoreThreads(_STORE_THREADS, inline=engine.returns_at_once)
        self._writer = StoreThreads(1, inline=engine.returns_at_once)
        self._hub = Hub(
            self._read,
            self._get_cursors,
            self._options.heartbeat_s,
            self._options.send_timeout_s,
            self._options.gather_s,
        )
        self._batcher = Batcher(
            engine.log, engine.notifier, self._writer, self._hub.stored, max_waiting=self._options.max_waiting
        )
        self._channels = Channels(engine, self._hub.count)
        self._listeners = Listeners(engine)
        self._opener = Opener(engine, self._hub, self._threads, self._read, self._options.retry_ms)
        self._upkeep = Upkeep(engine, self._hub, self._threads)
        self._stop_listening: Callable[[], None] | None = None
        self._closed = False

    # Channels

    async def create_channel(
        self, channel_id: str | None = None, retry_ms: int | None = None, retention: Retention | None = None
    ) -> ChannelInfo:
        """Create a durable channel.

        Raises:
            InvalidChannelException: The id cannot be one.
            ChannelExists: It is there already.
        """
        self._ensure_started()
        return await self._threads.run(
            self._channels.create,
            generate_uuid() if channel_id is None else channel_id,
            self._options.retry_ms if retry_ms is None else retry_ms,
            retention or Retention(),
        )

    async def list_channels(self, after: str = "", limit: int = 100) -> Sequence[ChannelInfo]:
        """The first ``limit`` channels that come after ``after``, in an order of their own that stays the same.

        Fewer than ``limit`` only where there are no more.
        """
        self._ensure_started()
        return await self._threads.read(self._channels.page, after, limit)

    async def show_channel(self, channel_id: str) -> ChannelDetails:
        """A channel as it stands.

        Raises:
            ChannelNotFound: There is none.
        """
        self._ensure_started()
        return await self._threads.read(self._channels.show, channel_id)

    async def delete_channel(self, channel_id: str) -> None:
        """Remove a channel, its log and its listeners; its streams end. Nothing happens where there is none."""
        self._ensure_started()
        await self._threads.run(self._channels.delete, channel_id)
        # Its tail finds out by itself that its log is gone. It may be that of a channel made anew meanwhile.
        self._hub.wake(channel_id)

    # Listeners

    async def add_listener(self, channel_id: str, listener_id: str | None = None, ack: str = ACK_AUTO) -> ListenerInfo:
        """Subscribe a named listener, from now on.

        Raises:
            ChannelNotFound: There is no such channel.
            InvalidListenerException: The id cannot be one.
            ListenerExists: It is there already.
        """
        self._ensure_started()
        return await self._threads.run(self._listeners.add, channel_id, MessageQueueListener(listener_id), ack)

    async def list_listeners(self, channel_id: str, after: str = "", limit: int = 100) -> Sequence[ListenerInfo]:
        """The first ``limit`` of a channel's listeners whose ids come after ``after``, in the order of their ids.

        Fewer than ``limit`` only where there are no more.

        Raises:
            ChannelNotFound: There is no such channel.
        """
        self._ensure_started()
        return await self._threads.read(self._listeners.page, channel_id, after, limit)

    async def remove_listener(self, channel_id: str, listener_id: str) -> None:
        """Remove a listener; its streams end. Nothing happens where there is none."""
        self._ensure_started()
        await self._threads.run(self._listeners.remove, channel_id, listener_id)
        # As with channels: the tail learns by the log's head that a listener is gone.
        self._hub.wake(channel_id)

    async def acknowledge(self, channel_id: str, listener_id: str, last_id: str) -> None:
        """Move a listener's cursor to ``last_id``; never back.

        Raises:
            ChannelNotFound: There is no such channel.
            ListenerNotFound: The channel has no such listener.
            InvalidPosition: The id was never given by this channel's log.
        """
        self._ensure_started()
        await self._threads.run(self._listeners.acknowledge, CursorKey(channel_id, listener_id), last_id)

    # Messages

    async def publish(
        self, channel_id: str, messages: Sequence[Outgoing], idempotency_key: str | None = None
    ) -> Sequence[str]:
        """Store messages, all or none, and return their ids; durable when it returns.

        A message whose id, or a request whose ``idempotency_key``, was stored within the engine's window is not
        stored again: the answer is the same.

        Raises:
            ChannelNotFound: There is no such channel.
            ListenerNotFound: A message is for a listener that the channel does not have.
            InvalidMessageFormat: A message cannot be stored.
            Overloaded: Too much is waiting to be stored.
            RepositoryError: The store failed.
        """
        self._ensure_started()
        entries = [new_entry(message, idempotency_key, number) for number, message in enumerate(messages)]
        receivers = {entry.receiver for entry in entries if entry.receiver is not None}
        if receivers:
            await self._threads.read(self._listeners.require_cursors, channel_id, receivers)
        appended = await self._batcher.publish(Append(channel_id, entries))
        return [f"{appended.epoch}-{offset}" for offset in appended.offsets]

    # Streams

    async def open_stream(
        self,
        channel_id: str,
        listener_id: str | None = None,
        last_event_id: str | None = None,
        start_from: str | None = None,
    ) -> EventStream:
        """Open an event stream. While the store is away it opens all the same, and starts when the store is back.

        Args:
            channel_id: Of which channel.
            listener_id: Whose; None: an anonymous stream, which holds broadcasts only.
            last_event_id: What the client has seen; goes before ``start_from``.
            start_from: ``earliest`` or ``latest``. By default an anonymous stream starts at the latest, and a
                listener's at its cursor.

        Raises:
            ChannelNotFound: There is no such channel.
            ListenerNotFound: The channel has no such listener.
        """
        self._ensure_started()
        return await self._opener.open(Request(channel_id, listener_id, last_event_id, start_from))

    async def _read(self, channel_id: str, after: int, view: View | str, limit: int, max_bytes: int) -> Page:
        return await self._threads.read(self._engine.log.read, channel_id, after, view, limit, max_bytes)

    async def _get_cursors(self, keys: Collection[CursorKey]) -> Mapping[CursorKey, Position]:
        return await self._threads.read(self._engine.cursors.get, keys)

    # Life

    async def ready(self) -> None:
        """Return if the engine answers.

        Raises:
            RepositoryError: It does not.
        """
        self._ensure_started()
        await self._threads.read(self._engine.log.heads, [])

    @property
    def is_draining(self) -> bool:
        """Whether it stops: streams have been told to come back later."""
        return self._hub.draining

    async def drain(self, timeout_s: float = 1.0) -> None:
        """End all streams, and have their clients come back later; returns after ``timeout_s`` at the latest."""
        await self._hub.drain(timeout_s)

    async def close(self, timeout_s: float = 1.0) -> None:
        """End all streams, store what was taken, move the cursors, stop. Each at most ``timeout_s``. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._hub.drain(timeout_s)
        await self._batcher.close(timeout_s)
        await self._opener.close()
        await self._upkeep.stop()
        if self._stop_listening is not None:
            self._stop_listening()
        try:
            async with asyncio.timeout(timeout_s):
                await self._threads.run(self._engine.acks.flush)
        except (EricError, TimeoutError) as error:
            logger.warning("moving the cursors failed; their listeners will receive again what they had: %s", error)
        self._threads.close()
        self._writer.close()

    async def __aenter__(self) -> Self:
        self._ensure_started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _ensure_started(self) -> None:
        if self._stop_listening is None and not self._closed:
            loop = asyncio.get_running_loop()

            def wake(channel_id: str | None) -> None:
                if self._batcher.is_telling:
                    return
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to wake
                    loop.call_soon_threadsafe(self._hub.wake, channel_id)

            self._stop_listening = self._engine.notifier.listen(wake)
            self._upkeep.start()
