"""Storages as users write them: the seed's five methods and no more."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from eric_sse.exception import ItemNotFound
from eric_sse.repository import BatchKvStorage, InMemoryStorage, KvStorage

NASTY_IDS = [
    *("a", "ab", "a:b", "a:", ":a", "a*", "a?", "[ab]", "a%3Ab", "a%", "a_b", "aXb", "A", "a/b", "a\\b", "{a}", "a'b"),
    *('a"b', "é", "e\u0301", "日本", "\U0001f600", " ", "a ", "-", "~", "channel/", "connection/:a/", "x" * 255),
]
"""Ids that are prefixes of one another, or hold what some storage gives a meaning; all different."""


class JsonOnlyStorage(KvStorage):
    """Holds JSON text, so that it takes plain values only."""

    def __init__(self) -> None:
        self.items: dict[str, str] = {}

    def fetch_by_prefix(self, prefix: str) -> Iterable[Any]:
        """Values by prefix, one after the other."""
        for key in tuple(self.items):
            if key.startswith(prefix):
                yield json.loads(self.items[key])

    def fetch_all(self) -> Iterable[Any]:
        """All values."""
        return [json.loads(text) for text in self.items.values()]

    def upsert(self, key: str, value: Any) -> None:
        """Store a value, if JSON can hold it as it is."""
        text = json.dumps(value, allow_nan=False)
        assert json.loads(text) == value
        self.items[key] = text

    def fetch_one(self, key: str) -> Any:
        """One value."""
        try:
            return json.loads(self.items[key])
        except KeyError:
            raise ItemNotFound(key) from None

    def delete(self, key: str) -> None:
        """Delete one value, if it is there."""
        self.items.pop(key, None)


class ColonAppendingStorage(JsonOnlyStorage):
    """Looks for a prefix as eric-redis-queues does: by a pattern, after a colon of its own."""

    def fetch_by_prefix(self, prefix: str) -> Iterable[Any]:
        """Values whose keys match ``prefix:*``."""
        pattern = f"{prefix}:*"
        return [json.loads(text) for key, text in self.items.items() if fnmatchcase(key, pattern)]


class CountingBatchStorage(InMemoryStorage, BatchKvStorage):
    """Takes many keys at once, and counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __getattribute__(self, name: str) -> Any:
        """Every public method counts."""
        value = super().__getattribute__(name)
        if callable(value) and not name.startswith("_"):
            self.calls += 1
        return value

    def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Any]:
        """Values of the keys that are there."""
        return {key: self.items[key] for key in keys if key in self.items}

    def upsert_many(self, items: Mapping[str, Any]) -> None:
        """Store all."""
        self.items.update(items)

    def delete_many(self, keys: Collection[str]) -> None:
        """Delete all."""
        for key in keys:
            self.items.pop(key, None)

    def fetch_page(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, Any]]:
        """Some, in order."""
        keys = sorted(key for key in self.items if key.startswith(prefix) and key > after)
        return [(key, self.items[key]) for key in keys[:limit]]
