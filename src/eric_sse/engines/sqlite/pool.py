"""Connections that threads take and give back."""

import ctypes
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eric_sse.exception import RepositoryError

_MAX_IDLE = 8


class Pool:
    """Connections for one thread at a time, opened as they are needed; a few are kept for the next.

    A thread that dies takes none with it, as it would where each thread has its own.

    Args:
        connect: Opens one.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        # A list's append and pop, and a set's add and discard, are atomic.
        self._idle: list[sqlite3.Connection] = []
        self._in_use: set[sqlite3.Connection] = set()
        self._closed = False

    @property
    def in_use(self) -> bool:
        """Whether somebody has one."""
        return bool(self._in_use)

    def all(self) -> list[sqlite3.Connection]:
        """All that are open."""
        return [*self._idle, *self._in_use]

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """One to read with. After an error of the store it is closed."""
        connection = self._take()
        usable = True
        try:
            yield connection
        except RepositoryError:
            usable = False
            raise
        finally:
            self._in_use.discard(connection)
            if usable and not connection.in_transaction and len(self._idle) < _MAX_IDLE:
                self._idle.append(connection)
            else:
                connection.close()
            if self._closed:
                self.close()

    def close(self) -> None:
        """Close them; those in use when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> sqlite3.Connection:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        self._in_use.add(connection)
        return connection


def leak(*connections: sqlite3.Connection | None) -> None:
    """Keep connections from ever being closed, also at the end of the process.

    For those that a forked child cannot close: another thread of the parent was inside of them.
    """
    for connection in connections:
        if connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
