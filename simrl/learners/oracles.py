"""Advantages of an oracle: baselines that need the policy and the law of rewards, told exactly.

`minimum_variance` subtracts b* = E r|s|^2 / E|s|^2, which minimises the variance of the gradient
(Greensmith, Bartlett and Baxter 2004; Chung et al. 2021, section 3); `expected_reward` the exact
value of the policy, J = E r. A constant `offset` may be added to either (Chung et al. 2021).
What they are told of the answer is not counted as information.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from simrl.measures import gradients
from simrl.records import readable
from simrl.types import Advantage, Array, Rollout


def _minimum_variance(statistics: gradients.ScoreStatistics) -> Array:
    # A deterministic policy has no score, and any baseline does.
    live = statistics.score > 0
    ratio = statistics.cross / jnp.where(live, statistics.score, 1)
    return jnp.where(live, ratio, statistics.reward_mean)


RULES: dict[str, Callable[[gradients.ScoreStatistics], Array]] = {
    # statistics of a prompt -> baseline [U] of each credited unit
    "minimum_variance": _minimum_variance,
    "expected_reward": lambda statistics: statistics.reward_mean,
}


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Oracle:
    """Weights r - baseline - offset, with the baseline that a rule finds for each prompt.

    Attributes:
        rule: "minimum_variance" or "expected_reward".
        offset: what is added to the baseline, in units of reward.
    """

    rule: str = field(default="minimum_variance", metadata={"static": True})
    offset: float = 0.0

    oracle = True  # of the class: what a specification can be asked before it is built

    def problems(self, batch_size: int) -> list[str]:
        """What is wrong with this specification, one line each."""
        if self.rule not in RULES:
            return [f"rule must be one of {', '.join(RULES)}, not {self.rule!r}"]
        return []

    def build(self, batch_size: int, length: int) -> Advantage:
        """The advantage for groups of this size."""

        def baseline(statistics: gradients.ScoreStatistics) -> Array:
            return RULES[self.rule](statistics) + self.offset

        def weights(state: tuple, rollout: Rollout) -> tuple[tuple, Array]:
            return state, rollout.credit - baseline(rollout.statistics)

        def moments(
            state: tuple, statistics: gradients.ScoreStatistics, size: int
        ) -> gradients.Moments:
            return gradients.constant_moments(statistics, size, baseline(statistics))

        return Advantage(lambda: (), weights, moments, oracle=True, baseline=baseline)


NAMED = {rule: Oracle(rule) for rule in RULES}
