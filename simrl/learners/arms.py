"""What the learners that count pulls share: bandits of one choice whose arms have means to learn.

They have no parameters and no gradient: a learner is a rule from the pulls so far to the logits of
its next choice. What a network would cost is nothing; what the rule costs is counted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl.learners import rollouts, updates
from simrl.policies.tabular import Tabular
from simrl.types import Array, Environment, Info, Learner, Prior, Task


class Pulls(NamedTuple):
    """What is remembered of an arm each, and what follows for the next choice."""

    counts: Array  # [K] float: pulls
    sums: Array  # [K] of their rewards
    logits: Array  # [K] nats: of the next choice


def obstacle(environment: Environment) -> str | None:
    """Why the arms of this world cannot be learned by counting; None if they can."""
    if environment.prior is None:
        return "needs a bandit of kind gaussian or bernoulli whose verifier, if any, never errs"
    return None


def prior_of(environment: Environment) -> Prior:
    """What is known of the arms beforehand."""
    assert environment.prior is not None  # see `obstacle`
    return environment.prior


def learner(
    environment: Environment, size: int, rule: Callable[[Array, Array], Array], **rest: Any
) -> Learner:
    """The learner that makes `size` pulls an update by the logits of `rule(counts, sums)`."""
    num_arms = environment.shape.vocab_size
    chooser = Tabular().build(environment.shape)

    def after(counts: Array, sums: Array) -> Pulls:
        return Pulls(counts, sums, rule(counts, sums))

    def init(keys: Any) -> Pulls:
        return after(jnp.zeros((num_arms,)), jnp.zeros((num_arms,)))

    def step(keys: Any, state: Pulls, task: Task) -> tuple[Pulls, Info]:
        logits = state.logits[None, None]
        drawn = rollouts.draw(keys, environment, chooser, logits, task, (1, size))
        pulled = drawn.answers[0, :, 0, None] == jnp.arange(num_arms)
        counts = state.counts + jnp.sum(pulled, axis=0, dtype=state.counts.dtype)
        sums = state.sums + jnp.sum(jnp.where(pulled, drawn.credit[0], 0), axis=0)
        info = updates.report({}, drawn.prompt, drawn.answers, drawn.success, size)
        return after(counts, sums), info

    def belief(state: Pulls, prompt: Array) -> Array:
        return jax.nn.log_softmax(state.logits)[None]

    return Learner(
        init=init,
        step=step,
        belief=belief,
        estimate=lambda keys, state, task: (),
        moments=None,
        kind="policy_gradient",
        batch_size=size,
        has_gradient=False,
        **rest,
    )
