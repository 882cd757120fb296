"""Tabular learners written for many seeds at once, the lanes on the last axis.

The same updates from the same random words as `step` of the same learner, which stays the
reference: the gradient of a softmax is sums of weights by symbol less the law times their total, so
nothing is differentiated and no array [B, L, V] exists.

Letters besides those of simrl.types: N lanes; an update draws K prompts and C answers to each.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import choices, columns, columnwise
from simrl.columns import Fence, Law
from simrl.learners import draws, updates
from simrl.learners.draws import Asked, Batch
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops
from simrl.types import (
    Advantage,
    Array,
    Environment,
    Fused,
    Heard,
    Info,
    Outcome,
    Policy,
    Rollout,
    State,
    Task,
)

MOST_SYMBOLS = 2**24  # whole numbers that a fence keeps


class Learnt(NamedTuple):
    """What an update makes of its guesses."""

    kept: State  # of the advantage
    sums: Array  # [K L, V, N]: weights of the guesses by symbol, over G B
    total: Array  # [K L, N] of all symbols
    heard: Heard


def obstacle(environment: Environment, policy: Policy) -> str | None:
    """Why a learner has no fused path in this world; None if it has one."""
    num_prompts, _, vocab_size = environment.shape
    reasons = {
        "the policy must be a table read by inverse CDF": not policy.inverts,
        "label and reward must take trailing axes": not environment.trailing,
        "tasks of several prompts must have them on the first axis": num_prompts > 1
        and not environment.by_prompt,
        f"there must be at most {MOST_SYMBOLS} symbols": vocab_size > MOST_SYMBOLS,
        f"there must be at most {MOST_SYMBOLS} prompts": num_prompts > MOST_SYMBOLS,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def policy_gradient(
    environment: Environment,
    policy: Policy,
    advantage: Advantage,
    optimizer: Optimizer,
    batch: tuple[int, int],
) -> Fused | None:
    """Policy gradient from groups x guesses; None where there is no fused path."""
    if obstacle(environment, policy) or not advantage.trailing:
        return None
    lot = Batch(environment.shape.num_prompts, *batch)

    def draw(keys: Any, state: Learning, asked: Asked, fence: Fence) -> Learnt:
        words = draws.random_words(environment, lot, keys.sample, fence)
        answers = choices.choose(draws.rows(words), asked.law.probs, fence)
        noise = draws.random_words(environment, lot, keys.reward, fence)
        told = draws.verdicts(environment, noise, asked.task, answers.reshape(noise.shape))
        success = told.success if lot.answers == 1 else fence(told.success)
        kept, weights = _weigh(advantage, state.advantage, lot, asked.prompts, told, fence)
        right = columns.total(success)
        heard = Heard(asked.prompts, asked.law, answers, right, _dead(lot, weights))
        return _learnt(kept, lot, heard, _by_draw(lot, weights), fence)

    def count(keys: Any, state: Learning, asked: Asked, fence: Fence) -> Learnt:
        words = draws.rows(draws.random_words(environment, lot, keys.sample, fence))
        none = jnp.zeros((lot.draws, environment.shape.length, 1, words.shape[-1]), words.dtype)
        answer = draws.rows(draws.labels(environment, asked.task, none))[:, 0]
        counts, right = choices.tally(words, asked.law.probs, answer, lot.draws, fence)
        weights = _weigh_counts(advantage, state.advantage, lot, counts, answer, fence)
        mine = answer[:, None] == jnp.arange(counts.shape[1], dtype=answer.dtype)[:, None]
        shares = jnp.where(mine, weights.right[:, None], weights.wrong[:, None])
        sums = fence(counts * shares * (1 / (lot.groups * lot.size)))
        heard = Heard(asked.prompts, asked.law, None, right, weights.dead, fence(counts))
        return Learnt(weights.kept, sums, fence(columns.total(sums)), heard)

    learn = count if _is_counted(environment, advantage, lot) else draw

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence
    ) -> tuple[Learning, Heard]:
        asked = draws.ask(environment, lot, keys.prompt, law, task, fence)
        found = learn(keys, state, asked, fence)
        gradient = _score(lot, asked, found, fence)
        return _ascend(optimizer, state, gradient, found.kept), found.heard

    return Fused(_logits, step, lambda: _charge("policy_gradient", environment, policy, batch))


def supervised(
    environment: Environment,
    policy: Policy,
    optimizer: Optimizer,
    batch: tuple[int, int],
    smoothing: Array | float | None = None,
) -> Fused | None:
    """Supervised learning from groups x labels, smoothed; None where there is no fused path."""
    if obstacle(environment, policy):
        return None
    lot = Batch(environment.shape.num_prompts, *batch)

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence
    ) -> tuple[Learning, Heard]:
        asked = draws.ask(environment, lot, keys.prompt, law, task, fence)
        words = draws.random_words(environment, lot, keys.label, fence)
        labels = draws.rows(fence(draws.labels(environment, asked.task, words)))
        success = jnp.full(asked.prompts.shape, float(lot.answers))
        none = jnp.zeros(success.shape, jnp.uint32)
        heard = Heard(asked.prompts, asked.law, labels, success, none)
        found = _learnt((), lot, heard, jnp.ones(labels.shape), fence)
        if smoothing is not None:
            even = smoothing * found.total[:, None] / environment.shape.vocab_size
            found = found._replace(sums=fence((1 - smoothing) * found.sums + even))
        return _ascend(optimizer, state, _score(lot, asked, found, fence), ()), heard

    return Fused(_logits, step, lambda: _charge("supervised", environment, policy, batch))


def _logits(state: Learning) -> Array:
    """[M L, V, N]: the positions of every prompt."""
    return draws.rows(state.params)


def _weigh(
    advantage: Advantage, state: State, lot: Batch, prompts: Array, told: Outcome, fence: Fence
) -> tuple[State, Array]:
    """Weights [G, B, L, N] of the answers of every group, one group after the other.

    That is for the memories and the compiler's sake: the CPU compiler of jax 0.10.2 got sums over
    the answers of several groups at once wrong, or crashed.
    """
    draws, length, _, lanes = told.credit.shape
    groups, size = lot.groups, lot.size
    credit = jnp.moveaxis(told.credit.reshape(draws, length, -1, size, lanes), 1, 3)
    rollouts = Rollout(
        prompt=jnp.broadcast_to(prompts, (groups, lanes)),
        answers=jnp.zeros((groups, 0)),  # no advantage of trailing axes reads them
        credit=fence(credit.reshape(groups, size, length, lanes)),
        success=told.success.reshape(groups, size, lanes),
        log_prob=jnp.zeros((groups, 0)),  # nor these
    )
    if groups > 1:
        kept, weights = jax.lax.scan(advantage.weights, state, rollouts)
        return kept, fence(weights)
    kept, weights = advantage.weights(state, jax.tree.map(lambda leaf: leaf[0], rollouts))
    return kept, (weights if size * length == 1 else fence(weights))[None]


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


def _is_counted(environment: Environment, advantage: Advantage, lot: Batch) -> bool:
    """Whether it is enough to count the symbols of the guesses."""
    apart = lot.draws == lot.groups  # counts are of one group
    few = environment.shape.vocab_size <= columns.FEW
    return environment.matching and advantage.tally is not None and apart and few and lot.size > 1


class Weights(NamedTuple):
    """Of right and of wrong symbols in each group; see `Advantage.tally`."""

    kept: State
    right: Array  # [K L, N]
    wrong: Array  # [K L, N]
    dead: Array  # [K, N] uint32


def _weigh_counts(
    advantage: Advantage, state: State, lot: Batch, counts: Array, answer: Array, fence: Fence
) -> Weights:
    """Weights from how often [K L, V, N] each symbol was guessed and the right one [K L, N]."""
    right = columns.pick(counts, answer[:, None])[:, 0]
    lanes = right.shape[-1]
    times = fence(jnp.stack([right, lot.size - right]).reshape(2, lot.draws, -1, lanes))
    times = jnp.swapaxes(times, 0, 1)  # [K, 2, L, N]
    credit = jnp.zeros_like(times[0]).at[0].set(1)
    assert advantage.tally is not None  # see `_is_counted`
    tally = advantage.tally
    if lot.draws > 1:
        kept, weights = jax.lax.scan(lambda s, t: tally(s, credit, t), state, times)
    else:
        kept, found = tally(state, credit, times[0])
        weights = found[None]
    weights = fence(jnp.where(times > 0, weights, 0))
    dead = lot.size * jnp.all(weights == 0, axis=(1, 2)).astype(jnp.uint32)
    return Weights(kept, weights[:, 0].reshape(-1, lanes), weights[:, 1].reshape(-1, lanes), dead)


def _learnt(kept: State, lot: Batch, heard: Heard, weights: Array, fence: Fence) -> Learnt:
    """From weights [K L, C, N] of the answers heard."""
    assert heard.answers is not None
    shares = weights * (1 / (lot.groups * lot.size))
    sums = columns.gather_sums(shares, heard.answers, heard.law.powers.shape[1])
    total = columns.total(shares)
    return Learnt(kept, sums, total if lot.answers == 1 else fence(total), heard)


def _score(lot: Batch, asked: Asked, found: Learnt, fence: Fence) -> Array:
    """Weights times scores: [M, L, V, N]."""
    scores = found.sums - asked.law.probs * found.total[:, None]
    scores = scores.reshape(lot.draws, -1, *scores.shape[1:])
    if lot.num_prompts == 1:
        return scores
    return columns.sums_at(fence(scores), asked.prompts, lot.num_prompts)


def _ascend(optimizer: Optimizer, state: Learning, gradient: Array, kept: Any) -> Learning:
    def one(optimizer: Optimizer, params: Array, opt_state: Any, gradient: Array) -> Any:
        state = Learning(params, opt_state, ())
        return updates.ascend(optimizer.build(), state, gradient, ())[:2]

    params, opt_state = columnwise.over_lanes(one)(
        optimizer, state.params, state.optimizer, gradient
    )
    return Learning(params, opt_state, kept)


def _charge(kind: str, environment: Environment, policy: Policy, batch: tuple[int, int]) -> Info:
    (groups, size), length = batch, environment.shape.length
    prompts, answers = jnp.zeros((groups,), jnp.int32), jnp.zeros((*batch, length), jnp.int32)
    samples = size * length if kind == "supervised" else size
    lines = flops.ledger_lines(policy.num_active_params, 1, kind)
    return updates.report(lines, prompts, answers, jnp.zeros(batch), samples)
