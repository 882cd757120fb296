"""An independent program for `experiments.regret`: textbook rules in NumPy, run by run.

Thompson sampling takes the best of one draw from each posterior, where simrl integrates the chance
of each arm; UCB1 is that of Auer et al. (2002), figure 1. Ties go to the first arm.
"""

import numpy as np


def pulled(
    rule: str, means: np.ndarray, runs: int, horizons: tuple[int, ...], seed: int
) -> np.ndarray:
    """Returns the regret [T, N] of each of `runs` runs up to each of ascending `horizons`."""
    rng = np.random.default_rng(seed)
    every = np.arange(runs)
    counts, sums = np.zeros((2, runs, len(means)))
    regret, at = np.zeros(runs), []
    for t in range(horizons[-1]):
        if rule == "Thompson":
            arms = rng.beta(1 + sums, 1 + counts - sums).argmax(axis=1)
        elif t < len(means):
            arms = np.full(runs, t)
        else:
            arms = (sums / counts + np.sqrt(2 * np.log(t) / counts)).argmax(axis=1)
        sums[every, arms] += rng.random(runs) < means[arms]
        counts[every, arms] += 1
        regret += means.max() - means[arms]
        if t + 1 in horizons:
            at.append(regret.copy())
    return np.stack(at)
