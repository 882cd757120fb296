"""From a table to series: which rows belong together, where they stand, how they look.

Nothing is computed here but colours and labels; a row whose mean is NaN (a phase that no seed
reached) belongs to no series.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd

from simrl.plots.style import COLOURS, CYCLE

By = str | Sequence[str] | None
Colors = Mapping[Any, Any] | Sequence[Any] | None

NEEDED = ("quantity", "units", "mean", "low", "high", "num_seeds")
MEASURED = (*NEEDED, "statistic", "few_seeds", "num_diverged")
# What a curve is drawn against, and its unit.
COUNTS = {"samples": "samples", "step": "updates", "flops": "FLOPs", "flops_counted": "FLOPs"}
PLACES = (*COUNTS, "phase", "phase_low", "phase_high")
NAMES = {
    "absorbed": "learned bits",
    "absorbed_label": "learned bits about the labels",
    "absorbed_per_flop": "learned bits per FLOP",
    "absorbed_per_flop_counted": "learned bits per counted FLOP",
    "nominal": "essay's nominal bits",
    "expected": "mutual information",
    "realised": "pointwise information",
    "expected_joint": "mutual information of the batch",
    "realised_joint": "pointwise information of the batch",
    "efficiency": "learned bits / pointwise information",
    "excess_loss": "excess loss KL(labels‖policy)",
    "noise_scale": "gradient noise scale",
    "dead_share": "zero-advantage fraction",
    "flops": "FLOPs (2N/4N convention)",
    "flops_counted": "FLOPs (counted operations)",
    "step": "updates",
}
MARKERS = "osD^vPX*"  # told apart in grey, too
DASHES = ("-", "--", ":", "-.")


class Series(NamedTuple):
    """Rows that belong together and how they are drawn."""

    label: str
    color: Any
    marker: str
    dashes: str
    rows: pd.DataFrame  # with a column `at`: the place along x


def label_of(name: str, units: str = "1") -> str:
    """Return an axis label: the quantity in words and its units, which "1" has none of.

    Units say what bits are counted by, where a name ends by that.
    """
    whole = str(name)
    for ending in ("_per_token", "_per_trajectory", "_per_update"):
        whole = whole.removesuffix(ending)
    words = NAMES.get(name, NAMES.get(whole, str(name).replace("_", " ")))
    return words if units in ("", "1") else f"{words} ({units})"


def seeds_of(rows: pd.DataFrame) -> str:
    """Return how many seeds stand behind the rows: "n = 30–4,096 seeds, 2 diverged"."""
    fewest, most = int(rows["num_seeds"].min()), int(rows["num_seeds"].max())
    number = f"{most:,}" if fewest == most else f"{fewest:,}–{most:,}"
    lost = int(rows["num_diverged"].max()) if "num_diverged" in rows.columns else 0
    diverged = f", {lost:,} diverged" if lost else ""
    return f"n = {number} {'seed' if most == 1 else 'seeds'}{diverged}"


def check_table(table: Any, source: str) -> None:
    """Raise ValueError unless `table` is a DataFrame with the columns of simrl.<source>."""
    if not isinstance(table, pd.DataFrame):
        kind = type(table).__name__
        raise ValueError(f"table: must be a DataFrame of simrl.{source}(data, …), got {kind}")
    for column in NEEDED:
        if column not in table.columns:
            names = ", ".join(map(str, table.columns))
            problem = f"table: must have a column {column!r}, as of simrl.{source}, got {names}"
            raise ValueError(problem if len(problem) <= 300 else f"{problem[:299]}…")


def only_quantity(table: pd.DataFrame, quantity: str | None) -> str:
    """Return `quantity`, or the only one of the table where it is None."""
    names = list(dict.fromkeys(table["quantity"]))
    if quantity is None and len(names) != 1:
        raise ValueError(f"quantity: must be one of {', '.join(names)}, got None")
    return names[0] if quantity is None else quantity


def select_rows(table: pd.DataFrame, quantity: str, x: str) -> pd.DataFrame:
    """Return the rows of a quantity that have a mean, with a column `at`: the place along x."""
    names = sorted(set(table["quantity"]))
    if quantity not in names:
        raise ValueError(f"quantity: must be one of {', '.join(names)}, got {quantity!r}")
    rows = table[table["quantity"] == quantity]
    if x in table.columns:
        rows = rows.assign(at=rows[x])
    elif x in names:
        keys = [column for column in table.columns if column not in MEASURED]
        place = table.loc[table["quantity"] == x, [*keys, "mean"]].rename(columns={"mean": "at"})
        rows = rows.merge(place, on=keys, how="left")
    else:
        raise ValueError(f"x: must be a column or a quantity of the table, got {x!r}")
    return rows[rows["mean"].notna() & rows["at"].notna()]


def infer_by(rows: pd.DataFrame, by: By, once: str) -> list[str]:
    """Return the columns that tell the series apart, each with one row for a value of `once`.

    Where `by` is None they are the axes of the table that vary, as many as are needed.
    """
    if by is not None:
        return _checked([by] if isinstance(by, str) else list(by), rows, once)
    columns: list[str] = []
    for name in (name for name in rows.columns if name not in (*MEASURED, *PLACES, "at")):
        if not rows.duplicated([*columns, once]).any():
            break
        if rows[name].nunique() > 1:
            columns.append(name)
    return _checked(columns, rows, once)


def _checked(columns: list[str], rows: pd.DataFrame, once: str) -> list[str]:
    for column in columns:
        if column not in rows.columns:
            names = ", ".join(map(str, rows.columns.drop("at")))
            raise ValueError(f"by: must be of the columns {names}, got {column!r}")
    if rows.duplicated([*columns, once]).any():
        where = "x" if once == "at" else once
        raise ValueError(
            f"by: must leave one row for each {where} of a series, got {columns}: "
            "name further columns or select rows"
        )
    return columns


def split(rows: pd.DataFrame, columns: Sequence[str], colors: Colors = None) -> Iterator[Series]:
    """Yield a Series for each combination of values of the columns.

    The first column gives the colour; markers differ between all values of one column, or of the
    others where there are several, as do the dashes.
    """
    if not len(rows):
        return
    if not columns:
        label = label_of(rows["quantity"].iloc[0])
        yield Series(label, _colours([label], colors)[label], MARKERS[0], DASHES[0], rows)
        return
    first, rest = rows[columns[0]], list(columns[1:])
    levels = list(dict.fromkeys(first))
    colours = _colours(levels, colors, numeric=pd.api.types.is_numeric_dtype(first))
    others = list(dict.fromkeys(rows[rest].itertuples(index=False, name=None)))
    for values, part in rows.groupby(list(columns), sort=False):
        kind = others.index(tuple(values[1:])) if rest else 0
        marker = MARKERS[(kind if rest else levels.index(values[0])) % len(MARKERS)]
        label = ", ".join(format_value(value) for value in values)
        dashes = DASHES[kind % len(DASHES)]
        yield Series(label, colours[values[0]], marker, dashes, part)


def format_value(value: Any) -> str:
    """Return a value of an axis as the legend has it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("_", " ")


def _colours(levels: list[Any], colors: Colors, numeric: bool = False) -> dict[Any, Any]:
    """Colour of each level: the caller's, else along a ramp for numbers, else the house's."""
    if isinstance(colors, Mapping):
        own = {level: colors.get(level, colors.get(format_value(level))) for level in levels}
        for level, colour in own.items():
            if colour is None:
                raise ValueError(f"colors: must have a colour for {level!r}, got {list(colors)}")
        return own
    if isinstance(colors, str):
        raise ValueError(f"colors: must be a mapping or a sequence of colours, got {colors!r}")
    if colors is not None:
        if len(colors) < len(levels):
            raise ValueError(f"colors: must be at least {len(levels)} colours, got {len(colors)}")
        return dict(zip(levels, colors, strict=False))
    if numeric and len(levels) > 2:
        ramp = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(levels)))
        return dict(zip(sorted(levels), ramp, strict=True))
    return _house_colours(levels)


def _house_colours(levels: list[Any]) -> dict[Any, Any]:
    """A learner's own colour where it is free, else the next of the cycle that is."""
    chosen: dict[Any, Any] = {}
    for level in levels:
        colour = COLOURS.get(str(level).lower())
        if colour is not None and colour not in chosen.values():
            chosen[level] = colour
    free = [colour for colour in CYCLE if colour not in chosen.values()] or list(CYCLE)
    rest = [level for level in levels if level not in chosen]
    return chosen | {level: free[i % len(free)] for i, level in enumerate(rest)}
