"""The queue that is a cursor: a view of a channel's log for one listener."""

import hashlib
from collections.abc import Callable, Sequence

from eric_sse.codec import decode_message, encode_message, message_key
from eric_sse.connection import Connection, LogConnectionsFactory
from eric_sse.exception import ChannelNotFound, ListenerNotFound, NoMessagesException
from eric_sse.listener import MessageQueueListener
from eric_sse.log.acks import AckBuffer
from eric_sse.log.ports import CursorKey, Cursors, MessageLog, NewEntry, Notifier
from eric_sse.log.resume import resume
from eric_sse.message import MessageContract, Position
from eric_sse.queues import LogBackedQueue, QueueReader

ACK_AUTO = "auto"
"""The cursor moves by itself, after messages were handed on."""
ACK_EXPLICIT = "explicit"
"""The cursor moves by :meth:`LogQueue.ack` alone."""


class LogQueues(LogConnectionsFactory):
    """Makes connections whose queues are views of their channel's log.

    Args:
        log: The engine's log.
        cursors: The engine's cursors.
        notifier: The engine's notifier.
        acks: Where automatic acknowledgement is gathered.
        channel_id: The channel it is bound to. An unbound one can only be bound, with :meth:`for_channel`.

    Attributes:
        epoch: The epoch that the channel's log had when it was loaded or persisted here. Where its log is of another
            by now, the channel was deleted and created anew, and nothing is appended. None: not known yet.
    """

    def __init__(
        self, log: MessageLog, cursors: Cursors, notifier: Notifier, acks: AckBuffer, channel_id: str = ""
    ) -> None:
        self.log = log
        self.cursors = cursors
        self.notifier = notifier
        self.acks = acks
        self.channel_id = channel_id
        self.epoch: str | None = None

    def for_channel(self, channel_id: str) -> "LogQueues":
        """The same for one channel."""
        return LogQueues(self.log, self.cursors, self.notifier, self.acks, channel_id)

    def create(self, listener: MessageQueueListener | None = None, ack: str = ACK_AUTO) -> Connection:
        """Create a connection whose id follows from channel and listener. Nothing is stored."""
        listener = listener or MessageQueueListener()
        return Connection(listener, LogQueue(self, listener.id, ack), connection_id(self.channel_id, listener.id))

    def broadcast(self, msg: MessageContract) -> None:
        """Append ``msg`` to the channel's log, once, for every listener.

        Raises:
            ChannelNotFound: The channel was not persisted, or was deleted.
            EpochMismatch: It was deleted and created anew.
            InvalidMessageFormat: It cannot be encoded.
            RepositoryError: The store failed.
        """
        self.append(msg, None)

    def append(self, msg: MessageContract, receiver: str | None) -> None:
        """Append ``msg``, for one listener or, with None, for all, and tell who waits."""
        self.log.append(self.channel_id, [NewEntry(encode_message(msg), receiver, message_key(msg))], self.epoch)
        self.notifier.wake([self.channel_id])


def connection_id(channel_id: str, listener_id: str) -> str:
    """The id of a connection on an engine: two creations of the same meet."""
    # The length keeps ("ab", "c") and ("a", "bc") apart.
    text = f"{len(channel_id)}:{channel_id}{listener_id}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class LogQueue(LogBackedQueue):
    """What a listener has still to receive: its channel's log from its cursor on.

    Args:
        queues: The factory bound to its channel.
        listener_id: The listener.
        ack: ``auto`` or ``explicit``: what moves the cursor.
    """

    def __init__(self, queues: LogQueues, listener_id: str, ack: str = ACK_AUTO) -> None:
        self._queues = queues
        self._key = CursorKey(queues.channel_id, listener_id)
        self.acks_by = ack

    def rebind(self, queues: LogQueues) -> None:
        """Share the factory, and so the epoch, of the channel that it was loaded with."""
        self._queues = queues

    @property
    def channel_id(self) -> str:
        """The channel whose log this is a view of."""
        return self._key.channel_id

    @property
    def listener_id(self) -> str:
        """The listener that it is the queue of."""
        return self._key.listener_id

    def push(self, message: MessageContract) -> None:
        """Dispatch ``message`` to the listener; returns when it is stored.

        Raises:
            ChannelNotFound: The channel was not persisted, or was deleted.
            EpochMismatch: It was deleted and created anew.
            InvalidMessageFormat: It cannot be encoded.
            RepositoryError: The store failed.
        """
        self._queues.append(message, self.listener_id)

    def pop(self) -> MessageContract:
        """The next message; the cursor moves past it. Consumers in any process compete: no two get the same one.

        Where messages are missing, it is first of all a message of type ``eric.gap``.

        Raises:
            NoMessagesException: There is nothing new.
            ListenerNotFound: The listener was not persisted, or was removed.
        """
        while True:
            cursor = self.cursor()
            page = self._queues.log.read(self.channel_id, cursor.offset, self.listener_id, limit=1)
            offset, gap = resume(page.head, str(cursor))
            if gap is not None:
                message: MessageContract = gap.message(Position(page.head.epoch, offset))
            elif page.entries:
                entry = page.entries[0]
                message = decode_message(entry.data, Position(page.head.epoch, entry.offset))
            else:
                raise NoMessagesException(f"listener {self.listener_id!r} of {self.channel_id!r} has received all")
            if self._queues.cursors.compare_and_set(self._key, cursor, _position(message)):
                return message

    def cursor(self) -> Position:
        """How far the listener has acknowledged.

        Raises:
            ListenerNotFound: The listener was not persisted, or was removed.
        """
        found = self._queues.cursors.get([self._key]).get(self._key)
        if found is None:
            raise ListenerNotFound(*self._key)
        return found

    def ack(self, position: Position) -> None:
        """Acknowledge everything through ``position``. A cursor never moves back."""
        self._queues.cursors.advance({self._key: position})

    def persist(self) -> None:
        """Create the listener's cursor, at the log's end, unless it has one.

        Raises:
            ChannelNotFound: The channel was not persisted.
        """
        self._queues.cursors.create(self.channel_id, [self.listener_id])

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called, from any thread, when the channel may have something new."""

        def on_news(channel_id: str | None) -> None:
            if channel_id is None or channel_id == self.channel_id:
                wake()

        return self._queues.notifier.listen(on_news)

    def reader(self) -> QueueReader:
        """A new reader, which starts at the listener's cursor; at the log's end where it was never persisted."""
        return _LogReader(self._queues, self._key, lazily_acks=self.acks_by == ACK_AUTO)


class _LogReader(QueueReader):
    """One stream's own position in a log."""

    def __init__(self, queues: LogQueues, key: CursorKey, *, lazily_acks: bool) -> None:
        self._queues = queues
        self._key = key
        self._lazily_acks = lazily_acks
        self._position: Position | None = None

    def read(self) -> Sequence[MessageContract]:
        position = self._position or self._start()
        page = self._queues.log.read(self._key.channel_id, position.offset, self._key.listener_id)
        offset, gap = resume(page.head, str(position))
        if gap is not None:
            self._position = Position(page.head.epoch, offset)
            return [gap.message(self._position)]
        self._position = Position(page.head.epoch, page.through)
        return [decode_message(entry.data, Position(page.head.epoch, entry.offset)) for entry in page.entries]

    def delivered(self, message: MessageContract) -> None:
        if self._lazily_acks:
            self._queues.acks.note(self._key, _position(message))

    def _start(self) -> Position:
        cursor = self._queues.cursors.get([self._key]).get(self._key)
        if cursor is not None:
            return cursor
        head = self._queues.log.heads([self._key.channel_id]).get(self._key.channel_id)
        if head is None:
            raise ChannelNotFound(self._key.channel_id)
        return Position(head.epoch, head.last)


def _position(message: MessageContract) -> Position:
    if message.position is None:
        raise TypeError(f"{message!r} was not read from a log")
    return message.position
