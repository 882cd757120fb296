"""Advantages of an oracle: baselines that need the policy and the law of rewards, told exactly.

`minimum_variance` subtracts the constant that minimises the variance of the estimator that an
update follows. For the score function s that is E r|s|^2 / E|s|^2 (Greensmith, Bartlett and Baxter
2004), also in the first epoch of PPO and with penalties, which add no variance; for the natural
gradient sum (r / pi) / sum (1 / pi). `score_minimum_variance` is the first of these whatever the
surrogate, `natural_minimum_variance` the second, and `expected_reward` the exact value of the
policy, J = E r. A constant `offset` may be added to each (Chung et al. 2021).
What they are told of the answer is not counted as information.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp

from simrl.learners.surrogates import Natural
from simrl.measures import gradients
from simrl.records import readable
from simrl.types import Advantage, Array, Rollout


def _minimum_variance(statistics: gradients.ScoreStatistics) -> Array:
    # A deterministic policy has no score, and any baseline does.
    live = statistics.score > 0
    ratio = statistics.cross / jnp.where(live, statistics.score, 1)
    return jnp.where(live, ratio, statistics.reward_mean)


NATURAL = "natural_minimum_variance"
RULES: dict[str, Callable[[gradients.ScoreStatistics], Array]] = {
    # statistics of a prompt -> baseline [U] of each credited unit
    "minimum_variance": _minimum_variance,  # see `serving`
    "score_minimum_variance": _minimum_variance,
    NATURAL: lambda statistics: jnp.asarray(statistics.natural_baseline),
    "expected_reward": lambda statistics: statistics.reward_mean,
}


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Oracle:
    """Weights r - baseline - offset, with the baseline that a rule finds for each prompt.

    Attributes:
        rule: "minimum_variance", "score_minimum_variance", "natural_minimum_variance" or
            "expected_reward".
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


def serving(advantage: Any, surrogate: Any) -> Any:
    """Returns the advantage, with the rule of least variance of the surrogate's estimator."""
    least = isinstance(advantage, Oracle) and advantage.rule == "minimum_variance"
    return (
        replace(advantage, rule=NATURAL) if least and isinstance(surrogate, Natural) else advantage
    )


NAMED = {rule: Oracle(rule) for rule in RULES}
