"""Listeners and queues in any storage: one plain value a connection."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from eric_sse.codec import (
    FORMAT_VERSION,
    check_version,
    decode_json,
    decode_message,
    encode_json,
    encode_message,
    listener_from_value,
    listener_to_value,
)
from eric_sse.exception import RepositoryError
from eric_sse.interfaces import (
    ListenerRepositoryInterface,
    QueueRepositoryInterface,
)
from eric_sse.listener import MessageQueueListener
from eric_sse.log import CursorKey, LogQueue, LogQueues
from eric_sse.log.ports import by_channel
from eric_sse.queues import InMemoryQueue, Queue
from eric_sse.repository.storage import KvStorage, delete_many, fetch_many, storage_key, transaction, upsert_many

_T = TypeVar("_T")


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
        values = fetch_many(self._storage, list(keys))
        return {keys[key]: self._from_value(value) for key, value in values.items()}

    def persist_many(self, items: Mapping[str, _T]) -> None:
        values = {storage_key(self._kind, id_): self._to_value(item) for id_, item in items.items()}
        upsert_many(self._storage, values)

    def delete_many(self, connection_ids: Collection[str]) -> None:
        delete_many(self._storage, [storage_key(self._kind, id_) for id_ in connection_ids])


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

    def persist(self, connection_id: str, queue: Queue) -> None:
        """Persists queue and assign to connection."""
        self.persist_many({connection_id: queue})

    def persist_many(self, items: Mapping[str, Queue]) -> None:
        """Persist queues, by connection id. Listeners that have no cursor get one at the log's end."""
        with transaction(self._storage):
            # Children before parents: a queue that can be loaded has its cursor.
            queues = (queue for queue in items.values() if isinstance(queue, LogQueue))
            keys = (CursorKey(queue.channel_id, queue.listener_id) for queue in queues)
            for channel_id, listener_ids in by_channel(keys).items():
                self._require_log().cursors.create(channel_id, listener_ids)
            super().persist_many(items)

    def delete_many(self, connection_ids: Collection[str]) -> None:
        """Delete queues, and the cursors of those that are views of a log."""
        with transaction(self._storage):
            if self._log_queues is not None:
                # The cursors first: without its queue's row, nothing would lead to a cursor that a crash has left.
                for channel_id, listener_ids in by_channel(self._cursors_of(connection_ids)).items():
                    self._log_queues.cursors.drop(channel_id, listener_ids)
            super().delete_many(connection_ids)

    def _cursors_of(self, connection_ids: Collection[str]) -> set[CursorKey]:
        """Of the queues that are views of a log; what cannot be read can still be deleted."""
        keys: set[CursorKey] = set()
        for value in fetch_many(self._storage, [storage_key(self._kind, id_) for id_ in connection_ids]).values():
            with suppress(TypeError, KeyError):
                if value["kind"] == "log":
                    keys.add(CursorKey(value["channel"], value["listener"]))
        return keys

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
        check_version(value, "queue")
        try:
            if value["kind"] == "memory":
                return InMemoryQueue(decode_message(encode_json(message)) for message in value["messages"])
            if value["kind"] == "log":
                return LogQueue(self._require_log().for_channel(value["channel"]), value["listener"], value["ack"])
        except (TypeError, KeyError) as error:
            raise RepositoryError(f"stored queue {value!r} cannot be read; is the store damaged?") from error
        raise RepositoryError(f"stored queue is of the unknown kind {value['kind']!r}: upgrade eric_sse")

    def _require_log(self) -> LogQueues:
        if self._log_queues is None:
            raise RepositoryError("a queue that is a view of a log needs an engine: use its `channels` repository")
        return self._log_queues
