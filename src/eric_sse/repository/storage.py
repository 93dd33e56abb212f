"""Key-value storage: five methods, what some storages can do beyond them, and the keys."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import quote

from eric_sse.exception import ItemNotFound


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
    """A power of some storages: many keys in one round trip. One key is then many of one."""

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

    def fetch_all(self) -> Iterable[Any]:
        """Return all items that have been persisted."""
        return self.fetch_by_prefix("")

    def upsert(self, key: str, value: Any) -> None:
        """Updates or inserts a value given its corresponding key."""
        self.upsert_many({key: value})

    def fetch_one(self, key: str) -> Any:
        """Return value correspondent to key.

        Raises:
            ItemNotFound: There is none.
        """
        try:
            return self.fetch_many([key])[key]
        except KeyError:
            raise ItemNotFound(key) from None

    def delete(self, key: str) -> None:
        """Idempotent deletion. Does not throw an error on invalid key."""
        self.delete_many([key])


class TransactionalKvStorage(KvStorage):
    """A power of some storages: several calls of one thread become visible together, or not at all."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """What this thread does inside is committed at the end, or undone where an exception leaves the block.

        Nested ones are savepoints. What else belongs to the same engine takes part.
        """

    @abstractmethod
    def after_commit(self, action: Callable[[], None]) -> None:
        """Have ``action`` called when this thread's transaction is committed; now where there is none.

        Where the transaction, or the savepoint, is undone, it is not called.
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


# What `quote` leaves as it is: asked first, since most ids are plain and it takes its time.
_is_plain = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII).fullmatch


def storage_key(*components: str) -> str:
    """The key made of ``components``; as a prefix, it stands for all keys that begin with the same components.

    Each component is escaped and closed by a terminator, and components are joined by ``:``, so that ids that are
    prefixes of one another, or hold characters that some storage gives a meaning, stay apart; also in a storage that
    appends a ``:`` of its own before it looks for a prefix.
    """
    # A lone surrogate is in no id, but whoever looks for one is to find nothing, rather than fail.
    return ":".join([f"{c if _is_plain(c) else quote(c, safe='', errors='surrogatepass')}/" for c in components])


def transaction(storage: KvStorage) -> AbstractContextManager[None]:
    """A transaction where the storage has them; else a block in which each call stands for itself."""
    return storage.transaction() if isinstance(storage, TransactionalKvStorage) else nullcontext()


def after_commit(storage: KvStorage, action: Callable[[], None]) -> None:
    """Call ``action`` when what was stored before is committed; now where each call stands for itself."""
    if isinstance(storage, TransactionalKvStorage):
        storage.after_commit(action)
    else:
        action()


def fetch_many(storage: KvStorage, keys: Sequence[str]) -> Mapping[str, Any]:
    """The values of those keys that have one; in one round trip where the storage can."""
    if isinstance(storage, BatchKvStorage):
        return storage.fetch_many(keys)
    found = {}
    for key in keys:
        try:
            found[key] = storage.fetch_one(key)
        except ItemNotFound:
            continue
    return found


def upsert_many(storage: KvStorage, items: Mapping[str, Any]) -> None:
    """Store all of them; in one round trip where the storage can."""
    if isinstance(storage, BatchKvStorage):
        storage.upsert_many(items)
    else:
        for key, value in items.items():
            storage.upsert(key, value)


def delete_many(storage: KvStorage, keys: Collection[str]) -> None:
    """Delete those of the keys that are there; in one round trip where the storage can."""
    if isinstance(storage, BatchKvStorage):
        storage.delete_many(keys)
    else:
        for key in keys:
            storage.delete(key)
