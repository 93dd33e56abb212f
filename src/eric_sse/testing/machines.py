"""State machines that do the same, at random, to an engine and to the memory engine, and compare what comes of it.

Here is what they have in common, and those for storages; `eric_sse.testing.log_machines` has those for logs.
`ModelSuite` and its kin run them; to run one alone: ``run_state_machine_as_test(lambda: LogMachine(new_store))``.
"""

import json
from collections.abc import Collection
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eric_sse.engine import Engine
from eric_sse.engines import open_engine
from eric_sse.exception import ItemNotFound
from eric_sse.repository import BatchKvStorage, TransactionalKvStorage
from eric_sse.testing.fixtures import NewStore
from eric_sse.testing.storage import undone

_KEYS = ("a", "ab", "a/b", "a%", "A", "é", "\U0010ffff", "\ud7ff", "a\0")
_keys = st.sampled_from(_KEYS)
_prefixes = st.sampled_from(["", *_KEYS])
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
_items = st.dictionaries(_keys, _values, min_size=1)


class EngineMachine(RuleBasedStateMachine):
    """An engine and its model, the memory engine.

    Args:
        new_store: Gives the opener of the store to test.
    """

    def __init__(self, new_store: NewStore) -> None:
        super().__init__()
        self.model = open_engine("memory://")
        self.opener = new_store()
        self.engine = self.opener()

    def teardown(self) -> None:
        """Close what was opened."""
        self.engine.close()
        self.model.close()


class ReopeningMixin(EngineMachine):
    """The power of some engines: what is stored outlives the engine object."""

    def __init__(self, new_store: NewStore) -> None:
        super().__init__(new_store)
        self._left: list[Engine] = []

    @rule()
    def close_and_reopen(self) -> None:
        """Close it properly."""
        self.engine.close()
        self.engine = self.opener()

    @rule()
    def crash_and_reopen(self) -> None:
        """Open it again while the old one is still there, and never used again."""
        self._left.append(self.engine)
        self.engine = self.opener()

    def teardown(self) -> None:
        """Close also those that were left."""
        super().teardown()
        for engine in self._left:
            engine.close()


class StorageMachine(EngineMachine):
    """A storage, one key or many at once, against the model."""

    @invariant()
    def holds_alike(self) -> None:
        """After each step both hold the same."""
        expected, found = (list(storage.fetch_page("", "", 100)) for storage in self._storages())
        assert found == expected

    @rule(key=_keys, value=_values)
    def upsert(self, key: str, value: Any) -> None:
        """Store a value."""
        for engine in (self.model, self.engine):
            engine.storage.upsert(key, value)

    @rule(items=_items)
    def upsert_many(self, items: dict[str, Any]) -> None:
        """Store some together."""
        for storage in self._storages():
            storage.upsert_many(items)

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        """Delete a key, whether it is there or not."""
        for engine in (self.model, self.engine):
            engine.storage.delete(key)

    @rule(keys=st.sets(_keys))
    def delete_many(self, keys: Collection[str]) -> None:
        """Delete some together."""
        for storage in self._storages():
            storage.delete_many(keys)

    @rule(key=_keys)
    def fetch_one(self, key: str) -> None:
        """Look for one value."""
        assert _fetch(self.engine, key) == _fetch(self.model, key)

    @rule(keys=st.sets(_keys))
    def fetch_many(self, keys: Collection[str]) -> None:
        """Look for some."""
        expected, found = (dict(storage.fetch_many(sorted(keys))) for storage in self._storages())
        assert found == expected

    @rule(prefix=_prefixes)
    def fetch_by_prefix(self, prefix: str) -> None:
        """Look for all that begin alike."""
        expected, found = (list(engine.storage.fetch_by_prefix(prefix)) for engine in (self.model, self.engine))
        assert sorted(map(_as_text, found)) == sorted(map(_as_text, expected))

    @rule(prefix=_prefixes, after=_prefixes, limit=st.integers(1, 5))
    def fetch_page(self, prefix: str, after: str, limit: int) -> None:
        """Look at a page of them."""
        expected, found = (list(storage.fetch_page(prefix, after, limit)) for storage in self._storages())
        assert found == expected

    def _storages(self) -> tuple[BatchKvStorage, BatchKvStorage]:
        return self.model.storage, self.engine.storage


class TransactionalStorageMachine(StorageMachine):
    """With transactions."""

    @rule(items=_items, keys=st.sets(_keys), keep=st.booleans())
    def in_transaction(self, items: dict[str, Any], keys: Collection[str], keep: bool) -> None:  # noqa: FBT001
        """Store some and delete some, together, for good or not."""
        for storage in self._storages():
            assert isinstance(storage, TransactionalKvStorage)
            with storage.transaction() if keep else undone(storage):
                storage.upsert_many(items)
                storage.delete_many(keys)


def _fetch(engine: Engine, key: str) -> Any:
    try:
        return engine.storage.fetch_one(key)
    except ItemNotFound as error:
        return error.args


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
