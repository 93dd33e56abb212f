"""Key-value storage, and the repositories over it: a persistence layer from five methods.

A user who writes the five methods of a `KvStorage` has a whole persistence layer: the same storage may serve all four
repositories, or each may have its own. A user whose objects are not plain values writes a dump strategy in a
repository of their own instead.
"""

from eric_sse.repository.channels import AbstractChannelRepository
from eric_sse.repository.children import BulkRepository, ListenerRepository, QueueRepository
from eric_sse.repository.connections import ConnectionRepository
from eric_sse.repository.storage import (
    BatchKvStorage,
    InMemoryStorage,
    KvStorage,
    TransactionalKvStorage,
    after_commit,
    storage_key,
    transaction,
)

__all__ = [
    "AbstractChannelRepository",
    "BatchKvStorage",
    "BulkRepository",
    "ConnectionRepository",
    "InMemoryStorage",
    "KvStorage",
    "ListenerRepository",
    "QueueRepository",
    "TransactionalKvStorage",
    "after_commit",
    "storage_key",
    "transaction",
]
