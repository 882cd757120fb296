"""Tabular learners written for many seeds at once, the lanes on the last axis.

The same updates from the same random words as `step` of the same learner, which stays the
reference: the gradient of a softmax is sums of weights by symbol less the law times their total, so
nothing is differentiated and no array [B, L, V] exists.
"""

from typing import Any

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

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence
    ) -> tuple[Learning, Heard]:
        answers = choices.choose(choices.words(keys.sample, size, length, fence), law.probs, fence)
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
        state = _ascend(optimizer, state, _score(law, answers, weights), kept)
        signals = columns.total((weights != 0).astype(jnp.float32).reshape(1, size * length, -1))
        dead = size * (signals[0] == 0).astype(jnp.uint32)
        success = columns.total(rollout.success[None])[0]
        return state, Heard(answers, success, dead)

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
        ones = jnp.ones((size, length, words.shape[-1]))
        state = _ascend(optimizer, state, _score(law, labels, ones), ())
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


def _score(law: Law, answers: Array, weights: Array) -> Array:
    """(1/B) sum over answers of weights [B, L, N] times scores: [L, V, N]."""
    size = weights.shape[0]
    shares = jnp.swapaxes(weights * (1 / size), 0, 1)
    sums = columns.gather_sums(shares, answers, law.probs.shape[1])
    return sums - law.probs * columns.total(shares)[:, None]


def _ascend(optimizer: Optimizer, state: Learning, gradient: Array, kept: Any) -> Learning:
    def one(optimizer: Optimizer, params: Array, opt_state: Any, gradient: Array) -> Any:
        state = Learning(params, opt_state, ())
        return updates.ascend(optimizer.build(), state, gradient, ())[:2]

    params, opt_state = columns.over_lanes(one)(
        optimizer, state.params, state.optimizer, gradient[None]
    )
    return Learning(params, opt_state, kept)


def _charge(kind: str, policy: Policy, size: int, length: int, samples: int) -> Info:
    prompts, answers = jnp.zeros((1,), jnp.int32), jnp.zeros((1, size, length), jnp.int32)
    return updates.report(kind, policy, prompts, answers, jnp.zeros((1, size)), samples)
