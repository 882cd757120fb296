"""Measures of a belief over one choice that carries answers alike as one entry.

N answers are K entries: `log_probs` [K] nats is that of ONE answer of each entry and `counts` [K],
NumPy, says how many answers an entry stands for: sum counts = N, sum counts exp(log_probs) = 1.
Sums over answers become sums over entries, each term `counts` times; the formulas are those of
THEORY.md, sections 2 and 3, for one position. What stands for several answers has at most half the
probability each, so only an entry of one answer can be dominant.
"""

import jax
import jax.numpy as jnp
import numpy as np

from simrl.measures.information import distinct_information, first_occurrences
from simrl.measures.sequences import (
    NATS_PER_BIT,
    Choice,
    Information,
    choice_from_log_probs,
    log_odds,
    weighted,
)
from simrl.measures.simplex import divide
from simrl.measures.units import Hits, ScoreStatistics, binary_statistics
from simrl.types import Array

_LARGE = 0.75  # a probability above this is dominant


def log_masses(log_probs: Array, counts: np.ndarray) -> Array:
    """Log-probability [K] of each entry as a whole, nats: a law over the entries."""
    return log_probs + np.log(counts).astype(log_probs.dtype)


def choice(log_probs: Array, counts: np.ndarray) -> Choice:
    """p and 1 - p of one answer of each entry, [K] each, right at both ends."""
    entry = choice_from_log_probs(log_masses(log_probs, counts))
    p, alone = jnp.exp(log_probs), counts == 1
    return Choice(
        p=jnp.where(alone, entry.p, p),
        not_p=jnp.where(alone, entry.not_p, 1 - p),
        log_p=jnp.where(alone, entry.log_p, log_probs),
        log_not_p=jnp.where(alone, entry.log_not_p, jnp.log1p(-p)),
    )


def information(log_probs: Array, counts: np.ndarray, answer: int) -> Information:
    """Bits [] of one on-policy guess told right or wrong; `answer`: the entry of the truth.

    `sequences.sequence_information` at one position: sum_j p_j h(p_j), and
    -p_y log2 p_y - sum over j != y of p_j log2(1 - p_j).
    """
    p, not_p, log_p, log_not_p = choice(log_probs, counts)
    right = np.arange(len(counts)) == answer
    entropies = weighted(p, log_p) + weighted(not_p, log_not_p)
    expected = -jnp.sum(counts * p * entropies)
    realised = -jnp.sum(counts * weighted(p, jnp.where(right, log_p, log_not_p)))
    return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)


def joint_information(
    log_probs: Array, counts: np.ndarray, answer: int, guesses: Array
) -> Information:
    """Joint bits [] of guesses [B] int, each told right or wrong.

    A guess is the number of its entry; answers of the last entry, which is a lump, are told apart
    by any distinct numbers from K - 1 up. `information.distinct_information` has the formula.
    """
    chosen = choice(log_probs, counts)
    odds = chosen.log_p - chosen.log_not_p
    return distinct_information(
        odds[jnp.minimum(guesses, len(counts) - 1)],
        first_occurrences(guesses[:, None]),
        log_odds(log_masses(log_probs, counts), answer),
        jnp.any(guesses == answer),
    )


def score_statistics(probs: Array, counts: np.ndarray, answer: int) -> ScoreStatistics:
    """Score statistics of one guess, probs [K], paid 1 if it is the answer at entry `answer`.

    `scores.sequence_statistics` of one position; `mean` [1, K] is that of one answer's logit.
    """
    counts = counts.astype(probs.dtype)
    right = np.arange(len(counts)) == answer
    others = jnp.where(right, 0, probs)
    miss = jnp.sum(counts * others)

    def gini(law: Array) -> Array:
        large = law > _LARGE
        rest = jnp.sum(jnp.where(large, 0, counts * law))
        return jnp.sum(counts * law * jnp.where(large, rest, 1 - law))

    hits = Hits(
        rate=probs[answer],
        miss=miss,
        direction=jnp.where(right, miss, -probs),
        square=miss**2 + jnp.sum(counts * others**2),
        hit_spread=jnp.zeros_like(miss),
        miss_spread=gini(divide(others, miss)),
        score=gini(probs),
    )
    return binary_statistics(jax.tree.map(lambda field: field[None], hits))
