"""The figure of the efficiency map: bits, gradient noise and bits per FLOP, phase by phase.

`figure` draws the world of one token and the noise of all four worlds, `supplement` the other
worlds, one a row. Points are measured; lines are closed forms of `simrl.measures` at a policy of
the same pass rate whose positions are alike and whose wrong answers are alike. A measured point is
a ratio of sums over its phase, so where a curve bends within a phase it lies a little off the line.
"""

import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.efficiency_map_forms import (
    ADVANTAGES,
    GROUP,
    GUESSING,
    SUPERVISED,
    Forms,
    World,
    closed_forms,
    zipf_gap,
)
from simrl import plots

MIN_SEEDS = 30  # fewer tell little, and their t intervals would fill the panel
ONE_TOKEN, EXACT, TOKEN, NOISY = "one token", "sequence, exact", "sequence, token", "noisy labels"
LEARNERS = {
    "supervised": "supervised",
    "leave_one_out": "PG, leave-one-out",
    "batch_mean": "PG, batch mean",
    "none": "PG, no baseline",
}
MARKERS = {"supervised": "o", "leave_one_out": "o", "batch_mean": "D", "none": "s"}
Look = dict[str, Any]
# Realised is small: for supervised learning it lies inside the ring of nominal.
MEASURES: dict[str, Look] = {
    "nominal": {"marker": "o", "filled": False, "markersize": 4.8},
    "expected": {"marker": "s", "filled": False, "markersize": 3.2},
    "realised": {"marker": "D", "filled": True, "markersize": 2.0},
    "absorbed": {"marker": "^", "filled": True, "markersize": 3.8},
}
DASHES: dict[str, Any] = {"nominal": "-", "expected": (0, (5, 2)), "realised": (0, (1, 1.2))}
JOINT = (0, (4, 1.2, 1, 1.2))
TELLS = {"nominal": "the essay", "expected": "truth ~ policy", "realised": "truth given"}
TELLS["absorbed"] = "what is kept"
NOISY_SYMBOLS = 10
CLEAN = {ONE_TOKEN: World(1000, 1, "exact"), EXACT: World(8, 3, "exact")}
CLEAN[TOKEN] = World(8, 3, "token")


def select(table: pd.DataFrame, world: str, *learners: str) -> pd.DataFrame:
    """Rows of some learners in a world."""
    return table[(table["world"] == world) & table["learner"].isin(learners)]


def draw(rows: pd.DataFrame, ax: Axes, quantity: str, x: str = "pass_rate", **look: Any) -> None:
    """Points of the phases that enough seeds visited; the legend is the figure's."""
    if (rows["quantity"] == quantity).any():
        plots.points(rows, ax, x, quantity, min_seeds=MIN_SEEDS, legend=False, **look)


def draw_faint(rows: pd.DataFrame, ax: Axes, quantity: str, x: str = "pass_rate") -> None:
    """Every learning rate as a thin line."""
    draw(rows, ax, quantity, x, by=["learner", "rate"], faint=True)


def draw_measures(table: pd.DataFrame, ax: Axes, world: str, forms: Forms) -> None:
    """Closed forms and measured points of the four measures, learner by colour."""
    for (learner, measure), values in forms.bits.items():
        line: Look = {
            "color": plots.COLOURS[learner],
            "linestyle": DASHES[measure],
            "linewidth": 0.9,
        }
        ax.plot(forms.pass_rates, values, **line)
    for quantity, look in MEASURES.items():
        draw(select(table, world, SUPERVISED, GUESSING), ax, quantity, **look)


def linear_bits(ax: Axes, table: pd.DataFrame, forms: Forms) -> None:
    """Bits over a linear pass rate, as the essay draws them, where the crossing can be seen.

    The bits are linear and end above 3: up to 10, the crossing would lie at the bottom. What is
    above, and what is far below, is in the next panel.
    """
    ax.set(xlim=(0, 1), ylim=(-0.05, 3.3))
    draw_measures(table, ax, ONE_TOKEN, forms)
    ax.plot([0.5], [1.0], marker="o", markersize=9, color="black", fillstyle="none")
    line = {"arrowstyle": "-", "linewidth": 0.6, "shrinkB": 4}
    told = "nominal: cross at p = ½\nexpected, realised:\nnever cross"
    ax.annotate(told, (0.5, 1), (0.31, 1.95), fontsize=7, arrowprops=line)
    ax.set(xlabel="pass rate p", ylabel="information (bit/sample)")


def bits(ax: Axes, table: pd.DataFrame, faint: pd.DataFrame, world: str, forms: Forms) -> None:
    """Bits in all phases: up to five orders of magnitude, so both axes are stretched."""
    plots.log_odds_axis(ax)
    ax.set_yscale("log")
    ax.set_ylim(1e-5, 30)
    draw_faint(select(faint, world, SUPERVISED, GUESSING), ax, "absorbed")
    draw(select(table, world, GUESSING), ax, "realised_joint", marker="", linestyle=JOINT)
    joined: Look = {"marker": "", "linestyle": "-", "linewidth": 0.7}
    draw(select(table, world, *LEARNERS), ax, "absorbed", **joined)
    draw_measures(table, ax, world, forms)
    ax.set(xlabel="pass rate p, by log-odds", ylabel="information (bit/sample)")
    handles = [
        Line2D(
            [],
            [],
            color=plots.COLOURS[GUESSING],
            linestyle=JOINT,
            label="realised by the 32 jointly",
        ),
        Line2D([], [], color="grey", linewidth=0.5, label="absorbed, other rates"),
    ]
    ax.legend(handles=handles, loc="lower left", borderaxespad=0.2)


def noise(ax: Axes, table: pd.DataFrame, world: str, forms: Forms) -> None:
    """Noise scale over pass rate; where labels are clean a supervised gradient has none."""
    plots.log_odds_axis(ax)
    ax.set_yscale("log")
    ax.set_ylim(1e-3, 5e4)
    for learner in ADVANTAGES:
        ax.plot(forms.pass_rates, forms.noise[learner], color=plots.COLOURS[learner], linewidth=0.8)
        look: Look = {"marker": MARKERS[learner], "markersize": 3.0, "filled": learner == GUESSING}
        draw(select(table, world, learner), ax, "noise_scale", **look)
    ax.set(xlabel="pass rate p, by log-odds", ylabel="noise scale (trajectories)")
    told = "supervised: exactly 0\n(clean labels, one prompt)"
    ax.text(0.03, 0.03, told, transform=ax.transAxes, fontsize=7, color=plots.COLOURS[SUPERVISED])


def noisy_noise(ax: Axes, table: pd.DataFrame) -> None:
    """Noise scale over what is left to learn, which falls to the right as supervised training runs.

    Policy gradient comes closest to the labels' law on its way and then leaves it for the likeliest
    answer, so that it passes most phases twice.
    """
    ax.set(xscale="log", yscale="log", xlim=(16, 2e-4), ylim=(1e-3, 5e4))
    for learner in reversed(LEARNERS):
        look: Look = {"marker": MARKERS[learner], "markersize": 3.0}
        look["filled"] = learner in (SUPERVISED, GUESSING)
        draw(select(table, NOISY, learner), ax, "noise_scale", "excess_loss", **look)
    start_line(ax)
    ax.set(xlabel="excess loss (bit)", ylabel="noise scale (trajectories)")
    ax.set_xticks([10, 1, 0.1, 0.01, 0.001], ["10", "1", ".1", ".01", ".001"])
    told = "policy gradients: first right,\nthen left, to the top label"
    ax.text(0.03, 0.03, told, transform=ax.transAxes, fontsize=7, color=plots.COLOURS[GUESSING])


def label_noise(ax: Axes) -> None:
    """Names at the lines of one token."""
    look: Look = {"transform": ax.transAxes, "fontsize": 7}
    ax.text(1.0, 0.73, "leave-one-out\n= batch mean", ha="right", **look)
    ax.text(0.5, 0.29, "no baseline:\n(1 − p)/p", ha="right", **look)


def start_line(ax: Axes) -> None:
    """Where training on noisy labels begins: a uniform policy, labels by Zipf's law."""
    start = zipf_gap(NOISY_SYMBOLS)
    ax.axvline(start, ymin=0.15, color="grey", linewidth=0.6, linestyle=(0, (2, 2)), zorder=0.5)
    look: Look = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "fontsize": 7,
    }
    ax.annotate("start", (start, 1), (2, -7), color="#555555", **look)


def per_flop(ax: Axes, table: pd.DataFrame, faint: pd.DataFrame, world: str) -> None:
    """Absorbed bits per FLOP by both ledgers."""
    plots.log_odds_axis(ax)
    ax.set_yscale("log")
    draw_faint(select(faint, world, SUPERVISED, GUESSING), ax, "absorbed_per_flop")
    for quantity, filled in (("absorbed_per_flop", True), ("absorbed_per_flop_counted", False)):
        look: Look = {"filled": filled, "linestyle": "-", "linewidth": 0.7}
        for learner in (*ADVANTAGES, SUPERVISED):
            marker = "o" if learner in (SUPERVISED, GUESSING) else ""
            draw(select(table, world, learner), ax, quantity, marker=marker, **look)
    ax.set(xlabel="pass rate p, by log-odds", ylabel="absorbed (bit/FLOP)")
    low, high = ax.get_ylim()
    ax.set_ylim(low / 10, high)  # room for the legend
    dot: Look = {"color": "black", "marker": "o", "linestyle": "none"}
    handles = [
        Line2D([], [], label="2N/4N convention", **dot),
        Line2D([], [], label="counted operations", markerfacecolor="white", **dot),
    ]
    ax.legend(handles=handles, loc="lower left", borderaxespad=0.2)


def figure(
    table: pd.DataFrame, faint: pd.DataFrame, hits: pd.DataFrame, forms: Forms | None = None
) -> Figure:
    """The paper's figure, two columns wide.

    `table` and `hits` are the phase and hitting tables of each learner's best rate, `faint` the
    phase table of all rates; `forms` the lines of one token, computed if they are not given.
    """
    forms = forms or closed_forms(CLEAN[ONE_TOKEN])
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 6.3), layout="constrained")
        grid = made.add_gridspec(2, 1)
        upper = grid[0].subgridspec(1, 2, width_ratios=(5, 7))
        lower = grid[1].subgridspec(1, 3, width_ratios=(8, 7, 10))
        axes = [made.add_subplot(row[0, i]) for row in (upper, lower) for i in range(row.ncols)]
        linear_bits(axes[0], table, forms)
        bits(axes[1], table, faint, ONE_TOKEN, forms)
        noise(axes[2], table, ONE_TOKEN, forms)
        label_noise(axes[2])
        noisy_noise(axes[3], table)
        axes[3].set_ylabel("")
        axes[3].tick_params(labelleft=False)
        per_flop(axes[4], table, faint, ONE_TOKEN)
        titles = ["Bits per sample, linear", "Bits per sample, all phases"]
        titles += ["Noise, one token", "Noise, noisy labels", "Bits per FLOP"]
        for ax, letter, title in zip(axes, ("a", "b", "c", "", "d"), titles, strict=True):
            plots.panel_letter(ax, letter, title)
        legend(made, hits)
        made.supxlabel(note(table, faint), x=0.01, ha="left", fontsize=7, linespacing=1.3)
    return made


def legend(made: Figure, hits: pd.DataFrame | None = None) -> None:
    """Learners above, measures below: one legend for all panels; samples where `hits` are given."""
    samples = {} if hits is None else samples_of(hits)
    entries = []
    for (learner, name), (measure, look) in zip(LEARNERS.items(), MEASURES.items(), strict=True):
        label = f"{name} ({samples[learner]})" if learner in samples else name
        entries.append(Line2D([], [], color=plots.COLOURS[learner], linewidth=2.5, label=label))
        marks = {k: v for k, v in look.items() if k != "filled"}
        marks |= {"linestyle": DASHES.get(measure, "-"), "color": "black", "linewidth": 0.9}
        marks["markerfacecolor"] = "black" if look["filled"] else "white"
        entries.append(Line2D([], [], label=f"{measure} ({TELLS[measure]})", **marks))
    who = "learner (mean samples to p ≥ .9, one token)" if samples else "learner"
    place: Look = {"loc": "outside upper left", "alignment": "left"}
    made.legend(handles=entries, ncols=4, title=f"{who}; measure of information", **place)


def samples_of(hits: pd.DataFrame) -> dict[str, str]:
    """Mean samples to p >= .9 by learner; the seeds that never got there are counted beside it."""
    rows = hits[(hits["world"] == ONE_TOKEN) & (hits["pass_rate"] == 0.9)]
    told = {}
    for row in rows.itertuples():
        late = f"; {row.num_censored:,} never" if row.num_censored else ""
        told[str(row.learner)] = f"{row.samples_mean:,.0f}{late}"
    return told


def note(table: pd.DataFrame, faint: pd.DataFrame, more: str = "") -> str:
    """What bars, lines and pale lines mean, with the numbers of seeds."""
    most, fewer = int(table["num_seeds"].max()), int(faint["num_seeds"].max())
    rates = int(faint.groupby(["world", "learner"])["rate"].nunique().max())
    text = (
        f"Bars: 95 % t interval over the seeds that visited the phase, n ≤ {most:,} per condition, "
        f"mostly within the marker; phases visited by fewer than {MIN_SEEDS} seeds are left out. "
        f"PG: policy gradient told right or wrong, batches of {GROUP}. Each learner at its best of "
        f"{rates} learning rates; pale: all of them, n ≤ {fewer:,}. Lines of nominal, expected, "
        "realised and noise: closed forms. Supervised: realised = nominal. Counted: the guesses "
        f"of a batch share one softmax, which the convention charges to each. {more}"
    )
    return textwrap.fill(text, 130)


def save(made: Figure, folder: Path | str, name: str = "figure") -> list[Path]:
    """Write <name>.pdf and <name>.png (300 dpi) in the folder."""
    return plots.save(made, Path(folder) / name)
