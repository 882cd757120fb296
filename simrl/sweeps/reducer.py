"""A sweep's results, of blocks that come in any order: of each seed, or moments over them."""

import warnings
from pathlib import Path

import numpy as np
import xarray as xr

from simrl.sweeps import dataset as datasets
from simrl.sweeps import moments, reduced, store
from simrl.sweeps.errors import NothingToRun
from simrl.sweeps.grid import Cell
from simrl.sweeps.joining import Part
from simrl.sweeps.store import Block

SEEDS = 4096  # are reduced together


class PerSeed:
    """The blocks of each condition."""

    def __init__(self, cells: list[Cell], wanted: np.ndarray):
        """`wanted`: the seeds [N], sorted; others in the blocks are left out."""
        self.cells, self._wanted = cells, wanted
        self._blocks: list[list[Block]] = [[] for _ in cells]

    def add(self, place: int, block: Block) -> None:
        """Keeps a block of the condition at a place."""
        self._blocks[place].append(block)

    def absent(self, place: int) -> np.ndarray:
        """Returns the wanted seeds of a condition that have not come."""
        return np.setdiff1d(self._wanted, datasets.seeds_of(self._blocks[place]))

    def dataset(self, name: str, product: bool) -> xr.Dataset:
        """Returns the Dataset of what has come; empties the blocks.

        Raises NothingToRun where nothing has come of any condition.
        """
        for blocks in self._blocks:
            blocks.sort(key=lambda block: block["seed"][0])
        pairs = list(zip(self.cells, self._blocks, strict=True))
        return datasets.dataset(name, pairs, self._wanted, product=product)


class Reducer:
    """Moments over the seeds of each condition, in the memory of a few blocks."""

    def __init__(self, cells: list[Cell], wanted: np.ndarray):
        """`wanted`: the seeds [N], sorted; others in the blocks are left out."""
        self.cells, self._num_seeds = cells, wanted.size
        self._absent = [wanted] * len(cells)
        self._waiting: list[list[Block]] = [[] for _ in cells]
        self._summaries: list[reduced.Summary] = [{} for _ in cells]
        self._parts: list[Part | None] = [None] * len(cells)

    def add(self, place: int, block: Block) -> None:
        """Counts a block of the condition at a place; empties it, now or later."""
        self._waiting[place].append(block)
        if datasets.seeds_of(self._waiting[place]).size >= SEEDS:
            self._reduce(place)

    def absent(self, place: int) -> np.ndarray:
        """Returns the wanted seeds of a condition that have not come."""
        waiting = self._waiting[place]
        return np.setdiff1d(self._absent[place], datasets.seeds_of(waiting), assume_unique=True)

    def dataset(self, name: str, product: bool) -> xr.Dataset:
        """Returns the Dataset of what has come; what has not come of a condition is NaN.

        Warns, in one line, where seeds are missing. Raises NothingToRun where nothing has come.
        """
        for place in range(len(self.cells)):
            self._reduce(place)
        if not any(self._parts):
            raise NothingToRun()
        sizes = [self._num_seeds - absent.size for absent in self._absent]
        if lacking := datasets.missing_line(sizes, self._num_seeds):
            warnings.warn(f"{name}: {lacking}", stacklevel=5)
        pairs = zip(self._summaries, self._parts, strict=True)
        nothing = Part({}, {"threshold": []})
        parts = [reduced.part_of(own, part) if part else nothing for own, part in pairs]
        data = datasets.whole(name, self.cells, parts, product)
        return data.assign_coords(moment=list(moments.FIELDS))

    def _reduce(self, place: int) -> None:
        blocks, self._waiting[place] = self._waiting[place], []
        have, absent = np.unique(datasets.seeds_of(blocks)), self._absent[place]
        if have.size == 0:
            return
        low, high = np.searchsorted(absent, (have[0], have[-1] + 1))
        near = absent[low:high]  # of which few are sought: all may be millions
        own = near[np.isin(near, have)]
        if own.size == 0:
            return
        part = datasets.part(self.cells[place], blocks, own)
        self._summaries[place] = reduced.both(self._summaries[place], reduced.of_seeds(part))
        self._parts[place] = reduced.without_seeds(part)
        parts = absent[:low], near[~np.isin(near, have)], absent[high:]
        whole = [part for part in parts if part.size]
        self._absent[place] = whole[0] if len(whole) == 1 else np.concatenate(parts)


def open_moments(path: Path, seeds: int | None = None) -> xr.Dataset:
    """Returns moments of all conditions stored at a path, block after block; see `open_dataset`."""
    manifest = store.read_manifest(path)["sweep"]
    cells = [datasets.stored_cell(entry) for entry in manifest["cells"]]
    ends = [store.blocks_in(path, entry["hash"]) for entry in manifest["cells"]]
    most = max((last + 1 for own in ends for _, last in own), default=0)
    wanted = np.arange(most if seeds is None else min(seeds, most))
    reducer = Reducer(cells, wanted)
    for place, own in enumerate(ends):
        for first, last in own:
            if first < wanted.size:
                entry = manifest["cells"][place]
                reducer.add(place, store.load_block(path, entry["hash"], first, last))
    return reducer.dataset(str(path), manifest["mode"] == "product")
