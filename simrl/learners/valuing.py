"""A critic of many seeds at once: what it makes of guesses, and they of it; lanes last.

What `simrl.learners.critic` does for one seed. Values by prefix are a table for each position, with
V^t entries a prompt, which is read and added up by the symbols before it (simrl.columns.pick).

Letters besides those of simrl.types: N lanes; an update draws K prompts and C answers to each.
"""

from typing import NamedTuple

import jax.numpy as jnp

from simrl import columns
from simrl.columns import Fence
from simrl.learners import critic, draws, fused
from simrl.learners.critic import Critic
from simrl.learners.draws import Asked, Batch
from simrl.learners.updates import Learning, Optimizer
from simrl.types import Array, Environment


class Stops(NamedTuple):
    """Which guesses are stopped midway; see `simrl.learners.actor_critic.ActorCritic`."""

    below: Array | float  # units of reward
    after: Array | float  # guesses
    free: Array  # [K, C, N] bool: never stopped


class Drawn(NamedTuple):
    """The guesses of an update."""

    asked: Asked
    answers: Array  # [K L, C, N] int32
    credit: Array  # [K, L, C, N]


class Valued(NamedTuple):
    """What a critic made of them."""

    weights: Array  # [K L, C, N] of the score terms; 0 where nothing was decoded
    live: Array | None  # [K, L, C, N] bool: the position was decoded; None: all were


class _Nodes(NamedTuple):
    """The prefixes of the guesses before one position."""

    level: slice  # of a prompt's values
    index: Array  # [1, K C, N] int32: which of those of the level, of all prompts


def value(
    environment: Environment,
    features: str,
    decay: Array | float,
    lot: Batch,
    known: Critic,
    drawn: Drawn,
    stops: Stops | None,
    fence: Fence,
) -> Valued:
    """The weights of the guesses, with the values as they were before."""
    if features == "prefix":
        nodes = _nodes(environment, lot, drawn)
        values = fence(_at_nodes(known.values, nodes, lot))
    else:
        nodes, values = [], _by_draw(known.values, lot, drawn)
    live = None
    if stops is not None:
        visits = _at_nodes(known.visits, nodes, lot)
        live = _decoded((values < stops.below) & (visits >= stops.after), stops.free)
    rewards = _paid(drawn.credit, environment.channel)
    weights = fence(draws.rows(_advantages(rewards, values, live, decay)))
    return Valued(weights, live)


def learned(
    environment: Environment,
    features: str,
    optimizer: Optimizer,
    lot: Batch,
    known: Critic,
    drawn: Drawn,
    found: Valued,
    fence: Fence,
) -> Critic:
    """The critic after a batch; see `simrl.learners.critic.learned`."""
    weights = found.weights.reshape(drawn.credit.shape)
    if features == "prefix":
        nodes = _nodes(environment, lot, drawn)
        live = jnp.ones(weights.shape) if found.live is None else found.live.astype(weights.dtype)
        sums, times = (_sums_at_nodes(x, nodes, lot, fence) for x in (weights, live))
    else:
        sums, times = _sums_by_prompt(features, weights, lot, drawn.asked, fence)
    before = Learning(known.values, known.optimizer, ())
    after = fused.ascend(optimizer, before, sums / jnp.maximum(times, 1), ())
    visits = known.visits if isinstance(known.visits, tuple) else known.visits + times
    return Critic(after.params, visits, after.optimizer)


def _by_draw(table: Array, lot: Batch, drawn: Drawn) -> Array:
    """Values [K, L, 1, N] from a table [M, n, N]: n is 1, or L."""
    own = table if lot.num_prompts == 1 else columns.rows_at(table, drawn.asked.prompts)
    length = drawn.credit.shape[1]
    return jnp.broadcast_to(own, (lot.draws, length, own.shape[-1]))[:, :, None]


def _nodes(environment: Environment, lot: Batch, drawn: Drawn) -> list[_Nodes]:
    """Those before every position; a level of the tree follows the other in a prompt's values."""
    _, length, vocab_size = environment.shape
    answers = drawn.answers.reshape(lot.draws, length, lot.answers, -1)
    node = jnp.broadcast_to(drawn.asked.prompts[:, None], answers[:, 0].shape)
    found, begin = [], 0
    for t in range(length):
        if t > 0:
            node = vocab_size * node + answers[:, t - 1]
        level = slice(begin, begin + vocab_size**t)
        found.append(_Nodes(level, node.reshape(1, -1, node.shape[-1])))
        begin = level.stop
    return found


def _at_nodes(table: Array, nodes: list[_Nodes], lot: Batch) -> Array:
    """Values [K, L, C, N] from a table [M, n, N]."""
    lanes, found = table.shape[-1], []
    for level, index in nodes:
        own = table[:, level].reshape(1, -1, lanes)
        one = own if own.shape[1] == 1 else columns.pick(own, index)
        wide = lot.draws, -1 if own.shape[1] > 1 else 1, lanes
        found.append(jnp.broadcast_to(one.reshape(wide), (lot.draws, lot.answers, lanes)))
    return jnp.stack(found, axis=1)


def _sums_at_nodes(values: Array, nodes: list[_Nodes], lot: Batch, fence: Fence) -> Array:
    """Sums [M, n, N] of values [K, L, C, N] by their nodes."""
    lanes, found = values.shape[-1], []
    for t, (level, index) in enumerate(nodes):
        own, size = values[:, t].reshape(1, -1, lanes), lot.num_prompts * (level.stop - level.start)
        if size == 1:
            sums = columns.total(own)
        else:
            sums = columns.gather_sums(own, index, size, fence.at_once)
        found.append(sums.reshape(lot.num_prompts, -1, lanes))
    return jnp.concatenate(found, axis=1)


def _sums_by_prompt(
    features: str, weights: Array, lot: Batch, asked: Asked, fence: Fence
) -> tuple[Array, Array]:
    """Sums [M, n, N] of weights [K, L, C, N] by prompt, or prompt and position; how many each."""
    length = weights.shape[1]
    sums = columns.total(draws.rows(weights)).reshape(lot.draws, length, -1)
    times = lot.answers
    if features == "prompt":
        sums, times = columns.total(sums)[:, None], times * length
    sums, counts = fence(sums), jnp.full(sums.shape, float(times))
    if lot.num_prompts == 1:
        return sums, counts
    found = (columns.sums_at(x, asked.prompts, lot.num_prompts) for x in (sums, counts))
    return tuple(found)


def _decoded(low: Array, free: Array) -> Array:
    """Which positions [K, L, C, N] are decoded, where those of a `low` prefix are not begun."""
    rows = [jnp.ones(low[:, 0].shape, bool)]
    for t in range(1, low.shape[1]):
        rows.append(rows[-1] & (free | ~low[:, t]))
    return jnp.stack(rows, axis=1)


def _paid(credit: Array, channel: str | None) -> Array:
    """`critic.paid` of credit [K, L, C, N]."""
    return jnp.moveaxis(critic.paid(jnp.moveaxis(credit, 1, -1), channel), -1, 1)


def _advantages(rewards: Array, values: Array, live: Array | None, decay: Array | float) -> Array:
    """`critic.advantages` [K, L, C, N], position by position."""
    length, found, after = rewards.shape[1], [], jnp.zeros_like(values[:, 0])
    total = jnp.zeros_like(rewards[:, 0])
    for t in range(length)[::-1]:
        delta = rewards[:, t] + after - values[:, t]
        if live is not None:
            delta = jnp.where(live[:, t], delta, 0)
        total, after = delta + decay * total, values[:, t]
        found.append(total)
    return jnp.stack(found[::-1], axis=1)
