"""The page on PostgreSQL does what it says, on a server of its own."""

from pathlib import Path

import pytest

from support.doc_page import Page
from support.postgres_server import postgres_server

PAGE = Path(__file__).parents[2] / "docs" / "engines" / "postgres.md"


def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Followed from its top, the page's examples run and print what the page says."""
    monkeypatch.chdir(tmp_path)
    with postgres_server() as server:
        with server.connect() as connection:
            connection.execute("CREATE DATABASE shop")
        monkeypatch.setenv("DATABASE_URL", server.url(database="shop"))
        assert Page(PAGE, tmp_path).run() > 0
