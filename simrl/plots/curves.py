"""Tables into pictures: (table, ax) -> ax. Nothing is computed here but colours and labels.

`line` draws a curve table (`simrl.curve_table`), `points` a phase table (`simrl.phase_table`).
Both draw the columns mean, low and high as they stand; a row whose mean is NaN (a phase that no
seed reached) is not drawn.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from simrl.plots.style import COLOURS, CYCLE, GREY

MEASURED = ("quantity", "units", "mean", "low", "high", "num_seeds")
NAMES = {
    "absorbed": "absorbed information",
    "absorbed_label": "absorbed information about the labels",
    "absorbed_per_flop": "absorbed information per FLOP",
    "absorbed_per_flop_counted": "absorbed information per counted FLOP",
    "nominal": "nominal information",
    "expected": "expected information",
    "realised": "realised information",
    "expected_joint": "expected information of the batch",
    "realised_joint": "realised information of the batch",
    "excess_loss": "excess loss KL(labels‖policy)",
    "noise_scale": "gradient noise scale",
    "samples": "samples",
    "step": "updates",
}
MANY = 4  # entries of a legend; more stand above the panel
NOT_POSITIVE = "not positive"  # names the note on a logarithmic axis


def label_of(name: str, units: str = "1") -> str:
    """An axis label: the quantity in words and its units, which "1" has none of."""
    words = NAMES.get(name, str(name).replace("_", " "))
    return words if units in ("", "1") else f"{words} ({units})"


def seeds_of(rows: pd.DataFrame) -> str:
    """How many seeds stand behind the rows: "n = 30–4,096 seeds"."""
    fewest, most = int(rows["num_seeds"].min()), int(rows["num_seeds"].max())
    number = f"{most:,}" if fewest == most else f"{fewest:,}–{most:,}"
    return f"n = {number} {'seed' if most == 1 else 'seeds'}"


def line(
    table: pd.DataFrame,
    ax: Axes,
    x: str = "samples",
    by: str | Sequence[str] | None = None,
    *,
    quantity: str | None = None,
    confidence: float = 0.95,
    faint: bool = False,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw one line per value of `by` with its band low..high; returns ax, labelled.

    Args:
      table: of `simrl.curve_table`: columns x, `by`, quantity, units, mean, low, high, num_seeds.
      ax: where to draw.
      x: column of the horizontal axis.
      by: the column, or columns, that tell the lines apart; the first gives the colour.
      quantity: which one, where the table holds several.
      confidence: the level the table was made with, for the legend.
      faint: thin, pale, without a band or a legend entry.
      legend: whether to (re)draw the legend, with the meaning of the band and n in its title.
      **style: for `ax.plot`.

    Raises:
      ValueError: a column is missing or several rows share a line and an x.
    """
    rows = _rows(table, _only_quantity(table, quantity), x)
    for name, colour, part in _groups(rows, by):
        part = _drawable(part, ax).sort_values("at", kind="stable")
        look = {"color": colour, **(_faint() if faint else {"label": name}), **style}
        ax.plot(part["at"], part["mean"], **look)
        if not faint:
            band = {"color": look["color"], "alpha": 0.2, "linewidth": 0}
            ax.fill_between(part["at"], part["low"], part["high"], **band)
    return _finish(ax, rows, table, x, by, "band", confidence, legend and not faint)


def points(
    table: pd.DataFrame,
    ax: Axes,
    x: str = "pass_rate",
    quantity: str = "absorbed",
    by: str | Sequence[str] | None = "learner",
    *,
    min_seeds: int = 1,
    filled: bool = True,
    faint: bool = False,
    confidence: float = 0.95,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw one point per phase with its bar low..high; returns ax, labelled.

    Args:
      table: of `simrl.phase_table`: columns `by`, phase, quantity, units, mean, low, high,
        num_seeds.
      ax: where to draw. On a logarithmic axis what is not positive cannot be drawn: how many
        points that were is then written in the panel.
      x: a quantity of the table, whose mean in the phase is the place, or a column.
      quantity: what is drawn.
      by: the column, or columns, that tell the series apart; the first gives the colour.
      min_seeds: leave out phases that fewer seeds visited.
      filled: whether markers are filled.
      faint: a thin pale line instead of markers and bars, without a legend entry.
      confidence: the level the table was made with, for the legend.
      legend: whether to (re)draw the legend, with the meaning of the bars and n in its title.
      **style: for `ax.plot`; by default round markers that no line joins.

    Raises:
      ValueError: a column or quantity is missing, or several rows share a series and a phase.
    """
    rows = _rows(table, quantity, x)
    rows = rows[rows["num_seeds"] >= min_seeds]
    for name, colour, part in _groups(rows, by, "phase"):
        part = _drawable(part, ax)
        if faint:
            ax.plot(part["at"], part["mean"], **{"color": colour, **_faint(), **style})
            continue
        look = {"color": colour, "marker": "o", "linestyle": "none", "label": name, **style}
        face = look["color"] if filled else "white"
        drawn = ax.plot(part["at"], part["mean"], **{"markerfacecolor": face, **look})
        bars = {"color": look["color"], "linewidth": 0.8, "zorder": drawn[0].get_zorder() - 0.1}
        ax.vlines(part["at"], part["low"], part["high"], **bars)
    return _finish(ax, rows, table, x, by, "bars", confidence, legend and not faint)


def _faint() -> dict[str, Any]:
    return {"linewidth": 0.5, "alpha": 0.35, "zorder": 1.0}


def _only_quantity(table: pd.DataFrame, quantity: str | None) -> str:
    """The quantity of a table that holds one."""
    found = list(dict.fromkeys(table["quantity"]))
    if quantity is None and len(found) != 1:
        raise ValueError(f"the table holds {len(found)} quantities: say which, of {found}")
    return found[0] if quantity is None else quantity


def _rows(table: pd.DataFrame, quantity: str, x: str) -> pd.DataFrame:
    """The rows of a quantity that have a mean, with a column `at`, their place along x."""
    held = set(table["quantity"])
    if quantity not in held:
        raise ValueError(f"no quantity {quantity!r} in the table; it has {sorted(held)}")
    rows = table[table["quantity"] == quantity]
    if x in table.columns:
        rows = rows.assign(at=rows[x])
    elif x in held:
        keys = [column for column in table.columns if column not in MEASURED]
        place = table.loc[table["quantity"] == x, [*keys, "mean"]].rename(columns={"mean": "at"})
        rows = rows.merge(place, on=keys, how="left")
    else:
        raise ValueError(f"{x!r} is neither a column nor a quantity of the table")
    return rows[rows["mean"].notna() & rows["at"].notna()]


def _groups(
    rows: pd.DataFrame, by: str | Sequence[str] | None, once: str = "at"
) -> Iterator[tuple[str, Any, pd.DataFrame]]:
    """(label, colour, rows) of each series."""
    columns = _columns(by)
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        raise ValueError(f"no column {missing[0]!r} in the table; it has {list(rows.columns)}")
    if rows.duplicated([*columns, *([once] if once in rows.columns else ["at"])]).any():
        told = f"by={by!r} does not tell them apart" if columns else "say by which column"
        raise ValueError(f"several rows share one {once} of one series: {told}, or select rows")
    if not columns:
        if len(rows):
            yield label_of(rows["quantity"].iloc[0]), CYCLE[0], rows
        return
    colours = _colours(rows[columns[0]])
    for values, part in rows.groupby(columns, sort=False):
        yield ", ".join(_value(value) for value in values), colours[values[0]], part


def _columns(by: str | Sequence[str] | None) -> list[str]:
    if by is None:
        return []
    return [by] if isinstance(by, str) else list(by)


def _colours(values: pd.Series) -> dict[Any, Any]:
    """Colour of each value: a learner's own, along a ramp for numbers, else the cycle's."""
    found = list(dict.fromkeys(values))
    if pd.api.types.is_numeric_dtype(values) and len(found) > 2:
        ramp = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(found)))
        return dict(zip(sorted(found), ramp, strict=True))
    return {v: COLOURS.get(v, CYCLE[i % len(CYCLE)]) for i, v in enumerate(found)}


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("_", " ")


def _drawable(rows: pd.DataFrame, ax: Axes) -> pd.DataFrame:
    """Rows that the vertical axis can show; on a logarithmic one the others are counted on it."""
    if ax.get_yscale() != "log":
        return rows
    lost = int((rows["mean"] <= 0).sum())
    if lost:
        notes = [text for text in ax.texts if text.get_gid() == NOT_POSITIVE]
        before = int(notes[0].get_text().split()[0]) if notes else 0
        note = notes[0] if notes else ax.text(1, 1, "", transform=ax.transAxes, fontsize=7)
        note.set(gid=NOT_POSITIVE, color=GREY, ha="right", va="top")
        note.set_text(f"{before + lost} points ≤ 0 not drawn")
    return rows[rows["mean"] > 0]


def _finish(
    ax: Axes,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    x: str,
    by: str | Sequence[str] | None,
    what: str,
    confidence: float,
    legend: bool,
) -> Axes:
    """Axis labels where there are none yet, and the legend with its title."""
    place = table.loc[table["quantity"] == x, "units"]
    if not ax.get_xlabel():
        ax.set_xlabel(label_of(x, place.iloc[0] if len(place) else "1"))
    if not ax.get_ylabel() and len(rows):
        ax.set_ylabel(label_of(rows["quantity"].iloc[0], rows["units"].iloc[0]))
    if legend and len(rows):
        names = ", ".join(label_of(column) for column in _columns(by))
        note = f"{what}: {100 * confidence:g} % interval over {seeds_of(rows)}"
        title = f"{names}\n{note}" if names else note
        shown = len(ax.get_legend_handles_labels()[1])
        # Many entries hide what they tell of, wherever in the panel they are.
        above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 4}
        ax.legend(title=title, alignment="left", **(above if shown > MANY else {}))
    return ax
