"""Channels, listeners and a channel repository, ready for use. Knows the domain and repositories, not engines."""

import asyncio
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from eric_sse._util import get_logger
from eric_sse.codec import register_listener_type
from eric_sse.connection import Connection, ConnectionsFactory
from eric_sse.entities import MESSAGE_TYPE_ERROR, AbstractChannel
from eric_sse.exception import InvalidChannelException, InvalidListenerException, NoMessagesException
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message, MessageContract, SignedMessage, UniqueMessage
from eric_sse.queues import LogBackedQueue, Queue
from eric_sse.repository import AbstractChannelRepository

logger = get_logger()

DEFAULT_RETRY_MS = 3000
"""How long clients wait before they reconnect, in milliseconds. A few would make every restart a storm."""

Action = Callable[[MessageContract], Iterable[MessageContract] | None]
"""What a distributed application does with a message: it returns the answers to its sender, or None."""


class SSEChannel(AbstractChannel):
    """A channel whose streams hold the fields of Server-Sent Events.

    Args:
        stream_delay_seconds: How long a stream waits after each message.
        retry_timeout_milliseconds: How long clients are told to wait before they reconnect.
        channel_id: Its id (1 to 255 bytes of UTF-8, no control characters); a new UUID by default.
        connections_factory: Makes a connection for each listener that subscribes; in memory by default.

    Raises:
        InvalidChannelException: The id cannot be one.
    """

    def __init__(
        self,
        stream_delay_seconds: float = 0,
        retry_timeout_milliseconds: int = DEFAULT_RETRY_MS,
        channel_id: str | None = None,
        connections_factory: ConnectionsFactory | None = None,
    ) -> None:
        super().__init__(stream_delay_seconds, channel_id, connections_factory)
        self.retry_timeout_milliseconds = retry_timeout_milliseconds

    def adapt(self, msg: MessageContract) -> dict[str, Any]:
        """The fields of an event: ``event``, ``retry``, ``data`` (the payload), and ``id`` where there is one.

        The id is the message's place in its channel's log, or else a `UniqueMessage`'s own.
        """
        fields: dict[str, Any] = {
            "event": msg.type,
            "retry": self.retry_timeout_milliseconds,
            "data": msg.payload,
        }
        if msg.position is not None:
            fields["id"] = str(msg.position)
        elif isinstance(msg, UniqueMessage):
            fields["id"] = msg.id
        return fields


class DataProcessingChannel(AbstractChannel):
    """A channel for the concurrent processing of data. Override :meth:`adapt` to control what clients get.

    Args:
        max_workers: How many messages are processed at once.
        stream_delay_seconds: How long a stream waits after each message; only for ``message_stream``.
        executor_class: Makes the executor, called with ``max_workers``. With a `ProcessPoolExecutor`, listener and
            messages are pickled; ``functools.partial`` sets its other options.
        channel_id: Its id; a new UUID by default.
        connections_factory: Makes a connection for each listener that subscribes; in memory by default.
    """

    def __init__(
        self,
        max_workers: int,
        stream_delay_seconds: float = 0,
        executor_class: Callable[..., Executor] = ThreadPoolExecutor,
        channel_id: str | None = None,
        connections_factory: ConnectionsFactory | None = None,
    ) -> None:
        super().__init__(stream_delay_seconds, channel_id, connections_factory)
        self.max_workers = max_workers
        self.executor_class = executor_class

    async def process_queue(self, listener: MessageQueueListener) -> AsyncGenerator[Any, None]:
        """Process what is pending for ``listener``, and yield each message, adapted, when it is done.

        The listener's ``on_message`` runs in the executor, ``max_workers`` at once, until its queue is empty; results
        come in the order in which they finish. A message whose ``on_message`` raises is replaced by one of type
        ``error``, and the others go on. A message is taken off the queue only when a worker is free for it, so that
        whoever stops early leaves the rest in the queue: at most ``max_workers`` were begun, and run to their end.

        Raises:
            ListenerNotFound: The channel has no such listener.
            concurrent.futures.BrokenExecutor: The executor died, or another error of its own, such as a listener that
                cannot be pickled; what was begun is lost.
        """
        queue = self._get_queue(listener.id)
        executor = self.executor_class(max_workers=self.max_workers)
        intake = _Intake(queue, executor, listener.on_message)
        running: set[asyncio.Future[tuple[MessageContract, str | None]]] = set()
        try:
            while True:
                while len(running) < self.max_workers and (begun := await intake.begin_next()) is not None:
                    running.add(asyncio.wrap_future(begun))
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                future = done.pop()
                running.remove(future)
                yield self._adapt_outcome(listener, *future.result())
        finally:
            intake.end()

    def _adapt_outcome(self, listener: MessageQueueListener, message: MessageContract, failure: str | None) -> Any:
        if failure is None:
            return self.adapt(message)
        logger.error("channel %r: listener %r failed on %r:\n%s", self.id, listener.id, message, failure)
        return self.adapt(Message(MESSAGE_TYPE_ERROR))

    def adapt(self, msg: MessageContract) -> Any:
        """A dictionary of ``event``, the message's type, and ``data``, its payload."""
        return {"event": msg.type, "data": msg.payload}


class _Intake:
    """Takes messages off a queue and hands them to an executor, in one step: what is taken is processed."""

    def __init__(self, queue: Queue, executor: Executor, on_message: Callable[[MessageContract], None]) -> None:
        self._queue = queue
        self._executor = executor
        self._on_message = on_message
        self._lock = threading.Lock()
        self._ended = False

    async def begin_next(self) -> "Future[tuple[MessageContract, str | None]] | None":
        """Begin with the next message; None where there is none."""
        # A log does I/O; a plain queue is popped in place, as the streams do.
        if isinstance(self._queue, LogBackedQueue):
            return await asyncio.to_thread(self._begin)
        return self._begin()

    def end(self) -> None:
        """Begin no more. What was begun runs to its end; nobody waits: the event loop would stand still meanwhile."""
        self._ended = True
        if self._lock.acquire(blocking=False):  # else a message is being taken: who takes it shuts down after it
            self._executor.shutdown(wait=False)
            self._lock.release()

    def _begin(self) -> "Future[tuple[MessageContract, str | None]] | None":
        try:
            with self._lock:
                return None if self._ended else self._executor.submit(_run, self._on_message, self._queue.pop())
        except NoMessagesException:
            return None
        finally:
            if self._ended:
                self._executor.shutdown(wait=False)


def _run(on_message: Callable[[MessageContract], None], message: MessageContract) -> tuple[MessageContract, str | None]:
    # The message comes back because another process changes a copy. A failure comes back as text, since not every
    # exception can be pickled, and what the executor itself raises is not to be taken for the listener's.
    try:
        on_message(message)
    except Exception:  # noqa: BLE001 - a user's code may raise anything; it is logged where the message is yielded
        return message, traceback.format_exc()
    return message, None


@register_listener_type("distributed-application")
class SimpleDistributedApplicationListener(MessageQueueListener):
    """A node of a distributed application: it acts on messages by their type, and answers their senders.

    Messages of type ``start`` and ``stop`` start and stop it.

    Args:
        listener_id: Its id; a new UUID by default.
    """

    def __init__(self, listener_id: str | None = None) -> None:
        super().__init__(listener_id)
        self._channel: AbstractChannel | None = None
        self._actions: dict[str, Action] = {}
        self._reserved_actions: dict[str, Callable[[], None]] = {"start": self.start, "stop": self.stop}

    def set_channel(self, channel: AbstractChannel) -> None:
        """Set where messages are sent to. A `SimpleDistributedApplicationChannel` does it at registration."""
        self._channel = channel

    def set_action(self, name: str, action: Action) -> None:
        """Run ``action`` on messages of type ``name``.

        It gets the message and returns the answers, a list of messages, which go to the sender.

        Raises:
            KeyError: The name is reserved: ``start`` or ``stop``.
        """
        if name in self._reserved_actions:
            raise KeyError(f"action {name!r} is reserved; choose another name")
        self._actions[name] = action

    def dispatch_to(self, receiver: MessageQueueListener, msg: MessageContract) -> None:
        """Send ``msg`` to another listener of the channel, signed by this one.

        Raises:
            InvalidListenerException: This listener has no channel, or the channel no such receiver.
        """
        self._dispatch_signed(receiver.id, msg)

    def on_message(self, msg: MessageContract) -> None:
        """Run the action of the message's type, and send its answers to the sender. Unknown types are ignored.

        Answers to a message without a sender go nowhere; a warning is logged.

        Raises:
            InvalidListenerException: The sender is no listener of the channel any more.
            Exception: What the action raises.
        """
        reserved, action = self._reserved_actions.get(msg.type), self._actions.get(msg.type)
        if reserved is not None:
            reserved()
        elif action is not None:
            self._answer(msg, tuple(action(msg) or ()))
        else:
            logger.debug("listener %r: unknown action %r ignored", self.id, msg.type)

    def _answer(self, msg: MessageContract, answers: tuple[MessageContract, ...]) -> None:
        sender_id = msg.sender_id if isinstance(msg, SignedMessage | UniqueMessage) else None
        if sender_id is None and answers:
            logger.warning("listener %r: %r has no sender; %d answers dropped", self.id, msg, len(answers))
            return
        for answer in answers:
            self._dispatch_signed(str(sender_id), answer)

    def _dispatch_signed(self, receiver_id: str, msg: MessageContract) -> None:
        if self._channel is None:
            raise InvalidListenerException(f"listener {self.id!r} has no channel: register it, or call set_channel()")
        self._channel.dispatch(receiver_id, SignedMessage(self.id, msg.type, msg.payload))


class SimpleDistributedApplicationChannel(SSEChannel):
    """A channel of `SimpleDistributedApplicationListener`; listeners of other classes may be there too."""

    def register_connection(self, connection: Connection) -> None:
        """Subscribe an existing connection; one with the same listener id is replaced.

        Its listener, however it came to be registered, sends through this channel from now on.

        Raises:
            InvalidConnectionException: Its queue belongs to another channel, or to another listener.
        """
        super().register_connection(connection)
        if isinstance(connection.listener, SimpleDistributedApplicationListener):
            connection.listener.set_channel(self)


class SSEChannelRepository(AbstractChannelRepository):
    """Persists SSE channels.

    Attributes:
        channel_class: What it makes; a subclass may set a subclass of `SSEChannel` with the same arguments.
    """

    channel_class: type[SSEChannel] = SSEChannel

    def create(self, channel_data: dict[str, Any]) -> SSEChannel:
        """Creates a new channel. Nothing is stored.

        Args:
            channel_data: The constructor's arguments, all but ``connections_factory``, which is the repository's.

        Raises:
            InvalidChannelException: There are other keys in it, or the id cannot be one.
        """
        unknown = channel_data.keys() - _CHANNEL_KEYS
        if unknown:
            raise InvalidChannelException(
                f"a channel has no {', '.join(sorted(map(repr, unknown)))}; it takes {', '.join(_CHANNEL_KEYS)}"
            )
        return self.channel_class(**channel_data, connections_factory=self.connections_factory)

    @staticmethod
    def _channel_to_dict(channel: AbstractChannel) -> dict[str, Any]:
        """Returns a dictionary representation of the channel to be passed to ``create()`` calls."""
        return {key: getattr(channel, attribute) for key, attribute in _CHANNEL_KEYS.items()}


# What a stored channel consists of: the constructor's arguments, and the attributes that hold them.
_CHANNEL_KEYS = {
    "channel_id": "id",
    "retry_timeout_milliseconds": "retry_timeout_milliseconds",
    "stream_delay_seconds": "stream_delay_seconds",
}
