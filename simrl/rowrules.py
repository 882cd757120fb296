"""What operations do to rows: see simrl.rowwise, where the words are told.

A rule takes the equation of a jaxpr and the rows of its operands, and gives those of its results.
Moving numbers about costs nothing; the others are done row by row.
"""

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
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


def vector(row: Any, num: int) -> Any:
    """A number as a vector [num]; a vector as it is."""
    return jnp.full((num,), row) if jnp.ndim(row) == 0 else row


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
    if equation.params["dimensions"] is not None:
        raise Unsupported("reshape in another order")
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


def _unstack(equation: Any, given: list[Rows]) -> list[Rows]:
    along = np.moveaxis(given[0], equation.params["axis"], 0)
    return [along[i, ...] for i in range(len(along))]


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
    "unstack": _unstack,
}

REDUCING: dict[str, Callable] = {
    "reduce_sum": jax.lax.add,
    "reduce_prod": jax.lax.mul,
    "reduce_max": jax.lax.max,
    "reduce_min": jax.lax.min,
    "reduce_or": jax.lax.bitwise_or,
    "reduce_and": jax.lax.bitwise_and,
}
OVER_LANES: dict[str, Callable] = {"reduce_sum": jnp.sum, "reduce_max": jnp.max}


def operation_of(equation: Any) -> Callable:
    """An operation on rows."""
    name, params = equation.primitive.name, equation.params
    if name == "select_n":
        return _select
    if name == "round":
        return partial(done, _round)
    if name == "convert_element_type":
        convert = partial(jax.lax.convert_element_type, new_dtype=params["new_dtype"])
        return partial(done, convert)
    return partial(done, partial(equation.primitive.bind, **params))


def done(operation: Callable, *rows: Any) -> Any:
    """An operation on rows, vectors and numbers; of numbers alone it is done at once."""
    if all(map(is_number, rows)):
        with jax.ensure_compile_time_eval():
            return np.asarray(operation(*map(jnp.asarray, rows)))[()]
    return operation(*_as_long(rows))


def _as_long(rows: Sequence[Any]) -> list[Any]:
    """All as long as the longest of them."""
    shape = max((jnp.shape(row) for row in rows), key=len)
    same = [jnp.shape(row) == shape and not is_number(row) for row in rows]
    return [row if own else jnp.full(shape, row) for row, own in zip(rows, same, strict=True)]


def _select(which: Any, *cases: Any) -> Any:
    """select_n; known at once where the choice is, or where there is none."""
    if is_number(which):
        return cases[int(which)]
    if all(map(is_number, cases)) and all(case == cases[0] for case in cases):
        return cases[0]
    return jax.lax.select_n(*_as_long([which, *cases]))


def _round(x: Any) -> Any:
    """To the nearest whole number, halves to even: kernels have no such operation.

    Adding 2^23 and taking it away again would do, if no compiler knew that this is nothing.
    """
    size = jax.lax.abs(x)
    far = jnp.full_like(x, 2.0**23)  # from here on all float32 are whole
    below = jax.lax.min(size, far).astype(jnp.int32)
    rest = jax.lax.min(size, far) - below.astype(x.dtype)
    up = (rest > 0.5) | ((rest == 0.5) & (below & 1 == 1))
    whole = (below + up.astype(jnp.int32)).astype(x.dtype)
    whole = jax.lax.select(x < 0, -whole, whole)
    return jax.lax.select(size < far, whole, x)


def reduced(combine: Callable, rows: Rows, axes: tuple[int, ...], *first: Any) -> Rows:
    """Over axes, of which the lanes are left, beginning with the `first`, if there is one."""
    own = tuple(axis for axis in axes if axis < rows.ndim)
    behind = np.moveaxis(rows, own, range(rows.ndim - len(own), rows.ndim))
    kept = behind.shape[: rows.ndim - len(own)]
    flat = behind.reshape(math.prod(kept), -1)
    return filled(kept, [functools.reduce(combine, [*first, *row]) for row in flat])


def over_lanes(name: str, rows: Rows, num: int) -> Rows:
    """What is left of vectors [num]."""
    if name not in OVER_LANES:
        raise Unsupported(f"{name} over lanes")
    made = [OVER_LANES[name](vector(row, num)) for row in rows.reshape(-1)]
    return filled(rows.shape, made)


def largest(rows: Rows, axis: int, dtype: Any) -> Rows:
    """The first of the largest."""
    along = np.moveaxis(rows, axis, 0)
    best = []
    for own in along.reshape(len(along), -1).T:
        place, top = np.zeros((), dtype)[()], own[0]
        for i, row in enumerate(own[1:], 1):
            more = done(jax.lax.gt, row, top)
            place, top = _select(more, place, np.asarray(i, dtype)[()]), _select(more, top, row)
        best.append(place)
    return filled(along.shape[1:], best)
