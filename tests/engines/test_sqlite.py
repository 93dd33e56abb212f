"""The SQLite engine keeps the promises of every engine."""

from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from eric_sse.engines import open_engine
from eric_sse.testing import EngineSuite, NewStore, PersistentSuite, SharedSuite, TransactionsSuite


class TestSqlite(EngineSuite, TransactionsSuite, PersistentSuite, SharedSuite):
    """An engine with every power."""

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> NewStore:
        """A store is a file."""
        return lambda: partial(open_engine, f"sqlite:///{tmp_path}/{uuid4()}.db")
