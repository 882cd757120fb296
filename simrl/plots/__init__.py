"""Figures for a paper from tables: style and (table, ax) -> ax; the only room with matplotlib."""

from simrl.plots.curves import label_of, line, points, seeds_of
from simrl.plots.style import (
    COLOURS,
    CYCLE,
    ONE_COLUMN,
    RC,
    TWO_COLUMNS,
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
    "label_of",
    "line",
    "log_odds_axis",
    "panel_letter",
    "paper",
    "points",
    "save",
    "seeds_of",
]
