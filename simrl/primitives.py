"""Which jax primitives compute, and what: the vocabulary of all that read programs.

A primitive that stands in none of these sets, and has no rule of its own in `simrl.measures.flops`,
is refused there by name: counting it as nothing would make a wrong number look exact.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


ELEMENTWISE = names(
    """
    abs add add_any and ceil clamp clz div eq eq_to floor ge gt is_finite le le_to lt lt_to max
    min mul mulhi ne neg nextafter not or population_count reduce_precision rem round select_n
    shift_left shift_right_arithmetic shift_right_logical sign square sub xor
    """
)
"""One operation for each element of the output."""

TRANSCENDENTAL = names(
    """
    acos acosh asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt cos cosh digamma erf
    erf_inv erfc exp exp2 expm1 lgamma log log1p logistic pow rsqrt sin sinh sqrt tan tanh
    """
)
"""One evaluation for each element of the output."""

REDUCTION = names(
    """
    argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor
    """
)
"""n numbers become one in n - 1 steps: elements of the input minus elements of the output."""

CUMULATIVE = names("cumlogsumexp cummax cummin cumprod cumsum")
"""One step for each element; `cumlogsumexp` two transcendentals more."""

ACCUMULATING_SCATTER = names("scatter-add scatter-max scatter-min scatter-mul scatter-sub")
"""One step for each element of the updates."""

COLLECTIVE_REDUCTION = names("pmax pmin psum psum_invariant")
"""One step for each element and device."""

MOVEMENT = names(
    """
    all_gather all_gather_invariant all_to_all axis_index bitcast_convert_type broadcast_in_dim
    concatenate convert_element_type copy create_token device_put dynamic_slice
    dynamic_update_slice empty empty2 gather iota name optimization_barrier pad platform_index
    ppermute pvary random_clone random_fold_in random_seed random_split random_unwrap
    random_wrap reshape reshard rev scatter sharding_constraint slice split squeeze stack
    stop_gradient tile transpose unstack zeros_like
    """
)
"""Moves, copies, converts or names data, or derives a key: no operation."""

CALLS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
"""Primitives that only call a program: the parameter that holds it."""

EXPANDED = "call_hi_primitive"
"""Since jax 0.12: what is traced as one operation and only expanded when it is compiled."""


def program_of(equation: Any) -> tuple[Any, Sequence[Any]] | None:
    """The jaxpr that an equation calls and its constants; None: it is an operation of its own."""
    name, params = equation.primitive.name, equation.params
    if name == EXPANDED:
        return opened(jax.make_jaxpr(params["_prim"].expand)(*(v.aval for v in equation.invars)))
    return opened(params[CALLS[name]]) if name in CALLS else None


def opened(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr, closed or not, and its constants."""
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, ClosedJaxpr) else (jaxpr, ())
