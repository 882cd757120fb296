"""What the learners that count pulls share: bandits of one choice whose arms have means to learn.

They have no parameters and no gradient: a learner is a rule from the pulls so far to the logits of
its next choice. What a network would cost is nothing; what the rule costs is counted.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import columns
from simrl.columns import Fence, Law
from simrl.learners import draws, fused, rollouts, updates
from simrl.learners.draws import Batch
from simrl.policies.tabular import Tabular
from simrl.types import Array, Environment, Fused, Heard, Info, Learner, Policy, Prior, Task

Rule = Callable[[Array, Array], Array]  # (pulls [K], their rewards [K]) -> logits [K], nats


class Pulls(NamedTuple):
    """What is remembered of an arm each, and what follows for the next choice."""

    counts: Array  # [K] float: pulls
    sums: Array  # [K] of their rewards
    logits: Array  # [K] nats: of the next choice


def obstacle(environment: Environment) -> str | None:
    """Why the arms of this world cannot be learned by counting; None if they can."""
    if environment.prior is None:
        return "needs a bandit of one context"
    return None


def prior_of(environment: Environment) -> Prior:
    """What is known of the arms beforehand."""
    assert environment.prior is not None  # see `obstacle`
    return environment.prior


def learner(
    environment: Environment, size: int, rule: Rule, on_columns: Rule, **rest: Any
) -> Learner:
    """The learner that makes `size` pulls an update by the logits of `rule`.

    `on_columns`: the same of [K, N], N lanes.
    """
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
        fused=_fused(environment, chooser, size, on_columns),
        **rest,
    )


def _fused(environment: Environment, chooser: Policy, size: int, rule: Rule) -> Fused | None:
    """The update of many seeds at once; None where there is no fused path."""
    if fused.obstacle(environment, chooser):
        return None
    lot = Batch(1, 1, size)

    def step(
        keys: Any, state: Pulls, law: Law, task: Task, fence: Fence, told: fused.Told
    ) -> tuple[Pulls, Heard]:
        asked = draws.ask(environment, lot, keys.prompt, law, task, fence)
        answers, paid = draws.guesses(environment, lot, keys, asked, fence)
        num_arms, credit = len(state.counts), fence(draws.rows(paid.credit))
        pulls = columns.gather_sums(jnp.ones_like(credit), answers, num_arms, fence.at_once)
        gains = columns.gather_sums(credit, answers, num_arms, fence.at_once)
        counts, sums = fence(state.counts + pulls[0]), fence(state.sums + gains[0])
        none = jnp.zeros(asked.prompts.shape, jnp.uint32)
        heard = Heard(asked.prompts, law, answers, columns.total(paid.success), none)
        return Pulls(counts, sums, fence(rule(counts, sums))), heard

    return Fused(
        lambda state: state.logits[None],
        step,
        lambda: fused.charge({}, environment, (1, size), size),
    )
