"""What the tables of `search` make of runs that are known."""

import numpy as np
import xarray as xr

from experiments import search, search_runs


def test_slopes_of_power_laws_and_their_errors():
    values = {10: 3 * 10**0.7, 100: 3 * 100**0.7, 500: 3 * 500**0.7}
    slope, error = search.slope(values, {n: 0.01 * v for n, v in values.items()})
    assert abs(slope - 0.7) < 1e-12
    rng = np.random.default_rng(0)
    drawn = [
        search.slope({n: v * (1 + 0.01 * rng.normal()) for n, v in values.items()}, values)[0]
        for _ in range(4000)
    ]
    assert abs(np.std(drawn) / error - 1) < 4 / np.sqrt(2 * 4000)


def test_a_bayesian_that_knows_without_a_hit_is_right_one_guess_later():
    cell = xr.Dataset(
        {
            "hit_samples": (("cell", "seed", "threshold"), [[[3.0], [9.0]]]),
            "phase_success": (("cell", "seed", "phase"), [[[1.0], [0.0]]]),
        },
        coords={
            "threshold": [0.99],
            "learner": ("cell", ["Bayesian"]),
            "N": ("cell", [10]),
        },
    )
    found = search_runs.searches(cell)
    assert found["Bayesian, known", 10].counts.tolist() == [3, 9]
    assert found["Bayesian, hit", 10].counts.tolist() == [3, 10]
    assert found["Bayesian, hit", 10].predicted == 5.5
