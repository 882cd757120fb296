"""Score statistics: what exact gradient moments need to know of a policy and a reward.

A *credited unit* is a set of positions that share one scalar reward r: the whole answer for
`exact`, `fraction`, `prefix` and bandits (U = 1), each position for `token` and `reward_to_go`
(U = L). With s the unit's score and J = E r, every batch estimator whose weights are affine in the
rewards has closed moments in the fields of `ScoreStatistics`. Rewards x advantages is thereby
rewards + advantages.

Every variance is a sum of non-negative terms (within successes, within failures, between them),
never E|g|^2 - |E g|^2, and 1 - p is the sum of the other probabilities: float32 is right where
p = 1e-12 and where 1 - p = 1e-12. The factored forms are those of THEORY.md, section 3.
"""

import jax
import jax.numpy as jnp

from simrl.measures.simplex import (
    as_float,
    complement,
    deviations,
    divide,
    gini,
    log_of,
    sum_of_others,
)
from simrl.measures.units import Hits, ScoreStatistics, binary_statistics, hit_law, hits_at, hits_of
from simrl.types import Array

SEQUENCE_REWARDS = ("exact", "fraction", "prefix", "token", "reward_to_go")


def _sums_before(values: Array) -> Array:
    return jnp.concatenate([jnp.zeros_like(values[:1]), jnp.cumsum(values)[:-1]])


def _sums_after(values: Array) -> Array:
    return _sums_before(values[::-1])[::-1]


def _exact(probs: Array, law: Array, hits: Hits) -> ScoreStatistics:
    log_rate = log_of(hits.rate, hits.miss)
    others_fail = -jnp.expm1(_sums_before(log_rate) + _sums_after(log_rate))
    fail = -jnp.expm1(jnp.sum(log_rate))
    # P(y_t = a and the answer fails): t itself misses, or it hits and another position misses.
    failed = probs * (complement(law) + law * others_fail[:, None])
    whole = Hits(
        rate=jnp.prod(hits.rate)[None],
        miss=fail[None],
        direction=hits.direction.reshape(1, -1),
        square=jnp.sum(hits.square)[None],
        hit_spread=jnp.sum(hits.hit_spread)[None],
        miss_spread=jnp.sum(gini(divide(failed, fail)))[None],
        score=jnp.sum(hits.score)[None],
    )
    stats = binary_statistics(whole)
    return stats._replace(mean=stats.mean.reshape(probs.shape))


def with_later(stats: ScoreStatistics, mean: Array, variance: Array) -> ScoreStatistics:
    """Add to each position's hit an independent reward of that mean and variance, both [L]."""
    nothing = jnp.full_like(stats.score, jnp.nan)
    return stats._replace(
        variance=stats.variance + 2 * mean * stats.cross + (mean**2 + variance) * stats.score,
        variance_centred=stats.variance_centred + variance * stats.score,
        cross=stats.cross + mean * stats.score,
        reward_mean=stats.reward_mean + mean,
        reward_variance=stats.reward_variance + variance,
        success_spread=nothing,
        failure_spread=nothing,
    )


def _whole(
    positions: ScoreStatistics, reward_mean: Array, reward_variance: Array
) -> ScoreStatistics:
    """One unit out of positions that share a reward: norms and variances add up."""
    nothing = jnp.full((1,), jnp.nan, positions.score.dtype)
    added = {
        name: jnp.sum(getattr(positions, name))[None]
        for name in ("squared_mean", "variance", "variance_centred", "cross", "score")
    }
    return positions._replace(
        reward_mean=reward_mean[None],
        reward_variance=reward_variance[None],
        success_spread=nothing,
        failure_spread=nothing,
        **added,
    )


def _fraction(token: ScoreStatistics) -> ScoreStatistics:
    def elsewhere(values: Array) -> Array:
        return _sums_before(values) + _sums_after(values)

    hits, variances, length = token.reward_mean, token.reward_variance, len(token.score)
    summed = with_later(token, elsewhere(hits), elsewhere(variances))
    scaled = summed._replace(
        mean=summed.mean / length,
        squared_mean=summed.squared_mean / length**2,
        variance=summed.variance / length**2,
        variance_centred=summed.variance_centred / length**2,
        cross=summed.cross / length,
    )
    return _whole(scaled, jnp.sum(hits) / length, jnp.sum(variances) / length**2)


def _run_after(hits: Hits) -> tuple[Array, Array]:
    """1 + E n and Var n of the run of hits right after each position, [L] each."""

    def back(carry: tuple[Array, Array], here: tuple[Array, Array]):
        one_more, variance = carry
        rate, miss = here
        earlier = 1 + rate * one_more, rate * variance + rate * miss * one_more**2
        return earlier, carry

    start = jnp.ones_like(hits.rate[0]), jnp.zeros_like(hits.rate[0])
    _, (one_more, variance) = jax.lax.scan(back, start, (hits.rate, hits.miss), reverse=True)
    return one_more, variance


def _prefix(hits: Hits, token: ScoreStatistics) -> ScoreStatistics:
    """Matched prefix length n over L; units of n inside, divided by L at the end."""
    rate, miss, score, square = hits.rate, hits.miss, hits.score, hits.square
    length = len(rate)
    log_rate = log_of(rate, miss)
    reach = jnp.concatenate([jnp.ones_like(rate[:1]), jnp.cumprod(rate)])  # P(n >= i), i = 0..L
    short = jnp.concatenate([jnp.zeros_like(rate[:1]), -jnp.expm1(jnp.cumsum(log_rate))])
    stop = jnp.concatenate([reach[:-1] * miss, reach[-1:]])  # P(n = i), i = 0..L
    steps = jnp.arange(length + 1, dtype=rate.dtype)
    # i - E n, as what is sure to be lacking at i minus what may come after it.
    lacking = jnp.cumsum(short)
    excess = lacking - _sums_after(reach)
    more, run_variance = _run_after(hits)
    here, out, before, t = reach[:-1], short[:-1], stop[:-1], steps[:-1]
    moment = _sums_before(before * t**2) + here * t**2  # E min(n, t)^2
    variance = moment * score + here * (
        (2 * t * more + run_variance) * token.cross
        + more**2 * (token.variance + out * token.squared_mean)
    )
    # Centred weights: `hit` and `missed` by what happens at t, once the prefix has reached it.
    missed, hit = excess[:-1], lacking[:-1] + short[1:] * more
    between = rate * divide((miss * hit + rate * missed) ** 2, miss) + out * (more * rate) ** 2
    inside = rate * hit**2 * hits.hit_spread + miss * missed**2 * hits.miss_spread
    centred = _sums_before(before * missed**2) * score + here * (
        inside + run_variance * token.cross + between * square
    )
    reached = _sums_before(before * t) + here * t
    positions = token._replace(
        mean=(here * more / length)[:, None] * token.mean,
        squared_mean=(here * more / length) ** 2 * token.squared_mean,
        variance=variance / length**2,
        variance_centred=centred / length**2,
        cross=(reached * score + here * more * token.cross) / length,
    )
    return _whole(positions, jnp.sum(reach[1:]) / length, jnp.sum(stop * excess**2) / length**2)


def sequence_statistics(probs: Array, target: Array, reward: str) -> ScoreStatistics:
    """Score statistics of one guess under a factorised policy over sequences.

    Args:
      probs: [L, V] probabilities of each symbol at each position.
      target: int [L], the right answer; or float [L, V], the law of a fresh label with which the
        verifier compares each guess, position by position (a noisy verifier).
      reward: "exact" all positions right; "fraction" share of right positions; "prefix" length of
        the matched prefix over L; "token" 1 or 0 to each position; "reward_to_go" sum of a
        position's token reward and all later ones.

    Returns:
      ScoreStatistics with U = L units for "token" and "reward_to_go", else U = 1.

    Raises:
      ValueError: for another reward, or a target that fits neither form.

    Source: THEORY.md, section 3, "Sequences", with each variance regrouped into positive terms.
    """
    if reward not in SEQUENCE_REWARDS:
        raise ValueError(f"reward must be one of {', '.join(SEQUENCE_REWARDS)}, got {reward!r}")
    probs = as_float(probs)
    law = hit_law(probs, target)
    fixed = jnp.asarray(target).ndim == probs.ndim - 1
    hits = hits_at(probs, jnp.asarray(target)) if fixed else hits_of(probs, law)
    if len(probs) == 1:  # one position: the five rewards are one
        return binary_statistics(hits)
    if reward == "exact":
        return _exact(probs, law, hits)
    token = binary_statistics(hits)
    if reward == "fraction":
        return _fraction(token)
    if reward == "prefix":
        return _prefix(hits, token)
    if reward == "reward_to_go":
        later = _sums_after(token.reward_mean), _sums_after(token.reward_variance)
        return with_later(token, *later)
    return token


def verdict_statistics(probs: Array, chances: Array) -> ScoreStatistics:
    """Score statistics of one pull whose reward is 1 with probability `chances` [K], else 0.

    As `bandit_statistics` for Bernoulli arms, with the success and failure spreads too.
    """
    probs = as_float(probs)
    chances = jnp.asarray(chances, probs.dtype)
    return binary_statistics(hits_of(probs[None], chances[None], 1 - chances[None]))


def _reward_weighted(probs: Array, rewards: Array, rest: Array, spread: Array) -> Array:
    """Trace of Cov(r_a s_a) coordinate by coordinate; rest = sum of pi r over the other arms."""
    miss = complement(probs)
    jump = rewards * miss + probs * divide(rest, miss)
    return jnp.sum(probs * miss * jump**2 + probs**2 * spread)


def bandit_statistics(
    probs: Array, rewards: Array, reward_variance: Array | float = 0.0
) -> ScoreStatistics:
    """Score statistics of one pull of a K-armed bandit under a softmax policy.

    Args:
      probs: [K] probabilities of the arms.
      rewards: [K] mean reward of each arm.
      reward_variance: [K] or scalar, variance of an arm's reward (Bernoulli: r(1 - r)).

    Returns:
      ScoreStatistics of one unit; `mean` is [1, K] (L = 1). The success and failure spreads are
      NaN: use `sequence_statistics` with a law of shape [1, K] for rewards that are 0 or 1.

    Source: THEORY.md, section 3, "One K-way choice", by the law of total variance over "arm c or
    another" for each coordinate c.
    """
    probs = as_float(probs)
    rewards = jnp.broadcast_to(jnp.asarray(rewards, probs.dtype), probs.shape)
    noise = jnp.broadcast_to(jnp.asarray(reward_variance, probs.dtype), probs.shape)
    delta, miss = deviations(probs, rewards), complement(probs)
    norms = miss**2 + sum_of_others(probs**2, probs)
    variance = jnp.sum(probs * delta**2)
    # Sum of pi_a (r_a - mean)^2 over the arms other than c, about their own mean.
    top = jnp.arange(len(probs)) == jnp.argmax(probs)
    rest = sum_of_others(probs * rewards, probs)
    centre = jnp.sum(jnp.where(top, divide(rest, miss), 0))
    about = jnp.where(top, 0, rewards - centre)
    others = jnp.maximum(variance - divide(probs * delta**2, miss), 0)
    spread = jnp.where(top, jnp.sum(probs * about**2), others)
    noisy = jnp.sum(probs * noise * norms)
    fields = {
        "squared_mean": jnp.sum((probs * delta) ** 2),
        "variance": _reward_weighted(probs, rewards, rest, spread) + noisy,
        "variance_centred": _reward_weighted(probs, delta, -probs * delta, spread) + noisy,
        "cross": jnp.sum(probs * rewards * norms),
        "score": gini(probs),
        "reward_mean": jnp.sum(probs * rewards),
        "reward_variance": variance + jnp.sum(probs * noise),
        "success_spread": jnp.asarray(jnp.nan, probs.dtype),
        "failure_spread": jnp.asarray(jnp.nan, probs.dtype),
    }
    return ScoreStatistics(
        mean=(probs * delta)[None], **{name: value[None] for name, value in fields.items()}
    )
