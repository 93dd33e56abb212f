"""The repository interfaces: what a persistence layer is made of. The seed's, to the letter."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from eric_sse.connection import Connection, ConnectionsFactory
from eric_sse.entities import AbstractChannel
from eric_sse.listener import MessageQueueListener
from eric_sse.queues import Queue


class QueueRepositoryInterface(ABC):
    """Loads and stores queues."""

    @abstractmethod
    def load(self, connection_id: str) -> Queue:
        """Loads a queue given the connection id it belongs to."""

    @abstractmethod
    def persist(self, connection_id: str, queue: Queue) -> None:
        """Persists queue and assign to connection."""

    @abstractmethod
    def delete(self, connection_id: str) -> None:
        """Deletes a queue given the connection id it belongs to."""


class ListenerRepositoryInterface(ABC):
    """Loads and stores listeners."""

    @abstractmethod
    def load(self, connection_id: str) -> MessageQueueListener:
        """Loads a listener given the connection id it belongs to."""

    @abstractmethod
    def persist(self, connection_id: str, listener: MessageQueueListener) -> None:
        """Persists listener and assign to connection."""

    @abstractmethod
    def delete(self, connection_id: str) -> None:
        """Deletes a listener given the connection id it belongs to."""


class ConnectionRepositoryInterface(ABC):
    """Loads and stores connections."""

    @property
    @abstractmethod
    def queues_repository(self) -> QueueRepositoryInterface:
        """Where the connections' queues are."""

    @property
    @abstractmethod
    def listeners_repository(self) -> ListenerRepositoryInterface:
        """Where the connections' listeners are."""

    @abstractmethod
    def load_all(self, channel_id: str) -> Iterable[Connection]:
        """Loads all connections managed by a given channel."""

    @abstractmethod
    def load_one(self, channel_id: str, connection_id: str) -> Connection:
        """Loads a connection given the connection and channel id it belongs to."""

    @abstractmethod
    def persist(self, channel_id: str, connection: Connection) -> None:
        """Persists a connection and assign it to a channel."""

    @abstractmethod
    def delete(self, channel_id: str, connection_id: str) -> None:
        """Deletes a connection given the connection and channel id it belongs to."""


class ChannelRepositoryInterface(ABC):
    """Loads and stores channels."""

    @property
    @abstractmethod
    def connections_factory(self) -> ConnectionsFactory:
        """The connections factory that will be injected into concrete channel instances."""

    @property
    @abstractmethod
    def connections_repository(self) -> ConnectionRepositoryInterface:
        """Repository to be used to persist connections."""

    @abstractmethod
    def load_all(self) -> Iterable[AbstractChannel]:
        """Loads all channels."""

    @abstractmethod
    def load_one(self, channel_id: str) -> AbstractChannel:
        """Loads a channel given its id."""

    @abstractmethod
    def persist(self, channel: AbstractChannel) -> None:
        """Persists a channel."""

    @abstractmethod
    def delete(self, channel_id: str) -> None:
        """Deletes a channel given its id."""

    @abstractmethod
    def create(self, channel_data: dict[str, Any]) -> AbstractChannel:
        """Creates a new channel and configures it depending on channel_data."""
