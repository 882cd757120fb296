"""Estimators whose weights depend on a 0/1 reward and on the number of successes in the group.

(1/B) sum_i w_i s_i over B independent guesses at one prompt, where w_i is success[k] or
failure[k] when k of the B guesses succeed. Two tables of B + 1 numbers name an estimator; the law
of total variance over k ~ Bin(B, p) gives its moments as sums of positive terms, so that float32
is right at both ends of p. Formulas: THEORY.md, section 3; tested against enumeration.
"""

import math
import operator

import jax.numpy as jnp
import numpy as np

from simrl.measures.batches import (
    AFFINE_ADVANTAGES,
    Moments,
    affine_family,
    affine_moments,
    check_advantage,
    check_group_size,
    make_moments,
    minimum_variance_moments,
)
from simrl.measures.simplex import as_float, divide, log_binomial, log_of, log_power
from simrl.measures.units import ScoreStatistics, success_moments
from simrl.types import Array

Table = np.ndarray | Array


def _column(table: Table, like: Array) -> Array:
    """A table [N] as [N, 1, ...], to be multiplied with laws [N, ...] of `like`."""
    return jnp.asarray(table, like.dtype).reshape((-1,) + (1,) * jnp.ndim(like))


def _binomial_at(counts: np.ndarray, size: int, p: Array, fail: Array) -> Array:
    """Bin(k; size, p) at each of the counts [N]: [N, ...]."""
    return jnp.exp(log_binomial(counts, size, log_of(p, fail), log_of(fail, p)))


def _binomial(size: int, p: Array, fail: Array) -> Array:
    """Bin(k; size, p) for k = 0..size, [size + 1, ...]."""
    weights = _binomial_at(np.arange(size + 1), size, p, fail)
    return weights / jnp.sum(weights, axis=0)  # rounding of the logs is common to all k


def _check(advantage: str, size: int) -> int:
    """The size as an int, of a named estimator that allows it; else ValueError."""
    check_advantage(advantage)
    return check_group_size(size, 2 if advantage.endswith("leave_one_out") else 1)


def check_k(k: int | None, most: int | None, name: str) -> int:
    """The k of pass@k as an int; ValueError unless 1 <= k <= most."""
    number = 0 if k is None else operator.index(k)
    if number < 1 or (most is not None and number > most):
        limits = "at least 1" if most is None else f"from 1 to {most}"
        raise ValueError(f"{name!r} needs k {limits}, got {k}")
    return number


def _subsets(remaining: np.ndarray, size: int, k: int) -> np.ndarray:
    """C(n, k) / C(size, k) for each n: the k-subsets of the group that avoid the rest of it."""
    whole = math.comb(size, k)
    return np.array([math.comb(int(n), k) / whole for n in remaining])  # ratios of integers


def _tables(advantage: str, size: int, k: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """success [B + 1] and failure [B + 1] by number of successes, and their gain [B]."""
    one, count = np.ones(size + 1), np.arange(size + 1)
    some, missed = np.maximum(count, 1), size - count
    if advantage in AFFINE_ADVANTAGES:
        scale, centre = affine_family(advantage, size)
        gain = 1.0 if advantage == "leave_one_out" else 1 - centre / size
        share = centre * count / size
        return scale * (1 - share), -scale * share, gain * one[1:]
    if advantage == "maxrl":
        return size / some, 0 * one, size / some[1:]
    if advantage == "maxrl_centred":
        success, failure = missed / some, -1.0 * (count > 0)
    elif advantage == "pass_at_k":
        k = check_k(k, size, advantage)
        spared = _subsets(missed[1:], size - 1, k - 1)
        return k * one, k * np.append(1 - spared, 0), k * spared
    elif advantage == "pass_at_k_leave_one_out":
        k = check_k(k, size - 1, advantage)
        success = size * k / (size - k) * _subsets(missed, size, k)
        failure = -success * count / np.maximum(missed, 1)
    else:
        norm = math.sqrt((size - 1) / size) if advantage == "group_normalised_sample" else 1.0
        success = norm * np.sqrt(missed / some)
        failure = -norm * np.sqrt(count / np.maximum(missed, 1))
    return success, failure, success[1:] - failure[:-1]  # a sum of positive terms


def group_weights(advantage: str, size: int, k: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a success and of a failure by the number c of successes in the group.

    Args:
      advantage: any of ADVANTAGES but "minimum_variance". With rbar = c/B: "none" r;
        "leave_one_out" r less the mean of the others; "group_mean" (= "batch_mean") r - rbar;
        "group_normalised" (r - rbar)/population std and "group_normalised_sample" with the sample
        std, both without epsilon and 0 when dead; "maxrl" r/rbar; "maxrl_centred" r/rbar - 1, both
        0 when c = 0; "pass_at_k" k for a success and k rho(B-1, c, k-1) for a failure;
        "pass_at_k_leave_one_out" B [rho(B, c, k) - rho(B-1, c - r, k)], where
        rho(n, c, k) = 1 - C(n-c, k)/C(n, k) estimates pass@k from n guesses, c of them right.
      size: B >= 1, at least 2 for the two that leave one out.
      k: of the two pass@k estimators, 1 <= k <= B (B - 1 when one is left out); else ignored.

    Returns:
      success [B + 1], failure [B + 1], float64 on the host. success[0] and failure[B], which no
      guess ever has, are 0.

    Raises:
      ValueError: for another name, too small a group or a k out of range.

    Source: THEORY.md, section 3; pass@k: Walder and Karkhanis 2025 (PKPO).
    """
    size = _check(advantage, size)
    if advantage == "minimum_variance":
        raise ValueError("'minimum_variance' has a constant baseline, which no group tells")
    success, failure, _ = _tables(advantage, size, k)
    return np.append(0.0, success[1:]), np.append(failure[:-1], 0.0)


def _moments(
    statistics: ScoreStatistics, size: int, success: Table, failure: Table, gain: Table
) -> Moments:
    p, fail, square = success_moments(statistics)
    count = np.arange(size + 1)
    law, others = _binomial(size, p, fail), _binomial(size - 1, p, fail)
    mode = jnp.argmax(law, axis=0)

    def from_mode(totals: Array) -> Array:
        """Totals [B + 1] by count, taken from the likeliest one: [B + 1, U]; rounding is 0."""
        apart, least = totals[:, None] - totals[mode], 4 * jnp.finfo(p.dtype).eps
        return jnp.where(jnp.abs(apart) <= least * jnp.abs(totals[mode]), 0, apart)

    successes = jnp.pad(jnp.asarray(count[1:] * success[1:], p.dtype), (1, 0))
    failures = jnp.pad(jnp.asarray((size - count[:-1]) * failure[:-1], p.dtype), (0, 1))
    jump = from_mode(successes) * fail - from_mode(failures) * p
    jump = jump - jnp.sum(law * jump, axis=0)
    between = jnp.sum(law * jump**2, axis=0) * divide(divide(square, fail), fail)
    # k Bin(k; B, p) = B p Bin(k - 1; B - 1, p), and the like for the failures.
    of_successes = p * jnp.sum(others * _column(success[1:] ** 2, p), axis=0)
    of_failures = fail * jnp.sum(others * _column(failure[:-1] ** 2, p), axis=0)
    within = of_successes * statistics.success_spread + of_failures * statistics.failure_spread
    weight = jnp.sum(others * _column(gain, p), axis=0)
    mean = weight[:, None] * jnp.ones_like(statistics.mean[:, :1]) * statistics.mean
    trace = between / size**2 + within / size
    return make_moments(mean, trace, weight**2 * statistics.squared_mean, size)


def count_weighted_moments(
    statistics: ScoreStatistics, size: int, success: Table, failure: Table
) -> Moments:
    """Moments of (1/B) sum_i w_i s_i, w_i = success[k] or failure[k] when k of the B succeed.

    Args:
      statistics: of a reward that is 0 or 1 per unit ("exact", "token"); others give NaN.
      size: B >= 1, static.
      success: [B + 1] weight of a success by k; success[0] is never read. May be traced.
      failure: [B + 1] weight of a failure by k; failure[B] is never read. May be traced.

    Raises:
      ValueError: for tables of another shape, or size < 1.

    Source: law of total variance over k ~ Bin(B, p). With j ~ Bin(B - 1, p) and
    U(k) = k success[k] (1 - p) - (B - k) failure[k] p: mean E(success[j+1] - failure[j]) grad p,
    trace Var U |s+|^2/(B (1 - p))^2 + [p E success[j+1]^2 v+ + (1 - p) E failure[j]^2 v-]/B.
    """
    size = check_group_size(size)
    for table in (success, failure):
        if jnp.shape(table) != (size + 1,):
            raise ValueError(f"a table must have shape {(size + 1,)}, got {jnp.shape(table)}")
    return _moments(statistics, size, success, failure, success[1:] - failure[:-1])


def group_moments(
    statistics: ScoreStatistics, size: int, advantage: str, k: int | None = None
) -> Moments:
    """Moments of a named estimator over B independent samples of one prompt.

    Args:
      statistics: of one sample; of a reward that is 0 or 1 per unit unless the advantage is
        "none", "leave_one_out", "group_mean" (= "batch_mean") or "minimum_variance".
      size: B >= 1, static; at least 2 for the two that leave one out.
      advantage: one of ADVANTAGES, see `group_weights`.
      k: of the pass@k estimators.

    Raises:
      ValueError: for another name, too small a group or a k out of range.
    """
    size = _check(advantage, size)
    if advantage in AFFINE_ADVANTAGES:
        return affine_moments(statistics, size, *affine_family(advantage, size))
    if advantage == "minimum_variance":
        return minimum_variance_moments(statistics, size)
    return _moments(statistics, size, *_tables(advantage, size, k))


def group_normalised_moments(statistics: ScoreStatistics, batch_size: int) -> Moments:
    """`group_moments` of (r_i - mean)/population std (GRPO): no epsilon, 0 when dead."""
    return group_moments(statistics, batch_size, "group_normalised")


def maxrl_moments(statistics: ScoreStatistics, batch_size: int) -> Moments:
    """`group_moments` of the plain mean of the scores of the k successes, 0 when k = 0."""
    return group_moments(statistics, batch_size, "maxrl")


def binomial_mean(table: np.ndarray, p: Array, fail: Array) -> Array:
    """E table[j] [...] over j ~ Bin(N - 1, p), for a table [N], p [...] and fail = 1 - p."""
    if np.all(table == table[0]):
        return jnp.full_like(p, table[0])
    return jnp.sum(_binomial(len(table) - 1, p, fail) * _column(table, p), axis=0)


def pass_at_k_weight(p: Array, fail: Array, k: int) -> Array:
    """d/dp of 1 - (1 - p)^k, [...]: k (1 - p)^(k - 1), given fail = 1 - p."""
    return k * jnp.exp(log_power(k - 1, log_of(fail, p)))


def group_gains(advantage: str, size: int, k: int | None = None) -> np.ndarray:
    """What a guess gains by succeeding when j of the others do, success[j + 1] - failure[j], [B].

    Its mean over j ~ Bin(B - 1, p) is `group_weight`; arguments and errors as there.
    """
    size = _check(advantage, size)
    return _tables("none" if advantage == "minimum_variance" else advantage, size, k)[2]


def group_weight(
    pass_rate: float | Array, group_size: int, advantage: str, k: int | None = None
) -> Array:
    """The c in E[update] = c grad p, for rewards that are 0 or 1.

    Args:
      pass_rate: [...] p in [0, 1], any shape; limits at both ends.
      group_size: B >= 1, static; at least 2 for the two that leave one out.
      advantage: "none", "leave_one_out" and "minimum_variance" 1; "group_mean" (B - 1)/B;
        "group_normalised" E sqrt(c (B - c))/(B p (1 - p)), "group_normalised_sample"
        sqrt((B - 1)/B) times that; "maxrl" (1 - (1 - p)^B)/p and "maxrl_centred" the same with
        B - 1; both pass@k k (1 - p)^(k - 1).
      k: of the pass@k estimators.

    Raises:
      ValueError: for another advantage, too small a group or a k out of range.

    Source: THEORY.md, section 3, "Batch estimators"; E gain[j], j ~ Bin(B - 1, p).
    """
    size, p = _check(advantage, group_size), as_float(pass_rate)
    return binomial_mean(group_gains(advantage, size, k), p, 1 - p)


def dead_group_probability(
    pass_rate: float | Array,
    group_size: int,
    advantage: str = "leave_one_out",
    k: int | None = None,
) -> Array:
    """Probability [...] that a group of B rewards, each 0 or 1, gives every guess a weight of 0.

    p^B + (1 - p)^B; for "none", "maxrl" and "pass_at_k" only groups without a success are dead,
    (1 - p)^B; for "pass_at_k_leave_one_out" also those with more than B - k; never for
    "minimum_variance".

    Args:
      pass_rate: [...] p in [0, 1].
      group_size: B >= 1.
      advantage: one of ADVANTAGES.
      k: of the pass@k estimators.

    Raises:
      ValueError: for another advantage, group_size < 1 or a k out of range.

    Source: THEORY.md, section 3, "Dead".
    """
    # Alone in its group a guess has no others; it is as dead as with its own mean.
    alike = "group_mean" if advantage == "leave_one_out" else advantage
    size, p = _check(alike, group_size), as_float(pass_rate)
    if advantage == "minimum_variance":
        return jnp.zeros_like(p)
    success, failure = group_weights(alike, size, k)
    (dead,) = np.nonzero((success == 0) & (failure == 0))
    return jnp.sum(_binomial_at(dead, size, p, 1 - p), axis=0)
