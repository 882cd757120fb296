"""What a result folder holds, from the folder alone."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simrl.errors import shallow
from simrl.sweeps import given, manifest, sizes, store
from simrl.sweeps.errors import SpecError

MOST_READ = 4096  # blocks of which the diverged seeds are read without `verify`: 1 s or two


class CellStatus(NamedTuple):
    """What is stored of one condition.

    Attributes:
        coordinates: axis -> label.
        seeds: that are stored.
        blocks: files that hold them.
        damaged: a line for each block that cannot be read; blocks are read with `verify` alone.
        diverged: seeds with a number that became NaN or infinite; None where blocks are many and
            `verify` was not asked for.
        bad_update: the first at which one of them was seen so; None without any.
    """

    coordinates: dict[str, Any]
    seeds: int
    blocks: int
    damaged: tuple[str, ...]
    diverged: int | None
    bad_update: int | None


class Status(NamedTuple):
    """What a result folder holds.

    Attributes:
        name: of the sweep.
        cells: a `CellStatus` for each condition.
        sessions: processes that trained seeds, one for all of the same versions and devices.
        partial: files that a process was writing when it ended, or writes now.
        bytes: of all blocks.
    """

    name: str
    cells: tuple[CellStatus, ...]
    sessions: int
    partial: int
    bytes: int

    @property
    def most_seeds(self) -> int:
        """Seeds of the condition that has most: what others lack of them is missing."""
        return max((cell.seeds for cell in self.cells), default=0)


@shallow
def status(path: str | Path, verify: bool = False) -> Status:
    """Returns what a result folder holds; with `verify` every block is read and checked.

    Without it one array of each block is read, which says what seeds diverged. Raises SpecError,
    one line, where there are no results.
    """
    folder = given.path(path, "path")
    stored = manifest.read_manifest(folder)
    entries = stored["sweep"]["cells"]
    few = sum(len(store.blocks_in(folder, entry["hash"])) for entry in entries) <= MOST_READ
    cells = tuple(_cell(folder, entry, verify, verify or few) for entry in entries)
    names = [name for _, _, own in os.walk(folder) for name in own]
    partial = sum(name.startswith(".partial-") for name in names)
    size = sizes.of_folder(folder)
    return Status(stored["sweep"]["name"], cells, len(stored["sessions"]), partial, size)


def _cell(folder: Path, entry: dict[str, Any], verify: bool, count: bool) -> CellStatus:
    """The status of one condition of a manifest; `count`: of its diverged seeds as well."""
    ends = store.blocks_in(folder, entry["hash"])
    numbers = [np.arange(first, last + 1) for first, last in ends]
    damaged: list[str] = []
    bad: dict[int, int] = {}
    for first, last in ends if verify or count else ():
        try:
            if verify:
                steps = store.load_block(folder, entry["hash"], first, last).get("diverged.step")
            else:
                steps = store.load_array(folder, entry["hash"], first, last, "diverged.step")
        except SpecError as error:
            damaged.append(str(error))
            continue
        if steps is not None:
            places = np.flatnonzero(steps >= 0)
            bad |= dict(zip((first + places).tolist(), steps[places].tolist(), strict=True))
    seeds = np.unique(np.concatenate(numbers)).size if numbers else 0
    least = min(bad.values(), default=None)
    num_bad = len(bad) if count else None
    return CellStatus(entry["coordinates"], seeds, len(ends), tuple(damaged), num_bad, least)
