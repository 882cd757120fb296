"""Tabular learners written for many seeds at once, the lanes on the last axis.

The same updates from the same random words as `step` of the same learner, which stays the
reference: the gradient of a softmax is sums of weights by symbol less the law times their total, so
nothing is differentiated and no array [B, L, V] exists.

Letters besides those of simrl.types: N lanes; an update draws K prompts and C answers to each.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import choices, columns
from simrl.columns import Fence, Law
from simrl.learners import updates
from simrl.learners.updates import Learning, Optimizer
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

FIRST = 0  # the prompt, where there is only one
MOST_SYMBOLS = 2**24  # whole numbers that a fence keeps


class Batch(NamedTuple):
    """What an update draws. Groups at the only prompt are one draw: K = 1, C = G B."""

    num_prompts: int
    groups: int
    size: int  # answers of a group

    @property
    def draws(self) -> int:
        """K."""
        return 1 if self.num_prompts == 1 else self.groups

    @property
    def answers(self) -> int:
        """C."""
        return self.groups // self.draws * self.size


class Asked(NamedTuple):
    """The prompts that an update has drawn, and what is theirs."""

    prompts: Array  # [K, N] int32
    law: Law  # [K L, V, N]
    task: Task  # leaves [K, ...]: the task of a world of one prompt, as [..., 1, N]


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

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence
    ) -> tuple[Learning, Heard]:
        asked = _ask(environment, lot, keys.prompt, law, task, fence)
        words = _words(environment, lot, keys.sample, fence)
        answers = choices.choose(_rows(words), asked.law.probs, fence)
        noise = _words(environment, lot, keys.reward, fence)
        told = _verdicts(environment, noise, asked.task, answers.reshape(noise.shape))
        success = fence(told.success)
        kept, weights = _weigh(advantage, state.advantage, lot, asked.prompts, told, fence)
        gradient = _score(lot, asked, answers, _by_draw(lot, weights), fence)
        state = _ascend(optimizer, state, gradient, kept)
        right = columns.total(success)
        return state, Heard(asked.prompts, asked.law, answers, right, _dead(lot, weights))

    return Fused(_logits, step, lambda: _charge("policy_gradient", environment, policy, batch))


def supervised(
    environment: Environment, policy: Policy, optimizer: Optimizer, batch: tuple[int, int]
) -> Fused | None:
    """Supervised learning from groups x labels; None where there is no fused path."""
    if obstacle(environment, policy):
        return None
    lot = Batch(environment.shape.num_prompts, *batch)

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence
    ) -> tuple[Learning, Heard]:
        asked = _ask(environment, lot, keys.prompt, law, task, fence)
        words = _words(environment, lot, keys.label, fence)

        def label(words: Array, task: Task) -> Array:
            told = environment.label(words, task, jnp.int32(FIRST))
            return jnp.broadcast_to(told, words.shape)

        labels = _rows(fence(columns.each(label)(words, asked.task)))
        gradient = _score(lot, asked, labels, jnp.ones(labels.shape), fence)
        state = _ascend(optimizer, state, gradient, ())
        success = jnp.full(asked.prompts.shape, float(lot.answers))
        none = jnp.zeros(success.shape, jnp.uint32)
        return state, Heard(asked.prompts, asked.law, labels, success, none)

    return Fused(_logits, step, lambda: _charge("supervised", environment, policy, batch))


def _logits(state: Learning) -> Array:
    """[M L, V, N]: the positions of every prompt."""
    return _rows(state.params)


def _rows(x: Array) -> Array:
    """[K, L, ...] as [K L, ...]."""
    return x.reshape(-1, *x.shape[2:])


def _ask(
    environment: Environment, lot: Batch, stream: Array, law: Law, task: Task, fence: Fence
) -> Asked:
    """The prompts that the words of the stream pick: those of `updates.draw_prompts`."""
    if lot.num_prompts == 1:
        prompts = jnp.full((1, *law.total.shape[-1:]), FIRST, jnp.int32)
        return Asked(prompts, law, jax.tree.map(lambda leaf: leaf[None, ..., None, :], task))
    words = choices.words(stream, lot.draws, 1, fence)[0]
    draw = jax.vmap(environment.prompt, (0, None))
    prompts = fence(columns.over_lanes(draw)(words, task))

    def at(leaf: Array) -> Array:
        """The rows of the prompts drawn, found once."""
        found = columns.rows_at(leaf, prompts)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return fence(found)
        return fence(found.astype(jnp.uint32)).astype(leaf.dtype)

    parts = (at(part.reshape(lot.num_prompts, -1, *part.shape[1:])) for part in law)
    tasks = jax.tree.map(lambda leaf: at(leaf)[:, None, ..., None, :], task)
    return Asked(prompts, Law(*(_rows(part) for part in parts)), tasks)


def _words(environment: Environment, lot: Batch, stream: Array, fence: Fence) -> Array:
    """Random words [K, L, C, N]: those of `updates.group_words`."""
    length = environment.shape.length
    words = choices.words(stream, lot.draws * lot.answers, length, fence)
    return jnp.swapaxes(words.reshape(length, lot.draws, lot.answers, -1), 0, 1)


def _verdicts(environment: Environment, noise: Array, tasks: Task, answers: Array) -> Outcome:
    """Credit [K, L, C, N] and success [K, C, N] of answers [K, L, C, N]."""

    def verdict(noise: Array, task: Task, answers: Array) -> Outcome:
        told = environment.reward(noise, task, jnp.int32(FIRST), answers)
        return Outcome(jnp.broadcast_to(told.credit, answers.shape), told.success)

    return columns.each(verdict)(noise, tasks, answers)


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
    return kept, fence(weights)[None]


def _by_draw(lot: Batch, weights: Array) -> Array:
    """Weights [G, B, L, N] as those of answers [K L, C, N]."""
    _, size, length, lanes = weights.shape
    apart = weights.reshape(lot.draws, -1, size, length, lanes)
    return jnp.moveaxis(apart, 3, 1).reshape(-1, lot.answers, lanes)


def _dead(lot: Batch, weights: Array) -> Array:
    """Trajectories [K, N] uint32 of the groups whose weights [G, B, L, N] are all 0."""
    groups, size, length, lanes = weights.shape
    signals = (weights != 0).astype(jnp.float32).reshape(groups, size * length, lanes)
    dead = size * (columns.total(signals) == 0).astype(jnp.uint32)
    return columns.total(dead.reshape(lot.draws, -1, lanes))


def _score(lot: Batch, asked: Asked, answers: Array, weights: Array, fence: Fence) -> Array:
    """(1/(G B)) sum over answers of weights [K L, C, N] times scores: [M, L, V, N]."""
    law = asked.law
    shares = weights * (1 / (lot.groups * lot.size))
    sums = columns.gather_sums(shares, answers, law.probs.shape[1])
    scores = sums - law.probs * columns.total(shares)[:, None]
    scores = scores.reshape(lot.draws, -1, *scores.shape[1:])
    if lot.num_prompts == 1:
        return scores
    return columns.sums_at(fence(scores), asked.prompts, lot.num_prompts)


def _ascend(optimizer: Optimizer, state: Learning, gradient: Array, kept: Any) -> Learning:
    def one(optimizer: Optimizer, params: Array, opt_state: Any, gradient: Array) -> Any:
        state = Learning(params, opt_state, ())
        return updates.ascend(optimizer.build(), state, gradient, ())[:2]

    params, opt_state = columns.over_lanes(one)(optimizer, state.params, state.optimizer, gradient)
    return Learning(params, opt_state, kept)


def _charge(kind: str, environment: Environment, policy: Policy, batch: tuple[int, int]) -> Info:
    (groups, size), length = batch, environment.shape.length
    prompts, answers = jnp.zeros((groups,), jnp.int32), jnp.zeros((*batch, length), jnp.int32)
    samples = size * length if kind == "supervised" else size
    return updates.report(kind, policy, prompts, answers, jnp.zeros(batch), samples)
