"""What the verdict of a duel tells of the right answer.

Two guesses are compared by a score that depends on the answer; the verdict says which scored
higher, ties by a fair coin. It is even by construction where both guesses come from one belief, and
yet tells less than 1 bit: a tie tells nothing. By listing every answer and every pair of guesses.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from simrl.measures.information import binary_entropy

Array = jax.Array

PAIRS = 2**24  # answers times pairs of guesses that are listed at most


class DuelInformation(NamedTuple):
    """Of one duel of two guesses from the belief itself."""

    expected: Array  # [] bits that the verdict tells of the answer, drawn from the belief
    win_rate: Array  # [] chance that the first guess wins: 1/2 by symmetry
    tie_rate: Array  # [] chance that a coin decides


def duel_information(probs: Array, scores: Array) -> DuelInformation:
    """Expected I(answer; verdict | guesses) = E [h(E verdict) - E h(verdict)], bits a duel.

    The inner means are over answers drawn from the belief, the outer one over pairs of guesses,
    two draws from the same belief.

    Args:
      probs: [N] belief over whole answers.
      scores: [N, N] of the guess (row) if the answer is that of the column, any unit.

    Raises:
      ValueError: shapes that do not match, or more than PAIRS triples to list.
    """
    probs, scores = jnp.asarray(probs), jnp.asarray(scores)
    num = probs.shape[0]
    if probs.shape != (num,) or scores.shape != (num, num):
        raise ValueError(f"probs [N] and scores [N, N] do not match: {probs.shape}, {scores.shape}")
    if num**3 > PAIRS:
        raise ValueError(f"{num}^3 triples are more than the {PAIRS} that are listed")
    first, second = scores[:, None], scores[None]  # [guess, guess, answer]
    tie = (first == second).astype(probs.dtype)
    wins = jnp.where(first == second, 0.5, (first > second).astype(probs.dtype))
    won, tied = jnp.clip(wins @ probs, 0, 1), tie @ probs  # [guess, guess]
    # Given the answer the verdict is sure, but for a tie: then a whole bit of it is the coin's.
    told = jnp.maximum(binary_entropy(won) - tied, 0)
    pairs = probs[:, None] * probs
    return DuelInformation(jnp.sum(pairs * told), jnp.sum(pairs * won), jnp.sum(pairs * tied))
