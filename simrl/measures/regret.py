"""Regret: how much less than the best answer a policy is paid for a sample, on average.

The mean over guesses, not that of the guesses drawn: what is summed over a run is the pseudo-regret
(Lai & Robbins 1985; Lattimore & Szepesvari 2020, section 4.5), in units of the reward.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def regret_of_arms(probs: Array, means: Array) -> Array:
    """max_a r_a - sum_a pi_a r_a [] from probabilities and mean rewards [K]; never negative."""
    return jnp.sum(probs * (jnp.max(means) - means))


def regret_of_matching(probs: Array, laws: Array) -> Array:
    """The same [] where a guess is paid 1 if it agrees with a fresh label at every position.

    `probs`, `laws` [L, V]: of guesses and of labels, each position on its own.
    """
    best = jnp.prod(jnp.max(laws, axis=-1))
    return jnp.maximum(best - jnp.prod(jnp.sum(probs * laws, axis=-1)), 0)
