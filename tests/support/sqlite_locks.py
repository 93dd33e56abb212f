"""Somebody else who keeps a SQLite engine from writing."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from eric_sse.engines.sqlite import SqliteEngine


@contextlib.contextmanager
def thread_in_a_transaction(engine: SqliteEngine) -> Iterator[None]:
    """Have another thread be in a transaction of the engine's, inside of the block."""
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with engine.storage.transaction():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(10)
    try:
        yield
    finally:
        leave.set()
        thread.join()


@contextlib.contextmanager
def locked_for(path: Path, seconds: float) -> Iterator[None]:
    """Have another connection hold the file's write lock for so long; it is given back when the block is left."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(seconds, other.execute, ("ROLLBACK",))
        timer.start()
        try:
            yield
        finally:
            timer.join()
