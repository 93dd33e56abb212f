"""What was measured, and on what."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.targets import APPS, VENVS

_DISTRIBUTIONS = {
    "sse_starlette": ("sse-starlette", "starlette", "uvicorn", "uvloop"),
    "fastapi": ("fastapi", "starlette", "uvicorn"),
    "django": ("django-eventstream", "django", "uvicorn"),
    "eric": ("eric-api", "eric-sse", "uvicorn"),
}
_OURS = ("eric-sse", "uvicorn", "uvloop", "httptools", "starlette", "fastapi")
_TELL = "import importlib.metadata as m, sys; print(' '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"


def versions(targets: Sequence[str]) -> dict[str, str]:
    """The versions of what is measured, by target, and those of the machine."""
    found = {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}",
        "when": time.strftime("%Y-%m-%d"),
        "ours": f"{_distributions(sys.executable, _OURS)}, commit {commit()}",
        "raw_c": _output("gcc", "--version").partition("\n")[0],
    }
    if "nchan" in targets:
        packages = _output("dpkg-query", "-W", "-f", "${Package} ${Version}, ", "nginx", "libnginx-mod-nchan")
        found["nchan"] = packages.strip(", ")
    if "better_sse" in targets:
        package = APPS / "better_sse" / "node_modules" / "better-sse" / "package.json"
        version = _output("node", "-p", f"require({json.dumps(str(package))}).version")
        found["better_sse"] = f"better-sse {version}, Node {_output('node', '-v')}"
    for name, distributions in _DISTRIBUTIONS.items():
        if name in targets:
            found[name] = _distributions(str(VENVS / name / "bin" / "python"), distributions)
    return found


def commit() -> str:
    """Which commit the checkout is at, and whether files of it differ."""
    return _output("git", "describe", "--always", "--dirty", "--exclude", "*")


def _distributions(python: str, names: Sequence[str]) -> str:
    return _output(python, "-c", _TELL, *names)


def _output(*command: str) -> str:
    """What a command prints; "unknown" where it is not there or fails: a version is no reason to lose the figures."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(models)) or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
