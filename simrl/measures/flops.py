"""Floating-point operations: counted from a program, and charged by the 2N/4N convention.

Two answers that are never mixed. `count_flops` walks the jaxpr of a function; `ledger` charges 2N a
token forward and 4N backward (Kaplan et al. 2020, arXiv:2001.08361, section 2.1), the deep limit
of what is counted in a network whose first layer is a small part of it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import primitives
from simrl.keys import WORDS_MARK
from simrl.measures.convention import LINES, ledger, ledger_lines
from simrl.rounding import SUM_MARK

__all__ = ["LINES", "FlopCount", "count_flops", "ledger", "ledger_lines"]


class FlopCount(NamedTuple):
    """Operations of a program, exact Python integers."""

    matmul: int = 0  # FLOPs: a multiplication and an addition are two
    elementwise: int = 0  # FLOPs: arithmetic, comparison or selection of one number
    transcendental: int = 0  # FLOPs: evaluations, one each whatever they cost
    reduction: int = 0  # FLOPs: sums, maxima, scans, sorts
    random_words: int = 0  # 32-bit words; not FLOPs

    @property
    def total(self) -> int:
        """FLOPs: all fields but the random words."""
        return self.matmul + self.elementwise + self.transcendental + self.reduction

    def __add__(self, other: "FlopCount") -> "FlopCount":  # type: ignore[override]
        """Field by field."""
        return FlopCount(*(a + b for a, b in zip(self, other, strict=True)))

    def __sub__(self, other: "FlopCount") -> "FlopCount":
        """Field by field; what one program does more than another."""
        return FlopCount(*(a - b for a, b in zip(self, other, strict=True)))

    def __mul__(self, times: int) -> "FlopCount":  # type: ignore[override]
        """The program run `times` times."""
        return FlopCount(*(times * a for a in self))

    def __rmul__(self, times: int) -> "FlopCount":  # type: ignore[override]
        """The program run `times` times."""
        return self * times


def count_flops(fn: Callable, *args: Any, while_bound: int | None = None) -> FlopCount:
    """Operations of `fn(*args)`, read off its jaxpr; nothing is run or compiled.

    - matmul: 2MNK (times batch dimensions); a convolution 2 x outputs x kernel elements of one.
    - elementwise, transcendental: one for each output element (x**n by repeated multiplication).
    - reduction: n - 1 for n numbers that become one; one for each element of a cumulative scan or
      of the updates of an accumulating scatter; n ceil(log2 n) comparisons for a sort of n and
      n ceil(log2 k) (n at least) for the k largest of n.
    - random_words: 32-bit words drawn. Deriving a key (fold_in, split) draws none.

    Only operations that read or write floating-point numbers count: arithmetic on integers and
    booleans (the generator's included), the movement or conversion of data, and the compensation of
    rounding (`simrl.rounding`) are free. A `scan`, or a `fori_loop` with static bounds, costs its
    body times its length; `cond` its dearest branch by `total`; `shard_map` the sum over devices.
    An equation that no result needs is left out, as a compiler drops it.

    Args:
      fn: a function that jax can trace.
      *args: its arguments, arrays or `jax.ShapeDtypeStruct`; pytrees allowed.
      while_bound: iterations to charge for each `while` loop: traced bounds say nothing.

    Raises:
      ValueError: a `while` loop without `while_bound`, complex numbers, or a primitive that has no
        rule (named in the message).
    """
    if while_bound is not None and while_bound < 0:
        raise ValueError(f"while_bound must be at least 0, got {while_bound}")
    return _count_jaxpr(jax.make_jaxpr(fn)(*args), while_bound)


def _count_jaxpr(jaxpr: Any, while_bound: int | None) -> FlopCount:
    open_jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    needed = {id(v) for v in open_jaxpr.outvars}
    total = FlopCount()
    for eqn in reversed(open_jaxpr.eqns):
        if eqn.effects or any(id(v) in needed for v in eqn.outvars):
            needed.update(id(v) for v in eqn.invars)
            total += _count_eqn(eqn, while_bound)
    return total


def _count_eqn(eqn: Any, while_bound: int | None) -> FlopCount:
    name = eqn.primitive.name
    if name in primitives.MOVEMENT:
        return FlopCount()
    if name in _STRUCTURE:
        return _STRUCTURE[name](eqn, while_bound)
    if name in _WORDS:
        return FlopCount(random_words=_WORDS[name](eqn))
    if name not in _RULES:
        raise ValueError(f"count_flops has no rule for the primitive {name!r}")
    return _RULES[name](eqn) if _is_floating(eqn) else FlopCount()


def _is_floating(eqn: Any) -> bool:
    dtypes = [v.aval.dtype for v in (*eqn.invars, *eqn.outvars) if hasattr(v.aval, "dtype")]
    if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
        raise ValueError(f"count_flops does not count complex numbers ({eqn.primitive.name!r})")
    return any(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes)


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)


# Programs inside programs: (equation, while_bound) -> count.


def _call(eqn: Any, while_bound: int | None) -> FlopCount:
    if eqn.params.get("name") == WORDS_MARK:
        return FlopCount(random_words=_size(eqn.outvars[0]))
    if eqn.params.get("name") == SUM_MARK:  # how simrl rounds is no cost of a learner
        return FlopCount()
    program = primitives.program_of(eqn)
    assert program is not None  # see _STRUCTURE
    return _count_jaxpr(program[0], while_bound)


def _scan(eqn: Any, while_bound: int | None) -> FlopCount:
    return eqn.params["length"] * _count_jaxpr(eqn.params["jaxpr"], while_bound)


def _while(eqn: Any, while_bound: int | None) -> FlopCount:
    if while_bound is None:
        raise ValueError(
            "count_flops met a `while` loop (or a fori_loop with traced bounds), whose number of "
            "iterations a program does not tell: pass while_bound"
        )
    body = _count_jaxpr(eqn.params["body_jaxpr"], while_bound)
    test = _count_jaxpr(eqn.params["cond_jaxpr"], while_bound)
    return while_bound * body + (while_bound + 1) * test


def _cond(eqn: Any, while_bound: int | None) -> FlopCount:
    counts = [_count_jaxpr(branch, while_bound) for branch in eqn.params["branches"]]
    return max(counts, key=lambda count: (count.total, count.random_words))


def _shard_map(eqn: Any, while_bound: int | None) -> FlopCount:
    mesh, params = eqn.params["mesh"], eqn.params
    axes = params.get("newly_manual_axes", params.get("manual_axes", mesh.axis_names))
    num_devices = math.prod(mesh.shape[axis] for axis in axes)
    return num_devices * _count_jaxpr(params["jaxpr"], while_bound)


_STRUCTURE: dict[str, Callable[[Any, int | None], FlopCount]] = {
    **dict.fromkeys((*primitives.CALLS, primitives.EXPANDED), _call),
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "shard_map": _shard_map,
}


# Random words drawn: equation -> 32-bit words.

_WORDS: dict[str, Callable[[Any], int]] = {
    "random_bits": lambda eqn: -(-_size(eqn.outvars[0]) * eqn.params["bit_width"] // 32),
    "threefry2x32": lambda eqn: sum(_size(v) for v in eqn.outvars),
    "rng_bit_generator": lambda eqn: (
        -(-_size(eqn.outvars[1]) * eqn.outvars[1].aval.dtype.itemsize // 4)
    ),
}


# Arithmetic: equation -> count, for equations that touch floating-point numbers.


def _elementwise(eqn: Any) -> FlopCount:
    return FlopCount(elementwise=_size(eqn.outvars[0]))


def _integer_pow(eqn: Any) -> FlopCount:
    power = abs(eqn.params["y"])
    multiplications = max(power.bit_length() + power.bit_count() - 2, 0)
    division = int(eqn.params["y"] < 0)
    return FlopCount(elementwise=_size(eqn.outvars[0]) * (multiplications + division))


def _transcendental(eqn: Any) -> FlopCount:
    return FlopCount(transcendental=_size(eqn.outvars[0]))


def _dot_general(eqn: Any) -> FlopCount:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    inner = math.prod(shape[axis] for axis in contracted)
    return FlopCount(matmul=2 * _size(eqn.outvars[0]) * inner)


def _convolution(eqn: Any) -> FlopCount:
    kernel = eqn.invars[1]
    num_out_features = kernel.aval.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
    inner = _size(kernel) // max(num_out_features, 1)
    return FlopCount(matmul=2 * _size(eqn.outvars[0]) * inner)


def _reduction(eqn: Any) -> FlopCount:
    return FlopCount(reduction=_size(eqn.invars[0]) - _size(eqn.outvars[0]))


def _cumulative(eqn: Any) -> FlopCount:
    size = _size(eqn.invars[0])
    evaluations = 2 * size if eqn.primitive.name == "cumlogsumexp" else 0
    return FlopCount(reduction=size, transcendental=evaluations)


def _scatter(eqn: Any) -> FlopCount:
    return FlopCount(reduction=_size(eqn.invars[2]))


def _collective(eqn: Any) -> FlopCount:
    return FlopCount(reduction=sum(_size(v) for v in eqn.outvars))


def _sort(eqn: Any) -> FlopCount:
    length = eqn.invars[0].aval.shape[eqn.params["dimension"]]
    return FlopCount(reduction=_size(eqn.invars[0]) * _ceil_log2(length))


def _top_k(eqn: Any) -> FlopCount:
    return FlopCount(reduction=_size(eqn.invars[0]) * max(_ceil_log2(eqn.params["k"]), 1))


def _ceil_log2(number: int) -> int:
    return max(number - 1, 0).bit_length()


_RULES: dict[str, Callable[[Any], FlopCount]] = {
    **dict.fromkeys(primitives.ELEMENTWISE, _elementwise),
    **dict.fromkeys(primitives.TRANSCENDENTAL, _transcendental),
    **dict.fromkeys(primitives.REDUCTION, _reduction),
    **dict.fromkeys(primitives.CUMULATIVE, _cumulative),
    **dict.fromkeys(primitives.ACCUMULATING_SCATTER, _scatter),
    **dict.fromkeys(primitives.COLLECTIVE_REDUCTION, _collective),
    "integer_pow": _integer_pow,
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "sort": _sort,
    "top_k": _top_k,
}
