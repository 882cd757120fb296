"""Files that open again as what was written, the long table, and the arrays for rliable."""

import dataclasses
import importlib.util

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import simrl

RATE = "learner.optimizer.learning_rate"


@pytest.fixture(scope="module")
def swept(guessing):
    """Labels that are text, numbers and bools; few updates, so that most seeds are censored."""
    spec = dataclasses.replace(guessing, max_steps=12, log_points=3)
    vary = {
        "advantage": {
            "none": {"learner.advantage.centre": 0.0},
            "ours": {"learner.advantage.centre": 1.0},
        },
        RATE: [0.5, 3.0],
        "calm": {True: {}, False: {"learner.optimizer.momentum": 0.5}},
    }
    return simrl.run(simrl.Sweep(spec, vary), 6)


@pytest.fixture(scope="module")
def padded(small):
    """Cells of different lengths, phases and thresholds."""
    pairs = [
        ({"world": "short"}, {"max_steps": 4, "thresholds": (0.5,)}),
        ({"world": "long"}, {"max_steps": 8, "log_points": 4, "phases": simrl.Phases(num=5)}),
    ]
    return simrl.run(simrl.Sweep(small, pairs, mode="list"), 3)


def undescribed(data):
    """Variables and coordinates without their attributes."""
    wanted = {"units", "long_name"}
    bare = [name for name, array in data.variables.items() if not wanted <= set(array.attrs)]
    inexact = [name for name, a in data.data_vars.items() if a.attrs.get("exact") not in (0, 1)]
    short = [n for n, a in data.variables.items() if len(a.attrs.get("long_name", "")) < 4]
    return bare + inexact + short


def assert_refused(words, ask):
    with pytest.raises(ValueError, match=words) as caught:
        ask()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["swept", "padded"])
def test_a_dataset_opens_again_as_it_was(name, request, tmp_path):
    data = request.getfixturevalue(name)
    assert undescribed(data) == []
    path = simrl.export(data, tmp_path / "new folder" / "data.nc")
    with xr.open_dataset(path, engine="h5netcdf") as opened:
        again = opened.load()
    again = again.set_xindex("step") if "step" in data.indexes else again  # files hold no indexes
    xr.testing.assert_identical(again, data)
    assert undescribed(again) == []
    kinds = {name: (array.dtype.kind, again[name].dtype.kind) for name, array in data.items()}
    assert [name for name, (before, after) in kinds.items() if before != after] == []
    assert {kind for kind, _ in kinds.values()} == set("fiub")
    assert list(path.parent.iterdir()) == [path]


def test_what_is_read_back_makes_the_same_tables(swept, tmp_path):
    with xr.open_dataset(simrl.export(swept, tmp_path / "data.nc")) as opened:
        pd.testing.assert_frame_equal(simrl.hitting_table(opened), simrl.hitting_table(swept))
        pd.testing.assert_frame_equal(simrl.long_table(opened), simrl.long_table(swept))
        assert opened["calm"].values.tolist() == [True, False]


def test_long_table_has_every_value_once(swept):
    table = simrl.long_table(swept)
    dims = ["log_point", "phase", "threshold"]
    axes = ["advantage", "learning_rate", "calm"]
    assert list(table.columns) == [*axes, "seed", *dims, "variable", "value", "units"]
    assert "belief" not in set(table["variable"])
    assert {"stopped", "total_flops", "phase_absorbed", "hit_step"} <= set(table["variable"])
    assert not table.duplicated([*axes, "seed", *dims, "variable"]).any()
    for name, dim in (("log_odds", "log_point"), ("phase_flops", "phase"), ("total_step", None)):
        rows = table[table["variable"] == name]
        assert set(rows["units"]) == {swept[name].attrs["units"]}
        assert rows[[d for d in dims if d != dim]].isna().all(axis=None)
        back = rows.set_index([*axes, "seed", *([dim] if dim else [])])["value"].to_xarray()
        expected = swept[name].astype(float).reset_coords(drop=True)
        xr.testing.assert_equal(back.reindex_like(expected), expected)


def test_long_table_of_chosen_variables(swept):
    one = simrl.long_table(swept, "pass_rate")
    assert len(one) == swept["pass_rate"].size
    assert "phase" not in one
    both = simrl.long_table(swept, ["total_step", "belief"])
    assert len(both) == swept["total_step"].size + swept["belief"].size
    assert both["symbol"].dtype == "Int64"
    assert set(both.loc[both["variable"] == "belief", "symbol"]) == {0, 1, 2, 3}


def test_long_table_of_the_censored_is_infinite(swept):
    rows = simrl.long_table(swept, "hit_samples")
    reached = int(swept["reached"].sum())
    assert 0 < reached < len(rows)
    assert np.isfinite(rows["value"]).sum() == reached
    assert rows.loc[np.isfinite(rows["value"]), "value"].sum() == swept["hit_samples"].sum()
    assert_refused("needs 'reached'", lambda: simrl.long_table(swept[["hit_flops"]]))


def test_long_table_leaves_out_padding(padded):
    table = simrl.long_table(padded, ["steps_done", "phase_samples", "hit_step"])
    size = table.groupby(["world", "variable"]).size()
    assert size["short", "steps_done"] == 3 * 3
    assert size["long", "steps_done"] == 5 * 3
    assert size["short", "phase_samples"] == padded.sizes["phase"] * 3
    assert size["long", "phase_samples"] == (5 + 2) * 3
    assert set(table.loc[table["world"] == "short", "threshold"].dropna()) == {0.5}
    assert not table["value"].isna().any()


def test_long_table_knows_leaves_are_no_axis():
    values = xr.DataArray(np.arange(12.0).reshape(2, 2, 3), dims=("seed", "log_point", "leaf"))
    table = simrl.long_table(xr.Dataset({"leaf_trace": values}))
    assert list(table.columns) == ["seed", "log_point", "leaf", "variable", "value", "units"]
    assert table["value"].tolist() == list(range(12))
    assert table["leaf"].tolist() == [0, 1, 2] * 4


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_table_is_read_back(suffix, swept, tmp_path):
    path = tmp_path / f"table.{suffix}"
    for source, table in (
        (simrl.hitting_table(swept), simrl.hitting_table(swept)),
        (swept, simrl.long_table(swept)),
    ):
        simrl.export(source, str(path))  # the second over the first
        read = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
        pd.testing.assert_frame_equal(read, table, check_dtype=suffix == "parquet")
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_export_leaves_what_was_there(swept, tmp_path, monkeypatch):
    path = simrl.export(swept, tmp_path / "data.nc")
    before = path.read_bytes()

    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(simrl.SpecError, match=r"data\.nc: No space left on device$") as caught:
        simrl.export(swept, path)
    assert caught.value.__suppress_context__
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_refused(swept, tmp_path, monkeypatch):
    table = simrl.hitting_table(swept)
    assert_refused("end in .nc, .parquet or .csv", lambda: simrl.export(swept, tmp_path / "a.xls"))
    assert_refused("end in .nc", lambda: simrl.export(swept, tmp_path))
    assert_refused("not to 'a.nc'", lambda: simrl.export(table, tmp_path / "a.nc"))
    assert_refused("not a ndarray", lambda: simrl.export(np.ones(3), tmp_path / "a.nc"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for suffix, name in ((".nc", "h5netcdf and h5py"), (".parquet", "pyarrow")):
        words = f'{suffix} files need {name}: pip install "simrl\\[export\\]"'
        assert_refused(words, lambda suffix=suffix: simrl.export(swept, tmp_path / f"a{suffix}"))
    simrl.export(table, tmp_path / "A.CSV")  # which needs nothing
    assert_refused("'colour' is not", lambda: simrl.long_table(swept, "colour"))
    assert_refused(
        "'phase_low' is not", lambda: simrl.long_table(swept, ["steps_done", "phase_low"])
    )


def test_score_arrays_are_runs_by_tasks(swept):
    calm = swept.isel(calm=[0])
    scores = simrl.score_arrays(calm, "log_odds", algorithm="advantage", task="learning_rate")
    assert list(scores) == ["none", "ours"]
    for name, array in scores.items():
        assert array.shape == (6, 2)
        assert array.dtype == np.float64
        expected = calm["log_odds"].sel(advantage=name).isel(calm=0, log_point=-1)
        np.testing.assert_array_equal(array, expected.transpose("seed", "learning_rate"))
    single = simrl.score_arrays(calm.sel(learning_rate=3.0), "total_flops", "advantage")
    expected = calm["total_flops"].sel(advantage="ours", learning_rate=3.0).isel(calm=0)
    np.testing.assert_array_equal(single["ours"], expected.values[:, None].astype(float))


def test_scores_of_the_censored_are_infinite(swept):
    calm = swept.isel(calm=0)
    hits = simrl.score_arrays(calm, "hit_samples", "advantage", "learning_rate", threshold=0.9)
    chosen = calm.sel(advantage="none", threshold=0.9).transpose("seed", "learning_rate", ...)
    reached = chosen["reached"].values
    assert reached.any()
    assert not reached.all()
    np.testing.assert_array_equal(
        hits["none"], np.where(reached, chosen["hit_samples"].values.astype(float), np.inf)
    )


def test_scores_of_cells_of_different_lengths(padded):
    last = simrl.score_arrays(padded, "steps_done", "world")
    assert set(last["short"].ravel()) == {4.0}
    assert set(last["long"].ravel()) == {8.0}
    assert list(simrl.score_arrays(padded, "hit_time", "world", threshold=0.5)) == ["short", "long"]
    words = r"needs a threshold out of \[0.5\], not 0.9"
    assert_refused(words, lambda: simrl.score_arrays(padded, "hit_time", "world", threshold=0.9))


def test_scores_refused(swept, padded):
    ask = simrl.score_arrays
    words = r"choose one value of learning_rate, calm first$"
    assert_refused(words, lambda: ask(swept, "log_odds", "advantage"))
    assert_refused("no axis 'world'", lambda: ask(swept, "log_odds", "world"))
    assert_refused("no axis 'task'", lambda: ask(padded, "log_odds", "world", "task"))
    assert_refused("'speed' is not", lambda: ask(padded, "speed", "world"))
    assert_refused("a value per phase, not one", lambda: ask(padded, "phase_flops", "world"))
    assert_refused(r"out of \[0.5\], not None", lambda: ask(padded, "hit_flops", "world"))
    cells = swept.isel(calm=0).stack(cell=["advantage", "learning_rate"]).reset_index("cell")
    fewer = cells.isel(cell=[0, 1, 2])
    words = "'ours' has no cell for task 3.0"
    assert_refused(words, lambda: ask(fewer, "log_odds", "advantage", "learning_rate"))
