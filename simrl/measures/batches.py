"""Batch estimators: from score statistics of one sample to exact moments of a whole batch.

Rewards and advantages meet in two affine families, s (r_i - c mean(r)) and r_i - b, whose s, c
and b may be traced: one program serves REINFORCE, own group mean and leave-one-out. Weights that
depend on the number of successes are in groups.py. Formulas: THEORY.md, section 3, "Batch
estimators"; every one is tested against enumeration.
"""

import operator
from typing import NamedTuple

import jax.numpy as jnp

from simrl.measures.simplex import divide
from simrl.measures.units import ScoreStatistics, success_moments
from simrl.types import Array

AFFINE_ADVANTAGES = (
    "none",
    "leave_one_out",
    "group_mean",
    "batch_mean",  # the same thing: the group is the batch of answers to one prompt
)
# These need no count of successes: E ghat is the same multiple of the gradient at every p.
CONSTANT_GAIN = (*AFFINE_ADVANTAGES, "minimum_variance")
ADVANTAGES = (
    *CONSTANT_GAIN,
    "group_normalised",
    "group_normalised_sample",
    "maxrl",
    "maxrl_centred",
    "pass_at_k",
    "pass_at_k_leave_one_out",
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


def are_binary(reward: str, length: int) -> bool:
    """Whether the reward of a credited unit is 0 or 1; at length 1 all five rewards are."""
    return reward in ("exact", "token") or length == 1


def check_pair(advantage: str, reward: str, length: int) -> None:
    """ValueError unless the advantage has exact moments with the reward."""
    check_advantage(advantage)
    if advantage not in CONSTANT_GAIN and not are_binary(reward, length):
        raise ValueError(
            f"advantage {advantage!r} has exact moments for rewards 'exact' and 'token' only, "
            f"got {reward!r}; use redraw_moments"
        )


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


def minimum_variance_moments(statistics: ScoreStatistics, batch_size: int | Array) -> Moments:
    """`constant_moments` at the baseline b* = E r|s|^2 / E|s|^2 of each unit, the least noisy one.

    For rewards that are 0 or 1 its trace is a sum of positive terms, over B:
    p (1 - b*)^2 v+ + (1 - p) b*^2 v- + p |s+|^2 (1 - p - b*)^2/(1 - p), where
    1 - p - b* = ((1 - p)^2 v- - p^2 v+)/E|s|^2. Source: law of total variance over the reward.
    """
    s = statistics
    p, fail, square = success_moments(s)
    baseline = divide(s.cross, s.score)
    rest = divide(fail * s.failure_spread + divide(p**2 * square, fail), s.score)  # 1 - b*
    tilt = divide(fail**2 * s.failure_spread - p**2 * s.success_spread, s.score)
    within = p * rest**2 * s.success_spread + fail * baseline**2 * s.failure_spread
    binary = within + p * divide(square, fail) * tilt**2
    variance = jnp.where(jnp.isnan(binary), _variance_at(s, baseline), binary)
    return make_moments(s.mean, variance / batch_size, s.squared_mean, batch_size)


def affine_family(advantage: str, size: int) -> tuple[float, float]:
    """(scale, centre) of "none", "leave_one_out" and "group_mean" for `affine_moments`."""
    if advantage == "leave_one_out":
        return size / (size - 1), 1.0
    return 1.0, 0.0 if advantage == "none" else 1.0
