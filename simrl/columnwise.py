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
from jax.extend.core import Jaxpr, Literal

from simrl import columns, primitives

Array = jax.Array

Column = tuple[Any, bool]  # an array, and whether it has the lanes on its last axis

ELEMENTWISE = primitives.ELEMENTWISE | primitives.TRANSCENDENTAL
ELEMENTWISE |= {"convert_element_type", "copy", "integer_pow", "stop_gradient"}
# Their parameters name axes from the front: the lanes behind are no concern of theirs.
BY_AXIS = primitives.REDUCTION | primitives.CUMULATIVE | {"concatenate", "rev", "squeeze", "stack"}


def over_lanes(function: Callable) -> Callable:
    """`function` of one lane, mapped over the last axis of every argument and result.

    Equal to `jax.vmap(function, in_axes=-1, out_axes=-1)` up to the order of sums.
    """

    def mapped(*arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        num = leaves[0].shape[-1]
        one = [jax.ShapeDtypeStruct(leaf.shape[:-1], leaf.dtype) for leaf in leaves]
        structure = []

        def flat(*leaves: Any) -> list[Any]:
            found, made = jax.tree.flatten(function(*jax.tree.unflatten(tree, leaves)))
            structure.append(made)
            return found

        closed = jax.make_jaxpr(flat)(*one)
        found = _run(closed.jaxpr, closed.consts, [(leaf, True) for leaf in leaves], num)
        return jax.tree.unflatten(structure[0], [_behind(x, on, num) for x, on in found])

    return mapped


def _behind(x: Any, has_lanes: bool, num: int) -> Any:
    """The array with lanes on its last axis."""
    if has_lanes:
        return x
    if not jnp.issubdtype(getattr(x, "dtype", float), jax.dtypes.prng_key):
        x = jnp.asarray(x)
    return jnp.broadcast_to(x[..., None], (*x.shape, num))


def _run(jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Column], num: int) -> list[Column]:
    """Every equation in turn."""
    known: dict[Any, Column] = dict(zip(jaxpr.invars, inputs, strict=True))
    known |= {v: (c, False) for v, c in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Column:
        return (atom.val, False) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        found = _apply(equation, [read(atom) for atom in equation.invars], num)
        known |= dict(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: Any, given: list[Column], num: int) -> list[Column]:
    """One equation: as it stands where nothing has lanes, else by its rule or by `jax.vmap`."""
    primitive, name = equation.primitive, equation.primitive.name
    called = primitives.program_of(equation)
    if called is not None:
        return _run(*called, given, num)
    has_lanes = tuple(lanes for _, lanes in given)
    bind = partial(primitive.bind, **equation.params)
    if not any(has_lanes):
        made = bind(*(x for x, _ in given))
    elif name in RULES and has_lanes[0] and not any(has_lanes[1:]):
        made = RULES[name](num, *(x for x, _ in given), **equation.params)
    elif name in ELEMENTWISE:
        made = bind(*_alike(equation, given, num))
    elif name in BY_AXIS:
        made = bind(*(_behind(*x, num) for x in given))
    else:
        axes = tuple(-1 if lanes else None for lanes in has_lanes)
        made = jax.vmap(bind, in_axes=axes, out_axes=-1)(*(x for x, _ in given))
    return [(x, any(has_lanes)) for x in (made if primitive.multiple_results else [made])]


def _alike(equation: Any, given: list[Column], num: int) -> list[Any]:
    """Operands of one shape, as elementwise primitives ask for."""
    shape = (*equation.outvars[0].aval.shape, num)
    found = []
    for x, has_lanes in given:
        behind = _behind(x, has_lanes, num)
        # One number for a whole array: a literal, or the condition of a choice.
        wider = behind.reshape((1,) * (len(shape) - behind.ndim) + behind.shape)
        found.append(wider if wider.shape == shape else jnp.broadcast_to(wider, shape))
    return found


def _broadcast_in_dim(
    num: int, x: Array, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...], **_: Any
) -> Array:
    places = (*broadcast_dimensions, len(shape))
    return jax.lax.broadcast_in_dim(x, (*shape, num), places)


def _reshape(num: int, x: Array, *, new_sizes: tuple[int, ...], dimensions: Any, **_: Any) -> Array:
    order = None if dimensions is None else (*dimensions, len(dimensions))
    return jax.lax.reshape(x, (*new_sizes, num), order)


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


def _log1p(num: int, x: Array, **_: Any) -> Array:
    return columns.log1p(x)


RULES: dict[str, Callable[..., Array]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "slice": _slice,
    "transpose": _transpose,
    "pad": _pad,
    "cumsum": _cumsum,
    "log1p": _log1p,
    "reduce_sum": partial(_reduced, jax.lax.add, jax.lax.reduce_sum, 0.0),
    "reduce_max": partial(_reduced, jax.lax.max, jax.lax.reduce_max, -jnp.inf),
}  # (number of lanes, operands, parameters): only the first operand has lanes
