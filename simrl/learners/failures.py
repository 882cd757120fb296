"""Guesses of a factorised policy drawn given that they are right, or given that they are wrong.

What a jump draws once it knows how many guesses of a group are right. THEORY.md, section 7.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simrl import keys
from simrl.types import Array


def coin(word: Array, log_odds: Array) -> Array:
    """True with probability 1 / (1 + exp(-log_odds)), one 32-bit word each, any shape.

    The rarer side is compared, so that it keeps its probability to 2**-32 + 1e-7 of itself.
    """
    odds = jnp.exp(-jnp.abs(log_odds))
    rare = word < (odds / (1 + odds) * jnp.float32(2.0**32)).astype(jnp.uint32)
    return rare == (log_odds <= 0)


class Chances(NamedTuple):
    """What a factorised policy thinks of one answer; worked out once for all draws of a group."""

    log_probs: Array  # [L, V] nats, as given
    answer: Array  # [L] int32
    masses: Array  # [L, about sqrt(V)]: shares of blocks of symbols among the wrong ones
    odds: Array  # [L] log-odds of each position to be right, nats
    first: Array  # [L] log-probability of each position to be the first wrong one, nats
    log_p: Array  # [] log-probability of the whole answer, nats
    log_fail: Array  # [] of anything else, summed over `first`: nothing cancels


def chances(log_probs: Array, answer: Array) -> Chances:
    """The chances of an answer [L] int under log_probs [L, V], normalised, nats.

    Right down to p and 1 - p of 1e-37 at each position.
    """
    length, num_symbols = log_probs.shape
    size = math.isqrt(num_symbols)
    wrong = jnp.where(jnp.arange(num_symbols) == answer[:, None], 0, jnp.exp(log_probs))
    padded = jnp.pad(wrong, ((0, 0), (0, -num_symbols % size)))
    masses = jnp.sum(padded.reshape(length, -1, size), axis=-1)
    whole = jnp.sum(masses, axis=-1)
    odds = log_probs[jnp.arange(length), answer] - jnp.log(whole)
    log_hit = -jax.nn.softplus(-odds)
    before = jnp.concatenate([jnp.zeros_like(odds[:1]), jnp.cumsum(log_hit)[:-1]])
    first = before - jax.nn.softplus(odds)
    return Chances(
        log_probs=log_probs,
        answer=answer.astype(jnp.int32),
        masses=masses / whole[:, None],
        odds=odds,
        first=first,
        log_p=jnp.sum(log_hit),
        log_fail=jax.nn.logsumexp(first),
    )


def _wrong_symbol(words: Array, log_probs: Array, answer: Array, masses: Array) -> Array:
    """A symbol [] int32 of one position given that it is not the answer: its block, then itself.

    A prefix sum over V entries costs ten times their exp, so only one block a draw has a table.
    words [2], log_probs [V], answer [], masses of the blocks; 30 bits a stage.
    """
    size = math.isqrt(log_probs.shape[0])
    places = size * keys.choose(words[0], keys.cumulative(masses)) + jnp.arange(size)
    block = log_probs.at[places].get(mode="fill", fill_value=-jnp.inf)
    block = jax.nn.softmax(jnp.where(places == answer, -jnp.inf, block))
    return places[0] + keys.choose(words[1], keys.cumulative(block))


def draw_failure(words: Array, given: Chances) -> Array:
    """A guess [L] int32 drawn from the policy given that it is not the answer.

    The first wrong position t comes first, with weight prod_{u<t} p_u (1 - p_t). Before it stands
    the answer, at t a symbol of pi_t given that it is wrong, after it anything: right with p_u,
    else also a symbol given that it is wrong. The law of wrong symbols thus serves all positions
    and keeps its digits where 1 - p_t = 1e-12.

    Args:
      words: [3, L] uint32: one for t and for each position whether it is right; two for a symbol.
      given: of this policy and answer.
    """
    symbols = jax.vmap(_wrong_symbol, (1, 0, 0, 0))(
        words[1:], given.log_probs, given.answer, given.masses
    )
    first = keys.choose(words[0, 0], keys.cumulative(jax.nn.softmax(given.first)))
    place = jnp.arange(given.odds.shape[0])
    right = (place < first) | ((place > first) & coin(words[0], given.odds))
    return jnp.where(right, given.answer, symbols)


def draw_answers(key: Array, given: Chances, right: Array) -> Array:
    """Guesses [B, L] given which of them are `right` [B] bool; `key` typed."""
    size, length = right.shape[0], given.answer.shape[0]
    words = keys.words(key, (1 + size * 3 * length,))[1:]  # the first one told their number
    failures = jax.vmap(draw_failure, (0, None))(words.reshape(size, 3, length), given)
    return jnp.where(right[:, None], given.answer, failures)
