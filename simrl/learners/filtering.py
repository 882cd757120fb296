"""Dynamic sampling (DAPO, Yu et al. 2025, arXiv:2503.14476, section 3.2): dead groups are replaced.

A group whose rewards are all equal (of a binary reward: probability p^B + (1 - p)^B) is discarded
and another one drawn, until `num_groups` live ones are there or `max_groups` have been drawn. The
gradient is the mean over the live groups, 0 if there is none: of one prompt on average that of a
group given that it is live, times the chance that one is. That is no longer the gradient of the
expected reward, so its moments are left to redraws.

Discarded rollouts are charged their decoding, live ones all of it. An update is computed as if
`max_groups` were drawn, and those after the last that was needed are forgotten.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import columns, columnwise
from simrl.columns import Fence, Law
from simrl.learners import draws, fused, rollouts, updates, weighing
from simrl.learners.advantages import Affine
from simrl.learners.draws import Asked, Batch
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops, phases
from simrl.records import readable
from simrl.types import (
    Advantage,
    Array,
    Environment,
    Fused,
    Heard,
    Info,
    Learner,
    Outcome,
    Params,
    Policy,
    Rollout,
    State,
    Task,
)


class _Sieve(NamedTuple):
    """Which of the groups [G] an update has drawn, and which of them it learns from."""

    drawn: Array  # [G] bool
    kept: Array  # [G] bool


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FilteredPolicyGradient:
    """Each update: groups of `group_size` answers until `num_groups` of them differ in reward.

    Attributes:
        advantage: as of `PolicyGradient`.
        group_size: B, answers to each prompt.
        num_groups: G, groups with a gradient that an update waits for.
        max_groups: groups sampled in an update at most.
        optimizer: an `Optimizer`, or its name.
    """

    advantage: Any = field(default_factory=lambda: Affine(1.0, 1.0))
    group_size: int = field(default=32, metadata={"static": True})
    num_groups: int = field(default=1, metadata={"static": True})
    max_groups: int = field(default=4, metadata={"static": True})
    optimizer: Optimizer = field(default_factory=updates.reward_optimizer)

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        if self.group_size < 2:
            return [
                *found,
                "group_size must be at least 2: the rewards of one answer are all equal",
            ]
        if not 1 <= self.num_groups <= self.max_groups:
            return [*found, "num_groups must be at least 1, and max_groups at least num_groups"]
        return found + self.advantage.problems(self.group_size)

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer, length = self.optimizer.build(), environment.shape.length
        size, batch = self.group_size, (self.max_groups, self.group_size)
        advantage = self.advantage.build(size, length)
        lines = flops.ledger_lines(policy.num_active_params, 1, "policy_gradient")

        def ascent(keys: Any, state: Learning, task: Task) -> tuple[Params, State, Rollout, _Sieve]:
            drawn = rollouts.draw(keys, environment, policy, state.params, task, batch)
            sieve = _sieve(drawn, self.num_groups)
            kept, weights = _weigh(advantage, state.advantage, drawn, sieve)
            # A mean over the groups kept, written as one over all that were computed.
            share = self.max_groups / jnp.maximum(jnp.sum(sieve.kept), 1)
            way = updates.weighted_score(
                policy, state.params, drawn.prompt, drawn.answers, share * weights
            )
            return way, kept, drawn, sieve

        def init(keys: Any) -> Learning:
            return updates.first_state(environment, policy, optimizer, keys, advantage.init())

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            way, kept, drawn, sieve = ascent(keys, state, task)
            return updates.ascend(optimizer, state, way, kept), _info(lines, drawn, sieve)

        return Learner(
            init=init,
            step=step,
            belief=updates.belief(policy, length),
            estimate=lambda keys, state, task: ascent(keys, state, task)[0],
            moments=None,
            kind="policy_gradient",
            batch_size=self.num_groups * size,
            score=updates.answer_score(policy),
            ledger=lines,
            listed=policy.listed is not None,
            discards=True,
            fused=_fused(environment, policy, self, advantage, lines),
        )


def _sieve(drawn: Rollout, num_groups: int) -> _Sieve:
    """A group is live if the rewards of some position differ."""
    highest, lowest = jnp.max(drawn.credit, axis=1), jnp.min(drawn.credit, axis=1)
    return _sift(jnp.any(highest != lowest, axis=-1), num_groups)


def _sift(live: Array, num_groups: int) -> _Sieve:
    """Groups [G] up to the last that is needed."""
    before = jnp.cumsum(live) - live
    asked = before < num_groups
    return _Sieve(asked, asked & live)


def _weigh(
    advantage: Advantage, state: State, drawn: Rollout, sieve: _Sieve
) -> tuple[State, Array]:
    """Weights [G, B, L], 0 of what is not kept, which a memory does not see."""

    def group(state: State, given: tuple[Rollout, Array]) -> tuple[State, Array]:
        rollout, kept = given
        after, weights = advantage.weights(state, rollout)
        after = jax.tree.map(lambda new, old: jnp.where(kept, new, old), after, state)
        return after, jnp.where(kept, weights, 0)

    return jax.lax.scan(group, state, (drawn, sieve.kept))


def _info(lines: dict[str, int], drawn: Rollout, sieve: _Sieve) -> Info:
    size = drawn.answers.shape[1]
    whole = updates.report(lines, drawn.prompt, drawn.answers, drawn.success, size)
    decoded = jnp.asarray(phases.words_of(lines["decode"] * size * drawn.answers.shape[2]))
    charge = jnp.where(sieve.kept[:, None], whole.flops, decoded)
    discarded = sieve.drawn & ~sieve.kept
    return whole._replace(
        prompts=jnp.where(sieve.drawn, drawn.prompt, -1),
        num_samples=jnp.where(sieve.drawn, whole.num_samples, 0),
        num_tokens=jnp.where(sieve.drawn, whole.num_tokens, 0),
        flops=jnp.where(sieve.drawn[:, None], charge, 0),
        dead=size * discarded.astype(jnp.uint32),
    )


def _fused(
    environment: Environment,
    policy: Policy,
    spec: FilteredPolicyGradient,
    advantage: Advantage,
    lines: dict[str, int],
) -> Fused | None:
    """The update of many seeds at once; None where there is no fused path."""
    if fused.obstacle(environment, policy, by_prefix=True) or not advantage.trailing:
        return None
    batch = spec.max_groups, spec.group_size
    lot = Batch(environment.shape.num_prompts, *batch)

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence, told: fused.Told
    ) -> tuple[Learning, Heard]:
        asked = draws.ask(environment, lot, keys.prompt, law, task, fence)
        answers, verdict = draws.guesses(environment, lot, keys, asked, fence)
        sieve = _sieve_on_columns(lot, verdict.credit, spec.num_groups, fence)
        about = lot, asked.prompts, verdict, None, fence, sieve.kept
        found = weighing.weigh(advantage, state.advantage, *about)
        num_kept = columns.total(sieve.kept[None].astype(jnp.float32))
        share = fence(spec.max_groups / jnp.maximum(num_kept, 1))
        heard = _heard(lot, asked, answers, verdict, sieve)
        # Weights belong to the answers as they were drawn.
        drawn = heard._replace(answers=answers)
        made = fused.learnt(found.kept, fused.SCORE, lot, drawn, share * found.weights, fence)
        gradient = fused.direction(fused.SCORE, state, lot, asked, made, fence)
        return fused.ascend(spec.optimizer, state, gradient, made.kept), heard

    # Of a trajectory that is discarded all but its decoding.
    relief = (sum(lines.values()) - lines["decode"]) * environment.shape.length
    return Fused(
        fused.logits,
        step,
        lambda: fused.charge(lines, environment, batch, spec.group_size),
        relief={"flops": relief},
    )


def _sieve_on_columns(lot: Batch, credit: Array, num_groups: int, fence: Fence) -> _Sieve:
    """`_sieve` [G, N] of many seeds, from credit [K, L, C, N]."""
    groups = credit.reshape(*credit.shape[:2], -1, lot.size, credit.shape[-1])
    differ = jnp.any(groups != groups[:, :, :, :1], axis=(1, 3)).reshape(lot.groups, -1)
    live = fence(differ.astype(jnp.float32)) > 0
    sieve = columnwise.over_lanes(lambda live: _sift(live, num_groups))(live)
    return _Sieve(*(fence(part.astype(jnp.float32)) > 0 for part in sieve))


def _heard(lot: Batch, asked: Asked, answers: Array, verdict: Outcome, sieve: _Sieve) -> Heard:
    """What was drawn after all, of guesses [K L, C, N] at all groups."""
    drawn, kept = (part.reshape(lot.draws, -1, part.shape[-1]) for part in sieve)
    wide = (*drawn.shape[:2], lot.size, drawn.shape[-1])
    mine = jnp.broadcast_to(drawn[:, :, None], wide).reshape(verdict.success.shape)
    prompts = asked.prompts
    if lot.num_prompts == 1:
        answers = jnp.where(mine, answers, answers[:, :1])
    else:
        prompts = jnp.where(drawn[:, 0], prompts, -1)
    dead = lot.size * columns.total((drawn & ~kept).astype(jnp.uint32))
    return Heard(
        prompts,
        asked.law,
        answers,
        columns.total(jnp.where(mine, verdict.success, 0)),
        dead,
        drawn=columns.total(drawn.astype(jnp.uint32)),
        spared=dead,
    )
