"""Tables into pictures: (table, ax) -> ax.

`line` draws a curve table (`simrl.curve_table`), `points` a phase table (`simrl.phase_table`).
Both draw the columns mean, low and high as they stand.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from simrl.plots.legend import legend_below, wrap_label
from simrl.plots.series import (
    COUNTS,
    By,
    Colors,
    check_table,
    infer_by,
    label_of,
    only_quantity,
    seeds_of,
    select_rows,
    split,
)
from simrl.plots.style import GREY
from simrl.sweeps.quantities import enough_seeds

MAX_MARKED = 40  # points of a curve that get a marker, at most
NOT_DRAWN = "not drawn"  # names the note of what an axis cannot show


def line(
    table: pd.DataFrame,
    ax: Axes | None = None,
    x: str = "samples",
    by: By = None,
    *,
    quantity: str | None = None,
    xscale: str | None = None,
    colors: Colors = None,
    confidence: float = 0.95,
    faint: bool = False,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw one line per value of `by` with its band low..high; returns ax, labelled.

    Args:
      table: of `simrl.curve_table`: columns x, `by`, quantity, units, mean, low, high, num_seeds.
      ax: where to draw; None: the current axes (`plt.gca()`).
      x: column of the horizontal axis: samples, step, flops, flops_counted or another.
      by: the column, or columns, that tell the lines apart; the first gives the colour, the others
        the dashes. None: the axes of the sweep that vary.
      quantity: which one, where the table holds several.
      xscale: "log", "linear", "symlog" …; None: "log" for counts on new axes, since evaluations
        are spaced by their logarithm. It has no place for a start at 0, which the legend then says.
      colors: a mapping from each value of the first column, or a sequence in the table's order.
      confidence: the level the table was made with, for the legend.
      faint: thin, pale, without a band or a legend entry.
      legend: whether to (re)draw the legend, with the meaning of the band and n in its title.
      **style: for `ax.plot`.

    Raises:
      ValueError: not a table, a column is missing, or several rows share a line and an x.
    """
    check_table(table, "curve_table")
    ax = _axes(ax)
    rows = select_rows(table, only_quantity(table, quantity), x)
    columns = infer_by(rows, by, "at")
    _set_scale(ax, rows["at"], x, xscale)
    notes = _notes(rows, ax, x, "band", confidence)
    for series in split(rows, columns, colors):
        part = _drawable(series.rows, ax).sort_values("at", kind="stable")
        look = {"color": series.color, "linestyle": series.dashes}
        if faint:
            ax.plot(part["at"], part["mean"], **{**look, **_faint(), **style})
            continue
        marker = series.marker if len(part) <= MAX_MARKED else ""
        look |= {"label": series.label, "marker": marker, "markersize": 2.4, **style}
        ax.plot(part["at"], part["mean"], **look)
        band = {"color": look["color"], "alpha": 0.2, "linewidth": 0}
        ax.fill_between(part["at"], part["low"], part["high"], **band)
    return _finish(ax, rows, table, x, columns, notes if legend and not faint else None)


def points(
    table: pd.DataFrame,
    ax: Axes | None = None,
    x: str = "pass_rate",
    quantity: str = "absorbed",
    by: By = None,
    *,
    min_seeds: int = 1,
    filled: bool = True,
    colors: Colors = None,
    faint: bool = False,
    confidence: float = 0.95,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw one point per phase with its bar low..high; returns ax, labelled.

    A point of few seeds (`few_seeds` of the table) has no bar, since it would be too short.

    Args:
      table: of `simrl.phase_table`: columns `by`, phase, quantity, units, mean, low, high,
        num_seeds.
      ax: where to draw; None: the current axes (`plt.gca()`). What a logarithmic axis cannot show
        is counted in the panel.
      x: a quantity of the table, whose mean in the phase is the place, or a column.
      quantity: what is drawn.
      by: the column, or columns, that tell the series apart; the first gives the colour, the others
        the marker. None: the axes of the sweep that vary.
      min_seeds: leave out phases that fewer seeds visited.
      filled: whether markers are filled.
      colors: a mapping from each value of the first column, or a sequence in the table's order.
      faint: a thin pale line instead of markers and bars, without a legend entry.
      confidence: the level the table was made with, for the legend.
      legend: whether to (re)draw the legend, with the meaning of the bars and n in its title.
      **style: for `ax.plot`; by default markers that no line joins.

    Raises:
      ValueError: not a table, a column or quantity is missing, or several rows share a series and
        a phase.
    """
    check_table(table, "phase_table")
    ax = _axes(ax)
    rows = select_rows(table, quantity, x)
    rows = rows[rows["num_seeds"] >= min_seeds]
    columns = infer_by(rows, by, "phase" if "phase" in rows.columns else "at")
    notes = _notes(rows, ax, x, "bars", confidence)
    for series in split(rows, columns, colors):
        part = _drawable(series.rows, ax)
        if faint:
            ax.plot(part["at"], part["mean"], **{"color": series.color, **_faint(), **style})
            continue
        look = {"color": series.color, "marker": series.marker, "linestyle": "none"}
        look |= {"label": series.label, **style}
        face = look["color"] if filled else "white"
        [marks] = ax.plot(part["at"], part["mean"], **{"markerfacecolor": face, **look})
        bars = {"color": look["color"], "linewidth": 0.8, "zorder": marks.get_zorder() - 0.1}
        sure = part[~part["few_seeds"]] if "few_seeds" in part else part
        ax.vlines(sure["at"], sure["low"], sure["high"], **bars)
    return _finish(ax, rows, table, x, columns, notes if legend and not faint else None)


def _axes(ax: Axes | None) -> Axes:
    return plt.gca() if ax is None else ax


def _faint() -> dict[str, Any]:
    return {"linewidth": 0.5, "alpha": 0.35, "zorder": 1.0}


def _set_scale(ax: Axes, at: pd.Series, x: str, xscale: str | None) -> None:
    """Set the scale of x: as the caller says, else logarithmic for counts on new axes."""
    positive = at[at > 0]
    spread = len(positive) > 0 and positive.max() >= 10 * positive.min()
    if xscale is None and x in COUNTS and spread and not ax.has_data():
        xscale = "log" if ax.get_xscale() == "linear" else None
    if xscale == "symlog" and spread:
        ax.set_xscale(xscale, linthresh=10.0 ** np.floor(np.log10(positive.min())))
    elif xscale is not None:
        ax.set_xscale(xscale)


def _shown(values: pd.Series, scale: str) -> pd.Series:
    """Which values an axis of this scale has a place for."""
    low = 0.0 if scale in ("log", "logit") else -np.inf
    return (values > low) & (values < (1.0 if scale == "logit" else np.inf))


def _drawable(rows: pd.DataFrame, ax: Axes) -> pd.DataFrame:
    """Rows that both axes can show; the others are counted on the panel, a start at 0 apart."""
    shown = _shown(rows["at"], ax.get_xscale()) & _shown(rows["mean"], ax.get_yscale())
    lost = int((~shown & ~_is_start(rows, ax)).sum())
    if lost:
        notes = [text for text in ax.texts if text.get_gid() == NOT_DRAWN]
        before = int(notes[0].get_text().split()[0]) if notes else 0
        note = notes[0] if notes else ax.text(1, 1, "", transform=ax.transAxes, fontsize=7)
        note.set(gid=NOT_DRAWN, color=GREY, ha="right", va="top")
        total = before + lost
        note.set_text(f"{total} {'point' if total == 1 else 'points'} outside the axes not drawn")
    return rows[shown]


def _is_start(rows: pd.DataFrame, ax: Axes) -> pd.Series:
    return (rows["at"] == 0) & (ax.get_xscale() == "log")


def _notes(rows: pd.DataFrame, ax: Axes, x: str, mark: str, confidence: float) -> list[str]:
    """What the legend says of the marks, and of a start that the axis has no place for."""
    if not len(rows):
        return []
    statistic = rows["statistic"].iloc[0] if "statistic" in rows.columns else "mean"
    what = "interval" if statistic == "mean" else f"interval of the {statistic}"
    notes = [f"{mark}: {100 * confidence:g} % {what}", seeds_of(rows)]
    if "few_seeds" in rows and rows["few_seeds"].any():
        notes.append(f"no bar: fewer than {enough_seeds(rows['quantity'].iloc[0]):,} seeds")
    if _is_start(rows, ax).any():
        notes.append(f"0 {COUNTS.get(x, x)} not shown")
    return notes


def _finish(
    ax: Axes,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    x: str,
    columns: list[str],
    notes: list[str] | None,
) -> Axes:
    """Label the axes where they have no label yet, and draw the legend where it has notes."""
    place = table.loc[table["quantity"] == x, "units"]
    if not ax.get_xlabel():
        ax.set_xlabel(label_of(x, place.iloc[0] if len(place) else "1"))
    if notes:
        names = [", ".join(label_of(column) for column in columns)] if columns else []
        legend_below(ax, [*names, *notes])
    if not ax.get_ylabel() and len(rows):
        label = label_of(rows["quantity"].iloc[0], rows["units"].iloc[0])
        ax.set_ylabel(wrap_label(ax, label))
    return ax
