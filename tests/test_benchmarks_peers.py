"""The benchmark beside the peers: what it makes of figures. That it runs is for ``make bench-quick`` to show."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.peers.__main__ import all_reached  # noqa: E402
from benchmarks.peers.measures import CPU, MEASURES, Measure  # noqa: E402
from benchmarks.peers.report import report  # noqa: E402
from benchmarks.peers.scenarios import SCENARIOS  # noqa: E402
from benchmarks.peers.targets import BY_NAME  # noqa: E402

GATE = Measure("CPU", "c", "ours", CPU, "us", 1.4, 1.25, against="raw_c")


def rounds(*values, **counts):
    """The figures of some rounds."""
    costs = enumerate(values)
    return [{"round": n, "server_cpu_us_per_event": cost, "disturbed": False} | counts for n, cost in costs]


def test_a_ratio_is_of_one_round():
    """What is compared was measured in the same round: a machine that slows down slows both."""
    assert GATE.value({("ours", "c"): rounds(10, 20, 40), ("raw_c", "c"): rounds(8, 16, 32)}) == 1.25


@pytest.mark.parametrize(("value", "reached"), [(1.25, "goal"), (1.4, "yes"), (1.41, "no")])
def test_a_bound_is_met_or_not(value, reached):
    """A figure reaches the goal, the bound, or neither."""
    assert GATE.reached(value) == reached


def test_what_was_not_measured_has_no_figure():
    """A measure whose peer did not run is left out of the table."""
    assert GATE.value({("ours", "c"): rounds(10)}) is None


def test_a_lost_event_fails_the_run():
    """However fast: a run of ours that loses an event reaches nothing, and the report names it."""
    runs = {("ours", "c"): rounds(1, lost=3), ("raw_c", "c"): rounds(9)}
    assert not all_reached(runs)
    assert "eric_sse, in memory, c, round 0: lost 3" in report(runs, {})
    assert all_reached({**runs, ("ours", "c"): rounds(1)})


def test_every_measure_is_of_something_that_is_run():
    """The table's measures name targets and scenarios that there are, and in which these take part."""
    for measure in MEASURES:
        assert measure.scenario in SCENARIOS
        names = filter(None, (measure.ours, measure.against))
        assert all(measure.scenario in BY_NAME[name].scenarios for name in names), measure.title


def test_an_unknown_target_is_refused():
    """The error says which there are."""
    command = [sys.executable, "-m", "benchmarks.peers", "--targets", "nginx"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no target is called nginx; there are raw_c" in done.stderr
