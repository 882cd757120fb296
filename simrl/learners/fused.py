"""Tabular learners written for many seeds at once, the lanes on the last axis.

The same updates from the same random words as `step` of the same learner, which stays the
reference: the gradient of a softmax is sums of weights by symbol less the law times their total, so
nothing is differentiated and no array [B, L, V] exists.
"""

from typing import Any

import jax
import jax.numpy as jnp

from simrl import choices, columns, columnwise
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
    Task,
)

FIRST = 0  # the prompt, where there is only one
MOST_SYMBOLS = 2**24  # whole numbers that a fence keeps


def obstacle(environment: Environment, policy: Policy, num_groups: int) -> str | None:
    """Why a learner has no fused path in this world; None if it has one."""
    reasons = {
        "the policy must be a table read by inverse CDF": not policy.inverts,
        "label and reward must take trailing axes": not environment.trailing,
        "there must be one prompt and one group": environment.shape.num_prompts != 1
        or num_groups != 1,
        f"there must be at most {MOST_SYMBOLS} symbols": environment.shape.vocab_size
        > MOST_SYMBOLS,
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
    num_groups, size = batch
    if obstacle(environment, policy, num_groups) or not advantage.trailing:
        return None
    length = environment.shape.length

    def draw(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence
    ) -> tuple[Any, Array, Heard]:
        words = choices.words(keys.sample, size, length, fence)
        answers = choices.choose(words, law.probs, fence)
        noise = choices.words(keys.reward, size, length, fence)
        told = _verdict(environment, noise, _broadcast(task), answers)
        rollout = Rollout(
            prompt=jnp.int32(FIRST),
            answers=jnp.swapaxes(answers, 0, 1),
            credit=fence(jnp.swapaxes(told.credit, 0, 1)),
            success=fence(told.success),
            log_prob=jnp.zeros(()),  # no advantage of trailing axes reads it
        )
        kept, weights = advantage.weights(state.advantage, rollout)
        weights = fence(weights)
        dead = size * jnp.all(weights == 0, axis=(0, 1)).astype(jnp.uint32)
        success = columns.total(rollout.success[None])[0]
        return kept, _sums(answers, weights, law), Heard(answers, success, dead)

    def count(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence
    ) -> tuple[Any, Array, Heard]:
        answer = _answer(environment, task, length)
        words = choices.words(keys.sample, size, length, fence)
        counts, success = choices.tally(words, law.probs, answer, fence)
        right = columns.pick(counts, answer[:, None])[:, 0]
        times = fence(jnp.stack([right, size - right]))
        credit = jnp.zeros_like(times).at[0].set(1)
        assert advantage.tally is not None  # see `counted`
        kept, weights = advantage.tally(state.advantage, credit, times)
        weights = fence(jnp.where(times > 0, weights, 0) * (1 / size))
        mine = answer[:, None] == jnp.arange(law.powers.shape[1])[:, None]
        sums = counts * jnp.where(mine, weights[0][:, None], weights[1][:, None])
        dead = size * jnp.all(weights == 0, axis=(0, 1)).astype(jnp.uint32)
        return kept, fence(sums), Heard(None, success, dead, fence(counts))

    counted = environment.matching and advantage.tally is not None and size > 1
    learn = count if counted and environment.shape.vocab_size <= columns.FEW else draw

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence
    ) -> tuple[Learning, Heard]:
        kept, sums, heard = learn(keys, state, law, task, fence)
        return _ascend(optimizer, state, _score(law, sums, fence), kept), heard

    return Fused(_logits, step, lambda: _charge("policy_gradient", policy, size, length, size))


def supervised(
    environment: Environment, policy: Policy, optimizer: Optimizer, batch: tuple[int, int]
) -> Fused | None:
    """Supervised learning from groups x labels; None where there is no fused path."""
    num_groups, size = batch
    if obstacle(environment, policy, num_groups):
        return None
    length = environment.shape.length

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence
    ) -> tuple[Learning, Heard]:
        words = choices.words(keys.label, size, length, fence)
        told = environment.label(words, _broadcast(task), jnp.int32(FIRST))
        labels = fence(jnp.broadcast_to(told, words.shape))
        sums = _sums(labels, jnp.ones((size, length, words.shape[-1])), law)
        state = _ascend(optimizer, state, _score(law, sums, fence), ())
        success = jnp.full(words.shape[-1:], float(size))
        return state, Heard(labels, success, jnp.zeros(success.shape, jnp.uint32))

    samples = size * length
    return Fused(_logits, step, lambda: _charge("supervised", policy, size, length, samples))


def _logits(state: Learning) -> Array:
    """[L, V, N] of the only prompt."""
    return state.params[FIRST]


def _broadcast(task: Task) -> Task:
    """Leaves [..., N] as [..., 1, N]: they meet answers [L, B, N]."""
    return jax.tree.map(lambda leaf: leaf[..., None, :], task)


def _verdict(environment: Environment, noise: Array, task: Task, answers: Array) -> Outcome:
    told = environment.reward(noise, task, jnp.int32(FIRST), answers)
    return Outcome(jnp.broadcast_to(told.credit, answers.shape), told.success)


def _answer(environment: Environment, task: Task, length: int) -> Array:
    """The right answer [L, N] where labels are not drawn: no word is read."""
    lanes = jax.tree.leaves(task)[0].shape[-1]
    words = jnp.zeros((length, 1, lanes), jnp.uint32)
    label = environment.label(words, _broadcast(task), jnp.int32(FIRST))
    return jnp.broadcast_to(label, words.shape)[:, 0]


def _sums(answers: Array, weights: Array, law: Law) -> Array:
    """Weights [B, L, N] of answers [L, B, N] over B, summed by symbol: [L, V, N]."""
    shares = jnp.swapaxes(weights * (1 / weights.shape[0]), 0, 1)
    return columns.gather_sums(shares, answers, law.powers.shape[1])


def _score(law: Law, sums: Array, fence: Fence) -> Array:
    """Weights times scores, summed over answers, from the weights by symbol: [L, V, N]."""
    return sums - law.probs * fence(columns.total(sums))[:, None]


def _ascend(optimizer: Optimizer, state: Learning, gradient: Array, kept: Any) -> Learning:
    def one(optimizer: Optimizer, params: Array, opt_state: Any, gradient: Array) -> Any:
        state = Learning(params, opt_state, ())
        return updates.ascend(optimizer.build(), state, gradient, ())[:2]

    params, opt_state = columnwise.over_lanes(one)(
        optimizer, state.params, state.optimizer, gradient[None]
    )
    return Learning(params, opt_state, kept)


def _charge(kind: str, policy: Policy, size: int, length: int, samples: int) -> Info:
    prompts, answers = jnp.zeros((1,), jnp.int32), jnp.zeros((1, size, length), jnp.int32)
    return updates.report(kind, policy, prompts, answers, jnp.zeros((1, size)), samples)
