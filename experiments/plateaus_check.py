"""The flow of the exact gradient by hand: float64, one update after the other."""

from collections.abc import Sequence
from math import exp, inf, log
from typing import NamedTuple

import numpy as np


class Flow(NamedTuple):
    """Gradient ascent on pi . r."""

    policies: np.ndarray  # [T, K] before so many updates
    half: float  # updates after which the first arm's probability is at least 1/2; inf: not yet


def followed(
    start: Sequence[float], rewards: Sequence[float], rate: float, steps: Sequence[int]
) -> Flow:
    """Returns the flow from the policy `start` over three arms, at some numbers of updates.

    `steps` rise. Plain floats: an array of three is a hundred times as slow.
    """
    a, b, c = (log(p) for p in start)
    r, s, t = rewards
    policies: list[tuple[float, float, float]] = []
    half, wanted = inf, list(steps)
    for step in range(wanted[-1] + 1):
        top = max(a, b, c)
        p, q, u = exp(a - top), exp(b - top), exp(c - top)
        total = p + q + u
        p, q, u = p / total, q / total, u / total
        if p >= 0.5 and half == inf:
            half = step
        if step == wanted[len(policies)]:
            policies.append((p, q, u))
        value = p * r + q * s + u * t
        a += rate * p * (r - value)
        b += rate * q * (s - value)
        c += rate * u * (t - value)
    return Flow(np.array(policies), half)
