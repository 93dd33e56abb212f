"""Fresh stores of each engine, for tests that start our server on them: files, or a part of a private server."""

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from support.postgres_server import PostgresServer, postgres_server
from support.redis_server import RedisClusterServers, RedisServer, started_cluster, started_redis


class Stores:
    """Hands out the URLs of empty stores. A context manager: the servers behind them end with it.

    A server is started when a store on it is first asked for.

    Args:
        folder: Where files go; empty, and the caller's to remove.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers = ExitStack()

    def fresh(self, engine: str) -> str:
        """The URL of a new store of one of `ENGINES`."""
        return _FRESH[engine](self)

    def _sqlite(self) -> str:
        return f"sqlite:///{self._folder}/{secrets.token_hex(6)}.db"

    def _redis(self) -> str:
        return self._redis_server.fresh_url()

    def _redis_cluster(self) -> str:
        return self._redis_cluster_servers.fresh_url()

    def _postgres(self) -> str:
        return self._postgres_server.fresh_url()

    @cached_property
    def _redis_server(self) -> RedisServer:
        return self._servers.enter_context(started_redis())

    @cached_property
    def _redis_cluster_servers(self) -> RedisClusterServers:
        return self._servers.enter_context(started_cluster())

    @cached_property
    def _postgres_server(self) -> PostgresServer:
        return self._servers.enter_context(postgres_server())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._servers.close()


_FRESH: dict[str, Callable[[Stores], str]] = {
    "sqlite": Stores._sqlite,
    "redis": Stores._redis,
    "redis cluster": Stores._redis_cluster,
    "postgres": Stores._postgres,
}

ENGINES = tuple(_FRESH)
"""The engines that several processes can share."""
