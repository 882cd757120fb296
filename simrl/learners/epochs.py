"""Further passes over the guesses of an update, of many seeds at once; lanes on the last axis.

A pass weighs the guesses anew by their ratios, the probabilities they have now over those they were
drawn with. The ratio of a position is that of its symbol, whoever guessed it, and of a weight only
the sign decides what is clipped: sums by symbol of the positive weights and of the others are all
that such passes need, however many guesses there were.

Letters besides those of simrl.types: N lanes; an update draws K prompts and C answers to each.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simrl import columns, prefixes
from simrl.columns import Fence, Law
from simrl.learners.draws import Asked, Batch, rows
from simrl.learners.updates import Learning
from simrl.types import Array, Heard, Surrogate


class Guesses(NamedTuple):
    """What is weighed anew: one part by answers, or two by symbols."""

    answers: Array | None  # [K L, C, N] int32; None: parts are by symbol
    parts: tuple[Array, ...]  # weights [K L, C, N], or their sums [K L, V, N] by sign, over G B


def are_known(surrogate: Surrogate) -> bool:
    """Whether all passes have directions that are written for many seeds."""
    followed = surrogate.num_epochs == 1 or surrogate.reweigh is not None
    return followed and surrogate.on_columns is not None


def are_by_answer(surrogate: Surrogate, length: int) -> bool:
    """Whether passes after the first need to know the answers."""
    return surrogate.num_epochs > 1 and surrogate.whole and length > 1


def by_sign(shares: Array) -> tuple[Array, Array]:
    """The positive ones, and the others; 0 elsewhere."""
    return jnp.maximum(shares, 0), jnp.minimum(shares, 0)


def remembered(
    surrogate: Surrogate, lot: Batch, heard: Heard, shares: Array, fence: Fence
) -> tuple[Array, Guesses | None]:
    """Weights [K L, C, N] of the answers heard, over G B, summed by symbol [K L, V, N], and what
    further passes need of them; None if there are none."""
    answers, table = heard.answers, heard.law.powers
    assert answers is not None

    def summed(values: Array) -> Array:
        return prefixes.gather_sums(values, answers, table, lot.draws, fence.at_once)

    if surrogate.num_epochs == 1:
        return summed(shares), None
    if are_by_answer(surrogate, len(answers) // lot.draws):
        shares = fence(shares)
        return summed(shares), Guesses(answers, (shares,))
    gains, losses = (fence(summed(part)) for part in by_sign(shares))
    return gains + losses, Guesses(None, (gains, losses))


def go_on(
    surrogate: Surrogate,
    climb: Callable[[Learning, Law, Array, Array], Learning],
    lot: Batch,
    asked: Asked,
    guesses: Guesses,
    state: Learning,
    fence: Fence,
) -> Learning:
    """The state after the passes that follow the first, after which it is `state`.

    `climb`: an optimiser step, given the law now of the prompts drawn [K L, V, N], the weights of
    their guesses summed by symbol [K L, V, N], and of all symbols [K L, N].
    """
    reweigh, table = surrogate.reweigh, asked.law.powers
    assert reweigh is not None  # see `simrl.learners.fused.policy_gradient`
    before = fence(asked.law.log_probs)

    def weighed(log_ratio: Array) -> tuple[Array, Array]:
        if guesses.answers is None:
            gains, losses = (reweigh(log_ratio, part) for part in guesses.parts)
            sums = fence(gains + losses)
            return sums, fence(columns.total(sums))
        own = prefixes.pick(fence(log_ratio), guesses.answers, lot.draws)
        own = own.reshape(lot.draws, -1, *guesses.answers.shape[1:])
        whole = fence(columns.total(own))[:, None]
        shares = fence(reweigh(rows(jnp.broadcast_to(whole, own.shape)), *guesses.parts))
        sums = prefixes.gather_sums(shares, guesses.answers, table, lot.draws, fence.at_once)
        return sums, fence(prefixes.totals(shares, sums))

    def epoch(state: Learning) -> Learning:
        params = state.params
        if lot.num_prompts > 1:
            params = columns.rows_at(params, asked.prompts)
        law = columns.law(rows(params), fence)
        return climb(state, law, *weighed(law.log_probs - before))

    def again(carry: tuple, _: None) -> tuple[tuple, None]:
        params, optimizer = carry
        after = epoch(state._replace(params=params, optimizer=optimizer))
        return (after.params, after.optimizer), None

    # Only what a step changes is carried.
    begin, turns = (state.params, state.optimizer), surrogate.num_epochs - 1
    params, optimizer = jax.lax.scan(again, begin, None, length=turns)[0]
    return state._replace(params=params, optimizer=optimizer)
