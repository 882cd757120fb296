"""A critic of many seeds at once: what it makes of guesses, and they of it; lanes last.

What `simrl.learners.critic` does for one seed. Values by prefix are a table for each position, with
V^t entries a prompt, that is read and added up by the symbols before it: one by one where they are
few, by gathers and scatters over all lanes where they are many (simrl.columns.FEW).

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


class Drawn(NamedTuple):
    """The guesses of an update."""

    lot: Batch
    asked: Asked
    answers: Array  # [K L, C, N] int32
    credit: Array  # [K, L, C, N]


class Stops(NamedTuple):
    """Which guesses are stopped midway; see `simrl.learners.actor_critic.ActorCritic`."""

    below: Array | float  # units of reward
    after: Array | float  # guesses
    free: Array  # [K, C, N] bool: never stopped


class Nodes(NamedTuple):
    """The prefixes of the guesses before one position."""

    level: slice  # where theirs are, of the values of a prompt
    places: Array  # [1, K C, N] int32: which of them, of those of all prompts


class Valued(NamedTuple):
    """What a critic made of guesses."""

    weights: Array  # [K L, C, N] of the score terms; 0 where nothing was decoded
    live: Array | None  # [K, L, C, N] bool: the position was decoded; None: all were
    nodes: list[Nodes]  # of every position; [] where values are not by prefix


def value(
    environment: Environment,
    features: str,
    decay: Array | float,
    known: Critic,
    drawn: Drawn,
    stops: Stops | None,
    fence: Fence,
) -> Valued:
    """The weights of guesses, with the values as they were before."""
    nodes = _nodes(environment, drawn) if features == "prefix" else []
    values = fence(_at_nodes(known.values, drawn, nodes)) if nodes else _by_draw(known, drawn)
    live = None
    if stops is not None:
        visits = _at_nodes(known.visits, drawn, nodes)
        live = _decoded((values < stops.below) & (visits >= stops.after), stops.free)
    rewards = drawn.credit
    if environment.channel != "token":  # see `critic.paid`
        rewards = rewards - _next(rewards)
    errors = rewards + _next(values) - values
    if live is not None:
        errors = jnp.where(live, errors, 0)
    weights = jnp.moveaxis(critic.decayed_rows(jnp.moveaxis(errors, 1, 0), decay), 0, 1)
    return Valued(fence(draws.rows(weights)), live, nodes)


def learned(
    features: str, optimizer: Optimizer, known: Critic, drawn: Drawn, found: Valued, fence: Fence
) -> Critic:
    """The critic after a batch; see `simrl.learners.critic.learned`."""
    weights = found.weights.reshape(drawn.credit.shape)
    if found.nodes:
        live = jnp.ones(weights.shape) if found.live is None else found.live.astype(weights.dtype)
        sums, times = (_sums_at_nodes(x, drawn, found.nodes, fence) for x in (weights, live))
    else:
        sums, times = _sums_by_prompt(features, weights, drawn, fence)
    before = Learning(known.values, known.optimizer, ())
    after = fused.ascend(optimizer, before, sums / jnp.maximum(times, 1), ())
    visits = known.visits if isinstance(known.visits, tuple) else known.visits + times
    return Critic(after.params, visits, after.optimizer)


def _next(x: Array) -> Array:
    """What [K, L, ...] is at the next position; 0 after the last."""
    return jnp.concatenate([x[:, 1:], jnp.zeros_like(x[:, :1])], axis=1)


def _by_draw(known: Critic, drawn: Drawn) -> Array:
    """Values [K, L, 1, N] of the prompts drawn, from a table [M, n, N]: n is 1, or L."""
    several, (num, length, _, lanes) = drawn.lot.num_prompts > 1, drawn.credit.shape
    values = columns.rows_at(known.values, drawn.asked.prompts) if several else known.values
    return jnp.broadcast_to(values, (num, length, lanes))[:, :, None]


def _nodes(environment: Environment, drawn: Drawn) -> list[Nodes]:
    """Those before every position; the values of a prompt are level by level of its tree."""
    _, length, vocab_size = environment.shape
    answers = drawn.answers.reshape(drawn.credit.shape)
    node = jnp.broadcast_to(drawn.asked.prompts[:, None], answers[:, 0].shape)
    found, begin = [], 0
    for t in range(length):
        if t > 0:
            node = vocab_size * node + answers[:, t - 1]
        level = slice(begin, begin + vocab_size**t)
        found.append(Nodes(level, node.reshape(1, -1, node.shape[-1])))
        begin = level.stop
    return found


def _at_nodes(table: Array, drawn: Drawn, nodes: list[Nodes]) -> Array:
    """Values [K, L, C, N] from a table [M, n, N]."""
    lot, lanes = drawn.lot, table.shape[-1]
    levels = (table[:, level].reshape(1, -1, lanes) for level, _ in nodes)
    pairs = zip(levels, nodes, strict=True)
    found = [columns.pick(own, places).reshape(lot.draws, -1, lanes) for own, (_, places) in pairs]
    return jnp.stack(found, axis=1)


def _sums_at_nodes(values: Array, drawn: Drawn, nodes: list[Nodes], fence: Fence) -> Array:
    """Sums [M, n, N] of values [K, L, C, N] by their nodes."""
    num_prompts, lanes = drawn.lot.num_prompts, values.shape[-1]
    found = []
    for t, (level, places) in enumerate(nodes):
        own, size = values[:, t].reshape(places.shape), num_prompts * (level.stop - level.start)
        sums = columns.gather_sums(own, places, size, fence.at_once)
        found.append(sums.reshape(num_prompts, -1, lanes))
    # Without the fence a tree of 585 values takes 40 times as long.
    return fence(jnp.concatenate(found, axis=1))


def _sums_by_prompt(
    features: str, weights: Array, drawn: Drawn, fence: Fence
) -> tuple[Array, Array]:
    """Sums [M, n, N] of weights [K, L, C, N] by prompt, or prompt and position; how many each."""
    lot, length = drawn.lot, weights.shape[1]
    sums, times = columns.total(draws.rows(weights)), lot.answers
    sums = sums.reshape(lot.draws, length, -1)
    if features == "prompt":
        sums, times = columns.total(sums)[:, None], times * length
    sums, counts = fence(sums), jnp.full(sums.shape, float(times))
    if lot.num_prompts == 1:
        return sums, counts
    by_prompt = drawn.asked.prompts, lot.num_prompts
    return columns.sums_at(sums, *by_prompt), columns.sums_at(counts, *by_prompt)


def _decoded(low: Array, free: Array) -> Array:
    """Which positions [K, L, C, N] are decoded, where those of a `low` prefix are not begun."""
    rows = [jnp.ones(free.shape, bool)]
    for t in range(1, low.shape[1]):
        rows.append(rows[-1] & (free | ~low[:, t]))
    return jnp.stack(rows, axis=1)
