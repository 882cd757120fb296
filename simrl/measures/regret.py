"""Regret: how much less than the best answer a policy is paid for a sample, on average.

The mean over guesses, not that of the guesses drawn: what is summed over a run is the pseudo-regret
(Lai & Robbins 1985; Lattimore & Szepesvari 2020, section 4.5), in units of the reward.
"""

import jax
import jax.numpy as jnp
import numpy as np

from simrl.measures.best_arm import bernoulli_divergence

Array = jax.Array


def regret_of_arms(probs: Array, means: Array) -> Array:
    """max_a r_a - sum_a pi_a r_a [] from probabilities and mean rewards [K]; never negative."""
    return jnp.sum(probs * (jnp.max(means) - means))


def lai_robbins_rate(means: Array | np.ndarray, noise: float | Array | None = None) -> Array:
    """Computes sum_a Delta_a / KL_a [], the least regret per unit of ln t of a bandit.

    No learner that does well on every bandit of the family has less regret after t pulls than this
    times ln t, for large t; Delta_a is what arm a is paid below the best, KL_a in nats the
    divergence of its rewards from those of the best. Source: Lai & Robbins 1985, Theorem 1.

    Args:
      means: [K] mean rewards; equal best arms count as one. Of Bernoulli arms in [0, 1].
      noise: [] standard deviation of the rewards of gaussian arms; None: they are Bernoulli.
    """
    means = jnp.asarray(means, float)
    best = jnp.max(means)
    gaps = best - means
    wrong = gaps > 0
    if noise is not None:  # KL = Delta^2 / (2 noise^2)
        return jnp.sum(jnp.where(wrong, 2 * jnp.asarray(noise) ** 2 / jnp.where(wrong, gaps, 1), 0))
    # An arm that never fails is told from others by one failure of theirs: KL is infinite.
    finite = wrong & (best < 1)
    nats = bernoulli_divergence(jnp.where(best < 1, best, 0.5), jnp.where(finite, -gaps, 0))
    return jnp.sum(jnp.where(finite, gaps / jnp.where(finite, nats, 1), 0))


def regret_of_matching(probs: Array, laws: Array) -> Array:
    """The same [] where a guess is paid 1 if it agrees with a fresh label at every position.

    `probs`, `laws` [L, V]: of guesses and of labels, each position on its own.
    """
    best = jnp.prod(jnp.max(laws, axis=-1))
    return jnp.maximum(best - jnp.prod(jnp.sum(probs * laws, axis=-1)), 0)
