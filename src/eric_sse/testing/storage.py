"""What every `KvStorage` does."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from eric_sse.engine import Engine
from eric_sse.exception import ItemNotFound, RepositoryError
from eric_sse.repository import BatchKvStorage, KvStorage, TransactionalKvStorage
from eric_sse.testing.ids import ASCII_IDS, ODD_IDS
from eric_sse.testing.log import in_threads

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**53, 1.5, 1e300, "", "text", "\0 and \n and \u2028", "\U0001f600", [], {}),
    {"nested": [{"a": None, "": [1, 2.5, "\u00e9"]}]},
)


class _Cycle(list[Any]):
    """A list that holds itself."""

    def __init__(self) -> None:
        super().__init__()
        self.append(self)


_UNSTORABLE = (object(), float("nan"), float("inf"), "\ud800", _Cycle(), b"bytes", {1, 2})


class KvStorageSuite:
    """The five methods."""

    @pytest.fixture
    def storage(self, engine: Engine) -> KvStorage:
        """The storage to test."""
        return engine.storage

    @pytest.mark.parametrize("value", _VALUES)
    def test_value_comes_back(self, storage: KvStorage, value: Any) -> None:
        """Every plain JSON value comes back equal, and of the same type."""
        storage.upsert("key", value)
        assert storage.fetch_one("key") == value
        assert type(storage.fetch_one("key")) is type(value)

    def test_upsert_replaces(self, storage: KvStorage) -> None:
        """A key has one value: the last."""
        storage.upsert("key", 1)
        storage.upsert("key", 2)
        assert (storage.fetch_one("key"), list(storage.fetch_all())) == (2, [2])

    def test_missing_key(self, storage: KvStorage) -> None:
        """A key without a value is an error that names it."""
        with pytest.raises(ItemNotFound) as caught:
            storage.fetch_one("none")
        assert caught.value.key == "none"

    def test_delete_twice(self, storage: KvStorage) -> None:
        """Deleting again does nothing."""
        storage.upsert("key", 1)
        storage.delete("key")
        storage.delete("key")
        assert list(storage.fetch_all()) == []

    def test_odd_keys_stay_apart(self, storage: KvStorage) -> None:
        """No character means anything, and keys that look alike are not the same."""
        for key in ODD_IDS:
            storage.upsert(key, key)
        assert [storage.fetch_one(key) for key in ODD_IDS] == list(ODD_IDS)

    @pytest.mark.parametrize("odd_ids", [ODD_IDS, ASCII_IDS], ids=["odd", "ascii"])
    def test_prefix_is_literal(self, storage: KvStorage, odd_ids: Sequence[str]) -> None:
        """A prefix finds the keys that begin with it, to the letter, and no others."""
        keys = {key for id_ in odd_ids for key in (id_, f"{id_}\0more")}
        for key in keys:
            storage.upsert(key, key)
        for prefix in ("", *odd_ids, *(id_[:1] for id_ in odd_ids), "none"):
            expected = [key for key in keys if key.startswith(prefix)]
            assert sorted(storage.fetch_by_prefix(prefix)) == sorted(expected)

    def test_many_values(self, storage: KvStorage) -> None:
        """Hundreds of keys of one prefix all come, once."""
        for number in range(300):
            storage.upsert(f"many/{number}", number)
        storage.upsert("other", -1)
        assert sorted(storage.fetch_by_prefix("many/")) == list(range(300))

    def test_large_value(self, storage: KvStorage) -> None:
        """A megabyte of text, thousands of items and deep nesting come back."""
        nested: list[Any] = []
        for _ in range(100):
            nested = [nested]
        value = {"text": "é\U0001f600" * 250_000, "items": list(range(10_000)), "nested": nested}
        storage.upsert("key", value)
        assert storage.fetch_one("key") == value

    def test_threads(self, storage: KvStorage) -> None:
        """Threads that store, look and delete at once do not disturb each other."""

        def use(thread: int) -> None:
            for number in range(20):
                storage.upsert(f"{thread}", number)
                storage.upsert("shared", thread)
                assert storage.fetch_one(f"{thread}") == number
            storage.delete(f"{thread}")

        in_threads([partial(use, thread) for thread in range(4)])
        (left,) = storage.fetch_all()
        assert left in range(4)

    def test_deleting_while_iterating(self, storage: KvStorage) -> None:
        """What is iterated over may be deleted meanwhile."""
        for key in ODD_IDS:
            storage.upsert(key, key)
        for key in storage.fetch_by_prefix(""):
            storage.delete(key)
        assert list(storage.fetch_all()) == []

    @pytest.mark.parametrize("value", _UNSTORABLE, ids=lambda value: type(value).__name__)
    def test_unstorable_value(self, storage: KvStorage, value: Any) -> None:
        """What JSON cannot hold is refused, and what was there stays."""
        storage.upsert("key", "old")
        with pytest.raises(RepositoryError):
            storage.upsert("key", {"value": value})
        assert list(storage.fetch_all()) == ["old"]

    def test_unstorable_key(self, storage: KvStorage) -> None:
        """A key that UTF-8 cannot carry is refused; looking for it finds nothing."""
        with pytest.raises(RepositoryError):
            storage.upsert("a\ud800", 1)
        with pytest.raises(ItemNotFound):
            storage.fetch_one("a\ud800")
        storage.delete("a\ud800")
        assert list(storage.fetch_by_prefix("a\ud800")) == []

    def test_values_are_copies(self, storage: KvStorage) -> None:
        """Changing what was stored or fetched changes nothing in the storage."""
        value = {"list": [1]}
        storage.upsert("key", value)
        value["list"].append(2)
        storage.fetch_one("key")["list"].append(3)
        assert storage.fetch_one("key") == {"list": [1]}


class BatchKvStorageSuite:
    """The power of many keys at once."""

    @pytest.fixture
    def batch_storage(self, engine: Engine) -> BatchKvStorage:
        """The storage to test."""
        assert isinstance(engine.storage, BatchKvStorage)
        return engine.storage

    def test_many_at_once(self, batch_storage: BatchKvStorage) -> None:
        """What is stored together is found together; keys without a value are left out."""
        items = {f"key {number}": number for number in range(3000)}
        batch_storage.upsert_many(items)
        assert batch_storage.fetch_many([*items, "none"]) == items

    def test_upsert_many_all_or_none(self, batch_storage: BatchKvStorage) -> None:
        """One bad value, and none is stored."""
        with pytest.raises(RepositoryError):
            batch_storage.upsert_many({"good": 1, "bad": object()})
        assert batch_storage.fetch_many(["good", "bad"]) == {}

    def test_delete_many(self, batch_storage: BatchKvStorage) -> None:
        """Those of the keys that are there are deleted."""
        batch_storage.upsert_many(dict.fromkeys(ODD_IDS, 1))
        batch_storage.delete_many([*ODD_IDS[1:], "none"])
        assert batch_storage.fetch_many(ODD_IDS) == {ODD_IDS[0]: 1}

    def test_nothing_at_once(self, batch_storage: BatchKvStorage) -> None:
        """No keys are no problem."""
        batch_storage.upsert_many({})
        batch_storage.delete_many([])
        assert batch_storage.fetch_many([]) == {}

    @pytest.mark.parametrize("prefix", ["", "a", "a:", "none", "%", "_", "\\"])
    def test_pages(self, batch_storage: BatchKvStorage, prefix: str) -> None:
        """Page by page, every key of the prefix comes once, in the order of code points."""
        ids = {*ODD_IDS, *ASCII_IDS}
        batch_storage.upsert_many({key: key for key in ids})
        found: list[tuple[str, Any]] = []
        while page := batch_storage.fetch_page(prefix, found[-1][0] if found else "", 7):
            found += page
        assert found == [(key, key) for key in sorted(ids) if key.startswith(prefix)]

    def test_page_from_before_and_behind(self, batch_storage: BatchKvStorage) -> None:
        """A page may start at any text, also one outside of the prefix."""
        batch_storage.upsert_many({"a": 1, "b1": 2, "b2": 3, "c": 4})
        assert list(batch_storage.fetch_page("b", "a", 5)) == [("b1", 2), ("b2", 3)]
        assert list(batch_storage.fetch_page("b", "c", 5)) == []


class _Stop(Exception):
    """Leaves a transaction."""


@contextmanager
def undone(storage: TransactionalKvStorage) -> Iterator[None]:
    """A transaction that an exception leaves in the end."""
    with suppress(_Stop), storage.transaction():
        yield
        raise _Stop


class TransactionalKvStorageSuite:
    """The power of transactions."""

    @pytest.fixture
    def transactional(self, engine: Engine) -> TransactionalKvStorage:
        """The storage to test."""
        assert isinstance(engine.storage, TransactionalKvStorage)
        return engine.storage

    def test_commit(self, transactional: TransactionalKvStorage) -> None:
        """What is done inside stays, and is seen inside already."""
        with transactional.transaction():
            transactional.upsert("key", 1)
            assert transactional.fetch_one("key") == 1
        assert transactional.fetch_one("key") == 1

    def test_rollback(self, transactional: TransactionalKvStorage) -> None:
        """An exception undoes all of it, and goes on."""
        transactional.upsert("kept", 0)
        transactional.upsert("changed", 1)
        with undone(transactional):
            transactional.upsert("new", 2)
            transactional.upsert("changed", 3)
            transactional.delete("kept")
        assert sorted(transactional.fetch_all()) == [0, 1]

    def test_nested_rollback(self, transactional: TransactionalKvStorage) -> None:
        """An exception caught outside of the inner block undoes the inner block alone."""
        with transactional.transaction():
            transactional.upsert("outer", 1)
            with undone(transactional):
                transactional.upsert("inner", 2)
        assert list(transactional.fetch_all()) == [1]

    def test_outer_rollback(self, transactional: TransactionalKvStorage) -> None:
        """What an inner block did goes with the outer one."""
        with undone(transactional), transactional.transaction():
            transactional.upsert("inner", 2)
        assert list(transactional.fetch_all()) == []

    def test_after_commit(self, transactional: TransactionalKvStorage) -> None:
        """What is to happen after the commit happens then, in order; without a transaction, at once."""
        happened: list[int] = []
        with transactional.transaction():
            with transactional.transaction():
                transactional.after_commit(lambda: happened.append(1))
            transactional.after_commit(lambda: happened.append(2))
            assert happened == []
        transactional.after_commit(lambda: happened.append(3))
        assert happened == [1, 2, 3]

    def test_not_after_rollback(self, transactional: TransactionalKvStorage) -> None:
        """Where a block is undone, what was to happen after it does not, now or later."""
        happened: list[int] = []
        with transactional.transaction():
            with undone(transactional):
                transactional.after_commit(lambda: happened.append(1))
            transactional.after_commit(lambda: happened.append(2))
        with undone(transactional), transactional.transaction():
            transactional.after_commit(lambda: happened.append(3))
        with transactional.transaction():
            pass
        assert happened == [2]

    def test_usable_after_error(self, transactional: TransactionalKvStorage) -> None:
        """A refused value inside, caught there, spoils nothing."""
        with transactional.transaction():
            with pytest.raises(RepositoryError):
                transactional.upsert("bad", object())
            transactional.upsert("good", 1)
        assert list(transactional.fetch_all()) == [1]
