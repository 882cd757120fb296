"""Tables from a Dataset small enough to work out by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

import simrl
from simrl.sweeps import quantities
from simrl.sweeps.table import left_out

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
        "steps_done": (("seed", "log_point"), np.int64([[0, 10], [0, 10], [0, 10]])),
        "samples": (("seed", "log_point"), np.uint64([[0, 20], [0, 20], [0, 20]])),
        "log_odds": (("seed", "log_point"), [[0.0, -2.0], [0.0, 1.0], [0.0, 3.0]]),
    }
    hits = np.array([[np.nan, np.nan], [4, np.nan], [2, 8.0]])
    variables |= dict.fromkeys(("hit_step", "hit_time"), (("seed", "threshold"), hits))
    variables["reached"] = (("seed", "threshold"), np.isfinite(hits))
    scales = {"samples": 2, "tokens": 2, "trajectories": 2, "flops": 20, "flops_counted": 30}
    for name, scale in scales.items():
        variables[f"hit_{name}"] = (("seed", "threshold"), hits * scale)
    coords = {"seed": range(3), "threshold": [0.5, 0.9], "step": ("log_point", [0, 10])}
    data = xr.Dataset(variables | changes, coords=coords)
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


def test_a_phase_of_few_seeds_is_marked():
    copies = {"phase_low", "phase_high"}
    hundred = by_hand()
    many = xr.concat([hundred.drop_vars(copies)] * 100, "seed").assign_coords(seed=np.arange(300))
    table = simrl.phase_table(many.assign({name: hundred[name] for name in copies}))
    for phase, num_seeds in ((0, 300), (1, 200)):
        row = row_of(table, quantity="absorbed", phase=phase)
        assert (row["num_seeds"], row["few_seeds"]) == (num_seeds, False)
        assert row_of(table, quantity="pass_rate", phase=phase)["few_seeds"]  # needs 1,000
    assert row_of(simrl.phase_table(hundred), quantity="absorbed", phase=0)["few_seeds"]


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
    assert "nominal" not in set(table["quantity"])  # not in this Dataset
    assert table.attrs["left_out"]["nominal"] == "the learner has no policy distribution"


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
    assert row_of(table, quantity="efficiency", phase=1)["mean"] == 3 / 4


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
    reached = np.isfinite(guessed["hit_step"].values).sum(axis=0)
    assert table["num_reached"].tolist() == reached.tolist()
    assert (table["num_reached"] + table["num_censored"] == 192).all()
    np.testing.assert_allclose(table["samples_mean"], 4 * table["step_mean"])
    np.testing.assert_allclose(guessed["hit_samples"].mean("seed"), table["samples_mean"])


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


@pytest.mark.parametrize("name", ["hit_samples", "absorbed", "total_samples", "log_od"])
def test_a_curve_is_of_what_is_measured_at_log_points(name):
    hint = "; absorbed is summed by phase: see phase_table" if name == "absorbed" else ""
    with pytest.raises(ValueError, match=rf"steps_done, samples, log_odds; not '{name}'{hint}$"):
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
        np.testing.assert_array_equal(last[["mean", "low", "high"]].tolist(), expected)
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


def test_a_seed_that_diverged_is_not_censored():
    odds = (("seed", "log_point"), [[0.0, np.nan], [0.0, 1.0], [0.0, 3.0]])
    data = by_hand(log_odds=odds, diverged=(SEED, [True, False, False]))
    half = row_of(simrl.hitting_table(data), pass_rate=0.5)
    counts = ["num_seeds", "num_reached", "num_censored", "num_diverged"]
    assert half[counts].tolist() == [3, 2, 0, 1]
    first, last = simrl.curve_table(data, "log_odds").to_dict("records")
    assert (first["num_seeds"], first["num_diverged"]) == (3, 0)
    assert (last["mean"], last["num_seeds"], last["num_diverged"]) == (2, 2, 1)
    phases = simrl.phase_table(data, "absorbed")
    assert phases["num_diverged"].tolist() == [1, 0]  # it was in the first phase alone


def test_no_row_is_dropped_where_all_seeds_diverge(several):
    """Steps of 1e38 leave float32 after a few updates."""
    rate = "learner.optimizer.learning_rate"
    paces = {"calm": {rate: 0.1}, "wild": {rate: 1e38}}
    with pytest.warns(UserWarning, match=r"8 seeds diverged \(pace=wild\), the first at update"):
        data = simrl.run(simrl.Sweep(several, {"pace": paces}), 8)
    assert data["diverged"].sum("seed").values.tolist() == [0, 8]
    curve = simrl.curve_table(data, "pass_rate")
    calm, wild = (part for _, part in curve.groupby("pace"))
    assert calm["step"].tolist() == wild["step"].tolist() == list(range(41))
    assert not calm["num_diverged"].any()
    assert wild["num_diverged"].iloc[[0, -1]].tolist() == [0, 8]
    assert (wild["num_seeds"] + wild["num_diverged"] == 8).all()
    assert np.isnan(wild["mean"].iloc[-1])
    hits = simrl.hitting_table(data).set_index("pace").loc["wild"]
    assert not hits["num_censored"].any()
    assert (hits["num_reached"] + hits["num_diverged"] == 8).all()
    phases = simrl.phase_table(data, "pass_rate").set_index("pace").loc["wild"]
    assert phases["num_diverged"].max() == 8
    own = data.sel(pace="wild")  # what came after is in no phase
    assert (own["phase_trajectories"].sum("phase") < own["total_trajectories"]).all()
    assert np.isfinite(own["phase_pass_rate"]).all()


def test_curves_have_flops_as_an_axis(guessed):
    data = guessed.expand_dims("cell")
    curve = simrl.curve_table(data, "pass_rate")
    for name in ("samples", "flops", "flops_counted"):
        total = guessed[f"total_{name}"].values
        assert len(set(total)) == 1
        np.testing.assert_allclose(curve[name], total[0] / 60 * np.arange(61))
    assert guessed["flops"].attrs["units"] == "FLOP"


def test_noise_scale_along_a_run_is_a_ratio_of_means(guessed):
    curve = simrl.curve_table(guessed.expand_dims("cell"), "noise_scale")
    trace, norm = (guessed[k].values.astype(float) for k in ("trace_covariance", "squared_norm"))
    np.testing.assert_allclose(curve["mean"], 4 * trace.mean(axis=0) / norm.mean(axis=0))
    assert set(curve["units"]) == {"trajectories"}
    with pytest.raises(ValueError, match=r"^statistic must be 'mean' for noise_scale, a ratio"):
        simrl.curve_table(guessed.expand_dims("cell"), "noise_scale", statistic="iqm")


def test_phase_table_takes_a_quantity():
    whole = simrl.phase_table(by_hand())
    alone = simrl.phase_table(by_hand(), "absorbed", 0.95)
    expected = whole[whole["quantity"] == "absorbed"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected)
    for quantity, statistic, words in (
        (0.9, "mean", r"^quantity must be one of pass_rate, .*; not 0\.9$"),
        ("loss", "mean", "not 'loss'$"),
        ("regret", "mean", r'is not defined here: not measured: measures=\("regret",\)$'),
        ("absorbed", "iqm", "^statistic must be 'mean' in a phase table, not 'iqm': entries are"),
    ):
        with pytest.raises(ValueError, match=words):
            simrl.phase_table(by_hand(), quantity, statistic=statistic)


def test_what_is_not_defined_is_left_out_with_the_reason(guessed):
    table = simrl.phase_table(guessed.expand_dims("cell"))
    defined = table.groupby("quantity")["mean"].apply(lambda mean: mean.notna().any())
    assert defined.all()
    reasons = table.attrs["left_out"]
    assert set(reasons) == set(quantities.RATIOS) - set(defined.index)
    assert reasons["regret"] == 'not measured: measures=("regret",)'
    line = left_out(table)
    assert line.startswith("not defined here: ")
    assert all(name in line for name in reasons)
    assert "\n" not in line
    some = xr.concat([by_hand(), by_hand()], "cell").assign_coords(pace=("cell", ["a", "b"]))
    some["phase_absorbed"][1] = np.nan
    table = simrl.phase_table(some)
    assert set(table.loc[table["quantity"] == "absorbed", "pace"]) == {"a"}
    assert table.attrs["left_out"]["absorbed"].endswith(" (1 of 2 cells)")


def test_shares_that_no_seed_shows_have_a_width():
    """No dead trajectory in any of three seeds: at most .708 at 95 %, 1 - .025^(1/3)."""
    dead = (PHASE, np.zeros((3, 2)))
    row = row_of(simrl.phase_table(by_hand(phase_dead=dead)), quantity="dead_share", phase=0)
    assert (row["mean"], row["low"]) == (0, 0)
    assert row["high"] == pytest.approx(1 - 0.025 ** (1 / 3))


def test_last_values_of_several_cells(guessed):
    both = xr.concat([guessed, guessed.isel(log_point=slice(30))], "cell", join="outer")
    last = simrl.last_values(both, "pass_rate")
    assert last.shape == (2, 192)
    np.testing.assert_array_equal(last[0], guessed["pass_rate"][:, -1])
    np.testing.assert_array_equal(last[1], guessed["pass_rate"][:, 29])
