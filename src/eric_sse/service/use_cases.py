"""The use cases, once: HTTP and the command line call these. Here the border from async to sync is crossed."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, ParamSpec, Self, TypeVar

from eric_sse._util import generate_uuid, get_logger, id_problem
from eric_sse.codec import encode_message
from eric_sse.engine import Engine
from eric_sse.exception import (
    ChannelExists,
    ChannelNotFound,
    EricError,
    InvalidListenerException,
    InvalidPosition,
    ItemNotFound,
    ListenerExists,
    ListenerNotFound,
)
from eric_sse.listener import MessageQueueListener
from eric_sse.log import (
    ACK_AUTO,
    Append,
    CursorKey,
    Gap,
    Head,
    LogQueue,
    NewEntry,
    Page,
    Retention,
    View,
    connection_id,
    resume,
)
from eric_sse.message import Message, MessageContract, Payload, Position, UniqueMessage
from eric_sse.repository import transaction
from eric_sse.service.batcher import Batcher
from eric_sse.service.hub import Hub
from eric_sse.service.stream import EventStream, Start

logger = get_logger()

LAG_CAP = 1_000
"""How far lag is counted."""

_SWEEP_S = 1.0
_TRIM_EVERY_S = 5.0
_POLL_EVERY_S = 1.0
_POLL_HEALTHY_EVERY_S = 10.0
_TRIM_AT_ONCE = 10_000
_START_TIMEOUT_S = 2.0
_START_AGAIN_S = 0.5

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How a service behaves.

    Args:
        heartbeat_s: How long a stream may be silent, in seconds. Proxies drop idle streams after 29 to 60.
        send_timeout_s: How long a peer may take nothing of what is sent to it, in seconds.
        retry_ms: What clients of a channel without its own setting are told to wait, in milliseconds.
        max_waiting: How many messages may wait to be stored before more are refused.
    """

    heartbeat_s: float = 15.0
    send_timeout_s: float = 60.0
    retry_ms: int = 3000
    max_waiting: int = 20_000


class Outgoing(NamedTuple):
    """A message to publish.

    Attributes:
        payload: What JSON can hold.
        type: What kind of message it is.
        to: The id of the listener that it is for; None: everybody.
        id: Makes repeating it harmless.
    """

    payload: Payload
    type: str = "message"
    to: str | None = None
    id: str | None = None


class ChannelInfo(NamedTuple):
    """A channel as it stands.

    Attributes:
        id: Its id.
        retry_ms: How long its clients are told to wait before they come back, in milliseconds.
        retention: How long it keeps messages.
        epoch: The mark of its log.
        last_id: The id of the last message; what a client that has seen everything has seen.
        streams: How many streams are open in this process.
    """

    id: str
    retry_ms: int
    retention: Retention
    epoch: str
    last_id: str
    streams: int


class ChannelDetails(NamedTuple):
    """A channel as it stands, and what takes a closer look.

    Attributes:
        channel: The channel.
        oldest_id: The id of the oldest message kept; None where none is.
        listeners: How many named listeners it has.
    """

    channel: ChannelInfo
    oldest_id: str | None
    listeners: int


class ListenerInfo(NamedTuple):
    """A named listener as it stands.

    Attributes:
        id: Its id.
        ack: ``auto`` or ``explicit``.
        cursor: The id through which it has acknowledged.
        lag: How many messages wait for it, counted up to `LAG_CAP`.
    """

    id: str
    ack: str
    cursor: str
    lag: int


class Service:
    """Durable channels on an engine, for one event loop. Use it as an async context manager, or close it.

    It starts to work when it is first used. The engine stays yours to close, after the service.

    Args:
        engine: Where channels are kept.
        options: How it behaves.
    """

    def __init__(self, engine: Engine, options: ServiceOptions | None = None) -> None:
        self._engine = engine
        self._options = options or ServiceOptions()
        self._readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="eric_sse-read")
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="eric_sse-write")
        self._batcher = Batcher(engine.log, engine.notifier, self._writer, self._options.max_waiting)
        self._hub = Hub(self._read, self._options.heartbeat_s, self._options.send_timeout_s)
        self._upkeep: asyncio.Task[None] | None = None
        self._stop_listening: Callable[[], object] = bool
        self._starting: set[asyncio.Task[None]] = set()

    # Channels

    async def create_channel(
        self, channel_id: str | None = None, retry_ms: int | None = None, retention: Retention | None = None
    ) -> ChannelInfo:
        """Create a durable channel.

        Raises:
            InvalidChannelException: The id cannot be one.
            ChannelExists: It is there already.
        """
        if channel_id is None:
            channel_id = generate_uuid()
        return await self._run(self._create_channel, channel_id, retry_ms, retention or Retention())

    def _create_channel(self, channel_id: str, retry_ms: int | None, retention: Retention) -> ChannelInfo:
        channels, log = self._engine.channels, self._engine.log
        retry_ms = self._options.retry_ms if retry_ms is None else retry_ms
        channel = channels.create({"channel_id": channel_id, "retry_timeout_milliseconds": retry_ms})
        with transaction(self._engine.storage):
            if not log.create(channel_id, retention) and channels.settings(channel_id) is not None:
                raise ChannelExists(channel_id)
            channels.persist(channel)
        return self._channel_info(channel_id, channel.retry_timeout_milliseconds, self._head(channel_id))

    async def list_channels(self, after: str = "", limit: int = 100) -> Sequence[ChannelInfo]:
        """The channels that come after ``after``, in an order of their own that stays the same."""
        return await self._run(self._list_channels, after, limit)

    def _list_channels(self, after: str, limit: int) -> Sequence[ChannelInfo]:
        channels = self._engine.channels.page(after, limit)
        heads = self._engine.log.heads([channel.id for channel in channels])
        return [
            self._channel_info(channel.id, channel.retry_timeout_milliseconds, heads[channel.id])
            for channel in channels
            if channel.id in heads
        ]

    async def show_channel(self, channel_id: str) -> ChannelDetails:
        """A channel as it stands.

        Raises:
            ChannelNotFound: There is none.
        """
        return await self._run(self._show_channel, channel_id)

    def _show_channel(self, channel_id: str) -> ChannelDetails:
        page = self._engine.log.read(channel_id, 0, View.EVERYTHING, limit=1)
        oldest = str(Position(page.head.epoch, page.entries[0].offset)) if page.entries else None
        info = self._channel_info(channel_id, self._retry_ms(channel_id), page.head)
        return ChannelDetails(info, oldest, len(self._engine.channels.connections.ids(channel_id)))

    async def delete_channel(self, channel_id: str) -> None:
        """Remove a channel, its log and its listeners; its streams end. Nothing happens where there is none."""
        await self._run(self._engine.channels.delete, channel_id)
        self._hub.end_channel(channel_id)
        self._engine.notifier.wake([channel_id])

    # Listeners

    async def add_listener(self, channel_id: str, listener_id: str | None = None, ack: str = ACK_AUTO) -> ListenerInfo:
        """Subscribe a named listener, from now on.

        Raises:
            ChannelNotFound: There is no such channel.
            InvalidListenerException: The id cannot be one.
            ListenerExists: It is there already.
        """
        return await self._run(self._add_listener, channel_id, MessageQueueListener(listener_id), ack)

    def _add_listener(self, channel_id: str, listener: MessageQueueListener, ack: str) -> ListenerInfo:
        engine = self._engine
        connection = engine.log_queues.for_channel(channel_id).create(listener, ack)
        with transaction(engine.storage):
            created = engine.cursors.create(channel_id, [listener.id])
            if not created and engine.channels.connections.contains(channel_id, connection.id):
                raise ListenerExists(channel_id, listener.id)
            engine.channels.connections.persist(channel_id, connection)
        return self._listener_info(CursorKey(channel_id, listener.id), ack)

    async def list_listeners(self, channel_id: str, after: str = "", limit: int = 100) -> Sequence[ListenerInfo]:
        """A channel's listeners whose ids come after ``after``, in the order of their ids.

        Raises:
            ChannelNotFound: There is no such channel.
        """
        return await self._run(self._list_listeners, channel_id, after, limit)

    def _list_listeners(self, channel_id: str, after: str, limit: int) -> Sequence[ListenerInfo]:
        self._head(channel_id)
        connections = self._engine.channels.connections.load_all(channel_id)
        modes = {c.listener.id: c.queue.acks_by for c in connections if isinstance(c.queue, LogQueue)}
        page = sorted(listener_id for listener_id in modes if listener_id > after)[:limit]
        return [self._listener_info(CursorKey(channel_id, id_), modes[id_]) for id_ in page]

    async def remove_listener(self, channel_id: str, listener_id: str) -> None:
        """Remove a listener; its streams end. Nothing happens where there is none."""
        repository = self._engine.channels.connections
        await self._run(repository.delete, channel_id, connection_id(channel_id, listener_id))
        self._hub.end_listener(channel_id, listener_id)

    async def acknowledge(self, channel_id: str, listener_id: str, last_id: str) -> None:
        """Move a listener's cursor to ``last_id``; never back.

        Raises:
            ChannelNotFound: There is no such channel.
            ListenerNotFound: The channel has no such listener.
            InvalidPosition: The id was never given by this channel's log.
        """
        await self._run(self._acknowledge, CursorKey(channel_id, listener_id), last_id)

    def _acknowledge(self, key: CursorKey, last_id: str) -> None:
        head = self._head(key.channel_id)
        self._cursor(key)
        position = Position.parse(last_id)
        if position is None or position.epoch != head.epoch or position.offset > head.last:
            raise InvalidPosition(key.channel_id, last_id)
        self._engine.cursors.advance({key: position})

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
        entries = [_entry(message, idempotency_key, number) for number, message in enumerate(messages)]
        receivers = {message.to for message in messages if message.to is not None}
        if receivers:
            await self._run(self._check_receivers, channel_id, receivers)
        appended = await self._batcher.publish(Append(channel_id, entries))
        return [f"{appended.epoch}-{offset}" for offset in appended.offsets]

    def _check_receivers(self, channel_id: str, receivers: set[str]) -> None:
        self._head(channel_id)
        found = self._engine.cursors.get([CursorKey(channel_id, receiver) for receiver in receivers])
        for receiver in receivers:
            if CursorKey(channel_id, receiver) not in found:
                raise ListenerNotFound(channel_id, receiver)

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
        stream = EventStream(channel_id, listener_id, self._read, self._hub.remove, self._options.retry_ms)
        locate = asyncio.ensure_future(self._run(self._locate, channel_id, listener_id, last_event_id, start_from))
        self._hub.add(stream)
        try:
            located = await asyncio.wait_for(asyncio.shield(locate), _START_TIMEOUT_S)
        except (ChannelNotFound, ListenerNotFound):
            stream.release()
            raise
        except (EricError, TimeoutError) as error:
            logger.warning("channel %r: a stream waits for the store: %s", channel_id, error)
            task = asyncio.create_task(self._start_later(stream, locate, last_event_id, start_from))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
            return stream
        self._begin(stream, located)
        return stream

    async def _start_later(
        self,
        stream: EventStream,
        locate: "asyncio.Future[_Located]",
        last_event_id: str | None,
        start_from: str | None,
    ) -> None:
        while not stream.has_ended:
            try:
                self._begin(stream, await locate)
                return
            except (ChannelNotFound, ListenerNotFound) as error:
                stream.close_removed("channel" if isinstance(error, ChannelNotFound) else "listener")
                return
            except EricError:
                await asyncio.sleep(_START_AGAIN_S)
            locate = asyncio.ensure_future(
                self._run(self._locate, stream.channel_id, stream.listener_id, last_event_id, start_from)
            )

    def _begin(self, stream: EventStream, located: "_Located") -> None:
        tail = self._hub.tail(stream.channel_id, located.head)
        if stream.listener_id is not None and located.acks_by == ACK_AUTO:
            key = CursorKey(stream.channel_id, stream.listener_id)
            stream.delivered = lambda position: self._engine.acks.note(key, position)
            if located.acknowledged is not None:
                stream.delivered(located.acknowledged)
        stream.started(Start(tail, located.offset, located.gap, located.retry_ms))

    def _locate(
        self, channel_id: str, listener_id: str | None, last_event_id: str | None, start_from: str | None
    ) -> "_Located":
        head = self._head(channel_id)
        retry_ms = self._retry_ms(channel_id)
        cursor, acks_by = None, None
        if listener_id is not None:
            cursor = self._cursor(CursorKey(channel_id, listener_id))
            acks_by = self._acks_by(channel_id, listener_id)
        if last_event_id:
            offset, gap = resume(head, last_event_id)
            seen = Position(head.epoch, offset) if gap is None else None
            return _Located(head, offset, gap, retry_ms, acks_by, seen)
        if start_from is not None:
            offset = head.trimmed if start_from == "earliest" else head.last
            return _Located(head, offset, None, retry_ms, acks_by, None)
        if cursor is not None:
            offset, gap = resume(head, str(cursor))
            return _Located(head, offset, gap, retry_ms, acks_by, None)
        return _Located(head, head.last, None, retry_ms, None, None)

    # Life

    async def ready(self) -> None:
        """Return if the engine answers.

        Raises:
            RepositoryError: It does not.
        """
        await self._run(self._engine.log.heads, [])

    async def drain(self, timeout_s: float = 1.0) -> None:
        """End all streams, and have their clients come back later; returns after ``timeout_s`` at the latest."""
        await self._hub.drain(timeout_s)

    async def close(self, timeout_s: float = 1.0) -> None:
        """End all streams, store what was taken, move the cursors, stop. Each at most ``timeout_s``. Idempotent."""
        await self._hub.drain(timeout_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._batcher.drain(), timeout_s)
        self._stop_listening()
        for task in [self._upkeep, *self._starting]:
            if task is not None:
                task.cancel()
        try:
            await asyncio.wait_for(self._run(self._engine.acks.flush), timeout_s)
        except (EricError, TimeoutError) as error:
            logger.warning("moving the cursors failed; their listeners will receive again what they had: %s", error)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._writer.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self) -> Self:
        self._ensure_started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _ensure_started(self) -> None:
        if self._upkeep is None:
            loop = asyncio.get_running_loop()

            def wake(channel_id: str | None) -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to wake
                    loop.call_soon_threadsafe(self._hub.wake, channel_id)

            self._stop_listening = self._engine.notifier.listen(wake)
            self._upkeep = asyncio.create_task(self._keep_up(), name="eric_sse upkeep")

    async def _keep_up(self) -> None:
        polled = trimmed = time.monotonic()
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._hub.sweep()
            now = time.monotonic()
            if now - polled >= (_POLL_HEALTHY_EVERY_S if self._engine.notifier.healthy else _POLL_EVERY_S):
                polled = now
                await self._attempt(self._poll)
            if now - trimmed >= _TRIM_EVERY_S:
                trimmed = now
                await self._attempt(self._trim)

    async def _attempt(self, upkeep: Callable[[], object]) -> None:
        try:
            result = upkeep()
            if asyncio.iscoroutine(result):
                await result
        except EricError as error:
            logger.warning("upkeep failed, trying again: %s", error)
        except Exception:
            logger.exception("upkeep failed, trying again")

    async def _poll(self) -> None:
        channels, listeners = self._hub.channels(), self._hub.listeners()
        if channels:
            self._hub.check_heads(dict(await self._run(self._engine.log.heads, channels)))
        if listeners:
            found = await self._run(self._engine.cursors.get, listeners)
            for key in listeners - set(found):
                self._hub.end_listener(*key)

    async def _trim(self) -> None:
        while await self._run(self._engine.log.trim, _TRIM_AT_ONCE) >= _TRIM_AT_ONCE:
            pass

    # What runs in threads, and what it needs

    async def _run(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        self._ensure_started()
        return await asyncio.get_running_loop().run_in_executor(self._readers, lambda: call(*args, **kwargs))

    async def _read(self, channel_id: str, after: int, view: View | str, limit: int, max_bytes: int) -> Page:
        return await self._run(self._engine.log.read, channel_id, after, view, limit, max_bytes)

    def _head(self, channel_id: str) -> Head:
        head = self._engine.log.heads([channel_id]).get(channel_id)
        if head is None:
            raise ChannelNotFound(channel_id)
        return head

    def _cursor(self, key: CursorKey) -> Position:
        cursor = self._engine.cursors.get([key]).get(key)
        if cursor is None:
            raise ListenerNotFound(*key)
        return cursor

    def _retry_ms(self, channel_id: str) -> int:
        channel = self._engine.channels.settings(channel_id)
        if channel is None:
            raise ChannelNotFound(channel_id)
        return channel.retry_timeout_milliseconds

    def _acks_by(self, channel_id: str, listener_id: str) -> str:
        queues = self._engine.channels.connections.queues_repository
        try:
            queue = queues.load(connection_id(channel_id, listener_id))
        except ItemNotFound:
            raise ListenerNotFound(channel_id, listener_id) from None
        return queue.acks_by if isinstance(queue, LogQueue) else ACK_AUTO

    def _channel_info(self, channel_id: str, retry_ms: int, head: Head) -> ChannelInfo:
        last_id = str(Position(head.epoch, head.last))
        return ChannelInfo(channel_id, retry_ms, head.retention, head.epoch, last_id, self._hub.count(channel_id))

    def _listener_info(self, key: CursorKey, ack: str) -> ListenerInfo:
        cursor = self._cursor(key)
        lag = self._engine.log.count(key.channel_id, cursor.offset, key.listener_id, LAG_CAP)
        return ListenerInfo(key.listener_id, ack, str(cursor), lag)


class _Located(NamedTuple):
    """Where a stream is to start, as the store told."""

    head: Head
    offset: int
    gap: Gap | None
    retry_ms: int
    acks_by: str | None
    acknowledged: Position | None


def _entry(message: Outgoing, idempotency_key: str | None, number: int) -> NewEntry:
    if message.to is not None and (problem := id_problem(message.to)) is not None:
        raise InvalidListenerException(problem)
    to_store: MessageContract = Message(message.type, message.payload)
    key = message.id
    if message.id is not None:
        to_store = UniqueMessage(to_store, message_id=message.id)
    elif idempotency_key is not None:
        # A request's key cannot be taken for a message's: ids hold no NUL.
        key = f"{idempotency_key}\0{number}"
    return NewEntry(encode_message(to_store), message.to, key)
