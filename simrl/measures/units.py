"""Credited units: the statistics of their rewards and scores, and units whose reward is 0 or 1."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simrl.measures.simplex import complement, deviations, divide, gini
from simrl.types import Array


class ScoreStatistics(NamedTuple):
    """Moments of one sample's reward r and score s, per credited unit (U units)."""

    mean: Array  # [L, V] reward/logit: gradient of the expected reward (ascent), G
    squared_mean: Array  # [U] |G|^2
    variance: Array  # [U] E r^2 |s|^2 - |G|^2: trace of covariance with baseline 0
    variance_centred: Array  # [U] E (r - J)^2 |s|^2 - |G|^2: the same with baseline J
    cross: Array  # [U] E r |s|^2
    score: Array  # [U] E |s|^2
    reward_mean: Array  # [U] J
    reward_variance: Array  # [U] Var r
    success_spread: Array  # [U] tr Cov(s | r = 1); NaN unless r is 0 or 1
    failure_spread: Array  # [U] tr Cov(s | r = 0); NaN unless r is 0 or 1
    natural_baseline: Array | float = math.nan  # [U] `gradients.natural_baseline`, where it is set


class Hits(NamedTuple):
    """Each position as a bandit of its own, whose reward is a hit (0 or 1)."""

    rate: Array  # [L] m, probability of a hit
    miss: Array  # [L] 1 - m
    direction: Array  # [L, V] E[s_t | hit], so that E[hit s_t] = m * direction
    square: Array  # [L] |direction|^2
    hit_spread: Array  # [L] tr Cov(s_t | hit)
    miss_spread: Array  # [L] tr Cov(s_t | miss)
    score: Array  # [L] E |s_t|^2


def hit_law(probs: Array, target: Array) -> Array:
    """Probability [L, V] that symbol a at position t is called right, from a target or its law."""
    target = jnp.asarray(target)
    if target.shape == probs.shape:
        return target.astype(probs.dtype)
    if target.shape == probs.shape[:-1] and jnp.issubdtype(target.dtype, jnp.integer):
        return jax.nn.one_hot(target, probs.shape[-1], dtype=probs.dtype)
    raise ValueError(
        f"target must be integers of shape {probs.shape[:-1]} or a law of shape {probs.shape}, "
        f"got {target.dtype} of shape {target.shape}"
    )


def hits_of(probs: Array, law: Array, not_law: Array | None = None) -> Hits:
    """Each position [L, V] as a bandit of its own, hit with probability law[t, a].

    `not_law` is 1 - law where the rows of `law` are not on the simplex (a chance for each arm).
    """
    rate = jnp.sum(probs * law, axis=-1)
    missed = probs * (complement(law) if not_law is None else not_law)
    miss = jnp.sum(missed, axis=-1)
    given_hit = divide(probs * law, rate[:, None])
    direction = divide(probs, rate[:, None]) * deviations(probs, law)
    return Hits(
        rate=rate,
        miss=miss,
        direction=direction,
        square=jnp.sum(direction**2, axis=-1),
        hit_spread=gini(given_hit),
        miss_spread=gini(divide(missed, miss[:, None])),
        score=gini(probs),
    )


def hits_at(probs: Array, target: Array) -> Hits:
    """`hits_of` for right answers [L] rather than laws, for a fifth of the work.

    Of the wrong symbols o the likeliest, o_1, is kept apart: with R and S the sums of the others
    and of their squares, sum o (sum o - o) = R (o_1 + sum o) - S, of which no digit is lost since
    S <= o_1 R.
    """
    right = jnp.arange(probs.shape[-1]) == target[:, None]
    others = jnp.where(right, 0, probs)
    rate = jnp.sum(jnp.where(right, probs, 0), axis=-1)
    top = jnp.max(others, axis=-1)
    less = jnp.where(others < top[:, None], others, 0)
    equal = jnp.sum((others == top[:, None]).astype(probs.dtype), axis=-1) - 1
    rest = jnp.sum(less, axis=-1) + equal * top
    squares = jnp.sum(less**2, axis=-1) + equal * top**2
    miss = top + rest
    return Hits(
        rate=rate,
        miss=miss,
        direction=jnp.where(right, miss[:, None], -probs),
        square=miss**2 + top**2 + squares,
        hit_spread=jnp.zeros_like(miss),
        miss_spread=divide(divide(rest * (top + miss) - squares, miss), miss),
        score=rate * miss + top * (rate + rest) + rest - squares,
    )


def binary_statistics(hits: Hits) -> ScoreStatistics:
    """Statistics of units whose reward is 0 or 1: a hit at each position, or of a whole answer."""
    p, f, square = hits.rate, hits.miss, hits.square
    within = p * f * (f * hits.hit_spread + p * hits.miss_spread)
    between = p * divide((f - p) ** 2 * square, f)
    return ScoreStatistics(
        mean=p[:, None] * hits.direction,
        squared_mean=p**2 * square,
        variance=p * hits.hit_spread + p * f * square,
        variance_centred=within + between,
        cross=p * (hits.hit_spread + square),
        score=hits.score,
        reward_mean=p,
        reward_variance=p * f,
        success_spread=hits.hit_spread,
        failure_spread=hits.miss_spread,
    )


def success_moments(statistics: ScoreStatistics) -> tuple[Array, Array, Array]:
    """p, 1 - p and |E[s | success]|^2 of units whose reward is 0 or 1, [U] each."""
    p = statistics.reward_mean
    # Var r = p (1 - p) remembers 1 - p where p itself rounds to 1.
    fail = jnp.where(p == 0, 1, divide(statistics.reward_variance, p))
    return p, fail, divide(divide(statistics.squared_mean, p), p)


def verified_statistics(
    statistics: ScoreStatistics, false_positive: float | Array, false_negative: float | Array
) -> ScoreStatistics:
    """Statistics of the verdicts of a verifier that errs on a reward of 0 or 1.

    Args:
      statistics: of the true reward, 0 or 1 per unit ("exact", "token"); others give NaN.
      false_positive: [] alpha, chance that a failure is called right; may be traced.
      false_negative: [] beta, chance that a success is called wrong; may be traced.

    Returns:
      ScoreStatistics with the verdict, independent from unit to unit, in place of the reward:
      rate p (1 - beta) + (1 - p) alpha, mean (1 - alpha - beta) grad p, and the spreads of a
      mixture of true and false verdicts.

    Source: law of total variance over the true reward, |s+ - s-| = |s+|/(1 - p).
    """
    dtype = statistics.mean.dtype
    alpha, beta = (jnp.asarray(x, dtype) for x in (false_positive, false_negative))
    p, fail, square = success_moments(statistics)
    apart = divide(divide(square, fail), fail)  # |s+ - s-|^2

    def mixed(right: Array, wrong: Array) -> tuple[Array, Array]:
        """Probability of a verdict given to these successes and failures, and its spread."""
        total = right + wrong
        share, rest = divide(right, total), divide(wrong, total)
        within = share * statistics.success_spread + rest * statistics.failure_spread
        return total, within + share * rest * apart

    rate, hit_spread = mixed(p * (1 - beta), fail * alpha)
    miss, miss_spread = mixed(p * beta, fail * (1 - alpha))
    kept = 1 - alpha - beta
    verdicts = Hits(
        rate=rate,
        miss=miss,
        direction=jnp.zeros_like(rate)[:, None],
        square=(kept * divide(p, rate)) ** 2 * square,
        hit_spread=hit_spread,
        miss_spread=miss_spread,
        score=statistics.score,
    )
    return binary_statistics(verdicts)._replace(mean=kept * statistics.mean)
