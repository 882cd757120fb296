"""Code on columns as code on rows: arrays [..., N] taken apart into vectors [N], one per number.

What `columns` and `columnwise` compute on whole arrays with the lanes last is here a straight line
of operations on vectors of lanes: moving, stacking and slicing arrays costs nothing, and every
number of a lane may stay in a register. That is what a kernel for an accelerator is made of
(simrl.engine.kernels), whose compiler knows vectors, but no slices and no sizes like ten.
"""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal

from simrl import primitives
from simrl.rowrules import (
    LANES,
    MOVING,
    Rows,
    Unsupported,
    aval_of,
    filled,
    has_lanes,
    is_number,
    lead,
    stacked,
)

REDUCING: dict[str, Callable] = {
    "reduce_sum": jax.lax.add,
    "reduce_prod": jax.lax.mul,
    "reduce_max": jax.lax.max,
    "reduce_min": jax.lax.min,
    "reduce_or": jax.lax.bitwise_or,
    "reduce_and": jax.lax.bitwise_and,
}
OVER_LANES: dict[str, Callable] = {"reduce_sum": jnp.sum, "reduce_max": jnp.max}
ROW_BY_ROW = primitives.ELEMENTWISE | primitives.TRANSCENDENTAL
ROW_BY_ROW |= {"convert_element_type", "integer_pow"}


class Program:
    """A function of arrays [..., N], traced once.

    `operations`: those on vectors by their primitives, of a loop those of one turn; `cost`: how
    many. `inputs`, `outputs`: (shape, dtype) of what it takes and gives, the lanes left out.
    """

    def __init__(self, function: Callable, *arguments: Any) -> None:
        """From arguments, or their shapes, with the lanes on the last axis, as all results have.

        Raises Unsupported if some operation has no rule.
        """
        leaves, given = jax.tree.flatten(arguments)
        wide = [jax.ShapeDtypeStruct((*leaf.shape[:-1], LANES), leaf.dtype) for leaf in leaves]
        made = []

        def flat(*leaves: Any) -> list[Any]:
            found, structure = jax.tree.flatten(function(*jax.tree.unflatten(given, leaves)))
            made.append(structure)
            return found

        self._closed = jax.make_jaxpr(flat)(*wide)
        self._structure = made[0]
        jaxpr = self._closed.jaxpr
        self.operations = _operations(jaxpr)
        self.cost = self.operations.total()
        self.inputs, self.outputs = (
            [(lead(atom), aval_of(atom).dtype) for atom in atoms]
            for atoms in (jaxpr.invars, jaxpr.outvars)
        )

    def on_rows(self, rows: Sequence[Any]) -> list[Any]:
        """The rows of every result from those of every argument, vectors [n], in order."""
        num = rows[0].shape[0]
        given = _apart([shape for shape, _ in self.inputs], rows)
        found = _run(self._closed.jaxpr, self._closed.consts, given, num)
        return [_vector(row, num) for made in found for row in made.reshape(-1)]

    def result(self, leaves: Sequence[Any]) -> Any:
        """Results as the function has them."""
        return jax.tree.unflatten(self._structure, leaves)


def _apart(shapes: Sequence[tuple[int, ...]], rows: Sequence[Any]) -> list[Rows]:
    """Rows in order as arrays of these shapes."""
    found, rest = [], list(rows)
    for shape in shapes:
        size = math.prod(shape)
        found.append(filled(shape, rest[:size]))
        rest = rest[size:]
    return found


def _vector(row: Any, num: int) -> Any:
    return jnp.full((num,), row) if jnp.ndim(row) == 0 else row


def _operations(jaxpr: Jaxpr) -> Counter[str]:
    """How many operations on vectors, by the names of their primitives."""
    whole: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        called = primitives.program_of(equation)
        if called is not None or name in ("scan", "while"):
            inner = [part for key, part in equation.params.items() if key.endswith("jaxpr")]
            for part in inner if called is None else [called]:
                found = _operations(getattr(part, "jaxpr", part))
                times = equation.params["length"] if name == "scan" else 1
                whole.update({key: times * num for key, num in found.items()})
        elif name in ROW_BY_ROW:
            whole[name] += sum(math.prod(lead(atom)) for atom in equation.outvars)
        elif name in REDUCING or name == "argmax":
            whole[name] += math.prod(lead(equation.invars[0]))
        elif name not in MOVING:
            raise Unsupported(name)
    return whole


def _run(jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Rows], num: int) -> list[Rows]:
    """Every equation in turn."""
    known: dict[Any, Rows] = dict(zip(jaxpr.invars, inputs, strict=True))
    known |= {v: _constant(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Rows:
        return _constant(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        found = _apply(equation, [read(atom) for atom in equation.invars], num)
        known |= dict(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _constant(value: Any) -> Rows:
    """The numbers of an array that is known."""
    if isinstance(value, jax.core.Tracer):
        raise Unsupported("an array that is neither an argument nor a constant")
    array = np.asarray(value)
    return filled(array.shape, list(array.reshape(-1)))


def _apply(equation: Any, given: list[Rows], num: int) -> list[Rows]:
    """One equation by its rule."""
    name, params = equation.primitive.name, equation.params
    inner = primitives.program_of(equation)
    if inner is not None:
        return _run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given, num)
    if name == "while":
        return _while(equation, given, num)
    if name == "scan":
        return _scan(equation, given, num)
    if name in MOVING:
        return MOVING[name](equation, given)
    if name in REDUCING:
        return [_reduced(name, given[0], params["axes"], num)]
    if name == "argmax":
        return [_argmax(given[0], params["axes"][0], params["index_dtype"])]
    shape = lead(equation.outvars[0])
    # An axis of length one may stand for one of any length, also for that of the lanes.
    given = [rows[..., 0] if rows.ndim > len(shape) else rows for rows in given]
    alike = [np.broadcast_to(rows, shape).reshape(-1) for rows in given]
    operation = _one(equation)
    return [filled(shape, [operation(*rows) for rows in zip(*alike, strict=True)])]


def _one(equation: Any) -> Callable:
    """An operation on rows."""
    name, params = equation.primitive.name, equation.params
    if name == "select_n":
        return _select
    if name == "round":
        return partial(_done, _round)
    if name == "convert_element_type":
        convert = partial(jax.lax.convert_element_type, new_dtype=params["new_dtype"])
        return partial(_done, convert)
    return partial(_done, partial(equation.primitive.bind, **params))


def _done(operation: Callable, *rows: Any) -> Any:
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


def _reduced(name: str, rows: Rows, axes: tuple[int, ...], num: int) -> Rows:
    """Over axes, the lanes last if they are among them."""
    own = tuple(axis for axis in axes if axis < rows.ndim)
    behind = np.moveaxis(rows, own, range(rows.ndim - len(own), rows.ndim))
    kept = behind.shape[: rows.ndim - len(own)]
    flat = behind.reshape(math.prod(kept), -1)
    made = [functools.reduce(partial(_done, REDUCING[name]), row) for row in flat]
    if len(own) < len(axes):
        if name not in OVER_LANES:
            raise Unsupported(f"{name} over lanes")
        made = [OVER_LANES[name](_vector(row, num)) for row in made]
    return filled(kept, made)


def _argmax(rows: Rows, axis: int, dtype: Any) -> Rows:
    """The first of the largest."""
    along = np.moveaxis(rows, axis, 0)
    best = []
    for own in along.reshape(len(along), -1).T:
        place, top = np.zeros((), dtype)[()], own[0]
        for i, row in enumerate(own[1:], 1):
            more = _done(jax.lax.gt, row, top)
            place, top = _select(more, place, np.asarray(i, dtype)[()]), _select(more, top, row)
        best.append(place)
    return filled(along.shape[1:], best)


def _while(equation: Any, given: list[Rows], num: int) -> list[Rows]:
    """A loop whose carry is vectors, and numbers that are the same for all lanes."""
    condition, body = equation.params["cond_jaxpr"], equation.params["body_jaxpr"]
    ends = np.cumsum([equation.params[f"{part}_nconsts"] for part in ("cond", "body")])
    of_condition, of_body, start = given[: ends[0]], given[ends[0] : ends[1]], given[ends[1] :]
    wide = [has_lanes(atom) for atom in equation.outvars]
    shapes = [rows.shape for rows in start]

    def flat(carry: Sequence[Rows]) -> list[Any]:
        made = zip(carry, wide, strict=True)
        return [
            _vector(row, num) if own else jnp.asarray(row)
            for rows, own in made
            for row in rows.reshape(-1)
        ]

    def turn(closed: Any, consts: list[Rows], leaves: Sequence[Any]) -> list[Rows]:
        return _run(closed.jaxpr, closed.consts, [*consts, *_apart(shapes, leaves)], num)

    after = jax.lax.while_loop(
        lambda leaves: turn(condition, of_condition, leaves)[0].item(),
        lambda leaves: flat(turn(body, of_body, leaves)),
        flat(start),
    )
    return _apart(shapes, after)


def _scan(equation: Any, given: list[Rows], num: int) -> list[Rows]:
    """One turn after the other, without a loop."""
    closed, length = equation.params["jaxpr"], equation.params["length"]
    # Which operands are gone through, and how many results are carried, is told by their shapes:
    # the names of the parameters are not the same in all versions of jax.
    over = _num_changed(equation.invars[::-1], closed.jaxpr.invars[::-1])
    kept = len(equation.outvars) - _num_changed(equation.outvars[::-1], closed.jaxpr.outvars[::-1])
    fixed, turned = given[: len(given) - over], given[len(given) - over :]
    consts, carry = fixed[: len(fixed) - kept], fixed[len(fixed) - kept :]
    made: dict[int, list[Rows]] = {}
    for turn in range(length)[:: -1 if equation.params["reverse"] else 1]:
        own = [*consts, *carry, *(rows[turn, ...] for rows in turned)]
        found = _run(closed.jaxpr, closed.consts, own, num)
        carry, made[turn] = found[:kept], found[kept:]
    turns = [made[turn] for turn in range(length)]
    return [*carry, *(stacked(rows, 0) for rows in zip(*turns, strict=True))]


def _num_changed(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many of the first operands have another shape in a turn than as a whole."""
    pairs = [(aval_of(a).shape, aval_of(b).shape) for a, b in zip(outside, inside, strict=True)]
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] != pair[1], pairs))
