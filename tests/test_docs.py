"""The documentation: its examples run and print what it says, and what it names is there."""

import doctest
import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import eric_sse
from eric_sse.config import Settings
from support.doc_page import Page

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# Need a server and a browser: tests/engines/test_postgres_docs.py and tests/e2e/test_quickstart.py follow them.
ELSEWHERE = {ROOT / "docs" / "engines" / "postgres.md", ROOT / "docs" / "quickstart.md"}
FENCE = re.compile(r"^(?:```|~~~)(\S.*)$", re.MULTILINE)
# The first four run; what only its reader can run, or is not to be run, says so by its language.
LANGUAGES = {"python", "console", "text", "html", "sh", "none", "nginx", "ini"}


def ids(path):
    """A page's name in a test's."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE], ids=ids)
def test_every_example_runs(page, tmp_path, monkeypatch):
    """Followed from its top, a page's examples run and print what the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Page(page, tmp_path).run()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_example_escapes(page):
    """Every block names its language, and none is a kind of program that is not run."""
    found = FENCE.findall(page.read_text())
    assert {language for language in found if not language.startswith("{")} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_nobody_is_told_to_install_version_2(page):
    """What a page has installed from PyPI, where version 2 was first, is version 3."""
    commands = re.findall(r"pip install [^`#\n]*eric-sse[^`#\n]*", page.read_text())
    assert [command for command in commands if ">=3" not in command] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page):
    """A link to a file of the repository leads to one."""
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def reference():
    """The modules that the reference shows."""
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    return set(re.findall(r"automodule:: (\S+)", pages))


def test_the_reference_is_whole():
    """Every public module is in the reference, or the package that offers what is in it."""
    shown = reference()
    modules = [module.name for module in pkgutil.walk_packages(eric_sse.__path__, "eric_sse.")]
    public = [name for name in modules if not any(part.startswith("_") for part in name.split(".")[1:])]
    assert len(public) > len(shown)
    assert [name for name in public if name not in shown and name.rpartition(".")[0] not in shown - {"eric_sse"}] == []


def test_nothing_is_undocumented():
    """Every public class and function in the reference has a docstring."""
    modules = [import_module(module) for module in reference()]
    values = [getattr(module, name) for module in modules for name in getattr(module, "__all__", vars(module))]
    ours = [x for x in values if inspect.isclass(x) or inspect.isfunction(x) if x.__module__.startswith("eric_sse")]
    assert [x for x in ours if not x.__name__.startswith("_") and not inspect.getdoc(x)] == []
    assert len(ours) > len(modules)


def test_every_example_in_a_docstring_runs():
    """The examples in the reference print what they say."""
    modules = pkgutil.walk_packages(eric_sse.__path__, "eric_sse.")
    results = [doctest.testmod(import_module(m.name)) for m in modules if not m.name.endswith("__main__")]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) > 0


def test_every_setting_is_explained():
    """The page on operations names every environment variable, and its default."""
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = dict(re.findall(r"^\| `ERIC_SSE_(\w+)` \| `(\S+)` \|", page, re.MULTILINE))
    defaults = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    assert rows.keys() == defaults.keys()
    assert rows == {
        name: "[]" if value == () else f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in defaults.items()
    }
