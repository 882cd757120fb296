"""From per-seed values to tables: sums over seeds, divided last, with intervals over the seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from simrl.sweeps.statistics import check, interval, pooled_ratios

RATIOS = {  # column -> (numerator, denominator, units), of sums over a phase
    "pass_rate": ("pass_rate", "trajectories", "1"),
    **{
        f"{column}{form}": (numerator, denominator, units)
        for form, denominator, units in (
            ("", "samples", "bit/sample"),
            ("_per_token", "tokens", "bit/token"),
            ("_per_trajectory", "trajectories", "bit/trajectory"),
            ("_per_update", "updates", "bit/update"),
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
    "noise_scale": ("trace_covariance_of_one", "squared_norm", "trajectories"),
    "squared_bias": ("squared_bias", "trajectories", "1"),
    "regret": ("regret", "trajectories", "1"),
    "information_ratio": ("squared_expected_regret", "information_gain", "1/bit"),
    "duel_win_rate": ("duel_wins", "duels", "1"),
    "duel_expected": ("duel_expected", "trajectories", "bit/duel"),
    "duel_realised": ("duel_realised", "trajectories", "bit/duel"),
    "dead_share": ("dead", "trajectories", "1"),
    "samples_per_flop": ("samples", "flops", "samples/FLOP"),
    "samples_per_flop_counted": ("samples", "flops_counted", "samples/FLOP"),
    "absorbed_per_flop": ("absorbed", "flops", "bit/FLOP"),
    "absorbed_per_flop_counted": ("absorbed", "flops_counted", "bit/FLOP"),
    "realised_per_flop": ("realised_update", "flops", "bit/FLOP"),
    "realised_per_flop_counted": ("realised_update", "flops_counted", "bit/FLOP"),
}
OF_ONE = {"trace_covariance_of_one": "trace_covariance"}  # of a batch of one trajectory
# None of them lies outside 0 ... 1, so no more does an interval: what it covers stays covered.
SHARES = {"pass_rate", "observed_pass_rate", "zero_share", "dead_share", "duel_win_rate"}


def curve_table(
    data: xr.Dataset, quantity: str, confidence: float = 0.95, statistic: str = "mean"
) -> pd.DataFrame:
    """Long-form table of a measure at the log points: one row per cell and log point.

    Columns: the sweep's axes, step and samples (means over seeds; a finished seed stays where it
    stopped), quantity, units, statistic, mean, low, high (`interval` over seeds: t for a mean, BCa
    bootstrap for "median" and "iqm") and num_seeds. The column `mean` is the estimate, whichever
    the statistic. Values that are not finite are left out, and not counted in num_seeds. Raises
    ValueError as `interval` does, and for what is not measured at log points.
    """
    check(confidence, statistic)
    check_data(data)
    place = ("seed", "log_point")
    named = [str(name) for name, values in data.items() if values.dims[-2:] == place]
    if quantity not in named:
        raise ValueError(
            f"quantity must be measured at log points: {', '.join(named)}; not {quantity!r}"
        )
    rows = []
    units = data[quantity].attrs.get("units", "1")
    for labels, cell in each_cell(data[list(dict.fromkeys([quantity, "step", "samples"]))]):
        values, steps, samples = (cell[name].values for name in (quantity, "step", "samples"))
        for point in range(values.shape[1]):
            kept = values[:, point][np.isfinite(values[:, point])]
            if len(kept) == 0:
                continue
            mean, low, high = _within(quantity, interval(kept, confidence, statistic))
            spent = {"step": steps[:, point].mean(), "samples": samples[:, point].mean()}
            about = {"quantity": quantity, "units": units, "statistic": statistic}
            measured = {"mean": mean, "low": low, "high": high, "num_seeds": len(kept)}
            rows.append({**labels, **spent, **about, **measured})
    return pd.DataFrame(rows)


def _within(quantity: str, estimate: Sequence[Any]) -> Sequence[Any]:
    """An estimate and its ends; those of a share within 0 ... 1."""
    return [np.clip(x, 0, 1) for x in estimate] if quantity in SHARES else estimate


def _phase_sum(cell: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    """One sum per seed and phase [N, P], or None if the Dataset does not have it."""
    stored = OF_ONE.get(name, name)
    if f"phase_{stored}" not in cell:
        return None
    sums = cell[f"phase_{stored}"].astype(np.float64)
    return sums * cell["update_trajectories"][:, None] if name in OF_ONE else sums


def phase_table(data: xr.Dataset, confidence: float = 0.95) -> pd.DataFrame:
    """Long-form table: one row per cell, phase and quantity.

    Columns: the sweep's axes, phase, phase_low, phase_high, quantity, units, mean (`pooled_ratio`:
    sums over seeds divided last, so that bits/FLOP = samples/FLOP x bits/sample holds in each row),
    low, high (its t interval over the seeds that visited the phase) and num_seeds, their number. A
    phase nobody visited has num_seeds 0: it is stated as not reached.
    """
    check(confidence)
    check_data(data, "phase_trajectories", place="phase")
    needed = [str(name) for name in data if str(name).startswith("phase_")]
    parts = []
    for labels, cell in each_cell(data[[*needed, "update_trajectories"]]):
        values = {str(name): array.values for name, array in cell.items()}
        there = np.flatnonzero(~np.isnan(values["phase_low"]))
        place = {name: values[name][there] for name in ("phase_low", "phase_high")}
        visited = values["phase_trajectories"] > 0
        for column, (above, below, units) in RATIOS.items():
            top, bottom = _phase_sum(values, above), _phase_sum(values, below)
            if top is None or bottom is None:
                top = bottom = np.full(visited.shape, np.nan)
            kept = visited & ~np.isnan(top)
            ends = _within(column, pooled_ratios(top, bottom, kept, confidence))
            about = {"phase": there, **place, "quantity": column, "units": units}
            measured = zip(("mean", "low", "high"), (end[there] for end in ends), strict=True)
            count = {"num_seeds": kept.sum(axis=0)[there]}
            parts.append({**labels, **about, **dict(measured), **count})
    return _long(parts)


def _long(parts: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of several parts, whose columns are arrays of one length or the same in all its rows."""
    sizes = [max(np.size(value) for value in part.values()) for part in parts]
    columns = {}
    for name in parts[0] if parts else ():
        own = [part[name] for part in parts]
        whole = isinstance(own[0], np.ndarray)
        columns[name] = np.concatenate(own) if whole else np.repeat(own, sizes)
    return pd.DataFrame(columns)


def hitting_table(
    data: xr.Dataset, confidence: float = 0.95, statistic: str | None = None
) -> pd.DataFrame:
    """Updates, samples and FLOPs to each threshold of the pass rate: a row per cell and threshold.

    Means with t intervals are over the seeds that reached it, `num_reached`; medians count the
    others as later than all. `num_censored` had not reached it when the run ended, of which
    `num_stuck` ended below the pass rate they began with.

    With statistic "median" or "iqm" there are also `<name>_<statistic>`, `<name>_<statistic>_low`
    and `<name>_<statistic>_high`, with BCa bootstrap intervals (`interval`) over all seeds, the
    censored ones as later than all: an estimate or an end that they reach is inf (the median from
    half the seeds on, the IQM beyond a quarter). Raises ValueError as `interval` does.
    """
    check(confidence, statistic or "mean")
    check_data(data, "hit_step", place="threshold")
    added = statistic if statistic != "mean" else None
    rows = []
    needed = [str(name) for name in data if str(name).startswith("hit_")]
    for labels, cell in each_cell(data[[*needed, "log_odds"]]):
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
                row |= _time_to(name, values, reached, confidence, added)
            rows.append(row)
    return pd.DataFrame(rows)


def _time_to(
    name: str, values: np.ndarray, reached: np.ndarray, confidence: float, added: str | None
) -> dict[str, float]:
    """The columns of one count to a threshold; `values` and `reached` [N] over seeds."""
    mean, low, high = interval(values[reached], confidence)
    columns = {f"{name}_mean": mean, f"{name}_low": low, f"{name}_high": high}
    late = np.where(reached, values, np.inf)
    columns[f"{name}_median"] = float(np.median(late))
    if added:
        names = (f"{name}_{added}{end}" for end in ("", "_low", "_high"))
        columns |= zip(names, interval(late, confidence, added), strict=True)
    return columns


def last_values(cell: xr.Dataset, name: str) -> np.ndarray:
    """A measure at each seed's last log point [N]; cells with fewer of them are padded by NaN."""
    check_data(cell, name, place="log_point")
    values = cell[name].values
    present = ~np.isnan(values).all(axis=0)
    return values[:, np.flatnonzero(present)[-1]] if present.any() else values[:, -1]


def each_cell(data: xr.Dataset) -> list[tuple[dict[str, Any], xr.Dataset]]:
    """The cells of a Dataset, each with its labels on the sweep's axes."""
    check_data(data)
    if "cell" in data.dims:
        axes = [str(name) for name, c in data.coords.items() if c.dims == ("cell",)]
        cells = [data.isel(cell=i) for i in range(data.sizes["cell"])]
        return [
            ({axis: cell[axis].item() for axis in axes if axis != "cell"}, cell) for cell in cells
        ]
    inner = {"seed", "log_point", "phase", "threshold", "prompt", "position", "symbol", "leaf"}
    axes = [str(dim) for dim in data.dims if dim not in inner]
    found = []
    for index in np.ndindex(*(data.sizes[axis] for axis in axes)):
        cell = data.isel(dict(zip(axes, index, strict=True)))
        found.append(({axis: cell[axis].item() for axis in axes}, cell))
    return found


def check_data(data: Any, name: str | None = None, place: str = "") -> None:
    """Raise ValueError, one line, unless this is a Dataset with a value per seed and place."""
    if not isinstance(data, xr.Dataset):
        told = "the Dataset of simrl.run or simrl.open"
        raise ValueError(f"tables are made of {told}, not of a {type(data).__name__}")
    if name is None:
        return
    if not isinstance(name, str) or name not in data:
        raise ValueError(f"the Dataset has no variable {name!r}")
    if not {"seed", place} <= set(data[name].dims):
        raise ValueError(f"{name} must have a value per seed and {place}, not {data[name].dims}")
