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


def test_the_figure_has_eight_named_curves_over_its_whole_width():
    rows = [
        {"arms": a, "advantage": b, "learning_rate": r, "choice": x, "quantity": "pass_rate"}
        | {"mean": m, "low": m - 0.01, "high": m + 0.01, "num_seeds": 50, "units": "1"}
        for a in testbed.MEANS
        for b in testbed.BASELINES
        for r in testbed.RATES
        for x, m in ((1, 0.1), (1000, 0.5))
    ]
    others = {
        (baseline, rate): testbed_check.Pulled(np.arange(50) % 2, np.full(50, 0.5))
        for baseline in testbed.BASELINES
        for rate in testbed.RATES
    }
    table = pd.DataFrame(rows)
    drawn = testbed.figure(table, others)
    drawn.draw_without_rendering()
    for ax in drawn.axes:
        curves = [line for line in ax.lines if len(line.get_xdata()) == 2]
        assert [len(curves), *ax.get_xlim()] == [4, 0, testbed.STEPS]
    first, second = (ax.get_position() for ax in drawn.axes)
    assert first.width + second.width > 0.8  # of the figure: names do not take the data's room
    names = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert len(set(names)) == 5
    squares = drawn.axes[0].lines[-1]
    np.testing.assert_allclose(np.float64(squares.get_ydata()), [0.5] * 4)
    assert "n = 50 runs" in testbed.caption(table, others)
    assert testbed.SWEEP.cells()[0].spec.engine == "fused"
    assert isinstance(testbed.SWEEP.spec.environment, simrl.Bandit)


def test_a_fall_that_few_runs_cannot_show_does_not_fail():
    assert verdicts.settled(0.2, 0.08) == verdicts.FEW
    assert verdicts.settled(0.2, 0.04) == "holds"
    assert verdicts.settled(-0.2, 0.04) == "FAILS"
