"""Exact gradient: every update climbs the gradient of the expected reward itself, without a sample.

What the theory of policy gradient's dynamics is about (Mei et al. 2020; THEORY.md, section 4). It
is told the mean reward of every arm at every update, and is charged a sample, a token and a forward
and backward pass for each of them; a bandit's alone, since no column of the table of information
speaks of what that tells.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simrl.columns import Fence, Law
from simrl.learners import draws, exact, fused, updates
from simrl.learners.draws import Asked, Batch
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops
from simrl.records import readable
from simrl.types import Array, Environment, Fused, Heard, Info, Learner, Policy, Task


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ExactGradient:
    """Each update: one optimiser step along the exact gradient of the mean over contexts of J.

    Attributes:
        optimizer: an `Optimizer`, or its name.
    """

    optimizer: Optimizer = field(default_factory=updates.reward_optimizer)

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        return self.optimizer.problems()

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Why this cannot learn in a world by a policy; None if it can."""
        untold = environment.channel is None and policy.tabular
        if untold and exact.statistics(environment, updates.belief(policy, 1)) is not None:
            return None
        return "exact_gradient needs a tabular policy and a bandit whose rewards have a law"

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer = self.optimizer.build()
        num_prompts, length, num_arms = environment.shape
        belief = updates.belief(policy, length)
        statistics = exact.required(
            exact.statistics(environment, belief) if policy.tabular else None
        )
        lines = flops.ledger_lines(policy.num_active_params, 1, "supervised")
        prompts: Any = np.arange(num_prompts, dtype=np.int32)

        def gradient(keys: Any, state: Learning, task: Task) -> Array:
            means = jax.vmap(lambda prompt: statistics(state, task, prompt).mean)(prompts)
            return means.reshape(num_prompts, length, num_arms) / num_prompts

        def init(keys: Any) -> Learning:
            return updates.first_state(environment, policy, optimizer, keys)

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            nothing = jnp.zeros((num_prompts, num_arms, length), jnp.int32)
            right = jnp.zeros((num_prompts, num_arms))
            info = updates.report(lines, prompts, nothing, right, samples=num_arms)
            return updates.ascend(optimizer, state, gradient(keys, state, task), ()), info

        def moments(state: Learning, task: Task) -> tuple[Array, Array]:
            found = gradient(None, state, task)
            return jnp.zeros(()), jnp.sum(found**2)

        return Learner(
            init=init,
            step=step,
            belief=belief,
            estimate=gradient,
            moments=moments,
            kind="policy_gradient",
            batch_size=num_prompts * num_arms,
            squared_bias=lambda state, task: jnp.zeros(()),
            score=updates.answer_score(policy),
            ledger=lines,
            draws=False,
            fused=_fused(environment, policy, self.optimizer),
        )


def _fused(environment: Environment, policy: Policy, optimizer: Optimizer) -> Fused | None:
    """The update of many seeds at once; None where there is no fused path."""
    of_probs, (num_prompts, length, num_arms) = exact.by_law(environment), environment.shape
    if fused.obstacle(environment, policy) or of_probs is None:
        return None
    batch = num_prompts, num_arms
    lot = Batch(num_prompts, *batch)

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence, told: fused.Told
    ) -> tuple[Learning, Heard]:
        lanes = law.total.shape[-1]
        prompts = jnp.arange(num_prompts, dtype=jnp.int32)
        every = jnp.broadcast_to(prompts[:, None], (num_prompts, lanes))
        asked = Asked(every, law, draws.of_every(num_prompts, task))
        gradient = fence(fused.told_each(told, lot, asked)) / num_prompts
        nothing = jnp.zeros(every.shape, jnp.uint32)
        arms = jnp.zeros((num_prompts * length, num_arms, lanes), jnp.int32)
        heard = Heard(every, law, arms, nothing.astype(gradient.dtype), nothing)
        return fused.ascend(optimizer, state, gradient, ()), heard

    lines = flops.ledger_lines(policy.num_active_params, 1, "supervised")
    return Fused(
        fused.logits,
        step,
        lambda: fused.charge(lines, environment, batch, num_arms),
        lambda probs, task, prompt: of_probs(probs, task, prompt).mean,
    )
