"""Code on columns as code on rows: arrays [..., N] taken apart into vectors [N], one per number.

What `columns` and `columnwise` compute on whole arrays with the lanes last is here a straight line
of operations on vectors of lanes: moving, stacking and slicing arrays costs nothing, and every
number of a lane may stay in a register. That is what a kernel for an accelerator is made of
(simrl.engine.kernels), whose compiler knows vectors, but no slices and no sizes like ten.
"""

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
    REDUCING,
    Rows,
    Unsupported,
    aval_of,
    done,
    filled,
    has_lanes,
    largest,
    lead,
    operation_of,
    over_lanes,
    reduced,
    stacked,
    vector,
)

LOOPS: dict[str, Callable[[Any], int]] = {  # how often what they hold is done, as is counted
    "reduce": lambda equation: math.prod(lead(equation.invars[0])),
    "scan": lambda equation: equation.params["length"],
    "while": lambda equation: 1,
}
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
        return [vector(row, num) for made in found for row in made.reshape(-1)]

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


def _operations(jaxpr: Jaxpr) -> Counter[str]:
    """How many operations on vectors, by the names of their primitives."""
    whole: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        name, called = equation.primitive.name, primitives.program_of(equation)
        if name == "reduce" and len(equation.invars) > 2:
            raise Unsupported("reduce of several at once")
        if called is not None or name in LOOPS:
            inner = [part for key, part in equation.params.items() if key.endswith("jaxpr")]
            parts = [called] if called is not None else map(primitives.opened, inner)
            times = LOOPS[name](equation) if name in LOOPS else 1
            for part, _ in parts:
                whole.update({key: times * num for key, num in _operations(part).items()})
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
    called = primitives.program_of(equation)
    if called is not None:
        return _run(*called, given, num)
    if name == "while":
        return _while(equation, given, num)
    if name == "scan":
        return _scan(equation, given, num)
    if name in MOVING:
        return MOVING[name](equation, given)
    if name in REDUCING:
        found = reduced(partial(done, REDUCING[name]), given[0], params["axes"])
        return [found if max(params["axes"]) < given[0].ndim else over_lanes(name, found, num)]
    if name == "reduce":
        return [_folded(equation, given[0], given[1], num)]
    if name == "argmax":
        return [largest(given[0], params["axes"][0], params["index_dtype"])]
    shape = lead(equation.outvars[0])
    # An axis of length one may stand for one of any length, also for that of the lanes.
    given = [rows[..., 0] if rows.ndim > len(shape) else rows for rows in given]
    alike = [np.broadcast_to(rows, shape).reshape(-1) for rows in given]
    operation = operation_of(equation)
    return [filled(shape, [operation(*rows) for rows in zip(*alike, strict=True)])]


def _folded(equation: Any, rows: Rows, first: Rows, num: int) -> Rows:
    """A reduction by a program of its own, which combines two."""
    program, axes = primitives.opened(equation.params["jaxpr"]), equation.params["dimensions"]
    if max(axes) >= rows.ndim:
        raise Unsupported("reduce over lanes")

    def combine(a: Any, b: Any) -> Any:
        return _run(*program, [filled((), [a]), filled((), [b])], num)[0].item()

    return reduced(combine, rows, axes, first.item())


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
            vector(row, num) if own else jnp.asarray(row)
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
