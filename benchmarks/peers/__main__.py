"""``python -m benchmarks.peers``: everything that is measured of eric_sse, beside its peers, in one run."""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers.load import SSELOAD
from benchmarks.peers.measures import MEASURES, Measured, wrong_counts
from benchmarks.peers.processes import take_the_clients_core
from benchmarks.peers.report import ROUNDS, report
from benchmarks.peers.rounds import ATTEMPTS, measure_rounds
from benchmarks.peers.scenarios import SCENARIOS
from benchmarks.peers.targets import BY_NAME, HERE, TARGETS, VENVS, PeerError
from benchmarks.peers.versions import commit, versions

RESULTS = HERE / "results"
DOCS = HERE.parent.parent / "docs" / "benchmarks"
LIBRARY = "library"
"""The measurements of ``benchmarks.run``, which have no peers."""


INTERRUPTED = 130
"""What a shell gives as the status of a program that Ctrl-C ended."""


def main() -> int:
    """Measure what is asked for, print the table, write figures and plots; 1 where a bound or a count is not met."""
    options = _options()
    if not SSELOAD.exists():
        raise PeerError(f"{SSELOAD} is missing: sh scripts/bench-deps.sh builds it, and installs the peers")
    status = 0
    if options.library:
        status = subprocess.run([sys.executable, "-m", "benchmarks.run"], check=False).returncode
    take_the_clients_core()
    found = versions(options.targets)
    targets = [BY_NAME[name] for name in options.targets]
    measured = measure_rounds(targets, options.scenarios, options.rounds, options.attempts)
    if (now := commit()) not in found["ours"]:
        found["ours"] += f", and, since the checkout changed meanwhile, others until {now}"
    # The documentation keeps what it has, rather than half a run.
    has_plots = _keep(measured, found, DOCS if options.docs and measured.is_complete else RESULTS)
    if not measured.is_complete:
        return INTERRUPTED
    return status or int(not has_plots or not all_reached(measured))


def all_reached(measured: Measured) -> bool:
    """Whether each measure reaches its bound, and no run of ours failed, or lost, repeated or disordered anything."""
    runs = measured.runs
    valued = [(measure, measure.value(runs)) for measure in MEASURES]
    reached = all(measure.reached(value) != "no" for measure, value in valued if value is not None)
    ran = not any(failure.target.startswith("ours") for failure in measured.failures)
    return (
        reached
        and ran
        and not any(wrong_counts(run) for (name, _), of in runs.items() if name.startswith("ours") for run in of)
    )


def _options() -> argparse.Namespace:
    letters = ", ".join(f"{letter}: {scenario.title}" for letter, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=f"Scenarios: {letters}.")
    parser.add_argument("--targets", type=_names, default=[t.name for t in TARGETS], help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--scenarios", type=_letters, help="their letters; without, all, and those of benchmarks.run")
    parser.add_argument("--rounds", type=_count, default=ROUNDS, help=f"how many; {ROUNDS}, if not given")
    parser.add_argument("--attempts", type=_count, default=ATTEMPTS, help="of a run, while other load disturbs it")
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


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)


def _keep(measured: Measured, found: dict[str, str], folder: Path) -> bool:
    """Write the figures, print and write the table, draw the plots. Returns whether these could be drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "titles": {target.name: target.title for target in TARGETS},
        "versions": found,
        "failures": measured.failures,
        "is_complete": measured.is_complete,
        "runs": {f"{target}/{scenario}": of for (target, scenario), of in measured.runs.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("figures-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(figures, indent=1))
    print(f"all figures are in {path}", file=sys.stderr)
    text = report(measured, found)
    print(text)
    (folder / "figures.txt").write_text(text)
    print(f"the table is in {folder}", file=sys.stderr)
    return _draw(path, folder)


def _draw(path: Path, folder: Path) -> bool:
    command = [str(VENVS / "plots" / "bin" / "python"), str(HERE / "plots.py"), str(path), str(folder)]
    try:
        subprocess.run(command, check=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"there are no plots: {error}; to draw them later: {shlex.join(command)}", file=sys.stderr)
        return False
    print("the plots are beside it", file=sys.stderr)
    return True


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except PeerError as error:
        sys.exit(str(error))
