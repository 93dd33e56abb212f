"""Key-value storage in one table."""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from eric_sse.codec import decode_json, encode_value
from eric_sse.engines.sqlite.database import Database
from eric_sse.engines.sqlite.session import Row, Session
from eric_sse.exception import RepositoryError
from eric_sse.repository import BatchKvStorage, TransactionalKvStorage

# Values are JSON on one line each: many of them come out as one row, see session.py.
_PACKED = "json_group_array(key), CAST(group_concat(value, char(10)) AS BLOB)"
_MANY = f"SELECT {_PACKED} FROM eric_kv WHERE key IN ({{}})"  # noqa: S608 - all of it is in this file
_RANGE = f"""SELECT {_PACKED} FROM (
    SELECT key, value FROM eric_kv WHERE key >= :prefix AND key > :after AND key < :end ORDER BY key LIMIT :limit
)"""  # noqa: S608 - as above
_UPSERT = "INSERT INTO eric_kv (key, value) {} ON CONFLICT (key) DO UPDATE SET value = excluded.value"
# How many values at most come in one row, which SQLite bounds to a gigabyte.
_PAGE = 4096
# SQLite sorts every BLOB behind every text.
_AFTER_ALL_TEXT = b""


class SqliteStorage(BatchKvStorage, TransactionalKvStorage):
    """JSON values in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def fetch_by_prefix(self, prefix: str) -> Iterable[Any]:
        found: list[Any] = []
        with self._database.snapshot() as session:
            after = ""
            while True:
                page = _range(session, prefix, after, _PAGE)
                found += [value for _, value in page]
                if len(page) < _PAGE:
                    return found
                after = page[-1][0]

    def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Any]:
        with self._database.snapshot() as session:
            rows = session.bulk(_MANY, _stored(keys))
        return {key: value for row in rows for key, value in _unpack(row)}

    def upsert_many(self, items: Mapping[str, Any]) -> None:
        rows = [(_require_storable(key), encode_value(key, value)) for key, value in items.items()]
        with self._database.write() as session:
            # In the table's order thousands of them go in a third faster.
            session.bulk(_UPSERT, sorted(rows))

    def delete_many(self, keys: Collection[str]) -> None:
        with self._database.write() as session:
            session.bulk("DELETE FROM eric_kv WHERE key IN ({})", _stored(keys))

    def fetch_page(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, Any]]:
        with self._database.read() as session:
            return _range(session, prefix, after, limit)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._database.write():
            yield

    def after_commit(self, action: Callable[[], None]) -> None:
        self._database.after_commit(action)


def _range(session: Session, prefix: str, after: str, limit: int) -> list[tuple[str, Any]]:
    if not _is_storable(prefix):
        return []
    # A key is never "", so that it comes after it.
    bounds = {"prefix": prefix, "after": after, "end": _upper_bound(prefix), "limit": limit}
    return _unpack(session.rows(_RANGE, bounds)[0])


def _upper_bound(prefix: str) -> str | bytes:
    """The smallest text that is larger than every text which begins with ``prefix``, by code points."""
    while prefix:
        head, last = prefix[:-1], ord(prefix[-1])
        if last < sys.maxunicode:
            # No text of UTF-8 holds a surrogate.
            return head + (chr(last + 1) if last != 0xD7FF else "\ue000")  # noqa: PLR2004
        prefix = head
    return _AFTER_ALL_TEXT


def _unpack(row: Row) -> list[tuple[str, Any]]:
    keys, values = decode_json(row[0]), row[1]
    lines = values.split(b"\n") if values is not None else []
    if len(keys) != len(lines):
        raise RepositoryError(f"one of the values stored from key {keys[:1]} on is not JSON; is the store damaged?")
    return [(key, decode_json(line)) for key, line in zip(keys, lines, strict=True)]


def _stored(keys: Iterable[str]) -> list[tuple[str]]:
    # What cannot be stored is not there.
    return [(key,) for key in keys if _is_storable(key)]


def _is_storable(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_storable(key: str) -> str:
    if not _is_storable(key):
        raise RepositoryError(f"key {key!r} holds a lone surrogate, which UTF-8 cannot carry")
    return key
