"""Arithmetic on probabilities that keeps its digits where one of them is nearly 0 or nearly 1."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from simrl.types import Array

_LARGE = 0.75  # a probability above this is dominant


def sum_of_others(values: Array, probs: Array) -> Array:
    """Sum along the last axis without the entry itself, [..., V]; exact at the likeliest entry.

    Only there can total - value lose every digit, so only there the others are added up.
    """
    top = jax.nn.one_hot(jnp.argmax(probs, axis=-1), probs.shape[-1], dtype=bool)
    rest_of_top = jnp.sum(jnp.where(top, 0, values), axis=-1, keepdims=True)
    total = rest_of_top + jnp.sum(jnp.where(top, values, 0), axis=-1, keepdims=True)
    return jnp.where(top, rest_of_top, total - values)


def complement(probs: Array) -> Array:
    """1 - probs along the last axis, [..., V], as the sum of the others for a dominant entry.

    At most one entry passes 3/4 (ties at 1/2 do not), and below it 1 - p keeps its digits: no
    argmax, which costs more than all the rest.
    """
    large = probs > _LARGE
    others = jnp.sum(jnp.where(large, 0, probs), axis=-1, keepdims=True)
    return jnp.where(large, others, 1 - probs)


def gini(probs: Array) -> Array:
    """1 - sum of squares along the last axis, [...]: tr Cov of a one-hot draw; 0 if certain."""
    return jnp.sum(probs * complement(probs), axis=-1)


def deviations(probs: Array, rewards: Array) -> Array:
    """Advantage of each arm, r_a - sum_b pi_b r_b, [..., V], without cancelling at either end.

    Rewards are first taken from that of a dominant arm (else the least): its own advantage is then
    a sum over the others, and a large constant in the rewards drops out.
    """
    large = probs > _LARGE
    dominant = jnp.sum(jnp.where(large, rewards, 0), axis=-1, keepdims=True)
    exists = jnp.any(large, axis=-1, keepdims=True)
    least = jnp.min(rewards, axis=-1, keepdims=True)
    shifted = rewards - jnp.where(exists, dominant, least)
    return shifted - jnp.sum(probs * shifted, axis=-1, keepdims=True)


def divide(numerator: Array, denominator: Array) -> Array:
    """Quotient, with 0 where the denominator is 0: for terms that carry a zero weight there."""
    safe = jnp.where(denominator == 0, 1, denominator)
    return jnp.where(denominator == 0, 0, numerator / safe)


def log_of(value: Array, other: Array) -> Array:
    """Log of `value` in nats, given `other` = 1 - value; -inf at 0."""
    return jnp.where(value < 0.5, jnp.log(value), jnp.log1p(-jnp.minimum(other, 0.5)))


def log_not(value: Array) -> Array:
    """log(1 - p), nats, of p <= 3/4, elementwise; right to rounding however small p is.

    -2 atanh(p / (2 - p)) by its series, which in float32 takes 16 terms and half the time of log1p.
    """
    if jnp.finfo(value.dtype).nmant > 23:
        return jnp.log1p(-value)
    ratio = value / (2 - value)
    square, series = ratio * ratio, jnp.full_like(value, 1 / 31)
    for n in range(29, 0, -2):
        series = series * square + 1 / n
    return -2 * ratio * series


def log_power(count: Array | int, log: Array) -> Array:
    """Log of a probability to the power `count`, given its log; 0 to the 0 is 1."""
    count = jnp.asarray(count)
    return jnp.where(count == 0, 0, count * jnp.where(count == 0, 0, log))


def log_binomial(counts: np.ndarray, size: int, log_p: Array, log_fail: Array) -> Array:
    """Log of Bin(k; size, p) at each of the counts [N], nats: [N, ...] for logs of p and 1 - p."""
    ways = [  # on the host in float64: lgamma loses digits in float32
        math.lgamma(size + 1) - math.lgamma(k + 1) - math.lgamma(size - k + 1) for k in counts
    ]
    shape = (-1,) + (1,) * jnp.ndim(log_p)
    orders, k = (jnp.asarray(x, log_p.dtype).reshape(shape) for x in (np.array(ways), counts))
    return orders + log_power(k, log_p) + log_power(size - k, log_fail)


def as_float(values: Array | float) -> Array:
    """Array of floats; integers become the default float type."""
    values = jnp.asarray(values)
    return values if jnp.issubdtype(values.dtype, jnp.floating) else values.astype(float)
