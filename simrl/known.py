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

from simrl import primitives

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
    after = [atom.aval for atom in equation.outvars]
    if len(after) != 1 or after[0].size > MOST or not all(map(_is_known, given)):
        return None
    if jax.dtypes.issubdtype(after[0].dtype, jax.dtypes.extended):
        return None
    before = [atom.aval for atom in equation.invars]
    values = [np.asarray(x, a.dtype).reshape(a.shape) for x, a in zip(given, before, strict=True)]
    with np.errstate(all="ignore"):
        found = _result(equation.primitive.name, equation.params, values, after[0])
    return None if found is None else [np.asarray(found, after[0].dtype).reshape(after[0].shape)]


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


def _is_known(x: Any) -> bool:
    """Whether these are numbers already, and few."""
    return not isinstance(x, (jax.core.Tracer, jax.Array)) and np.size(x) <= MOST


def _result(name: str, params: dict[str, Any], given: list[np.ndarray], after: Any) -> Any:
    """One result, None if NumPy's might be another."""
    if name in UNIFORM:
        whole = name == "div" and not np.issubdtype(after.dtype, np.floating)
        return None if whole else UNIFORM[name](*given)
    if name == "select_n" and given[0].dtype == bool:
        return np.where(given[0], given[2], given[1])
    if name in ("squeeze", "copy", "stop_gradient"):
        return given[0]
    if name == "reshape":
        return given[0] if params["dimensions"] is None else None
    if name == "convert_element_type":
        return given[0] if given[0].dtype.kind in "biu" or after.dtype.kind == "f" else None
    if name == "iota":
        places = np.arange(after.shape[params["dimension"]], dtype=after.dtype)
        wide = [-1 if axis == params["dimension"] else 1 for axis in range(after.ndim)]
        return np.broadcast_to(places.reshape(wide), after.shape)
    if name == "broadcast_in_dim" and len(given) == 1:
        wide = [1] * after.ndim
        for axis, place in enumerate(params["broadcast_dimensions"]):
            wide[place] = given[0].shape[axis]
        return np.broadcast_to(given[0].reshape(wide), after.shape)
    if name == "concatenate":
        return np.concatenate(given, params["dimension"])
    if name == "tile":
        return np.tile(given[0], params["reps"])
    if name == "stack":
        return np.stack(given, params["axis"])
    if name == "slice":
        steps = params["strides"] or (1,) * given[0].ndim
        limits = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
        return given[0][tuple(slice(*limit) for limit in limits)]
    if name == "shift_right_logical" and after.dtype.kind == "u":
        width = 8 * after.dtype.itemsize
        return np.where(given[1] < width, given[0] >> np.minimum(given[1], width - 1), 0)
    if name == "reduce_sum" and after.dtype.kind in "iu":
        return given[0].sum(params["axes"], dtype=after.dtype)
    return None
