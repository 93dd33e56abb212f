"""Channels in any storage."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from eric_sse.codec import FORMAT_VERSION, check_version
from eric_sse.connection import Connection, ConnectionsFactory
from eric_sse.entities import AbstractChannel
from eric_sse.exception import RepositoryError
from eric_sse.interfaces import (
    ChannelRepositoryInterface,
    ConnectionRepositoryInterface,
)
from eric_sse.repository.connections import ConnectionRepository
from eric_sse.repository.storage import KvStorage, after_commit, storage_key, transaction


class AbstractChannelRepository(ChannelRepositoryInterface, ABC):
    """Abstract base class for channel repositories.

    Builds channels before return them using injected repositories.

    Args:
        storage: Where channels are.
        connections_repository: Where their connections are.
        connections_factory: What the channels get, to make connections for new listeners.
    """

    _kind = "channel"

    def __init__(
        self,
        storage: KvStorage,
        connections_repository: ConnectionRepositoryInterface,
        connections_factory: ConnectionsFactory,
    ) -> None:
        self._storage = storage
        self._connections_repository = connections_repository
        self._connections_factory = connections_factory
        # What each living channel had stored when it was loaded or persisted here: what it no longer has, it removed.
        self._held: WeakKeyDictionary[AbstractChannel, set[str]] = WeakKeyDictionary()

    @property
    def connections_factory(self) -> ConnectionsFactory:
        """The connections factory that will be injected into concrete channel instances."""
        return self._connections_factory

    @property
    def connections_repository(self) -> ConnectionRepositoryInterface:
        """Repository to be used to persist connections."""
        return self._connections_repository

    @staticmethod
    @abstractmethod
    def _channel_to_dict(channel: AbstractChannel) -> dict[str, Any]:
        """Returns a dictionary representation of the channel to be passed to ``create()`` calls."""

    def load_all(self) -> Iterator[AbstractChannel]:
        """Loads all channels, one after the other as they are asked for."""
        for value in list(self._storage.fetch_by_prefix(storage_key(self._kind))):
            yield self._build(value)

    def load_one(self, channel_id: str) -> AbstractChannel:
        """Loads a channel given its id.

        Raises:
            ItemNotFound: There is none.
        """
        return self._build(self._storage.fetch_one(storage_key(self._kind, channel_id)))

    def persist(self, channel: AbstractChannel) -> None:
        """Persists a channel: what it holds is stored, what it held and removed since is deleted.

        What other processes added to it in the meantime is left alone. Atomic where the storage has transactions.
        """
        connections = channel.get_connections()
        ids = {connection.id for connection in connections}
        with transaction(self._storage):
            self._persist_connections(channel.id, connections)
            self._storage.upsert(
                storage_key(self._kind, channel.id), {"v": FORMAT_VERSION, "channel": self._channel_to_dict(channel)}
            )
            held = self._held.get(channel, set())
            self._delete_connections(channel.id, held - ids)
        # Until the commit it may hold either; to delete what is not there does no harm.
        self._held[channel] = held | ids
        after_commit(self._storage, partial(self._held.__setitem__, channel, ids))

    def delete(self, channel_id: str) -> None:
        """Deletes a channel and its connections given its id. Idempotent."""
        with transaction(self._storage):
            self._storage.delete(storage_key(self._kind, channel_id))
            if isinstance(self._connections_repository, ConnectionRepository):
                self._connections_repository.delete_all(channel_id)
                return
            connections = list(self._connections_repository.load_all(channel_id))
            self._delete_connections(channel_id, {connection.id for connection in connections})

    def _persist_connections(self, channel_id: str, connections: Collection[Connection]) -> None:
        if isinstance(self._connections_repository, ConnectionRepository):
            self._connections_repository.persist_many(channel_id, connections)
            return
        for connection in connections:
            self._connections_repository.persist(channel_id, connection)

    def _delete_connections(self, channel_id: str, connection_ids: Collection[str]) -> None:
        if not connection_ids:
            return
        if isinstance(self._connections_repository, ConnectionRepository):
            self._connections_repository.delete_many(channel_id, connection_ids)
            return
        for connection_id in connection_ids:
            self._connections_repository.delete(channel_id, connection_id)

    def _build(self, value: Any) -> AbstractChannel:
        channel = self.create(self._channel_data(value))
        for connection in self._connections_repository.load_all(channel.id):
            channel.register_connection(connection)
        self._held[channel] = {connection.id for connection in channel.get_connections()}
        return channel

    @staticmethod
    def _channel_data(value: Any) -> dict[str, Any]:
        check_version(value, "channel")
        data = value.get("channel")
        if not isinstance(data, dict):
            raise RepositoryError(f"stored channel {value!r} cannot be read; is the store damaged?")
        return data
