"""Advantages that look at the whole group: normalised by its rewards, or counting its successes.

`group_normalised` (GRPO, Shao et al. 2024): (r - mean)/population std; `group_normalised_sample`
with the sample std. `maxrl` r/mean, which for rewards of 0 or 1 is the plain mean over the
successes (also expert iteration, RAFT: Dong et al. 2023); `maxrl_centred` r/mean - 1. None has an
epsilon: a group whose rewards are equal (for `maxrl`: without reward) is dead, its weights are 0.
`pass_at_k` and `pass_at_k_leave_one_out` (Walder & Karkhanis 2025) climb 1 - (1 - p)^k.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from simrl.learners.advantages import Times, deviations, differences, sum_of, tallied
from simrl.measures import gradients
from simrl.records import readable
from simrl.types import Advantage, Array


def _normalised(rewards: Array, times: Times, size: int, norm: float) -> Array:
    # In units of the largest difference, whose squares neither overflow nor vanish.
    apart = differences(rewards, times)
    largest = jnp.max(jnp.abs(apart), axis=0)
    dead = largest == 0
    scaled = apart / jnp.where(dead, 1, largest)
    excess = size * scaled - sum_of(scaled, times)
    spread = jnp.sqrt(sum_of(excess**2, times) / (size - norm))
    return jnp.where(dead, 0, excess / jnp.where(dead, 1, spread))


def _over_mean(rewards: Array, times: Times, size: int, centre: float) -> Array:
    total = sum_of(rewards, times)
    above = deviations(rewards, times, size) if centre else size * rewards
    return jnp.where(total == 0, 0, above / jnp.where(total == 0, 1, total))


RULES: dict[str, Callable[[Array, Times, int], Array]] = {
    # (rewards [K, L], how many of each, B of all) -> weights [K, L]
    "group_normalised": partial(_normalised, norm=0.0),
    "group_normalised_sample": partial(_normalised, norm=1.0),
    "maxrl": partial(_over_mean, centre=0.0),
    "maxrl_centred": partial(_over_mean, centre=1.0),
}
COMPARING = ("group_normalised", "group_normalised_sample", "maxrl_centred")
# with each other: one answer alone never has a weight
COUNTING = ("pass_at_k", "pass_at_k_leave_one_out")  # need rewards of 0 or 1


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Grouped:
    """Weights by a rule over the rewards of a group; `k` is read by pass@k alone.

    Attributes:
        rule: "group_normalised", "group_normalised_sample", "maxrl", "maxrl_centred", "pass_at_k"
            or "pass_at_k_leave_one_out".
        k: answers of which one must be right, for pass@k alone.
    """

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
        if self.rule in COMPARING and batch_size < 2:
            return [f"{self.rule} needs a group_size of at least 2, not {batch_size}"]
        try:
            gradients.group_weights(self.rule, batch_size, self.k)
        except ValueError as error:
            return [f"advantage: {error}"]
        return []

    def build(self, batch_size: int, length: int) -> Advantage:
        """The advantage for groups of this size."""

        def by_rule(state: tuple, credit: Array, times: Times) -> tuple[tuple, Array]:
            return state, RULES[self.rule](credit, times, batch_size)

        def by_count(state: tuple, credit: Array, times: Times) -> tuple[tuple, Array]:
            success, failure = (
                jnp.asarray(table, credit.dtype)
                for table in gradients.group_weights(self.rule, batch_size, self.k)
            )
            count = sum_of(credit, times).astype(jnp.int32)
            return state, jnp.where(credit > 0, success[count], failure[count])

        def moments(
            state: tuple, statistics: gradients.ScoreStatistics, size: int
        ) -> gradients.Moments:
            return gradients.group_moments(statistics, size, self.rule, self.k)

        tally = by_count if self.binary_only else by_rule
        return tallied(lambda: (), tally, moments, binary_moments=True)

    def tables(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights of a success and of a failure by the number of successes [B + 1] each."""
        return gradients.group_weights(self.rule, batch_size, self.k)


NAMED = {rule: Grouped(rule) for rule in (*RULES, *COUNTING)}
