"""The Dataset that a sweep becomes: dims, units, exactness, cells of different sizes."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

import simrl
from simrl.sweeps import joining

change = dataclasses.replace


def complaints(data):
    """Variables without units, a long name, or a 0 or 1 for whether they are exact."""
    return [
        str(name)
        for name, variable in data.data_vars.items()
        if not variable.attrs.get("units")
        or len(variable.attrs.get("long_name", "")) < 4
        or variable.attrs.get("exact") not in (0, 1)
    ]


@pytest.fixture(scope="module")
def noisy(small):
    """Zipf labels, binned by excess loss, and an estimator that has to be redrawn."""
    spec = change(
        small,
        environment=simrl.Sequence(vocab_size=3, length=2, labels="zipf"),
        learner=simrl.PolicyGradient(simrl.RunningMean(), group_size=2, num_groups=2),
        phases=simrl.Phases("excess_loss", -6.0, 2.0, 4),
        num_redraws=16,
    )
    return simrl.run(spec, 40).isel(cell=0)


@pytest.mark.parametrize("name", ["guessed", "severally", "taught", "noisy"])
def test_every_variable_says_what_it_is(name, request):
    assert complaints(request.getfixturevalue(name)) == []


def test_exact_is_what_is_not_sampled(guessed, noisy):
    for name in ("pass_rate", "expected", "trace_covariance", "phase_samples", "hit_step"):
        assert guessed[name].attrs["exact"] == 1, name
    assert guessed["hit_time"].attrs["exact"] == 0  # interpolated
    for name in ("trace_covariance", "squared_norm", "trace_covariance_error"):
        assert noisy[name].attrs["exact"] == 0, name
    assert guessed["total_flops"].attrs["units"] == "FLOP"
    assert guessed["phase_absorbed"].attrs["units"] == "bit"
    weighted = {name: noisy[f"phase_{name}"].attrs["units"] for name in ("pass_rate", "gap")}
    assert weighted == {"pass_rate": "trajectories", "gap": "bit * trajectories"}
    assert guessed["phase_expected"].attrs["units"] == "bit"  # per trajectory, times trajectories
    assert guessed["phase_low"].attrs["units"] == "nat"


def test_dims_and_types(guessed):
    sizes = {"seed": 192, "log_point": 61, "phase": 14, "threshold": 3}
    sizes |= {"prompt": 1, "position": 1, "symbol": 4}
    assert dict(guessed.sizes) == sizes
    assert guessed["belief"].dims == ("seed", "log_point", "prompt", "position", "symbol")
    assert guessed["phase_flops"].dims == ("seed", "phase")
    assert guessed["hit_step"].dims == ("seed", "threshold")
    assert {guessed[f"total_{c}"].dtype for c in ("samples", "flops")} == {np.dtype(np.uint64)}
    assert guessed["hit_step"].dtype == np.float64
    assert guessed["threshold"].values.tolist() == [0.5, 0.9, 0.99]
    assert (guessed["update_trajectories"] == 4).all()
    np.testing.assert_array_equal(guessed["samples"], 4 * guessed["steps_done"])
    np.testing.assert_array_equal(guessed["phase_trajectories"], 4 * guessed["phase_updates"])
    assert guessed["hit_samples"].attrs["long_name"].endswith("; NaN where it was not reached")


def test_noisy_worlds_measure_the_gap(noisy):
    gap, sums = noisy["gap"].values, noisy["phase_gap"]
    assert (gap > 0).all()
    mean = float(sums.sum() / noisy["phase_trajectories"].sum())
    assert gap.min() < mean < gap.max()
    # A seed's mean excess loss in a phase lies in the bin.
    visited = noisy["phase_trajectories"].values > 0
    assert visited.any(axis=0).sum() >= 2
    loss = np.log2(np.where(visited, sums / noisy["phase_trajectories"], np.nan))
    assert np.nanmax(loss[:, 1:] - noisy["phase_high"].values[1:]) <= 1e-4
    assert np.nanmin(loss[:, :-1] - noisy["phase_low"].values[:-1]) >= -1e-4


def test_cells_of_different_lengths_are_padded(small):
    data = simrl.run(simrl.Sweep(small, {"max_steps": [4, 8], "log_points": [2, 4]}), 3)
    assert data["log_odds"].dims == ("max_steps", "log_points", "seed", "log_point")
    short = data.sel(max_steps=4, log_points=2)
    assert np.isfinite(short["log_odds"].values[:, :3]).all()
    assert np.isnan(short["log_odds"].values[:, -1]).all()
    assert np.isnan(short["samples"].values[:, -1]).all()
    assert data["step"].dims == ("max_steps", "log_points", "log_point")
    assert data["step"].sel(max_steps=8, log_points=4).values.tolist() == [0, 2, 3, 5, 8]
    assert data["total_samples"].dtype == np.uint64
    np.testing.assert_array_equal(data["total_step"].sel(log_points=2), [[4] * 3, [8] * 3])
    table = simrl.hitting_table(data)
    assert table["num_stuck"].sum() == 0
    assert len(table) == 4 * 3


def test_what_another_cell_asks_for_was_not_hit(small):
    data = simrl.run(simrl.Sweep(small, {"thresholds": [[0.5], [0.2, 0.9]]}, mode="zip"), 3)
    assert data["threshold"].values.tolist() == [0.2, 0.5, 0.9]
    alone = [
        simrl.run(change(small, thresholds=asked), 3).isel(cell=0) for asked in ((0.5,), (0.2, 0.9))
    ]
    for name in ("hit_step", "hit_time", "hit_samples"):
        values, own = data[name].values, [one[name].values for one in alone]
        assert values.dtype == own[0].dtype
        np.testing.assert_array_equal(values[0][:, [1]], own[0])
        np.testing.assert_array_equal(values[1][:, [0, 2]], own[1])
        np.testing.assert_array_equal(values[0][:, [0, 2]], np.full((3, 2), np.nan))
        np.testing.assert_array_equal(values[1][:, 1], np.full(3, np.nan))


@pytest.mark.parametrize("axis", ["max_steps", "base_seed"], ids=["padded", "of one form"])
def test_threads_join_cells_as_one_does(small, monkeypatch, axis):
    sweep = simrl.Sweep(small, {axis: [4, 8]})
    one = simrl.run(sweep, 3)
    monkeypatch.setattr(joining, "MANY_BYTES", 0)
    several = simrl.run(sweep, 3)
    assert list(several) == list(one)
    xr.testing.assert_identical(several, one)


def test_modes_give_axes_or_cells(small):
    rate = "learner.optimizer.learning_rate"
    zipped = simrl.run(simrl.Sweep(small, {rate: [0.5, 1.0], "base_seed": [3, 4]}, mode="zip"), 2)
    assert zipped.sizes["cell"] == 2
    assert zipped["learning_rate"].values.tolist() == [0.5, 1.0]
    assert zipped["base_seed"].values.tolist() == [3, 4]
    pairs = [({"pace": "slow"}, {rate: 0.5}), ({"pace": "fast"}, {rate: 1.0})]
    listed = simrl.run(simrl.Sweep(small, pairs, mode="list"), 2)
    assert listed["pace"].values.tolist() == ["slow", "fast"]
    np.testing.assert_array_equal(listed["log_odds"], zipped["log_odds"])
    labels = {"pace": {"slow": {rate: 0.5}, "fast": {rate: 1.0}}}
    product = simrl.run(simrl.Sweep(small, labels, name="paces"), 2)
    np.testing.assert_array_equal(product["log_odds"].sel(pace="fast"), listed["log_odds"][1])
    assert product.attrs["simrl_sweep"] == "paces"


def test_each_axis_finds_its_own_cell(small):
    """Two axes of different lengths, the second changing fastest."""
    vary = {"learner.optimizer.learning_rate": [0.25, 1.0, 4.0], "max_steps": [4, 8]}
    data = simrl.run(simrl.Sweep(small, vary), 1)
    for rate in (0.25, 1.0, 4.0):
        for steps in (4, 8):
            optimizer = simrl.Optimizer("sgd", {"learning_rate": rate})
            learner = simrl.Supervised(optimizer=optimizer)
            one = simrl.run(change(small, learner=learner, max_steps=steps), 1).isel(cell=0)
            found = data.sel(learning_rate=rate, max_steps=steps)
            last = one.sizes["log_point"]
            np.testing.assert_array_equal(found["log_odds"][:, :last], one["log_odds"])
