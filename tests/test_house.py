"""The package as a whole: what it needs, what it does when it is imported, and what is shipped."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What needs no extra: everything but these. The engines with a driver say so when they are opened.
OPTIONAL = ("asgi", "cli", "config", "testing", "engines.postgres", "engines.redis")

BARE = """
import importlib, importlib.abc, pkgutil, sys

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {"eric_sse", "msgspec"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nothing())
import eric_sse
for module in pkgutil.walk_packages(eric_sse.__path__, "eric_sse."):
    if not any(f"{module.name}.".startswith(f"eric_sse.{name}.") for name in %r):
        importlib.import_module(module.name)
        print(module.name)
"""

QUIET = """
import logging, os, sys, threading
before = set(os.listdir("/proc/self/fd"))
opened = []
sys.addaudithook(lambda event, args: opened.append((event, args)) if event in {"socket.bind", "sqlite3.connect"} else 0)
import eric_sse, eric_sse.prefabs, eric_sse.engines, eric_sse.service, eric_sse.clients, eric_sse.servers
print(len(set(os.listdir("/proc/self/fd")) - before), opened, threading.active_count() - 1)
print(logging.getLogger().handlers, eric_sse.get_logger().handlers, eric_sse.get_logger().level)
"""


def python(code, *options):
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, *options, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tracked():
    """The texts of the files that a clone has."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            yield name, (ROOT / name).read_text(errors="replace")


def test_the_core_needs_msgspec_alone():
    """With every other distribution out of reach, all modules but those of the extras can be imported."""
    imported = python(BARE % (OPTIONAL,)).split()
    assert {"eric_sse.engines.sqlite", "eric_sse.service", "eric_sse.clients"} <= set(imported)
    assert PROJECT["project"]["dependencies"] == ["msgspec>=0.21"]


def test_importing_opens_nothing_and_logs_nowhere():
    """An import opens no file, socket or store, starts no thread, and installs no log handler."""
    assert python(QUIET).splitlines() == ["0 [] 0", "[] [] 0"]


def test_importing_the_package_is_cheap():
    """``import eric_sse`` imports nothing of the package but its lowest module."""
    code = "import sys, eric_sse; print(sorted(m for m in sys.modules if m.startswith('eric_sse')))"
    assert python(code).strip() == "['eric_sse', 'eric_sse._util']"


def test_every_module_is_in_the_import_contract():
    """The layers name each module of the package once, and nothing else."""
    (contract,) = PROJECT["tool"]["importlinter"]["contracts"]
    named = sorted(name.strip() for layer in contract["layers"] for name in layer.split("|"))
    children = (ROOT / "src" / "eric_sse").iterdir()
    found = {path.stem for path in children if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert named == sorted(found - {"__init__"})
    assert contract["exhaustive"]


# Put together, so that this file does not hold them.
MACHINE_PATHS = re.compile("|".join(["/" + "work/", "/" + "root/", "/" + "home/[a-z]", "/" + "Users/"]))
REGISTRIES = re.compile(
    "|".join(["pypi" + r"\.org", "pythonhosted" + r"\.org", "npmjs" + r"\.(org|com)", "deb" + r"ian\.org"])
)


def test_the_tree_names_no_machine():
    """No file holds the path of somebody's machine, or the host of a registry."""
    found = [
        f"{name}: {match[0]}"
        for name, text in tracked()
        for pattern in (MACHINE_PATHS, REGISTRIES)
        if (match := pattern.search(text))
    ]
    assert found == []


def test_the_version_is_the_same_everywhere():
    """The changelog's newest entry is for the version that is installed."""
    version = PROJECT["project"]["version"]
    assert metadata.version("eric-sse") == version
    newest = re.search(r"^## \[(\S+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert version.partition(".dev")[0] == newest


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder, ROOT], check=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as file:
        yield file


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    """Every module, ``py.typed`` and the licence are shipped; tests and examples are not."""
    names = set(wheel.namelist())
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "eric_sse").rglob("*.py")}
    info = f"eric_sse-{PROJECT['project']['version']}.dist-info"
    assert modules | {"eric_sse/py.typed", f"{info}/licenses/LICENSE", f"{info}/METADATA"} <= names
    assert {name for name in names - modules if not name.startswith(info)} == {"eric_sse/py.typed"}


def test_the_wheel_declares_what_it_offers(wheel):
    """The command, the engines and the extras are in its metadata."""
    info = f"eric_sse-{PROJECT['project']['version']}.dist-info"
    entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    assert "eric-sse = eric_sse.cli:main" in entry_points
    assert "sqlite = eric_sse.engines.sqlite:open_sqlite" in entry_points
    extras = re.findall(r"^Provides-Extra: (\S+)", wheel.read(f"{info}/METADATA").decode(), re.MULTILINE)
    assert set(extras) == {"all", "client", "postgres", "redis", "server", "testing"}


def test_the_lock_file_covers_every_dependency():
    """Whatever the project asks for is locked."""
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["dependency-groups"]["dev"],
        *(d for e in extras for d in e),
    ]
    names = {re.match(r"[a-z0-9._-]+", requirement)[0] for requirement in wanted} - {"eric-sse"}
    assert names <= locked
