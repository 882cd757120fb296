"""The figure of `experiments.speed`: time per unit of every side, on a log axis."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.speed_workloads import SIDES, SIMRL, WORKLOADS
from simrl import plots

FLOORS = ["arithmetic floor", "memory floor"]  # columns; the larger is the roofline
COLOURS = dict(zip(SIDES, plots.CYCLE, strict=False))
MARKERS = dict(zip(SIDES, "Dos^vP", strict=False))
TITLES = {
    "W1": "10-armed testbed",
    "W2": "sequences, V = 16, L = 8",
    "W1 large": "10-armed testbed, 100,000 seeds",
    "W2 large": "sequences, 32,768 seeds",
}
SHORT = {"plain JAX + inverse CDF": "inverse CDF"}
DASHED = {"NumPy": (0, (4, 2))}  # it lies over another


def figure(table: pd.DataFrame) -> Figure:
    """A panel for each of W1 and W2 that was timed, of each size, and for each learner of W3."""
    panels = [name for name in TITLES if (table["workload"] == name).any()]
    kinds = [kind for kind in ("REINFORCE", "GRPO") if table["workload"].str.contains(kind).any()]
    total = len(panels) + len(kinds)
    columns = min(total, 2)
    rows = -(-total // columns)
    width = plots.TWO_COLUMNS if columns == 2 else plots.ONE_COLUMN
    made = Figure(figsize=(width, 2.2 * rows), layout="constrained")
    axes = list(made.subplots(rows, columns, squeeze=False).flat)
    for below in axes[len(panels) + 1 : total]:
        below.sharey(axes[len(panels)])
    for ax, letter, what in zip(axes, "abcdef", panels + kinds, strict=False):
        if what in TITLES:
            dots(ax, table[table["workload"] == what])
            plots.panel_letter(ax, letter, TITLES[what])
        else:
            lines(ax, table[table["workload"].str.contains(what)])
            plots.panel_letter(ax, letter, f"one of V answers, {what}")
    for ax in axes[total:]:
        ax.remove()
    handles: dict[str, Any] = {}
    for ax in axes[:total]:
        marks, names = ax.get_legend_handles_labels()
        handles |= dict(zip(names, marks, strict=True))
    made.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4)
    return made


def name(side: str, on: str, part: pd.DataFrame) -> str:
    """What a side is called; one that did not run where simrl did says so."""
    ours = part.loc[part["side"] == SIMRL, "on"].iloc[0]
    return SHORT.get(side, side) + ("" if on == ours else f" ({on.upper()})")


def dots(ax: Axes, part: pd.DataFrame) -> None:
    """Medians and ranges over rounds, one row per side; the vertical line is the roofline."""
    part = part.iloc[::-1].reset_index(drop=True)
    for place, row in part.iterrows():
        colour = COLOURS[row["side"]]
        ax.plot([row["low"], row["high"]], [place, place], color=colour)
        ax.plot(row["median"], place, MARKERS[row["side"]], color=colour)
    floor = part[FLOORS].max(axis=None)  # one number, of the sides that have it
    roofline: dict[str, Any] = {"color": plots.style.GREY, "linestyle": ":", "linewidth": 0.8}
    ax.axvline(floor, label="roofline, measured on this machine", **roofline)
    names = [name(row["side"], row["on"], part) for _, row in part.iterrows()]
    ax.set_yticks(part.index, names)
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())  # of less than two decades they overlap
    ax.set_xlabel(f"{WORKLOADS[part['workload'][0]].unit}, median and range")


def lines(ax: Axes, part: pd.DataFrame) -> None:
    """Seconds per seed against V; hollow: extrapolated from a fixed number of guesses."""
    sizes = part["workload"].str.extract(r"V=(\d+)")[0].astype(int)
    for side, rows in part.assign(size=sizes).groupby("side", sort=False):
        colour = COLOURS[str(side)]
        marker = MARKERS[str(side)]
        label = name(str(side), rows["on"].iloc[0], part)
        look: dict[str, Any] = {
            "color": colour,
            "linestyle": DASHED.get(str(side), "-"),
            "marker": marker,
        }
        ax.plot(rows["size"], rows["median"], label=label, **look)
        for guessed, some in rows.groupby("extrapolated"):
            fill = "white" if guessed else colour
            ax.plot(some["size"], some["median"], marker, color=colour, markerfacecolor=fill)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("number of answers V (hollow: extrapolated)")
    ax.set_ylabel("s/seed to pass rate ½")
