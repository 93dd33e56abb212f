"""The quickstart does what it says, and its page works in a real browser."""

from itertools import islice
from pathlib import Path

from support.browser import console
from support.doc_page import Page

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"


def test_it_is_followed_to_its_end(tmp_path, monkeypatch):
    """Every example is a whole program that prints what the page says, the last one in a browser."""
    monkeypatch.chdir(tmp_path)
    page = Page(PAGE, tmp_path, whole_programs=True)
    with page.followed(), console(page.actual("http://127.0.0.1:9000"), tmp_path / "profile") as lines:
        said = PAGE.read_text().rpartition("```none\n")[2].removesuffix("```\n").splitlines()
        assert list(islice(lines, len(said))) == [page.actual(line) for line in said]
