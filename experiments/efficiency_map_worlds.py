"""The supplement to the figure of the efficiency map: the other worlds, one a row."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments import efficiency_map_figure as main_figure
from experiments.efficiency_map_figure import CLEAN, NOISY
from experiments.efficiency_map_forms import GUESSING, SUPERVISED, closed_forms
from simrl import plots

SEQUENCES = (main_figure.EXACT, main_figure.TOKEN)
NOISY_LOOKS: dict[str, dict[str, Any]] = {
    "nominal": {"marker": "o", "filled": False, "markersize": 4.8},
    "absorbed": {"marker": "^", "filled": True, "markersize": 3.6},
    "absorbed_label": {"marker": "v", "filled": False, "markersize": 3.6},
}
MORE = (
    "In a to f a supervised sample is one labelled token, a guess one whole answer; closed forms "
    "take positions as alike, which those of policy gradients do not stay. In g and i absorbed "
    "is that of the top label, and the axis is linear around 0, since means may be below."
)


def excess_axis(ax: Axes, linear: float, bottom: float, top: float) -> None:
    """Excess loss from right to left, and a vertical axis that is linear around 0.

    Near the floor supervised learning loses as much as it gains, and the mean may be below 0.
    """
    ax.set_xscale("log")
    ax.set_xlim(16, 2e-4)
    ax.set_xticks([10, 1, 0.1, 0.01, 0.001], ["10", "1", ".1", ".01", ".001"])
    ax.set_yscale("symlog", linthresh=linear, linscale=0.5)
    ax.set_ylim(bottom, top)
    # Labels at the ends of the linear part would lie on that of 0.
    shown = [tick for tick in ax.get_yticks() if bottom <= tick <= top]
    ax.set_yticks([tick for tick in shown if tick == 0 or abs(tick) > 3 * linear])
    ax.axhline(0.0, color="grey", linewidth=0.5)
    main_figure.start_line(ax)


def noisy_bits(ax: Axes, table: pd.DataFrame) -> None:
    """Bits of the top label for all learners; of the labels' law for supervised learning only.

    Policy gradient converges to the top label, so that its loss on the law of labels diverges.
    """
    excess_axis(ax, 1e-5, -1e-4, 30)
    for quantity, look in NOISY_LOOKS.items():
        learners = (SUPERVISED,) if quantity == "absorbed_label" else (SUPERVISED, GUESSING)
        main_figure.draw(
            main_figure.select(table, NOISY, *learners), ax, quantity, "excess_loss", **look
        )
    ax.set(xlabel="excess loss (bit)", ylabel="information (bit/sample)")
    mark: dict[str, Any] = {
        "color": "black",
        "marker": "v",
        "markerfacecolor": "white",
        "linestyle": "none",
    }
    handle = Line2D([], [], label="absorbed, law of labels", **mark)
    ax.legend(handles=[handle], loc="upper right", bbox_to_anchor=(1.02, 0.76), borderaxespad=0)


def noisy_per_flop(ax: Axes, table: pd.DataFrame) -> None:
    """Bits of the top label per FLOP by both ledgers."""
    excess_axis(ax, 1e-8, -1e-5, 1e-2)
    for quantity, filled in (("absorbed_per_flop", True), ("absorbed_per_flop_counted", False)):
        rows = main_figure.select(table, NOISY, SUPERVISED, GUESSING)
        main_figure.draw(rows, ax, quantity, "excess_loss", filled=filled)
    ax.set(xlabel="excess loss (bit)", ylabel="absorbed (bit/FLOP)")


def supplement(table: pd.DataFrame, faint: pd.DataFrame) -> Figure:
    """Rows: the sequence told exactly or by token, the noisy labels; two columns wide.

    `table` is the phase table of each learner's best rate, `faint` that of all rates.
    """
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 7.6), layout="constrained")
        axes = made.subplots(3, 3)
        for row, world in zip(axes, SEQUENCES, strict=False):
            forms = closed_forms(CLEAN[world])
            main_figure.bits(row[0], table, faint, world, forms)
            row[0].set_ylim(3e-7, 30)  # room for the legend
            main_figure.noise(row[1], table, world, forms)
            main_figure.per_flop(row[2], table, faint, world)
        noisy_bits(axes[2, 0], table)
        main_figure.noisy_noise(axes[2, 1], table)
        noisy_per_flop(axes[2, 2], table)
        names = [*SEQUENCES, NOISY]
        what = ("bits per sample", "gradient noise", "bits per FLOP")
        titles = [f"{name}: {measure}" for name in names for measure in what]
        for ax, letter, title in zip(axes.flat, "abcdefghi", titles, strict=True):
            plots.panel_letter(ax, letter, title[0].upper() + title[1:])
        main_figure.legend(made)
        text = main_figure.note(table, faint, MORE)
        made.supxlabel(text, x=0.01, ha="left", fontsize=7, linespacing=1.3)
    return made


def write(table: pd.DataFrame, faint: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw the supplement and save it in the folder."""
    return main_figure.save(supplement(table, faint), folder, "figure_worlds")
