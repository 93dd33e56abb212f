"""The figures as Markdown: each measure against its bound, and all targets side by side.

``python -m benchmarks.peers.report FIGURES.json`` prints those of a run once more.
"""

import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.peers.measures import (
    CPU,
    MEASURES,
    P50,
    P99,
    P999,
    RAMP,
    RATE,
    RSS,
    Failure,
    Measure,
    Measured,
    Pick,
    Runs,
    key,
)
from benchmarks.peers.measures import wrong_counts as wrong
from benchmarks.peers.scenarios import rounds_of
from benchmarks.peers.targets import BY_NAME, GATHER_CAPS_MS, TARGETS, gathering

ROUNDS = 5
"""How many a result takes; fewer of a scenario or a target that says so."""

_REASON_CHARACTERS = 300

Rows = Iterable[Sequence[str]]

_SIDE_BY_SIDE: tuple[tuple[str, str, Pick], ...] = (
    ("burst 1,000 x 200, events/s", "a", RATE),
    ("burst 100 x 2,000, events/s", "b", RATE),
    ("paced: µs/event", "c", CPU),
    ("p50 ms", "c", P50),
    ("p99 ms", "c", P99),
    ("p99.9 ms", "c", P999),
    ("5,000 streams, s", "r", RAMP),
    ("kB/connection", "m", RSS),
)
_PUBLISHING: tuple[tuple[str, str, Pick], ...] = (
    ("messages/s", "p", key("publish_per_s")),
    ("µs of CPU a message", "p", CPU),
    ("p99 ms until received", "p", P99),
)
_CURVE: tuple[tuple[str, str, Pick], ...] = (
    ("burst 1,000 x 200, events/s", "g", RATE),
    ("p50 ms", "g", P50),
    ("p99 ms", "g", P99),
    ("paced, 1,000 at 20/s: p50 ms", "h", P50),
    ("p99 ms", "h", P99),
)
CURVE_HEADING = "## Throughput against latency"
"""The documentation shows what follows this line in a section of its own."""


def report(measured: Measured, versions: Mapping[str, str]) -> str:
    """All tables, with versions and what is to be known of the runs."""
    runs = measured.runs
    parts = [
        _table(["measure", "ours", "against", "ratio", "must reach", "goal", "reached", "rounds"], _measure_rows(runs))
    ]
    if table := _side_by_side(runs, _SIDE_BY_SIDE):
        parts += ["Side by side (medians, in brackets the lowest and highest round):", table]
    if table := _side_by_side(runs, _PUBLISHING):
        parts += ["64 keep-alive publishers, a request a message:", table]
    parts += [_table(["", "versions"], _version_rows(versions), align="---"), "\n".join(_remarks(measured))]
    if any(scenario in "gh" for _, scenario in runs):
        parts += [CURVE_HEADING, _curve(runs)]
    return "\n\n".join(parts) + "\n"


def number(value: float) -> str:
    """A figure, to three digits or so."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.2f} M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:,.0f} k"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Rows, align: str = "---:") -> str:
    """A table whose columns, but the first, are aligned so."""
    align_row = ["---"] + [align] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, align_row, *rows))


def _version_rows(versions: Mapping[str, str]) -> Rows:
    return [(BY_NAME[name].title if name in BY_NAME else name, found) for name, found in versions.items()]


def _measure_rows(runs: Runs) -> Iterator[Sequence[str]]:
    for measure in MEASURES:
        value = measure.value(runs)
        if value is not None:
            yield _measure_row(measure, value, runs)
    counts = [wrong(run) for (target, _), of in runs.items() if target.startswith("ours") for run in of]
    if counts:
        bad = sum(sum(count.values()) for count in counts)
        title = "lost, repeated or disordered events, refused or failed requests, of ours"
        yield title, f"{bad} in {len(counts)} runs", "", "", "0", "0", "**no**" if bad else "goal", ""


def _measure_row(measure: Measure, value: float, runs: Runs) -> Sequence[str]:
    sign = "≤" if measure.at_most else "≥"
    times = "" if measure.against is None else "x"
    plus = f" + {measure.slack:g} ms" if measure.slack else ""
    reached = measure.reached(value)
    return (
        measure.title,
        f"{_middle(runs, measure.ours, measure.scenario, measure.pick)} {measure.unit}".strip(),
        "" if measure.against is None else _against(measure, runs),
        f"{number(value)}x" if times else "",
        f"{sign} {measure.limit:g}{times}{plus}",
        "" if measure.goal is None else f"{sign} {measure.goal:g}{times}",
        "**no**" if reached == "no" else reached,
        _rounds(measure, runs),
    )


def _rounds(measure: Measure, runs: Runs) -> str:
    """How many there were; and how many a result takes, if that is more."""
    names = filter(None, (measure.ours, measure.against))
    taken = min(rounds_of(BY_NAME[name], measure.scenario, ROUNDS) for name in names)
    count = len(measure.values(runs))
    return str(count) if count >= taken else f"{count} of {taken}"


def _against(measure: Measure, runs: Runs) -> str:
    against = measure.against or ""
    figure = _middle(runs, against, measure.scenario, measure.against_pick or measure.pick)
    title = "sqlite3" if measure.against_pick else BY_NAME[against].title
    return f"{figure} ({title})"


def _side_by_side(runs: Runs, columns: Sequence[tuple[str, str, Pick]]) -> str:
    """Empty, where nothing was measured in these scenarios."""
    rows = [
        (target.title, *(_spread(runs, target.name, scenario, pick) for _, scenario, pick in columns))
        for target in TARGETS
        if any((target.name, scenario) in runs for _, scenario, _ in columns)
    ]
    return _table(["", *(title for title, _, _ in columns)], rows) if rows else ""


def _curve(runs: Runs) -> str:
    """A line for each cap on gathering."""
    rows = [
        (str(cap), *(_spread(runs, gathering(cap).name, scenario, pick) for _, scenario, pick in _CURVE))
        for cap in GATHER_CAPS_MS
    ]
    return _table(["`ERIC_SSE_GATHER_MS`", *(title for title, _, _ in _CURVE)], rows)


def values(runs: Runs, target: str, scenario: str, pick: Pick) -> list[float]:
    """The figures of all rounds."""
    picked = (pick(run) for run in runs.get((target, scenario), ()))
    return [value for value in picked if value is not None]


def _middle(runs: Runs, target: str, scenario: str, pick: Pick) -> str:
    found = values(runs, target, scenario, pick)
    return number(statistics.median(found)) if found else ""


def _spread(runs: Runs, target: str, scenario: str, pick: Pick) -> str:
    found = values(runs, target, scenario, pick)
    spread = f" ({number(min(found))} to {number(max(found))})" if len(found) > 1 else ""
    return _middle(runs, target, scenario, pick) + spread


def _remarks(measured: Measured) -> Iterator[str]:
    """How many runs there were, which of them to mistrust, and what is missing."""
    runs = measured.runs
    all_runs = [(target, scenario, run) for (target, scenario), of in runs.items() for run in of]
    disturbed = [f"{target}/{scenario} {run['round']}" for target, scenario, run in all_runs if run["disturbed"]]
    rounds = max((run["round"] for *_, run in all_runs), default=0)
    yield f"{len(all_runs)} runs in {rounds} rounds; {len(disturbed)} disturbed by other load in every attempt."
    taken = max((rounds_of(BY_NAME[target], scenario, ROUNDS) for target, scenario in runs), default=0)
    if rounds < taken:
        yield f"- a result takes {taken} rounds; these are {rounds}: a first look"
    if not measured.is_complete:
        yield "- the run was interrupted: what it did not come to is missing"
    if disturbed:
        yield f"- disturbed (target/scenario round): {', '.join(disturbed)}"
    for target, scenario, run in all_runs:
        if counts := wrong(run):
            told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            yield f"- {BY_NAME[target].title}, {scenario}, round {run['round']}: {told}"
    yield from (_failure(failure, runs) for failure in measured.failures)


def _failure(failure: Failure, runs: Runs) -> str:
    title = BY_NAME[failure.target].title
    reason = " ".join(failure.reason.split())[:_REASON_CHARACTERS]
    if not failure.scenario:
        return f"- **{title} was not measured**, as it does not start: {reason}"
    if (failure.target, failure.scenario) not in runs:
        return f"- **{title} was not measured in {failure.scenario}**: {reason}"
    return f"- {title}, {failure.scenario}, round {failure.round}: no figures: {reason}"


def main() -> None:
    """Print the tables of a file that a run has written."""
    kept = json.loads(Path(sys.argv[1]).read_text())
    runs = {
        (target, scenario): of for name, of in kept["runs"].items() for target, _, scenario in [name.partition("/")]
    }
    failures = [Failure(*failure) for failure in kept["failures"]]
    print(report(Measured(runs, failures, kept["is_complete"]), kept["versions"]), end="")


if __name__ == "__main__":
    main()
