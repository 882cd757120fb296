"""Results for other tools: netCDF, parquet, CSV, and the runs x tasks arrays that rliable takes."""

import importlib.util
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from simrl.sweeps import given
from simrl.sweeps.cells import check_data, check_seeds, each_cell, present
from simrl.sweeps.errors import SpecError, in_one_line, writing

NEEDED = {".nc": ("h5netcdf", "h5py"), ".parquet": ("pyarrow",), ".csv": ()}  # suffix -> packages
# Dims whose places have whole numbers, which a column with gaps would turn to floats.
NUMBERED = ("log_point", "phase", "prompt", "position", "symbol", "leaf")


def export(source: xr.Dataset | pd.DataFrame, path: str | Path) -> Path:
    """Write a Dataset or a table to one file; the suffix says how.

    `.nc` is netCDF-4 and takes a Dataset, with the attributes of every variable; `simrl.open`
    reads it back. `.parquet` and `.csv` take a table, whose index is not written, or a Dataset,
    written as its `long_table`. The file is written beside `path`, synced, then renamed: what is
    at `path` is replaced by a whole file or left as it was. Missing folders are made.

    Args:
      source: of `simrl.run`, `simrl.open` or a function that makes a table.
      path: where to; the suffix is `.nc`, `.parquet` or `.csv`.

    Returns:
      The path.

    Raises:
      ValueError: another suffix, a package that is not installed, a source that cannot be
        written so, or a path that cannot be written to; one line.
    """
    path = given.path(path, "path")
    suffix = path.suffix.lower()
    if suffix not in NEEDED:
        raise ValueError(f"{path.name!r} must end in .nc, .parquet or .csv")
    if not isinstance(source, xr.Dataset | pd.DataFrame):
        raise ValueError(f"export takes a Dataset or a DataFrame, not a {type(source).__name__}")
    if suffix == ".nc" and isinstance(source, pd.DataFrame):
        raise ValueError(f"a table can be written to .parquet or .csv, not to {path.name!r}")
    _require_packages(suffix)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
            partial = Path(folder) / path.name
            _write(source, partial, suffix)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    return path


def _write(source: xr.Dataset | pd.DataFrame, path: Path, suffix: str) -> None:
    if suffix == ".nc":
        assert isinstance(source, xr.Dataset)
        source.to_netcdf(path, engine="h5netcdf")
        return
    table = source
    if isinstance(source, xr.Dataset):
        table = long_table(source)
        table.attrs = dict(source.attrs)  # parquet keeps them: where the numbers come from
    if suffix == ".parquet":
        table.to_parquet(path, engine="pyarrow", index=False)
    else:
        table.to_csv(path, index=False)


def read(path: Path, seeds: int | None = None) -> xr.Dataset:
    """Returns the Dataset of a `.nc` file that `export` wrote; with `seeds`, of the first of them.

    Raises SpecError, one line, for another kind of file or too few seeds.
    """
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".csv"):
        raise SpecError(f"{path} is a table, which pandas.read_{suffix[1:]} reads")
    if suffix != ".nc":
        raise SpecError(f"path must be a result folder or a .nc file of simrl.export, got {path}")
    _require_packages(suffix)
    try:
        with xr.open_dataset(path, engine="h5netcdf") as file:
            data = file.load()
    except Exception as error:  # a damaged file raises whatever the damage leads to
        raise SpecError(f"cannot read {path}: {in_one_line(error)}") from None
    if "simrl_sweep" not in data.attrs or "seed" not in data.dims:
        raise SpecError(f"{path} is not a Dataset that simrl.export wrote")
    if "step" in data and data["step"].dims == ("log_point",):
        data = data.set_xindex("step")  # as the Dataset had it: files hold no indexes
    if seeds is None:
        return data
    wanted = np.arange(seeds)
    if not np.isin(wanted, data["seed"]).all():
        raise SpecError(f"{path} has not all of the seeds 0 to {seeds - 1}")
    return data.sel(seed=wanted)


def _require_packages(suffix: str) -> None:
    lacking = [name for name in NEEDED[suffix] if importlib.util.find_spec(name) is None]
    if lacking:
        wanted = " and ".join(lacking)
        raise SpecError(f'{suffix} files need {wanted}: pip install "simrl[export]"')


def long_table(data: xr.Dataset, variables: str | Iterable[str] | None = None) -> pd.DataFrame:
    """Tidy per-seed values: one row per cell, seed, place (if it has one) and variable.

    A place is a log point, a phase or a threshold (`belief` and `leaf_*` have more).
    What only pads a cell to the size of another, and variables that a cell does not have, give no
    rows. Counts to a threshold (`hit_*`) of a censored seed are inf. Counts beyond 2^53 are
    rounded, bools are 0 and 1.

    Args:
      data: of `simrl.run` or `simrl.open`, or some cells of it.
      variables: one name or several; by default all per-seed variables except `belief`.

    Returns:
      Columns: the sweep's axes, seed, one for each dim of a chosen variable (as log_point, phase,
      threshold; empty where another variable has it not), variable, value (float64) and units.

    Raises:
      ValueError: a name that is no variable of the Dataset with a value per seed.
    """
    check_data(data)
    check_seeds(data)
    names = _chosen(data, variables)
    found = [
        part
        for labels, cell in each_cell(data)
        for name in names
        if (part := _long_rows(labels, cell, name)) is not None
    ]
    if not found:
        return pd.DataFrame(columns=["seed", "variable", "value", "units"])
    table = pd.concat(found, ignore_index=True)
    last = ["variable", "value", "units"]  # though a later variable may have brought a dim
    table = table[[*(column for column in table.columns if column not in last), *last]]
    return table.astype({dim: "Int64" for dim in NUMBERED if dim in table.columns})


def _chosen(data: xr.Dataset, variables: str | Iterable[str] | None) -> list[str]:
    seeded = [str(k) for k, v in data.data_vars.items() if "seed" in v.dims]
    numeric = [name for name in seeded if data[name].dtype.kind in "iufb"]
    if not numeric:
        raise ValueError("the Dataset has no variable with a number per seed")
    if variables is None:
        return [name for name in numeric if name != "belief"]
    if not isinstance(variables, Iterable):
        raise ValueError(f"variables must be one name or several, not {variables!r}")
    names = [variables] if isinstance(variables, str) else list(variables)
    for name in names:
        if name not in numeric:
            raise ValueError(f"{name!r} is not a variable with a number per seed")
    return names


def _long_rows(labels: dict[str, Any], cell: xr.Dataset, name: str) -> pd.DataFrame | None:
    array = _values(cell, name)
    for dim in array.dims[1:]:
        array = array.isel({dim: np.flatnonzero(present(cell, str(dim)))})
    values = array.values
    if np.isnan(values).all():
        return None
    places = np.indices(values.shape).reshape(values.ndim, -1)
    at = {str(dim): array[dim].values[i] for dim, i in zip(array.dims, places, strict=True)}
    units = cell[name].attrs.get("units", "1")
    return pd.DataFrame({**labels, **at, "variable": name, "value": values.ravel(), "units": units})


def _values(cell: xr.Dataset, name: str) -> xr.DataArray:
    """A variable of one cell as float64, seed first; what a censored seed never hit is inf."""
    array = cell[name].transpose("seed", ...).astype(np.float64)
    if not name.startswith("hit_"):
        return array
    if "reached" not in cell:
        raise ValueError(f"{name!r} needs 'reached' in the Dataset, to tell who was censored")
    return array.where(cell["reached"] != 0, np.inf)


def score_arrays(
    data: xr.Dataset,
    quantity: str,
    algorithm: str,
    task: str | None = None,
    threshold: float | None = None,
) -> dict[str, np.ndarray]:
    """Scores of every algorithm as rliable takes them: {label: runs x tasks}.

    Runs are the seeds. `rliable.library.get_interval_estimates` and its fellows take the result as
    it is (Agarwal et al. 2021); scores are in the quantity's own units and not normalised.

    Args:
      data: of `simrl.run` or `simrl.open`: one cell for every algorithm and task.
      quantity: a per-seed variable: a measure, taken at its last log point; a total (`total_flops`)
        or other value without a place; or `hit_*` at a threshold. Censored seeds have inf there,
        which statistics of ranks (median, IQM with few of them) take and means do not.
      algorithm: the axis whose labels are the keys, as text.
      task: the axis whose labels are the columns, in their order in the Dataset; None for one.
      threshold: the pass rate of a `hit_*` quantity.

    Returns:
      Label -> float64 array [seeds, tasks].

    Raises:
      ValueError: an unknown axis, quantity or threshold; an axis that would have to be chosen from
        first; an algorithm without one of the tasks.
    """
    check_data(data)
    check_seeds(data)
    _chosen(data, quantity)
    cells = each_cell(data)
    axes = [axis for axis in (algorithm, task) if axis is not None]
    unknown = [axis for axis in axes if axis not in cells[0][0]]
    if unknown:
        raise ValueError(f"no axis {unknown[0]!r}; the axes are {list(cells[0][0])}")
    scores: dict[tuple[Any, ...], np.ndarray] = {}
    for labels, cell in cells:
        pair = tuple(labels[axis] for axis in axes)
        if pair in scores:
            raise ValueError(f"{list(pair)} has several cells: choose {_to_choose(cells, axes)}")
        scores[pair] = _scores(cell, quantity, threshold)
    tasks = list(dict.fromkeys(pair[1:] for pair in scores))
    names = list(dict.fromkeys(pair[0] for pair in scores))
    for name in names:
        lacking = [of for of in tasks if (name, *of) not in scores]
        if lacking:
            raise ValueError(f"algorithm {name!r} has no cell for task {lacking[0][0]!r}")
    return {str(n): np.stack([scores[n, *of] for of in tasks], axis=1) for n in names}


def _to_choose(cells: list[tuple[dict[str, Any], xr.Dataset]], axes: list[str]) -> str:
    """The other axes that have more than one label, in words."""
    others = [axis for axis in cells[0][0] if axis not in axes]
    several = [axis for axis in others if len({labels[axis] for labels, _ in cells}) > 1]
    return f"one value of {', '.join(several)} first" if several else "one of them first"


def _scores(cell: xr.Dataset, quantity: str, threshold: float | None) -> np.ndarray:
    """One number per seed [N]."""
    array = _values(cell, quantity)
    place = array.dims[1:]
    if place == ("log_point",):
        array = array[:, np.flatnonzero(present(cell, "log_point"))[-1]]
    elif place == ("threshold",):
        known = cell["threshold"].values[present(cell, "threshold")].tolist()
        if threshold is None or not np.isclose(known, threshold, rtol=1e-9).any():
            raise ValueError(f"{quantity} needs a threshold out of {known}, not {threshold}")
        array = array.sel(threshold=threshold, method="nearest")
    elif place:
        raise ValueError(f"{quantity} has a value per {' and '.join(map(str, place))}, not one")
    return array.values
