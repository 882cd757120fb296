"""The figure of the other worlds of the efficiency map, one a row."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments import captions
from experiments import efficiency_map_figure as main_figure
from experiments.efficiency_map_figure import (
    CENTRED,
    EXACT,
    GROUPED,
    LABELS,
    NOISY,
    PLAIN,
    TOKEN,
    draw,
    line,
    mark,
    methods,
    of,
)
from experiments.efficiency_map_forms import zipf_gap
from simrl import plots

NAME = "figure_worlds"
NOISY_SYMBOLS = 10
LOSSES = (10, 1, 0.1, 0.01, 0.001, 0.0001)  # ticks
TITLES = {EXACT: "Exact match", TOKEN: "Token rewards", NOISY: "Noisy labels"}
Look = dict[str, Any]
MORE = """
Answers of three symbols of eight, with a reward for the whole answer (a to c) or for each symbol (d
to f), one answer per update, at a common rate of 1 nat per answer. (c, f) Learned bits per FLOP by
the 2N/4N convention, supervised over REINFORCE. With token rewards positions drift apart, and the
closed forms do not hold. Noisy labels (g to i): one of ten symbols by Zipf's law, batches of 32 for
all learners, each at its best rate, chosen on other seeds: by the mean excess loss (supervised), by
samples to p = .9 of the most frequent label (policy gradient). Learned bits are those of the most
frequent label, onto which policy gradients collapse (left of the start); the vertical axis is
linear around 0, since means may be negative.
"""


def excess_axis(ax: Axes) -> None:
    """Makes x the excess loss, so that training goes to the right, and marks where it starts."""
    ax.set_xscale("log")
    low, high = sorted(ax.get_xlim())
    ax.set_xlim(max(high, 16), low)
    shown = [tick for tick in LOSSES if low <= tick <= max(high, 16)]
    ax.set_xticks(shown, [f"{tick:.4f}".strip("0").rstrip(".") for tick in shown])
    ax.minorticks_off()
    ax.set_xlabel("excess loss (bit), falling")
    start = zipf_gap(NOISY_SYMBOLS)
    ax.axvline(start, color="grey", linewidth=0.6, linestyle=(0, (2, 2)), zorder=0.5)


def signed_axis(ax: Axes, linear: float, bottom: float, top: float) -> None:
    """Makes the vertical axis logarithmic on both sides of 0 and linear around it.

    Near its floor supervised learning loses as much as it gains, and the mean may be below 0.
    """
    ax.set_yscale("symlog", linthresh=linear, linscale=0.5)
    ax.set_ylim(bottom, top)
    # Labels at the ends of the linear part would lie on that of 0.
    shown = [tick for tick in ax.get_yticks() if bottom <= tick <= top]
    ax.set_yticks([tick for tick in shown if tick == 0 or abs(tick) > 3 * linear])
    ax.axhline(0.0, color="grey", linewidth=0.5)


def noisy(axes: list[Axes], table: pd.DataFrame) -> None:
    """Draws bits, noise and bits per FLOP where labels are noisy, over the excess loss.

    Policy gradient converges to the most frequent label, so that its loss on the labels diverges:
    of it only the bits of that label are drawn.
    """
    rows = of(table, world=NOISY)
    rows = rows[rows["learner"].isin((LABELS, PLAIN, GROUPED))]
    signed_axis(axes[0], 1e-5, -3e-4, 0.5)
    own = of(rows, learner=LABELS)
    draw(own, axes[0], "absorbed_label", "excess_loss", marker="v", filled=False)
    main_figure.log_values(axes[1])
    signed_axis(axes[2], 1e-8, -3e-5, 1e-2)
    names = ("absorbed_per_trajectory", "noise_scale", "absorbed_per_flop")
    units = ("bits per trajectory", "noise scale (trajectories)", "learned bits per FLOP")
    for ax, quantity, label in zip(axes, names, units, strict=True):
        for learner in (LABELS, PLAIN, GROUPED):
            marker = "^" if quantity == names[0] else "o"
            look: Look = {"marker": marker, "markersize": 3.0, "filled": learner != PLAIN}
            draw(of(rows, learner=learner), ax, quantity, "excess_loss", **look)
        excess_axis(ax)
        ax.set_ylabel(label)


def figure(table: pd.DataFrame) -> Figure:
    """Draws rows: the sequence with rewards for the whole or by token, the noisy labels."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 6.8), layout="constrained")
        axes = made.subplots(3, 3)
        axes[1, 0].sharey(axes[0, 0])
        for row, world in zip(axes, (EXACT, TOKEN), strict=False):
            main_figure.bits(row[0], table, world)
            main_figure.noise(row[1], table, world, lines=False)
            main_figure.ratio(row[2], table, world)
        axes[1, 2].set_ylim(0.9, 14)
        main_figure.numbers(axes[1, 2].yaxis, {1: "1", 2: "2", 5: "5", 10: "10"})
        noisy(list(axes[2]), table)
        what = ("bits", "noise", "bits/FLOP")
        titles = [f"{TITLES[world]}: {of_it}" for world in (EXACT, TOKEN) for of_it in what]
        titles += [f"{TITLES[NOISY]}: {of_it}" for of_it in ("bits", "noise", "bits/FLOP")]
        for ax, letter, title in zip(axes.flat, "abcdefghi", titles, strict=True):
            plots.panel_letter(ax, letter, title)
        made.legend(handles=handles(), ncols=3, loc="outside upper left", alignment="left")
    return made


def handles() -> list[Line2D]:
    """Returns the entries of the legend: methods, measures of information, lines."""
    entries = methods(LABELS, PLAIN, CENTRED, GROUPED)
    entries += [line("nominal bits"), mark("D", "pointwise information", pale=True)]
    entries += [mark("^", "learned bits"), mark("v", "g: learned bits, all labels", pale=True)]
    entries += [line("c: closed form (8/6)/p")]
    return [*entries, line("g to i: start", color="grey", linestyle=(0, (2, 2)))]


def write(results: dict[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Draws the figure and saves it with its caption in the folder."""
    return captions.save(figure(results["table"]), folder, MORE + main_figure.MEANING, NAME)
