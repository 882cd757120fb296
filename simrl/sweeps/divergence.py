"""Which seeds diverged: a number in their state or in their measures became NaN or infinite."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from simrl.errors import SpecError
from simrl.sweeps.store import Block

MOST_NAMED, LONGEST = 3, 60  # conditions in a line, and characters of each


class Diverged:
    """The diverged seeds of a run, counted as blocks come; `strict`: the first one ends it."""

    def __init__(self, wanted: np.ndarray, strict: bool = False):
        """`wanted`: the seeds [N] of the run; others in the blocks do not count."""
        self._wanted, self._strict = wanted, strict
        self._steps: dict[str, np.ndarray] = {}

    def add(self, coordinates: Mapping[str, Any], block: Block) -> None:
        """Counts a block of a condition. Raises SpecError where seeds diverged and `strict`."""
        if "diverged.step" not in block:  # of an earlier version
            return
        bad = block["diverged.step"] >= 0
        if not bad.any():
            return
        own = np.isin(block["seed"][bad], self._wanted)
        steps = block["diverged.step"][bad][own]
        if not steps.size:
            return
        name = ", ".join(f"{axis}={label}" for axis, label in coordinates.items())
        before = self._steps.get(name, steps[:0])
        self._steps[name] = np.concatenate([before, steps])
        if self._strict:
            raise SpecError(f"strict: {self.line()}; what is finished is stored")

    def line(self) -> str:
        """Returns how many seeds of which conditions diverged, and the first update; "" if none."""
        if not self._steps:
            return ""
        steps = np.concatenate(list(self._steps.values()))
        named = [name[:LONGEST] for name in self._steps if name][:MOST_NAMED]
        more = len(self._steps) - len(named)
        named += [f"{more} more"] if named and more else []
        where = f" ({'; '.join(named)})" if named else ""
        seeds = f"{steps.size:,} seed{'s' * (steps.size > 1)} diverged"
        return f"{seeds}{where}, the first at update {steps.min():,}"
