"""Key-value storage in one table."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from eric_sse.codec import decode_json, encode_value
from eric_sse.engines.postgres.arrays import blobs
from eric_sse.engines.postgres.database import Database
from eric_sse.engines.postgres.session import Row
from eric_sse.engines.postgres.text import is_unicode
from eric_sse.exception import RepositoryError
from eric_sse.repository import BatchKvStorage, TransactionalKvStorage

_BY_PREFIX = """SELECT key, value FROM {schema}.eric_kv
    WHERE key >= $1 AND key > $2 AND ($3::bytea IS NULL OR key < $3) ORDER BY key LIMIT $4"""
_MANY = "SELECT key, value FROM {schema}.eric_kv WHERE key = ANY ($1::bytea[])"
# In the order of keys, here and below, so that two who write the same rows wait for one another, and never in a circle.
_UPSERT = """INSERT INTO {schema}.eric_kv (key, value) SELECT * FROM unnest($1::bytea[], $2::bytea[])
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
_DELETE = """DELETE FROM {schema}.eric_kv WHERE key IN (
    SELECT key FROM {schema}.eric_kv WHERE key = ANY ($1::bytea[]) ORDER BY key FOR UPDATE
)"""


class PostgresStorage(BatchKvStorage, TransactionalKvStorage):
    """JSON values in a table, by keys that are the bytes of UTF-8."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def fetch_by_prefix(self, prefix: str) -> Iterable[Any]:
        return [value for _, value in _decoded(self._range(prefix, "", None))]

    def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Any]:
        rows = self._database.read(lambda session: session.rows(_MANY, (_stored(keys),)))
        return dict(_decoded(rows))

    def upsert_many(self, items: Mapping[str, Any]) -> None:
        rows = sorted((_require_storable(key), encode_value(key, value)) for key, value in items.items())
        if rows:
            columns = [blobs(column) for column in zip(*rows, strict=True)]
            self._database.write(lambda session: session.run(_UPSERT, columns))

    def delete_many(self, keys: Collection[str]) -> None:
        if keys:
            self._database.write(lambda session: session.run(_DELETE, (_stored(keys),)))

    def fetch_page(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, Any]]:
        return _decoded(self._range(prefix, after, limit))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._database.transaction():
            yield

    def after_commit(self, action: Callable[[], None]) -> None:
        self._database.after_commit(action)

    def _range(self, prefix: str, after: str, limit: int | None) -> list[Row]:
        if not is_unicode(prefix):
            return []
        # A key is never "", so that it comes after it.
        first = prefix.encode()
        bounds = (first, after.encode(errors="replace"), _upper_bound(first), limit)
        return self._database.read(lambda session: session.rows(_BY_PREFIX, bounds))


def _upper_bound(prefix: bytes) -> bytes | None:
    """The smallest bytes that are larger than all that begin with ``prefix``; None: there are none."""
    # No byte of UTF-8 is 0xff.
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None


def _decoded(rows: Sequence[Row]) -> list[tuple[str, Any]]:
    keys = [key.decode() for key, _ in rows]
    try:
        # All at once takes a fraction of the time.
        values = decode_json(b"[%b]" % b",".join([value for _, value in rows]))
    except RepositoryError:
        values = []
    if len(values) != len(rows):
        values = [_decode(key, value) for key, value in rows]
    return list(zip(keys, values, strict=True))


def _decode(key: bytes, value: bytes) -> Any:
    try:
        return decode_json(value)
    except RepositoryError as error:
        raise RepositoryError(f"the value stored under {key!r} is damaged: {error}") from error


def _stored(keys: Iterable[str]) -> str:
    # What cannot be stored is not there.
    return blobs(key.encode() for key in keys if is_unicode(key))


def _require_storable(key: str) -> bytes:
    if not is_unicode(key):
        raise RepositoryError(f"key {key!r} holds a lone surrogate, which UTF-8 cannot carry")
    return key.encode()
