"""Whole answers as numbers: the N = V^L answers of a world as one choice out of N.

The number of an answer y [L] is sum_t y_t V^(L-1-t): its symbols are the digits, the first counts
most.
"""

import jax
import jax.numpy as jnp

from simrl.types import Shape

Array = jax.Array

MAX_LISTED = 1_000_000  # answers, over all prompts: every measure takes so many steps


def num_answers(shape: Shape) -> int:
    """N: the answers to one prompt."""
    return shape.vocab_size**shape.length


def problems(shape: Shape, what: str) -> list[str]:
    """One line if `what`, which keeps a number for each answer to each prompt, is too large."""
    size = shape.num_prompts * num_answers(shape)
    if size <= MAX_LISTED:
        return []
    told = (
        str(size) if size < 10**18 else f"{shape.num_prompts} * {shape.vocab_size}^{shape.length}"
    )
    return [
        f"{what} lists every answer: num_prompts * vocab_size^length must be at most "
        f"{MAX_LISTED}, not {told}"
    ]


def code(answers: Array, vocab_size: int) -> Array:
    """Answers [..., L] int as numbers [...] int32."""
    found = jnp.zeros(answers.shape[:-1], jnp.int32)
    for t in range(answers.shape[-1]):
        found = found * vocab_size + answers[..., t]
    return found


def symbol(codes: Array, t: int, length: int, vocab_size: int) -> Array:
    """The symbols [...] int32 at position t of answers by their numbers [...]."""
    return codes // vocab_size ** (length - 1 - t) % vocab_size


def decode(codes: Array, length: int, vocab_size: int) -> Array:
    """Numbers [...] as answers [..., L] int32."""
    return jnp.stack([symbol(codes, t, length, vocab_size) for t in range(length)], axis=-1)


def joint(log_probs: Array) -> Array:
    """Log-probabilities [N] of all answers, nats, from those [L, V] of independent positions."""
    found = jnp.zeros(1, log_probs.dtype)
    for law in log_probs:
        found = (found[:, None] + law).reshape(-1)
    return found


def merged(log_probs: Array, right: Array) -> Array:
    """Log-probabilities [1, N] with several answers as one: the first of `right` [A], distinct.

    It carries the mass of all (THEORY.md, section 2), the others nothing; twice is the same as
    once.
    """
    law = log_probs[0]
    others = jnp.any(jnp.arange(law.shape[0]) == right[:, None], axis=0)
    together = jax.nn.logsumexp(law[right])
    return jnp.where(others, -jnp.inf, law).at[right[0]].set(together)[None]
