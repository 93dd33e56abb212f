"""The Redis engine keeps the promises of every engine, on one server and on a cluster."""

from collections.abc import Iterator
from functools import partial

import pytest

from eric_sse.engines import open_engine
from eric_sse.testing import EngineSuite, NewStore, PersistentSuite, SharedSuite
from support.redis_server import RedisClusterServers, RedisServer, started_cluster, started_redis


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server of our own."""
    with started_redis() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisClusterServers]:
    """A cluster of our own: three masters, three replicas."""
    with started_cluster() as cluster:
        yield cluster


class TestRedis(EngineSuite, PersistentSuite, SharedSuite):
    """An engine with every power but transactions."""

    @pytest.fixture
    def new_store(self, server: RedisServer) -> NewStore:
        """A store is a prefix."""
        return lambda: partial(open_engine, server.fresh_url())


class TestRedisCluster(EngineSuite, PersistentSuite, SharedSuite):
    """The same on a cluster."""

    @pytest.fixture
    def new_store(self, cluster: RedisClusterServers) -> NewStore:
        """A store is a prefix."""
        return lambda: partial(open_engine, cluster.fresh_url())
