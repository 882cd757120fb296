"""Advantages that look at the whole group: normalised by its rewards, or counting its successes.

`group_normalised` (GRPO, Shao et al. 2024): (r - mean)/population std; `group_normalised_sample`
with the sample std. `maxrl` r/mean, which for rewards of 0 or 1 is the plain mean over the
successes (also expert iteration, RAFT: Dong et al. 2023); `maxrl_centred` r/mean - 1. None has an
epsilon: a group whose rewards are equal (for `maxrl`: without reward) is dead, its weights are 0.
`pass_at_k` and `pass_at_k_leave_one_out` (Walder & Karkhanis 2025) climb 1 - (1 - p)^k.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from simrl.measures import gradients
from simrl.types import Advantage, Array, Rollout


def _normalised(rewards: Array, norm: float) -> Array:
    size = rewards.shape[0]
    excess = rewards - jnp.mean(rewards, axis=0)
    spread = jnp.sqrt(jnp.sum(excess**2, axis=0) / (size - norm))
    dead = _equal(rewards)
    return jnp.where(dead, 0, excess / jnp.where(dead, 1, spread))


def _over_mean(rewards: Array, centre: float) -> Array:
    mean = jnp.mean(rewards, axis=0)
    dead = (mean == 0) | (_equal(rewards) & (centre == 1))
    return jnp.where(dead, 0, rewards / jnp.where(mean == 0, 1, mean) - centre)


def _equal(rewards: Array) -> Array:
    """[L] bool, by the rewards themselves: the mean of B equal floats need not be one of them."""
    return jnp.max(rewards, axis=0) == jnp.min(rewards, axis=0)


RULES: dict[str, Callable[[Array], Array]] = {  # rewards [B, L] -> weights [B, L]
    "group_normalised": lambda rewards: _normalised(rewards, 0.0),
    "group_normalised_sample": lambda rewards: _normalised(rewards, 1.0),
    "maxrl": lambda rewards: _over_mean(rewards, 0.0),
    "maxrl_centred": lambda rewards: _over_mean(rewards, 1.0),
}
COUNTING = ("pass_at_k", "pass_at_k_leave_one_out")  # need rewards of 0 or 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Grouped:
    """Weights by a rule over the rewards of a group; `k` is read by pass@k alone."""

    rule: str = field(default="group_normalised", metadata={"static": True})
    k: int = field(default=2, metadata={"static": True})

    @property
    def binary_only(self) -> bool:
        """The rule is defined for rewards of 0 or 1 alone."""
        return self.rule in COUNTING

    def problems(self, batch_size: int) -> list[str]:
        """What is wrong with this specification, one line each."""
        if self.rule not in (*RULES, *COUNTING):
            return [f"rule must be one of {', '.join((*RULES, *COUNTING))}, not {self.rule!r}"]
        if self.rule == "group_normalised_sample" and batch_size < 2:
            return [f"{self.rule} needs a group_size of at least 2, not {batch_size}"]
        try:
            gradients.group_weights(self.rule, batch_size, self.k)
        except ValueError as error:
            return [f"advantage: {error}"]
        return []

    def build(self, batch_size: int, length: int) -> Advantage:
        """The advantage for groups of this size."""

        def by_rule(state: tuple, rollout: Rollout) -> tuple[tuple, Array]:
            return state, RULES[self.rule](rollout.credit)

        def by_count(state: tuple, rollout: Rollout) -> tuple[tuple, Array]:
            success, failure = (
                jnp.asarray(table, rollout.credit.dtype)
                for table in gradients.group_weights(self.rule, batch_size, self.k)
            )
            count = jnp.sum(rollout.credit, axis=0).astype(jnp.int32)
            return state, jnp.where(rollout.credit > 0, success[count], failure[count])

        def moments(
            state: tuple, statistics: gradients.ScoreStatistics, size: int
        ) -> gradients.Moments:
            return gradients.group_moments(statistics, size, self.rule, self.k)

        return Advantage(
            lambda: (),
            by_count if self.binary_only else by_rule,
            moments,
            binary_moments=True,
            trailing=True,
        )

    def tables(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights of a success and of a failure by the number of successes [B + 1] each."""
        return gradients.group_weights(self.rule, batch_size, self.k)


NAMED = {rule: Grouped(rule) for rule in (*RULES, *COUNTING)}
