"""Results on disk: a manifest and immutable blocks of seeds, each complete or absent.

results/<name>/manifest.json and blocks/<cell hash>/<first seed>-<last seed>.npz. Every file is
written under a temporary name, synced, then renamed: an interrupted run never leaves half a block,
and resuming is running what is missing.
"""

import contextlib
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from simrl.sweeps.errors import SpecError, writing

FORMAT = 2
_BLOCK = re.compile(r"(\d+)-(\d+)\.npz")
_CELL, _NAMES = "block.cell", "block.names"  # what a block says of itself beside its arrays

Block = dict[str, np.ndarray]


class Store:
    """One result folder. `description` is the sweep's `describe()`; it must match what is there."""

    def __init__(self, path: str | Path, description: dict[str, Any]):
        self.path = Path(path)
        self.description = description

    def open(self, session: dict[str, Any]) -> None:
        """Make the folder, or check that it holds this very sweep; note the session's machine."""
        if self.path.exists() and not self.path.is_dir():
            raise SpecError(f"{self.path} is not a folder")
        manifest = read_manifest(self.path) if (self.path / "manifest.json").exists() else None
        if manifest is None:
            manifest = {"format": FORMAT, "sweep": self.description, "sessions": []}
        else:
            refuse_change(manifest["sweep"], self.description, self.path)
        if session not in manifest["sessions"]:
            manifest["sessions"].append(session)
            text = json.dumps(manifest, indent=1) + "\n"
            with writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                with atomic(self.path / "manifest.json") as file:
                    file.write(text.encode())

    def blocks(self, cell: str) -> list[tuple[int, int]]:
        """First and last seed of each block of a cell, in order."""
        return blocks_in(self.path, cell)

    def save(self, cell: str, first: int, last: int, block: Block) -> None:
        """Write one block; a block that is there already is left as it is."""
        target = _block_path(self.path, cell, first, last)
        if target.exists():
            return
        about = {_CELL: np.array(cell), _NAMES: np.array(sorted(block))}
        with writing(self.path):
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic(target) as file:
                np.savez(file, **block, **about)  # type: ignore[arg-type]

    def load(self, cell: str, first: int, last: int) -> Block:
        """Read one block."""
        return load_block(self.path, cell, first, last)


class Writer:
    """Writes blocks one after the other while the caller goes on; once it is left, all are there.

    An error in writing one is raised by the next `save`, or when it is left.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting: list[Future] = []

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type | None, *about: object) -> None:
        self._thread.shutdown(wait=True)  # also after Ctrl-C: these seeds are done
        if kind is None:
            self._raise()

    def save(self, store: Store, cell: str, first: int, last: int, block: Block) -> None:
        """See `Store.save`."""
        self._raise()
        self._waiting.append(self._thread.submit(store.save, cell, first, last, block))

    def _raise(self) -> None:
        for made in [made for made in self._waiting if made.done()]:
            self._waiting.remove(made)
            made.result()


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a result folder."""
    file = Path(path) / "manifest.json"
    try:
        manifest = json.loads(file.read_text())
    except OSError as error:
        raise SpecError(f"no results at {path}: {error.strerror}") from None
    except ValueError as error:  # not JSON, or not even text
        raise SpecError(f"{file} is damaged: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise SpecError(f"{file} is not a simrl manifest of format {FORMAT}")
    sweep: Any = manifest.get("sweep")
    described = isinstance(sweep, dict) and {"name", "mode", "cells"} <= set(sweep)
    if not described or not isinstance(manifest.get("sessions"), list):
        raise SpecError(f"{file} is damaged: it describes no sweep")
    if not isinstance(sweep["cells"], list) or not all(map(_is_cell, sweep["cells"])):
        raise SpecError(f"{file} is damaged: its cells are not described")
    return manifest


def _is_cell(entry: Any) -> bool:
    """Whether an entry of a manifest says all that is read of it."""
    if not isinstance(entry, dict) or not isinstance(entry.get("hash"), str):
        return False
    spec: Any = entry.get("spec")
    if not isinstance(spec, dict) or not isinstance(entry.get("coordinates"), dict):
        return False
    phases = spec.get("phases")
    told = isinstance(phases, dict) and {"coordinate", "low", "high", "num"} <= set(phases)
    return told and isinstance(spec.get("thresholds"), list)


def blocks_in(path: Path, cell: str) -> list[tuple[int, int]]:
    """First and last seed of each block of a cell, in order."""
    folder = Path(path) / "blocks" / cell
    matches = [_BLOCK.fullmatch(f.name) for f in folder.iterdir()] if folder.exists() else []
    return sorted((int(m[1]), int(m[2])) for m in matches if m)


def load_block(path: Path, cell: str, first: int, last: int) -> Block:
    """Read one block of a result folder."""
    file = _block_path(Path(path), cell, first, last)
    try:
        # Opened here, because numpy does not close a file that it opens and cannot read.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as data:
            block = {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise SpecError(f"{file} is damaged ({error}); delete it and run again") from None
    own, names = (block.pop(name, np.array("")) for name in (_CELL, _NAMES))
    seeds, num = block.get("seed", np.empty(0)), last + 1 - first
    problems = {
        f"is not a block of seeds {first} to {last}": not np.array_equal(
            seeds, np.arange(first, last + 1)
        ),
        f"is not a block of cell {cell}": str(own) != cell,
        "lacks variables, or seeds of some": set(names.ravel()) != set(block)
        or any(value.shape[:1] != (num,) for value in block.values()),
    }
    for problem, holds in problems.items():
        if holds:
            raise SpecError(f"{file} {problem}; delete it and run again")
    return block


def _block_path(path: Path, cell: str, first: int, last: int) -> Path:
    return path / "blocks" / cell / f"{first}-{last}.npz"


@contextlib.contextmanager
def atomic(target: Path) -> Iterator[Any]:
    """A binary file that appears under its name only when complete and on the disk."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".partial-", suffix=target.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # mkstemp lets nobody else read
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def refuse_change(stored: Any, asked: Any, path: Path) -> None:
    """Raise SpecError naming the first field in which two descriptions differ."""
    found = _difference(stored, asked, "")
    if found is not None:
        field, there, here = found
        raise SpecError(
            f"{path} holds another sweep: {field} is {there!r} there and {here!r} here; "
            "give the new sweep another name or out, or delete the old results"
        )


def _difference(stored: Any, asked: Any, field: str) -> tuple[str, Any, Any] | None:
    if isinstance(stored, dict) and isinstance(asked, dict):
        pairs = [(key, stored.get(key), asked.get(key)) for key in {**stored, **asked}]
    elif isinstance(stored, list) and isinstance(asked, list) and len(stored) == len(asked):
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(stored, asked, strict=True))]
    elif isinstance(stored, list) and isinstance(asked, list):
        return f"number of {field}", len(stored), len(asked)
    else:
        return None if stored == asked else (field, stored, asked)
    for key, a, b in pairs:
        found = _difference(a, b, f"{field}.{key}" if field else key)
        if found is not None:
            return found
    return None
