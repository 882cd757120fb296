"""The ten-armed testbed by hand: NumPy, float64, its own random numbers, pulls that are counted.

Sutton & Barto (2018), section 2.8, written from the book's text: preferences H, a softmax over
them, and the baseline the mean of earlier rewards (of R_1 at the first step).
"""

from typing import NamedTuple

import numpy as np


class Pulled(NamedTuple):
    """What the last of the steps was in each run [N]."""

    chosen: np.ndarray  # 1 where it was the best arm, which is what the book counts, else 0
    chance: np.ndarray  # the probability with which that was chosen


def pulled(
    runs: int, steps: int, mean: float, rate: float, baseline: bool, seed: int, num_arms: int = 10
) -> Pulled:
    """Independent runs of the gradient bandit, arm values q* ~ N(mean, 1), rewards N(q*, 1)."""
    rng = np.random.default_rng(seed)
    values = rng.normal(mean, 1.0, (num_arms, runs))
    best, every = values.argmax(axis=0), np.arange(runs)
    preferences, earlier = np.zeros((num_arms, runs)), np.zeros(runs)
    for step in range(1, steps + 1):
        weights = np.exp(preferences - preferences.max(axis=0))
        probs = weights / weights.sum(axis=0)
        arm = (probs.cumsum(axis=0) < rng.random(runs)).sum(axis=0).clip(max=num_arms - 1)
        if step == steps:
            break
        reward = rng.normal(values[arm, every], 1.0)
        against = reward if step == 1 else earlier
        push = rate * (reward - against * baseline)
        preferences -= push * probs
        preferences[arm, every] += push
        earlier += (reward - earlier) / step
    return Pulled((arm == best).astype(float), probs[best, every])
