"""The figure of `search`."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import captions
from experiments.search_runs import GROUP, METHODS, PASS_RATES, SEARCHERS, SIZES, TAKEN, Guesses
from experiments.verdicts import error_of
from simrl import plots
from simrl.measures import gradients

DRAWN = {
    "leave_one_out": "none, RLOO",
    "batch_mean": "group mean",
    "group_normalised": "GRPO",
    "maxrl": "MaxRL",
    "pass_at_k": f"pass@{TAKEN}",
}  # the others are on or near one of these curves
MARKERS = "osD^v"
NAMES = {
    "policy gradient": "policy gradient, no baseline",
    "Bayesian, hit": "Bayesian, until the first success",
    "Bayesian, known": "Bayesian, until the answer is known",
    "supervised": "supervised",
}


def searched(found: dict[tuple[str, int], Guesses], ax: Axes) -> None:
    """Mean samples against N, with 95 % intervals and the closed form."""
    marks = dict(zip(SEARCHERS, MARKERS, strict=False))
    for colour, (name, mark) in zip(plots.CYCLE, marks.items(), strict=False):
        own = [found[name, size] for size in SIZES]
        means = [guesses.counts.mean() for guesses in own]
        errors = [1.96 * error_of(guesses.counts) for guesses in own]
        empty = "white" if name == "Bayesian, known" else colour
        about: dict[str, Any] = {"marker": mark, "color": colour, "markerfacecolor": empty}
        ax.errorbar(SIZES, means, errors, linestyle="none", label=NAMES[name], **about)
        ax.plot(SIZES, [guesses.predicted for guesses in own], color=colour, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="number of equally likely answers N", ylabel="mean samples")
    ax.set_xticks(SIZES, [str(size) for size in SIZES])
    ax.minorticks_off()
    ax.set_ylim(0.6, 5e4)  # room for the legend
    ax.legend(loc="upper left")


def grouped(groups: pd.DataFrame, ax: Axes) -> None:
    """c against p for each method, with 95 % intervals and the closed form."""
    grid = np.geomspace(0.005, 0.6, 80)
    looks = zip(plots.CYCLE, MARKERS, DRAWN.items(), strict=False)
    for colour, marker, (method, label) in looks:
        rows = groups[groups["method"] == method]
        taken = TAKEN if "pass_at_k" in method else None
        weight = gradients.group_weight(jnp.asarray(grid), GROUP, METHODS[method], taken)
        ax.plot(grid, weight, color=colour, linewidth=0.8)
        about: dict[str, Any] = {"color": colour, "markersize": 3.5}
        error = 1.96 * rows["c_error"]
        ax.errorbar(rows["p"], rows["c"], error, fmt=marker, label=label, **about)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="pass rate p", ylabel="c, where E[update] = c ∇p")
    ticks = (0.25, 0.5, 1, 2, 4, 8)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xticks(PASS_RATES, [f"{p:g}" for p in PASS_RATES])
    ax.set_ylim(0.08, 16)  # room for the legend
    ax.legend(loc="lower left", ncols=2)


def figure(found: dict[tuple[str, int], Guesses], groups: pd.DataFrame) -> Figure:
    """The samples of a search, and how group advantages scale the gradient of the pass rate."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 2.9), layout="constrained")
        axes = made.subplots(1, 2)
        searched(found, axes[0])
        grouped(groups, axes[1])
        plots.panel_letter(axes[0], "a", "Finding one answer of N")
        plots.panel_letter(axes[1], "b", f"Mean update by group advantages, groups of {GROUP}")
        n, m = len(found["supervised", SIZES[0]].counts), int(groups["num_seeds"].max())
        seeds = f"n = {n:,} seeds" if n == m else f"n = {n:,} (a) and {m:,} (b) seeds"
        text = f"Points: means over {seeds} with 95 % intervals; lines: closed forms."
        captions.note(made, text)
    return made


CAPTION = """
a, samples until one correct answer of N is found from right/wrong feedback: policy gradient without
a baseline learns nothing from incorrect answers and needs N in the mean; an exact Bayesian, who
excludes them, needs (N + 1) / 2 to its first success and (N + 1) / 2 - 1 / N to know the answer; a
label needs one. b, the factor c by which the mean update of a group advantage is the gradient of
the pass rate p: RLOO and no baseline leave it as it is, MaxRL and GRPO raise it where p is small,
pass@k lowers it where p is large.
"""
