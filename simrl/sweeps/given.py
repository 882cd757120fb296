"""What a caller hands over besides a spec: seeds, cells, devices, folders and files."""

import os
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from simrl.sweeps.errors import SpecError

MOST_SEEDS = 2**32  # their numbers are 32-bit words
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def seeds(value: Any) -> np.ndarray:
    """The numbers of the seeds, distinct and in order, of how many there are or which."""
    allowed = "a positive number or distinct integers in 0 ... 2^32 - 1"
    refused = SpecError(f"seeds must be {allowed}, not {told(value)}")
    if _is_whole(value):
        if not 0 < value <= MOST_SEEDS:
            raise refused
        return np.arange(value, dtype=np.int64)
    chosen = _row(value)
    if chosen is None or chosen.size == 0 or chosen.min() < 0 or chosen.max() >= MOST_SEEDS:
        raise refused
    return np.unique(chosen).astype(np.int64)


def count(value: Any) -> int | None:
    """How many seeds, from the first on; None: as many as there are."""
    if value is None or (_is_whole(value) and 0 < value <= MOST_SEEDS):
        return value
    raise SpecError(f"seeds must be how many, in 1 ... 2^32, not {told(value)}")


def cells(value: Any, num_cells: int) -> list[int]:
    """Positions of the cells to run; None: all."""
    if value is None:
        return list(range(num_cells))
    chosen = _row(value)
    if chosen is None or chosen.size == 0 or chosen.min() < 0 or chosen.max() >= num_cells:
        raise SpecError(f"only must name cells in 0 ... {num_cells - 1}, not {told(value)}")
    return np.unique(chosen).tolist()


def devices(value: Any) -> int | None:
    """How many devices; None: all."""
    if value is None or _is_whole(value):
        return value
    raise SpecError(f"devices must be how many, a whole number, not {told(value)}")


def path(value: Any, what: str) -> Path:
    """A path that the system can look up, whether or not there is anything."""
    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        raise SpecError(f"{what} must be a path, not {told(value)}")
    try:
        Path(value).exists()
    except (OSError, ValueError) as error:  # too long, no permission
        reason = getattr(error, "strerror", None) or error
        raise SpecError(f"{what} cannot be {told(value)}: {reason}") from None
    return Path(value)


def shard(value: Any) -> tuple[int, int] | None:
    """The number of a share, from 1, and how many there are; None: all."""
    row = None if value is None else _row(value)
    if value is None or (row is not None and row.size == 2 and 1 <= row[0] <= row[1]):
        return None if row is None else (int(row[0]), int(row[1]))
    raise SpecError(f"shard: must be (i, n) with 1 <= i <= n, got {told(value)}")


def function(value: Any, what: str, allowed: str = "a function") -> None:
    """Something to call, or None."""
    if value is not None and not callable(value):
        raise SpecError(f"{what}: must be {allowed}, got {told(value)}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _row(value: Any) -> np.ndarray | None:
    """Whole numbers [N] of an iterable; None if they are none."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return None
    listed = list(value)
    return np.asarray(listed) if all(map(_is_whole, listed)) else None


def told(value: Any) -> str:
    """A value in a few words and on one line."""
    return " ".join(_SHORT.repr(value).split())
