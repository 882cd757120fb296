"""What of a program is known while it is traced: NumPy computes it at once.

In a traced function jax leaves every operation to the compiled program, those on constants too. XLA
makes a kernel of each, which takes it longer to compile than the numbers are worth. Here are the
operations whose result NumPy gives bit for bit; others, and large arrays, stay in the program.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from simrl import primitives, rowrules

MOST = 256  # numbers in an array: of a larger one the program is shorter than its values

UNIFORM: dict[str, Callable] = {
    "add": np.add,
    "and": np.bitwise_and,
    "div": np.true_divide,
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.bitwise_not,
    "or": np.bitwise_or,
    "sub": np.subtract,
    "xor": np.bitwise_xor,
}
"""Entry by entry. IEEE arithmetic leaves no choice, unlike an exponential or a float's sum."""


def results(equation: Any, given: Sequence[Any]) -> list[np.ndarray] | None:
    """The results of an equation of a jaxpr; None: they are left to the program."""
    before, after = ([atom.aval for atom in part] for part in (equation.invars, equation.outvars))
    if not (after and all(map(_is_few, after)) and all(map(_is_known, given))):
        return None
    values = [np.asarray(x, a.dtype).reshape(a.shape) for x, a in zip(given, before, strict=True)]
    with np.errstate(all="ignore"):
        found = _results(equation, values, after[0].dtype)
    if found is None:
        return None
    return [np.asarray(x, a.dtype).reshape(a.shape) for x, a in zip(found, after, strict=True)]


def constant(function: Callable[[], Any]) -> Any:
    """What a function returns, as far as possible in NumPy: arrays that are known to a trace."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)()
    found = _run(closed.jaxpr, closed.consts, [])
    return function() if found is None else jax.tree.unflatten(jax.tree.structure(shapes), found)


def _run(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any] | None:
    """Every equation in turn; None: one of them is left to the program."""
    values: dict[Any, Any] = dict(zip(jaxpr.invars, inputs, strict=True))
    values |= dict(zip(jaxpr.constvars, consts, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        called = primitives.program_of(equation)
        found = results(equation, given) if called is None else _run(*called, given)
        if found is None:
            return None
        values |= dict(zip(equation.outvars, found, strict=True))
    return [np.asarray(read(atom)) for atom in jaxpr.outvars]


def _is_few(aval: Any) -> bool:
    """Whether a result is of few numbers, and not of random keys."""
    return aval.size <= MOST and not jax.dtypes.issubdtype(aval.dtype, jax.dtypes.extended)


def _is_known(x: Any) -> bool:
    """Whether these are numbers already, and few."""
    return not isinstance(x, (jax.core.Tracer, jax.Array)) and np.size(x) <= MOST


def _results(equation: Any, given: list[np.ndarray], dtype: Any) -> list[Any] | None:
    """The results, of a dtype; None if NumPy's might be others."""
    name, params = equation.primitive.name, equation.params
    if name in rowrules.MOVING:
        try:
            return rowrules.MOVING[name](equation, given)
        except rowrules.Unsupported:
            return None
    if name == "div" and dtype.kind != "f":  # of whole numbers, which are cut
        return None
    if name in UNIFORM:
        return [UNIFORM[name](*given)]
    if name == "select_n" and given[0].dtype == bool:
        return [np.where(given[0], given[2], given[1])]
    if name == "convert_element_type" and (given[0].dtype.kind in "biu" or dtype.kind == "f"):
        return given
    if name == "tile":
        return [np.tile(given[0], params["reps"])]
    if name == "shift_right_logical" and dtype.kind == "u":
        width = 8 * dtype.itemsize
        return [np.where(given[1] < width, given[0] >> np.minimum(given[1], width - 1), 0)]
    if name == "reduce_sum" and dtype.kind in "iu":
        return [given[0].sum(params["axes"], dtype=dtype)]
    return None
