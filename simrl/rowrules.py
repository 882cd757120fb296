"""How operations that move numbers about move rows: see simrl.rowwise, where the words are told.

A rule takes the equation of a jaxpr and the rows of its operands, and gives those of its results.
Nothing is computed here.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

LANES = 1_048_573  # the lanes while a function is traced: a prime, no other axis is as long

Rows = Any  # np.ndarray of objects, one for each number of a lane: a vector [n], or a NumPy number


class Unsupported(Exception):
    """A function cannot be taken apart; the message says which operation is in the way."""


def aval_of(atom: Any) -> Any:
    """Shape and dtype of an operand or a result."""
    return jax.typeof(atom.val) if isinstance(atom, Literal) else atom.aval


def has_lanes(atom: Any) -> bool:
    """Whether its last axis is the lanes."""
    return aval_of(atom).shape[-1:] == (LANES,)


def lead(atom: Any) -> tuple[int, ...]:
    """The axes besides the lanes."""
    shape = aval_of(atom).shape
    return shape[:-1] if shape[-1:] == (LANES,) else shape


def filled(shape: tuple[int, ...], rows: Sequence[Any]) -> Rows:
    """Rows in order as an array; each may be an array itself."""
    made = np.empty(math.prod(shape), object)
    for i, row in enumerate(rows):
        made[i] = row
    return made.reshape(shape)


def is_number(row: Any) -> bool:
    """Known when the program is made, and the same for all lanes."""
    return isinstance(row, np.generic)


def stacked(rows: Sequence[Rows], axis: int) -> Rows:
    """Arrays of one shape on a new axis."""
    flat = [row for one in rows for row in one.reshape(-1)]
    return np.moveaxis(filled((len(rows), *rows[0].shape), flat), 0, axis)


def _broadcast_in_dim(equation: Any, given: list[Rows]) -> list[Rows]:
    (operand, *_), (result,) = equation.invars, equation.outvars
    rows, shape = given[0], lead(result)
    places = list(equation.params["broadcast_dimensions"])
    if has_lanes(operand):
        places = places[:-1]
    elif places and places[-1] == len(shape):  # one number for all lanes
        rows, places = rows[..., 0], places[:-1]
    wide = [1] * len(shape)
    for axis, place in enumerate(places):
        wide[place] = rows.shape[axis]
    return [np.broadcast_to(rows.reshape(wide), shape)]


def _reshape(equation: Any, given: list[Rows]) -> list[Rows]:
    (operand, *_), (result,) = equation.invars, equation.outvars
    if has_lanes(operand) != has_lanes(result):
        raise Unsupported("reshape of lanes")
    return [given[0].reshape(lead(result))]


def _transpose(equation: Any, given: list[Rows]) -> list[Rows]:
    order = equation.params["permutation"][: given[0].ndim]
    if sorted(order) != list(range(given[0].ndim)):
        raise Unsupported("transpose of lanes")
    return [given[0].transpose(order)]


def _slice(equation: Any, given: list[Rows]) -> list[Rows]:
    params, num_axes = equation.params, given[0].ndim
    if has_lanes(equation.invars[0]) and not has_lanes(equation.outvars[0]):
        raise Unsupported("slice of lanes")
    strides = params["strides"] or (1,) * len(params["start_indices"])
    limits = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return [given[0][tuple(slice(*limit) for limit in limits)[:num_axes]]]


def _dynamic_slice(equation: Any, given: list[Rows]) -> list[Rows]:
    """Where the place is known."""
    rows, *starts = given
    known = [start.item() for start in starts[: rows.ndim]]
    if not all(map(is_number, known)):
        raise Unsupported("dynamic_slice at a place that is not known")
    begins = zip(known, rows.shape, equation.params["slice_sizes"], strict=False)
    places = [(int(np.clip(begin, 0, n - size)), size) for begin, n, size in begins]
    return [rows[tuple(slice(begin, begin + size) for begin, size in places)]]


def _pad(equation: Any, given: list[Rows]) -> list[Rows]:
    made = np.empty(lead(equation.outvars[0]), object)
    made[...] = given[1].item()
    inside = []
    for (low, high, gap), size in zip(
        equation.params["padding_config"], given[0].shape, strict=False
    ):
        if min(low, high) < 0 or gap:
            raise Unsupported("pad that cuts or spreads")
        inside.append(slice(low, low + size))
    made[tuple(inside)] = given[0]
    return [made]


def _concatenate(equation: Any, given: list[Rows]) -> list[Rows]:
    return [np.concatenate(given, axis=equation.params["dimension"])]


def _split(equation: Any, given: list[Rows]) -> list[Rows]:
    ends = np.cumsum(equation.params["sizes"])[:-1]
    return np.split(given[0], ends, axis=equation.params["axis"])


def _iota(equation: Any, given: list[Rows]) -> list[Rows]:
    if has_lanes(equation.outvars[0]):
        raise Unsupported("iota beside lanes")
    params, shape = equation.params, lead(equation.outvars[0])
    wide = [1] * len(shape)
    wide[params["dimension"]] = -1
    counts = np.arange(shape[params["dimension"]]).astype(params["dtype"]).reshape(wide)
    return [filled(shape, list(np.broadcast_to(counts, shape).reshape(-1)))]


def _squeeze(equation: Any, given: list[Rows]) -> list[Rows]:
    return [given[0].reshape(lead(equation.outvars[0]))]


def _stack(equation: Any, given: list[Rows]) -> list[Rows]:
    return [stacked(given, equation.params["axis"])]


def _same(equation: Any, given: list[Rows]) -> list[Rows]:
    return given


MOVING: dict[str, Callable[[Any, list[Rows]], list[Rows]]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "copy": _same,
    "dynamic_slice": _dynamic_slice,
    "iota": _iota,
    "optimization_barrier": _same,
    "pad": _pad,
    "reshape": _reshape,
    "reshard": _same,
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "stop_gradient": _same,
    "transpose": _transpose,
}
