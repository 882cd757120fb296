"""The figure of batch sizes: what one update of B samples learns, costs and tells, at equal B."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments import captions
from experiments import efficiency_map_figure as main_figure
from experiments import efficiency_map_forms as forms
from experiments.efficiency_map_claims import short
from experiments.efficiency_map_figure import (
    COLOURS,
    LABELS,
    LEARNERS,
    PLAIN,
    line,
    mark,
    methods,
    numbers,
    of,
)
from simrl import plots

NAME = "figure_batches"
THIRD, COMMON_RATE = 1 / 3, 1.0
MARKS = {PLAIN: "o", "batch_mean": "D", "leave_one_out": "^"}
NUM_PARAMS, NUM_SYMBOLS = 1000, 1000
OVERLAP_MARKS = {0.13: "s", THIRD: "o", 0.9: "D"}  # of pass rates
OVERLAP_COLOURS = ("#56B4E9", "#009E73", "#000000")
UNEQUAL = "0.45"
Look = dict[str, Any]
CAPTION = """
One token of 1,000 answers: a single update from a policy of pass rate p whose wrong answers are
alike, by the samples B of the update. (a) Learned bits per FLOP (2N/4N convention) at p = 1/3,
supervised over policy gradient, both with B samples and the same learning rate per sample. While
the step is small the ratio is (8/6)/p = 4; where it is large both reach the answer, and repeats of
a label are wasted. A batch mean contains the rollout itself, which shortens steps by 1/B. Dotted:
RLOO with B samples against a supervised learner with 1. (b) FLOPs of a sample; answers of a batch
share one softmax, of which the convention knows nothing. (c) Joint pointwise information of B
rollouts over B times that of one: when one of them is right, the others tell nothing more. Lines:
closed forms; those of (a) are of REINFORCE without a baseline. Bars: 95 % intervals over seeds.
"""


def ratios(
    batches: pd.DataFrame, learner: str, rate: float, fixed: int | None = None
) -> pd.DataFrame:
    """Returns learned bits per FLOP, labels over rewards, by batch: mean, low and high.

    Both have equally many samples, unless labels have `fixed`.
    """
    rows = of(batches, start=THIRD, rate=rate, quantity="absorbed_per_flop")
    rows = main_figure.sure(rows)
    labelled = of(rows, learner=LABELS).set_index("batch")["mean"]
    guessed = of(rows, learner=learner)
    base = guessed["batch"].map(labelled) if fixed is None else labelled[fixed]
    ends = {"mean": base / guessed["mean"], "low": base / guessed["high"]}
    return guessed[["batch"]].assign(**ends, high=base / guessed["low"])


def learning(ax: Axes, batches: pd.DataFrame) -> None:
    """Draws learned bits per FLOP of labels over rewards at p = 1/3."""
    ax.set(xscale="log", yscale="log")
    sizes = range(1, 41)
    for rate, shown in zip(
        sorted(set(of(batches, start=THIRD)["rate"])), (False, True), strict=True
    ):
        line = [forms.bits_per_flop_ratio(THIRD, NUM_SYMBOLS, size, rate) for size in sizes]
        ax.plot(sizes, line, color="black", linewidth=0.8)
        for learner, marker in MARKS.items():
            rows = ratios(batches, learner, rate)
            face = COLOURS[learner] if shown else "white"
            look: Look = {"marker": marker, "markerfacecolor": face}
            main_figure.bars(ax, rows, "batch", COLOURS[learner], **look)
    rows = ratios(batches, "leave_one_out", COMMON_RATE, fixed=1)
    main_figure.bars(ax, rows, "batch", UNEQUAL, marker="x", linestyle=":", linewidth=0.8)
    numbers(ax.yaxis, {1: "1", 2: "2", 4: "4", 8: "8", 16: "16"})
    ax.set_ylim(0.95, 20)
    ax.set_ylabel("supervised / policy gradient")


def cost(ax: Axes, batches: pd.DataFrame) -> None:
    """Draws the FLOPs of a sample by both conventions."""
    ax.set_xscale("log")
    main_figure.log_values(ax)
    for learner, per_param in ((LABELS, 6), (PLAIN, 8)):
        ax.axhline(per_param * NUM_PARAMS, color=COLOURS[learner], linewidth=0.8)
        rows = of(batches, learner=learner, start=THIRD, rate=COMMON_RATE)
        rows = of(rows, quantity="samples_per_flop_counted")
        rows = main_figure.sure(rows)
        look: Look = {"color": COLOURS[learner], "linestyle": (0, (4, 1.5)), "marker": "o"}
        ax.plot(rows["batch"], 1 / rows["mean"], markersize=3.2, markerfacecolor="white", **look)
    ax.set_ylabel("FLOPs per sample")


def overlap(ax: Axes, batches: pd.DataFrame) -> None:
    """Draws the joint information of a batch of rollouts over the sum of each alone."""
    ax.set(xscale="log", ylim=(0, 1.2))
    rows = of(batches, learner=PLAIN, rate=min(batches["rate"]))
    rows = main_figure.sure(rows)
    sizes = range(1, 41)
    for (start, marker), colour in zip(OVERLAP_MARKS.items(), OVERLAP_COLOURS, strict=True):
        shares = [forms.overlap(start, NUM_SYMBOLS, size) for size in sizes]
        ax.plot(sizes, shares, color=colour, linewidth=0.8)
        own = of(rows, start=start).set_index("batch")
        alone = own[own["quantity"] == "realised"]["mean"]
        joint = own[own["quantity"] == "realised_joint"]
        ends = {end: joint[end] / alone for end in ("mean", "low", "high")}
        main_figure.bars(ax, pd.DataFrame(ends).reset_index(), "batch", colour, marker=marker)
    ax.set_ylabel("share of its bits left to a rollout")


def figure(batches: pd.DataFrame) -> Figure:
    """Draws the figure from the phase table of single updates."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 3.1), layout="constrained")
        axes = made.subplots(1, 3)
        learning(axes[0], batches)
        cost(axes[1], batches)
        overlap(axes[2], batches)
        titles = (
            "The ratio of learned bits/FLOP",
            "FLOPs of a sample",
            "Rollouts of a batch overlap",
        )
        for ax, letter, title in zip(axes, "abc", titles, strict=True):
            numbers(ax.xaxis, {1: "1", 4: "4", 16: "16", 32: "32"})
            ax.set(xlim=(0.8, 40), xlabel="samples per update")
            plots.panel_letter(ax, letter, title)
        made.legend(handles=handles(), ncols=4, loc="outside upper left", alignment="left")
    return made


def handles() -> list[Line2D]:
    """Returns the entries of the legend: methods, rates, FLOPs, pass rates."""
    entries = [*methods(LABELS)]
    entries += [mark(m, LEARNERS[name], colour=COLOURS[name]) for name, m in MARKS.items()]
    entries += [mark("o", "a: 1/32 nat/sample", pale=True), mark("o", "a: 1 nat/sample")]
    entries += [line("a, c: closed forms")]
    look: Look = {"color": UNEQUAL, "linestyle": ":", "marker": "x", "markersize": 3.2}
    entries += [line("a: 1 nat, supervised with 1", **look), line("b: 2N/4N convention")]
    look = {
        "linestyle": (0, (4, 1.5)),
        "marker": "o",
        "markerfacecolor": "white",
        "markersize": 3.2,
    }
    entries += [line("b: counted operations", **look)]
    for (start, marker), colour in zip(OVERLAP_MARKS.items(), OVERLAP_COLOURS, strict=True):
        entries.append(mark(marker, f"c: p = {short(start)}", pale=True, colour=colour))
    return entries


def write(results: dict[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Draws the figure and saves it with its caption in the folder."""
    return captions.save(figure(results["batches"]), folder, CAPTION, NAME)
