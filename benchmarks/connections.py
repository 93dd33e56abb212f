"""Loading and persisting a channel of 10,000 connections, against a hand-written script on the same rows."""

import json
import sqlite3
import tempfile
from pathlib import Path

from benchmarks.common import Result, median_seconds
from eric_sse.engines import open_engine
from eric_sse.listener import MessageQueueListener

CONNECTIONS = 10_000
ROUNDS = 5


def _read_by_hand(path: Path) -> list[tuple[object, ...]]:
    """All rows of the channel, decoded into tuples."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT key, value FROM eric_kv").fetchall()
    connection.close()
    return [(key, *json.loads(value).values()) for key, value in rows]


def _write_by_hand(path: Path, rows: list[tuple[str, str]], cursors: list[tuple[int, str, int]]) -> None:
    """The same rows, in one transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO eric_kv (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", rows
    )
    connection.executemany("INSERT OR IGNORE INTO eric_cursors (log, listener, offset) VALUES (?, ?, ?)", cursors)
    connection.execute("COMMIT")
    connection.close()


def run() -> list[Result]:
    """Measure both ways in turn, on the same file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        with open_engine(f"sqlite:///{path}") as engine:
            channel = engine.channels.create({"channel_id": "crowd"})
            for number in range(CONNECTIONS):
                channel.register_listener(MessageQueueListener(f"listener {number}"))
            engine.channels.persist(channel)
            with sqlite3.connect(path) as connection:
                rows = connection.execute("SELECT key, value FROM eric_kv").fetchall()
                cursors = connection.execute("SELECT log, listener, offset FROM eric_cursors").fetchall()
            connection.close()
            load, read, persist, write = median_seconds(
                [
                    lambda: engine.channels.load_one("crowd"),
                    lambda: _read_by_hand(path),
                    lambda: engine.channels.persist(channel),
                    lambda: _write_by_hand(path, rows, cursors),
                ],
                ROUNDS,
            )
    return [
        Result("loading 10,000 connections against by hand", load / read, "x", 3, True, _ms(load, read)),
        Result("persisting 10,000 connections against by hand", persist / write, "x", 3, True, _ms(persist, write)),
    ]


def _ms(ours: float, by_hand: float) -> str:
    return f"{ours * 1e3:.0f} ms and {by_hand * 1e3:.0f} ms; median of {ROUNDS}"
