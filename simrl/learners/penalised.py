"""Penalties on the policy itself beside its rewards: an entropy bonus, and KL to the start policy.

Entropy (Williams & Peng 1991): `entropy` times H(pi), nats. KL to the start (Jaques et al. 2017;
Ouyang et al. 2022): `kl_to_start` times KL(pi || pi_0) taken off. Both are of the full distribution
at every position of the answers drawn, summed over positions and averaged over answers, with what
comes before a position held as drawn: for a factorised policy these are the exact gradients at the
prompts drawn, whatever its answers. No guess enters them, so they add no noise at a given prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simrl import columns
from simrl.columns import Fence, Law
from simrl.learners.surrogates import Score
from simrl.records import readable
from simrl.types import Array, Params, Policy, Rollout, Surrogate


class Penalties(NamedTuple):
    """The coefficients; None: the term is not there, and not charged."""

    entropy: Array | float | None  # reward/nat
    kl_to_start: Array | float | None  # reward/nat

    @property
    def there(self) -> bool:
        """There is any."""
        return any(value is not None for value in self)

    def problems(self) -> list[str]:
        """What is wrong with the coefficients, one line each."""
        given = {name: value for name, value in self._asdict().items() if value is not None}
        return [
            f"{name} must not be negative, not {value}"
            for name, value in given.items()
            if value < 0
        ]

    def value(self, log_probs: Array, first: Array | None) -> Array:
        """What they add to the objective of one answer, []; both log-probabilities [L, V] nats."""
        probs, found = jnp.exp(log_probs), jnp.zeros(())
        if self.entropy is not None:
            found -= self.entropy * jnp.sum(probs * log_probs)
        if self.kl_to_start is not None and first is not None:
            found -= self.kl_to_start * jnp.sum(probs * (log_probs - first))
        return found

    def by_logits(self, log_probs: Array, first: Array | None) -> Array:
        """The gradient [L, V] of `value` by the logits, in closed form.

        dH = -pi (log pi + H) and dKL = pi (log pi - log pi_0 - KL).
        """
        found = jnp.zeros_like(log_probs)
        if self.entropy is not None:
            found -= self.entropy * _centred(log_probs, log_probs)
        if self.kl_to_start is not None and first is not None:
            found -= self.kl_to_start * _centred(log_probs, log_probs - first)
        return found

    def on_columns(self, law: Law, first: Array | None, fence: Fence) -> Array:
        """`by_logits` [L, V, N] of many seeds' laws and first logits [L, V, N], lanes last.

        pi (x - E x), in which what normalises either policy drops out.
        """
        shifted = law.logits - law.largest[:, None]
        lifted = jnp.zeros_like(shifted)
        if self.entropy is not None:
            lifted -= self.entropy * shifted
        if self.kl_to_start is not None and first is not None:
            lifted -= self.kl_to_start * (shifted - (first - columns.largest(first)[:, None]))
        probs = law.probs
        return probs * (lifted - fence(columns.total(probs * lifted))[:, None])

    def objective(self, policy: Policy, drawn: Rollout, start: Params) -> Callable:
        """params -> the mean of `value` [] over the answers drawn."""

        def of_answer(params: Params, prompt: Array, answer: Array) -> Array:
            first = None
            if self.kl_to_start is not None:
                first = policy.log_probs(start, prompt, answer)
            return self.value(policy.log_probs(params, prompt, answer), first)

        # A policy that ignores the answers is asked once a prompt.
        over_answers = jax.vmap(of_answer, (None, None, 0))
        over_prompts = jax.vmap(over_answers, (None, 0, 0))
        return lambda params: jnp.mean(over_prompts(params, drawn.prompt, drawn.answers))


def _centred(log_probs: Array, values: Array) -> Array:
    """pi times values less their mean under pi, [L, V]."""
    probs = jnp.exp(log_probs)
    return probs * (values - jnp.sum(probs * values, axis=-1, keepdims=True))


def with_penalties(surrogate: Surrogate, penalties: Penalties) -> Surrogate:
    """A surrogate of the score family whose directions also climb the penalties."""
    if not penalties.there:
        return surrogate

    def direction(
        policy: Policy, params: Params, drawn: Rollout, weights: Array, start: Params
    ) -> Params:
        rewarded = surrogate.direction(policy, params, drawn, weights, start)
        added = jax.grad(penalties.objective(policy, drawn, start))(params)
        return jax.tree.map(jnp.add, rewarded, added)

    return surrogate._replace(
        direction=direction,
        penalty=penalties.by_logits,
        penalty_on_columns=penalties.on_columns,
        anchored=penalties.kl_to_start is not None,
    )


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Penalised:
    """The weighted score, once, with an entropy bonus and a KL penalty to the start policy.

    A coefficient of None leaves its term out; one of 0 keeps it, and a sweep over it one program.

    Attributes:
        entropy: coefficient of the entropy bonus, rewards per nat.
        kl_to_start: coefficient of KL(policy || start policy), rewards per nat.
    """

    entropy: float | None = None
    kl_to_start: float | None = None

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        return Penalties(self.entropy, self.kl_to_start).problems()

    def build(self) -> Surrogate:
        """The surrogate."""
        return with_penalties(Score().build(), Penalties(self.entropy, self.kl_to_start))
