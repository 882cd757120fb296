"""What a sweep found, in a row for each condition."""

import numpy as np
import pandas as pd
import xarray as xr

import simrl
from simrl.sweeps import moments

SHOWN = 0.9  # the pass rate that trajectories are counted to, where it is a threshold
MOST_ROWS = 24


def summary(data: xr.Dataset) -> tuple[pd.DataFrame, str, int]:
    """Returns a row for each condition, the title, and how many columns name the condition."""
    hits = simrl.hitting_table(data)
    rates = hits["pass_rate"].unique()
    chosen = min(rates, key=lambda rate: abs(rate - SHOWN)) if len(rates) else None
    at = hits[hits["pass_rate"] == chosen].reset_index(drop=True)
    rows = []
    for i, (labels, cell) in enumerate(simrl.each_cell(data)):
        mean, error, num_finite, num_seeds = _final(cell)
        text = f"{mean:.3f}" + (f" ± {error:.3f}" if np.isfinite(error) else "")
        row = {**labels, "seeds": num_seeds, "final pass rate": text if num_finite else "–"}
        if len(at):
            own = at.loc[i]
            row["reached"] = f"{own['num_reached']:.0f} of {own['num_seeds']:.0f}"
            # Whole answers, by which learners of tokens and of answers are compared.
            which = "mean" if "moment" in data.dims else "median"
            row[f"{which} trajectories to {chosen:g}"] = float(own[f"trajectories_{which}"])
        if num_finite < num_seeds:
            row["diverged"] = num_seeds - num_finite
        rows.append(row)
    frame = pd.DataFrame(rows)
    if "diverged" in frame:
        frame["diverged"] = frame["diverged"].fillna(0).astype(int)
    num_axes = len(simrl.each_cell(data)[0][0])
    title = f"{len(frame)} condition{'s' * (len(frame) != 1)}; ± one standard error over seeds"
    return frame, title, num_axes


def _final(cell: xr.Dataset) -> tuple[float, float, int, int]:
    """The mean pass rate at the end, its standard error, and of how many seeds of how many."""
    if "moment" in cell.dims:
        rates = cell["pass_rate"].values
        mean, error, num = moments.ratio(rates[np.flatnonzero(np.isfinite(rates[:, 0]))[-1]])
        return float(mean), float(error), int(num), int(cell["total_step"].values[0])
    last = simrl.last_values(cell, "pass_rate")
    finite = np.isfinite(last) & ~np.asarray(cell.get("diverged", False), bool)
    mean, error, num = moments.ratio(moments.of_pair(last[:, None], 1.0, finite[:, None]))
    return float(mean[0]), float(error[0]), int(num[0]), len(last)
