"""Exact moments of gradient estimators: mean, trace of covariance, SNR, noise scale.

All gradients are with respect to logits, summed over positions, averaged over trajectories, and
point UP the expected reward (supervised: up the expected log-likelihood, in nats). Definitions and
closed forms: THEORY.md, section 3; every one is tested against enumeration. This is the door of
the room: units.py and scores.py hold the statistics of one sample, batches.py the estimators over
a batch, groups.py those that count successes, redraws.py what has no closed form, simplex.py the
arithmetic.
"""

import jax.numpy as jnp
import numpy as np

from simrl.measures.arguments import check_index
from simrl.measures.batches import (
    ADVANTAGES,
    Moments,
    affine_moments,
    are_binary,
    check_pair,
    constant_moments,
    make_moments,
)
from simrl.measures.estimates import (
    CosineMoments,
    NoiseScale,
    Ratio,
    TwoBatchMoments,
    cosine,
    cosine_moments,
    ratio_of_means,
    two_batch_moments,
    two_batch_noise_scale,
)
from simrl.measures.groups import (
    binomial_mean,
    check_k,
    count_weighted_moments,
    dead_group_probability,
    group_gains,
    group_moments,
    group_normalised_moments,
    group_weight,
    group_weights,
    maxrl_moments,
    pass_at_k_weight,
)
from simrl.measures.redraws import LeafMoments, RedrawMoments, redraw_moments
from simrl.measures.scores import SEQUENCE_REWARDS, bandit_statistics, sequence_statistics
from simrl.measures.simplex import as_float, complement, gini, sum_of_others
from simrl.measures.units import (
    ScoreStatistics,
    hits_at,
    hits_of,
    success_moments,
    verified_statistics,
)
from simrl.types import Array

__all__ = [
    "ADVANTAGES",
    "OBJECTIVES",
    "SEQUENCE_REWARDS",
    "CosineMoments",
    "LeafMoments",
    "Moments",
    "NoiseScale",
    "Ratio",
    "RedrawMoments",
    "ScoreStatistics",
    "TwoBatchMoments",
    "affine_moments",
    "bandit_moments",
    "bandit_statistics",
    "batch_bias",
    "batch_moments",
    "constant_moments",
    "cosine",
    "cosine_moments",
    "count_weighted_moments",
    "dead_group_probability",
    "group_moments",
    "group_normalised_moments",
    "group_weight",
    "group_weights",
    "maxrl_moments",
    "minimum_variance_baseline",
    "ratio_of_means",
    "redraw_moments",
    "sequence_minimum_variance_baseline",
    "sequence_moments",
    "sequence_statistics",
    "supervised_moments",
    "two_batch_moments",
    "two_batch_noise_scale",
    "verified_statistics",
]


OBJECTIVES = ("reward", "log_likelihood", "pass_at_k")


def _as_sequence(probs: Array, target: Array) -> tuple[Array, Array]:
    """Read one choice [K] as a sequence of length 1; ValueError for a symbol that is none."""
    probs = as_float(probs)
    if jnp.ndim(target) < probs.ndim:
        check_index("target", target, probs.shape[-1])
    target = jnp.asarray(target)
    return (probs[None], target[None]) if probs.ndim == 1 else (probs, target)


def bandit_moments(
    probs: Array,
    rewards: Array,
    baseline: float | Array = 0.0,
    reward_variance: float | Array = 0.0,
) -> Moments:
    """Moments of the score-function gradient of ONE pull of a K-armed bandit.

    Args:
      probs: [K] softmax policy.
      rewards: [K] mean reward of each arm.
      baseline: scalar, in units of reward.
      reward_variance: [K] or scalar, variance of each arm's reward (Bernoulli: r (1 - r)).

    Returns:
      Moments; mean [K] = probs * (rewards - probs . rewards), whatever the baseline.

    Source: THEORY.md, section 3, "One K-way choice".
    """
    probs = as_float(probs)
    shifted = jnp.asarray(rewards, probs.dtype) - baseline
    statistics = bandit_statistics(probs, shifted, reward_variance)
    moments = make_moments(statistics.mean, statistics.variance, statistics.squared_mean, 1)
    return moments._replace(mean=moments.mean[0])


def supervised_moments(probs: Array, label_probs: Array, batch_size: int | Array = 1) -> Moments:
    """Moments of the cross-entropy gradient, ascent of E log pi(y), for fresh labels y ~ q.

    Args:
      probs: [V] or [L, V] policy.
      label_probs: the same shape, law of the label; one-hot gives a trace of exactly 0.
      batch_size: independent labels (each of L tokens) averaged; one by default.

    Returns:
      Moments, summed over positions: mean q - pi, trace 1 - sum q^2.

    Source: THEORY.md, section 3, "Supervised".
    """
    probs = as_float(probs)
    law = jnp.asarray(label_probs, probs.dtype)
    if law.shape != probs.shape:
        raise ValueError(f"label_probs must have the shape of probs, {probs.shape}: {law.shape}")
    mean = jnp.where(law > 0.5, complement(probs) - complement(law), law - probs)
    return make_moments(mean, gini(law) / batch_size, mean**2, batch_size)


def sequence_moments(
    probs: Array, target: Array, reward: str, baseline: float | Array = 0.0
) -> Moments:
    """Moments of the score-function gradient of ONE guess under a factorised policy.

    Args:
      probs: [L, V] policy, or [K] for one choice.
      target: int [L] (or scalar) right answer, or float law of fresh labels, shaped like probs.
      reward: "exact" | "fraction" | "prefix" | "token" | "reward_to_go".
      baseline: scalar, or [L] for the rewards credited position by position.

    Returns:
      Moments; mean has the shape of probs.

    Raises:
      ValueError: for another reward, or a target that fits neither form or, if its value is known
        (not under `jit` and `vmap`), is no symbol.

    Source: THEORY.md, section 3, "Sequences".
    """
    rows, target = _as_sequence(probs, target)
    moments = constant_moments(sequence_statistics(rows, target, reward), 1, baseline)
    return moments._replace(mean=moments.mean.reshape(jnp.shape(probs)))


def batch_moments(
    probs: Array,
    target: Array,
    batch_size: int,
    advantage: str,
    reward: str = "exact",
    k: int | None = None,
) -> Moments:
    """Moments of a whole batch estimator: B independent guesses at one prompt.

    Args:
      probs: [L, V] policy, or [K] for one choice.
      target: int [L] (or scalar) right answer, or float law of fresh labels, shaped like probs.
      batch_size: B >= 1, static; at least 2 for the two that leave one out.
      advantage: "none" | "leave_one_out" | "group_mean" (= "batch_mean") | "minimum_variance"
        (constant baseline E r|s|^2 / E|s|^2 of each credited unit), for every reward; and for
        "exact", "token" (its own group at each position) or L = 1 those that count successes:
        "group_normalised" | "group_normalised_sample" | "maxrl" | "maxrl_centred" | "pass_at_k" |
        "pass_at_k_leave_one_out", see `group_weights`.
      reward: as in `sequence_moments`.
      k: of the pass@k estimators.

    Returns:
      Moments of the batch: snr of the batch, noise_scale = B / snr in trajectories.

    Raises:
      ValueError: for an unknown name, a pair without closed form, too small a batch or a wrong k,
        or a target as in `sequence_moments`.

    Source: THEORY.md, section 3, "Batch estimators".
    """
    rows, target = _as_sequence(probs, target)
    check_pair(advantage, reward, len(rows))
    statistics = sequence_statistics(rows, target, reward)
    moments = group_moments(statistics, batch_size, advantage, k)
    return moments._replace(mean=moments.mean.reshape(jnp.shape(probs)))


def batch_bias(
    probs: Array,
    target: Array,
    batch_size: int,
    advantage: str,
    reward: str = "exact",
    k: int | None = None,
    objective: str = "reward",
) -> Array:
    """E ghat - grad J of a batch estimator, shaped like probs: how far it points off an objective.

    Args:
      probs: [L, V] policy, or [K] for one choice.
      target, batch_size, advantage, reward: as in `batch_moments`.
      k: of the pass@k estimators and of the pass@k objective (there k may exceed B).
      objective: J, summed over positions for rewards credited by position: "reward" its
        expectation; for rewards that are 0 or 1 also "log_likelihood", log p in nats, and
        "pass_at_k", 1 - (1 - p)^k, p the chance of a reward of 1.

    Raises:
      ValueError: for an unknown name, a pair without closed form, too small a batch, a wrong k,
        or another objective than "reward" for rewards that are not 0 or 1.

    Source: THEORY.md, section 3: E ghat = E gain[j] grad p, j ~ Bin(B - 1, p), see `group_gains`.
    """
    rows, target = _as_sequence(probs, target)
    check_pair(advantage, reward, len(rows))
    allowed = OBJECTIVES if are_binary(reward, len(rows)) else OBJECTIVES[:1]
    if objective not in allowed:
        raise ValueError(f"objective must be one of {', '.join(allowed)}, got {objective!r}")
    gains = group_gains(advantage, batch_size, k)
    statistics = sequence_statistics(rows, target, reward)
    p, fail, _ = success_moments(statistics)
    gradient = statistics.mean
    if objective == "reward":
        weight = binomial_mean(gains - 1, p, fail)
    elif objective == "pass_at_k":
        k = check_k(k, None, objective)
        if k <= batch_size:  # then B guesses have an unbiased estimate: compare the two tables
            weight = binomial_mean(gains - group_gains(objective, batch_size, k), p, fail)
        else:
            weight = binomial_mean(gains, p, fail) - pass_at_k_weight(p, fail, k)
    else:
        # grad log p, and p E gain[j] - 1 over the number of successes, j + 1.
        fixed = target.ndim == 1
        gradient = (hits_at(rows, target) if fixed else hits_of(rows, target)).direction
        share = np.arange(1, batch_size + 1) / batch_size
        weight = binomial_mean(np.append(0.0, share * gains) - 1, p, fail)
    return (weight[:, None] * gradient).reshape(jnp.shape(probs))


def sequence_minimum_variance_baseline(probs: Array, target: Array, reward: str) -> Array:
    """Constant baseline that minimises the variance of the gradient of `sequence_moments`.

    E r|s|^2 / E|s|^2 of each credited unit, in units of reward: [], or [L] for the rewards
    credited position by position ("token", "reward_to_go") to a policy [L, V]. NaN for a
    deterministic policy, whose gradient is 0. Arguments and errors as in `sequence_moments`.

    Source: THEORY.md, section 3, b* of one choice; Greensmith, Bartlett and Baxter 2004.
    """
    rows, target = _as_sequence(probs, target)
    statistics = sequence_statistics(rows, target, reward)
    by_position = reward in ("token", "reward_to_go") and jnp.ndim(probs) == 2
    baseline = statistics.cross / statistics.score
    return baseline if by_position else baseline[0]


def minimum_variance_baseline(probs: Array, rewards: Array) -> Array:
    """Constant baseline [] that minimises the variance of a bandit's gradient.

    sum pi w r / sum pi w over arms, w_a = |e_a - pi|^2. Both inputs [K]; rewards are means (their
    noise does not move the optimum). NaN for a deterministic policy, whose gradient is 0.
    Source: THEORY.md, section 3; Greensmith, Bartlett and Baxter 2004.
    """
    probs = as_float(probs)
    weights = probs * (complement(probs) ** 2 + sum_of_others(probs**2, probs))
    return jnp.sum(weights * jnp.asarray(rewards, probs.dtype)) / jnp.sum(weights)


def natural_baseline(probs: Array, rewards: Array) -> Array:
    """Constant baseline [] that minimises the variance of a bandit's natural gradient.

    The estimator is (r - b) / pi_a (e_a - 1/K) for a pulled arm a, the score by the pseudo-inverse
    of the Fisher information: sum (r / pi) / sum (1 / pi) over arms. Both inputs [K]; rewards are
    means. Arms whose probability is 0 count alone: their mean reward is the limit.
    Source: THEORY.md, section 3.
    """
    probs = as_float(probs)
    least = jnp.min(probs)
    weights = jnp.where(probs > 0, least / jnp.where(probs > 0, probs, 1), 1.0)
    return jnp.sum(weights * jnp.asarray(rewards, probs.dtype)) / jnp.sum(weights)
