"""`simrl figure`: a quantity over training or by phase, from stored results."""

import argparse

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import simrl
from simrl.cli.commands import table
from simrl.errors import SpecError

DECADES = 30.0  # largest over least value from which an axis is logarithmic


def execute(arguments: argparse.Namespace) -> None:
    """Draws a quantity of a result folder; writes <file>.pdf and <file>.png."""
    data = simrl.open(arguments.folder, keep="moments")
    path = arguments.to or arguments.folder / arguments.quantity
    by_phase = arguments.x == "pass_rate" and arguments.quantity != "pass_rate"
    with simrl.plots.paper(arguments.style):
        figure = Figure(layout="constrained")
        ax = figure.subplots()
        if by_phase:
            rows = phase_rows(data, arguments.quantity)
            simrl.plots.points(rows, ax, quantity=arguments.quantity)
            simrl.plots.log_odds_axis(ax)
            if spread(rows[rows["quantity"] == arguments.quantity]["mean"]) > DECADES:
                ax.set_yscale("log")
        else:
            rows = table.of_kind(data, "curve", arguments.quantity)
            if arguments.x not in rows:
                raise SpecError(f"--x: must be a column of the table, got {arguments.x}")
            simrl.plots.line(rows, ax, x=arguments.x)
        paths = simrl.plots.save(figure, path)
    print(f"wrote {' and '.join(str(one) for one in paths)}")


def spread(values: pd.Series) -> float:
    """Returns the largest of some values over the least; 1 if they are not all positive."""
    finite = values[np.isfinite(values)]
    return finite.max() / finite.min() if len(finite) and finite.min() > 0 else 1.0


def phase_rows(data: object, quantity: str) -> pd.DataFrame:
    """Returns the rows of a quantity and of the pass rate, which is the horizontal axis."""
    parts = [table.of_kind(data, "phase", name) for name in ("pass_rate", quantity)]
    return pd.concat(parts, ignore_index=True)
