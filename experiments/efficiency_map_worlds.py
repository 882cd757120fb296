"""The supplement to the figure of the efficiency map: the other worlds, one a row."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments import captions
from experiments import efficiency_map_figure as main_figure
from experiments.efficiency_map_figure import CLEAN, NOISY
from experiments.efficiency_map_forms import GUESSING, SUPERVISED, closed_forms
from simrl import plots

NAME = "figure_worlds"
SEQUENCES = (main_figure.EXACT, main_figure.TOKEN)
NOISY_LOOKS: dict[str, dict[str, Any]] = {
    "nominal": {"marker": "o", "filled": False, "markersize": 4.8},
    "absorbed": {"marker": "^", "filled": True, "markersize": 3.6},
    "absorbed_label": {"marker": "v", "filled": False, "markersize": 3.6},
}
TITLES = {main_figure.EXACT: "Exact match", main_figure.TOKEN: "Token rewards"}
TITLES[NOISY] = "Noisy labels"
MORE = """
Answers of three symbols of eight, with a reward for the whole answer (a to c) or for each symbol
(d to f); a supervised sample is one labelled symbol, a policy gradient's one whole answer. Closed
forms are of a policy with equal positions; policy gradients with token rewards leave that, and
their points in e lie off the line at high pass rates by up to a factor of 3. Noisy labels (g to i):
one of ten symbols by Zipf's law; learned bits are those of the most frequent label, and the axis is
linear around 0, since means may be negative.
"""


def signed_axis(ax: Axes, linear: float, bottom: float, top: float) -> None:
    """Make the vertical axis logarithmic on both sides of 0 and linear around it.

    Near its floor supervised learning loses as much as it gains, and the mean may be below 0.
    """
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=linear, linscale=0.5)
    ax.set_ylim(bottom, top)
    # Labels at the ends of the linear part would lie on that of 0.
    shown = [tick for tick in ax.get_yticks() if bottom <= tick <= top]
    ax.set_yticks([tick for tick in shown if tick == 0 or abs(tick) > 3 * linear])
    ax.axhline(0.0, color="grey", linewidth=0.5)


def noisy_bits(ax: Axes, table: pd.DataFrame) -> None:
    """Bits of the top label for all learners; of the labels for supervised learning only.

    Policy gradient converges to the top label, so that its loss on the labels diverges.
    """
    signed_axis(ax, 1e-5, -3e-4, 30)
    for quantity, look in NOISY_LOOKS.items():
        learners = (SUPERVISED,) if quantity == "absorbed_label" else (SUPERVISED, GUESSING)
        main_figure.draw(
            main_figure.select(table, NOISY, *learners), ax, quantity, "excess_loss", **look
        )
    main_figure.excess_axis(ax)
    ax.set_ylabel("information (bit/sample)")
    mark: dict[str, Any] = {
        "color": "black",
        "marker": "v",
        "markerfacecolor": "white",
        "linestyle": "none",
    }
    handle = Line2D([], [], label="learned bits, all labels", **mark)
    ax.legend(handles=[handle], loc="upper right", bbox_to_anchor=(1.02, 0.76), borderaxespad=0)


def noisy_per_flop(ax: Axes, table: pd.DataFrame) -> None:
    """Bits of the top label per FLOP by both conventions."""
    signed_axis(ax, 1e-8, -3e-5, 1e-2)
    for quantity, filled in (("absorbed_per_flop", True), ("absorbed_per_flop_counted", False)):
        rows = main_figure.select(table, NOISY, SUPERVISED, GUESSING)
        main_figure.draw(rows, ax, quantity, "excess_loss", filled=filled, marker="o")
    main_figure.excess_axis(ax)
    ax.set_ylabel("learned bits (bit/FLOP)")


def supplement(table: pd.DataFrame, faint: pd.DataFrame) -> Figure:
    """Draw rows: the sequence with rewards for the whole or by token, the noisy labels.

    `table` is the phase table of each learner's best rate, `faint` that of all rates.
    """
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 7.2), layout="constrained")
        axes = made.subplots(3, 3)
        for above, below in zip(axes[0], axes[1], strict=True):
            below.sharex(above)
            below.sharey(above)
        for row, world in zip(axes, SEQUENCES, strict=False):
            forms = closed_forms(CLEAN[world])
            main_figure.bits(row[0], table, faint, world, forms)
            main_figure.noise(row[1], table, world, forms)
            main_figure.per_flop(row[2], table, faint, world)
        axes[0, 0].set_ylim(1e-7, 30)  # room for the legend
        low, high = axes[0, 2].get_ylim()
        axes[0, 2].set_ylim(low / 10, high)
        noisy_bits(axes[2, 0], table)
        main_figure.noisy_noise(axes[2, 1], table)
        noisy_per_flop(axes[2, 2], table)
        what = ("bits/sample", "noise", "bits/FLOP")
        titles = [f"{TITLES[name]}: {of}" for name in (*SEQUENCES, NOISY) for of in what]
        for ax, letter, title in zip(axes.flat, "abcdefghi", titles, strict=True):
            plots.panel_letter(ax, letter, title)
        main_figure.legend(made)
        captions.note(made, main_figure.note(table, faint))
    return made


def write(table: pd.DataFrame, faint: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw the supplement and save it with its caption in the folder."""
    text = MORE + main_figure.MEANING
    return captions.save(supplement(table, faint), folder, text, NAME)


def is_drawn(folder: Path) -> bool:
    """Returns whether the supplement is in the folder, drawn by the sources as they are now."""
    picture = folder / f"{NAME}.png"
    rooms = Path(__file__).parent, Path(plots.__file__).parent
    newest = max(file.stat().st_mtime for room in rooms for file in room.glob("*.py"))
    return picture.exists() and picture.stat().st_mtime > newest
