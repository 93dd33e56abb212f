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

_NAME_WIDTH = 0.06
"""Of the name of a cap, as a share of the axes."""


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


def curve(axis: Any, figures: dict[str, Any]) -> None:
    """Each cap on gathering: the rate of a burst, and two percentiles of its latency; medians of the rounds."""
    caps = sorted(int(name.partition("/")[0].rpartition("_")[2]) for name in figures["runs"] if name.endswith("/g"))
    rates = [_median(figures, cap, ("events_per_s_total",)) for cap in caps]
    lowest = [math.inf] * len(caps)
    for percentile, colour in (("p99", OTHERS), ("p50", OURS)):
        latencies = [_median(figures, cap, ("lat_ms", percentile)) for cap in caps]
        lowest = list(map(min, lowest, latencies))
        axis.plot(rates, latencies, color=colour, linewidth=1, alpha=0.4)
        axis.scatter(rates, latencies, color=colour, s=34, zorder=3)
        place = {"textcoords": "offset points", "va": "center", "ha": "right"}
        axis.annotate(percentile, (rates[0], latencies[0]), (-9, 0), color=colour, fontsize=9, weight="bold", **place)
    axis.set_xscale("log")
    axis.margins(x=0.1)
    axis.set_ylim(0, axis.get_ylim()[1] * 1.05)
    _name_above(axis, [f"{cap} ms" for cap in caps], rates, lowest)
    axis.xaxis.set_major_formatter(lambda value, _: _short(value))
    axis.xaxis.set_minor_formatter(lambda value, _: _short(value) if f"{value:.0e}"[0] in "25" else "")
    axis.set_xlabel("events/s, logarithmic scale (more is better)", fontsize=8)
    axis.set_ylabel("latency, ms (less is better)", fontsize=8)
    axis.set_title("burst, 1,000 subscribers x 200, by ERIC_SSE_GATHER_MS", fontsize=10, loc="left", pad=36)
    axis.tick_params(which="both", labelsize=8)
    axis.tick_params(axis="x", which="minor", pad=5)
    axis.spines[["top", "right"]].set_visible(False)


def _name_above(axis: Any, names: list[str], rates: list[float], lowest: list[float]) -> None:
    """Names in up to three rows above the axes, where they do not hide each other, with a line down to their points."""
    to_axes = axis.transData + axis.transAxes.inverted()
    ends = [-math.inf] * 3
    for rate, name, low in sorted(zip(rates, names, lowest, strict=True)):
        x, y = to_axes.transform((rate, low))
        row = next((row for row, end in enumerate(ends) if x - end > _NAME_WIDTH), len(ends) - 1)
        ends[row] = x
        top = 1.01 + 0.045 * row
        axis.plot((x, x), (y, top), color=YARDSTICKS, linewidth=0.8, zorder=0, transform=axis.transAxes, clip_on=False)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axis.text(x, top, name, fontsize=8, ha="center", va="bottom", bbox=box, transform=axis.transAxes)


def _median(figures: dict[str, Any], cap: int, names: tuple[str, ...]) -> float:
    return statistics.median(_at(run, names) for run in figures["runs"][f"ours_gather_{cap}/g"])


def _short(value: float) -> str:
    """To three digits, as 1.23 M or 4.56 k."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def has_figures(figures: dict[str, Any], scenario: str, names: tuple[str, ...]) -> bool:
    """Whether anything has this figure in this scenario."""
    return any(_at(run, names) for name, of in figures["runs"].items() if name.endswith(f"/{scenario}") for run in of)


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
        parts = [part for part in all_parts if has_figures(figures, *part[:2])]
        if not parts:
            continue
        drawing, axes = plt.subplots(len(parts), 1, figsize=(8, 3.1 * len(parts)), squeeze=False)
        for axis, (scenario, names, title) in zip(axes[:, 0], parts, strict=True):
            bars(axis, figures, scenario, names, title)
        _save(drawing, folder / name)
    if has_figures(figures, "g", ("events_per_s_total",)):
        drawing, axis = plt.subplots(figsize=(8, 4))
        curve(axis, figures)
        _save(drawing, folder / "curve")


def _save(drawing: Any, path: Path) -> None:
    drawing.tight_layout()
    drawing.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    drawing.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(drawing)


if __name__ == "__main__":
    main()
