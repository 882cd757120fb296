"""The independent program of `experiments.regret`, and what its tables and figure make of runs."""

import numpy as np
import xarray as xr

from experiments import regret, regret_check
from simrl.measures.regret import lai_robbins_rate

RUNS = 40


def made_up(slopes):
    """Runs whose regret is so many times ln t, by rule, and noise that is the same at any t."""
    noise = np.random.default_rng(0).normal(size=RUNS) * 0.01
    at = [[slope * np.log(t) + noise for t in regret.HORIZONS] for slope in slopes]
    coords = {"rule": list(regret.RULES), "max_steps": list(regret.HORIZONS)}
    dims = ("rule", "max_steps", "seed", "phase")
    return xr.Dataset({"phase_regret": (dims, np.array(at)[..., None])}, coords)


def test_ucb_of_the_independent_program_by_hand():
    """An arm that always pays beside one that never does: 1 + sqrt(2 ln t / n) against the other.

    After a pull of each, t = 2: 1 + 1.18 > 1.18; the other has its turn when sqrt(2 ln t) exceeds
    1 + sqrt(2 ln t / (t - 1)): at t = 5 (1.794 < 1.897), not yet, at t = 6 (1.893 > 1.847).
    """
    found = regret_check.pulled("UCB1", np.array([1.0, 0.0]), 2, (1, 2, 6, 7), 0)
    np.testing.assert_array_equal(found, np.array([[0, 0], [1, 1], [1, 1], [2, 2]]))


def test_thompson_of_the_independent_program_after_one_pull():
    """Beta(1, 2) after a failure of the first arm, against a uniform one: the larger by 1/3."""
    found = regret_check.pulled("Thompson", np.array([0.0, 1.0]), 20_000, (1, 2), 0)
    first, second = found[0], found[1] - found[0]
    for share, wanted in ((first.mean(), 1 / 2), (second.mean(), 1 / 3)):
        assert abs(share - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / found.shape[1])


def test_the_tables_tell_what_is_above_the_bounds():
    rate = float(lai_robbins_rate(regret.MEANS))
    fine = regret.bounds(made_up([2 * rate, 0.9 * rate]))
    assert list(fine["verdict"]) == ["holds", "–", "holds", "holds"]
    wrong = regret.bounds(made_up([0.9 * rate, 2 * rate]))
    assert list(wrong["verdict"]) == ["FAILS", "–", "holds", "FAILS"]


def test_the_figure_has_the_line_of_lai_and_robbins():
    drawn = regret.figure(regret.curves(made_up([20.0, 10.0])))
    (ax,) = drawn.axes
    names = [line.get_label() for line in ax.get_lines()]
    assert names == [*regret.RULES, "Lai–Robbins slope"]
    assert regret.SWEEP.cells()[0].spec.engine == "fused"
