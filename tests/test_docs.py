"""The documentation: its examples run and print what it says, and what it names is there."""

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest
from support.doc_page import Page

import eric_sse

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^(?:```|~~~)(\S.*)$", re.MULTILINE)
# The first three run; what only its reader can run, or is not to be run, says so by its language.
LANGUAGES = {"python", "console", "text", "sh", "none", "nginx", "ini", "html"}


def ids(path):
    """A page's name in a test's."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
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
def test_links_lead_somewhere(page):
    """A link to a file of the repository leads to one."""
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def public_modules():
    """The modules that the reference must hold: all but those below a package that offers their names itself."""
    found = {"eric_sse"}
    for module in pkgutil.walk_packages(eric_sse.__path__, "eric_sse."):
        if not any(part.startswith("_") for part in module.name.split(".")[1:]):
            found.add(module.name)
    return found


def test_the_reference_is_whole():
    """Every public class and function is in the reference, under its own module or one that offers it."""
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    shown = {module: import_module(module) for module in re.findall(r"automodule:: (\S+)", pages)}
    offered = {id(value) for module in shown.values() for value in vars(module).values()}
    missing = [
        f"{name}.{attribute}"
        for name in public_modules() - shown.keys() - INTERNAL
        for attribute, value in vars(import_module(name)).items()
        if not attribute.startswith("_") and getattr(value, "__module__", "") == name and id(value) not in offered
    ]
    assert missing == []


# Public names in them are public to this package alone: how a server or an engine is built inside.
INTERNAL = {
    f"eric_sse.{name}"
    for name in (
        "asgi.app asgi.bodies asgi.middleware asgi.problems asgi.routes asgi.server"
    ).split()
}


def test_nothing_is_undocumented():
    """Every public class and function in the reference has a docstring."""
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    modules = [import_module(module) for module in re.findall(r"automodule:: (\S+)", pages)]
    names = [(module, name) for module in modules for name in getattr(module, "__all__", vars(module))]
    bare = [
        f"{module.__name__}.{name}"
        for module, name in names
        if not name.startswith("_")
        and (inspect.isclass(value := getattr(module, name)) or inspect.isfunction(value))
        and not inspect.getdoc(value)
    ]
    assert bare == []
