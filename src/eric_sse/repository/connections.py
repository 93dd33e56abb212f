"""A channel's connections in any storage."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from eric_sse.codec import (
    FORMAT_VERSION,
)
from eric_sse.connection import Connection
from eric_sse.exception import InvalidConnectionException, InvalidListenerException, ItemNotFound, RepositoryError
from eric_sse.interfaces import (
    ConnectionRepositoryInterface,
    ListenerRepositoryInterface,
    QueueRepositoryInterface,
)
from eric_sse.repository.children import BulkRepository
from eric_sse.repository.storage import KvStorage, delete_many, fetch_many, storage_key, transaction, upsert_many


class ConnectionRepository(ConnectionRepositoryInterface):
    """Concrete Connection Repository.

    Relies on `KvStorage` abstraction for final writes of connections data, and on correspondent repositories for
    related objects ones. Where the storage and those repositories take many at once, so does it: the cost of loading
    or persisting n connections is then a constant number of round trips.

    Args:
        storage: Where a channel's connections are listed.
        listeners_repository: Where their listeners are.
        queues_repository: Where their queues are.
    """

    _kind = "connection"

    def __init__(
        self,
        storage: KvStorage,
        listeners_repository: ListenerRepositoryInterface,
        queues_repository: QueueRepositoryInterface,
    ) -> None:
        self._storage = storage
        self._listeners_repository = listeners_repository
        self._queues_repository = queues_repository

    @property
    def queues_repository(self) -> QueueRepositoryInterface:
        """Where the connections' queues are."""
        return self._queues_repository

    @property
    def listeners_repository(self) -> ListenerRepositoryInterface:
        """Where the connections' listeners are."""
        return self._listeners_repository

    def load_all(self, channel_id: str) -> Iterable[Connection]:
        """Loads all connections managed by a given channel."""
        ids = self.ids(channel_id)
        listeners = _load_children(self._listeners_repository, ids)
        queues = _load_children(self._queues_repository, ids)
        for connection_id in ids:
            try:
                yield Connection(listeners[connection_id], queues[connection_id], connection_id)
            except KeyError:
                self._explain_missing(channel_id, connection_id)

    def load_one(self, channel_id: str, connection_id: str) -> Connection:
        """Loads a connection given the connection and channel id it belongs to.

        Raises:
            ItemNotFound: There is none.
        """
        self._storage.fetch_one(storage_key(self._kind, channel_id, connection_id))
        listener = self._listeners_repository.load(connection_id)
        return Connection(listener, self._queues_repository.load(connection_id), connection_id)

    def persist(self, channel_id: str, connection: Connection) -> None:
        """Persists a connection and assign it to a channel."""
        self.persist_many(channel_id, [connection])

    def delete(self, channel_id: str, connection_id: str) -> None:
        """Deletes a connection given the connection and channel id it belongs to. Idempotent."""
        self.delete_many(channel_id, [connection_id])

    def persist_many(self, channel_id: str, connections: Collection[Connection]) -> None:
        """Persists connections and assigns them to a channel.

        A subclass with a way of its own to persist one overrides this too.
        """
        with transaction(self._storage):
            # Children before parents: a crash leaves no connection that cannot be loaded.
            _persist_children(self._listeners_repository, {c.id: c.listener for c in connections})
            _persist_children(self._queues_repository, {c.id: c.queue for c in connections})
            rows = {storage_key(self._kind, channel_id, c.id): {"v": FORMAT_VERSION, "id": c.id} for c in connections}
            upsert_many(self._storage, rows)

    def delete_many(self, channel_id: str, connection_ids: Collection[str]) -> None:
        """Deletes connections of a channel. Idempotent."""
        with transaction(self._storage):
            # Parents before children, for the same reason.
            delete_many(self._storage, [storage_key(self._kind, channel_id, id_) for id_ in connection_ids])
            _delete_children(self._queues_repository, connection_ids)
            _delete_children(self._listeners_repository, connection_ids)

    def delete_all(self, channel_id: str) -> None:
        """Deletes all connections of a channel, without loading them."""
        self.delete_many(channel_id, self.ids(channel_id))

    def contains(self, channel_id: str, connection_id: str) -> bool:
        """Whether the channel has that connection."""
        return bool(fetch_many(self._storage, [storage_key(self._kind, channel_id, connection_id)]))

    def ids(self, channel_id: str) -> list[str]:
        """The ids of a channel's connections."""
        rows = self._storage.fetch_by_prefix(storage_key(self._kind, channel_id))
        try:
            return [row["id"] for row in rows]
        except (TypeError, KeyError) as error:
            raise RepositoryError(f"a stored connection of channel {channel_id!r} cannot be read") from error

    def _explain_missing(self, channel_id: str, connection_id: str) -> None:
        # Another process may have removed the connection since its row was read: then nothing is wrong.
        try:
            self._storage.fetch_one(storage_key(self._kind, channel_id, connection_id))
        except ItemNotFound:
            return
        raise RepositoryError(
            f"connection {connection_id!r} of channel {channel_id!r} has no listener or queue stored; delete it"
        )


# What repositories raise for a child that is not there.
_MISSING = (ItemNotFound, InvalidConnectionException, InvalidListenerException)


def _load_children(repository: Any, ids: Sequence[str]) -> Mapping[str, Any]:
    if isinstance(repository, BulkRepository):
        return repository.load_many(ids)
    found = {}
    for connection_id in ids:
        try:
            found[connection_id] = repository.load(connection_id)
        except _MISSING:
            continue
    return found


def _persist_children(repository: Any, items: Mapping[str, Any]) -> None:
    if isinstance(repository, BulkRepository):
        repository.persist_many(items)
    else:
        for connection_id, item in items.items():
            repository.persist(connection_id, item)


def _delete_children(repository: Any, ids: Collection[str]) -> None:
    if isinstance(repository, BulkRepository):
        repository.delete_many(ids)
        return
    for connection_id in ids:
        try:
            repository.delete(connection_id)
        except _MISSING:
            # Some repositories look for what they delete; it was gone already.
            continue
