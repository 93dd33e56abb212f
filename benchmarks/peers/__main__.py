"""``python -m benchmarks.peers``: everything that is measured of eric_sse, beside its peers, in one run."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers.measures import MEASURES, Runs, wrong_counts
from benchmarks.peers.processes import take_the_clients_core
from benchmarks.peers.report import ROUNDS, report
from benchmarks.peers.rounds import ATTEMPTS, measure_rounds
from benchmarks.peers.scenarios import SCENARIOS
from benchmarks.peers.targets import BY_NAME, HERE, TARGETS, VENVS
from benchmarks.peers.versions import commit, versions

RESULTS = HERE / "results"
DOCS = HERE.parent.parent / "docs" / "benchmarks"
LIBRARY = "library"
"""The measurements of ``benchmarks.run``, which have no peers."""


def main() -> int:
    """Measure what is asked for, print the table, write figures and plots; 1 where a bound or a count is not met."""
    options = _options()
    status = 0
    if options.library:
        status = subprocess.run([sys.executable, "-m", "benchmarks.run"], check=False).returncode
    take_the_clients_core()
    found = versions(options.targets)
    targets = [BY_NAME[name] for name in options.targets]
    runs = measure_rounds(targets, options.scenarios, options.rounds, options.attempts)
    if (now := commit()) not in found["ours"]:
        found["ours"] += f", and, since the checkout changed meanwhile, others until {now}"
    text = report(runs, found)
    print(text)
    _keep(runs, found, text, DOCS if options.docs else RESULTS)
    return status or int(not all_reached(runs))


def all_reached(runs: Runs) -> bool:
    """Whether each measure reaches its bound, and no run of ours lost, repeated or disordered anything."""
    valued = [(measure, measure.value(runs)) for measure in MEASURES]
    reached = all(measure.reached(value) != "no" for measure, value in valued if value is not None)
    return reached and not any(
        wrong_counts(run) for (name, _), of in runs.items() if name.startswith("ours") for run in of
    )


def _options() -> argparse.Namespace:
    letters = ", ".join(f"{letter}: {scenario.title}" for letter, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=f"Scenarios: {letters}.")
    parser.add_argument("--targets", type=_names, default=[t.name for t in TARGETS], help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--scenarios", type=_letters, help="their letters; without, all, and those of benchmarks.run")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how many; {ROUNDS}, if not given")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="of a run, while other load disturbs it")
    parser.add_argument("--docs", action="store_true", help="write table and plots into the documentation")
    options = parser.parse_args()
    options.library = options.scenarios is None
    options.scenarios = options.scenarios or "".join(SCENARIOS)
    return options


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in BY_NAME]:
        raise argparse.ArgumentTypeError(f"no target is called {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    return names


def _letters(text: str) -> str:
    if unknown := set(text) - set(SCENARIOS):
        raise argparse.ArgumentTypeError(
            f"no scenario is called {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}"
        )
    return text


def _keep(runs: Runs, found: dict[str, str], text: str, folder: Path) -> None:
    """Write the figures, the table and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "titles": {target.name: target.title for target in TARGETS},
        "versions": found,
        "runs": {f"{target}/{scenario}": of for (target, scenario), of in runs.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("figures-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(figures, indent=1))
    (folder / "figures.txt").write_text(text)
    python = VENVS / "plots" / "bin" / "python"
    subprocess.run([str(python), str(HERE / "plots.py"), str(path), str(folder)], check=True, timeout=120)
    print(f"table and plots are in {folder}, all figures in {path}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
