"""Verifiers of rewards that are 0 or 1: exact ones, and noisy ones that err at known rates.

A noisy verifier passes what is wrong with probability `false_positive` and fails what is right with
probability `false_negative`, anew each time it is asked: once of a whole answer, or once of each
position where each is paid for itself. THEORY.md, section 2.
"""

import jax.numpy as jnp

from simrl.types import Array, Verifier

VERIFIERS = ("exact", "noisy")


def problems(kind: str, false_positive: float, false_negative: float) -> list[str]:
    """What is wrong with a verifier, one line each."""
    if kind not in VERIFIERS:
        return [f"verifier must be one of {', '.join(VERIFIERS)}, not {kind!r}"]
    rates = false_positive, false_negative
    told = f"false_positive and false_negative, {false_positive} and {false_negative},"
    if min(rates) < 0 or sum(rates) >= 1:
        return [f"{told} must not be negative and must sum to less than 1"]
    if kind == "exact" and max(rates) > 0:
        return [f"{told} need the verifier noisy"]
    return []


def build(kind: str, false_positive: float, false_negative: float) -> Verifier | None:
    """The verifier of this kind; None if it never errs."""
    return Verifier(false_positive, false_negative) if kind == "noisy" else None


def happens(word: Array, chance: Array | float) -> Array:
    """True with probability `chance` in [0, 1), one 32-bit word each; any shapes that broadcast.

    A chance is kept to 2**-33 and to 1e-7 of itself, where `keys.uniform` has 2**-24.
    """
    # The largest float32 below 2**32: a chance that rounds to 1 must not overflow.
    edge = jnp.minimum(jnp.round(chance * jnp.float32(2.0**32)), 2.0**32 - 256)
    return word < edge.astype(jnp.uint32)


def verdict(words: Array, right: Array, verifier: Verifier) -> Array:
    """What a noisy verifier says, 0 or 1, of what is `right`, float 0 or 1; a word for each."""
    chance = jnp.where(right > 0, verifier.false_negative, verifier.false_positive)
    return jnp.where(happens(words, chance), 1 - right, right)


def pass_chance(right: Array, verifier: Verifier) -> Array:
    """Chance [...] to pass of what is right with probability `right` [...]."""
    kept = right * (1 - verifier.false_negative)
    return kept + (1 - right) * verifier.false_positive


def law(right: Array, verifier: Verifier | None) -> tuple[Array, Array]:
    """Mean and variance [...] of the reward of what is right with probability `right` [...]."""
    chance = right if verifier is None else pass_chance(right, verifier)
    return chance, chance * (1 - chance)
