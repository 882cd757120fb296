"""The code of one seed, run on columns: every array of it with the lanes on the LAST axis.

`jax.vmap` puts the lanes first, so that a sum over ten arms is a loop over ten neighbours in
memory and nothing is as wide as a vector. `over_lanes` reads the function's jaxpr and applies each
primitive to arrays that have the lanes behind: what was a number is a vector, what was a sum over
an axis is sums of vectors, in an order that does not depend on the lane. Primitives without a rule
here fall back on `jax.vmap` for themselves alone, so that any function is right and most are fast.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal

from simrl import columns, known, primitives

Array = jax.Array

Shape = tuple[int, ...]
Column = tuple[Any, bool]  # an array, and whether it has the lanes on its last axis
# With lanes it is held without its axes of length 1: what differs in those alone is the same.

ELEMENTWISE = primitives.ELEMENTWISE | primitives.TRANSCENDENTAL
ELEMENTWISE |= {"convert_element_type", "copy", "integer_pow", "stop_gradient"}
# Their parameters name axes from the front: the lanes behind are no concern of theirs.
BY_AXIS = primitives.REDUCTION | primitives.CUMULATIVE | {"concatenate", "rev", "stack", "unstack"}
# Of one operand, in which axes of length 1 mean nothing.
FOLDING = {"reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum"}


def over_lanes(function: Callable) -> Callable:
    """`function` of one lane, mapped over the last axis of every argument and result.

    Equal to `jax.vmap(function, in_axes=-1, out_axes=-1)` up to the order of sums.
    """

    def mapped(*arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        one = [jax.ShapeDtypeStruct(leaf.shape[:-1], leaf.dtype) for leaf in leaves]
        structure = []

        def flat(*leaves: Any) -> list[Any]:
            found, made = jax.tree.flatten(function(*jax.tree.unflatten(tree, leaves)))
            structure.append(made)
            return found

        closed = jax.make_jaxpr(flat)(*one)
        lanes = _Lanes(leaves[0].shape[-1])
        found = lanes.run(closed.jaxpr, closed.consts, [(lanes.bare(x), True) for x in leaves])
        shapes = map(_shape, closed.jaxpr.outvars)
        return jax.tree.unflatten(structure[0], list(map(lanes.behind, found, shapes)))

    return mapped


class _Lanes:
    """Jaxprs of one lane, run on columns of `num` lanes; what is asked for twice is done once.

    XLA could find that too, but not alike in programs for one device and for several.
    """

    def __init__(self, num: int) -> None:
        self.num = num
        self.done: dict[Any, tuple[list[Column], list[Column]]] = {}  # results and operands

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Column]) -> list[Column]:
        """Every equation in turn."""
        values: dict[Any, Column] = dict(zip(jaxpr.invars, inputs, strict=True))
        values |= {v: (c, False) for v, c in zip(jaxpr.constvars, consts, strict=True)}

        def read(atom: Any) -> Column:
            return (atom.val, False) if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            called = primitives.program_of(equation)
            found = self.once(equation, given) if called is None else self.run(*called, given)
            values |= dict(zip(equation.outvars, found, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def once(self, equation: Any, given: list[Column]) -> list[Column]:
        """The results of an equation, those of an earlier one if it was the same."""
        params, shapes = dict(equation.params), list(map(_shape, equation.invars))
        first_has_lanes = bool(given and given[0][1] and equation.outvars)
        if first_has_lanes or equation.primitive.name in ELEMENTWISE:
            params, shapes = _bare_form(equation, params, shapes)
        shaped = list(zip(given, shapes, strict=True))
        if equation.effects:  # to be had as often as they are asked for
            return self.apply(equation, params, shaped)
        operands = tuple(map(_identity, equation.invars, given, shapes))
        key = equation.primitive, tuple(params.items()), operands
        try:
            earlier = self.done.get(key)
        except TypeError:  # parameters that cannot be compared
            return self.apply(equation, params, shaped)
        if earlier is None:
            # Operands are held, lest another array be taken for them.
            earlier = self.done[key] = self.apply(equation, params, shaped), given
        return earlier[0]

    def apply(
        self, equation: Any, params: dict[str, Any], given: list[tuple[Column, Shape]]
    ) -> list[Column]:
        """One equation: as it stands where nothing has lanes, else by its rule or `jax.vmap`."""
        primitive, name = equation.primitive, equation.primitive.name
        has_lanes = tuple(lanes for (_, lanes), _ in given)
        bind = partial(primitive.bind, **params)
        if not any(has_lanes):
            numbers = [x for (x, _), _ in given]
            found: Any = known.results(equation, numbers)
            if found is None:
                found = bind(*numbers)
                found = found if primitive.multiple_results else [found]
            return [(x, False) for x in found]
        if name in RULES and has_lanes[0] and not any(has_lanes[1:]):
            made = RULES[name](self.num, *(self.whole(*x) for x in given), **params)
        elif name in ELEMENTWISE:
            made = bind(*self.alike(equation, given))
        elif name in BY_AXIS:
            made = bind(*(self.behind(*x) for x in given))
        else:
            axes = tuple(-1 if lanes else None for lanes in has_lanes)
            made = jax.vmap(bind, in_axes=axes, out_axes=-1)(*(self.whole(*x) for x in given))
        return [(self.bare(x), True) for x in (made if primitive.multiple_results else [made])]

    def bare(self, x: Any) -> Any:
        """An array [..., N] without its other axes of length 1."""
        return _reshaped(x, (*_long(x.shape[:-1]), self.num))

    def whole(self, column: Column, shape: Shape) -> Any:
        """The array of a column in a shape, with the lanes behind if it has them."""
        x, has_lanes = column
        return _reshaped(x, (*shape, self.num)) if has_lanes else x

    def behind(self, column: Column, shape: Shape) -> Any:
        """The same with lanes in any case."""
        x, has_lanes = column
        if has_lanes:
            return self.whole(column, shape)
        if isinstance(x, np.ndarray) and x.size and (x == x.flat[0]).all():
            return jnp.full((*x.shape, self.num), x.flat[0])  # no array of its own in the program
        if not jnp.issubdtype(getattr(x, "dtype", float), jax.dtypes.prng_key):
            x = jnp.asarray(x)
        return jnp.broadcast_to(x[..., None], (*x.shape, self.num))

    def alike(self, equation: Any, given: list[tuple[Column, Shape]]) -> list[Any]:
        """Operands of one shape, as elementwise primitives ask for."""
        after = equation.outvars[0].aval.shape
        long = (*_long(after), self.num)
        found = []
        for column, shape in given:
            x = self.bare(self.behind(column, shape))
            if x.shape != long:
                # One number for a whole array (a literal, or the condition of a choice), or for
                # every entry of an axis.
                x = _reshaped(x, (*(1,) * (len(after) - len(shape)), *shape, self.num))
                x = self.bare(jnp.broadcast_to(x, (*after, self.num)))
            found.append(x)
        return found


def _identity(atom: Any, column: Column, shape: Shape) -> Any:
    """What an operand is known by: numbers by their bits, else the very array, in a shape."""
    if isinstance(atom, Literal) or isinstance(column[0], np.ndarray):
        value = np.asarray(column[0])
        return value.dtype, value.shape, value.tobytes()
    return id(column[0]), shape


def _shape(atom: Any) -> Shape:
    return np.shape(atom.val) if isinstance(atom, Literal) else atom.aval.shape


def _long(shape: Shape) -> Shape:
    """Without the axes of length 1."""
    return tuple(length for length in shape if length != 1)


def _reshaped(x: Any, shape: Shape) -> Any:
    return x if x.shape == shape else jax.lax.reshape(x, shape)


def _bare_form(
    equation: Any, params: dict[str, Any], shapes: list[Shape]
) -> tuple[dict[str, Any], list[Shape]]:
    """Parameters and shapes of operands without axes of length 1, where those mean nothing."""
    name, after = equation.primitive.name, equation.outvars[0].aval.shape
    if name in ELEMENTWISE:
        return params, [_long(shape) if shape == after else shape for shape in shapes]
    if name in FOLDING:
        (before,) = shapes
        axes = (len(_long(before[:axis])) for axis in params["axes"] if before[axis] != 1)
        return params | {"axes": tuple(axes)}, [_long(before)]
    if name == "broadcast_in_dim":
        before, places = shapes[0], params["broadcast_dimensions"]
        long = (len(_long(after[:p])) for p, n in zip(places, before, strict=True) if n != 1)
        params = params | {"shape": _long(after), "broadcast_dimensions": tuple(long)}
        return params, [_long(before), *shapes[1:]]
    if name == "squeeze":
        return params, [_long(shapes[0])]
    if name == "reshape" and params["dimensions"] is None:
        return params | {"new_sizes": _long(after)}, [_long(shapes[0]), *shapes[1:]]
    return params, shapes


def _broadcast_in_dim(
    num: int, x: Array, *, shape: Shape, broadcast_dimensions: Shape, **_: Any
) -> Array:
    if x.shape == (*shape, num):
        return x
    places = (*broadcast_dimensions, len(shape))
    return jax.lax.broadcast_in_dim(x, (*shape, num), places)


def _reshape(num: int, x: Array, *, new_sizes: Shape, dimensions: Any, **_: Any) -> Array:
    if dimensions is None:
        return _reshaped(x, (*new_sizes, num))
    return jax.lax.reshape(x, (*new_sizes, num), (*dimensions, len(dimensions)))


def _slice(
    num: int, x: Array, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any
) -> Array:
    steps = None if strides is None else (*strides, 1)
    return jax.lax.slice(x, (*start_indices, 0), (*limit_indices, num), steps)


def _transpose(num: int, x: Array, *, permutation: tuple[int, ...], **_: Any) -> Array:
    return jax.lax.transpose(x, (*permutation, len(permutation)))


def _pad(num: int, x: Array, value: Array, *, padding_config: Any, **_: Any) -> Array:
    return jax.lax.pad(x, value, (*padding_config, (0, 0, 0)))


def _cumsum(num: int, x: Array, *, axis: int, reverse: bool, **_: Any) -> Array:
    if x.shape[axis] > columns.FEW:
        return jax.lax.cumsum(x, axis, reverse)
    # On CPU the prefix sum of XLA takes the square of the length.
    rows = jnp.split(x, x.shape[axis], axis)[:: -1 if reverse else 1]
    sums = list(itertools.accumulate(rows))
    return jnp.concatenate(sums[:: -1 if reverse else 1], axis)


def _reduced(
    combine: Callable,
    reduce: Callable,
    neutral: float,
    num: int,
    x: Array,
    *,
    axes: tuple[int, ...],
    **_: Any,
) -> Array:
    """Sum or maximum over axes; many rows are folded first, 4 times as fast as XLA's trees."""
    if not axes:
        return x
    many = [axis for axis in axes if x.shape[axis] > columns.FEW]
    if not many or not jnp.issubdtype(x.dtype, jnp.floating):
        return reduce(x, axes)
    for axis in many:
        x = columns.fewer(combine, x, axis, neutral)
    for axis in axes:
        x = functools.reduce(combine, jax.lax.split(x, [1] * x.shape[axis], axis))
    # Computed once: without a fence the last rows are combined anew for each entry of what follows,
    # 2.9 us instead of .3 for the exponentials of 1,000. That x equals itself no compiler knows.
    return columns.Fence(jnp.ones((), x.dtype))(jax.lax.squeeze(x, axes))


def _squeeze(num: int, x: Array, **_: Any) -> Array:
    return x


def _log1p(num: int, x: Array, **_: Any) -> Array:
    return columns.log1p(x)


RULES: dict[str, Callable[..., Array]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "slice": _slice,
    "transpose": _transpose,
    "pad": _pad,
    "cumsum": _cumsum,
    "log1p": _log1p,
    "reduce_sum": partial(_reduced, jax.lax.add, jax.lax.reduce_sum, 0.0),
    "reduce_max": partial(_reduced, jax.lax.max, jax.lax.reduce_max, -jnp.inf),
}  # (number of lanes, operands, parameters): only the first operand has lanes
