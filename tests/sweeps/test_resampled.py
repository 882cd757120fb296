"""Gradient moments that are drawn at log points, by phase."""

import numpy as np

import simrl
from simrl.sweeps import resampled

BINS = simrl.Phases(low=-1.0, high=1.0, num=2)  # edges -inf, -1, 0, 1, inf
BLOCK = {
    # The second seed stops after one update; the third diverges.
    "look.step": np.array([[0, 1, 2, 4], [0, 1, 1, 1], [0, 1, 2, 4]]),
    "look.log_odds": np.array([[-2, -0.5, -0.1, 0.0], [-0.5, 3, 3, 3], [-2, -2, *[np.nan] * 2]]),
    "look.trace_covariance": np.array([[1, 2, 4, 8], [16, 32, 32, 32], [3, 5, *[np.nan] * 2]]),
    "look.squared_norm": np.ones((3, 4)),
}


def test_every_log_point_is_counted_once_in_its_phase():
    sums = resampled.phase_sums(BLOCK, BINS)
    nan = np.nan
    traces = [[1, 6, 8, nan], [nan, 16, nan, 32], [8, nan, nan, nan]]
    norms = [[1, 2, 1, nan], [nan, 1, nan, 1], [2, nan, nan, nan]]
    np.testing.assert_array_equal(sums["phase.trace_covariance"], traces)
    np.testing.assert_array_equal(sums["phase.squared_norm"], norms)


def test_what_has_a_closed_form_is_left_as_it_is():
    exact = {f"phase.{name}": np.ones((3, 4)) for name in resampled.MOMENTS}
    assert resampled.phase_sums({**BLOCK, **exact}, BINS) == {}
    assert resampled.phase_sums(BLOCK, simrl.Phases("excess_loss")) == {}
    without = {name: values for name, values in BLOCK.items() if "look.t" not in name}
    assert set(resampled.phase_sums(without, BINS)) == {"phase.squared_norm"}
