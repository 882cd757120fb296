"""Legends outside the data: below the panel, as wide as it is."""

import textwrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.transforms import ScaledTranslation

GAP = 4.0  # points between the axis label and the legend
MAX_COLUMNS = 6
NO_BREAK = "\u00a0"
EM = 0.5  # mean width of a character in units of the font size


def legend_below(ax: Axes, notes: list[str]) -> Legend:
    """Draw the legend of all labelled artists of `ax` below its axis label; returns it.

    The constrained layout makes room for it; a figure gets that if it has no layout of its own and
    its margins are the defaults.
    """
    figure = _figure(ax)
    _make_room(figure)
    below = ax.xaxis.get_tightbbox()
    bottom = ax.bbox.y0 if below is None else min(below.y0, ax.bbox.y0)
    drop = (bottom - ax.bbox.y0) / figure.dpi - GAP / 72
    place = ax.transAxes + ScaledTranslation(0, drop, figure.dpi_scale_trans)
    about: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": place}
    about |= {"alignment": "left", "borderpad": 0, "borderaxespad": 0, "frameon": False}
    most = min(len(ax.get_legend_handles_labels()[1]), MAX_COLUMNS)
    for ncols in range(most, 0, -1):
        legend = ax.legend(ncols=ncols, **about)
        if legend.get_window_extent().width <= ax.bbox.width:
            break
    size = matplotlib.rcParams["legend.title_fontsize"] or matplotlib.rcParams["legend.fontsize"]
    whole = "; ".join(note.replace(" ", NO_BREAK) for note in notes)
    legend.set_title(wrap(whole, ax.bbox.width / figure.dpi, size))
    return legend


def wrap_label(ax: Axes, label: str) -> str:
    """Return the label of the vertical axis, broken where the panel above the legend ends."""
    legend, figure = ax.get_legend(), _figure(ax)
    lost = 0.0 if legend is None else legend.get_window_extent().height
    room = max(ax.bbox.height - lost, 0.4 * ax.bbox.height) / figure.dpi
    return wrap(label, room, matplotlib.rcParams["axes.labelsize"])


def wrap(text: str, inches: float, size: Any) -> str:
    """Return the text in lines of at most that length, at least 12 characters each."""
    points = FontProperties(size=size).get_size_in_points()
    return textwrap.fill(text, max(int(72 * inches / (EM * points)), 12), break_long_words=False)


def _figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def _make_room(figure: Figure) -> None:
    defaults = matplotlib.rcParams.find_all(r"^figure\.subplot\.").items()
    adjusted = any(
        getattr(figure.subplotpars, name.split(".")[-1]) != value for name, value in defaults
    )
    if figure.get_layout_engine() is None and not adjusted:
        figure.set_layout_engine("constrained")
