"""Channels: named ordered streams of messages and the connections subscribed to them. Knows no storage."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from eric_sse._util import Wakeup, generate_uuid, get_logger, id_problem
from eric_sse.connection import (
    Connection,
    ConnectionsFactory,
    InMemoryConnectionsFactory,
    LogConnectionsFactory,
)
from eric_sse.exception import (
    InvalidChannelException,
    InvalidConnectionException,
    ListenerNotFound,
    NoMessagesException,
    StoreUnavailable,
)
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message, MessageContract
from eric_sse.queues import LogBackedQueue, Queue, QueueReader, SignallingQueue

logger = get_logger()

MESSAGE_TYPE_ERROR = "error"
"""Type of the message that a stream holds in place of one that could not be delivered."""

# How long a stream sleeps between looks at a queue that cannot tell when there is something new.
_POLL_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.25)
# How long a stream over a log sleeps at most, in seconds: its wake-ups may be lost.
_LOOK_ANYWAY_S = 10.0


class AbstractChannel(ABC):
    """Base class for channels: manages listeners and the delivery of messages.

    Args:
        stream_delay_seconds: How long a stream waits after each message.
        channel_id: Its id (1 to 255 bytes of UTF-8, no control characters); a new UUID by default.
        connections_factory: Makes a connection for each listener that subscribes; in memory by default.

    Raises:
        InvalidChannelException: The id cannot be one.
    """

    def __init__(
        self,
        stream_delay_seconds: float = 0,
        channel_id: str | None = None,
        connections_factory: ConnectionsFactory | None = None,
    ) -> None:
        problem = id_problem(channel_id) if channel_id is not None else None
        if problem is not None:
            raise InvalidChannelException(problem)
        self._id = channel_id if channel_id is not None else generate_uuid()
        self.stream_delay_seconds = stream_delay_seconds
        self._connections_factory = (connections_factory or InMemoryConnectionsFactory()).for_channel(self._id)
        self._connections: dict[str, Connection] = {}
        # Those of them that do not share the channel's log. Kept apart so that a broadcast on a durable channel costs
        # the same with any number of listeners.
        self._pushed: dict[str, Connection] = {}

    @property
    def id(self) -> str:
        """Unique identifier of this channel."""
        return self._id

    @property
    def connections_factory(self) -> ConnectionsFactory:
        """Makes the channel's connections; bound to it."""
        return self._connections_factory

    @abstractmethod
    def adapt(self, msg: MessageContract) -> Any:
        """Model the output of the channel's streams: what is yielded for ``msg``."""

    def message_stream(self, listener: MessageQueueListener) -> AsyncGenerator[Any, None]:
        """Deliver the listener's messages, adapted, as they come; an idle stream sleeps until it is woken.

        It ends when the listener is stopped or removed. Over a log each stream has its own position, starting at the
        listener's cursor, and a message counts as delivered when the next one is asked for; a plain queue is popped,
        so its streams compete. A message whose delivery fails is replaced by one of type ``error``. While the store
        is unavailable the stream stays open and tries again.

        Raises:
            ListenerNotFound: The channel has no such listener. Raised here, not at the first step.
            ChannelNotFound: A durable channel was deleted; from a step of the stream.
            RepositoryError: The store holds what cannot be read; from a step of the stream.
        """
        connection = self._connection(listener.id)
        return self._stream(connection, _source(connection.queue))

    async def _stream(
        self, connection: Connection, source: QueueReader, first: Sequence[MessageContract] | None = None
    ) -> AsyncGenerator[Any, None]:
        listener, queue = connection.listener, connection.queue
        wakeup = Wakeup()
        idle_looks = 0
        with ExitStack() as subscriptions:
            subscriptions.callback(listener.changed.subscribe(wakeup))
            if isinstance(queue, SignallingQueue):
                subscriptions.callback(queue.subscribe(wakeup))
            while self._is_open(connection):
                messages, first = first or await self._next_messages(source), None
                if messages is None:
                    continue
                if not messages:
                    await _until_news(queue, wakeup, idle_looks)
                    idle_looks += 1
                    continue
                idle_looks = 0
                for message in messages:
                    if not self._is_open(connection):
                        break
                    yield self._deliver(listener, message)
                    source.delivered(message)
                    if self.stream_delay_seconds:
                        await asyncio.sleep(self.stream_delay_seconds)

    def _is_open(self, connection: Connection) -> bool:
        listener = connection.listener
        return listener.is_running() and self._connections.get(listener.id) is connection

    async def _next_messages(self, source: QueueReader) -> Sequence[MessageContract] | None:
        try:
            if isinstance(source, _PoppingReader):
                return source.read()
            return await asyncio.to_thread(source.read)
        except StoreUnavailable as error:
            # The stream stays open, and goes on where it was when the store is back. None: it is to try again, and
            # not to wait for a wake-up, for the one that this read was to answer is spent.
            logger.warning("channel %r: reading failed; the stream tries again: %s", self._id, error)
            await asyncio.sleep(_POLL_SECONDS[-1])
            return None

    def _deliver(self, listener: MessageQueueListener, message: MessageContract) -> Any:
        try:
            listener.on_message(message)
            return self.adapt(message)
        except Exception:
            logger.exception("channel %r: listener %r failed on %r", self._id, listener.id, message)
            return self.adapt(Message(MESSAGE_TYPE_ERROR))

    def add_listener(self) -> MessageQueueListener:
        """Create a listener, subscribe it, and return it."""
        connection = self._connections_factory.create()
        self.register_connection(connection)
        return connection.listener

    def register_listener(self, listener: MessageQueueListener) -> None:
        """Subscribe an existing listener."""
        self.register_connection(self._connections_factory.create(listener=listener))

    def register_connection(self, connection: Connection) -> None:
        """Subscribe an existing connection; one with the same listener id is replaced, and its open streams end.

        **Warning**: Listener and queue should belong to the same classes as the connections factory's, or the
        persistence layer may refuse them.

        Raises:
            InvalidConnectionException: Its queue belongs to another channel, or to another listener.
        """
        queue = connection.queue
        if isinstance(queue, LogBackedQueue) and (queue.channel_id, queue.listener_id) != (
            self._id,
            connection.listener.id,
        ):
            raise InvalidConnectionException(
                f"connection {connection.id!r} holds the queue of listener {queue.listener_id!r} of channel "
                f"{queue.channel_id!r}; it cannot serve {connection.listener.id!r} of {self._id!r}: "
                "register the listener, and the channel makes a connection of its own"
            )
        replaced = self._connections.get(connection.listener.id)
        self._connections[connection.listener.id] = connection
        if isinstance(self._connections_factory, LogConnectionsFactory) and isinstance(queue, LogBackedQueue):
            self._pushed.pop(connection.listener.id, None)
        else:
            self._pushed[connection.listener.id] = connection
        if replaced is not None:
            replaced.listener.changed.notify()

    def remove_listener(self, listener_id: str) -> None:
        """Unsubscribe a listener; its open streams end.

        Raises:
            ListenerNotFound: The channel has no such listener.
        """
        connection = self._connection(listener_id)
        del self._connections[listener_id]
        self._pushed.pop(listener_id, None)
        connection.listener.changed.notify()

    def deliver_next(self, listener_id: str) -> MessageContract:
        """Take the listener's next message off its queue, run ``on_message`` and return it.

        Raises:
            NoMessagesException: The queue is empty or the listener is not running.
            ListenerNotFound: The channel has no such listener.
        """
        connection = self._connection(listener_id)
        if not connection.listener.is_running():
            raise NoMessagesException(f"listener {listener_id!r} is not running: call its start() first")
        message = connection.queue.pop()
        connection.listener.on_message(message)
        return message

    def dispatch(self, listener_id: str, msg: MessageContract) -> None:
        """Send ``msg`` to one listener. On a durable channel it returns when the message is stored.

        Raises:
            ListenerNotFound: The channel has no such listener.
            InvalidMessageFormat: The payload cannot be stored.
            RepositoryError: The store failed; the message may be sent again.
        """
        self._get_queue(listener_id).push(msg)

    def broadcast(self, msg: MessageContract) -> None:
        """Send ``msg`` to every listener. On a durable channel it is stored once, and this returns when it is.

        Raises:
            InvalidMessageFormat: The payload cannot be stored.
            RepositoryError: The store failed; the message may be sent again.
        """
        if isinstance(self._connections_factory, LogConnectionsFactory):
            self._connections_factory.broadcast(msg)
        for connection in tuple(self._pushed.values()):
            connection.queue.push(msg)

    def get_listener(self, listener_id: str) -> MessageQueueListener:
        """The listener of that id.

        Raises:
            ListenerNotFound: The channel has no such listener.
        """
        return self._connection(listener_id).listener

    def get_connections(self) -> Collection[Connection]:
        """The channel's connections."""
        return self._connections.values()

    async def watch(self) -> AsyncIterable[Any]:
        """Subscribe a new running listener and return its stream."""
        listener = self.add_listener()
        listener.start()
        # A log is looked at now: what is sent from here on is on the stream, however late it is read.
        connection = self._connection(listener.id)
        source = _source(connection.queue)
        return self._stream(connection, source, await self._next_messages(source))

    def _get_queue(self, listener_id: str) -> Queue:
        return self._connection(listener_id).queue

    def _connection(self, listener_id: str) -> Connection:
        try:
            return self._connections[listener_id]
        except KeyError:
            raise ListenerNotFound(self._id, listener_id) from None


class _PoppingReader(QueueReader):
    """Reads a plain queue by popping it."""

    def __init__(self, queue: Queue) -> None:
        self._pop: Callable[[], MessageContract] = queue.pop

    def read(self) -> Sequence[MessageContract]:
        # One at a time: what is popped and not yet yielded would be lost when the stream is closed.
        try:
            return (self._pop(),)
        except NoMessagesException:
            return ()

    def delivered(self, message: MessageContract) -> None:
        """Nothing to do: it left the queue when it was read."""


def _source(queue: Queue) -> QueueReader:
    return queue.reader() if isinstance(queue, LogBackedQueue) else _PoppingReader(queue)


async def _until_news(queue: Queue, wakeup: Wakeup, looks: int) -> None:
    if isinstance(queue, SignallingQueue):
        # A log's notifier may lose a wake-up; what this process pushes itself is never missed.
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_ANYWAY_S if isinstance(queue, LogBackedQueue) else None):
                await wakeup.wait()
        return
    # asyncio.wait_for would make a task for each look; the listener's stop() is noticed at the next one.
    await asyncio.sleep(_POLL_SECONDS[min(looks, len(_POLL_SECONDS) - 1)])
