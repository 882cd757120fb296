"""From per-seed values to tables: sums over seeds, divided last, with intervals over the seeds.

Tables are over the seeds that have been run. A seed that diverged, a number in its state or in its
measures NaN or infinite, is in no mean from then on, and every table says how many did:
`num_diverged`. What it did before stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from simrl.sweeps import moment_tables, moments, reduced
from simrl.sweeps.cells import check_data, diverged_at, each_cell, last_values, present
from simrl.sweeps.moment_tables import COSTS, SPENT, TIMES, long
from simrl.sweeps.quantities import CURVE_RATIOS, OF_ONE, RATIOS, SHARES, enough_seeds
from simrl.sweeps.statistics import (
    check,
    interval,
    pooled_ratios,
    ratio_ends,
    spread,
    success_ends,
)

NOWHERE = np.full(len(moments.FIELDS), np.nan)


def curve_table(
    data: xr.Dataset, quantity: str, confidence: float = 0.95, statistic: str = "mean"
) -> pd.DataFrame:
    """Returns a long-form table of a measure at the log points: a row per cell and log point.

    Columns: the sweep's axes; step, the updates at the log point; samples, flops and flops_counted
    (2N/4N convention and counted from the program), means over seeds, of which one that stopped
    spends no more; quantity, units, statistic, mean, low, high (`interval` over seeds: t for a
    mean, BCa bootstrap for "median" and "iqm"), num_seeds and num_diverged. The column `mean` is
    the estimate, whichever the statistic. It is over the num_seeds seeds that have not diverged and
    whose value is finite; num_diverged had diverged by then. A point without such a seed has a row
    whose mean is NaN.

    "noise_scale" and "information_ratio" are ratios of means over seeds, with the interval of
    `pooled_ratio`. Raises ValueError as `interval` does, for what is not measured at log points,
    and for another statistic of a ratio.
    """
    check(confidence, statistic)
    check_data(data)
    names = _curve_names(data, quantity, statistic)
    if "moment" in data.dims:
        return moment_tables.curve(data, quantity, confidence, statistic)
    rows = []
    units = RATIOS[quantity][2] if len(names) > 1 else data[quantity].attrs.get("units", "1")
    spent = [name for name in SPENT if name in data]
    wanted = [*names, *spent, "steps_done", "log_odds", "diverged_step", *_of_one(names)]
    for labels, cell in each_cell(data[[k for k in dict.fromkeys(wanted) if k in data]]):
        values = [_curve_values(cell, name) for name in names]
        gone = diverged_at(cell) if "log_odds" in cell else np.zeros(values[0].shape, bool)
        for point in np.flatnonzero(present(cell, "log_point")):
            own = [value[:, point] for value in values]
            finite = np.all(np.isfinite(own), axis=0) & ~gone[:, point]
            estimate = _curve_estimate(quantity, [v[finite] for v in own], confidence, statistic)
            at = cell.isel(log_point=point)
            row = {**labels, **{name: _mean(at[name].values) for name in spent}}
            row |= {"quantity": quantity, "units": units, "statistic": statistic}
            row |= dict(zip(("mean", "low", "high"), estimate, strict=True))
            counts = {"num_seeds": int(finite.sum()), "num_diverged": int(gone[:, point].sum())}
            rows.append({**row, **counts})
    return pd.DataFrame(rows)


def _curve_names(data: xr.Dataset, quantity: str, statistic: str) -> list[str]:
    """The variables that a curve is of: one, or a ratio's two; ValueError if there are none."""
    places = {"seed", "log_point"}, {"log_point", "moment"}
    named = [str(name) for name, values in data.items() if set(values.dims[-2:]) in places]
    if isinstance(quantity, str) and quantity in named:
        return [quantity]
    ratio = CURVE_RATIOS.get(quantity, ()) if isinstance(quantity, str) else ()
    names = [OF_ONE.get(name, name) for name in ratio[:2]]
    if names and set(names) <= set(named):
        if statistic != "mean":
            raise ValueError(f"statistic must be 'mean' for {quantity}, a ratio, not {statistic!r}")
        return list(ratio[:2])
    summed = isinstance(quantity, str) and quantity in RATIOS
    hint = f"; {quantity} is summed by phase: see phase_table" if summed else ""
    allowed = ", ".join(named)
    raise ValueError(f"quantity must be measured at log points: {allowed}; not {quantity!r}{hint}")


def _of_one(names: Iterable[str]) -> list[str]:
    """What the variables of one trajectory are made from."""
    stored = [OF_ONE[name] for name in names if name in OF_ONE]
    return [*stored, "update_trajectories"] if stored else []


def _curve_values(cell: xr.Dataset, name: str) -> np.ndarray:
    """A measure [N, T] at the log points, float64."""
    values = cell[OF_ONE.get(name, name)].values.astype(np.float64)
    return values * cell["update_trajectories"].values[:, None] if name in OF_ONE else values


def _curve_estimate(
    quantity: str, values: list[np.ndarray], confidence: float, statistic: str
) -> Sequence[float]:
    """A statistic over seeds and its ends, of a measure [N] or of the ratio of two."""
    if len(values) > 1:
        top, bottom = (value[:, None] for value in values)
        ends = pooled_ratios(top, bottom, np.ones(top.shape, bool), confidence)
        return [float(end[0]) for end in ends]
    if quantity in SHARES:
        return [np.clip(end, 0, 1) for end in interval(values[0], confidence, statistic)]
    return spread(values[0], confidence, statistic)


def _mean(values: np.ndarray) -> float:
    """The mean of any shape, NaN of nothing."""
    return float(np.mean(values)) if values.size else float("nan")


def phase_table(
    data: xr.Dataset,
    quantity: str | None = None,
    confidence: float = 0.95,
    statistic: str = "mean",
) -> pd.DataFrame:
    """Returns a long-form table: a row per cell, phase and quantity; of one quantity if named.

    Columns: the sweep's axes, phase, phase_low, phase_high (-inf and inf at the two open-ended
    bins), quantity, units, mean (`pooled_ratio`: sums over seeds divided last, so that bits/FLOP =
    samples/FLOP x bits/sample holds in each row), low, high (its t interval over the seeds that
    visited the phase), num_seeds, their number, few_seeds, whether they are too few for the
    interval to cover what it says (200; 1,000 for pass_rate and noise_scale), and num_diverged,
    those of the visitors that diverged in the end: what they did after the log point where that was
    seen is in no phase, and a sum that is not finite in no mean. A phase nobody visited has
    num_seeds 0: it is stated as not reached.

    Quantities that are not defined for a cell have no rows; `table.attrs["left_out"]` says which
    and why, {quantity: reason}, and `simrl.left_out(table)` in one line. Raises ValueError for an
    unknown quantity, one that is not defined for any cell, and a statistic other than "mean".
    """
    check(confidence, statistic)
    if statistic != "mean":
        why = "entries are ratios of sums over seeds, which have no median or IQM"
        raise ValueError(f"statistic must be 'mean' in a phase table, not {statistic!r}: {why}")
    check_data(data, "phase_pass_rate", place="phase")
    if quantity is not None and (not isinstance(quantity, str) or quantity not in RATIOS):
        raise ValueError(f"quantity must be one of {', '.join(RATIOS)}; not {quantity!r}")
    chosen = RATIOS if quantity is None else {quantity: RATIOS[quantity]}
    needed = [str(name) for name in data if str(name).startswith("phase_")]
    needed += [name for name in ("update_trajectories", "diverged") if name in data]
    parts: list[dict[str, Any]] = []
    reasons: dict[str, list[str]] = {}
    cells = each_cell(data[needed])
    for labels, cell in cells:
        values = {str(name): array.values for name, array in cell.items()}
        there = np.flatnonzero(~np.isnan(values["phase_low"]))
        place = {name: values[name][there] for name in ("phase_low", "phase_high")}
        for column, ratio in chosen.items():
            measured, reason = _of_phases(values, column, confidence)
            if reason:
                reasons.setdefault(column, []).append(reason)
                continue
            own = {name: value[there] for name, value in measured.items()}
            about = {"phase": there, **place, "quantity": column, "units": ratio[2]}
            parts.append({**labels, **about, **own})
    if quantity in reasons and not parts:
        raise ValueError(f"quantity {quantity!r} is not defined here: {reasons[quantity][0]}")
    table = long(parts)
    table.attrs["left_out"] = {
        name: own[0] + ("" if len(own) == len(cells) else f" ({len(own)} of {len(cells)} cells)")
        for name, own in reasons.items()
    }
    return table


def _of_phases(
    cell: Mapping[str, np.ndarray], column: str, confidence: float
) -> tuple[dict[str, np.ndarray], str]:
    """A quantity of a cell by phase, [P] each, and why it is not defined, "" if it is."""
    if "phase_trajectories" in cell:  # per seed
        visited = cell["phase_trajectories"] > 0
        diverged = visited & np.asarray(cell.get("diverged", False), bool)[..., None]
        num_diverged = diverged.sum(axis=0)
        pairs, reason = reduced.phase_moments(cell, column)
    else:
        pairs, num_diverged = cell.get(f"phase_{column}", NOWHERE), cell["phase_diverged"]
        reason = reduced.undefined(*RATIOS[column][:2]) if np.isnan(pairs).all() else ""
    if reason:
        return {}, reason
    mean, low, high = ratio_ends(pairs, confidence)
    count = np.nan_to_num(pairs[..., 0]).astype(int)
    if count.any() and np.isnan(mean).all():
        return {}, f"the sums of {RATIOS[column][1]} are 0 or not finite"
    if column in SHARES:
        low, high = _share_ends(mean, (low, high), count, confidence)
    counts = {"num_seeds": count, "few_seeds": count < enough_seeds(column)}
    counts |= {"num_diverged": np.nan_to_num(num_diverged).astype(int)}
    return {"mean": mean, "low": low, "high": high, **counts}, ""


def _share_ends(
    mean: np.ndarray, ends: tuple[np.ndarray, np.ndarray], num_seeds: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ends [P] of shares: within 0 ... 1, and not of width 0 where all seeds have 0, or 1."""
    low, high = (np.clip(end, 0, 1) for end in ends)
    same = (num_seeds > 0) & ((mean == 0) | (mean == 1))
    least, most = success_ends(np.where(mean == 1, num_seeds, 0), num_seeds, confidence)
    return np.where(same, least, low), np.where(same, most, high)


def left_out(table: pd.DataFrame) -> str:
    """Returns one line on the quantities that a phase table leaves out and why; "" if none."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in table.attrs.get("left_out", {}).items():
        by_reason.setdefault(reason, []).append(name)
    text = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    return f"not defined here: {text}" if text else ""


def hitting_table(
    data: xr.Dataset, confidence: float = 0.95, statistic: str | None = None
) -> pd.DataFrame:
    """Returns updates, samples and FLOPs to each threshold: a row per cell and threshold.

    Means with t intervals are over the seeds that reached it, `num_reached`; medians count the
    others as later than all. `num_censored` had not reached it when the run ended, of which
    `num_stuck` ended below the pass rate they began with; `num_diverged` diverged before:
    what they reached afterwards does not count. Reached, censored and diverged seeds make up
    `num_seeds`. `flops_full` and `flops_live` are FLOPs by the
    same right for all learners: every rollout is trained on, or zero-advantage groups are decoded
    only; NaN for learners that do not tell them.

    With statistic "median" or "iqm" there are also `<name>_<statistic>`, `<name>_<statistic>_low`
    and `<name>_<statistic>_high`, with BCa bootstrap intervals (`interval`) over all seeds, those
    that did not reach it as later than all: an estimate or an end that they reach is inf (the
    median from half the seeds on, the IQM beyond a quarter). Raises ValueError as `interval` does.
    """
    check(confidence, statistic or "mean")
    check_data(data, "hit_step", place="threshold")
    added = statistic if statistic != "mean" else None
    if "moment" in data.dims:
        return moment_tables.hitting(data, confidence, statistic)
    rows = []
    needed = [str(name) for name in data if str(name).startswith("hit_")]
    needed += [k for k in ("log_odds", "steps_done", "reached", "diverged") if k in data]
    for labels, cell in each_cell(data[needed]):
        first, last = cell["log_odds"].values[:, :1].ravel(), last_values(cell, "log_odds")
        diverged = np.asarray(cell.get("diverged", np.zeros(len(last))), bool)
        for h in np.flatnonzero(present(cell, "threshold")):
            reached = ~np.isnan(cell["hit_step"].values[:, h])
            row: dict[str, Any] = {**labels, "pass_rate": float(cell["threshold"].values[h])}
            row |= {"num_seeds": len(reached), "num_reached": int(reached.sum())}
            row["num_censored"] = int((~reached & ~diverged).sum())
            row["num_diverged"] = int((~reached & diverged).sum())
            row["num_stuck"] = int((~reached & (last < first)).sum())
            for name in (name for name in (*TIMES, *COSTS) if f"hit_{name}" in cell):
                values = cell[f"hit_{name}"].values[:, h].astype(np.float64)
                row |= _time_to(name, values, reached, confidence, added)
            rows.append(row)
    return pd.DataFrame(rows)


def _time_to(
    name: str, values: np.ndarray, reached: np.ndarray, confidence: float, added: str | None
) -> dict[str, float]:
    """The columns of one count to a threshold; `values` and `reached` [N] over seeds."""
    mean, low, high = spread(values[reached], confidence)
    columns = {f"{name}_mean": mean, f"{name}_low": low, f"{name}_high": high}
    late = np.where(reached, values, np.inf)
    columns[f"{name}_median"] = float(np.median(late)) if len(late) else float("nan")
    if added:
        names = (f"{name}_{added}{end}" for end in ("", "_low", "_high"))
        columns |= zip(names, spread(late, confidence, added), strict=True)
    return columns
