"""Connections: a listener and its queue; and the factories that make them."""

from abc import ABC, abstractmethod

from eric_sse._util import generate_uuid
from eric_sse.listener import MessageQueueListener
from eric_sse.message import MessageContract
from eric_sse.queues import InMemoryQueue, Queue


class Connection:
    """A listener and its message queue.

    Args:
        listener: Who receives.
        queue: What it has still to receive.
        connection_id: A new UUID by default.
    """

    def __init__(self, listener: MessageQueueListener, queue: Queue, connection_id: str | None = None) -> None:
        self._listener = listener
        self._queue = queue
        self._id = connection_id or generate_uuid()

    @property
    def listener(self) -> MessageQueueListener:
        """Who receives."""
        return self._listener

    @property
    def queue(self) -> Queue:
        """What the listener has still to receive."""
        return self._queue

    @property
    def id(self) -> str:
        """Unique identifier of the connection."""
        return self._id


class ConnectionsFactory(ABC):
    """Makes a channel's connections."""

    @abstractmethod
    def create(self, listener: MessageQueueListener | None = None) -> Connection:
        """Create a connection. Nothing is stored.

        Args:
            listener: Who is to receive; a new listener by default.
        """

    def for_channel(self, channel_id: str) -> "ConnectionsFactory":  # noqa: ARG002 - for those who need to know
        """The factory for one channel's connections. A channel asks for it once, when it is made."""
        return self


class LogConnectionsFactory(ConnectionsFactory):
    """A power of some factories, once bound to a channel: its connections share one log."""

    @abstractmethod
    def broadcast(self, msg: MessageContract) -> None:
        """Append ``msg`` to the log, once, for every listener. Returns when it is stored."""


class InMemoryConnectionsFactory(ConnectionsFactory):
    """Makes connections with in-memory queues."""

    def create(self, listener: MessageQueueListener | None = None) -> Connection:
        """Create a connection with an empty in-memory queue."""
        return Connection(listener=listener or MessageQueueListener(), queue=InMemoryQueue())
