"""What a result folder holds, from the folder alone."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simrl.errors import shallow
from simrl.sweeps import given, manifest, sizes, store
from simrl.sweeps.errors import SpecError


class CellStatus(NamedTuple):
    """What is stored of one condition.

    Attributes:
        coordinates: axis -> label.
        seeds: that are stored.
        blocks: files that hold them.
        damaged: a line for each block that cannot be read; blocks are read with `verify` alone.
        diverged: seeds whose policy became NaN; None unless blocks were read.
    """

    coordinates: dict[str, Any]
    seeds: int
    blocks: int
    damaged: tuple[str, ...]
    diverged: int | None


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

    Raises SpecError, one line, where there are no results.
    """
    folder = given.path(path, "path")
    stored = manifest.read_manifest(folder)
    cells = tuple(_cell(folder, entry, verify) for entry in stored["sweep"]["cells"])
    names = [name for _, _, own in os.walk(folder) for name in own]
    partial = sum(name.startswith(".partial-") for name in names)
    size = sizes.of_folder(folder)
    return Status(stored["sweep"]["name"], cells, len(stored["sessions"]), partial, size)


def _cell(folder: Path, entry: dict[str, Any], verify: bool) -> CellStatus:
    """The status of one condition of a manifest."""
    ends = store.blocks_in(folder, entry["hash"])
    numbers = [np.arange(first, last + 1) for first, last in ends]
    damaged, diverged = [], np.empty(0, np.int64)
    for first, last in ends if verify else ():
        try:
            block = store.load_block(folder, entry["hash"], first, last)
        except SpecError as error:
            damaged.append(str(error))
            continue
        if "look.log_odds" in block:
            bad = np.isnan(block["look.log_odds"]).any(axis=1)
            diverged = np.union1d(diverged, block["seed"][bad])
    seeds = np.unique(np.concatenate(numbers)).size if numbers else 0
    count = diverged.size if verify else None
    return CellStatus(entry["coordinates"], seeds, len(ends), tuple(damaged), count)
