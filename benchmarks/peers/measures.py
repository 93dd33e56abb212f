"""Every measure of the table: a figure of ours, against what it must reach."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.peers.load import Figures

Runs = Mapping[tuple[str, str], Sequence[Figures]]
"""The figures of each round, by target and scenario."""
Pick = Callable[[Figures], float | None]


class Failure(NamedTuple):
    """A run that gave no figures, however often it was tried.

    Attributes:
        target: Of what.
        scenario: In which one; empty: in all, because it does not start.
        round: In which one.
        reason: What was said.
    """

    target: str
    scenario: str
    round: int
    reason: str


class Measured(NamedTuple):
    """What came of the rounds.

    Attributes:
        runs: The figures.
        failures: What gave none.
        is_complete: Whether it was let finish.
    """

    runs: Runs
    failures: Sequence[Failure] = ()
    is_complete: bool = True


def key(*path: str) -> Pick:
    """The figure at a path of keys; None where there is none."""

    def pick(figures: Figures) -> float | None:
        value: object = figures
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return float(value) if isinstance(value, int | float) else None

    return pick


RATE = key("events_per_s_total")
CPU = key("server_cpu_us_per_event")
P50, P99, P999 = (key("lat_ms", name) for name in ("p50", "p99", "p999"))
RSS = key("rss_kb_per_conn")
RAMP = key("ramp_s")


@dataclass(frozen=True)
class Measure:
    """A figure of ours over that of another in the same round; or by itself.

    Attributes:
        title: What is measured.
        scenario: Its letter.
        ours: The target whose figure it is.
        pick: Which figure.
        unit: What that is in.
        limit: What it must reach.
        goal: What it should reach; None: more is always better.
        at_most: Whether these are upper limits.
        against: The target that it is divided by; None: by nothing.
        against_pick: The other's figure, where it is another one.
        slack: What may be added to the limit, in the unit of the figure (the issue allows 2 ms for a latency).
    """

    title: str
    scenario: str
    ours: str
    pick: Pick
    unit: str
    limit: float
    goal: float | None = None
    at_most: bool = True
    against: str | None = None
    against_pick: Pick | None = None
    slack: float = 0.0

    def values(self, runs: Runs) -> list[float]:
        """One for each round that has both figures."""
        ours = _picked(runs, self.ours, self.scenario, self.pick)
        if self.against is None:
            return list(ours.values())
        others = _picked(runs, self.against, self.scenario, self.against_pick or self.pick)
        return [(ours[number] - self.slack) / others[number] for number in ours if others.get(number)]

    def value(self, runs: Runs) -> float | None:
        """The median of the rounds; None where it was not measured."""
        values = self.values(runs)
        return statistics.median(values) if values else None

    def reached(self, value: float) -> str:
        """``goal``, ``yes`` or ``no``."""
        if self.goal is not None and self._within(value, self.goal):
            return "goal"
        return "yes" if self._within(value, self.limit) else "no"

    def _within(self, value: float, limit: float) -> bool:
        return value <= limit if self.at_most else value >= limit


def _picked(runs: Runs, target: str, scenario: str, pick: Pick) -> dict[int, float]:
    figures = {int(run["round"]): pick(run) for run in runs.get((target, scenario), [])}
    return {number: value for number, value in figures.items() if value is not None}


_A, _B, _C = "burst, 1,000 x 200", "burst, 100 x 2,000", "paced, 1,000 at 20/s"


def _rate(title: str, scenario: str, ours: str, against: str, *, limit: float, goal: float) -> Measure:
    return Measure(title, scenario, ours, RATE, "events/s", limit, goal, at_most=False, against=against)


def _requests_per_commit(figures: Figures) -> float | None:
    return figures["published"] / figures["commits"] if figures.get("commits") else None


def _idle_percent(figures: Figures) -> float | None:
    return 100 * float(figures["server_cpu_s"]) / float(figures["window_s"])


MEASURES = (
    _rate(f"{_A}, in memory", "a", "ours", "nchan", limit=10, goal=20),
    _rate(f"{_A}, SQLite at synchronous=FULL", "a", "ours_sqlite", "ours", limit=0.5, goal=0.8),
    _rate(f"{_A}, plain uvicorn", "a", "ours_portable", "sse_starlette", limit=4, goal=6),
    _rate(f"{_B}, in memory", "b", "ours", "nchan", limit=1.5, goal=4),
    Measure(f"{_C}: CPU per event", "c", "ours", CPU, "us", 1.4, 1.25, against="raw_c"),
    Measure(f"{_C}: CPU per event", "c", "ours", CPU, "us", 1.0, 0.85, against="nchan"),
    Measure(f"{_C}: CPU per event, plain uvicorn", "c", "ours_portable", CPU, "us", 0.5, 0.35, against="sse_starlette"),
    Measure(f"{_C}: p50", "c", "ours", P50, "ms", 1.1, 1.0, against="nchan"),
    Measure(f"{_C}: p99, less 2 ms", "c", "ours", P99, "ms", 1.25, 1.0, against="nchan", slack=2.0),
    Measure("memory per idle connection, at 10,000", "m", "ours", RSS, "kB", 0.4, 0.2, against="nchan"),
    Measure("idle CPU, 1,000 streams with heartbeats, 60 s", "i", "ours", _idle_percent, "% of a core", 0.5, 0.1),
    Measure("5,000 streams established", "r", "ours", RAMP, "s", 0.5, 0.2, against="sse_starlette"),
    Measure("5,000 streams established", "r", "ours", RAMP, "s", 6, 3, against="nchan"),
    Measure(
        "durable publishes, 64 publishers, SQLite FULL",
        "p",
        "ours_counted",
        key("publish_per_s"),
        "messages/s",
        0.8,
        at_most=False,
        against="ours",
    ),
    Measure("requests a commit, meanwhile", "p", "ours_counted", _requests_per_commit, "", 20, at_most=False),
    Measure(
        "durable NDJSON batches, SQLite FULL, against sqlite3 by hand",
        "n",
        "ours_sqlite",
        key("rows_per_s"),
        "rows/s",
        0.4,
        0.6,
        at_most=False,
        against="ours_sqlite",
        against_pick=key("by_hand_rows_per_s"),
    ),
    *(
        measure
        for ours, where in (("ours", "in memory"), ("ours_sqlite", "SQLite FULL"))
        for measure in (
            Measure(f"5,000 clients return at once, {where}: all caught up", "s", ours, key("caught_up_s"), "s", 5, 2),
            Measure(f"live p99 meanwhile, {where}", "s", ours, key("live_ms", "p99"), "ms", 100),
        )
    ),
)
COUNTS = ("lost", "duplicated", "out_of_order", "bad_frames", "closed_early", "connect_failed", "publish_errors")
"""What must be 0 in every run of ours."""


def wrong_counts(figures: Figures) -> dict[str, int]:
    """Those counts of a run that are not 0."""
    return {name: figures[name] for name in COUNTS if figures.get(name)}
