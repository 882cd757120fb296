"""Supervised learning: cross-entropy on labels that the world gives for a prompt."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from simrl.learners import fused, updates
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops, gradients
from simrl.records import readable
from simrl.types import Array, Environment, Info, Learner, Params, Policy, Task


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Supervised:
    """Each update: `num_groups` prompts, `batch_size` labels to each.

    In a world with fixed labels a batch of 1 wastes nothing: repeats of a label teach nothing new.

    `smoothing` epsilon makes (1 - epsilon) e_y + epsilon / V of a label y the target (Szegedy et
    al. 2016, section 7): the mean of the gradient is that towards smoothed labels, its noise is
    (1 - epsilon)^2 of what it was. None: not there; what is told is one label all the same.

    Attributes:
        batch_size: B, labels to each prompt.
        num_groups: G, prompts of an update.
        optimizer: an `Optimizer`, or its name; SGD at rate 1.
        smoothing: epsilon in [0, 1), the share of a label that is spread over all symbols.
    """

    batch_size: int = field(default=1, metadata={"static": True})
    num_groups: int = field(default=1, metadata={"static": True})
    optimizer: Optimizer = field(default_factory=Optimizer)
    smoothing: float | None = None

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        if self.batch_size < 1 or self.num_groups < 1:
            found.append("batch_size and num_groups must be at least 1")
        if self.smoothing is not None and not 0 <= self.smoothing < 1:
            found.append(f"smoothing must be at least 0 and less than 1, not {self.smoothing}")
        return found

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Why it cannot learn in this world; None if it can."""
        several = environment.right is not None
        return "supervised needs labels of one right answer" if several else None

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
            if self.smoothing is not None:
                even = _even_score(policy, state.params, prompts, labels)
                grad = jax.tree.map(partial(_mixed, self.smoothing), grad, even)
            return grad, prompts, labels

        def init(keys: Any) -> Learning:
            return updates.first_state(environment, policy, optimizer, keys)

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            grad, prompts, labels = gradient(keys, state, task)
            right = jnp.ones((groups, size))
            info = updates.report(lines, prompts, labels, right, samples=size * length)
            return updates.ascend(optimizer, state, grad, ()), info

        def moments(state: Learning, task: Task) -> tuple[Array, Array]:
            def of_prompt(prompt: Array) -> tuple[Array, Array]:
                probs = jnp.exp(belief(state, prompt))
                law = environment.target(task, prompt)
                trace, norm = _one_label(probs, law, self.smoothing)
                return trace / size, norm

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
            listed=policy.listed is not None,
            fused=fused.supervised(
                environment, policy, self.optimizer, (groups, size), self.smoothing
            ),
        )


def _one_label(probs: Array, law: Array, smoothing: Array | float | None) -> tuple[Array, Array]:
    """Trace of covariance and squared mean of the gradient of one label, smoothed."""
    one = gradients.supervised_moments(probs, law)
    if smoothing is None:
        return one.trace_covariance, one.squared_norm
    toward = gradients.supervised_moments(probs, _mixed(smoothing, law, 1 / law.shape[-1]))
    return (1 - smoothing) ** 2 * one.trace_covariance, toward.squared_norm


def _even_score(policy: Policy, params: Params, prompts: Array, labels: Array) -> Params:
    """Gradient of the log-likelihood of a symbol drawn evenly at each position of a label."""

    def objective(params: Params) -> Array:
        def mean(prompt: Array, label: Array) -> Array:
            return jnp.sum(jnp.mean(policy.log_probs(params, prompt, label), axis=-1))

        over_labels = jax.vmap(mean, (None, 0))
        return jnp.mean(jax.vmap(over_labels)(prompts, labels))

    return jax.grad(objective)(params)


def _mixed(share: Array | float, most: Array, rest: Array | float) -> Array:
    return (1 - share) * most + share * rest
