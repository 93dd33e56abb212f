"""The benchmark beside the peers: what it makes of figures. That it runs is for ``make bench-quick`` to show."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.peers import rounds as peer_rounds  # noqa: E402
from benchmarks.peers.__main__ import all_reached  # noqa: E402
from benchmarks.peers.measures import CPU, MEASURES, Failure, Measure, Measured  # noqa: E402
from benchmarks.peers.report import CURVE_HEADING, report  # noqa: E402
from benchmarks.peers.rounds import TimeLeft, all_turns, measure_rounds  # noqa: E402
from benchmarks.peers.scenarios import SCENARIOS  # noqa: E402
from benchmarks.peers.targets import BY_NAME, NotStarted, PeerError  # noqa: E402

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
    assert not all_reached(Measured(runs))
    assert "eric_sse, in memory, c, round 0: lost 3" in report(Measured(runs), {})
    assert all_reached(Measured({**runs, ("ours", "c"): rounds(1)}))


def test_a_failure_of_ours_fails_the_run():
    """That of a peer does not: it is only told."""
    runs = {("ours", "c"): rounds(1)}
    assert not all_reached(Measured(runs, [Failure("ours", "a", 1, "no figures")]))
    assert all_reached(Measured(runs, [Failure("nchan", "", 1, "no nginx")]))


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure("nchan", "", 1, "no nginx"), "nginx + nchan was not measured**, as it does not start: no nginx"),
        (Failure("nchan", "a", 1, "no stream"), "nginx + nchan was not measured in a**: no stream"),
        (Failure("ours", "c", 2, "no stream"), "eric_sse, in memory, c, round 2: no figures: no stream"),
    ],
)
def test_what_is_missing_is_told(failure, told):
    """With the reason; and as much as is missing."""
    assert told in report(Measured({("ours", "c"): rounds(1)}, [failure]), {})


def test_fewer_rounds_by_design_are_no_shortfall():
    """Two rounds are all that memory takes; of five, two are a first look."""
    memory = [{"round": n, "rss_kb_per_conn": 2, "disturbed": False} for n in (1, 2)]
    told = report(Measured({("ours", "m"): memory, ("nchan", "m"): memory}), {})
    assert "| 2 |" in told
    assert "first look" not in told
    told = report(Measured({("ours", "c"): rounds(1, 2), ("raw_c", "c"): rounds(1, 2)}), {})
    assert "| 2 of 5 |" in told
    assert "first look" in told


def test_the_curve_has_a_line_for_each_cap():
    """Under its own heading, which the documentation looks for."""
    run = {"round": 1, "disturbed": False, "events_per_s_total": 5e5, "lat_ms": {"p50": 5, "p99": 9}}
    told = report(Measured({("ours_gather_2", "g"): [run]}), {}).partition(f"\n{CURVE_HEADING}\n")[2]
    assert "| 2 | 500 k | 5 | 9 |" in told
    assert len(told.strip().splitlines()) == 9
    assert (ROOT / "docs" / "benchmarks.md").read_text().count(f'"{CURVE_HEADING}"') == 2


@pytest.mark.parametrize(("error", "tries"), [(PeerError("no stream"), 4), (NotStarted("no nginx"), 2)])
def test_what_fails_does_not_end_the_run(monkeypatch, error, tries):
    """A peer that fails in a scenario is left out of it, after a second try; one that does not start, of all."""
    asked = []

    def measure(target, scenario):
        asked.append(target.name)
        if target.name == "nchan":
            raise error
        return {"foreign_cpu_s": 0, "window_s": 1}

    monkeypatch.setattr(peer_rounds, "measure", measure)
    monkeypatch.setattr(peer_rounds, "wait_until_quiet", lambda seconds: True)
    measured = measure_rounds([BY_NAME["nchan"], BY_NAME["ours"]], "ab", 2)
    assert (asked.count("nchan"), asked.count("ours")) == (tries, 4)
    assert {failure.target for failure in measured.failures} == {"nchan"}


def test_an_interrupted_run_gives_what_there_is(monkeypatch):
    """Ctrl-C ends the measuring, not the report, which says so."""
    runs = iter([{"foreign_cpu_s": 0, "window_s": 1}])
    monkeypatch.setattr(peer_rounds, "measure", lambda target, scenario: next(runs, None) or _interrupt())
    monkeypatch.setattr(peer_rounds, "wait_until_quiet", lambda seconds: True)
    measured = measure_rounds([BY_NAME["ours"]], "ab", 2)
    assert list(measured.runs) == [("ours", "a")]
    assert "interrupted" in report(measured, {})


def _interrupt():
    raise KeyboardInterrupt


def test_the_time_left_goes_by_what_runs_took():
    """Before, it is estimated from the scenario."""
    turns = all_turns([BY_NAME["ours"]], "c", 5)
    left = TimeLeft(turns)
    assert str(left) == "about 1 min left"
    left.took(turns[0], 120)
    assert str(left) == "about 8 min left"


def test_everything_takes_less_than_an_hour():
    """On a quiet machine; the measurements of the library, about four minutes, are not in it."""
    turns = all_turns(list(BY_NAME.values()), "".join(SCENARIOS), 5)
    assert sum(SCENARIOS[turn.letter].seconds for turn in turns) < 45 * 60


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
