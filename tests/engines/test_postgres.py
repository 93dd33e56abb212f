"""The PostgreSQL engine keeps the promises of every engine."""

from collections.abc import Iterator
from functools import partial

import pytest

from eric_sse.engines import open_engine
from eric_sse.testing import EngineSuite, NewStore, PersistentSuite, SharedSuite, TransactionsSuite
from support.postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of our own."""
    with postgres_server() as server:
        yield server


class TestPostgres(EngineSuite, TransactionsSuite, PersistentSuite, SharedSuite):
    """An engine with every power."""

    @pytest.fixture
    def new_store(self, server: PostgresServer) -> NewStore:
        """A store is a schema."""
        return lambda: partial(open_engine, server.fresh_url())
