"""Runs the measurements and prints what they reached: ``python -m benchmarks.run [--quick] [NAME ...]``."""

import argparse
import importlib
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.common import Result

QUICK_NAMES = ("broadcast", "connections", "appending", "wake_up", "one_read", "idle")
"""Those that have small sizes too, which show that they work, and no more."""
NAMES = ("group_commit", "slow_clients", *QUICK_NAMES)


def main() -> int:
    """Run what is named, or everything; 1 where a figure does not reach its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"small sizes; of {', '.join(QUICK_NAMES)}")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    options = parser.parse_args()
    known = QUICK_NAMES if options.quick else NAMES
    names = options.names or known
    unknown = set(names) - set(known)
    if unknown:
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    sizes = {"quick": True} if options.quick else {}
    results: list[Result] = []
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        results += importlib.import_module(f"benchmarks.{name}").run(**sizes)
    _print(results)
    return 0 if all(result.reached for result in results) else 1


def _print(results: list[Result]) -> None:
    table = Table("measure", "figure", "must reach", "", "made of")
    for result in results:
        bound = f"{'<=' if result.at_most else '>='} {result.limit:g}"
        table.add_row(
            result.name, f"{result.value:.2f} {result.unit}", bound, "yes" if result.reached else "NO", result.detail
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    sys.exit(main())
