"""The testbed's independent program against quadrature, and what its tables make of differences."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

import simrl
from experiments import testbed, testbed_check, verdicts

RUNS = 40_000


@pytest.mark.parametrize("baseline", [True, False])
def test_two_arms_two_steps_by_quadrature(baseline):
    """The first reward is its own baseline and moves nothing; without one, two arms by hand."""
    mean, rate = 1.0, 0.7
    found = testbed_check.pulled(RUNS, 2, mean, rate, baseline, seed=3, num_arms=2)
    wanted = 0.5
    if not baseline:
        value = np.linspace(-7, 9, 801)
        reward = np.linspace(-12, 14, 1301)
        density = scipy.stats.norm.pdf(value, mean)
        below = scipy.stats.norm.cdf(value, mean)
        noise = scipy.stats.norm.pdf(reward, value[:, None])
        step = (value[1] - value[0]) * (reward[1] - reward[0])
        up, down = (1 / (1 + np.exp(-side * rate * reward)) for side in (1, -1))
        best = (2 * density * below) @ noise @ up * step
        worst = (2 * density * (1 - below)) @ noise @ down * step
        wanted = (best + worst) / 2
    for seen in found:
        assert abs(seen.mean() - wanted) <= 4 * verdicts.error_of(seen) + 1e-12
    assert set(np.unique(found.chosen)) == {0, 1}


@pytest.mark.parametrize(("above", "said"), [(1.0, "holds"), (0.3, "too few runs"), (-1, "FAILS")])
def test_verdicts_need_four_standard_errors(above, said):
    assert verdicts.settled(above, 0.1) == said


def made_up(shift):
    """Pass rates of 50 runs: those at 4 are those at 0 plus a shift; without baseline lower."""
    rng = np.random.default_rng(0)
    at = rng.uniform(0.6, 0.9, (2, 2, 2, 50, 3))
    at[1] = at[0]
    at[1, 0] += shift
    at[1, 1] -= 0.4
    dims = ("arms", "advantage", "learning_rate", "seed", "log_point")
    axes = {"arms": list(testbed.MEANS), "advantage": list(testbed.BASELINES)}
    return xr.Dataset({"pass_rate": (dims, at)}, {**axes, "learning_rate": list(testbed.RATES)})


def test_runs_that_part_are_told_from_rounding():
    same = testbed.shifts(made_up(1e-7))
    assert list(same["verdict"]) == ["holds"] * 4
    assert list(same["parted"]) == ["0", "0", "50", "50"]
    other = testbed.shifts(made_up(1e-3))
    assert list(other["verdict"]) == ["FAILS", "FAILS", "holds", "holds"]


def test_the_figure_has_eight_named_curves():
    rows = [
        {"arms": a, "advantage": b, "learning_rate": r, "choice": x, "quantity": "pass_rate"}
        | {"mean": m, "low": m - 0.01, "high": m + 0.01, "num_seeds": 50, "units": "1"}
        for a in testbed.MEANS
        for b in testbed.BASELINES
        for r in testbed.RATES
        for x, m in ((1, 0.1), (1000, 0.5))
    ]
    drawn = testbed.figure(pd.DataFrame(rows))
    assert [len(ax.lines) for ax in drawn.axes] == [4, 4]
    for ax in drawn.axes:
        places = sorted(t.get_position()[1] for t in ax.texts if "baseline" in t.get_text())
        assert len(places) == 4
        assert np.diff(places).min() > 0.05  # where curves end together, names do not
    assert testbed.SWEEP.cells()[0].spec.engine == "fused"
    assert isinstance(testbed.SWEEP.spec.environment, simrl.Bandit)


def test_a_fall_that_few_runs_cannot_show_does_not_fail():
    assert verdicts.settled(0.2, 0.08) == verdicts.FEW
    assert verdicts.settled(0.2, 0.04) == "holds"
    assert verdicts.settled(-0.2, 0.04) == "FAILS"
