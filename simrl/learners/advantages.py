"""Advantages: how the rewards of a group become weights of its score terms.

`none`, `batch_mean` and `leave_one_out` are one affine family, (r - c * mean) * B / (B - u), with
traced c and u: one compiled program serves all three.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl.measures import gradients
from simrl.records import readable
from simrl.types import Advantage, Array, Rollout

Table = np.ndarray | Array
Times = Array | None  # how many rewards of a group are like each of those given; None: one


def tallied(init: Callable, tally: Callable, moments: Callable, **rest: Any) -> Advantage:
    """An advantage by its tally: that of rewards one by one is that of each once."""

    def weights(state: Any, rollout: Rollout) -> tuple[Any, Array]:
        return tally(state, rollout.credit, None)

    return Advantage(init, weights, moments, trailing=True, tally=tally, **rest)


def sum_of(values: Array, times: Times) -> Array:
    """[L] over a group; nothing is multiplied, and so charged, where each stands for one."""
    return jnp.sum(values if times is None else times * values, axis=0)


def differences(rewards: Array, times: Times, relative: Array | bool = True) -> Array:
    """Returns rewards [K, L] less that of one member of the group; less 0 if not `relative`.

    Differences of neighbours are exact: what a common offset would round away is still there, and
    those of a group of equal rewards are all 0. So are those of rewards that nobody was paid.
    """
    if times is None:
        return rewards - jnp.where(relative, rewards[0], 0)
    member = jnp.min(jnp.where(times > 0, rewards, jnp.inf), axis=0)
    return jnp.where(times > 0, rewards - jnp.where(relative, member, 0), 0)


def deviations(rewards: Array, times: Times, size: int) -> Array:
    """Returns B (r - mean) [K, L] of a group of B rewards: of 0 and 1 without rounding."""
    apart = differences(rewards, times)
    return size * apart - sum_of(apart, times)


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Affine:
    """Weights (r - centre * group mean) * B / (B - correction).

    none: centre 0, correction 0 (Williams 1992). batch_mean: 1, 0 (biased by -1/B: a rollout is in
    its own baseline). leave_one_out: 1, 1 (Kool et al. 2019): unbiased.

    Attributes:
        centre: share of the group's mean reward that is subtracted, 0 or 1.
        correction: u in B / (B - u).
    """

    centre: float = 0.0
    correction: float = 0.0

    def problems(self, batch_size: int) -> list[str]:
        """What is wrong with this specification, one line each."""
        if batch_size - self.correction <= 0:
            return [f"leave_one_out needs a group_size of at least 2, not {batch_size}"]
        if self.centre == 1 and batch_size == 1:
            return ["batch_mean needs a group_size of at least 2: an answer's own mean is itself"]
        return []

    def build(self, batch_size: int, length: int) -> Advantage:
        """The advantage for groups of this size."""
        scale = self._scale(batch_size)

        def tally(state: tuple, credit: Array, times: Times) -> tuple[tuple, Array]:
            # B r - c sum, not r - c mean, of which rewards of 0 or 1 lose no digit.
            apart = differences(credit, times, jnp.asarray(self.centre) == 1)
            excess = batch_size * apart - self.centre * sum_of(apart, times)
            return state, scale * excess / batch_size

        def moments(
            state: tuple, statistics: gradients.ScoreStatistics, size: int
        ) -> gradients.Moments:
            return gradients.affine_moments(statistics, size, scale, self.centre)

        return tallied(lambda: (), tally, moments)

    def tables(self, batch_size: int) -> tuple[Table, Table]:
        """Weights of a success and of a failure by the number of successes [B + 1] each."""
        # With NumPy: a spec is read, and its tables with it, before JAX may be touched.
        scale, taken = self._scale(batch_size), self.centre * np.arange(batch_size + 1)
        return scale * (batch_size - taken) / batch_size, -scale * taken / batch_size

    def _scale(self, batch_size: int) -> float:
        return batch_size / (batch_size - self.correction)


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Constant:
    """Weights r - baseline, the same number for every position.

    Attributes:
        baseline: the number that is subtracted, in units of reward.
    """

    baseline: float = 0.0

    def problems(self, batch_size: int) -> list[str]:
        """What is wrong with this specification, one line each."""
        return []

    def build(self, batch_size: int, length: int) -> Advantage:
        """The advantage for groups of this size."""

        def moments(
            state: tuple, statistics: gradients.ScoreStatistics, size: int
        ) -> gradients.Moments:
            return gradients.constant_moments(statistics, size, self.baseline)

        def tally(state: tuple, credit: Array, times: Times) -> tuple[tuple, Array]:
            return state, credit - self.baseline

        return tallied(lambda: (), tally, moments)


class Running(NamedTuple):
    """Mean reward so far at each position, and of how many rollouts."""

    mean: Array  # [L]
    num_rewards: Array  # [] float32


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RunningMean:
    """Weights r - mean of EARLIER rewards (Sutton & Barto 2018, section 2.8); the first batch,
    which has none, uses its own mean, as R_1 does at t = 1.
    """

    def problems(self, batch_size: int) -> list[str]:
        """What is wrong with this specification, one line each."""
        return []

    def build(self, batch_size: int, length: int) -> Advantage:
        """The advantage for groups of this size."""

        def init() -> Running:
            return Running(jnp.zeros((length,)), jnp.zeros(()))

        def tally(state: Running, credit: Array, times: Times) -> tuple[Running, Array]:
            own = sum_of(credit, times) / batch_size
            first = deviations(credit, times, batch_size) / batch_size
            count = state.num_rewards + batch_size
            mean = state.mean + (own - state.mean) * (batch_size / count)
            weights = jnp.where(state.num_rewards == 0, first, credit - state.mean)
            return Running(mean, count), weights

        def moments(
            state: Running, statistics: gradients.ScoreStatistics, size: int
        ) -> gradients.Moments:
            units = statistics.reward_mean.shape[0]
            later = gradients.constant_moments(statistics, size, state.mean[:units])
            first = gradients.affine_moments(statistics, size, 1.0, 1.0)
            return jax.tree.map(lambda a, b: jnp.where(state.num_rewards == 0, a, b), first, later)

        return tallied(init, tally, moments)


NAMED = {
    "none": Affine(0.0, 0.0),
    "batch_mean": Affine(1.0, 0.0),
    "leave_one_out": Affine(1.0, 1.0),
    "constant": Constant(),
    "running_mean": RunningMean(),
}
