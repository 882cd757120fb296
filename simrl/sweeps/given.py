"""What a caller hands over besides a spec: seeds, cells, devices, folders and files."""

import itertools
import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simrl.errors import SpecError, brief

MOST_SEEDS = 2**32  # their numbers are 32-bit words
MOST_CHARACTERS = 200  # of a name: a file's has at most 255 bytes, with a suffix
MOST_DEPTH = 32  # levels of lists and tables
MOST_LISTED = 10**7  # of seeds or cells that are named one by one


def seeds(value: Any, most: int = MOST_SEEDS) -> np.ndarray:
    """The numbers of the seeds, distinct and in order, of how many there are or which.

    `most`: how many of them this machine can hold the results of.
    """
    allowed = "a positive number or up to 10^7 distinct integers in 0 ... 2^32 - 1"
    refused = SpecError(f"seeds must be {allowed}, not {brief(value)}")
    if _is_whole(value):
        if not 0 < value <= MOST_SEEDS:
            raise refused
        _refuse_more(value, most)
        return np.arange(value, dtype=np.int64)
    chosen = _row(value)
    if chosen is None or chosen.size == 0 or chosen.min() < 0 or chosen.max() >= MOST_SEEDS:
        raise refused
    _refuse_more(chosen.size, most)
    return np.unique(chosen).astype(np.int64)


def _refuse_more(count: int, most: int) -> None:
    """Raises SpecError where the results of so many seeds do not fit in memory."""
    if count > most:
        reason = "more results than fit in this machine's memory; moments do (keep='moments')"
        raise SpecError(f"seeds must be at most {most} here, not {count}: {reason}")


def count(value: Any) -> int | None:
    """How many seeds, from the first on; None: as many as there are."""
    if value is None or (_is_whole(value) and 0 < value <= MOST_SEEDS):
        return value
    raise SpecError(f"seeds must be how many, in 1 ... 2^32, not {brief(value)}")


def cells(value: Any, num_cells: int) -> list[int]:
    """Positions of the cells to run; None: all."""
    if value is None:
        return list(range(num_cells))
    chosen = _row(value)
    if chosen is None or chosen.size == 0 or chosen.min() < 0 or chosen.max() >= num_cells:
        raise SpecError(f"only must name cells in 0 ... {num_cells - 1}, not {brief(value)}")
    return np.unique(chosen).tolist()


def devices(value: Any) -> int | None:
    """How many devices; None: all."""
    if value is None or _is_whole(value):
        return value
    raise SpecError(f"devices must be how many, a whole number, not {brief(value)}")


def path(value: Any, what: str) -> Path:
    """A path that the system can look up, whether or not there is anything."""
    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        raise SpecError(f"{what} must be a path, not {brief(value)}")
    try:
        Path(value).exists()
    except (OSError, ValueError) as error:  # too long, no permission
        reason = getattr(error, "strerror", None) or error
        raise SpecError(f"{what} cannot be {brief(value)}: {reason}") from None
    return Path(value)


def shard(value: Any) -> tuple[int, int] | None:
    """The number of a share, from 1, and how many there are; None: all."""
    row = None if value is None else _row(value)
    if value is None or (row is not None and row.size == 2 and 1 <= row[0] <= row[1]):
        return None if row is None else (int(row[0]), int(row[1]))
    raise SpecError(f"shard: must be (i, n) with 1 <= i <= n, got {brief(value)}")


def switch(value: Any, name: str) -> bool:
    """Returns a bool. Raises SpecError, one line, for anything else."""
    if not isinstance(value, bool):
        raise SpecError(f"{name}: must be True or False, got {brief(value)}")
    return value


def keep(value: Any) -> str:
    """What is kept of the seeds."""
    if value not in ("seeds", "moments"):
        raise SpecError(f"keep: must be 'seeds' or 'moments', got {brief(value)}")
    return value


def function(value: Any, what: str, allowed: str = "a function") -> None:
    """Something to call, or None."""
    if value is not None and not callable(value):
        raise SpecError(f"{what}: must be {allowed}, got {brief(value)}")


def has_control(text: str) -> bool:
    """Whether a text has what files cannot hold: control characters, lone surrogates."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def words(value: Any, what: str) -> tuple[str, ...]:
    """Texts of a list."""
    listed = value if isinstance(value, list | tuple | set | frozenset) else [None]
    if not all(isinstance(word, str) and word for word in listed):
        raise SpecError(f"{what}: must be a list of names, got {brief(value)}")
    return tuple(listed)


def refuse_deep(value: Any, what: str) -> None:
    """Raises SpecError where lists and dicts stand in each other more than MOST_DEPTH deep."""
    level = [value]
    for _ in range(MOST_DEPTH):
        inner = [x for x in level if isinstance(x, Mapping | list | tuple)]
        level = [y for x in inner for y in (x.values() if isinstance(x, Mapping) else x)]
    if any(isinstance(x, Mapping | list | tuple) for x in level):
        raise SpecError(f"{what}: must have at most {MOST_DEPTH} levels of lists and tables")


def name(value: Any, what: str) -> str:
    """A text that can be the name of a file or a folder."""
    if not isinstance(value, str):
        raise SpecError(f"{what} must be text, not {brief(value)}")
    if value in ("", ".", "..") or len(value) > MOST_CHARACTERS or has_control(value):
        allowed = f"1 ... {MOST_CHARACTERS} characters, without control characters"
        raise SpecError(f"{what}: must be text of {allowed}, got {brief(value)}")
    if "/" in value or "\\" in value:
        raise SpecError(f"{what}: must be without / and \\, as a folder is, got {brief(value)}")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _row(value: Any) -> np.ndarray | None:
    """Whole numbers [N] of an iterable, at most MOST_LISTED; None if they are none."""
    scalar = isinstance(value, np.ndarray) and value.ndim == 0
    if scalar or isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return None
    listed = list(itertools.islice(value, MOST_LISTED + 1))
    if len(listed) > MOST_LISTED or not all(map(_is_whole, listed)):
        return None
    return np.asarray(listed)
