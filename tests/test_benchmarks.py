"""The measurements can be run: at small sizes, whose figures say nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def measured(*arguments):
    """Run measurements; what they print."""
    command = [sys.executable, "-m", "benchmarks.run", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    # 1: a figure does not reach its limit, which at this size it need not.
    assert done.returncode in {0, 1}, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["broadcast", "connections", "wake_up"])
def test_each_engine_gives_a_figure(name):
    """What is measured of each engine is measured of SQLite, Redis and PostgreSQL."""
    printed = measured("--quick", name)
    assert all(engine in printed for engine in ("sqlite", "redis", "postgres"))


def test_appending_names_what_it_was_compared_with():
    """The ways to append by hand are all told, on both drivers."""
    printed = " ".join(measured("--quick", "appending").split())
    assert all(way in printed for way in ("a pipeline of XADDs", "a script of XADDs", "COPY", "INSERT from arrays"))


def test_news_are_read_once_also_at_a_small_size():
    """However many listeners stream, a broadcast costs one read: this is a count, and holds at any size."""
    assert "NO" not in measured("--quick", "one_read")


def test_a_name_that_is_none_is_refused():
    """An unknown measurement is an error that says which there are."""
    command = [sys.executable, "-m", "benchmarks.run", "--quick", "speed"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no measurement is called speed; there are broadcast" in done.stderr
