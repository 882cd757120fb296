"""The figure of the efficiency map: bits, gradient noise and bits per FLOP, by pass rate.

`figure` draws the world of one token and the noise of all four worlds, `supplement` the other
worlds, one a row. Points are measured; lines are closed forms of `simrl.measures` at a policy of
the same pass rate whose positions are alike and whose wrong answers are alike. A measured point is
a ratio of sums over its bin, so where a curve bends within a bin it lies a little off the line.
"""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments import captions
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
    "leave_one_out": "RLOO",
    "batch_mean": "REINFORCE, batch-mean baseline",
    "none": "REINFORCE, no baseline",
}
PASS_RATE = "pass rate p (log-odds scale)"
MARKERS = {"supervised": "o", "leave_one_out": "o", "batch_mean": "D", "none": "s"}
Look = dict[str, Any]
# Pointwise information is small: for supervised learning it lies inside the ring of nominal bits.
MEASURES: dict[str, Look] = {
    "nominal": {"marker": "o", "filled": False, "markersize": 4.8},
    "expected": {"marker": "s", "filled": False, "markersize": 3.2},
    "realised": {"marker": "D", "filled": True, "markersize": 2.0},
    "absorbed": {"marker": "^", "filled": True, "markersize": 3.8},
}
DASHES: dict[str, Any] = {"nominal": "-", "expected": (0, (5, 2)), "realised": (0, (1, 1.2))}
JOINT = (0, (4, 1.2, 1, 1.2))
NAMES = {
    "nominal": "essay's nominal bits",
    "expected": "mutual information",
    "realised": "pointwise information",
    "absorbed": "learned bits",
}
JOINED: Look = {"marker": "", "linestyle": "-", "linewidth": 0.7}
NOISY_SYMBOLS = 10
LOSSES = (10, 1, 0.1, 0.01, 0.001, 0.0001)  # ticks
CLEAN = {ONE_TOKEN: World(1000, 1, "exact"), EXACT: World(8, 3, "exact")}
CLEAN[TOKEN] = World(8, 3, "token")


def select(table: pd.DataFrame, world: str, *learners: str) -> pd.DataFrame:
    """Rows of some learners in a world."""
    return table[(table["world"] == world) & table["learner"].isin(learners)]


def draw(rows: pd.DataFrame, ax: Axes, quantity: str, x: str = "pass_rate", **look: Any) -> None:
    """Points of the phases that enough seeds visited; the legend is the figure's."""
    look = {"by": "learner", "min_seeds": MIN_SEEDS, "legend": False, **look}
    if (rows["quantity"] == quantity).any():
        plots.points(rows, ax, x, quantity, **look)


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
    rows = select(table, world, SUPERVISED, GUESSING)
    draw(rows, ax, "absorbed", **JOINED)
    for quantity, look in MEASURES.items():
        draw(rows, ax, quantity, **look)


def linear_bits(ax: Axes, table: pd.DataFrame, forms: Forms) -> None:
    """Bits over a linear pass rate, as the essay draws them, where the crossing can be seen.

    The bits are linear and end above 3: up to 10, the crossing would lie at the bottom. What is
    above, and what is far below, is in the next panel.
    """
    ax.set(xlim=(0, 1), ylim=(-0.05, 3.3))
    draw_measures(table, ax, ONE_TOKEN, forms)
    ax.plot([0.5], [1.0], marker="o", markersize=9, color="black", fillstyle="none")
    line = {"arrowstyle": "-", "linewidth": 0.6, "shrinkB": 4}
    text = "nominal bits cross at\np = ½, mutual and point-\nwise information never"
    ax.annotate(text, (0.5, 1), (0.3, 1.95), fontsize=7, arrowprops=line)
    ax.set(xlabel="pass rate p", ylabel="information (bit/sample)")


def bits(ax: Axes, table: pd.DataFrame, faint: pd.DataFrame, world: str, forms: Forms) -> None:
    """Bits in all phases: up to five orders of magnitude, so both axes are stretched."""
    plots.log_odds_axis(ax)
    ax.set_yscale("log")
    ax.set_ylim(3e-6, 30)
    draw_faint(select(faint, world, SUPERVISED, GUESSING), ax, "absorbed")
    draw(select(table, world, GUESSING), ax, "realised_joint", marker="", linestyle=JOINT)
    draw(select(table, world, *ADVANTAGES), ax, "absorbed", **JOINED)
    draw_measures(table, ax, world, forms)
    ax.set(xlabel=PASS_RATE, ylabel="information (bit/sample)")
    joint: Look = {"color": plots.COLOURS[GUESSING], "linestyle": JOINT}
    handles = [
        Line2D([], [], label=f"pointwise, {GROUP} answers jointly", **joint),
        Line2D([], [], color="grey", linewidth=0.5, label="learned bits, other rates"),
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
    ax.set(xlabel=PASS_RATE, ylabel="noise scale (trajectories)")
    text = "supervised: exactly 0\n(clean labels, one prompt)"
    ax.text(0.03, 0.03, text, transform=ax.transAxes, fontsize=7, color=plots.COLOURS[SUPERVISED])


def noisy_noise(ax: Axes, table: pd.DataFrame) -> None:
    """Noise scale over excess loss, which falls to the right as supervised training proceeds.

    Policy gradient comes closest to the distribution of labels on its way and then leaves it for
    the most frequent label, so that it passes most bins twice.
    """
    ax.set(xscale="log", yscale="log", ylim=(1e-3, 5e4))
    for learner in reversed(LEARNERS):
        look: Look = {"marker": MARKERS[learner], "markersize": 3.0}
        look["filled"] = learner in (SUPERVISED, GUESSING)
        draw(select(table, NOISY, learner), ax, "noise_scale", "excess_loss", **look)
    excess_axis(ax)
    ax.set_ylabel("noise scale (trajectories)")
    text = "policy gradients collapse onto\nthe most frequent label (left)"
    ax.text(0.03, 0.03, text, transform=ax.transAxes, fontsize=7, color=plots.COLOURS[GUESSING])


def excess_axis(ax: Axes) -> None:
    """Turn the excess loss on x from right to left, and mark where training starts."""
    low, high = sorted(ax.get_xlim())
    ax.set_xlim(max(high, 16), low)
    shown = [tick for tick in LOSSES if low <= tick <= max(high, 16)]
    ax.set_xticks(shown, [f"{tick:.4f}".strip("0").rstrip(".") for tick in shown])
    ax.minorticks_off()
    ax.set_xlabel("excess loss (bit)")
    start_line(ax)


def label_noise(ax: Axes) -> None:
    """Names at the lines of one token."""
    look: Look = {"transform": ax.transAxes, "fontsize": 7}
    ax.text(1.0, 0.73, "RLOO = batch-mean\nbaseline", ha="right", **look)
    ax.text(0.5, 0.29, "no baseline:\n(1 − p)/p", ha="right", **look)


def start_line(ax: Axes) -> None:
    """Mark the start of training on noisy labels: a uniform policy, labels by Zipf's law."""
    start = zipf_gap(NOISY_SYMBOLS)
    ax.axvline(start, ymin=0.15, color="grey", linewidth=0.6, linestyle=(0, (2, 2)), zorder=0.5)
    look: Look = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "fontsize": 7,
    }
    ax.annotate("start", (start, 1), (2, -7), color="#555555", **look)


def per_flop(ax: Axes, table: pd.DataFrame, faint: pd.DataFrame, world: str) -> None:
    """Learned bits per FLOP by both conventions."""
    plots.log_odds_axis(ax)
    ax.set_yscale("log")
    draw_faint(select(faint, world, SUPERVISED, GUESSING), ax, "absorbed_per_flop")
    for quantity, filled in (("absorbed_per_flop", True), ("absorbed_per_flop_counted", False)):
        look: Look = {"filled": filled, "linestyle": "-", "linewidth": 0.7}
        for learner in (*ADVANTAGES, SUPERVISED):
            marker = "o" if learner in (SUPERVISED, GUESSING) else ""
            draw(select(table, world, learner), ax, quantity, marker=marker, **look)
    ax.set(xlabel=PASS_RATE, ylabel="learned bits (bit/FLOP)")
    dot: Look = {"color": "black", "marker": "o", "linestyle": "none"}
    handles = [
        Line2D([], [], label="2N/4N convention", **dot),
        Line2D([], [], label="counted operations", markerfacecolor="white", **dot),
    ]
    ax.legend(handles=handles, loc="lower left", borderaxespad=0.2)


def figure(table: pd.DataFrame, faint: pd.DataFrame, forms: Forms | None = None) -> Figure:
    """Draw the paper's figure, two columns wide.

    `table` is the phase table of each learner's best rate, `faint` that of all rates; `forms` are
    the lines of one token, computed if they are not given.
    """
    forms = forms or closed_forms(CLEAN[ONE_TOKEN])
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 5.8), layout="constrained")
        grid = made.add_gridspec(2, 1)
        upper = grid[0].subgridspec(1, 2, width_ratios=(5, 7))
        lower = grid[1].subgridspec(1, 3, width_ratios=(8, 8, 9))
        axes = [made.add_subplot(row[0, i]) for row in (upper, lower) for i in range(row.ncols)]
        linear_bits(axes[0], table, forms)
        bits(axes[1], table, faint, ONE_TOKEN, forms)
        noise(axes[2], table, ONE_TOKEN, forms)
        label_noise(axes[2])
        noisy_noise(axes[3], table)
        axes[3].set_ylabel("")
        axes[3].tick_params(labelleft=False)
        per_flop(axes[4], table, faint, ONE_TOKEN)
        low, high = axes[4].get_ylim()
        axes[4].set_ylim(low / 10, high)  # room for the legend
        titles = ["Information per sample, linear scale", "Information per sample, log-odds scale"]
        titles += ["Noise, one token", "Noise, noisy labels", "Learned bits per FLOP"]
        for ax, letter, title in zip(axes, ("a", "b", "c", "", "d"), titles, strict=True):
            plots.panel_letter(ax, letter, title)
        legend(made)
        captions.note(made, note(table, faint))
    return made


def legend(made: Figure) -> None:
    """Draw one legend for all panels: methods above, measures of information below."""
    entries = []
    for (learner, name), (measure, look) in zip(LEARNERS.items(), MEASURES.items(), strict=True):
        entries.append(Line2D([], [], color=plots.COLOURS[learner], linewidth=2.5, label=name))
        marks = {k: v for k, v in look.items() if k != "filled"}
        marks |= {"linestyle": DASHES.get(measure, "-"), "color": "black", "linewidth": 0.9}
        marks["markerfacecolor"] = "black" if look["filled"] else "white"
        entries.append(Line2D([], [], label=NAMES[measure], **marks))
    made.legend(handles=entries, ncols=4, loc="outside upper left", alignment="left")


def note(table: pd.DataFrame, faint: pd.DataFrame) -> str:
    """Return what points, bars and lines are, in two lines."""
    return (
        f"Points: 95 % t intervals over n ≤ {int(table['num_seeds'].max()):,} seeds, mostly "
        "smaller than the marker. Lines: closed forms; of learned bits they join the points. "
        f"Each method at its best of {num_rates(faint)} learning rates; pale: all rates."
    )


def num_rates(faint: pd.DataFrame) -> int:
    """Return how many learning rates a method is compared at."""
    return int(faint.groupby(["world", "learner"])["rate"].nunique().max())


MEANING = f"""
Nominal bits: -log2 p of a labelled sample, the binary entropy of p of a right/wrong reward
(Patel 2025). Mutual information: between the feedback on one sample and the correct answer, under
the policy's own distribution. Pointwise information: the log ratio of posterior and prior
probability of the actual correct answer; for supervised learning it equals the nominal bits.
Learned bits: the gain in log2 probability of the correct answer that an update keeps, per sample.
Noise scale: tr Cov of the gradient of one trajectory over its squared mean. Policy gradients
(RLOO, REINFORCE) see right/wrong rewards, in batches of {GROUP}. FLOPs by the 2N/4N convention,
which charges each answer of a batch, and as counted from the program, where the answers of a batch
share one softmax. Points are ratios of sums over seeds within a pass-rate bin; bins visited by
fewer than {MIN_SEEDS} seeds are left out.
"""


def caption(hits: pd.DataFrame) -> str:
    """Return the whole caption, with the samples each method takes."""
    rows = hits[(hits["world"] == ONE_TOKEN) & (hits["pass_rate"] == 0.9)]
    samples = []
    for row in rows.itertuples():
        late = f" ({row.num_censored:,} seeds never reach it)" if row.num_censored else ""
        samples.append(f"{LEARNERS[str(row.learner)]} {row.samples_mean:,.0f}{late}")
    means = "; ".join(samples)
    return f"One token of 1,000 answers. Mean samples to a pass rate of .9: {means}. {MEANING}"
