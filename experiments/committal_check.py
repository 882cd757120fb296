"""The three-armed bandit of Chung et al. by hand: NumPy, float64, its own random numbers."""

import numpy as np

REWARDS = np.array([1.0, 0.7, 0.0])
OFFSETS = {"b* - 1/2": -0.5, "b* + 1/2": 0.5}


def directions(natural: bool, probs: np.ndarray) -> np.ndarray:
    """The direction [N, 3, 3] of an update by each arm, at policies [N, 3]."""
    if natural:  # the pseudo-inverse of the Fisher information times the score
        return (np.eye(3) - 1 / 3) / np.maximum(probs, 1e-99)[:, :, None]
    return np.eye(3) - probs[:, None, :]


def variance(natural: bool, probs: np.ndarray, baseline: float) -> np.ndarray:
    """Trace [N] of the covariance of an update with a baseline, over the three arms."""
    moves = (REWARDS - baseline)[:, None] * directions(natural, probs)
    mean = np.einsum("na,naj->nj", probs, moves)
    return np.einsum("na,naj->n", probs, moves**2) - (mean**2).sum(axis=1)


def least(natural: bool, probs: np.ndarray) -> np.ndarray:
    """The baseline [N] of least variance: the lowest point of the parabola through three."""
    below, middle, above = (variance(natural, probs, x) for x in (-1.0, 0.0, 1.0))
    bend = above + below - 2 * middle
    # A policy that is sure has no variance, and any baseline does.
    return np.divide((below - above) / 2, bend, out=probs @ REWARDS, where=bend > 1e-12)


def baseline_of(name: str, natural: bool, probs: np.ndarray) -> np.ndarray:
    """The baseline [N] of policies [N, 3] by its name."""
    if name == "none":
        return np.zeros(len(probs))
    if name == "value":
        return probs @ REWARDS
    of_score = name == "b* of the score"
    return least(natural and not of_score, probs) + OFFSETS.get(name, 0.0)


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
        push = rate * (REWARDS[arm] - baseline_of(name, natural, probs))
        if natural:
            logits[every, arm] += push / probs[every, arm]
        else:
            logits -= push[:, None] * probs
            logits[every, arm] += push
    return policies()
