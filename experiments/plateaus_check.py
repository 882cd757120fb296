"""The flow of the exact gradient by hand: NumPy, float64."""

import numpy as np


def followed(start: tuple[float, ...], rewards: tuple[float, ...], rate: float, steps: int):
    """Policies [T + 1, K] of gradient ascent on pi . r from the policy `start`."""
    logits, r = np.log(np.array(start, np.float64)), np.array(rewards, np.float64)
    policies = np.empty((steps + 1, len(r)))
    for step in range(steps + 1):
        powers = np.exp(logits - logits.max())
        policies[step] = powers / powers.sum()
        logits += rate * policies[step] * (r - policies[step] @ r)
    return policies
