"""Key-value storage: one hash, and beside it its keys in order."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from eric_sse.codec import decode_json, encode_value
from eric_sse.engines.redis.client import Client
from eric_sse.engines.redis.keys import Keys, text
from eric_sse.engines.redis.requests import Argument, Command, Effect, Request
from eric_sse.exception import RepositoryError
from eric_sse.repository import BatchKvStorage

# How many keys, or values, one command carries at most. Nobody else is served while it is under way.
_PAGE = 20_000


class RedisStorage(BatchKvStorage):
    """JSON values in Redis. Several calls are not one transaction; what one call writes is stored all or none.

    Args:
        client: The store.
        keys: Its keys.
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._values = keys.values
        self._order = keys.order

    def fetch_by_prefix(self, prefix: str) -> Iterable[Any]:
        return [decode_json(value) for _, value in self._range(prefix, "", None)]

    def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Any]:
        found = self._fetch([text(key) for key in keys])
        return {key: decode_json(value) for key, value in zip(keys, found, strict=True) if value is not None}

    def upsert_many(self, items: Mapping[str, Any]) -> None:
        values: list[Argument] = []
        order: list[Argument] = []
        for key, value in items.items():
            stored = _storable(key)
            values += (stored, encode_value(key, value))
            order += (0, stored)
        if items:
            self._write(("HSET", self._values, *values), ("ZADD", self._order, *order))

    def delete_many(self, keys: Collection[str]) -> None:
        stored = [text(key) for key in keys]
        if stored:
            self._write(("HDEL", self._values, *stored), ("ZREM", self._order, *stored))

    def fetch_page(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, Any]]:
        return [(key.decode(), decode_json(value)) for key, value in self._range(prefix, after, limit)]

    def _range(self, prefix: str, after: str, limit: int | None) -> Iterator[tuple[bytes, bytes]]:
        """The stored keys with a prefix, after one, in order; with their values. Some more where many are deleted."""
        start = b"(" + text(after) if after and text(after) >= text(prefix) else b"[" + text(prefix)
        # No byte of UTF-8 is as large, and its order is that of code points.
        stop = b"(" + text(prefix) + b"\xff"
        while limit is None or limit > 0:
            count = _PAGE if limit is None else min(limit, _PAGE)
            command = ("ZRANGE", self._order, start, stop, "BYLEX", "LIMIT", 0, count)
            keys: list[bytes] = self._client.get(Request(self._order, [command]))
            found = [(key, value) for key, value in zip(keys, self._fetch(keys), strict=True) if value is not None]
            yield from found
            if len(keys) < count:
                return
            start = b"(" + keys[-1]
            limit = None if limit is None else limit - len(found)

    def _fetch(self, keys: Sequence[bytes]) -> list[bytes | None]:
        chunks = [keys[at : at + _PAGE] for at in range(0, len(keys), _PAGE)]
        requests = [Request(self._values, [("HMGET", self._values, *chunk)]) for chunk in chunks]
        return [value for values in self._client.get_all(requests) for value in values]

    def _write(self, *commands: Command) -> None:
        transaction = [("MULTI",), *commands, ("EXEC",)]
        self._client.get(Request(self._values, transaction, Effect.REPEATABLE, replicated=True))


def _storable(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise RepositoryError(f"key {key!r} holds a lone surrogate, which UTF-8 cannot carry") from error
