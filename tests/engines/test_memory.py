"""The memory engine keeps the promises of every engine."""

from functools import partial

import pytest

from eric_sse.engines import open_engine
from eric_sse.testing import EngineSuite, NewStore, TransactionsSuite


class TestMemory(EngineSuite, TransactionsSuite):
    """An engine with transactions, which is gone when it is closed."""

    @pytest.fixture
    def new_store(self) -> NewStore:
        """A new engine is a new store."""
        return lambda: partial(open_engine, "memory://")
