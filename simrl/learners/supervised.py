"""Supervised learning: cross-entropy on labels that the world gives for a prompt."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from simrl.learners import fused, updates
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops, gradients
from simrl.types import Array, Environment, Info, Learner, Params, Policy, Task


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Supervised:
    """Each update: `num_groups` prompts, `batch_size` labels to each.

    In a world with fixed labels a batch of 1 wastes nothing: repeats of a label teach nothing new.
    """

    batch_size: int = field(default=1, metadata={"static": True})
    num_groups: int = field(default=1, metadata={"static": True})
    optimizer: Optimizer = field(default_factory=Optimizer)

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        if self.batch_size < 1 or self.num_groups < 1:
            found.append("batch_size and num_groups must be at least 1")
        return found

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer = self.optimizer.build()
        num_prompts, length, _ = environment.shape
        groups, size = self.num_groups, self.batch_size
        belief = updates.belief(policy, length)
        lines = flops.ledger_lines(policy.num_active_params, 1, "supervised")

        def draw(keys: Any, task: Task) -> tuple[Array, Array]:
            prompts = updates.draw_prompts(keys.prompt, environment, task, groups)
            words = updates.group_words(keys.label, groups, size, length)
            over_labels = jax.vmap(environment.label, (0, None, None))
            return prompts, jax.vmap(over_labels, (0, None, 0))(words, task, prompts)

        def gradient(keys: Any, state: Learning, task: Task) -> tuple[Params, Array, Array]:
            prompts, labels = draw(keys, task)
            ones = jnp.ones(labels.shape)
            grad = updates.weighted_score(policy, state.params, prompts, labels, ones)
            return grad, prompts, labels

        def init(keys: Any) -> Learning:
            params = updates.first_params(environment, policy, keys)
            return Learning(params, optimizer.init(params), ())

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            grad, prompts, labels = gradient(keys, state, task)
            right = jnp.ones((groups, size))
            info = updates.report(lines, prompts, labels, right, samples=size * length)
            return updates.ascend(optimizer, state, grad, ()), info

        def moments(state: Learning, task: Task) -> tuple[Array, Array]:
            def of_prompt(prompt: Array) -> tuple[Array, Array]:
                probs = jnp.exp(belief(state, prompt))
                one = gradients.supervised_moments(probs, environment.target(task, prompt))
                return one.trace_covariance / size, one.squared_norm

            law = updates.prompt_law(environment, task)
            return updates.over_prompts(*jax.vmap(of_prompt)(jnp.arange(num_prompts)), groups, law)

        return Learner(
            init=init,
            step=step,
            belief=belief,
            estimate=lambda keys, state, task: gradient(keys, state, task)[0],
            moments=moments if policy.tabular else None,
            kind="supervised",
            batch_size=groups * size,
            score=updates.answer_score(policy),
            ledger=lines,
            fused=fused.supervised(environment, policy, self.optimizer, (groups, size)),
        )
