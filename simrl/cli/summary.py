"""What a sweep found, in a row for each condition."""

import numpy as np
import pandas as pd
import xarray as xr

import simrl

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
        last = simrl.last_values(cell, "pass_rate")
        finite = last[np.isfinite(last)]
        row = {**labels, "seeds": len(last), "final pass rate": _with_error(finite)}
        if len(at):
            own = at.loc[i]
            row["reached"] = f"{own['num_reached']} of {own['num_seeds']}"
            # Whole answers, by which learners of tokens and of answers are compared.
            row[f"median trajectories to {chosen:g}"] = float(own["trajectories_median"])
        if len(finite) < len(last):
            row["diverged"] = len(last) - len(finite)
        rows.append(row)
    frame = pd.DataFrame(rows)
    if "diverged" in frame:
        frame["diverged"] = frame["diverged"].fillna(0).astype(int)
    num_axes = len(simrl.each_cell(data)[0][0])
    title = f"{len(frame)} condition{'s' * (len(frame) != 1)}; ± one standard error over seeds"
    return frame, title, num_axes


def _with_error(values: np.ndarray) -> str:
    """The mean of values [N] and its standard error, as text."""
    if values.size < 2:
        return f"{values.mean():.3f}" if values.size else "–"
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(values.size):.3f}"
