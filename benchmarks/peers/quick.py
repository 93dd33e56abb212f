"""The core of the benchmark in two minutes: ``python -m benchmarks.peers.quick``.

Gates on what a noisy machine can still tell: the CPU that an event costs, against the yardsticks in the same run and
with a fifth of slack; and that nothing is lost, repeated or disordered.
"""

import sys
from collections import defaultdict

from rich.console import Console
from rich.table import Table

from benchmarks.common import Result
from benchmarks.peers.load import Figures, load
from benchmarks.peers.measures import CPU, Measure, Runs, wrong_counts
from benchmarks.peers.processes import take_the_clients_core
from benchmarks.peers.scenarios import SCENARIOS, Scenario, measure
from benchmarks.peers.targets import BY_NAME

ROUNDS = 3
SLACK = 1.2
PACED = Scenario("paced, 5 s", lambda server: load(server, None, mode="fanout", conns=1000, msgs=100, rate=20))
BURSTS = ("ours", "ours_sqlite", "ours_portable")
STORMS = ("ours", "ours_sqlite")

GATES = (
    Measure("paced: CPU per event against the C loop", "c", "ours", CPU, "us", 1.4 * SLACK, against="raw_c"),
    Measure("paced: CPU per event against a bare asyncio loop", "c", "ours", CPU, "us", 1.0 * SLACK, against="purepy"),
)


def main() -> int:
    """Measure, print, and return 1 where a gate is not passed."""
    take_the_clients_core()
    paced = _paced()
    results = [*_gates(paced), _counts(paced)]
    table = Table("measure", "figure", "must reach", "", "made of")
    for result in results:
        figures = (f"{result.value:.3g} {result.unit}", f"<= {result.limit:.3g}", "yes" if result.reached else "NO")
        table.add_row(result.name, *figures, result.detail)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0 if all(result.reached for result in results) else 1


def _paced() -> Runs:
    runs: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    for number in range(ROUNDS):
        for name in ("raw_c", "purepy", "ours"):
            figures = measure(BY_NAME[name], PACED)
            runs[name, "c"].append(figures | {"round": number})
            print(f"[{number + 1}] paced {name}: {CPU(figures):.2f} us/event", file=sys.stderr, flush=True)
    return runs


def _gates(runs: Runs) -> list[Result]:
    results = []
    for gate in GATES:
        values = gate.values(runs)
        detail = f"median of {', '.join(f'{value:.2f}' for value in values)}; {SLACK:g}x of slack in the limit"
        results.append(Result(gate.title, gate.value(runs) or float("inf"), "x", gate.limit, True, detail))
    return results


def _counts(paced: Runs) -> Result:
    """Of those runs, and of bursts and reconnect storms on each way that ours serves."""
    wrong = sum(sum(wrong_counts(run).values()) for run in paced["ours", "c"])
    told = [f"ours c: {wrong or 'none'}"]
    for letter, names in (("a", BURSTS), ("s", STORMS)):
        for name in names:
            counts = wrong_counts(measure(BY_NAME[name], SCENARIOS[letter]))
            wrong += sum(counts.values())
            told.append(f"{name} {letter}: {counts or 'none'}")
            print(told[-1], file=sys.stderr, flush=True)
    return Result("lost, repeated or disordered events", wrong, "", 0, True, "; ".join(told))


if __name__ == "__main__":
    sys.exit(main())
