"""Surrogates: the directions in which an update follows its weighted guesses.

`score` is the score function (REINFORCE, Williams 1992). `natural` premultiplies it by the inverse
of the exact Fisher information of a table (Kakade 2001): a guess moves its own logit by its weight
over its probability (Chung et al. 2021, section 2).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from simrl import columns
from simrl.columns import Fence, Law
from simrl.learners import updates
from simrl.records import readable
from simrl.types import Array, Params, Policy, Rollout, Surrogate


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Score:
    """The weighted score, once."""

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        return []

    def build(self) -> Surrogate:
        """The surrogate."""

        def direction(
            policy: Policy, params: Params, drawn: Rollout, weights: Array, start: Params
        ) -> Params:
            return updates.weighted_score(policy, params, drawn.prompt, drawn.answers, weights)

        def on_columns(
            law: Law, sums: Array, total: Array, num_prompts: int, fence: Fence
        ) -> Array:
            return sums - law.probs * total[:, None]

        return Surrogate(direction, score=True, on_columns=on_columns)


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Natural:
    """The natural gradient of a table of logits, with the inverse of its exact Fisher information.

    Every prompt and position has a Fisher matrix diag(pi) - pi pi^T of its own, by which a score
    e_y - pi becomes e_y / pi_y, less the mean over symbols, that changes no probability (the
    pseudo-inverse). Prompts are drawn uniformly: 1/M of the gradient and of the Fisher matrix.
    """

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        return []

    def build(self) -> Surrogate:
        """The surrogate."""

        def direction(
            policy: Policy, params: Array, drawn: Rollout, weights: Array, start: Params
        ) -> Array:
            num_groups, size, length = weights.shape
            share = weights * jnp.exp(-drawn.log_prob) / (num_groups * size)
            at = drawn.prompt[:, None, None], jnp.arange(length), drawn.answers
            sums = params.shape[0] * jnp.zeros_like(params).at[at].add(share)
            return sums - jnp.mean(sums, axis=-1, keepdims=True)

        def on_columns(
            law: Law, sums: Array, total: Array, num_prompts: int, fence: Fence
        ) -> Array:
            # What is so unlikely that its power is 0 was not guessed.
            live = law.powers > 0
            moves = jnp.where(live, sums * (law.total[:, None] / jnp.where(live, law.powers, 1)), 0)
            mean = fence(columns.total(moves) / moves.shape[1])
            return num_prompts * (moves - mean[:, None])

        return Surrogate(direction, score=True, tabular=True, on_columns=on_columns)


NAMED = {"score": Score(), "natural": Natural()}
