"""Rounds: in each, every scenario goes over all its targets in turn, so that the machine's drift hits all alike."""

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.peers.load import Figures, is_disturbed
from benchmarks.peers.measures import RATE, Failure, Measured, wrong_counts
from benchmarks.peers.processes import wait_until_quiet
from benchmarks.peers.scenarios import SCENARIOS, Scenario, measure, rounds_of
from benchmarks.peers.targets import NotStarted, Target

ATTEMPTS = 4
FAILURES = 2
"""How often a run may fail before it counts as failed."""
QUIET_WITHIN_S = 5


class Turn(NamedTuple):
    """A target's turn in a scenario of a round."""

    round: int
    letter: str
    target: Target


def measure_rounds(targets: Sequence[Target], scenarios: str, rounds: int, attempts: int = ATTEMPTS) -> Measured:
    """Measure; a run that other load disturbed is thrown away and repeated. Interrupted, it gives what there is.

    What fails without ever having worked is not tried again in later rounds.

    Args:
        targets: What is measured, in turn.
        scenarios: Their letters.
        rounds: How many.
        attempts: How often a run is made at most. The least disturbed one counts, and is marked, if all were.
    """
    turns = all_turns(targets, scenarios, rounds)
    left = TimeLeft(turns)
    _tell(f"{len(turns)} runs, {left}")
    work = _Work(attempts)
    try:
        for done, turn in enumerate(turns, 1):
            begun = time.monotonic()
            told = work.take(turn)
            left.took(turn, time.monotonic() - begun)
            _tell(f"[round {turn.round}, {done} of {len(turns)}, {left}] {turn.letter} {turn.target.name:14} {told}")
    except KeyboardInterrupt:
        _tell("interrupted: this is what was measured until then")
        return Measured(work.runs, work.failures, is_complete=False)
    return Measured(work.runs, work.failures)


def all_turns(targets: Sequence[Target], scenarios: str, rounds: int) -> list[Turn]:
    """Every run, in order."""
    return [
        Turn(number, letter, target)
        for number in range(1, rounds + 1)
        for letter in scenarios
        for target in targets
        if number <= rounds_of(target, letter, rounds)
    ]


class TimeLeft:
    """How long it takes yet: what a turn took in its last round, and at first what its scenario takes, about.

    Args:
        turns: All that is to be done.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._left = list(turns)
        self._took: dict[tuple[str, str], float] = {}

    def took(self, turn: Turn, seconds: float) -> None:
        """The next turn is done."""
        self._left.remove(turn)
        self._took[turn.target.name, turn.letter] = seconds

    def __str__(self) -> str:
        known = ((self._took.get((turn.target.name, turn.letter)), turn) for turn in self._left)
        seconds = sum(SCENARIOS[turn.letter].seconds if took is None else took for took, turn in known)
        return f"about {seconds / 60:.0f} min left"


class _Work:
    """Runs, one after the other, and what came of them."""

    def __init__(self, attempts: int) -> None:
        self.runs: dict[tuple[str, str], list[Figures]] = defaultdict(list)
        self.failures: list[Failure] = []
        self._attempts = attempts
        self._hopeless: set[tuple[str, str]] = set()

    def take(self, turn: Turn) -> str:
        """Measure one; what to tell of it."""
        name = turn.target.name
        if {(name, turn.letter), (name, "")} & self._hopeless:
            return "left out"
        try:
            figures = _undisturbed(turn.target, SCENARIOS[turn.letter], self._attempts)
        except Exception as error:  # noqa: BLE001 - whatever a peer does, the figures of the others are not lost
            self._note(turn, error)
            return "FAILED"
        self.runs[name, turn.letter].append(figures | {"round": turn.round})
        return _brief(figures)

    def _note(self, turn: Turn, error: Exception) -> None:
        name = turn.target.name
        has_run = any(target == name for target, _ in self.runs)
        letter = "" if isinstance(error, NotStarted) and not has_run else turn.letter
        self.failures.append(Failure(name, letter, turn.round, str(error) or repr(error)))
        if (name, letter) not in self.runs:
            self._hopeless.add((name, letter))


def _undisturbed(target: Target, scenario: Scenario, attempts: int) -> Figures:
    best = None
    errors: list[Exception] = []
    for _ in range(attempts):
        wait_until_quiet(QUIET_WITHIN_S)
        try:
            figures = measure(target, scenario)
        except Exception as error:  # noqa: BLE001 - it is raised in the end, unless another attempt succeeds
            _tell(f"{target.name}: {error!r}")
            errors.append(error)
            if len(errors) == FAILURES:
                break
            continue
        if not is_disturbed(figures):
            return figures | {"disturbed": False}
        if best is None or _foreign(figures) < _foreign(best):
            best = figures
    if best is None:
        raise errors[-1]
    return best | {"disturbed": True}


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _foreign(figures: Figures) -> float:
    return float(figures["foreign_cpu_s"] / max(figures["window_s"], 1e-3))


def _brief(figures: Figures) -> str:
    told = [f"{RATE(figures):,.0f} events/s"] if RATE(figures) else []
    told += [f"{name} {figures[name]:.5g}" for name in _TOLD if figures.get(name)]
    told += [f"{name} {count}" for name, count in wrong_counts(figures).items()]
    return ", ".join(told) + (f", DISTURBED ({_foreign(figures):.0%})" if figures["disturbed"] else "")


_TOLD = ("server_cpu_us_per_event", "ramp_s", "rss_kb_per_conn", "publish_per_s", "rows_per_s", "caught_up_s")
