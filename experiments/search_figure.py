"""The figure of `search`."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.search_runs import GROUP, METHODS, PASS_RATES, SEARCHERS, SIZES, TAKEN, Guesses
from experiments.verdicts import error_of
from simrl import plots
from simrl.measures import gradients

DRAWN = {
    "leave_one_out": "none, leave one out",
    "batch_mean": "group mean",
    "group_normalised": "group normalised",
    "maxrl": "MaxRL",
    "pass_at_k": "pass@k",
}  # the others are on or near one of these curves


def searched(found: dict[tuple[str, int], Guesses], ax: Axes) -> None:
    """Mean samples against N, with 95 % intervals and the law."""
    marks = dict(zip(SEARCHERS, "osD^", strict=True))
    for colour, (name, mark) in zip(plots.CYCLE, marks.items(), strict=False):
        own = [found[name, size] for size in SIZES]
        means = [guesses.counts.mean() for guesses in own]
        errors = [1.96 * error_of(guesses.counts) for guesses in own]
        empty = "white" if name == "Bayesian, known" else colour
        about: dict[str, Any] = {"marker": mark, "color": colour, "markerfacecolor": empty}
        ax.errorbar(SIZES, means, errors, linestyle="none", label=name, **about)
        ax.plot(SIZES, [guesses.predicted for guesses in own], color=colour, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="equally likely answers N", ylabel="samples in the mean")
    ax.set_xticks(SIZES, [str(size) for size in SIZES])
    ax.minorticks_off()
    ax.legend(frameon=False, loc="upper left")


def grouped(groups: pd.DataFrame, ax: Axes) -> None:
    """c against p for each method, with 95 % intervals and the law."""
    grid = np.geomspace(0.005, 0.6, 80)
    for colour, (method, label) in zip(plots.CYCLE, DRAWN.items(), strict=False):
        rows = groups[groups["method"] == method]
        taken = TAKEN if "pass_at_k" in method else None
        law = gradients.group_weight(jnp.asarray(grid), GROUP, METHODS[method], taken)
        ax.plot(grid, law, color=colour, linewidth=0.8)
        about: dict[str, Any] = {"color": colour, "markersize": 3.5}
        error = 1.96 * rows["c_error"]
        ax.errorbar(rows["p"], rows["c"], error, fmt="o", label=label, **about)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="pass rate p", ylabel="c in E[update] = c ∇p")
    ticks = (0.25, 0.5, 1, 2, 4, 8)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xticks(PASS_RATES, [f"{p:g}" for p in PASS_RATES])
    ax.legend(frameon=False, loc="lower left", fontsize=7)


def figure(found: dict[tuple[str, int], Guesses], groups: pd.DataFrame) -> Figure:
    """The search, and what group methods make of a pass rate."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 2.9), layout="constrained")
        axes = made.subplots(1, 2)
        searched(found, axes[0])
        grouped(groups, axes[1])
        plots.panel_letter(axes[0], "a", "Searching a secret")
        plots.panel_letter(axes[1], "b", f"Groups of {GROUP}; pass@k with k = {TAKEN}")
        n, m = len(found["supervised", SIZES[0]].counts), int(groups["num_seeds"].max())
        note = f"Means over n = {n:,} (a) and {m:,} (b) seeds, 95 % intervals (mostly smaller than "
        note += "the marks); lines: closed forms."
        made.supxlabel(note, x=0.01, ha="left", fontsize=7)
    return made
