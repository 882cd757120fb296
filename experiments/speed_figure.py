"""The figure of `experiments.speed`: time per unit of every side, on a log axis."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.speed_workloads import SIDES, SIMRL, WORKLOADS
from simrl import plots

# Measured in probes of their own in 2026-11 on 2 AVX-512 cores (jax 0.10.2), not by this
# command: the roofline, a C++ kernel for this one problem, and the best JAX found.
FLOORS = {
    "W1": {"roofline": 3.0, "C++ kernel": 4.6, "best JAX found": 12.8},
    "W2": {"roofline": 0.58, "C++ kernel": 1.0, "best JAX found": 3.5},
}
STYLES = {"roofline": ":", "C++ kernel": "--", "best JAX found": "-."}
COLOURS = dict(zip(SIDES, plots.CYCLE, strict=False))
TITLES = {"W1": "10-armed testbed", "W2": "sequence guessing, V=16, L=8"}


def figure(table: pd.DataFrame) -> Figure:
    """A panel for each of W1 and W2 that was timed, and for each learner of W3."""
    panels = [name for name in ("W1", "W2") if (table["workload"] == name).any()]
    kinds = [kind for kind in ("REINFORCE", "GRPO") if table["workload"].str.contains(kind).any()]
    total = len(panels) + len(kinds)
    columns = min(total, 2)
    rows = -(-total // columns)
    width = plots.TWO_COLUMNS if columns == 2 else plots.ONE_COLUMN
    made = Figure(figsize=(width, 2.3 * rows), layout="constrained")
    axes = list(made.subplots(rows, columns, squeeze=False).flat)
    for ax, letter, name in zip(axes, "abcd", panels + kinds, strict=False):
        if name in FLOORS:
            dots(ax, table[table["workload"] == name], name)
            plots.panel_letter(ax, letter, TITLES[name])
        else:
            lines(ax, table[table["workload"].str.contains(name)])
            plots.panel_letter(ax, letter, f"one token of V, {name}")
    for ax in axes[total:]:
        ax.remove()
    if panels:
        handles = [line for line in axes[0].lines if line.get_linestyle() in STYLES.values()]
        made.legend(
            handles,
            [f"{name} (not timed here)" for name in STYLES],
            loc="outside lower center",
            ncols=len(STYLES),
        )
    return made


def dots(ax: Axes, part: pd.DataFrame, name: str) -> None:
    """Medians and ranges over rounds, one row per side; vertical lines are the floors."""
    part = part.iloc[::-1].reset_index(drop=True)
    for place, row in part.iterrows():
        colour = COLOURS[row["side"]]
        ax.plot([row["low"], row["high"]], [place, place], color=colour)
        ax.plot(row["median"], place, "D" if row["side"] == SIMRL else "o", color=colour)
    for floor, value in FLOORS[name].items():
        ax.axvline(
            value,
            color=plots.style.GREY,
            linestyle=STYLES[floor],
            linewidth=0.8,
        )
    ax.set_yticks(part.index, part["side"])
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.set_xscale("log")
    ax.set_xlabel(f"{WORKLOADS[name].unit} (median and range)")


def lines(ax: Axes, part: pd.DataFrame) -> None:
    """Seconds per seed against V; hollow: extrapolated from a fixed number of guesses."""
    sizes = part["workload"].str.extract(r"V=(\d+)")[0].astype(int)
    for side, rows in part.assign(size=sizes).groupby("side", sort=False):
        colour = COLOURS[str(side)]
        ax.plot(rows["size"], rows["median"], color=colour, label=str(side))
        for guessed, some in rows.groupby("extrapolated"):
            fill = "white" if guessed else colour
            ax.plot(some["size"], some["median"], "o", color=colour, markerfacecolor=fill)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(top=part["median"].max() * 1e4)  # room for the legend
    ax.set_xlabel("V (hollow: extrapolated)")
    ax.set_ylabel("s/seed to pass rate ½")
    ax.legend(loc="upper left")
