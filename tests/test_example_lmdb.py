"""The worked example of an engine, on LMDB, keeps the promises of every engine."""

import sys
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from eric_sse.testing import EngineSuite, NewStore, PersistentSuite, SharedSuite, TransactionsSuite

sys.path.append(str(Path(__file__).parent.parent / "examples"))
from lmdb_engine import open_lmdb


class TestLmdb(EngineSuite, TransactionsSuite, PersistentSuite, SharedSuite):
    """An engine with every power."""

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> NewStore:
        """A store is a folder."""
        return lambda: partial(open_lmdb, f"lmdb://{tmp_path}/{uuid4()}")
