"""The cells of a Dataset, one by one, and what of its dims is a cell's own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

PRESENT = {"log_point": "steps_done", "phase": "phase_low", "threshold": "reached"}
# what is NaN at places of a dim that only pad a cell to the size of another


def last_values(data: xr.Dataset, name: str) -> np.ndarray:
    """Returns a measure at each seed's last log point: [N] of a cell, [..., N] of several.

    Cells with fewer log points than others are padded by NaN, and so is a seed that has not been
    run. Raises ValueError, one line, for what has no value per seed and log point.
    """
    check_data(data, name, place="log_point")
    check_seeds(data)
    witness = PRESENT["log_point"] if PRESENT["log_point"] in data else name
    values, known = (data[k].transpose(..., "seed", "log_point") for k in (name, witness))
    there = np.any(~np.isnan(known.values), axis=-2)  # [..., T]
    last = np.where(there, np.arange(there.shape[-1]), 0).max(axis=-1)[..., None, None]
    return np.take_along_axis(values.values, last, axis=-1)[..., 0]


def present(cell: xr.Dataset, dim: str) -> np.ndarray:
    """Returns which places along a dim are this cell's own, not padding to the size of another.

    A cell of which no seed has been run does not say: all are.
    """
    witness = PRESENT.get(dim)
    if witness not in cell or cell[witness].size == 0:
        return np.ones(cell.sizes[dim], bool)
    known = cell[witness].notnull()
    return known.any([other for other in known.dims if other != dim]).values


def diverged_at(cell: Mapping[Any, Any]) -> np.ndarray:
    """Returns which seeds had diverged at the log points, [N, T] bool.

    Of arrays, or of variables of a Dataset, by name.
    """
    gone = np.isnan(np.asarray(cell["log_odds"]))
    if "diverged_step" in cell and "steps_done" in cell:
        step = np.asarray(cell["diverged_step"])[:, None]
        gone = gone | (np.asarray(cell["steps_done"]) >= step)
    return gone


def each_cell(data: xr.Dataset) -> list[tuple[dict[str, Any], xr.Dataset]]:
    """Returns the cells of a Dataset, each with its labels on the sweep's axes.

    A cell has the seeds that have been run under its condition, and no others.
    """
    check_data(data)
    if "cell" in data.dims:
        axes = [str(name) for name, c in data.coords.items() if c.dims == ("cell",)]
        cells = [data.isel(cell=i) for i in range(data.sizes["cell"])]
        return [
            ({axis: cell[axis].item() for axis in axes if axis != "cell"}, _of_run(cell))
            for cell in cells
        ]
    inner = {"seed", "log_point", "phase", "threshold", "prompt", "position", "symbol", "leaf"}
    inner |= {"moment"}
    axes = [str(dim) for dim in data.dims if dim not in inner]
    found = []
    for index in np.ndindex(*(data.sizes[axis] for axis in axes)):
        cell = data.isel(dict(zip(axes, index, strict=True)))
        found.append(({axis: cell[axis].item() for axis in axes}, _of_run(cell)))
    return found


def _of_run(cell: xr.Dataset) -> xr.Dataset:
    """The seeds of a cell that have been run."""
    if "present" not in cell.coords:
        return cell
    return cell.isel(seed=np.flatnonzero(cell["present"].values)).drop_vars("present")


def check_seeds(data: xr.Dataset) -> None:
    """Raise ValueError, one line, where values of seeds are wanted and moments were kept."""
    if "moment" in data.dims:
        raise ValueError("the Dataset has moments, no values of seeds: open with keep='seeds'")


def check_data(data: Any, name: str | None = None, place: str = "") -> None:
    """Raise ValueError, one line, unless this is a Dataset with a value per seed and place."""
    if not isinstance(data, xr.Dataset):
        told = "the Dataset of simrl.run or simrl.open"
        raise ValueError(f"tables are made of {told}, not of a {type(data).__name__}")
    if name is None:
        return
    if not isinstance(name, str) or name not in data:
        raise ValueError(f"the Dataset has no variable {name!r}")
    kept = "moment" if "moment" in data.dims else "seed"
    if not {kept, place} <= set(data[name].dims):
        raise ValueError(f"{name} must have a value per seed and {place}, not {data[name].dims}")
