"""Cells of a sweep as one: their variables on a new dim, padded where they differ in size."""

from typing import Any, NamedTuple

import numpy as np


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
    return (*rows, tuple(part.coords["threshold"]))


def _stacked(parts: list[Part]) -> tuple[dict[str, tuple], dict[str, Any]]:
    """Cells of one form on a new dim; `xr.concat` would align them first, for ten times as long."""
    whole = {}
    for name in list(parts[0].variables):
        rows = [part.variables.pop(name) for part in parts]
        values = np.empty((len(parts), *rows[0].shape), rows[0].pieces[0].dtype)
        for own, row in zip(values, rows, strict=True):
            np.concatenate(row.pieces, out=own)
        whole[name] = (("cell", *rows[0].dims), values)
    return whole, parts[0].coords


def _padded(parts: list[Part]) -> tuple[dict[str, tuple], dict[str, Any]]:
    """Cells that have not all the same variables, log points or phases, on a new dim.

    Counts stay integers where a cell has fewer log points or phases than another, 0 there; what is
    not there was not hit; other numbers are NaN. `xr.concat` would do it in three times the time.
    """
    coords = {name: _union(parts, name) for part in parts for name in part.coords}
    whole: dict[str, tuple] = {}
    for name in dict.fromkeys(name for part in parts for name in part.variables):
        rows = {i: p.variables.pop(name) for i, p in enumerate(parts) if name in p.variables}
        dims = next(iter(rows.values())).dims
        kind = np.result_type(*(row.pieces[0].dtype for row in rows.values()))
        missing = (-1 if name == "hit_step" else 0) if kind.kind in "iub" else np.nan
        sizes = [max(row.shape[axis] for row in rows.values()) for axis in range(len(dims))]
        sizes = [len(coords.get(dim, range(n))) for dim, n in zip(dims, sizes, strict=True)]
        values = np.full((len(parts), *sizes), missing, kind)
        for i, row in rows.items():
            own = parts[i].coords
            places = [
                np.searchsorted(coords[dim], own[dim]) if dim in own else np.arange(n)
                for dim, n in zip(dims, row.shape, strict=True)
            ]
            values[i][np.ix_(*places)] = np.concatenate(row.pieces)
        whole[name] = (("cell", *dims), values)
    return whole, coords


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
