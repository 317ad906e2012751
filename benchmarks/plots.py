"""Plots of what was measured, as SVG for the docs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import RULE, SIMULATED, TEMPLATE, Row

FOLDER = TEMPLATE / "docs/plots"
# The same picture of the same data, whenever it is drawn.
mpl.rcParams["svg.hashsalt"] = "slipway"
COST, OVERLOAD = "small JSON object: ", "overload "
WIDTH = 8.0


def write(rows: Sequence[Row], folder: Path = FOLDER) -> list[Path]:
    """Draw what there are rows for, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, prefix, draw in (
        ("cost", COST, _cost),
        ("overload", OVERLOAD, _overload),
        ("rules", RULE, _rules),
        ("fleet", SIMULATED, _fleet),
    ):
        found = [row for row in rows if row.name.startswith(prefix) and row.measured is not None]
        if found:
            path = folder / f"{name}.svg"
            draw(found).savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")
            drawn.append(path)
    return drawn


def _cost(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(WIDTH, 0.5 * len(rows) + 1))
    axes: Axes = figure.subplots()
    names = [row.name.removeprefix(COST) for row in rows]
    shares = [row.counts["shares"] for row in rows]
    axes.boxplot(list(reversed(shares)), orientation="horizontal", tick_labels=names[::-1])
    axes.set_xlim(0, 1.3)
    axes.set_xlabel("throughput, of bare FastAPI in the same round")
    return figure


def _overload(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(WIDTH, 4))
    axes: Axes = figure.subplots()
    _bars(axes, [_split(row.name.removeprefix(OVERLOAD), row) for row in rows])
    axes.set_ylabel("useful answers, of capacity")
    return figure


def _rules(rows: Sequence[Row]) -> Figure:
    found: dict[str, dict[str, list[tuple[float, Any]]]] = {}
    for row in rows:
        rule, _, rest = row.name.removeprefix(RULE).partition(": ")
        multiple, case, measured = _split(rest, row)
        found.setdefault(case, {}).setdefault(rule, []).append((float(multiple), measured))
    figure = Figure(figsize=(WIDTH, 2.4 * ((len(found) + 1) // 2)))
    panels = figure.subplots((len(found) + 1) // 2, 2, sharex=True, sharey=True, squeeze=False)
    for axes, (case, rules) in zip(panels.flat, found.items(), strict=False):
        for rule, points in rules.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=rule)
        axes.set_title(case, fontsize="small")
        axes.set_ylim(0, 1.15)
    panels[0][0].legend(fontsize="x-small")
    figure.supxlabel("requests, of capacity")
    figure.supylabel("useful answers, of capacity")
    figure.tight_layout()
    return figure


def _fleet(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(WIDTH, 4))
    axes: Axes = figure.subplots()
    told = [row for row in rows if row.unit == "of capacity"]
    parts = [row.name.removeprefix(SIMULATED).rpartition(", ") for row in told]
    _bars(
        axes,
        [
            (load.removesuffix(" x"), case, row.measured)
            for (case, _, load), row in zip(parts, told, strict=True)
        ],
    )
    axes.set_ylabel("useful answers, of capacity")
    return figure


def _split(name: str, row: Row) -> tuple[str, str, Any]:
    """Take apart `2 x, a case`."""
    multiple, _, case = name.partition(" x, ")
    return multiple, case, row.measured


def _bars(axes: Axes, points: Iterable[tuple[str, str, Any]]) -> None:
    """Draw a group of bars for each case, one for each multiple."""
    found: dict[str, dict[str, Any]] = {}
    for multiple, case, measured in points:
        found.setdefault(case, {})[multiple] = measured
    multiples = sorted({each for bars in found.values() for each in bars}, key=float)
    width = 0.8 / len(multiples)
    for number, multiple in enumerate(multiples):
        places = [place + number * width for place in range(len(found))]
        heights = [bars.get(multiple, 0) for bars in found.values()]
        axes.bar(places, heights, width, label=f"{multiple} x")
    axes.set_xticks(
        [place + 0.4 - width / 2 for place in range(len(found))],
        list(found),
        rotation=20,
        ha="right",
        fontsize="small",
    )
    axes.axhline(1, color="grey", linewidth=0.5)
    axes.legend(fontsize="small")
