"""Exact moments of gradient estimators: mean, trace of covariance, SNR, noise scale.

All gradients are with respect to logits, summed over positions, averaged over trajectories, and
point UP the expected reward (supervised: up the expected log-likelihood, in nats). Definitions and
closed forms: THEORY.md, section 3; every one is tested against enumeration. This is the door of
the room: units.py and scores.py hold the statistics of one sample, batches.py the estimators over
a batch, redraws.py what has no closed form, simplex.py the arithmetic.
"""

import jax.numpy as jnp

from simrl.measures.batches import (
    ADVANTAGES,
    Moments,
    affine_family,
    affine_moments,
    check_advantage,
    check_group_size,
    constant_moments,
    dead_group_probability,
    group_normalised_moments,
    group_weight,
    make_moments,
    maxrl_moments,
)
from simrl.measures.redraws import (
    NoiseScale,
    RedrawMoments,
    redraw_moments,
    two_batch_noise_scale,
)
from simrl.measures.scores import SEQUENCE_REWARDS, bandit_statistics, sequence_statistics
from simrl.measures.simplex import as_float, complement, gini, sum_of_others
from simrl.measures.units import ScoreStatistics
from simrl.types import Array

__all__ = [
    "ADVANTAGES",
    "SEQUENCE_REWARDS",
    "Moments",
    "NoiseScale",
    "RedrawMoments",
    "ScoreStatistics",
    "affine_moments",
    "bandit_moments",
    "bandit_statistics",
    "batch_moments",
    "constant_moments",
    "dead_group_probability",
    "group_normalised_moments",
    "group_weight",
    "maxrl_moments",
    "minimum_variance_baseline",
    "redraw_moments",
    "sequence_moments",
    "sequence_statistics",
    "supervised_moments",
    "two_batch_noise_scale",
]


def _as_sequence(probs: Array, target: Array) -> tuple[Array, Array]:
    """Read one choice [K] as a sequence of length 1."""
    probs, target = as_float(probs), jnp.asarray(target)
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
      ValueError: for another reward, or a target that fits neither form.

    Source: THEORY.md, section 3, "Sequences".
    """
    rows, target = _as_sequence(probs, target)
    moments = constant_moments(sequence_statistics(rows, target, reward), 1, baseline)
    return moments._replace(mean=moments.mean.reshape(jnp.shape(probs)))


def batch_moments(
    probs: Array, target: Array, batch_size: int, advantage: str, reward: str = "exact"
) -> Moments:
    """Moments of a whole batch estimator: B independent guesses at one prompt.

    Args:
      probs: [L, V] policy, or [K] for one choice.
      target: int [L] (or scalar) right answer, or float law of fresh labels, shaped like probs.
      batch_size: B >= 1, static; at least 2 for "leave_one_out".
      advantage: "none" | "leave_one_out" | "group_mean" (= "batch_mean") | "group_normalised" |
        "maxrl" (plain mean over successes).
      reward: as in `sequence_moments`; the last two advantages want "exact".

    Returns:
      Moments of the batch: snr of the batch, noise_scale = B / snr in trajectories.

    Raises:
      ValueError: for an unknown name, a pair without closed form, or too small a batch.

    Source: THEORY.md, section 3, "Batch estimators".
    """
    check_advantage(advantage)
    size = check_group_size(batch_size, 2 if advantage == "leave_one_out" else 1)
    if advantage in ("group_normalised", "maxrl") and reward != "exact":
        raise ValueError(
            f"advantage {advantage!r} has exact moments for reward 'exact' only, "
            f"got {reward!r}; use redraw_moments"
        )
    rows, target = _as_sequence(probs, target)
    statistics = sequence_statistics(rows, target, reward)
    if advantage == "group_normalised":
        moments = group_normalised_moments(statistics, size)
    elif advantage == "maxrl":
        moments = maxrl_moments(statistics, size)
    else:
        moments = affine_moments(statistics, size, *affine_family(advantage, size))
    return moments._replace(mean=moments.mean.reshape(jnp.shape(probs)))


def minimum_variance_baseline(probs: Array, rewards: Array) -> Array:
    """Constant baseline [] that minimises the variance of a bandit's gradient.

    sum pi w r / sum pi w over arms, w_a = |e_a - pi|^2. Both inputs [K]; rewards are means (their
    noise does not move the optimum). NaN for a deterministic policy, whose gradient is 0.
    Source: THEORY.md, section 3; Greensmith, Bartlett and Baxter 2004.
    """
    probs = as_float(probs)
    weights = probs * (complement(probs) ** 2 + sum_of_others(probs**2, probs))
    return jnp.sum(weights * jnp.asarray(rewards, probs.dtype)) / jnp.sum(weights)
