"""Self-play duels: two guesses of one policy at the same prompt, of which the better one wins.

The verdict is who won, by the world's own score of each guess (the mean of its credit), ties by a
fair coin; nothing else is told. The winner is paid 1, the loser 0, and both guesses are learned
from by REINFORCE (Williams 1992) with the baseline 1/2, the pass rate of the game, which is 1/2 by
construction. So a game that is always even goes on teaching as long as scores differ: what its
verdicts tell of the answer is not the entropy of an even coin (simrl.measures.duels). The mean
update is the gradient of the chance to win against a copy that stands still.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from simrl import choices, columns
from simrl import keys as words_of
from simrl.columns import Fence, Law
from simrl.learners import draws, fused, rollouts, updates
from simrl.learners.draws import Batch
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops
from simrl.records import readable
from simrl.types import (
    Array,
    Environment,
    Fused,
    Heard,
    Info,
    Learner,
    Params,
    Policy,
    Rollout,
    Task,
)


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SelfPlay:
    """Each update: `num_groups` prompts, `group_size` / 2 duels at each, one optimiser step.

    Attributes:
        group_size: B, answers to each prompt, two a comparison: even.
        num_groups: G, prompts of an update.
        optimizer: an `Optimizer`, or its name.
    """

    group_size: int = field(default=32, metadata={"static": True})
    num_groups: int = field(default=1, metadata={"static": True})
    optimizer: Optimizer = field(default_factory=updates.reward_optimizer)

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        if self.group_size < 2 or self.group_size % 2:
            found.append(f"group_size must be even, two guesses a duel, not {self.group_size}")
        if self.num_groups < 1:
            found.append("num_groups must be at least 1")
        return found

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Why it cannot learn in this world; None if it can."""
        if environment.noisy or environment.verifier is not None:
            return "self_play needs fixed labels and a verifier that never errs"
        return None

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer, length = self.optimizer.build(), environment.shape.length
        batch = self.num_groups, self.group_size
        lines = flops.ledger_lines(policy.num_active_params, 1, "policy_gradient")

        def ascent(keys: Any, state: Learning, task: Task) -> tuple[Params, Rollout, Array]:
            drawn = rollouts.draw(keys, environment, policy, state.params, task, batch)
            coins = words_of.words(keys.label, (batch[0], batch[1] // 2))
            weights = jnp.broadcast_to(verdicts(drawn.credit, coins)[..., None], drawn.credit.shape)
            way = updates.weighted_score(policy, state.params, drawn.prompt, drawn.answers, weights)
            return way, drawn, weights

        def init(keys: Any) -> Learning:
            return updates.first_state(environment, policy, optimizer, keys)

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            way, drawn, weights = ascent(keys, state, task)
            told = drawn.prompt, drawn.answers, drawn.success, self.group_size, weights
            info = updates.report(lines, *told)
            won = weights[:, ::2, 0] > 0
            info = info._replace(wins=jnp.sum(won, axis=1, dtype=float), won=won)
            return updates.ascend(optimizer, state, way, ()), info

        return Learner(
            init=init,
            step=step,
            belief=updates.belief(policy, length),
            estimate=lambda keys, state, task: ascent(keys, state, task)[0],
            moments=None,
            kind="policy_gradient",
            batch_size=batch[0] * batch[1],
            score=updates.answer_score(policy),
            ledger=lines,
            listed=policy.listed is not None,
            compares=True,
            fused=_fused(environment, policy, self, lines),
        )


def verdicts(credit: Array, coins: Array) -> Array:
    """Weights [G, B] of guesses: 1/2 won, -1/2 lost; guess 2i plays guess 2i + 1.

    `credit` [G, B, L]; `coins` [G, B / 2] words, for ties.
    """
    groups, size, _ = credit.shape
    score = jnp.mean(credit, axis=-1).reshape(groups, size // 2, 2)
    weight = _of_first(score[..., 0], score[..., 1], coins)
    return jnp.stack([weight, -weight], axis=-1).reshape(groups, size)


def _of_first(first: Array, second: Array, coins: Array) -> Array:
    """Weights of the first guesses of duels from the scores of both; arrays of one shape."""
    heads = words_of.uniform(coins) < 0.5
    won = jnp.where(first == second, heads, first > second)
    return jnp.where(won, 0.5, -0.5)


def _fused(
    environment: Environment, policy: Policy, spec: SelfPlay, lines: dict[str, int]
) -> Fused | None:
    """The update of many seeds at once; None where there is no fused path."""
    if fused.obstacle(environment, policy, by_prefix=True):
        return None
    batch = spec.num_groups, spec.group_size
    lot = Batch(environment.shape.num_prompts, *batch)

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence, told: fused.Told
    ) -> tuple[Learning, Heard]:
        asked = draws.ask(environment, lot, keys.prompt, law, task, fence)
        answers, outcome = draws.guesses(environment, lot, keys, asked, fence)
        weight = _duels(lot, outcome.credit, keys.label, fence)
        heard = Heard(
            asked.prompts,
            asked.law,
            answers,
            columns.total(fence(outcome.success)),
            jnp.zeros(asked.prompts.shape, jnp.uint32),
            won=weight > 0,
        )
        both = jnp.stack([weight, -weight], axis=2).reshape(lot.draws, 1, lot.answers, -1)
        weights = draws.rows(jnp.broadcast_to(both, outcome.credit.shape))
        if policy.by_prefix:
            made = fused.learnt((), fused.SCORE, lot, heard, weights, fence)
            gradient = fused.direction(fused.SCORE, state, lot, asked, made, fence)
            return fused.ascend(spec.optimizer, state, gradient, ()), heard
        sums = columns.gather_sums(weights, answers, law.powers.shape[1], fence.at_once)
        # The weights of a duel cancel: of the score what it takes from every symbol falls out.
        way = sums * (1 / (lot.groups * lot.size))
        gradient = fused.by_prompt(way, lot, asked, fence)
        return fused.ascend(spec.optimizer, state, gradient, ()), heard

    return Fused(
        fused.logits, step, lambda: fused.charge(lines, environment, batch, spec.group_size)
    )


def _duels(lot: Batch, credit: Array, stream: draws.Halves, fence: Fence) -> Array:
    """Weights [K, C / 2, N] of the first guesses of duels, from credit [K, L, C, N] of all."""
    num_draws, length, _, lanes = credit.shape
    score = columns.total(credit) / length
    score = score.reshape(num_draws, -1, 2, lanes)
    coins = choices.words(stream, num_draws * lot.answers // 2, 1, fence)
    weight = _of_first(score[:, :, 0], score[:, :, 1], coins.reshape(num_draws, -1, lanes))
    return fence(weight)
