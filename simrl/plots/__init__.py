"""Figures for a paper from tables: style and (table, ax) -> ax; the only room with matplotlib."""

from simrl.plots.curves import line, points
from simrl.plots.series import label_of, seeds_of
from simrl.plots.style import (
    COLOURS,
    CYCLE,
    ONE_COLUMN,
    RC,
    TWO_COLUMNS,
    WIDTHS,
    log_odds_axis,
    panel_letter,
    paper,
    save,
)

__all__ = [
    "COLOURS",
    "CYCLE",
    "ONE_COLUMN",
    "RC",
    "TWO_COLUMNS",
    "WIDTHS",
    "label_of",
    "line",
    "log_odds_axis",
    "panel_letter",
    "paper",
    "points",
    "save",
    "seeds_of",
]
