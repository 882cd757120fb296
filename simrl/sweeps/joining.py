"""Cells of a sweep as one: their variables on a new dim, padded where they differ in size."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

MANY_BYTES = 2**24  # are copied by several threads: fresh memory is slow to come by, one by one


class Rows(NamedTuple):
    """A variable of one cell, in pieces that follow each other on its first axis."""

    dims: tuple[str, ...]
    pieces: list[np.ndarray]
    attrs: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the whole."""
        return (sum(map(len, self.pieces)), *self.pieces[0].shape[1:])


class Part(NamedTuple):
    """What is known of one cell."""

    variables: dict[str, Rows]
    coords: dict[str, Any]


def joined(parts: list[Part]) -> tuple[dict[str, tuple], dict[str, Any]]:
    """Variables, (dims, values) with a first dim `cell`, and coordinates of all cells.

    Empties the parts, so that nothing is held twice.
    """
    alike = len({_form(part) for part in parts}) == 1
    return _stacked(parts) if alike else _padded(parts)


def _form(part: Part) -> tuple:
    """What cells that can be stacked as they are have in common."""
    rows = ((k, v.dims, v.shape, v.pieces[0].dtype.str) for k, v in part.variables.items())
    return (*rows, tuple(part.coords["threshold"]), _seeds(part))


def _seeds(part: Part) -> bytes:
    """Which seeds a part has; none where they are not kept."""
    return np.asarray(part.coords.get("seed", ())).tobytes()


def _stacked(parts: list[Part]) -> tuple[dict[str, tuple], dict[str, Any]]:
    """Cells of one form on a new dim; `xr.concat` would align them first, for ten times as long."""

    def stack(name: str) -> tuple[tuple[str, ...], np.ndarray]:
        rows = [part.variables.pop(name) for part in parts]
        values = np.empty((len(parts), *rows[0].shape), rows[0].pieces[0].dtype)
        for own, row in zip(values, rows, strict=True):
            np.concatenate(row.pieces, out=own)
        return ("cell", *rows[0].dims), values

    return _each(stack, list(parts[0].variables), parts), parts[0].coords


def _each(join: Callable[[str], tuple], names: Iterable[str], parts: list[Part]) -> dict:
    """What `join` makes of each variable, by its name."""
    rows = (row for part in parts for row in part.variables.values())
    if sum(piece.nbytes for row in rows for piece in row.pieces) < MANY_BYTES:
        return {name: join(name) for name in names}
    with ThreadPoolExecutor() as threads:
        return dict(zip(names, threads.map(join, names), strict=True))


def _padded(parts: list[Part]) -> tuple[dict[str, tuple], dict[str, Any]]:
    """Cells that have not all the same variables, seeds, log points or phases, on a new dim.

    What a cell does not have is NaN, so that a mean skips it: a variable that some cell lacks a
    value of is float64, unless it is float32. `xr.concat` would do it in three times the time.
    """
    coords = {name: _union(parts, name) for part in parts for name in part.coords}

    def pad(name: str) -> tuple[tuple[str, ...], np.ndarray]:
        rows = {i: p.variables.pop(name) for i, p in enumerate(parts) if name in p.variables}
        dims = next(iter(rows.values())).dims
        kind = np.result_type(*(row.pieces[0].dtype for row in rows.values()))
        sizes = [max(row.shape[axis] for row in rows.values()) for axis in range(len(dims))]
        sizes = [len(coords.get(dim, range(n))) for dim, n in zip(dims, sizes, strict=True)]
        whole = len(rows) == len(parts) and all(list(r.shape) == sizes for r in rows.values())
        kind = kind if whole or kind.kind == "f" else np.dtype(np.float64)
        values = np.full((len(parts), *sizes), np.nan if kind.kind == "f" else 0, kind)
        for i, row in rows.items():
            own = parts[i].coords
            places = [
                np.searchsorted(coords[dim], own[dim]) if dim in own else np.arange(n)
                for dim, n in zip(dims, row.shape, strict=True)
            ]
            values[i][_at(places)] = np.concatenate(row.pieces)
        return ("cell", *dims), values

    names = dict.fromkeys(name for part in parts for name in part.variables)
    return _each(pad, names, parts), coords


def _at(places: list[np.ndarray]) -> tuple:
    """An index of these places along each axis: of slices, which is faster, where that can be."""
    if any(len(place) == 0 or np.any(np.diff(place) != 1) for place in places):
        return np.ix_(*places)
    return tuple(slice(place[0], place[0] + len(place)) for place in places)


def _union(parts: list[Part], name: str) -> np.ndarray:
    """Every value of a coordinate, in order."""
    return np.unique(np.concatenate([p.coords[name] for p in parts if name in p.coords]))


def unfold(variables: dict[str, tuple], axes: dict[str, list]) -> dict[str, tuple]:
    """From one `cell` dim, in the order of a product, to one dim per axis."""
    sizes = [len(labels) for labels in axes.values()]
    return {
        name: ((*axes, *dims[1:]), values.reshape(*sizes, *values.shape[1:]))
        for name, (dims, values) in variables.items()
    }
