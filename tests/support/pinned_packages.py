"""Packages that only one test needs, installed aside from a lock file."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def installed(lock_file: Path, cache: pytest.Cache) -> Path:
    """The folder that holds what ``lock_file`` names, without dependencies. It is installed once for each content."""
    digest = hashlib.sha256(lock_file.read_bytes()).hexdigest()[:16]
    folder = cache.mkdir(f"packages-{digest}-py{sys.version_info.major}{sys.version_info.minor}")
    done = folder / ".complete"
    if not done.exists():
        shutil.rmtree(folder)
        # What is to be found out is whether such a package works here, not whether it says so.
        options = ["--quiet", "--no-deps", "--require-hashes", "--ignore-requires-python"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), "-r", str(lock_file)]
        process = subprocess.run(command, check=False, capture_output=True, text=True)
        assert process.returncode == 0, f"{' '.join(command)} failed:\n{process.stderr}"
        done.touch()
    return folder
