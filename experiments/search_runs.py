"""What `search` runs: searchers of a secret, and groups at a frozen pass rate."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import simrl

SIZES = (10, 100, 500)
SEARCHERS = {
    "policy gradient": "guesses before the first hit",
    "Bayesian, hit": "guesses to the first hit",
    "Bayesian, known": "guesses to knowing",
    "supervised": "labels",
}
PASS_RATES, GROUP, ARMS, TAKEN = (0.01, 0.1, 0.5), 8, 10, 4
METHODS = {
    "none": "none",
    "leave_one_out": "leave_one_out",
    "batch_mean": "group_mean",
    "group_normalised": "group_normalised",
    "group_normalised_sample": "group_normalised_sample",
    "maxrl": "maxrl",
    "maxrl_centred": "maxrl_centred",
    "pass_at_k": "pass_at_k",
    "pass_at_k_leave_one_out": "pass_at_k_leave_one_out",
}  # name of the advantage -> its name in simrl.measures

# One success makes all but certain, so that what is counted is the way to the first.
LEAP = simrl.Optimizer("sgd", {"learning_rate": 50.0})
LEARNERS: dict[str, dict[str, Any]] = {
    "policy gradient": {"learner": simrl.PolicyGradient("none", 1, optimizer=LEAP)},
    "Bayesian": {"learner": simrl.Bayesian(), "engine": "plain"},
    "supervised": {"learner": simrl.Supervised(optimizer=LEAP), "engine": "plain"},
}
SWEEP = simrl.Sweep(
    simrl.Spec(
        max_steps=2**20,
        stop_pass_rate=0.99,
        log_points=1,
        observe_every=2**20,
        phases=simrl.Phases(num=1),
        thresholds=(0.99,),
        engine="jump",
        num_redraws=3,
    ),
    [
        ({"learner": name, "N": size}, {"environment": simrl.Sequence(size, 1), **changes})
        for name, changes in LEARNERS.items()
        for size in SIZES
    ],
    name="search",
    mode="list",
)
GROUPS = simrl.Sweep(
    simrl.Spec(
        simrl.Bandit("one_right", ARMS),
        simrl.PolicyGradient("none", GROUP, optimizer=simrl.Optimizer()),
        max_steps=1,
        log_points=1,
        phases=simrl.Phases(num=1),
        thresholds=(0.999,),
        keep_beliefs=True,
        num_redraws=3,
    ),
    [
        (
            {"method": method, "p": p},
            {
                "learner.advantage": {"name": method, "k": TAKEN}
                if "pass_at_k" in method
                else method,
                "policy": simrl.Tabular("pretrained", pass_rate=p),
            },
        )
        for method in METHODS
        for p in PASS_RATES
    ],
    name="groups",
    mode="list",
)


class Guesses(NamedTuple):
    """Samples [S] of each seed, and what theory says of their mean."""

    counts: np.ndarray
    predicted: float


def searches(data: xr.Dataset) -> dict[tuple[str, int], Guesses]:
    """(searcher, N) -> samples of every seed."""
    found = {}
    for labels, cell in simrl.each_cell(data):
        size = int(labels["N"])
        counts = cell["hit_samples"].sel(threshold=0.99).values.astype(np.float64)
        if labels["learner"] == "Bayesian":
            right = cell["phase_success"].sum("phase").values > 0
            # Who knows without a hit guesses right the next time.
            found["Bayesian, hit", size] = Guesses(counts + ~right, (size + 1) / 2)
            found["Bayesian, known", size] = Guesses(counts, (size + 1) / 2 - 1 / size)
        else:
            mean = {"policy gradient": size, "supervised": 1}[labels["learner"]]
            found[labels["learner"], size] = Guesses(counts, mean)
    return found
