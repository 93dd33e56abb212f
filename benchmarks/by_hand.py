"""What somebody writes by hand who needs no more than one channel: the same rows, on the same driver, in bulk.

No domain, no checks, no errors translated: stored rows become tuples, and plain values become rows.
"""

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import repeat
from types import TracebackType
from typing import Any, LiteralString, Self
from urllib.parse import parse_qs, urlsplit

import psycopg
import redis
from psycopg import sql

Rows = list[tuple[Any, ...]]
Stored = list[tuple[bytes, bytes]]


class ByHand(ABC):
    """A script on the store of an engine that holds one channel. A context manager: its connection ends with it."""

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the connection."""

    @abstractmethod
    def _fetch(self) -> Stored:
        """All keys and values."""

    @abstractmethod
    def _fetch_cursors(self) -> Rows:
        """All cursors."""

    @abstractmethod
    def _store(self, rows: Stored, cursors: Rows) -> None:
        """Store keys and values, and those cursors that are not there, in one transaction."""

    def read(self) -> Rows:
        """All rows of the channel, decoded into tuples."""
        return [(key, *json.loads(value).values()) for key, value in self._fetch()]

    def remember(self) -> None:
        """Keep what is stored now, for `write`."""
        self._remembered = [(key, json.loads(value)) for key, value in self._fetch()]
        self._cursors = self._fetch_cursors()

    def write(self) -> None:
        """Store what was remembered again, encoded anew."""
        self._store([(key, json.dumps(value).encode()) for key, value in self._remembered], self._cursors)


class SqliteByHand(ByHand):
    """With sqlite3."""

    def __init__(self, url: str) -> None:
        self._connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        self._connection.execute("PRAGMA synchronous=FULL")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._connection.close()

    def _fetch(self) -> Stored:
        return self._connection.execute("SELECT key, value FROM eric_kv").fetchall()

    def _fetch_cursors(self) -> Rows:
        return self._connection.execute("SELECT log, listener, offset FROM eric_cursors").fetchall()

    def _store(self, rows: Stored, cursors: Rows) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO eric_kv (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            rows,
        )
        connection.executemany("INSERT OR IGNORE INTO eric_cursors (log, listener, offset) VALUES (?, ?, ?)", cursors)
        connection.execute("COMMIT")


class RedisByHand(ByHand):
    """With redis-py: few commands with many arguments, which is faster than many commands in a pipeline."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url.partition("?")[0])
        prefix = parse_qs(urlsplit(url).query)["prefix"][0]
        self._values, self._order = f"{{{prefix}}}:values", f"{{{prefix}}}:keys"
        self._positions = f"{prefix}:{{crowd}}:cursors"
        self._add = self._client.register_script(
            "local ids = {} for n = 1, #ARGV do ids[n] = redis.call('XADD', KEYS[1], '*', 'd', ARGV[n]) end return ids"
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._client.close()

    def _fetch(self) -> Stored:
        found: Any = self._client.hgetall(self._values)
        return list(found.items())

    def _fetch_cursors(self) -> Rows:
        found: Any = self._client.hgetall(self._positions)
        return list(found.items())

    def _store(self, rows: Stored, cursors: Rows) -> None:
        values: dict[Any, Any] = dict(rows)
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.hset(self._values, mapping=values)
            pipeline.zadd(self._order, dict.fromkeys(values, 0))
            pipeline.hset(self._positions, mapping=dict(cursors))
            pipeline.execute()

    def append_by_pipeline(self, batch: Sequence[bytes]) -> None:
        """Append messages to a stream, each by a command of its own, in one round trip."""
        with self._client.pipeline(transaction=False) as pipeline:
            for data in batch:
                pipeline.xadd("by hand", {"d": data})
            pipeline.execute()

    def append_by_script(self, batch: Sequence[bytes]) -> None:
        """Append messages to a stream by a script of one line, which is atomic too."""
        self._add(keys=["by hand"], args=batch)


_COLUMNS: LiteralString = '{table} (log, "offset", receiver, at, data)'


class PostgresByHand(ByHand):
    """With psycopg: arrays, and COPY."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url.partition("?")[0], autocommit=True)
        self._schema = parse_qs(urlsplit(url).query)["schema"][0]
        self._offset = 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._connection.close()

    def _fetch(self) -> Stored:
        return self._connection.execute(self._sql("SELECT key, value FROM {kv}"), binary=True).fetchall()

    def _fetch_cursors(self) -> Rows:
        return self._connection.execute(self._sql('SELECT log, listener, "offset" FROM {cursors}')).fetchall()

    def _store(self, rows: Stored, cursors: Rows) -> None:
        with self._connection.transaction():
            self._connection.execute(
                self._sql(
                    "INSERT INTO {kv} (key, value) SELECT * FROM unnest(%b::bytea[], %b::bytea[]) "
                    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
                ),
                [list(column) for column in zip(*rows, strict=True)],
            )
            self._connection.execute(
                self._sql(
                    'INSERT INTO {cursors} (log, listener, "offset") '
                    "SELECT * FROM unnest(%b::bigint[], %b::text[], %b::bigint[]) ON CONFLICT DO NOTHING"
                ),
                [list(column) for column in zip(*cursors, strict=True)],
            )

    def append_by_copy(self, batch: Sequence[bytes]) -> None:
        """Append messages to the engine's table by COPY, committed."""
        statement = self._sql("COPY " + _COLUMNS + " FROM STDIN (FORMAT BINARY)")
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(["int8", "int8", "text", "float8", "bytea"])
            for row in self._rows(batch):
                copy.write_row(row)

    def append_by_arrays(self, batch: Sequence[bytes]) -> None:
        """Append messages to the engine's table by one INSERT from arrays, committed."""
        statement = self._sql(
            "INSERT INTO "
            + _COLUMNS
            + " SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::text[], %b::double precision[], %b::bytea[])"
        )
        self._connection.execute(statement, [list(column) for column in zip(*self._rows(batch), strict=True)])

    def _rows(self, batch: Sequence[bytes]) -> Rows:
        offsets = range(self._offset, self._offset + len(batch))
        self._offset += len(batch)
        # No log has this number.
        return list(zip(repeat(-1), offsets, repeat(None), repeat(0.0), batch, strict=False))

    def _sql(self, template: LiteralString) -> sql.Composed:
        names = {"kv": "eric_kv", "cursors": "eric_cursors", "table": "eric_messages"}
        return sql.SQL(template).format(**{key: sql.Identifier(self._schema, name) for key, name in names.items()})
