"""Weights of the guesses of many seeds at once, from their verdicts; lanes on the last axis.

Letters besides those of simrl.types: N lanes; an update draws K prompts and C answers to each.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import columns
from simrl.columns import Fence
from simrl.learners.draws import Batch
from simrl.types import Advantage, Array, Environment, Outcome, Rollout, State


class Weights(NamedTuple):
    """Of the answers of an update."""

    kept: State  # of the advantage
    weights: Array  # [K L, C, N]
    dead: Array  # [K, N] uint32: trajectories of the groups whose weights are all 0


class Verdicts(NamedTuple):
    """Of right and of wrong symbols in each group; see `Advantage.tally`."""

    kept: State
    right: Array  # [K L, N]
    wrong: Array  # [K L, N]
    dead: Array  # [K, N] uint32


def weigh(
    advantage: Advantage,
    state: State,
    lot: Batch,
    prompts: Array,
    told: Outcome,
    baseline: Array | None,
    fence: Fence,
    kept: Array | None = None,
) -> Weights:
    """Weights of verdicts: credit [K, L, C, N]. `baseline` [K, U, N]: that of an oracle, or None.

    `kept` [G, N] bool: the other groups have weights of 0, and no memory sees them; None: all are.

    Of every group, one group after the other: for the memories and the compiler's sake. The CPU
    compiler of jax 0.10.2 got sums over the answers of several groups at once wrong, or crashed.
    """
    draws, length, _, lanes = told.credit.shape
    groups, size = lot.groups, lot.size
    if baseline is not None:
        weights = fence(told.credit - baseline[:, :, None])
        return Weights(state, weights.reshape(-1, *weights.shape[2:]), dead_of(lot, weights))
    credit = jnp.moveaxis(told.credit.reshape(draws, length, -1, size, lanes), 1, 3)
    rollouts = Rollout(
        prompt=jnp.broadcast_to(prompts, (groups, lanes)),
        answers=jnp.zeros((groups, 0)),  # no advantage of trailing axes reads them
        credit=fence(credit.reshape(groups, size, length, lanes)),
        success=told.success.reshape(groups, size, lanes),
        log_prob=jnp.zeros((groups, 0)),  # nor these
    )
    given: Any = rollouts
    weigh_one: Any = advantage.weights
    if kept is not None:
        given, weigh_one = (rollouts, kept), partial(_if_kept, advantage)
    if groups > 1:
        memory, weights = jax.lax.scan(weigh_one, state, given)
        weights = fence(weights)
    else:
        memory, found = weigh_one(state, jax.tree.map(lambda leaf: leaf[0], given))
        weights = (found if size * length == 1 else fence(found))[None]
    return Weights(memory, _by_draw(lot, weights), _dead(lot, weights))


def _if_kept(
    advantage: Advantage, state: State, given: tuple[Rollout, Array]
) -> tuple[State, Array]:
    """Weights [B, L, N] of a group where it is kept [N], else 0."""
    rollout, kept = given
    after, weights = advantage.weights(state, rollout)
    after = jax.tree.map(lambda new, old: jnp.where(kept, new, old), after, state)
    return after, jnp.where(kept, weights, 0)


def _by_draw(lot: Batch, weights: Array) -> Array:
    """Weights [G, B, L, N] as those of answers [K L, C, N]."""
    _, size, length, lanes = weights.shape
    apart = weights.reshape(lot.draws, -1, size, length, lanes)
    return jnp.moveaxis(apart, 3, 1).reshape(-1, lot.answers, lanes)


def _dead(lot: Batch, weights: Array) -> Array:
    """Trajectories [K, N] uint32 of the groups whose weights [G, B, L, N] are all 0."""
    _, size, _, lanes = weights.shape
    dead = size * jnp.all(weights == 0, axis=(1, 2)).astype(jnp.uint32)
    return columns.total(dead.reshape(lot.draws, -1, lanes))


def dead_of(lot: Batch, weights: Array) -> Array:
    """The same of weights [K, L, C, N]."""
    nothing = jnp.all(weights == 0, axis=1).reshape(lot.draws, -1, lot.size, weights.shape[-1])
    return columns.total(lot.size * jnp.all(nothing, axis=2).astype(jnp.uint32))


def is_counted(environment: Environment, advantage: Advantage, lot: Batch) -> bool:
    """Whether it is enough to count the symbols of the guesses."""
    apart = lot.draws == lot.groups  # counts are of one group
    few = environment.shape.vocab_size <= columns.FEW
    by_reward = advantage.tally is not None or advantage.baseline is not None
    return environment.matching and by_reward and apart and few and lot.size > 1


def weigh_counts(
    advantage: Advantage,
    state: State,
    lot: Batch,
    counts: Array,
    answer: Array,
    baseline: Array | None,
    fence: Fence,
) -> Verdicts:
    """Weights from how often [K L, V, N] each symbol was guessed and the right one [K L, N]."""
    right = columns.pick(counts, answer[:, None])[:, 0]
    lanes = right.shape[-1]
    times = fence(jnp.stack([right, lot.size - right]).reshape(2, lot.draws, -1, lanes))
    times = jnp.swapaxes(times, 0, 1)  # [K, 2, L, N]
    credit = jnp.concatenate([jnp.ones_like(times[0, :1]), jnp.zeros_like(times[0, :1])])
    if baseline is not None:
        kept, weights = state, credit - baseline[:, None]
    else:
        kept, weights = _tallied(advantage, state, credit, times)
    weights = fence(jnp.where(times > 0, weights, 0))
    dead = lot.size * jnp.all(weights == 0, axis=(1, 2)).astype(jnp.uint32)
    return Verdicts(kept, weights[:, 0].reshape(-1, lanes), weights[:, 1].reshape(-1, lanes), dead)


def _tallied(
    advantage: Advantage, state: State, credit: Array, times: Array
) -> tuple[State, Array]:
    """Weights [K, 2, L, N] of credit [2, L, N] that so many `times` [K, 2, L, N] was given."""
    assert advantage.tally is not None  # see `is_counted`
    tally = advantage.tally
    if len(times) > 1:
        return jax.lax.scan(lambda s, t: tally(s, credit, t), state, times)
    kept, found = tally(state, credit, times[0])
    return kept, found[None]
