"""Rounds: in each, every scenario goes over all its targets in turn, so that the machine's drift hits all alike."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

from benchmarks.peers.load import Figures, is_disturbed
from benchmarks.peers.measures import RATE, Runs, wrong_counts
from benchmarks.peers.processes import wait_until_quiet
from benchmarks.peers.scenarios import SCENARIOS, Scenario, measure
from benchmarks.peers.targets import PeerError, Target

ATTEMPTS = 4
QUIET_WITHIN_S = 5


def measure_rounds(targets: Sequence[Target], scenarios: str, rounds: int, attempts: int = ATTEMPTS) -> Runs:
    """Measure; a run that other load disturbed is thrown away and repeated. Interrupted, it gives what there is.

    Args:
        targets: What is measured, in turn.
        scenarios: Their letters.
        rounds: How many.
        attempts: How often a run is made at most. The least disturbed one counts, and is marked, if all were.
    """
    runs: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    try:
        for number in range(1, rounds + 1):
            for letter, target in _turns(targets, scenarios, number):
                figures = _undisturbed(target, SCENARIOS[letter], attempts)
                if figures is not None:
                    runs[target.name, letter].append(figures | {"round": number})
                print(f"[{number}] {letter} {target.name:14} {_brief(figures)}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted: this is what was measured until then", file=sys.stderr)
    return runs


def _turns(targets: Sequence[Target], scenarios: str, number: int) -> Iterator[tuple[str, Target]]:
    for letter in scenarios:
        for target in targets:
            if letter in target.scenarios and number <= min(target.rounds, SCENARIOS[letter].rounds):
                yield letter, target


def _undisturbed(target: Target, scenario: Scenario, attempts: int) -> Figures | None:
    best = None
    for _ in range(attempts):
        wait_until_quiet(QUIET_WITHIN_S)
        try:
            figures = measure(target, scenario)
        except PeerError as error:
            print(f"{target.name}: {error}", file=sys.stderr, flush=True)
            continue
        if not is_disturbed(figures):
            return figures | {"disturbed": False}
        if best is None or _foreign(figures) < _foreign(best):
            best = figures
    return best and best | {"disturbed": True}


def _foreign(figures: Figures) -> float:
    return float(figures["foreign_cpu_s"] / max(figures["window_s"], 1e-3))


def _brief(figures: Figures | None) -> str:
    if figures is None:
        return "FAILED"
    told = [f"{RATE(figures):,.0f} events/s"] if RATE(figures) else []
    told += [f"{name} {figures[name]:.5g}" for name in _TOLD if figures.get(name)]
    told += [f"{name} {count}" for name, count in wrong_counts(figures).items()]
    return ", ".join(told) + (f", DISTURBED ({_foreign(figures):.0%})" if figures["disturbed"] else "")


_TOLD = ("server_cpu_us_per_event", "ramp_s", "rss_kb_per_conn", "publish_per_s", "rows_per_s", "caught_up_s")
