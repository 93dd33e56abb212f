"""Which server holds a key: the only one there is, or a node of a cluster."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol, cast

from eric_sse.engines.redis.driver import Connection, Pool, exceptions, redis


class Nodes(Protocol):
    """The servers of a store.

    Attributes:
        is_cluster: Whether there are several, which take over from each other.
        where: The store, for messages.
    """

    is_cluster: bool
    where: str

    def pool_of(self, key: bytes) -> Pool:
        """The connections to who holds the key."""
        ...

    def pool_asked(self, error: Any) -> Pool | None:
        """The connections to whom a server pointed for this once; None where that one is not known yet."""
        ...

    def moved(self, error: Any) -> None:
        """Take note of where a server said that a slot is."""
        ...

    def suspect(self, pool: Pool | None = None) -> None:
        """Take note that a server did not answer, whose connections these are: another may have taken over."""
        ...

    def new_connection(self, number: int, options: Mapping[str, Any]) -> Connection:
        """A connection of one's own, not open yet, to the server of that number, counted round and round."""
        ...


class OneServer:
    """A server for all.

    Args:
        client: Its client; its pool is used.
    """

    is_cluster = False

    def __init__(self, client: "redis.Redis") -> None:
        self._pool = cast("Pool", client.connection_pool)
        options = self._pool.connection_kwargs
        address = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self.where = f"Redis at {address}"

    def pool_of(self, key: bytes) -> Pool:  # noqa: ARG002 - it holds them all
        """The only one."""
        return self._pool

    def pool_asked(self, error: Any) -> Pool:  # noqa: ARG002 - servers without a cluster do not point elsewhere
        """The only one."""
        return self._pool

    def moved(self, error: Any) -> None:
        """Does not happen."""

    def suspect(self, pool: Pool | None = None) -> None:
        """There is no other."""

    def new_connection(self, number: int, options: Mapping[str, Any]) -> Connection:  # noqa: ARG002 - the only one
        """To the only one."""
        return _new_connection(self._pool, options)


class ClusterNodes:
    """The nodes of a cluster, by the driver's map of it, which is drawn anew when it seems to be wrong.

    Args:
        client: The cluster's client.
    """

    is_cluster = True

    def __init__(self, client: "redis.RedisCluster") -> None:
        self._client: Any = client
        self._suspected = False
        self._silent: str | None = None
        self._refreshing = threading.Lock()
        self.where = "the Redis cluster of " + ", ".join(sorted(node.name for node in client.startup_nodes))

    def pool_of(self, key: bytes) -> Pool:
        """The connections to the master of its slot."""
        if self._suspected:
            self._refresh()
        return self._pool(self._client.get_node_from_key(key))

    def pool_asked(self, error: Any) -> Pool | None:
        """The connections to who imports the slot."""
        node = self._client.get_node(host=error.host, port=error.port)
        self._suspected = node is None
        return None if node is None else self._pool(node)

    def moved(self, error: Any) -> None:
        """Correct the map in this place, and draw it anew before the next request."""
        with suppress(KeyError):
            self._client.nodes_manager.move_slot(error)
        self._suspected = True

    def suspect(self, pool: Pool | None = None) -> None:
        """Draw the map anew before the next request, and ask others first."""
        if pool is not None:
            self._silent = f"{pool.connection_kwargs.get('host')}:{pool.connection_kwargs.get('port')}"
        self._suspected = True

    def new_connection(self, number: int, options: Mapping[str, Any]) -> Connection:
        """To any node: all of them tell all news."""
        if self._suspected:
            self._refresh()
        nodes = sorted(self._client.get_nodes(), key=lambda node: str(node.name))
        return _new_connection(self._pool(nodes[number % len(nodes)]), options)

    def _pool(self, node: Any) -> Pool:
        return cast("Pool", self._client.get_redis_connection(node).connection_pool)

    def _refresh(self) -> None:
        # One thread asks around, which takes a while where nodes hang; the others go by the old map meanwhile.
        if self._refreshing.acquire(blocking=False):
            try:
                self._suspected = False
                self._client.nodes_manager.initialize(
                    disconnect_startup_nodes_pools=False, last_failed_node_name=self._silent
                )
            except (exceptions.RedisError, exceptions.RedisClusterException, OSError):
                # The old map may still do for most.
                self._suspected = True
            finally:
                self._refreshing.release()


def _new_connection(pool: Pool, options: Mapping[str, Any]) -> Connection:
    return cast("Connection", pool.connection_class(**{**pool.connection_kwargs, **options}))
