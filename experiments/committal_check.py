"""The three-armed bandit of Chung et al. by hand: NumPy, float64, its own random numbers."""

import numpy as np

REWARDS = np.array([1.0, 0.7, 0.0])


def baseline_of(name: str, probs: np.ndarray) -> np.ndarray:
    """The baseline [N] of policies [N, 3] by its name: b* is sum pi w r / sum pi w."""
    if name == "none":
        return np.zeros(len(probs))
    if name == "value":
        return probs @ REWARDS
    squares = (probs**2).sum(axis=1, keepdims=True)
    weights = probs * (1 - 2 * probs + squares)
    total = weights.sum(axis=1)
    best = np.divide(weights @ REWARDS, total, out=probs @ REWARDS, where=total > 0)
    return best + {"b* - 1/2": -0.5, "b*": 0.0, "b* + 1/2": 0.5}[name]


def ends(name: str, natural: bool, rate: float, steps: int, runs: int, seed: int) -> np.ndarray:
    """The policies [N, 3] of independent runs after their last update."""
    rng = np.random.default_rng(seed)
    logits, every = np.zeros((runs, 3)), np.arange(runs)

    def policies() -> np.ndarray:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    for _ in range(steps):
        probs = policies()
        arm = (probs.cumsum(axis=1) < rng.random((runs, 1))).sum(axis=1).clip(max=2)
        push = rate * (REWARDS[arm] - baseline_of(name, probs))
        if natural:
            logits[every, arm] += push / probs[every, arm]
        else:
            logits -= push[:, None] * probs
            logits[every, arm] += push
    return policies()
