"""Running a sweep: which blocks are missing, on which devices, and what to say meanwhile."""

import os
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import xarray as xr

from simrl import forks
from simrl.engine import compiling, lanes, pool
from simrl.errors import SpecError, brief, shallow
from simrl.sweeps import dataset as datasets
from simrl.sweeps import export, fingerprints, given, identity, manifest, pools, provenance, sizes
from simrl.sweeps.divergence import Diverged
from simrl.sweeps.grid import Cell, Sweep
from simrl.sweeps.progress import Progress, ProgressBar, Report
from simrl.sweeps.reducer import PerSeed, Reducer, open_moments
from simrl.sweeps.spec import Spec
from simrl.sweeps.store import Block, Store, Writer

BLOCK = pool.MIN_SEEDS  # seeds in a stored block


def use_cpu_cores(num_devices: int | None = None) -> None:
    """Let the CPU show one device per core; must come before the first JAX operation.

    Too late, it warns in one line and leaves things as they are.
    """
    chosen = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    by_flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if by_flag or (num_devices is None and chosen > 0):
        return  # the user has decided
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    wanted = num_devices or cores
    if chosen == wanted:
        return
    try:
        jax.config.update("jax_num_cpu_devices", wanted)
    except RuntimeError:
        if jax.default_backend() == "cpu" and len(jax.devices()) < wanted:
            warnings.warn(
                f"simrl runs on {len(jax.devices())} of {wanted} CPU cores: JAX was used before "
                "simrl.run; call simrl.use_cpu_cores() first",
                stacklevel=3,
            )


@shallow
def run(
    sweep: Sweep | Spec,
    seeds: int | Iterable[int] = 256,
    out: str | Path | None = None,
    *,
    devices: int | None = None,
    only: Iterable[int] | None = None,
    shard: tuple[int, int] | None = None,
    keep: Literal["seeds", "moments"] = "seeds",
    strict: bool = False,
    progress: Callable[[Progress], None] | bool | None = None,
) -> xr.Dataset:
    """Run a sweep, or what is missing of it, and return its `xarray.Dataset`.

    `seeds`: how many, or which (`range(300, 400)`). `out`: the result folder; blocks that are there
    are not run again. None keeps nothing on disk. `devices`: how many, all by default. `only`:
    positions of the cells to run, all by default. `shard`: (i, n) trains the i-th of n shares of
    the stored blocks alone, i from 1; any number of processes may share a folder, and the Dataset
    has what is stored so far of all seeds. After `jax.distributed.initialize()` each of n processes
    trains its share; (1, 1): all of them. `keep`: "moments" returns means and covariances over
    seeds, added up block by block, of which tables and figures are made (no medians), in the memory
    of one block however many seeds there are. `strict`: stops as soon as a finished block
    holds a seed that diverged, NaN or infinite; otherwise a UserWarning counts them at the end.
    `progress`: True shows a bar, or lines where stderr is no terminal; a function is called with a
    `Progress` after each block. Raises SpecError, one line, on a bad spec or argument, and where
    `out` cannot be read or written.
    """
    forks.refuse_forked()
    use_cpu_cores()  # before a thing of the user's own, which checks build, could touch JAX
    function: Any = progress
    if isinstance(progress, bool):
        function = ProgressBar() if progress else None
    with function if isinstance(function, ProgressBar) else nullcontext():
        return _run(sweep, seeds, out, devices, only, shard, keep, strict, function)


@compiling.promoting
def _run(sweep: Any, seeds: Any, out: Any, *options: Any) -> Any:
    """Runs a sweep; `options` are the other arguments of `run`, in turn."""
    devices, only, shard, keep, strict, progress = options
    sweep = Sweep(sweep) if isinstance(sweep, Spec) else sweep
    if not isinstance(sweep, Sweep):
        advice = ": simrl.load reads a sweep from a file" if isinstance(sweep, str | Path) else ""
        raise SpecError(f"sweep must be a Sweep or a Spec, got {brief(sweep)}{advice}")
    cells = sweep.cells()
    positions = given.cells(only, len(cells))
    conditions = [cells[i] for i in positions]
    most = sizes.most_seeds((cell.spec for cell in conditions), given.keep(keep))
    wanted = given.seeds(seeds, most)
    num_devices, diverged = given.devices(devices), Diverged(wanted, given.switch(strict, "strict"))
    given.function(progress, "progress", "True or a function")
    folder = None if out is None else given.path(out, "out")
    mesh = lanes.mesh_of(num_devices)
    share = share_of(shard)
    if share and folder is None:
        raise SpecError(
            "shard cannot be combined with out=None: shares meet in a folder; (1, 1) runs all"
        )
    store = None if folder is None else Store(folder, sweep.describe(cells))
    if store is not None:
        fingerprints.refuse_changes(store.path, store.description["cells"])
    missing = [
        (i, *ends)
        for i in positions
        for ends in missing_blocks(store, cells[i], wanted)
        if share is None or in_share(share, i, ends[0])
    ]
    groups = [some if store else _merged(some) for some in pools.split(cells, missing, mesh)]
    # The folder is made only now, when nothing is left to refuse.
    sessions = _sessions(store, [cell.spec for cell in conditions], mesh, noted=bool(missing))
    results = Reducer(conditions, wanted) if keep == "moments" else PerSeed(conditions, wanted)
    total = sum(last - first + 1 for _, first, last in missing)
    report = Report(progress, len(positions), total)
    with Writer() as writer, closing(_trained(cells, groups, mesh, report)) as trained:
        for (i, first, last), block in trained:
            if store is not None:
                writer.save(store, identity.cell_hash(cells[i].spec), first, last, block)
            num_updates = int(block["total.step"].sum())
            place = positions.index(i)
            report.block(place, cells[i].coordinates, last - first + 1, num_updates)
            diverged.add(cells[i].coordinates, block)
            results.add(place, dict(block))  # it may still be written
    if store is not None:
        _add_stored(store, results, diverged, whole=share is None)
    if line := diverged.line():
        warnings.warn(f"{sweep.name}: {line}", stacklevel=5)
    product = sweep.mode == "product" and len(conditions) == len(cells)
    data = results.dataset(sweep.name, product)
    described = provenance.described(conditions)
    return data.assign_attrs(provenance.attributes(described, sessions))


def _sessions(
    store: Store | None, ready: list[Spec], mesh: Any, *, noted: bool
) -> list[dict[str, Any]]:
    """The processes that the results come from; `noted`: this one computes some of them."""
    own = provenance.session(mesh)
    if store is None:
        return [own]
    widths = sorted({width for spec in ready for width in pools.widths(spec, mesh)})
    store.open({**own, "lane_widths": widths} if noted else None)
    sessions = manifest.read_sessions(store.path)
    if noted:
        provenance.warn_of_versions(sessions, store.path)
    return sessions


def _trained(
    cells: list[Cell], groups: list[list[pools.Piece]], mesh: Any, report: Report
) -> Generator[tuple[pools.Piece, Block], None, None]:
    """Every piece with its block, as pools are done."""
    for group, blocks in zip(groups, pools.run(cells, groups, mesh, report), strict=True):
        yield from zip(group, blocks, strict=True)


@shallow
def open_results(
    path: str | Path, seeds: int | None = None, keep: Literal["seeds", "moments"] = "seeds"
) -> xr.Dataset:
    """Returns the `xarray.Dataset` of a result folder, every condition, or of a file of `export`.

    Seeds that some condition has and another lacks, as while a sweep runs, are NaN there, and a
    UserWarning says how many conditions are complete. With `seeds`, of seeds 0 ... seeds - 1 only.
    `keep`: as of `run`; for moments the blocks are read one after the other. Raises SpecError, one
    line, where there is nothing that can be read.
    """
    path, seeds = given.path(path, "path"), given.count(seeds)
    if path.is_file():
        return export.read(path, seeds)
    if given.keep(keep) == "seeds":
        sizes.refuse_large(path)
    data = (datasets.open_dataset if keep == "seeds" else open_moments)(path, seeds)
    stored = manifest.read_manifest(path)
    cells = provenance.within(data, stored["sweep"]["cells"])
    return data.assign_attrs(provenance.attributes(cells, stored["sessions"]))


def missing_blocks(store: Store | None, cell: Cell, wanted: np.ndarray) -> list[tuple[int, int]]:
    """Runs of consecutive wanted seeds that are not stored, cut at multiples of BLOCK."""
    absent = wanted
    for first, last in [] if store is None else store.blocks(identity.cell_hash(cell.spec)):
        absent = absent[(absent < first) | (absent > last)]
    if absent.size == 0:
        return []
    breaks = (np.diff(absent) != 1) | (absent[1:] % BLOCK == 0)
    pieces = np.split(absent, np.flatnonzero(breaks) + 1)
    return [(int(piece[0]), int(piece[-1])) for piece in pieces]


def share_of(shard: Any) -> tuple[int, int] | None:
    """Returns the share (i, n) to run, by default that of this process among JAX's; None: all."""
    number, count = given.shard(shard) or (jax.process_index() + 1, jax.process_count())
    return None if count == 1 else (number, count)


def in_share(share: tuple[int, int], position: int, first: int) -> bool:
    """Returns whether a block of the condition at a position is of the i-th of n shares.

    It depends on neither what is stored nor how many seeds are wanted, and goes round both axes.
    """
    number, count = share
    return (position + first // BLOCK) % count == number - 1


def _merged(pieces: list[pools.Piece]) -> list[pools.Piece]:
    """Neighbours as one: only where they are stored blocks have a size."""
    found = pieces[:1]
    for i, first, last in pieces[1:]:
        before = found[-1]
        if (before[0], before[2] + 1) == (i, first):
            found[-1] = (i, before[1], last)
        else:
            found.append((i, first, last))
    return found


def _add_stored(
    store: Store, results: PerSeed | Reducer, diverged: Diverged, *, whole: bool
) -> None:
    """Adds the stored blocks of wanted seeds that were not just computed.

    Raises SpecError where a wanted seed is in none of them and `whole`: another process deleted its
    block. Of a share, others may not have computed theirs yet.
    """
    for place, cell in enumerate(results.cells):
        name, absent = identity.cell_hash(cell.spec), results.absent(place)
        for first, last in store.blocks(name):
            if np.diff(np.searchsorted(absent, (first, last + 1))) > 0:
                block = store.load(name, first, last)
                diverged.add(cell.coordinates, block)
                results.add(place, block)
        absent = results.absent(place)
        if absent.size and whole:
            raise SpecError(
                f"{store.path}: the blocks of seeds {absent[0]} to {absent[-1]} of "
                f"{cell.coordinates or 'the condition'} disappeared during the run; run again"
            )
