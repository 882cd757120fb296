"""Results on disk: manifests and immutable blocks of seeds, each file complete or absent.

results/<name>/manifest.json, sessions/<digest>.json and blocks/<cell hash>/<first seed>-<last
seed>.npz. Every file is written under a temporary name, synced, then linked to its own, and never
replaced: an interrupted run never leaves half a block, and resuming is running what is missing.
"""

import functools
import io
import re
import zipfile
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from simrl.sweeps import manifest
from simrl.sweeps.errors import SpecError, writing
from simrl.sweeps.files import FORMAT, create, entries, read, remove_partial
from simrl.sweeps.manifest import read_manifest

__all__ = ["FORMAT", "Block", "Store", "Writer", "blocks_in", "load_block", "read_manifest"]

_BLOCK = re.compile(r"(\d+)-(\d+)\.npz")
_CELL, _NAMES = "block.cell", "block.names"  # what a block says of itself beside its arrays

Block = dict[str, np.ndarray]


class Store:
    """One result folder, for the conditions of a sweep; `description` is its `describe()`."""

    def __init__(self, path: str | Path, description: dict[str, Any]):
        self.path = Path(path)
        self.description = description

    def open(self, session: dict[str, Any] | None) -> None:
        """Makes the folder or adds the sweep's conditions to it, and notes a session that runs.

        Raises SpecError where the folder holds another sweep.
        """
        with writing(self.path):
            folders = [self.path, self.path / "sessions", *entries(self.path / "blocks")]
            remove_partial(folders)
            manifest.add_sweep(self.path, self.description)
            if session is not None:
                manifest.add_session(self.path, session)

    def blocks(self, cell: str) -> list[tuple[int, int]]:
        """First and last seed of each block of a cell, in order."""
        return blocks_in(self.path, cell)

    def save(self, cell: str, first: int, last: int, block: Block) -> None:
        """Write one block; a block that is there already is left as it is."""
        target = _block_path(self.path, cell, first, last)
        content: Any = {**block, _CELL: np.array(cell), _NAMES: np.array(sorted(block))}
        with writing(self.path):
            create(target, lambda file: np.savez(file, **content))

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


def blocks_in(path: Path, cell: str) -> list[tuple[int, int]]:
    """First and last seed of each block of a cell, in order."""
    folder = Path(path) / "blocks" / cell
    matches = [_BLOCK.fullmatch(file.name) for file in entries(folder)]
    return sorted((int(m[1]), int(m[2])) for m in matches if m)


def load_block(path: Path, cell: str, first: int, last: int) -> Block:
    """Read one block of a result folder."""
    file = _block_path(Path(path), cell, first, last)
    try:
        # Read here, because numpy does not close a file that it opens and cannot read.
        block = _arrays(read(file))
    except SpecError:
        raise
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


def load_array(path: Path, cell: str, first: int, last: int, name: str) -> np.ndarray | None:
    """Read one array of a block, without the others; None if that cannot be done."""
    file = _block_path(Path(path), cell, first, last)
    try:
        with np.load(file, allow_pickle=False) as loaded:
            return loaded[name]
    except (OSError, KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None


def _arrays(data: bytes) -> Block:
    """Returns the arrays of an .npz file; as numpy.load, at a fifth of its time.

    A block has about 60 arrays, and most of what numpy takes is to parse the header of each, of
    which few differ. What `Store.save` does not write is left to numpy.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    arrays = {member.filename.removesuffix(".npy"): _array(data, member) for member in members}
    if all(array is not None for array in arrays.values()):
        return arrays  # type: ignore[return-value]
    with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
        return {name: loaded[name] for name in loaded.files}


def _array(data: bytes, member: zipfile.ZipInfo) -> np.ndarray | None:
    """Returns a stored member of an .npz file; None if it is not as `numpy.savez` writes it."""
    begin = member.header_offset
    local = data[begin : begin + 30]
    if len(local) < 30 or local[:4] != b"PK\3\4" or member.compress_type != zipfile.ZIP_STORED:
        return None
    begin += 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    content = memoryview(data)[begin : begin + member.file_size]
    if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
        return None
    size = 10 + int.from_bytes(content[8:10], "little")
    form = _form(bytes(content[:size]))
    if form is None:
        return None
    shape, kind = form
    return np.frombuffer(content[size:], kind).reshape(shape).copy()


@functools.cache
def _form(header: bytes) -> tuple[tuple[int, ...], np.dtype] | None:
    """Returns shape and dtype from the header of an .npy file; None if it is of another kind."""
    if header[:8] != b"\x93NUMPY\x01\x00":
        return None
    shape, fortran, kind = np.lib.format.read_array_header_1_0(io.BytesIO(header[8:]))
    return None if fortran or kind.hasobject else (shape, kind)


def _block_path(path: Path, cell: str, first: int, last: int) -> Path:
    return path / "blocks" / cell / f"{first}-{last}.npz"
