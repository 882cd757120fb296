"""Tables from a Dataset small enough to work out by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

import simrl

SEED, PHASE = ("seed",), ("seed", "phase")


def by_hand(**changes):
    """Three seeds, two phases (the second has two visitors), two thresholds, two log points."""
    variables = {
        "phase_low": (("phase",), [-1.0, 0.0]),
        "phase_high": (("phase",), [0.0, 1.0]),
        "phase_trajectories": (PHASE, np.uint64([[10, 0], [20, 5], [30, 15]])),
        "phase_updates": (PHASE, np.array([[10, 0], [20, 5], [30, 15]]) / 4),
        "phase_samples": (PHASE, np.uint64([[10, 0], [20, 5], [30, 15]])),
        "phase_flops": (PHASE, np.uint64([[100, 0], [200, 50], [300, 150]])),
        "phase_pass_rate": (PHASE, [[4.0, 0.0], [6.0, 3.0], [14.0, 12.0]]),
        "phase_absorbed": (PHASE, [[1.0, 0.0], [2.0, 1.0], [6.0, 2.0]]),
        "phase_realised_update": (PHASE, [[2.0, 0.0], [4.0, 2.0], [9.0, 2.0]]),
        "phase_trace_covariance": (PHASE, [[3.0, 0.0], [4.0, 1.0], [5.0, 2.0]]),
        "phase_squared_norm": (PHASE, [[1.0, 0.0], [1.0, 2.0], [2.0, 2.0]]),
        "update_trajectories": (("seed",), np.full(3, 4)),
        "total_samples": (SEED, np.uint64([20, 20, 20])),
        "total_step": (SEED, np.int64([10, 10, 10])),
        "step": (("seed", "log_point"), np.int64([[0, 10], [0, 10], [0, 10]])),
        "samples": (("seed", "log_point"), np.uint64([[0, 20], [0, 20], [0, 20]])),
        "log_odds": (("seed", "log_point"), [[0.0, -2.0], [0.0, 1.0], [0.0, 3.0]]),
        "hit_step": (("seed", "threshold"), np.int64([[-1, -1], [4, -1], [2, 8]])),
        "hit_time": (("seed", "threshold"), np.array([[np.inf, np.inf], [4, np.inf], [2, 8.0]])),
    }
    scales = {"samples": 2, "tokens": 2, "trajectories": 2, "flops": 20, "flops_counted": 30}
    for name, scale in scales.items():
        variables[f"hit_{name}"] = (
            ("seed", "threshold"),
            np.uint64([[0, 0], [4, 0], [2, 8]]) * np.uint64(scale),
        )
    data = xr.Dataset(variables | changes, coords={"seed": range(3), "threshold": [0.5, 0.9]})
    return data.expand_dims(cell=1)


def row_of(table, **labels):
    chosen = table
    for name, label in labels.items():
        chosen = chosen[chosen[name] == label]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_interval_is_students():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    mean, low, high = simrl.interval(values, 0.9)
    error = values.std(ddof=1) / 2
    assert mean == 4.0
    np.testing.assert_allclose((low, high), scipy.stats.t.interval(0.9, 3, mean, error))
    assert simrl.interval(np.array([3.0]))[0] == 3.0
    assert np.isnan(simrl.interval(np.array([3.0]))[1:]).all()
    assert np.isnan(simrl.interval(np.array([]))).all()


def test_phase_table_divides_sums_by_sums():
    table = simrl.phase_table(by_hand())
    first = row_of(table, quantity="absorbed", phase=0)
    assert first["mean"] == pytest.approx(9 / 60)  # not (1/10 + 2/20 + 6/30)/3
    assert first["units"] == "bit/sample"
    assert first["num_seeds"] == 3
    assert (first["phase_low"], first["phase_high"]) == (-1, 0)
    second = row_of(table, quantity="absorbed", phase=1)
    assert second["mean"] == pytest.approx(3 / 20)
    assert second["num_seeds"] == 2
    expected = {
        "pass_rate": 24 / 60,
        "efficiency": 9 / 15,
        "noise_scale": 4 * 12 / 4,
        "absorbed_per_flop": 9 / 600,
        "realised_joint": 15 / 60,
    }
    for quantity, value in expected.items():
        assert row_of(table, quantity=quantity, phase=0)["mean"] == pytest.approx(value)
    assert row_of(table, quantity="nominal", phase=0)["num_seeds"] == 0  # not in this Dataset
    assert np.isnan(row_of(table, quantity="nominal", phase=0)["mean"])


def test_phase_interval_is_that_of_a_ratio():
    row = row_of(simrl.phase_table(by_hand(), confidence=0.9), quantity="absorbed", phase=0)
    top, bottom = np.array([1.0, 2.0, 6.0]), np.array([10.0, 20.0, 30.0])
    residual = top - 0.15 * bottom
    error = residual.std(ddof=1) / np.sqrt(3) / 20
    low, high = scipy.stats.t.interval(0.9, 2, 0.15, error)
    np.testing.assert_allclose((row["low"], row["high"]), (low, high))


def test_ratio_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    bottom = rng.gamma(2.0, size=(2000, 40))
    top = 0.7 * bottom + rng.normal(size=bottom.shape) * bottom**0.5
    ends = [simrl.pooled_ratio(t, b, 0.9)[1:] for t, b in zip(top, bottom, strict=True)]
    covered = np.mean([low <= 0.7 <= high for low, high in ends])
    assert abs(covered - 0.9) < 4 * np.sqrt(0.09 / 2000) + 0.01


def test_bits_per_flop_is_the_product_in_every_row():
    table = simrl.phase_table(by_hand())
    for phase in (0, 1):
        per_flop = row_of(table, quantity="absorbed_per_flop", phase=phase)["mean"]
        per_sample = row_of(table, quantity="absorbed", phase=phase)["mean"]
        assert per_flop == pytest.approx(per_sample / 10)


def test_a_phase_nobody_visited_is_stated():
    nobody = (PHASE, np.uint64([[10, 0], [20, 0], [30, 0]]))
    empty = (PHASE, [[1.0, 0.0], [2.0, 0.0], [6.0, 0.0]])
    data = by_hand(phase_trajectories=nobody, phase_samples=nobody, phase_absorbed=empty)
    row = row_of(simrl.phase_table(data), quantity="absorbed", phase=1)
    assert row["num_seeds"] == 0
    assert np.isnan([row["mean"], row["low"], row["high"]]).all()


def test_infinite_information_is_not_hidden():
    realised = (PHASE, [[np.inf, 0.0], [4.0, 2.0], [9.0, 2.0]])
    table = simrl.phase_table(by_hand(phase_realised_update=realised))
    assert row_of(table, quantity="realised_joint", phase=0)["mean"] == np.inf
    assert np.isnan(row_of(table, quantity="efficiency", phase=0)["mean"])


def test_hitting_table_counts_the_censored_and_the_stuck():
    table = simrl.hitting_table(by_hand())
    half, most = row_of(table, pass_rate=0.5), row_of(table, pass_rate=0.9)
    counts = ["num_seeds", "num_reached", "num_censored", "num_stuck"]
    assert half[counts].tolist() == [3, 2, 1, 1]
    assert most[counts].tolist() == [3, 1, 2, 1]  # seed 1 got nowhere, and is not below its start
    assert half["step_mean"] == 3.0
    assert half["samples_mean"] == 6.0
    assert half["flops_mean"] == 60.0
    assert half["flops_counted_mean"] == 90.0
    error = np.std([4, 8], ddof=1) / np.sqrt(2)
    interval = scipy.stats.t.interval(0.95, 1, 6.0, error)
    np.testing.assert_allclose(half[["samples_low", "samples_high"]].tolist(), interval)
    assert half["step_median"] == 4.0  # of 2, 4 and later than all
    assert most["step_mean"] == 8.0
    assert np.isnan(most["step_low"])
    assert most["step_median"] == np.inf


def test_hitting_table_of_a_run(guessed):
    table = simrl.hitting_table(guessed.expand_dims("cell"))
    assert table["pass_rate"].tolist() == [0.5, 0.9, 0.99]
    reached = (guessed["hit_step"].values >= 0).sum(axis=0)
    assert table["num_reached"].tolist() == reached.tolist()
    assert (table["num_reached"] + table["num_censored"] == 192).all()
    np.testing.assert_allclose(table["samples_mean"], 4 * table["step_mean"])


def test_tables_carry_the_axes():
    both = xr.concat([by_hand(), by_hand()], dim="cell").assign_coords(pace=("cell", ["a", "b"]))
    assert set(simrl.hitting_table(both)["pace"]) == {"a", "b"}
    axes = both.swap_dims(cell="pace").reset_coords(drop=True)
    as_axis = axes.assign_coords(pace=["a", "b"])
    columns = ["pace", "phase", "quantity", "mean"]
    pd.testing.assert_frame_equal(
        simrl.phase_table(as_axis)[columns], simrl.phase_table(both)[columns]
    )


def test_phase_table_of_a_run_gives_the_noise_scale_of_its_phase(guessed):
    table = simrl.phase_table(guessed.expand_dims("cell"))
    rows = table[(table["quantity"] == "noise_scale") & (table["num_seeds"] > 20)]
    assert len(rows) >= 4
    assert (rows["mean"] >= 0.999 * np.exp(-rows["phase_high"])).all()  # (1 - p)/p
    assert (rows["mean"] <= 1.001 * np.exp(-rows["phase_low"])).all()


def test_a_phase_holds_what_its_edges_say(small):
    """A start below the lowest edge, and an end above the highest."""
    learner = simrl.Supervised(optimizer=simrl.Optimizer("sgd", {"learning_rate": 2.0}))
    changes = {"learner": learner, "phases": simrl.Phases(low=-0.5, high=2.5)}
    data = simrl.run(dataclasses.replace(small, **changes), 4)
    table = simrl.phase_table(data)
    assert table["phase_low"].min() == -np.inf
    assert table["phase_high"].max() == np.inf
    rows = table[(table["quantity"] == "pass_rate") & (table["num_seeds"] > 0)]
    odds = np.log(rows["mean"] / (1 - rows["mean"]))
    assert (rows["phase_low"] <= odds).all()
    assert (odds < rows["phase_high"]).all()
    assert rows["phase"].tolist()[0] == 0
    assert rows["phase"].tolist()[-1] == 13
    assert data["phase_trajectories"].sum() == data["total_trajectories"].sum()


def test_per_update_counts_updates():
    """Four trajectories an update: 60 of them are 15 updates."""
    table = simrl.phase_table(by_hand())
    row = row_of(table, quantity="absorbed_per_update", phase=0)
    assert row["mean"] == pytest.approx(9 / 15)
    assert row["units"] == "bit/update"
    top, bottom = np.array([1.0, 2.0, 6.0]), np.array([10.0, 20.0, 30.0]) / 4
    np.testing.assert_allclose(row[["low", "high"]].tolist(), simrl.pooled_ratio(top, bottom)[1:])
    per_update = row_of(table, quantity="realised_joint_per_update", phase=1)["mean"]
    per_sample = row_of(table, quantity="realised_joint", phase=1)["mean"]
    assert per_update == pytest.approx(4 * per_sample)


@pytest.mark.parametrize("name", ["hit_samples", "phase_absorbed", "total_samples", "log_od"])
def test_a_curve_is_of_what_is_measured_at_log_points(name):
    with pytest.raises(ValueError, match=rf"step, samples, log_odds; not '{name}'$"):
        simrl.curve_table(by_hand(), name)


def test_intervals_of_shares_end_where_shares_do():
    rates = [[0.0, 0.9], [0.0, 0.99], [0.4, 1.0]]
    data = by_hand(pass_rate=(("seed", "log_point"), rates))
    first, last = simrl.curve_table(data, "pass_rate").to_dict("records")
    assert (first["low"], last["high"]) == (0, 1)
    of_law = (
        scipy.stats.t.interval(0.95, 2, x.mean(), scipy.stats.sem(x)) for x in np.array(rates).T
    )
    np.testing.assert_allclose((first["high"], last["low"]), np.array(list(of_law))[[0, 1], [1, 0]])
    shared = simrl.phase_table(by_hand())
    two = row_of(shared, quantity="pass_rate", phase=1)  # of whom t is 12.7
    assert two["mean"] == pytest.approx(15 / 20)
    assert simrl.pooled_ratio(np.array([3.0, 12]), np.array([5.0, 15]))[2] > two["high"] == 1
    assert row_of(shared, quantity="absorbed", phase=1)["low"] < 0


def test_curve_table_names_its_statistic():
    data = by_hand()
    for statistic in ("mean", "median", "iqm"):
        table = simrl.curve_table(data, "log_odds", 0.5, statistic)
        assert set(table["statistic"]) == {statistic}
        last = table.iloc[-1]
        expected = simrl.interval(np.array([-2.0, 1.0, 3.0]), 0.5, statistic)
        assert (last["mean"], last["low"], last["high"]) == expected
    assert simrl.curve_table(data, "log_odds")["statistic"].unique().tolist() == ["mean"]
    with pytest.raises(ValueError, match="statistic must be"):
        simrl.curve_table(data, "log_odds", statistic="best")


def test_hitting_table_with_the_censored_as_later_than_all():
    plain = simrl.hitting_table(by_hand())
    for statistic in ("median", "iqm"):
        table = simrl.hitting_table(by_hand(), 0.5, statistic)
        half, most = row_of(table, pass_rate=0.5), row_of(table, pass_rate=0.9)
        for name, scale in (("step", 1), ("flops_counted", 30)):
            ends = [f"{name}_{statistic}{end}" for end in ("", "_low", "_high")]
            expected = simrl.interval(np.array([np.inf, 4, 2]) * scale, 0.5, statistic)
            np.testing.assert_allclose(half[ends].tolist(), expected)
            assert most[ends[0]] == np.inf  # reached by one of three
        added = {name for name in table if name not in plain}
        assert added == {c for c in table if f"_{statistic}" in c} - set(plain)
    assert list(simrl.hitting_table(by_hand(), statistic="mean")) == list(plain)
    with pytest.raises(ValueError, match="statistic must be"):
        simrl.hitting_table(by_hand(), statistic="best")
