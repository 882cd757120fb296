"""Policy gradient (REINFORCE, Williams 1992): sample, be rewarded, weigh the scores, step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from simrl.learners import fused, jumping, rollouts, updates
from simrl.learners.advantages import Affine
from simrl.learners.surrogates import Score
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops, scores, units
from simrl.types import (
    Advantage,
    Array,
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

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        if self.group_size < 1 or self.num_groups < 1:
            return [*found, "group_size and num_groups must be at least 1"]
        return found + self.advantage.problems(self.group_size) + self.surrogate.problems()

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer = self.optimizer.build()
        length = environment.shape.length
        groups, size = self.num_groups, self.group_size
        advantage = self.advantage.build(size, length)
        belief = updates.belief(policy, length)
        surrogate = self.surrogate.build()
        lines = _bill(surrogate, policy.num_active_params)

        def weighed(keys: Any, state: Learning, task: Task) -> tuple[Rollout, State, Array]:
            drawn = rollouts.draw(keys, environment, policy, state.params, task, (groups, size))
            return drawn, *rollouts.weigh(advantage, state.advantage, drawn)

        def estimate(keys: Any, state: Learning, task: Task) -> Params:
            drawn, _, weights = weighed(keys, state, task)
            way = Score().build().direction if surrogate.score else surrogate.direction
            return way(policy, state.params, drawn, weights, state.start)

        def init(keys: Any) -> Learning:
            params = updates.first_params(environment, policy, keys)
            start = params if surrogate.anchored else ()
            return Learning(params, optimizer.init(params), advantage.init(), start)

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            drawn, kept, weights = weighed(keys, state, task)
            info = updates.report(lines, drawn.prompt, drawn.answers, drawn.success, size, weights)

            def epoch(_: Array | int, state: Learning) -> Learning:
                way = surrogate.direction(policy, state.params, drawn, weights, state.start)
                return updates.ascend(optimizer, state, way, kept)

            return _repeated(epoch, surrogate.num_epochs, state), info

        def jump(keys: Any, state: Learning, task: Task, most: Array) -> Jump:
            tables = self.advantage.tables(size)
            return jumping.jump_of(environment, policy, optimizer, tables)(keys, state, task, most)

        exact = policy.tabular and surrogate.score
        found = _moments(environment, advantage, belief, (groups, size)) if exact else (None, None)
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
            listed=policy.listed is not None,
            jump=None if jumping.obstacle(environment, policy, self) else jump,
            fused=fused.policy_gradient(
                environment, policy, advantage, self.optimizer, (groups, size)
            )
            if surrogate.plain
            else None,
        )


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
    environment: Environment, advantage: Advantage, belief: Any, batch: tuple[int, int]
) -> tuple[Any, Any]:
    """Exact moments and squared bias where the world and the advantage have them, else None.

    An advantage with a memory sees several groups in turn, which its moments do not describe.
    """
    groups, size = batch
    channel, batch_moments = environment.channel, advantage.moments
    reward_law: Any = environment.reward_law
    if environment.right is not None:  # arm by arm, or not known
        channel = None
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
        return updates.over_prompts(*jax.vmap(of_prompt)(prompts), groups)

    def squared_bias(state: Learning, task: Task) -> Array:
        def of_prompt(prompt: Array) -> Array:
            one = statistics(state, task, prompt)
            found = batch_moments(state.advantage, one, size)
            return jnp.sum((found.mean - one.mean) ** 2)

        prompts = jnp.arange(environment.shape.num_prompts)
        return jnp.mean(jax.vmap(of_prompt)(prompts)) / environment.shape.num_prompts

    return moments, squared_bias
