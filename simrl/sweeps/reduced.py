"""What tables need of a condition's seeds, as moments over them: block after block.

`simrl.run(keep="moments")` holds these instead of the seeds' own values: of each quantity by phase,
of each measure at the log points, of each count to a threshold and of each total, `moments.FIELDS`
over the seeds that have it; and numbers of seeds.
"""

from collections.abc import Mapping

import numpy as np

from simrl.sweeps import moments
from simrl.sweeps.cells import diverged_at
from simrl.sweeps.joining import Part, Rows
from simrl.sweeps.quantities import CURVE_RATIOS, OF_ONE, RATIOS, UNDEFINED

SPENT = ("samples", "flops", "flops_counted", "steps_done")  # by seeds that diverged as well
Values = Mapping[str, np.ndarray]
Summary = dict[str, tuple[tuple[str, ...], np.ndarray]]  # name -> dims, moments or numbers of seeds


def of_seeds(part: Part) -> Summary:
    """Returns moments and numbers of the seeds of a condition, by name."""
    cell = {name: np.concatenate(rows.pieces) for name, rows in part.variables.items()}
    return {**_by_phase(cell), **_at_log_points(part, cell), **_to_thresholds(part, cell)}


def both(one: Summary, other: Summary) -> Summary:
    """Returns the summary of the seeds of both; what one lacks, no seed of it has."""
    summary = dict(one)
    for name, (dims, values) in other.items():
        own = one[name][1] if name in one else np.zeros_like(values)
        whole = moments.merged(own, values) if dims[-1] == "moment" else own + values
        summary[name] = dims, whole
    return summary


def without_seeds(part: Part) -> Part:
    """Returns a part without the values of its seeds, which are large."""
    rows = part.variables.items()
    small = {name: row._replace(pieces=[]) if "seed" in row.dims else row for name, row in rows}
    return Part(small, part.coords)


def part_of(summary: Summary, part: Part) -> Part:
    """Returns what is known of a condition: moments of all its seeds, and a part of its seeds."""
    shared = {name: rows for name, rows in part.variables.items() if "seed" not in rows.dims}
    variables = {}
    for name, (dims, values) in summary.items():
        rows = part.variables.get(name)
        column = name.removeprefix("phase_")
        attrs = {"units": RATIOS[column][2], "exact": 1} if column in RATIOS else {"units": "seeds"}
        attrs = {"exact": 1, "long_name": name, **attrs} if rows is None else rows.attrs
        variables[name] = Rows(dims, [values], attrs)
    coords = {name: values for name, values in part.coords.items() if name != "seed"}
    return Part({**shared, **variables}, coords)


def phase_sums(cell: Values, name: str) -> np.ndarray | None:
    """Returns one sum per seed and phase [N, P], or None if the Dataset does not have it."""
    stored = OF_ONE.get(name, name)
    if f"phase_{stored}" not in cell:
        return None
    sums = cell[f"phase_{stored}"].astype(np.float64)
    return sums * cell["update_trajectories"][:, None] if name in OF_ONE else sums


def phase_moments(cell: Values, column: str) -> tuple[np.ndarray, str]:
    """Returns moments [P, 7] of a quantity by phase; why it is not defined, "" if it is."""
    above, below, _ = RATIOS[column]
    top, bottom = phase_sums(cell, above), phase_sums(cell, below)
    visited = cell["phase_trajectories"] > 0
    for name, sums in ((above, top), (below, bottom)):
        if sums is None or (visited.any() and np.isnan(sums[visited]).all()):
            return np.empty((0, len(moments.FIELDS))), undefined(name)
    assert top is not None
    assert bottom is not None
    used = visited & ~np.isnan(top) & ~np.isnan(bottom)
    if "diverged" in cell:
        finite = np.isfinite(top) & np.isfinite(bottom)
        used &= finite | ~np.asarray(cell["diverged"], bool)[:, None]
    return moments.of_pair(top, bottom, used), ""


def undefined(*names: str) -> str:
    """Returns why the first of these sums that may not be defined is not."""
    reasons = [UNDEFINED.get(OF_ONE.get(name, name), "") for name in names]
    return next(filter(None, reasons), f"no {names[0]} is measured")


def _by_phase(cell: Values) -> Summary:
    """Of every quantity by phase, and the seeds that visit and diverge."""
    pairs = {column: phase_moments(cell, column) for column in RATIOS}
    dims = ("phase", "moment")
    defined = {name: pair for name, (pair, reason) in pairs.items() if not reason}
    summary: Summary = {f"phase_{name}": (dims, pair) for name, pair in defined.items()}
    diverged = cell["diverged"][:, None] & (cell["phase_trajectories"] > 0)
    return summary | {"phase_diverged": (("phase",), diverged.sum(axis=0))}


def _at_log_points(part: Part, cell: Values) -> Summary:
    """Of every measure and ratio at the log points, and the seeds that have diverged there."""
    place, gone = ("log_point", "moment"), diverged_at(cell)
    summary: Summary = {
        name: (place, _mean(cell[name] if name in SPENT else np.where(gone, np.nan, cell[name])))
        for name, rows in part.variables.items()
        if rows.dims == ("seed", "log_point")
    }
    for name, (above, below, _) in CURVE_RATIOS.items():
        if {OF_ONE.get(above, above), below} <= set(cell):
            top, bottom = cell[OF_ONE.get(above, above)].astype(float), cell[below].astype(float)
            top = top * cell["update_trajectories"][:, None] if above in OF_ONE else top
            used = np.isfinite(top) & np.isfinite(bottom) & ~gone
            summary[name] = place, moments.of_pair(top, bottom, used)
    return summary | {"curve_diverged": (("log_point",), gone.sum(axis=0))}


def _to_thresholds(part: Part, cell: Values) -> Summary:
    """Of every count to a threshold and every total, and the seeds that did not reach it."""
    summary: Summary = {}
    for name, rows in part.variables.items():
        if rows.dims[0] == "seed" and rows.dims[1:] in ((), ("threshold",)):
            summary[name] = (*rows.dims[1:], "moment"), _mean(cell[name])
    missed, diverged = ~cell["reached"], cell["diverged"][:, None]
    stuck = (cell["log_odds"][:, -1] < cell["log_odds"][:, 0])[:, None]
    for name, group in (("censored", ~diverged), ("diverged", diverged), ("stuck", stuck)):
        summary[f"hit_{name}"] = ("threshold",), (missed & group).sum(axis=0)
    return summary


def _mean(values: np.ndarray) -> np.ndarray:
    """Moments [..., 7] of the mean of values [N, ...] over the seeds whose value is finite."""
    flat = values.astype(np.float64).reshape(len(values), -1)
    pairs = moments.of_pair(flat, 1.0, np.isfinite(flat))
    return pairs.reshape(*values.shape[1:], len(moments.FIELDS))
