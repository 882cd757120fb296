"""Batch estimators: from score statistics of one sample to exact moments of a whole batch.

Rewards and advantages meet in two affine families, s (r_i - c mean(r)) and r_i - b, whose s, c
and b may be traced: one program serves REINFORCE, own group mean and leave-one-out. Formulas:
THEORY.md, section 3, "Batch estimators"; every one is tested against enumeration.
"""

import math
import operator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from simrl.measures.simplex import as_float, divide, log_of
from simrl.measures.units import ScoreStatistics
from simrl.types import Array

ADVANTAGES = (
    "none",
    "leave_one_out",
    "group_mean",
    "batch_mean",  # the same thing: the group is the batch of answers to one prompt
    "group_normalised",
    "maxrl",
)


class Moments(NamedTuple):
    """Exact moments of a gradient estimator g of B trajectories (B = 1 unless said).

    Where a denominator is 0 the quotients are their right limits: inf, or NaN for 0 / 0 (no
    signal and no noise).
    """

    mean: Array  # shape of probs, reward/logit: E g (ascent)
    trace_covariance: Array  # [] tr Cov g
    squared_norm: Array  # [] |E g|^2
    snr: Array  # [] squared_norm / trace_covariance
    noise_scale: Array  # [] trajectories: B trace_covariance / squared_norm


def make_moments(
    mean: Array, trace: Array, squared_norm: Array, batch_size: Array | int
) -> Moments:
    """Moments of a batch, from a trace and a squared norm that are summed over every unit."""
    trace, norm = jnp.sum(trace), jnp.sum(squared_norm)
    return Moments(mean, trace, norm, norm / trace, batch_size * trace / norm)


def check_group_size(size: int, least: int = 1) -> int:
    """The size as an int; ValueError if it is less than `least`."""
    size = operator.index(size)
    if size < least:
        raise ValueError(f"batch or group size must be at least {least}, got {size}")
    return size


def check_advantage(advantage: str) -> None:
    """ValueError unless the name is one of ADVANTAGES."""
    if advantage not in ADVANTAGES:
        raise ValueError(f"advantage must be one of {', '.join(ADVANTAGES)}, got {advantage!r}")


def _variance_at(statistics: ScoreStatistics, baseline: Array) -> Array:
    """E (r - b)^2 |s|^2 - |G|^2, [U], expanded about the nearer of b = 0 and b = J."""
    s = statistics
    gap = baseline - s.reward_mean
    at_zero = s.variance - 2 * baseline * s.cross + baseline**2 * s.score
    centred_cross = s.cross - s.reward_mean * s.score
    at_mean = s.variance_centred - 2 * gap * centred_cross + gap**2 * s.score
    return jnp.maximum(jnp.where(jnp.abs(gap) < jnp.abs(baseline), at_mean, at_zero), 0)


def constant_moments(
    statistics: ScoreStatistics, batch_size: int | Array, baseline: float | Array
) -> Moments:
    """Moments of (1/B) sum_i (r_i - b) s_i for a baseline that ignores the batch.

    Args:
      statistics: score statistics of one sample.
      batch_size: B >= 1 independent samples of one prompt; may be traced.
      baseline: scalar or [U], in units of reward; may be traced.
    """
    baseline = jnp.asarray(baseline, statistics.mean.dtype)
    trace = _variance_at(statistics, baseline) / batch_size
    return make_moments(statistics.mean, trace, statistics.squared_mean, batch_size)


def affine_moments(
    statistics: ScoreStatistics,
    batch_size: int | Array,
    scale: float | Array,
    centre: float | Array,
) -> Moments:
    """Moments of (s/B) sum_i (r_i - c mean(r)) s_i over B independent samples of one prompt.

    Args:
      statistics: score statistics of one sample.
      batch_size: B >= 1; may be traced.
      scale: s, may be traced.
      centre: c, may be traced. (s, c) is (1, 0) without baseline, (1, 1) for the group's own
        mean, (B/(B-1), 1) for leave-one-out. B = 1 with c = 1 gives a zero gradient.

    With a = 1 - c/B, b = c J (1 - 1/B)/a and V(b) = E (r - b)^2 |s|^2 - |G|^2, per unit: mean
    s a G, trace s^2 [ a^2 V(b)/B + c^2 (B - 1)/B^3 (Var r E|s|^2 + |G|^2) ]. The second term
    is what the other samples' rewards add. At c = 0 and c = 1, V is free of cancellation.
    Source: expansion of the double sum; c = 1 gives THEORY.md's leave-one-out.
    """
    s, dtype = statistics, statistics.mean.dtype
    size, scale, centre = (jnp.asarray(x, dtype) for x in (batch_size, scale, centre))
    own = 1 - centre / size
    baseline = s.reward_mean * divide(centre * (1 - 1 / size), own)
    coupled = centre**2 * (size - 1) / size**3 * (s.reward_variance * s.score + s.squared_mean)
    trace = scale**2 * (own**2 / size * _variance_at(s, baseline) + coupled)
    gain = scale * own
    return make_moments(gain * s.mean, trace, gain**2 * s.squared_mean, batch_size)


def _success_moments(statistics: ScoreStatistics) -> tuple[Array, Array, Array]:
    """p and 1 - p of a unit whose reward is 0 or 1, and |G/p|^2, [U] each."""
    p = statistics.reward_mean
    # Var r = p (1 - p) remembers 1 - p where p itself rounds to 1.
    fail = jnp.where(p == 0, 1, divide(statistics.reward_variance, p))
    return p, fail, divide(divide(statistics.squared_mean, p), p)


def _binomial(size: int, p: Array, fail: Array) -> Array:
    """Bin(k; size, p) for k = 0..size, [size + 1, ...]."""
    counts = np.arange(size + 1)
    ways = np.array(
        [math.lgamma(size + 1) - math.lgamma(k + 1) - math.lgamma(size - k + 1) for k in counts]
    )  # on the host in float64: lgamma loses digits in float32
    shape = (-1,) + (1,) * jnp.ndim(p)
    k = jnp.asarray(counts, p.dtype).reshape(shape)
    logs = _times(k, log_of(p, fail)) + _times(size - k, log_of(fail, p))
    weights = jnp.exp(jnp.asarray(ways, p.dtype).reshape(shape) + logs)
    return weights / jnp.sum(weights, axis=0)  # rounding of the logs is common to all k


def _times(count: Array | int, log: Array) -> Array:
    """Log of a probability to the power `count`, where 0 to the 0 is 1."""
    count = jnp.asarray(count)
    return jnp.where(count == 0, 0, count * jnp.where(count == 0, 0, log))


def group_normalised_moments(statistics: ScoreStatistics, batch_size: int) -> Moments:
    """Moments of the group-normalised estimator (GRPO): weights (r_i - mean)/population std.

    No epsilon, and 0 when the group is dead (all rewards equal). The sample std multiplies the
    estimator by sqrt((B - 1)/B).

    Args:
      statistics: of a reward that is 0 or 1 per unit ("exact", "token"); others give NaN.
      batch_size: B >= 1, static.

    Source: THEORY.md, section 3, split by the law of total variance over the number k of
    successes: Var sqrt(k (B - k)) |s+ - s-|^2 + E[B - k; live] v+ + E[k; live] v-, over B^2.
    """
    size = check_group_size(batch_size)
    p, fail, square = _success_moments(statistics)
    roots = np.sqrt(np.arange(size + 1) * (size - np.arange(size + 1)))
    weight = _normalised_weight(size, p, fail)  # E sqrt(k (B - k)) / (B p (1 - p))
    roots = jnp.asarray(roots, p.dtype)[:, None]
    expected = weight * size * statistics.reward_variance
    law = _binomial(size, p, fail)
    between = jnp.sum(law * (roots - expected) ** 2, axis=0) * divide(divide(square, fail), fail)
    failures = -size * fail * jnp.expm1(_times(size - 1, log_of(fail, p)))
    successes = -size * p * jnp.expm1(_times(size - 1, log_of(p, fail)))
    within = failures * statistics.success_spread + successes * statistics.failure_spread
    mean = _spread_units(weight, statistics.mean) * statistics.mean
    norm = weight**2 * statistics.squared_mean
    return make_moments(mean, (between + within) / size**2, norm, size)


def maxrl_moments(statistics: ScoreStatistics, batch_size: int) -> Moments:
    """Moments of MaxRL, the plain mean of the scores of the k successes, 0 when k = 0.

    Args:
      statistics: of a reward that is 0 or 1 per unit ("exact", "token"); others give NaN.
      batch_size: B >= 1, static.

    Source: THEORY.md, section 3: P0 (1 - P0) |s+|^2 + E[1/k; k > 0] v+ with P0 = (1 - p)^B.
    """
    size = check_group_size(batch_size)
    p, fail, square = _success_moments(statistics)
    log_none = _times(size, log_of(fail, p))
    inverse = jnp.asarray(1 / np.maximum(np.arange(size + 1), 1), p.dtype).at[0].set(0)
    inverse_count = jnp.sum(_binomial(size, p, fail) * inverse[:, None], axis=0)
    between = -jnp.expm1(log_none) * jnp.exp(log_none) * square
    weight = jnp.where(p == 0, size, divide(-jnp.expm1(log_none), p))
    mean = _spread_units(weight, statistics.mean) * statistics.mean
    trace = between + inverse_count * statistics.success_spread
    return make_moments(mean, trace, weight**2 * statistics.squared_mean, size)


def _spread_units(weight: Array, mean: Array) -> Array:
    """A weight per unit [U] as a factor of the mean gradient [L, V]."""
    return weight[:, None] * jnp.ones_like(mean[:, :1])


def affine_family(advantage: str, size: int) -> tuple[float, float]:
    """(scale, centre) of "none", "leave_one_out" and "group_mean" for `affine_moments`."""
    if advantage == "leave_one_out":
        return size / (size - 1), 1.0
    return 1.0, 0.0 if advantage == "none" else 1.0


def _normalised_weight(size: int, p: Array, fail: Array) -> Array:
    """E sqrt(k (B - k)) / (B p (1 - p)), k ~ Bin(B, p), without its 0/0 at both ends.

    Absorbing 1/(p (1 - p)) leaves (B - 1) E 1/sqrt((j + 1)(B - 1 - j)), j ~ Bin(B - 2, p).
    """
    if size < 2:
        return jnp.zeros_like(p)
    j = np.arange(size - 1)
    inverse = jnp.asarray((size - 1) / np.sqrt((j + 1) * (size - 1 - j)), p.dtype)
    shape = (-1,) + (1,) * p.ndim
    return jnp.sum(inverse.reshape(shape) * _binomial(size - 2, p, fail), axis=0)


def group_weight(pass_rate: float | Array, group_size: int, advantage: str) -> Array:
    """The c in E[update] = c grad p, for rewards that are 0 or 1.

    Args:
      pass_rate: [...] p in [0, 1], any shape; limits at both ends.
      group_size: B >= 1, static; at least 2 for "leave_one_out".
      advantage: "none" and "leave_one_out" 1; "group_mean" (B - 1)/B; "group_normalised"
        E sqrt(k (B - k))/(B p (1 - p)); "maxrl" (plain mean over successes) (1 - (1 - p)^B)/p.

    Raises:
      ValueError: for another advantage or too small a group.

    Source: THEORY.md, section 3, "Batch estimators".
    """
    check_advantage(advantage)
    size = check_group_size(group_size, 2 if advantage == "leave_one_out" else 1)
    p = as_float(pass_rate)
    if advantage == "group_normalised":
        return _normalised_weight(size, p, 1 - p)
    if advantage == "maxrl":
        return jnp.where(p == 0, size, divide(-jnp.expm1(size * jnp.log1p(-p)), p))
    scale, centre = affine_family(advantage, size)
    return jnp.full_like(p, scale * (1 - centre / size))


def dead_group_probability(
    pass_rate: float | Array, group_size: int, advantage: str = "leave_one_out"
) -> Array:
    """Probability [...] that a group of B rewards, each 0 or 1, gives a zero update.

    p^B + (1 - p)^B; with "none" and "maxrl" (plain mean over successes) only groups without a
    success are dead, (1 - p)^B.

    Args:
      pass_rate: [...] p in [0, 1].
      group_size: B >= 1.
      advantage: one of ADVANTAGES.

    Raises:
      ValueError: for another advantage or group_size < 1.

    Source: THEORY.md, section 3, "Dead".
    """
    check_advantage(advantage)
    size, p = check_group_size(group_size), as_float(pass_rate)
    none = jnp.exp(size * jnp.log1p(-p))
    return none if advantage in ("none", "maxrl") else p**size + none
