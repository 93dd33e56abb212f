# mypy: disable-error-code="import-not-found"
# pyright: reportMissingImports=false
"""The plots, as PNG and SVG: ``python plots.py FIGURES.json FOLDER``, with the Python that has matplotlib.

Knows nothing of what was measured but the names in the file, and imports nothing of this package: it runs in a venv
of its own.
"""

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "eric_sse"  # the same figures give the same file
from matplotlib import pyplot as plt  # noqa: E402

OURS, OTHERS, YARDSTICKS = "#0a7d4f", "#8a94a6", "#c9ced8"


def bars(axis: Any, figures: dict[str, Any], scenario: str, names: tuple[str, ...], title: str) -> None:
    """One bar a target, the median of its rounds; its lowest and highest as whiskers."""
    rows = []
    for target, label in figures["titles"].items():
        found = [value for run in figures["runs"].get(f"{target}/{scenario}", []) if (value := _at(run, names))]
        if found:
            rows.append((statistics.median(found), min(found), max(found), label, _colour(target)))
    rows.sort(reverse=True)
    middles = [row[0] for row in rows]
    reach = [[row[0] - row[1] for row in rows], [row[2] - row[0] for row in rows]]
    axis.barh([row[3] for row in rows], middles, color=[row[4] for row in rows], xerr=reach, ecolor="#444444")
    axis.set_xscale("log")
    axis.set_xlim(left=10 ** math.floor(math.log10(middles[-1]) - 0.1))
    axis.xaxis.set_major_formatter(lambda value, _: _short(value))
    axis.xaxis.set_minor_formatter("")
    axis.set_xlabel("logarithmic scale", fontsize=8)
    axis.set_title(title, fontsize=10, loc="left")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    for row, middle in enumerate(middles):
        place = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
        axis.annotate(_short(middle), (rows[row][2], row), fontsize=7, **place)
    axis.margins(x=0.15)


def _short(value: float) -> str:
    """To three digits, as 1.23 M or 4.56 k."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _at(run: dict[str, Any], names: tuple[str, ...]) -> float:
    value: Any = run
    for name in names:
        value = value.get(name, 0) if isinstance(value, dict) else 0
    return float(value)


def _colour(target: str) -> str:
    return OURS if target.startswith("ours") else YARDSTICKS if target in {"raw_c", "purepy"} else OTHERS


PLOTS: dict[str, list[tuple[str, tuple[str, ...], str]]] = {
    "burst": [
        ("a", ("events_per_s_total",), "burst, 1,000 subscribers x 200: events/s (more is better)"),
        ("b", ("events_per_s_total",), "burst, 100 subscribers x 2,000: events/s (more is better)"),
    ],
    "paced": [
        ("c", ("server_cpu_us_per_event",), "1,000 subscribers at 20/s: us of CPU per event (less is better)"),
        ("c", ("lat_ms", "p50"), "the same: latency, p50, ms (less is better)"),
        ("c", ("lat_ms", "p99"), "the same: latency, p99, ms (less is better)"),
    ],
    "connections": [
        ("m", ("rss_kb_per_conn",), "10,000 idle streams: kB per connection (less is better)"),
        ("r", ("ramp_s",), "5,000 streams established: s (less is better)"),
    ],
}


def main() -> None:
    """Draw what the file has figures of."""
    figures = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name, all_parts in PLOTS.items():
        parts = [part for part in all_parts if any(run.endswith(f"/{part[0]}") for run in figures["runs"])]
        if not parts:
            continue
        drawing, axes = plt.subplots(len(parts), 1, figsize=(8, 3.1 * len(parts)), squeeze=False)
        for axis, (scenario, names, title) in zip(axes[:, 0], parts, strict=True):
            bars(axis, figures, scenario, names, title)
        drawing.tight_layout()
        drawing.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
        drawing.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(drawing)


if __name__ == "__main__":
    main()
