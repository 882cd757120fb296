"""From per-seed values to tables: sums over seeds, divided last, with intervals over the seeds."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
import xarray as xr

RATIOS = {  # column -> (numerator, denominator, units), of sums over a phase
    "pass_rate": ("pass_rate", "trajectories", "1"),
    **{
        f"{column}{form}": (numerator, denominator, units)
        for form, denominator, units in (
            ("", "samples", "bit/sample"),
            ("_per_token", "tokens", "bit/token"),
            ("_per_trajectory", "trajectories", "bit/trajectory"),
        )
        for column, numerator in (
            ("nominal", "nominal"),
            ("expected", "expected"),
            ("realised", "realised"),
            ("expected_joint", "expected_update"),
            ("realised_joint", "realised_update"),
            ("absorbed", "absorbed"),
        )
    },
    "absorbed_label": ("absorbed_label", "samples", "bit/sample"),
    "excess_loss": ("gap", "trajectories", "bit"),
    "efficiency": ("absorbed", "realised_update", "1"),
    "noise_scale": ("trace_covariance", "squared_norm", "trajectories"),
    "absorbed_per_flop": ("absorbed", "flops", "bit/FLOP"),
    "absorbed_per_flop_counted": ("absorbed", "flops_counted", "bit/FLOP"),
    "realised_per_flop": ("realised_update", "flops", "bit/FLOP"),
    "realised_per_flop_counted": ("realised_update", "flops_counted", "bit/FLOP"),
}


def interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student t interval over seeds; `values` [N], all finite. Ends are NaN below two."""
    mean = float(np.mean(values)) if len(values) else float("nan")
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = scipy.stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * scipy.stats.sem(values)
    return mean, mean - float(half), mean + float(half)


def curve_table(data: xr.Dataset, quantity: str, confidence: float = 0.95) -> pd.DataFrame:
    """Long-form table of a measure at the log points: one row per cell and log point.

    Columns: the sweep's axes, step and samples (means over seeds; a finished seed stays where it
    stopped), quantity, units, mean, low, high (t interval over seeds) and num_seeds.
    """
    rows = []
    units = data[quantity].attrs.get("units", "1")
    for labels, cell in each_cell(data):
        values, steps = cell[quantity].values, cell["step"].values
        per_step = cell["total_samples"].values / np.maximum(cell["total_step"].values, 1)
        for point in range(values.shape[1]):
            kept = values[:, point][np.isfinite(values[:, point])]
            if len(kept) == 0:
                continue
            mean, low, high = interval(kept, confidence)
            place = {"step": steps[:, point].mean(), "samples": (steps[:, point] * per_step).mean()}
            measured = {"mean": mean, "low": low, "high": high, "num_seeds": len(kept)}
            rows.append({**labels, **place, "quantity": quantity, "units": units, **measured})
    return pd.DataFrame(rows)


def pooled_ratio(
    top: np.ndarray, bottom: np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Sum of `top` over sum of `bottom`, both [N] over seeds, with a t interval.

    The interval is that of the ratio estimator (Cochran 1977, section 6.4): seeds are independent,
    the residuals are top - ratio * bottom. A mean of each seed's own ratio would be badly biased: a
    seed that leaves a phase by its first success has one success over however long it waited, and
    the mean of 1 / waiting time is far above 1 / mean waiting time.
    """
    if len(top) == 0 or bottom.sum() == 0 or not np.isfinite(bottom.sum()):
        return float("nan"), float("nan"), float("nan")
    ratio = float(top.sum() / bottom.sum())
    if len(top) < 2 or not np.isfinite(ratio):
        return ratio, float("nan"), float("nan")
    quantile = float(scipy.stats.t.ppf(0.5 + confidence / 2, len(top) - 1))
    half = quantile * float(scipy.stats.sem(top - ratio * bottom)) / float(bottom.mean())
    return ratio, ratio - abs(half), ratio + abs(half)


def phase_sums(cell: xr.Dataset, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator of a ratio per seed and phase, [N, P] each; NaN where undefined."""
    numerator, denominator, _ = RATIOS[column]
    names = (f"phase_{numerator}", f"phase_{denominator}")
    if any(name not in cell for name in names):
        nothing = np.full((cell.sizes["seed"], cell.sizes["phase"]), np.nan)
        return nothing, nothing
    top, bottom = (cell[name].values.astype(np.float64) for name in names)
    return (
        top * cell["update_trajectories"].values[:, None] if column == "noise_scale" else top
    ), bottom


def phase_table(data: xr.Dataset, confidence: float = 0.95) -> pd.DataFrame:
    """Long-form table: one row per cell, phase and quantity.

    Columns: the sweep's axes, phase, phase_low, phase_high, quantity, units, mean (`pooled_ratio`:
    sums over seeds divided last, so that bits/FLOP = samples/FLOP x bits/sample holds in each row),
    low, high (its t interval over the seeds that visited the phase) and num_seeds, their number. A
    phase nobody visited has num_seeds 0: it is stated as not reached.
    """
    rows = []
    for labels, cell in each_cell(data):
        low, high = cell["phase_low"].values, cell["phase_high"].values
        visited = cell["phase_trajectories"].values > 0
        for column, (_, _, units) in RATIOS.items():
            top, bottom = phase_sums(cell, column)
            for phase in np.flatnonzero(~np.isnan(low)).tolist():
                kept = visited[:, phase] & ~np.isnan(top[:, phase])
                mean, below, above = pooled_ratio(top[kept, phase], bottom[kept, phase], confidence)
                place = {"phase": phase, "phase_low": low[phase], "phase_high": high[phase]}
                measured = {"mean": mean, "low": below, "high": above, "num_seeds": int(kept.sum())}
                rows.append({**labels, **place, "quantity": column, "units": units, **measured})
    return pd.DataFrame(rows)


def hitting_table(data: xr.Dataset, confidence: float = 0.95) -> pd.DataFrame:
    """Updates, samples and FLOPs to each threshold of the pass rate: a row per cell and threshold.

    Means with t intervals are over the seeds that reached it, `num_reached`; medians count the
    others as later than all. `num_censored` had not reached it when the run ended, of which
    `num_stuck` ended below the pass rate they began with.
    """
    rows = []
    for labels, cell in each_cell(data):
        first, last = cell["log_odds"].values[:, 0], last_values(cell, "log_odds")
        for h, threshold in enumerate(cell["threshold"].values):
            if np.isnan(cell["hit_time"].values[:, h]).all():
                continue  # another cell's threshold
            reached = cell["hit_step"].values[:, h] >= 0
            row: dict[str, Any] = {**labels, "pass_rate": float(threshold)}
            row |= {"num_seeds": len(reached), "num_reached": int(reached.sum())}
            row["num_censored"] = int((~reached).sum())
            row["num_stuck"] = int((~reached & (last < first)).sum())
            for name in ("step", "samples", "tokens", "trajectories", "flops", "flops_counted"):
                values = cell[f"hit_{name}"].values[:, h].astype(np.float64)
                mean, low, high = interval(values[reached], confidence)
                row |= {f"{name}_mean": mean, f"{name}_low": low, f"{name}_high": high}
                row[f"{name}_median"] = float(np.median(np.where(reached, values, np.inf)))
            rows.append(row)
    return pd.DataFrame(rows)


def last_values(cell: xr.Dataset, name: str) -> np.ndarray:
    """A measure at each seed's last log point [N]; cells with fewer of them are padded by NaN."""
    values = cell[name].values
    present = ~np.isnan(values).all(axis=0)
    return values[:, np.flatnonzero(present)[-1]] if present.any() else values[:, -1]


def each_cell(data: xr.Dataset) -> list[tuple[dict[str, Any], xr.Dataset]]:
    """The cells of a Dataset, each with its labels on the sweep's axes."""
    if "cell" in data.dims:
        axes = [str(name) for name, c in data.coords.items() if c.dims == ("cell",)]
        cells = [data.isel(cell=i) for i in range(data.sizes["cell"])]
        return [
            ({axis: cell[axis].item() for axis in axes if axis != "cell"}, cell) for cell in cells
        ]
    inner = {"seed", "log_point", "phase", "threshold", "prompt", "position", "symbol"}
    axes = [str(dim) for dim in data.dims if dim not in inner]
    found = []
    for index in np.ndindex(*(data.sizes[axis] for axis in axes)):
        cell = data.isel(dict(zip(axes, index, strict=True)))
        found.append(({axis: cell[axis].item() for axis in axes}, cell))
    return found
