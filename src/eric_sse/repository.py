"""Key-value storage, and the repositories over it: a persistence layer from five methods.

A user who writes the five methods of a `KvStorage` has a whole persistence layer: the same storage may serve all four
repositories, or each may have its own. A user whose objects are not plain values writes a dump strategy in a
repository of their own instead.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from weakref import WeakKeyDictionary

from eric_sse.codec import (
    FORMAT_VERSION,
    decode_json,
    decode_message,
    encode_json,
    encode_message,
    listener_from_value,
    listener_to_value,
)
from eric_sse.connection import Connection, ConnectionsFactory
from eric_sse.entities import AbstractChannel
from eric_sse.exception import InvalidConnectionException, InvalidListenerException, ItemNotFound, RepositoryError
from eric_sse.interfaces import (
    ChannelRepositoryInterface,
    ConnectionRepositoryInterface,
    ListenerRepositoryInterface,
    QueueRepositoryInterface,
)
from eric_sse.listener import MessageQueueListener
from eric_sse.log import LogQueue, LogQueues
from eric_sse.queues import InMemoryQueue, Queue

_T = TypeVar("_T")


class KvStorage(ABC):
    r"""Represents a Key Value storage engine. Provides functionalities to load, persist and find by key prefix.

    Keys are compared by code points, case-sensitive, and hold no character that means anything: ``* ? [ % _ \ :``
    stand for themselves. Values are plain JSON values, unless an implementation says that it takes more.
    """

    @abstractmethod
    def fetch_by_prefix(self, prefix: str) -> Iterable[Any]:
        """The values whose keys begin with ``prefix``, to the letter; all of them for ``""``. In no order.

        Deleting while iterating is safe.
        """

    @abstractmethod
    def fetch_all(self) -> Iterable[Any]:
        """Return all items that have been persisted."""

    @abstractmethod
    def upsert(self, key: str, value: Any) -> None:
        """Updates or inserts a value given its corresponding key."""

    @abstractmethod
    def fetch_one(self, key: str) -> Any:
        """Return value correspondent to key.

        Raises:
            ItemNotFound: There is none.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Idempotent deletion. Does not throw an error on invalid key."""


class BatchKvStorage(KvStorage):
    """A power of some storages: many keys in one round trip."""

    @abstractmethod
    def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Any]:
        """The values of those keys that have one."""

    @abstractmethod
    def upsert_many(self, items: Mapping[str, Any]) -> None:
        """Store all of them, or none where the storage has transactions."""

    @abstractmethod
    def delete_many(self, keys: Collection[str]) -> None:
        """Delete those of the keys that are there."""

    @abstractmethod
    def fetch_page(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, Any]]:
        """The first ``limit`` keys, with their values, that begin with ``prefix`` and come after ``after``.

        In key order (by code points). ``after=""`` starts at the beginning.
        """


class TransactionalKvStorage(KvStorage):
    """A power of some storages: several calls of one thread become visible together, or not at all."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """What this thread does inside is committed at the end, or undone where an exception leaves the block.

        Nested ones are savepoints. What else belongs to the same engine takes part.
        """


class InMemoryStorage(KvStorage):
    """In memory implementation. It holds whatever it is given, by reference.

    Args:
        items: What it holds at the start; the storage works on this very dictionary.
    """

    def __init__(self, items: dict[str, Any] | None = None) -> None:
        self.items: dict[str, Any] = {} if items is None else items

    def fetch_by_prefix(self, prefix: str) -> Iterable[Any]:
        """The values whose keys begin with ``prefix``."""
        # A copy, so that deleting while iterating is safe.
        return [value for key, value in tuple(self.items.items()) if key.startswith(prefix)]

    def fetch_all(self) -> Iterable[Any]:
        """Return all items that have been persisted."""
        return list(self.items.values())

    def upsert(self, key: str, value: Any) -> None:
        """Updates or inserts a value given its corresponding key."""
        self.items[key] = value

    def fetch_one(self, key: str) -> Any:
        """Return value correspondent to key.

        Raises:
            ItemNotFound: There is none.
        """
        try:
            return self.items[key]
        except KeyError:
            raise ItemNotFound(key) from None

    def delete(self, key: str) -> None:
        """Idempotent deletion."""
        self.items.pop(key, None)


def storage_key(*components: str) -> str:
    """The key made of ``components``; as a prefix, it stands for all keys that begin with the same components.

    Each component is escaped and closed by a terminator, and components are joined by ``:``, so that ids that are
    prefixes of one another, or hold characters that some storage gives a meaning, stay apart; also in a storage that
    appends a ``:`` of its own before it looks for a prefix.
    """
    # A lone surrogate is in no id, but whoever looks for one is to find nothing, rather than fail.
    return ":".join(f"{quote(component, safe='', errors='surrogatepass')}/" for component in components)


def transaction(storage: KvStorage) -> AbstractContextManager[None]:
    """A transaction where the storage has them; else a block in which each call stands for itself."""
    return storage.transaction() if isinstance(storage, TransactionalKvStorage) else nullcontext()


def _fetch_many(storage: KvStorage, keys: Sequence[str]) -> Mapping[str, Any]:
    if isinstance(storage, BatchKvStorage):
        return storage.fetch_many(keys)
    found = {}
    for key in keys:
        try:
            found[key] = storage.fetch_one(key)
        except ItemNotFound:
            continue
    return found


def _upsert_many(storage: KvStorage, items: Mapping[str, Any]) -> None:
    if isinstance(storage, BatchKvStorage):
        storage.upsert_many(items)
    else:
        for key, value in items.items():
            storage.upsert(key, value)


def _delete_many(storage: KvStorage, keys: Collection[str]) -> None:
    if isinstance(storage, BatchKvStorage):
        storage.delete_many(keys)
    else:
        for key in keys:
            storage.delete(key)


class BulkRepository(ABC, Generic[_T]):
    """A power of some listener and queue repositories: what belongs to many connections, at once."""

    @abstractmethod
    def load_many(self, connection_ids: Sequence[str]) -> Mapping[str, _T]:
        """What belongs to those of the connections that have one, by connection id."""

    @abstractmethod
    def persist_many(self, items: Mapping[str, _T]) -> None:
        """Persist what belongs to each connection, by connection id."""

    @abstractmethod
    def delete_many(self, connection_ids: Collection[str]) -> None:
        """Delete what belongs to the connections; idempotent."""


class _StoredPerConnection(BulkRepository[_T]):
    """One plain value a connection, under its kind's prefix."""

    _kind: str

    def __init__(self, storage: KvStorage) -> None:
        self._storage = storage

    @abstractmethod
    def _to_value(self, item: _T) -> Any: ...

    @abstractmethod
    def _from_value(self, value: Any) -> _T: ...

    def load(self, connection_id: str) -> _T:
        return self._from_value(self._storage.fetch_one(storage_key(self._kind, connection_id)))

    def delete(self, connection_id: str) -> None:
        self.delete_many([connection_id])

    def load_many(self, connection_ids: Sequence[str]) -> Mapping[str, _T]:
        keys = {storage_key(self._kind, connection_id): connection_id for connection_id in connection_ids}
        values = _fetch_many(self._storage, list(keys))
        return {keys[key]: self._from_value(value) for key, value in values.items()}

    def persist_many(self, items: Mapping[str, _T]) -> None:
        values = {storage_key(self._kind, id_): self._to_value(item) for id_, item in items.items()}
        _upsert_many(self._storage, values)

    def delete_many(self, connection_ids: Collection[str]) -> None:
        _delete_many(self._storage, [storage_key(self._kind, id_) for id_ in connection_ids])


class ListenerRepository(_StoredPerConnection[MessageQueueListener], ListenerRepositoryInterface):
    """Listeners in any `KvStorage`: the name of their registered type, and their id.

    A class of your own is registered with :func:`eric_sse.codec.register_listener_type`.

    Args:
        storage: Where to.
    """

    _kind = "listener"

    def persist(self, connection_id: str, listener: MessageQueueListener) -> None:
        """Persists listener and assign to connection."""
        self.persist_many({connection_id: listener})

    def _to_value(self, item: MessageQueueListener) -> Any:
        return listener_to_value(item)

    def _from_value(self, value: Any) -> MessageQueueListener:
        return listener_from_value(value)


class QueueRepository(_StoredPerConnection[Queue], QueueRepositoryInterface):
    """Queues in any `KvStorage`: an `InMemoryQueue` with what is pending in it, a `LogQueue` as what it is a view of.

    Args:
        storage: Where to.
        log_queues: The engine's, for queues that are views of a log; their cursors are kept there alone.
    """

    _kind = "queue"

    def __init__(self, storage: KvStorage, log_queues: LogQueues | None = None) -> None:
        super().__init__(storage)
        self._log_queues = log_queues
        self._bound: LogQueues | None = None

    def persist(self, connection_id: str, queue: Queue) -> None:
        """Persists queue and assign to connection."""
        self.persist_many({connection_id: queue})

    def persist_many(self, items: Mapping[str, Queue]) -> None:
        """Persist queues, by connection id. Listeners that have no cursor get one at the log's end."""
        with transaction(self._storage):
            # Children before parents: a queue that can be loaded has its cursor.
            for channel_id, listener_ids in _by_channel(items.values()).items():
                self._require_log().cursors.create(channel_id, listener_ids)
            super().persist_many(items)

    def delete_many(self, connection_ids: Collection[str]) -> None:
        """Delete queues, and the cursors of those that are views of a log."""
        with transaction(self._storage):
            queues = self.load_many(list(connection_ids)) if self._log_queues else {}
            super().delete_many(connection_ids)
            for channel_id, listener_ids in _by_channel(queues.values()).items():
                self._require_log().cursors.drop(channel_id, listener_ids)

    def _to_value(self, item: Queue) -> Any:
        if isinstance(item, LogQueue):
            return {
                "v": FORMAT_VERSION,
                "kind": "log",
                "channel": item.channel_id,
                "listener": item.listener_id,
                "ack": item.acks_by,
            }
        if isinstance(item, InMemoryQueue):
            messages = [decode_json(encode_message(message)) for message in item.pending()]
            return {"v": FORMAT_VERSION, "kind": "memory", "messages": messages}
        raise RepositoryError(
            f"a {type(item).__qualname__} could not be loaded again: write a queue repository that stores it"
        )

    def _from_value(self, value: Any) -> Queue:
        try:
            if value["kind"] == "memory":
                return InMemoryQueue(decode_message(encode_json(message)) for message in value["messages"])
            if value["kind"] == "log":
                return LogQueue(self._for_channel(value["channel"]), value["listener"], value["ack"])
        except (TypeError, KeyError) as error:
            raise RepositoryError(f"stored queue {value!r} cannot be read; is the store damaged?") from error
        raise RepositoryError(f"stored queue is of the unknown kind {value['kind']!r}: upgrade eric_sse")

    def _for_channel(self, channel_id: str) -> LogQueues:
        # The queues of one channel are loaded together and share one factory. Another thread may load another
        # channel's, hence the local name.
        bound = self._bound
        if bound is None or bound.channel_id != channel_id:
            self._bound = bound = self._require_log().for_channel(channel_id)
        return bound

    def _require_log(self) -> LogQueues:
        if self._log_queues is None:
            raise RepositoryError("a queue that is a view of a log needs an engine: use its `channels` repository")
        return self._log_queues


def _by_channel(queues: Iterable[Queue]) -> dict[str, list[str]]:
    listeners: dict[str, list[str]] = {}
    for queue in queues:
        if isinstance(queue, LogQueue):
            listeners.setdefault(queue.channel_id, []).append(queue.listener_id)
    return listeners


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
            _upsert_many(self._storage, rows)

    def delete_many(self, channel_id: str, connection_ids: Collection[str]) -> None:
        """Deletes connections of a channel. Idempotent."""
        with transaction(self._storage):
            # Parents before children, for the same reason.
            _delete_many(self._storage, [storage_key(self._kind, channel_id, id_) for id_ in connection_ids])
            _delete_children(self._queues_repository, connection_ids)
            _delete_children(self._listeners_repository, connection_ids)

    def delete_all(self, channel_id: str) -> None:
        """Deletes all connections of a channel, without loading them."""
        self.delete_many(channel_id, self.ids(channel_id))

    def contains(self, channel_id: str, connection_id: str) -> bool:
        """Whether the channel has that connection."""
        return bool(_fetch_many(self._storage, [storage_key(self._kind, channel_id, connection_id)]))

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
            self._delete_connections(channel.id, self._held.get(channel, set()) - ids)
        self._held[channel] = ids

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
        data = value.get("channel") if isinstance(value, dict) else None
        if not isinstance(data, dict):
            raise RepositoryError(f"stored channel {value!r} cannot be read; is the store damaged?")
        return data
