"""Servers behind an engine that keep what they acknowledged when they are killed; for whoever is going to do that."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from eric_sse.engines.redis.keys import Keys
from support.postgres_server import postgres_server
from support.redis_server import started_cluster, started_redis

_DURABLE = {"appendonly": "yes", "appendfsync": "always"}
_SERVERS: dict[str, tuple[Callable[[], Any], str]] = {
    "redis": (partial(started_redis, **_DURABLE), ""),
    # A failover may follow each fault: what only the master has would be lost.
    "redis cluster": (partial(started_cluster, **_DURABLE), "wait=1"),
    "postgres": (postgres_server, ""),
}

STORES = tuple(_SERVERS)
"""The engines whose store is a server, or several."""


class Store(NamedTuple):
    """The servers behind an engine.

    Attributes:
        name: Which of `STORES`.
        server: What may happen to it: kill, restart, freeze, resume, cut.
        options: Of the URL of a store.
    """

    name: str
    server: Any
    options: str

    def fresh_url(self) -> str:
        """The URL of an empty store."""
        return self.server.fresh_url(self.options)


class StartedStores:
    """Starts what is asked for. A context manager: all are gone at its end."""

    def __init__(self) -> None:
        self._started: dict[str, Store] = {}
        self._servers = ExitStack()

    def __getitem__(self, name: str) -> Store:
        """One of `STORES`."""
        if name not in self._started:
            start, options = _SERVERS[name]
            self._started[name] = Store(name, self._servers.enter_context(start()), options)
        return self._started[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()


def channel_key(url: str, channel: str) -> str:
    """A key of a channel, on a store in Redis: it says which master has the channel."""
    (prefix,) = parse_qs(urlsplit(url).query)["prefix"]
    return Keys(prefix).log(channel).meta.decode()
