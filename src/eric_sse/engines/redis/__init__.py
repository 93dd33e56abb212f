"""The ``redis://`` engine: one Redis server, or a cluster, for any number of processes on any number of machines.

What survives what is the server's to say, by its persistence, and by how many replicas ``wait`` asks for.
"""

from typing import TYPE_CHECKING

from eric_sse.engine import Engine
from eric_sse.engines.redis.client import Client
from eric_sse.engines.redis.cursors import RedisCursors
from eric_sse.engines.redis.driver import require_driver
from eric_sse.engines.redis.keys import Keys
from eric_sse.engines.redis.log import RedisLog
from eric_sse.engines.redis.news import News
from eric_sse.engines.redis.notifier import RedisNotifier
from eric_sse.engines.redis.opening import check, client_of, look_at
from eric_sse.engines.redis.requests import MAX_PATIENCE_S
from eric_sse.engines.redis.storage import RedisStorage
from eric_sse.engines.redis.url import DEFAULT_PREFIX, DEFAULT_TIMEOUT_MS, DEFAULT_WAIT_TIMEOUT_MS, options_of
from eric_sse.exception import ConfigurationError

if TYPE_CHECKING:
    import redis

__all__ = ["RedisEngine", "open_redis"]


def open_redis(url: str) -> "RedisEngine":
    """Open the store on the server, or cluster, that ``url`` names.

    Args:
        url: ``redis://user:password@host:6379/0``, or ``rediss://`` for TLS, percent-encoded; several nodes of a
            cluster to begin with are separated by commas. Options: ``prefix`` (eric_sse), ``wait`` (0) and
            ``wait_timeout_ms`` (1000): how many replicas must have what is stored, and by when; ``timeout_ms`` (5000):
            how long to wait for a server; and the driver's for TLS.

    Raises:
        ConfigurationError: The URL is wrong, the driver missing, the server older than 7.0 or refusing the password.
        RepositoryError: The server does not answer, refuses permission, or the store is of a newer version.
    """
    require_driver()
    options = options_of(url)
    Keys(options.prefix)
    client = client_of(options)
    try:
        engine = RedisEngine(
            client,
            prefix=options.prefix,
            wait=options.wait,
            wait_timeout_ms=options.wait_timeout_ms,
            timeout_ms=options.timeout_ms,
        )
    except BaseException:
        client.close()
        raise
    engine._opened = client  # noqa: SLF001 - of this module
    return engine


class RedisEngine(Engine):
    """An engine on a Redis server or cluster.

    It may be used from many threads, and by any number of processes on the same store.

    Args:
        client: A client of redis-py, synchronous. It is used for its connections only, and never closed. Give it
            timeouts: the engine waits as long as they say.
        prefix: What all keys begin with. Engines of the same prefix are one store.
        wait: How many replicas must have what is stored before it counts as stored.
        wait_timeout_ms: How long to wait for them, in milliseconds; after that it is `OutcomeUnknown`.
        timeout_ms: For how long, in milliseconds, what lost its connection is tried again.

    Raises:
        ConfigurationError: An argument cannot be used, or the server is older than 7.0.
        RepositoryError: The server does not answer, refuses permission, or the store is of a newer version.
    """

    def __init__(
        self,
        client: "redis.Redis | redis.RedisCluster",
        *,
        prefix: str = DEFAULT_PREFIX,
        wait: int = 0,
        wait_timeout_ms: int = DEFAULT_WAIT_TIMEOUT_MS,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> None:
        require_driver()
        if wait < 0 or wait_timeout_ms <= 0 or not 0 < timeout_ms <= MAX_PATIENCE_S * 1000:
            raise ConfigurationError(
                f"wait={wait}, wait_timeout_ms={wait_timeout_ms}, timeout_ms={timeout_ms}: give positive numbers, and "
                f"at most {MAX_PATIENCE_S * 1000:.0f} for timeout_ms"
            )
        self._opened: redis.Redis | redis.RedisCluster | None = None
        keys, nodes = Keys(prefix), look_at(client)
        self._client = Client(nodes, wait, wait_timeout_ms, timeout_ms / 1000)
        news = News(keys.news)
        check(self._client, keys, news, nodes.where)
        self._notifier = RedisNotifier(nodes, news, timeout_ms / 1000)
        super().__init__(
            RedisStorage(self._client, keys),
            RedisLog(self._client, keys, news),
            RedisCursors(self._client, keys, news),
            self._notifier,
        )

    def close(self) -> None:
        """Move the cursors for the last time, and close what the URL opened. Idempotent."""
        try:
            super().close()
        finally:
            self._client.close()
            self._notifier.close()
            if self._opened is not None:
                self._opened.close()
