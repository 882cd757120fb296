"""Tables of moments over seeds: those of `simrl.sweeps.table`, without medians."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from simrl.sweeps import moments
from simrl.sweeps.cells import each_cell, present
from simrl.sweeps.quantities import CURVE_RATIOS, RATIOS, SHARES
from simrl.sweeps.statistics import ratio_ends

SPENT = ("step", "samples", "flops", "flops_counted")  # of a curve
TIMES = ("step", "samples", "tokens", "trajectories")  # to a threshold
COSTS = ("flops", "flops_counted", "flops_full", "flops_live")


def curve(data: xr.Dataset, quantity: str, confidence: float, statistic: str) -> pd.DataFrame:
    """Returns the `curve_table` of moments over seeds."""
    refuse(statistic)
    units = RATIOS[quantity][2] if quantity in CURVE_RATIOS else data[quantity].attrs["units"]
    spent = [name for name in SPENT[1:] if name in data]
    parts: list[dict[str, Any]] = []
    for labels, cell in each_cell(data[[*spent, "steps_done", "curve_diverged", quantity]]):
        there = np.flatnonzero(present(cell, "log_point"))
        mean, low, high = ratio_ends(cell[quantity].values[there], confidence)
        if quantity in SHARES:
            low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
        row: dict[str, Any] = {name: moments.ratio(cell[name].values[there])[0] for name in spent}
        row |= {"quantity": quantity, "units": units, "statistic": statistic}
        row |= {"mean": mean, "low": low, "high": high}
        row["num_seeds"] = cell[quantity].values[there, 0].astype(int)
        row["num_diverged"] = cell["curve_diverged"].values[there].astype(int)
        if "step" in cell.coords:
            row = {"step": cell["step"].values[there], **row}
        parts.append({**labels, **row})
    return long(parts)


def hitting(data: xr.Dataset, confidence: float, statistic: str | None) -> pd.DataFrame:
    """Returns the `hitting_table` of moments over seeds."""
    refuse(statistic)
    rows = []
    needed = [str(name) for name in data if str(name).startswith("hit_")]
    for labels, cell in each_cell(data[[*needed, "reached", "total_step"]]):
        for h in np.flatnonzero(present(cell, "threshold")):
            row: dict[str, Any] = {**labels, "pass_rate": float(cell["threshold"].values[h])}
            row["num_seeds"] = int(cell["total_step"].values[0])
            row["num_reached"] = int(cell["hit_step"].values[h, 0])
            for name in ("censored", "diverged", "stuck"):
                row[f"num_{name}"] = int(cell[f"hit_{name}"].values[h])
            for name in (name for name in (*TIMES, *COSTS) if f"hit_{name}" in cell):
                ends = ratio_ends(cell[f"hit_{name}"].values[h], confidence)
                names = (f"{name}_{end}" for end in ("mean", "low", "high"))
                row |= {key: float(end) for key, end in zip(names, ends, strict=True)}
                row[f"{name}_median"] = float("nan")
            rows.append(row)
    return pd.DataFrame(rows)


def refuse(statistic: str | None) -> None:
    """Raise ValueError, one line, for a median or an IQM of moments."""
    if statistic not in (None, "mean"):
        raise ValueError(f"statistic: must be 'mean' where moments are kept, got {statistic!r}")


def long(parts: list[dict[str, Any]]) -> pd.DataFrame:
    """Returns rows of parts, whose columns are arrays of one length or one value for all rows."""
    sizes = [max(np.size(value) for value in part.values()) for part in parts]
    columns = {}
    for name in parts[0] if parts else ():
        own = [part[name] for part in parts]
        whole = isinstance(own[0], np.ndarray)
        columns[name] = np.concatenate(own) if whole else np.repeat(own, sizes)
    return pd.DataFrame(columns)
