"""The figure of `search`."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.search_runs import GROUP, METHODS, PASS_RATES, SEARCHERS, SIZES, TAKEN, Guesses
from experiments.verdicts import error_of
from simrl import plots

SEARCHER_NAMES = {
    "policy gradient": "policy gradient, no baseline",
    "Bayesian, hit": "Bayesian, first success",
    "Bayesian, known": "Bayesian, answer known",
    "supervised": "supervised",
}
METHOD_NAMES = {
    "none": "no baseline",
    "leave_one_out": "RLOO",
    "batch_mean": "group mean",
    "group_normalised": "GRPO",
    "group_normalised_sample": "GRPO, sample s.d.",
    "maxrl": "MaxRL",
    "maxrl_centred": "MaxRL, centred",
    "pass_at_k": f"pass@{TAKEN}",
    "pass_at_k_leave_one_out": f"pass@{TAKEN}, RLOO",
}
MARKERS = "osD^"
OFFSET = 0.24  # rows between the pass rates of a method


def searched(found: dict[tuple[str, int], Guesses], ax: Axes) -> None:
    """Draws mean samples against N, with 95 % intervals and the closed form."""
    marks = dict(zip(SEARCHERS, MARKERS, strict=True))
    for colour, (name, mark) in zip(plots.CYCLE, marks.items(), strict=False):
        own = [found[name, size] for size in SIZES]
        means = [guesses.counts.mean() for guesses in own]
        errors = [1.96 * error_of(guesses.counts) for guesses in own]
        empty = "white" if name == "Bayesian, known" else colour
        look: dict[str, Any] = {"marker": mark, "color": colour, "markerfacecolor": empty}
        ax.errorbar(SIZES, means, errors, linestyle="none", label=SEARCHER_NAMES[name], **look)
        ax.plot(SIZES, [guesses.predicted for guesses in own], color=colour, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="equally likely answers, N", ylabel="mean samples")
    ax.set_xticks(SIZES, [str(size) for size in SIZES])
    ax.minorticks_off()
    below(ax, 1)


def methods(groups: pd.DataFrame, ax: Axes, measured: str) -> None:
    """Draws a column of the groups' table: points with 95 % intervals, closed forms as bars."""
    for i, (p, colour) in enumerate(zip(PASS_RATES, plots.CYCLE, strict=False)):
        rows = groups[groups["p"] == p].set_index("method").loc[list(METHODS)]
        places = np.arange(len(rows)) + (i - 1) * OFFSET
        ax.plot(rows[f"{measured}_predicted"], places, "|", color="black", markersize=6.5)
        look: dict[str, Any] = {"color": colour, "fmt": MARKERS[i], "markersize": 2.6}
        error = 1.96 * rows[f"{measured}_error"]
        ax.errorbar(rows[measured], places, xerr=error, label=f"p = {p:g}", **look)
    ax.plot([], [], "|", color="black", markersize=6.5, label="closed form")
    for row in range(1, len(METHODS), 2):
        ax.axhspan(row - 0.5, row + 0.5, color="0.95", linewidth=0, zorder=0)
    ax.set_yticks(range(len(METHODS)), [METHOD_NAMES[method] for method in METHODS])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(METHODS) - 0.5, -0.5)


def scaled(ax: Axes, ticks: tuple[float, ...], ends: tuple[float, float], label: str) -> None:
    """Sets a logarithmic horizontal axis."""
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set(xlim=ends, xlabel=label)


def below(ax: Axes, columns: int) -> None:
    """Puts the legend below the axis label."""
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.17), ncols=columns, borderaxespad=0)


def figure(found: dict[tuple[str, int], Guesses], groups: pd.DataFrame) -> Figure:
    """The samples of a search, and what group advantages make of a pass rate."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 3.3), layout="constrained")
        axes = made.subplots(1, 3, width_ratios=(1.05, 1, 1))
        searched(found, axes[0])
        methods(groups, axes[1], "dead")
        methods(groups, axes[2], "c")
        scaled(axes[1], (0.01, 0.1, 1), (0.002, 1.6), f"fraction of groups of {GROUP}")
        scaled(axes[2], (0.5, 1, 2, 4, 8), (0.35, 11), "c, where E[update] = c ∇p")
        axes[2].set_yticklabels([])
        below(axes[1], 2)
        plots.panel_letter(axes[0], "a", "Finding one answer")
        plots.panel_letter(axes[1], "b", "Zero-advantage groups")
        plots.panel_letter(axes[2], "c", "Mean update")
    return made


def caption(found: dict[tuple[str, int], Guesses], groups: pd.DataFrame) -> str:
    """Returns the caption of the figure."""
    num, many = len(found["supervised", SIZES[0]].counts), int(groups["num_seeds"].max())
    return f"""
a, samples until one correct answer of N is identified from right/wrong feedback: policy gradient
without a baseline learns nothing from incorrect answers and needs N in the mean; an exact Bayesian,
who excludes them, needs (N + 1) / 2 to its first success and (N + 1) / 2 - 1 / N to know the answer
(the two coincide here); a label needs one. Lines: closed forms. b, fraction of groups of {GROUP}
answers whose advantages are all zero, at three pass rates p: with a success needed (no baseline,
MaxRL, pass@{TAKEN}) (1 - p)^{GROUP}; with advantages relative to the group also p^{GROUP}, and for
leave-one-out pass@{TAKEN} every group with more than {GROUP - TAKEN} successes. c, the factor c by
which the mean update is the gradient of the pass rate: no baseline and RLOO leave it as it is,
MaxRL and GRPO raise it where p is small, pass@{TAKEN} lowers it where p is large. Points: means
over n = {num:,} seeds (a) and {many:,} groups, the same for all methods (b, c), with 95 %
intervals, most of them smaller than the symbols.
"""
