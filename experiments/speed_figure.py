"""The figure of `experiments.speed`: time per unit of every side, on a log axis."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.speed_workloads import SIDES, SIMRL, WORKLOADS
from simrl import plots

ROOFLINES = {"arithmetic floor": (":", "arithmetic roofline"), "memory floor": ("--", "memory")}
COLOURS = dict(zip(SIDES, plots.CYCLE, strict=False))
TITLES = {"W1": "10-armed testbed", "W2": "sequence guessing, V=16, L=8"}
SHORT = {"plain JAX + inverse CDF": "inverse CDF"}  # tick labels


def figure(table: pd.DataFrame) -> Figure:
    """A panel for each of W1 and W2 that was timed, and for each learner of W3."""
    panels = [name for name in TITLES if (table["workload"] == name).any()]
    kinds = [kind for kind in ("REINFORCE", "GRPO") if table["workload"].str.contains(kind).any()]
    total = len(panels) + len(kinds)
    columns = min(total, 2)
    rows = -(-total // columns)
    width = plots.TWO_COLUMNS if columns == 2 else plots.ONE_COLUMN
    made = Figure(figsize=(width, 2.2 * rows), layout="constrained")
    axes = list(made.subplots(rows, columns, squeeze=False).flat)
    for ax, letter, name in zip(axes, "abcd", panels + kinds, strict=False):
        if name in TITLES:
            dots(ax, table[table["workload"] == name])
            plots.panel_letter(ax, letter, TITLES[name])
        else:
            lines(ax, table[table["workload"].str.contains(name)])
            plots.panel_letter(ax, letter, f"one token of V, {name}")
    for ax in axes[total:]:
        ax.remove()
    return made


def dots(ax: Axes, part: pd.DataFrame) -> None:
    """Medians and ranges over rounds, one row per side; vertical lines are the rooflines."""
    part = part.iloc[::-1].reset_index(drop=True)
    for place, row in part.iterrows():
        colour = COLOURS[row["side"]]
        ax.plot([row["low"], row["high"]], [place, place], color=colour)
        ax.plot(row["median"], place, "D" if row["side"] == SIMRL else "o", color=colour)
    for column, (style, label) in ROOFLINES.items():
        floor = part[column].max()  # one number, of the sides that have it
        ax.axvline(floor, color=plots.style.GREY, linestyle=style, linewidth=0.8, label=label)
    elsewhere = part["on"] != part.loc[part["side"] == SIMRL, "on"].iloc[0]
    names = part["side"].replace(SHORT) + elsewhere.map({True: " (CPU)", False: ""})
    ax.set_yticks(part.index, names)
    ax.set_ylim(-0.6, len(part) + 0.3)  # room for the legend
    ax.set_xscale("log")
    ax.set_xlabel(f"{WORKLOADS[part['workload'][0]].unit}, median and range")
    ax.legend(loc="upper right", ncols=2)


def lines(ax: Axes, part: pd.DataFrame) -> None:
    """Seconds per seed against V; hollow: extrapolated from a fixed number of guesses."""
    sizes = part["workload"].str.extract(r"V=(\d+)")[0].astype(int)
    for side, rows in part.assign(size=sizes).groupby("side", sort=False):
        colour = COLOURS[str(side)]
        marker = "D" if side == SIMRL else "o"
        label = SHORT.get(str(side), str(side))
        ax.plot(rows["size"], rows["median"], color=colour, label=label)
        for guessed, some in rows.groupby("extrapolated"):
            fill = "white" if guessed else colour
            ax.plot(some["size"], some["median"], marker, color=colour, markerfacecolor=fill)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(top=part["median"].max() * 1e3)  # room for the legend
    ax.set_xlabel("V (hollow: extrapolated)")
    ax.set_ylabel("s/seed to pass rate ½")
    ax.legend(loc="upper left", ncols=2)
