"""Hints from own successes: rollouts that start from the first symbols of an answer that was right.

A curriculum of starts near the goal (Florensa et al. 2017, reverse curriculum generation; Salimans
& Chen 2018, learning from a single demonstration; backplay), but without a demonstrator: the
learner is told nothing but the verdicts of its own guesses. It keeps the first answer of each
prompt that it was told is right, and before there is one its rollouts are plain. With probability
`hint` a rollout starts from the first k symbols of that answer, k uniform in 0 ... L - 1; the given
symbols are neither decoded nor learned from. They are charged like those of a prompt: 2N to prefill
them and 6N in the pass that learns from what follows, as much as a symbol that is decoded.

Updates are not unbiased for the expected reward of plain guesses: moments are left to redraws, and
what a phase counts as successes are those of hinted guesses too.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl import choices, columns
from simrl import keys as words_of
from simrl.columns import Fence, Law
from simrl.learners import curricula, draws, fused, rollouts, updates, weighing
from simrl.learners.advantages import Affine
from simrl.learners.draws import Asked, Batch
from simrl.learners.updates import Optimizer
from simrl.measures import flops
from simrl.records import readable
from simrl.types import (
    Advantage,
    Array,
    Environment,
    Fused,
    Heard,
    Info,
    Learner,
    Params,
    Policy,
    Rollout,
    State,
    Task,
)


class Replaying(NamedTuple):
    """The state: that of every gradient learner, and an answer for each prompt."""

    params: Params
    optimizer: Any
    advantage: State
    answers: Array  # [M, L] int32, means nothing where none is known
    known: Array  # [M] bool


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PrefixReplay:
    """Policy gradient of which a share of rollouts starts from the prefix of a right answer.

    Attributes:
        advantage: as of `PolicyGradient`.
        hint: probability that a rollout starts from a prefix, once a right answer is known.
        group_size: B, answers to each prompt.
        num_groups: G, prompts of an update.
        optimizer: an `Optimizer`, or its name.
    """

    advantage: Any = field(default_factory=lambda: Affine(1.0, 1.0))
    hint: float = 0.5
    group_size: int = field(default=32, metadata={"static": True})
    num_groups: int = field(default=1, metadata={"static": True})
    optimizer: Optimizer = field(default_factory=updates.reward_optimizer)

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        if not 0 <= self.hint <= 1:
            found.append(f"hint must lie in [0, 1], not {self.hint}")
        if self.group_size < 1 or self.num_groups < 1:
            return [*found, "group_size and num_groups must be at least 1"]
        return found + self.advantage.problems(self.group_size)

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Why it cannot learn in this world by a policy; None if it can."""
        if environment.noisy or not policy.tabular:
            return "prefix_replay needs fixed labels and a policy that is a table of logits"
        if not curricula.tells_success(environment):
            return "prefix_replay needs rewards that tell what is right"
        return None

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer, length = self.optimizer.build(), environment.shape.length
        batch = self.num_groups, self.group_size
        advantage = self.advantage.build(self.group_size, length)
        lines = flops.ledger_lines(policy.num_active_params, 1, "policy_gradient")

        def ascent(
            keys: Any, state: Replaying, task: Task
        ) -> tuple[Params, State, Rollout, Array, Array]:
            prompts = updates.draw_prompts(keys.prompt, environment, task, batch[0])
            words = words_of.words(keys.label, (2, *batch))
            hinted = (words_of.uniform(words[0]) < self.hint) & state.known[prompts][:, None]
            given = jnp.where(hinted, words_of.below(words[1], length), 0)
            about = environment, policy, state.params, task, batch, prompts
            drawn = rollouts.draw(keys, *about, (state.answers[prompts], given))
            kept, weights = rollouts.weigh(advantage, state.advantage, drawn)
            free = jnp.arange(length) >= given[..., None]
            weights = jnp.where(free, weights, 0)
            way = updates.weighted_score(policy, state.params, prompts, drawn.answers, weights)
            return way, kept, drawn, weights, free

        def init(keys: Any) -> Replaying:
            params = updates.first_params(environment, policy, keys)
            answers = jnp.zeros((environment.shape.num_prompts, length), jnp.int32)
            known = jnp.zeros(answers.shape[:1], bool)
            return Replaying(params, optimizer.init(params), advantage.init(), answers, known)

        def step(keys: Any, state: Replaying, task: Task) -> tuple[Replaying, Info]:
            way, kept, drawn, weights, free = ascent(keys, state, task)
            info = updates.report(
                lines, drawn.prompt, drawn.answers, drawn.success, batch[1], weights
            )
            tokens = jnp.sum(free, axis=(1, 2), dtype=jnp.uint32)
            info = info._replace(num_tokens=tokens)
            state = _remember(state, drawn, curricula.heard(environment, drawn))
            return updates.ascend(optimizer, state, way, kept), info

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
            partial="begun",
            fused=_fused(environment, policy, self, advantage, lines),
        )


def _remember(state: Replaying, drawn: Rollout, success: Array) -> Replaying:
    """With the first success [G, B] at each prompt that had none."""

    def group(kept: tuple, told: tuple) -> tuple[tuple, None]:
        (answers, known), (prompt, guesses, right) = kept, told
        new = jnp.any(right > 0) & ~known[prompt]
        answer = jnp.where(new, guesses[jnp.argmax(right)], answers[prompt])
        return (answers.at[prompt].set(answer), known.at[prompt].max(new)), None

    told = drawn.prompt, drawn.answers, success
    answers, known = jax.lax.scan(group, (state.answers, state.known), told)[0]
    return state._replace(answers=answers, known=known)


def _fused(
    environment: Environment,
    policy: Policy,
    spec: PrefixReplay,
    advantage: Advantage,
    lines: dict[str, int],
) -> Fused | None:
    """The update of many seeds at once; None where there is no fused path."""
    if fused.obstacle(environment, policy) or not advantage.trailing:
        return None
    num_prompts, length, _ = environment.shape
    batch = spec.num_groups, spec.group_size
    lot = Batch(num_prompts, *batch)
    places = np.arange(length)[:, None, None]

    def step(
        keys: Any, state: Replaying, law: Law, task: Task, fence: Fence, told: fused.Told
    ) -> tuple[Replaying, Heard]:
        asked = draws.ask(environment, lot, keys.prompt, law, task, fence)
        kept, known = _kept_at(state, asked, fence)
        words = choices.words(keys.label, 2 * lot.draws * lot.answers, 1, fence)
        words = words.reshape(2, lot.draws, lot.answers, -1)
        hinted = (words_of.uniform(words[0]) < spec.hint) & known[:, None]
        given = fence(jnp.where(hinted, words_of.below(words[1], length), 0))[:, None]
        free = given <= places  # [K, L, C, N]
        words = draws.random_words(environment, lot, keys.sample, fence)
        drawn = choices.choose(draws.rows(words), asked.law.probs, fence).reshape(free.shape)
        answers = fence(jnp.where(free, drawn, kept[:, :, None]))
        noise = draws.random_words(environment, lot, keys.reward, fence)
        outcome = draws.verdicts(environment, noise, asked.task, answers)
        found = weighing.weigh(advantage, state.advantage, lot, asked.prompts, outcome, None, fence)
        weights = fence(jnp.where(free, found.weights.reshape(free.shape), 0))
        success = fence(outcome.success)
        heard = Heard(
            asked.prompts,
            asked.law,
            draws.rows(answers),
            columns.total(success),
            weighing.dead_of(lot, weights),
            spared=columns.total(given[:, 0]).astype(jnp.uint32),
        )
        about = lot, heard, draws.rows(weights), fence
        made = fused.learnt(found.kept, fused.SCORE, *about)
        gradient = fused.direction(fused.SCORE, state, lot, asked, made, fence)
        passed = success
        if environment.verifier is not None:
            passed = fence(jnp.all(outcome.credit == 1, axis=1).astype(success.dtype))
        state = _remember_on_columns(state, asked.prompts, answers, passed > 0, fence)
        return fused.ascend(spec.optimizer, state, gradient, found.kept), heard

    return Fused(
        fused.logits,
        step,
        lambda: fused.charge(lines, environment, batch, spec.group_size),
        relief={"tokens": 1},  # of each symbol that is given
    )


def _kept_at(state: Replaying, asked: Asked, fence: Fence) -> tuple[Array, Array]:
    """The answers [K, L, N] kept at the prompts drawn, and whether [K, N] there are any."""
    if len(state.known) == 1:
        return state.answers, state.known
    known = columns.rows_at(state.known.astype(jnp.float32), asked.prompts)
    return fence(columns.rows_at(state.answers, asked.prompts)), fence(known) > 0


def _remember_on_columns(
    state: Replaying, prompts: Array, guesses: Array, right: Array, fence: Fence
) -> Replaying:
    """`_remember` of many seeds: guesses [K, L, C, N], of which some are right [K, C, N]."""
    num_prompts, num = len(state.known), right.shape[1]
    order = np.arange(num, dtype=np.float32)[:, None]
    first = fence(-columns.largest(jnp.where(right, -order, -num)))  # [K, N]; `num`: none
    mine = (order == first[:, None])[:, None]
    found = columns.total(draws.rows(jnp.where(mine, guesses, 0)))
    found = fence(found).reshape(*guesses.shape[:2], -1)  # [K, L, N]

    def group(kept: tuple, told: tuple) -> tuple[tuple, None]:
        (answers, known), (prompt, guess, succeeded) = kept, told
        at = prompt == np.arange(num_prompts, dtype=np.int32)[:, None]
        new = at & succeeded & ~known
        return (jnp.where(new[:, None], guess, answers), known | new), None

    kept, told = (state.answers, state.known), (prompts, found, first < num)
    if len(prompts) > 1:
        kept = jax.lax.scan(group, kept, told)[0]
    else:
        kept = group(kept, jax.tree.map(lambda leaf: leaf[0], told))[0]
    return state._replace(answers=kept[0], known=kept[1])
