"""Connections that threads take and give back: of a pool of ours, or of the application's."""

import ctypes
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from eric_sse.engines.postgres.errors import Place
from eric_sse.engines.postgres.session import AnyConnection
from eric_sse.exception import RepositoryError, StoreUnavailable

_T = TypeVar("_T")

AnyPool = ConnectionPool[Any]
# Longer than a restart of the server takes, and shorter than `eric-sse serve` waits for its engine, so that it is told
# that nothing was stored, rather than left to guess.
_POOL_WAIT_S = 3.0
# Beyond the lock timeout: a server that hangs answers nothing, and must not hang us for good.
_REPLY_S = 10.0
_RECONNECT_S = 0.5


@cache
def connection_class(reply_s: float) -> type[AnyConnection]:
    """A class of connections on which a reply that takes longer than ``reply_s`` seconds is an error."""

    class _ImpatientConnection(psycopg.Connection[Any]):
        def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
            return super().wait(gen, interval, reply_s if timeout is None else timeout)

    return _ImpatientConnection


def connect(conninfo: str, lock_timeout_ms: int) -> AnyConnection:
    """A connection of ours, in autocommit; the caller closes it."""
    return connection_class(lock_timeout_ms / 1000 + _REPLY_S).connect(conninfo, autocommit=True)


def own_pool(conninfo: str, max_size: int, lock_timeout_ms: int) -> AnyPool:
    """A pool, opened. It goes on trying to connect only while somebody waits for a connection.

    By itself, psycopg_pool tries after 1, 2, 4, … seconds for some minutes, whoever may be waiting; and having given
    up, only when the next one asks.
    """

    def try_again(pool: AnyPool) -> None:
        if pool.get_stats().get("requests_waiting"):
            pool.check()

    pool: AnyPool = ConnectionPool(
        conninfo,
        connection_class=connection_class(lock_timeout_ms / 1000 + _REPLY_S),
        kwargs={"autocommit": True},
        name="eric-sse-postgres",
        min_size=1,
        max_size=max_size,
        open=False,
        timeout=_POOL_WAIT_S,
        reconnect_timeout=_RECONNECT_S,
        reconnect_failed=try_again,
        num_workers=1,
    )
    pool.open()
    return pool


def parameters_of(pool: AnyPool) -> tuple[str, dict[str, Any]]:
    """What the pool opens its connections with: libpq's part, and the driver's."""
    conninfo = pool.conninfo() if callable(pool.conninfo) else pool.conninfo
    kwargs = pool.kwargs() if callable(pool.kwargs) else pool.kwargs
    return conninfo or "", dict(kwargs or {})


def leak(*values: object) -> None:
    """Keep values from ever being freed: in a forked child, what the parent's threads were using."""
    for value in values:
        if value is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


class Connections:
    """A pool's connections, for one thread at a time, in autocommit.

    Args:
        pool: Whose they are.
        place: What errors are about.
    """

    def __init__(self, pool: AnyPool, place: Place) -> None:
        self.pool = pool
        self._place = place

    @contextmanager
    def connection(self) -> Iterator[AnyConnection]:
        """A connection that was alive a moment ago.

        Raises:
            StoreUnavailable: There is none to be had.
        """
        connection = self._take()
        autocommit = connection.autocommit
        try:
            if not autocommit:
                connection.autocommit = True
            yield connection
        finally:
            if connection.pgconn.transaction_status != TransactionStatus.IDLE:
                connection.close()
            elif not autocommit:
                connection.autocommit = False
            self.pool.putconn(connection)

    def _take(self) -> AnyConnection:
        deadline = time.monotonic() + _POOL_WAIT_S
        while True:
            connection = self._get(deadline - time.monotonic())
            if _is_alive(connection):
                return connection
            # After a restart of the server all of them are dead: none may cost a caller its retry.
            connection.close()
            self.pool.putconn(connection)

    def _get(self, timeout_s: float) -> AnyConnection:
        try:
            connection: AnyConnection = self.pool.getconn(timeout=timeout_s)
            return connection
        except PoolClosed as error:
            raise RepositoryError(f"{self._place}: the pool of connections is closed; open the engine again") from error
        except (PoolTimeout, TooManyRequests) as error:
            stats = self.pool.get_stats()
            size = stats.get("pool_size", 0)
            advice = (
                f"all {size} are in use for long: keep transactions short, or raise ?pool_size="
                if size >= stats.get("pool_max", 0)
                else "is the server running, and can it be reached?"
            )
            raise StoreUnavailable(f"{self._place}: {error}. Nothing was stored: try again; {advice}") from error


def _is_alive(connection: AnyConnection) -> bool:
    """Whether the connection is good, without a round trip: the server's end of a dead one leaves something to read."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if not poll.poll(0):
        return True
    with suppress(psycopg.Error):
        connection.execute("")
        # Without autocommit the driver has begun a transaction for that.
        connection.rollback()
        return connection.pgconn.transaction_status == TransactionStatus.IDLE
    return False
