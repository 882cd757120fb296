"""Policy gradient (REINFORCE, Williams 1992): sample, be rewarded, weigh the scores, step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import keys as words_of
from simrl.learners import curricula, fused, jumping, rollouts, updates
from simrl.learners.advantages import Affine
from simrl.learners.surrogates import Score
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops, scores, units
from simrl.types import (
    Advantage,
    Array,
    Curriculum,
    Environment,
    Info,
    Jump,
    Learner,
    Params,
    Policy,
    Rollout,
    State,
    Surrogate,
    Task,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PolicyGradient:
    """Each update: `num_groups` prompts, `group_size` answers to each, one optimiser step."""

    advantage: Any = field(default_factory=Affine)
    group_size: int = field(default=32, metadata={"static": True})
    num_groups: int = field(default=1, metadata={"static": True})
    optimizer: Optimizer = field(default_factory=Optimizer)
    surrogate: Any = field(default_factory=Score)
    curriculum: Any = field(default_factory=curricula.Uniform)

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        if self.group_size < 1 or self.num_groups < 1:
            return [*found, "group_size and num_groups must be at least 1"]
        found += self.advantage.problems(self.group_size)
        return found + self.surrogate.problems() + self.curriculum.problems()

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer = self.optimizer.build()
        length = environment.shape.length
        groups, size = batch = self.num_groups, self.group_size
        advantage = self.advantage.build(size, length)
        belief = updates.belief(policy, length)
        surrogate = self.surrogate.build()
        lines = _bill(surrogate, policy.num_active_params)
        course = _course(self.curriculum.build(environment), environment, belief, groups)

        def weighed(keys: Any, state: Learning, task: Task) -> tuple[Rollout, State, Array]:
            told = environment, policy, state.params, task, (groups, size)
            drawn = rollouts.draw(keys, *told, course.prompts(keys, state, task))
            return drawn, *rollouts.weigh(advantage, state.advantage, drawn)

        def estimate(keys: Any, state: Learning, task: Task) -> Params:
            drawn, _, weights = weighed(keys, state, task)
            way = Score().build().direction if surrogate.score else surrogate.direction
            return way(policy, state.params, drawn, weights, state.start)

        def init(keys: Any) -> Learning:
            params = updates.first_params(environment, policy, keys)
            start = params if surrogate.anchored else ()
            opt_state = optimizer.init(params)
            return Learning(params, opt_state, advantage.init(), start, course.init())

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            drawn, kept, weights = weighed(keys, state, task)
            info = updates.report(lines, drawn.prompt, drawn.answers, drawn.success, size, weights)

            def epoch(_: Array | int, state: Learning) -> Learning:
                way = surrogate.direction(policy, state.params, drawn, weights, state.start)
                return updates.ascend(optimizer, state, way, kept)

            return _repeated(epoch, surrogate.num_epochs, course.update(state, drawn)), info

        def jump(keys: Any, state: Learning, task: Task, most: Array) -> Jump:
            tables = self.advantage.tables(size)
            return jumping.jump_of(environment, policy, optimizer, tables)(keys, state, task, most)

        exact = policy.tabular and surrogate.score
        about = environment, advantage, belief, (groups, size)
        found = _moments(*about, course.law) if exact else (None, None)
        quick = fused.policy_gradient(environment, policy, advantage, self.optimizer, batch)
        return Learner(
            init=init,
            step=step,
            belief=belief,
            estimate=estimate,
            moments=found[0],
            kind="policy_gradient",
            batch_size=groups * size,
            squared_bias=found[1],
            score=updates.answer_score(policy),
            ledger=lines,
            jump=None if jumping.obstacle(environment, policy, self) else jump,
            fused=quick if surrogate.plain and course.is_uniform else None,
        )


class _Course(NamedTuple):
    """A curriculum tied to a learner's state."""

    is_uniform: bool  # the world draws the prompts
    init: Callable[[], State]
    prompts: Callable[[Any, Learning, Task], Array | None]  # None: those that the world draws
    update: Callable[[Learning, Rollout], Learning]
    law: Callable[[Learning, Task], Array | None]  # of the prompts [M]; None: uniform


def _course(
    curriculum: Curriculum | None, environment: Environment, belief: Callable, num_groups: int
) -> _Course:
    def law(state: Learning, task: Task) -> Array | None:
        return curricula.law(curriculum, environment, belief, state, task)

    if curriculum is None:
        nothing = lambda keys, state, task: None  # noqa: E731
        return _Course(True, lambda: (), nothing, lambda state, drawn: state, law)

    def prompts(keys: Any, state: Learning, task: Task) -> Array:
        memory = curricula.memory(curriculum, environment, belief, state, task)
        return curriculum.choose(memory, words_of.words(keys.prompt, (num_groups,)))

    def update(state: Learning, drawn: Rollout) -> Learning:
        success = curricula.heard(environment, drawn)
        kept = curriculum.update(state.curriculum, drawn.prompt, success)
        return state._replace(curriculum=kept)

    return _Course(False, curriculum.init, prompts, update, law)


def _bill(surrogate: Surrogate, num_params: int) -> dict[str, int]:
    """FLOPs of a token by line."""
    frozen = num_params if surrogate.anchored else 0
    epochs = surrogate.num_epochs
    return flops.ledger_lines(
        num_params, 1, "policy_gradient", num_epochs=epochs, reference_params=frozen
    )


def _repeated(epoch: Callable, num_epochs: int, state: Learning) -> Learning:
    """The state after some passes over the same guesses."""
    # An optimiser may not have what it carries in its final form before the first step.
    first = epoch(0, state)
    return first if num_epochs == 1 else jax.lax.fori_loop(1, num_epochs, epoch, first)


def _moments(
    environment: Environment,
    advantage: Advantage,
    belief: Any,
    batch: tuple[int, int],
    law_of: Callable[[Learning, Task], Array | None],
) -> tuple[Any, Any]:
    """Exact moments and squared bias where the world and the advantage have them, else None.

    An advantage with a memory sees several groups in turn, which its moments do not describe.
    """
    groups, size = batch
    channel, batch_moments = environment.channel, advantage.moments
    reward_law: Any = environment.reward_law
    verifier = environment.verifier
    binary_alone = advantage.binary_moments or verifier is not None
    continuous = binary_alone and not environment.binary
    remembers = groups > 1 and jax.tree.leaves(advantage.init())
    if batch_moments is None or remembers or continuous or (channel is None and reward_law is None):
        return None, None

    def statistics(state: Learning, task: Task, prompt: Array) -> scores.ScoreStatistics:
        probs = jnp.exp(belief(state, prompt))
        if channel is None and environment.binary:
            return scores.verdict_statistics(probs[0], reward_law(task, prompt)[0])
        if channel is None:
            return scores.bandit_statistics(probs[0], *reward_law(task, prompt))
        law = environment.target(task, prompt)
        target = law if environment.noisy else jnp.argmax(law, axis=-1)
        of_truth = scores.sequence_statistics(probs, target, channel)
        return of_truth if verifier is None else units.verified_statistics(of_truth, *verifier)

    def moments(state: Learning, task: Task) -> tuple[Array, Array]:
        def of_prompt(prompt: Array) -> tuple[Array, Array]:
            found = batch_moments(state.advantage, statistics(state, task, prompt), size)
            return found.trace_covariance, found.squared_norm

        prompts = jnp.arange(environment.shape.num_prompts)
        return updates.over_prompts(*jax.vmap(of_prompt)(prompts), groups, law_of(state, task))

    def squared_bias(state: Learning, task: Task) -> Array:
        num_prompts = environment.shape.num_prompts
        mine, given = law_of(state, task), updates.prompt_law(environment, task)
        even = jnp.ones((num_prompts,))
        if mine is not None:
            given = even / num_prompts if given is None else given
        # Of an even law the share of a prompt is taken last.
        shares = even if mine is None else mine, even if given is None else given

        def of_prompt(prompt: Array, mine: Array, given: Array) -> Array:
            one = statistics(state, task, prompt)
            found = batch_moments(state.advantage, one, size)
            return jnp.sum((mine * found.mean - given * one.mean) ** 2)

        found = jax.vmap(of_prompt)(jnp.arange(num_prompts), *shares)
        return jnp.mean(found) / num_prompts if mine is None else jnp.sum(found)

    return moments, squared_bias
