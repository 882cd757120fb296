"""Policy gradient (REINFORCE, Williams 1992): sample, be rewarded, weigh the scores, step."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from simrl.learners import fused, jumping, updates
from simrl.learners.advantages import Affine
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops, scores, units
from simrl.types import (
    Advantage,
    Array,
    Environment,
    Info,
    Jump,
    Learner,
    Outcome,
    Params,
    Policy,
    Rollout,
    State,
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

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        if self.group_size < 1 or self.num_groups < 1:
            return [*found, "group_size and num_groups must be at least 1"]
        return found + self.advantage.problems(self.group_size)

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer = self.optimizer.build()
        length = environment.shape.length
        groups, size = self.num_groups, self.group_size
        advantage = self.advantage.build(size, length)
        belief = updates.belief(policy, length)

        def gradient(
            keys: Any, state: Learning, task: Task
        ) -> tuple[Params, State, Rollout, Array]:
            rollouts = _draw(keys, environment, policy, state.params, task, (groups, size))
            kept, weights = _weigh(advantage, state.advantage, rollouts)
            grad = updates.weighted_score(
                policy, state.params, rollouts.prompt, rollouts.answers, weights
            )
            return grad, kept, rollouts, weights

        def init(keys: Any) -> Learning:
            params = policy.init(keys.start)
            return Learning(params, optimizer.init(params), advantage.init())

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            grad, kept, rollouts, weights = gradient(keys, state, task)
            info = updates.report(
                "policy_gradient",
                policy,
                rollouts.prompt,
                rollouts.answers,
                rollouts.success,
                samples=size,
                weights=weights,
            )
            return updates.ascend(optimizer, state, grad, kept), info

        def jump(keys: Any, state: Learning, task: Task, most: Array) -> Jump:
            tables = self.advantage.tables(size)
            return jumping.jump_of(environment, policy, optimizer, tables)(keys, state, task, most)

        moments, squared_bias = (
            _moments(environment, advantage, belief, (groups, size))
            if policy.tabular
            else (None, None)
        )
        return Learner(
            init=init,
            step=step,
            belief=belief,
            estimate=lambda keys, state, task: gradient(keys, state, task)[0],
            moments=moments,
            kind="policy_gradient",
            batch_size=groups * size,
            squared_bias=squared_bias,
            score=updates.answer_score(policy),
            ledger=flops.ledger_lines(policy.num_active_params, 1, "policy_gradient"),
            jump=None if jumping.obstacle(environment, policy, self) else jump,
            fused=fused.policy_gradient(
                environment, policy, advantage, self.optimizer, (groups, size)
            ),
        )


def _draw(
    keys: Any,
    environment: Environment,
    policy: Policy,
    params: Params,
    task: Task,
    batch: tuple[int, int],
) -> Rollout:
    """Rollouts of G groups of B answers: every field of the Rollout with a leading axis [G]."""
    groups, size = batch
    length = environment.shape.length
    prompts = updates.draw_prompts(keys.prompt, environment, task, groups)
    sample_words = updates.group_words(keys.sample, groups, size, length)
    reward_words = updates.group_words(keys.reward, groups, size, length)

    def verdict(words: Array, task: Task, prompt: Array, answer: Array) -> Outcome:
        # An own world may pay one number for the whole answer, or whole numbers.
        told = environment.reward(words, task, prompt, answer)
        paid = jnp.asarray(told.credit, float)
        return Outcome(jnp.broadcast_to(paid, (length,)), jnp.asarray(told.success, float))

    def group(prompt: Array, words: Array, noise: Array) -> Rollout:
        answers = jax.vmap(policy.sample, (0, None, None))(words, params, prompt)
        outcome = jax.vmap(verdict, (0, None, None, 0))(noise, task, prompt, answers)
        log_prob = jax.vmap(policy.log_prob, (None, None, 0))(params, prompt, answers)
        return Rollout(prompt, answers, outcome.credit, outcome.success, log_prob)

    return jax.vmap(group)(prompts, sample_words, reward_words)


def _weigh(advantage: Advantage, state: State, rollouts: Rollout) -> tuple[State, Array]:
    """Weights [G, B, L]; an advantage with a memory sees the groups one after the other."""
    if not jax.tree.leaves(state):
        return state, jax.vmap(lambda rollout: advantage.weights(state, rollout)[1])(rollouts)
    return jax.lax.scan(advantage.weights, state, rollouts)


def _moments(
    environment: Environment, advantage: Advantage, belief: Any, batch: tuple[int, int]
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
        return updates.over_prompts(*jax.vmap(of_prompt)(prompts), groups)

    def squared_bias(state: Learning, task: Task) -> Array:
        def of_prompt(prompt: Array) -> Array:
            one = statistics(state, task, prompt)
            found = batch_moments(state.advantage, one, size)
            return jnp.sum((found.mean - one.mean) ** 2)

        prompts = jnp.arange(environment.shape.num_prompts)
        return jnp.mean(jax.vmap(of_prompt)(prompts)) / environment.shape.num_prompts

    return moments, squared_bias
