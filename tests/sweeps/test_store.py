"""Results on disk: resuming, interrupting, refusing, reading back."""

import dataclasses
import json
import os
import re
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import simrl
from simrl.sweeps import dataset, grid, identity, pools, provenance, store
from simrl.sweeps import run as runs
from simrl.sweeps import spec as specs

change = dataclasses.replace


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of four seeds, so that ten seeds are three of them."""
    monkeypatch.setattr(runs, "BLOCK", 4)


@pytest.fixture
def launched(monkeypatch):
    """(first, last) of every block that is run, in order."""
    seen = []
    original = pools.run_pool

    def counted(cells, pieces, *rest):
        seen.extend((first, last) for _, first, last in pieces)
        return original(cells, pieces, *rest)

    monkeypatch.setattr(pools, "run_pool", counted)
    return seen


@pytest.fixture
def brief(guessing):
    """A few updates of the guesser, whose seeds differ; shares its program."""
    return change(guessing, max_steps=8, log_points=2)


@pytest.fixture
def sweep(brief):
    """Two rates of one program."""
    return simrl.Sweep(brief, {"learner.optimizer.learning_rate": [0.5, 2.0]}, name="two")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(make, *words):
    with pytest.raises(simrl.SpecError) as caught:
        make()
    assert "\n" not in str(caught.value)
    for word in words:
        assert str(word) in str(caught.value)


def test_stored_results_are_those_of_a_run_that_keeps_nothing(sweep, tmp_path):
    kept = simrl.run(sweep, 10, tmp_path / "kept")
    xr.testing.assert_identical(kept, simrl.run(sweep, 10))
    xr.testing.assert_identical(kept, simrl.open(tmp_path / "kept"))
    assert len(list(tmp_path.rglob("*.npz"))) == 6
    assert kept.sizes["learning_rate"] == 2
    assert kept.sizes["seed"] == 10
    assert len(np.unique(kept["log_odds"][0, :, -1])) > 5  # rows out of place would be seen


def test_a_second_run_runs_nothing(sweep, tmp_path, launched):
    first = simrl.run(sweep, 10, tmp_path)
    assert launched == [(0, 3), (4, 7), (8, 9)] * 2
    before = contents(tmp_path)
    launched.clear()
    xr.testing.assert_identical(first, simrl.run(sweep, 10, tmp_path))
    assert launched == []
    assert contents(tmp_path) == before


def test_more_seeds_extend(brief, tmp_path, launched):
    simrl.run(brief, 6, tmp_path)
    assert launched == [(0, 3), (4, 5)]
    launched.clear()
    more = simrl.run(brief, 10, tmp_path)
    assert launched == [(6, 7), (8, 9)]
    xr.testing.assert_identical(more, simrl.run(brief, 10))
    launched.clear()
    some = simrl.run(brief, [9, 1, 20], tmp_path)
    assert launched == [(20, 20)]
    assert some["seed"].values.tolist() == [1, 9, 20]
    xr.testing.assert_identical(some, simrl.run(brief, [1, 9, 20]))
    assert simrl.open(tmp_path)["seed"].values.tolist() == [*range(10), 20]


def test_only_some_cells(sweep, tmp_path, launched):
    second = simrl.run(sweep, 4, tmp_path, only=[1])
    assert launched == [(0, 3)]
    assert second.sizes["cell"] == 1
    assert second["learning_rate"].values.tolist() == [2.0]
    with pytest.warns(UserWarning, match=r": 1 of 2 conditions complete; 1 has fewer seeds \(0\)$"):
        opened = simrl.open(tmp_path)
    both = opened["log_odds"].transpose("learning_rate", ...).values
    np.testing.assert_array_equal(both, [np.full(both[1].shape, np.nan), second["log_odds"][0]])
    whole = simrl.run(sweep, 4, tmp_path)
    assert launched == [(0, 3)] * 2
    np.testing.assert_array_equal(
        whole["log_odds"].sel(learning_rate=2.0), second["log_odds"].isel(cell=0)
    )


def test_cells_keep_their_places_in_whatever_order_they_are_asked_for(brief):
    vary = {"learner.optimizer.learning_rate": [0.5, 2.0], "base_seed": [0, 1]}
    sweep = simrl.Sweep(brief, vary)
    whole = simrl.run(sweep, 40)
    assert dict(whole.sizes)["base_seed"] == 2
    xr.testing.assert_identical(whole, simrl.run(sweep, 40, only=[3, 0, 2, 1, 1]))
    final = whole["pass_rate"].isel(log_point=-1).mean("seed")
    assert (final.sel(learning_rate=2.0) > final.sel(learning_rate=0.5)).all()


def test_progress_tells_how_far_it_is(sweep, tmp_path):
    simrl.run(sweep, 4, tmp_path, only=[0])
    told = []
    simrl.run(sweep, 10, tmp_path, progress=told.append)
    assert [(p.cell, p.seeds_done, p.seeds_total) for p in told] == [
        (0, 4, 16),
        (0, 6, 16),
        (1, 10, 16),
        (1, 14, 16),
        (1, 16, 16),
    ]
    assert told[-1].coordinates == {"learning_rate": 2.0}
    assert told[-1].num_cells == 2
    assert told[-1].updates_done == 16 * 8


def test_an_interrupt_between_blocks_costs_nothing(sweep, tmp_path, launched):
    def stop(progress):
        if progress.seeds_done == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simrl.run(sweep, 10, tmp_path / "cut", progress=stop)
    assert len(launched) == 6  # they run together, and are stored one by one
    assert len(list((tmp_path / "cut").rglob("*.npz"))) == 4
    found = simrl.open(tmp_path / "cut", seeds=4)  # both cells have these
    assert found["seed"].values.tolist() == [0, 1, 2, 3]
    with pytest.warns(UserWarning, match=r": 1 of 2 conditions complete; 1 has fewer seeds \(4\)$"):
        partial = simrl.open(tmp_path / "cut")
    assert partial.sizes["seed"] == 10
    assert partial["present"].sum("seed").values.tolist() == [10, 4]
    for table in (simrl.curve_table(partial, "pass_rate"), simrl.hitting_table(partial)):
        assert table.groupby("learning_rate")["num_seeds"].unique().map(list).tolist() == [
            [10],
            [4],
        ]
    own = [
        simrl.curve_table(data.sel(learning_rate=[2.0]), "pass_rate") for data in (partial, found)
    ]
    pd.testing.assert_frame_equal(*own)
    resumed = simrl.run(sweep, 10, tmp_path / "cut")
    assert len(launched) == 6 + 2
    whole = simrl.run(sweep, 10, tmp_path / "whole")
    xr.testing.assert_identical(resumed, whole)
    for file in (tmp_path / "whole").rglob("*.npz"):
        other = tmp_path / "cut" / file.relative_to(tmp_path / "whole")
        assert file.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("broken", ["savez", "link", "fsync"])
def test_an_interrupt_during_a_write_leaves_no_trace(broken, brief, tmp_path, monkeypatch):
    simrl.run(brief, 4, tmp_path)
    before = contents(tmp_path)

    def interrupted(*args, **kwargs):
        if broken == "savez":
            args[0].write(b"half a block")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np if broken == "savez" else os, broken, interrupted)
        with pytest.raises(KeyboardInterrupt):
            simrl.run(brief, 10, tmp_path)
    assert contents(tmp_path) == before
    simrl.open(tmp_path)
    xr.testing.assert_identical(simrl.run(brief, 10, tmp_path), simrl.run(brief, 10))


def test_blocks_that_vanish_during_a_run_are_missed(sweep, tmp_path):
    """Another process deletes a block: no other seed's values stand in its place."""
    simrl.run(sweep, 8, tmp_path)
    lost = sorted(tmp_path.rglob("4-7.npz"))

    def delete(progress):
        for file in lost:
            file.unlink(missing_ok=True)

    words = ("seeds 4 to 7", "learning_rate", "run again")
    assert_refused(lambda: simrl.run(sweep, 12, tmp_path, progress=delete), tmp_path, *words)
    xr.testing.assert_identical(simrl.run(sweep, 12, tmp_path), simrl.run(sweep, 12))


def test_rows_are_matched_to_their_seeds(brief):
    ready = specs.resolved(brief)
    block = {"seed": np.array([0, 1, 5]), "total.step": np.array([10, 11, 15])}
    cell = grid.Cell({}, ready)
    data = dataset.dataset("a", [(cell, [dict(block)])], np.array([1, 5]), product=False)
    assert data["total_step"].values.tolist() == [[11, 15]]
    with pytest.warns(UserWarning, match="1 has fewer seeds"):
        some = dataset.dataset("a", [(cell, [dict(block)])], np.array([0, 2, 5]), product=False)
    assert some["seed"].values.tolist() == [0, 5]
    with pytest.raises(simrl.SpecError, match="nothing is stored"):
        dataset.dataset("a", [(cell, [dict(block)])], np.array([3]), product=False)


def test_a_disk_that_fails_is_heard_of(brief, tmp_path, monkeypatch):
    """Blocks are written while the run goes on: what goes wrong there is not lost."""
    simrl.run(brief, 4, tmp_path)
    before = contents(tmp_path)

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        said = f"cannot write to {tmp_path}: No space left on device"
        with pytest.raises(simrl.SpecError, match=f"^{re.escape(said)}$") as caught:
            simrl.run(brief, 8, tmp_path)
    assert caught.value.__suppress_context__
    assert contents(tmp_path) == before


def test_an_interrupt_of_the_manifest_leaves_no_trace(brief, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", interrupted)
        with pytest.raises(KeyboardInterrupt):
            simrl.run(brief, 2, tmp_path / "new")
    assert contents(tmp_path) == {}
    simrl.run(brief, 2, tmp_path / "new")


def test_a_stored_block_is_never_rewritten(brief, tmp_path):
    there = store.Store(tmp_path, {})
    there.save("cell", 0, 3, {"seed": np.arange(4)})
    before = contents(tmp_path)
    there.save("cell", 0, 3, {"seed": np.zeros(4)})
    assert contents(tmp_path) == before
    np.testing.assert_array_equal(there.load("cell", 0, 3)["seed"], np.arange(4))
    assert there.blocks("cell") == [(0, 3)]
    assert there.blocks("other") == []


FASTER = simrl.Optimizer("sgd", {"learning_rate": 3.0, "momentum": 0.0})
CHANGES = {
    "max_steps": ({"max_steps": 9}, ["max_steps", "8 there", "9 here"]),
    "rate": (
        {"learner": simrl.PolicyGradient("none", 4, optimizer=FASTER)},
        ["learner.optimizer.learning_rate", "0.5 there", "3.0 here"],
    ),
    "world": ({"environment": simrl.Bandit(num_arms=5)}, ["environment.num_arms", "4 there"]),
    "learner": ({"learner": simrl.Supervised()}, ["learner.name", "'supervised' here"]),
    "thresholds": ({"thresholds": (0.5,)}, ["thresholds", "3 there", "1 here"]),
    "phases": ({"phases": simrl.Phases(num=3)}, ["phases.num", "12 there"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_sweep_in_the_same_folder_is_refused(name, brief, tmp_path):
    changes, words = CHANGES[name]
    described = simrl.Sweep(brief).describe()
    store.Store(tmp_path, described).open({})
    before = contents(tmp_path)
    assert_refused(lambda: simrl.run(change(brief, **changes), 2, tmp_path), tmp_path, *words)
    assert contents(tmp_path) == before


def test_other_axes_and_names_in_the_same_folder_are_refused(brief, tmp_path):
    store.Store(tmp_path, simrl.Sweep(brief).describe()).open({})
    steps = simrl.Sweep(brief, {"max_steps": [8, 9]})
    words = ("axes", "'none' there", "'max_steps' here")
    assert_refused(lambda: simrl.run(steps, 2, tmp_path), *words)
    assert_refused(lambda: simrl.run(simrl.Sweep(brief, name="b"), 2, tmp_path), "name", "'b' here")


def test_a_number_written_otherwise_is_the_same_sweep(brief, tmp_path, launched):
    simrl.run(change(brief, stop_pass_rate=1), 2, tmp_path)
    simrl.run(change(brief, stop_pass_rate=1.0), 2, tmp_path)
    assert launched == [(0, 1)]


def test_sessions_are_noted_once(brief, tmp_path):
    for devices in (2, 2, 1):
        described = simrl.Sweep(brief).describe()
        mesh = runs.lanes.mesh_of(devices)
        store.Store(tmp_path, described).open(provenance.session(mesh))
    sessions = store.read_manifest(tmp_path)["sessions"]
    assert [session["device_count"] for session in sessions] == [2, 1]
    assert set(sessions[0]["versions"]) == {"simrl", "jax", "jaxlib", "optax", "numpy", "python"}


@pytest.fixture
def stored(brief, tmp_path):
    """A folder with one block."""
    simrl.run(brief, 4, tmp_path)
    return tmp_path, next(tmp_path.rglob("*.npz"))


def test_damaged_blocks_are_named(brief, stored):
    folder, block = stored
    whole = block.read_bytes()
    cuts = {0, 1, 3, 100, len(whole) // 2, len(whole) - 1}
    for damaged in [whole[:cut] for cut in cuts] + [b"\x80garbage" * 9]:
        block.write_bytes(damaged)
        assert_refused(lambda: simrl.open(folder), block, "damaged")
        assert_refused(lambda: simrl.run(brief, 4, folder), block, "damaged")
    method = whole.index(b"PK\x01\x02") + 10  # how the directory says that a part is compressed
    value = whole.index(b"\x93NUMPY", len(whole) // 2) + 128  # a byte of an array
    for place in (value, method):
        rotten = bytearray(whole)
        rotten[place] ^= 0xFF
        block.write_bytes(rotten)
        assert_refused(lambda: simrl.open(folder), block, "damaged")
    block.unlink()
    xr.testing.assert_identical(simrl.run(brief, 4, folder), simrl.run(brief, 4))


def test_seeds_that_two_runs_made_at_once_count_once(brief, stored):
    folder, block = stored
    simrl.run(brief, 12, folder)
    whole = simrl.open(folder)
    # The first four again, in a block of eight: as if another had begun on an empty folder.
    both = [store.load_block(folder, block.parent.name, *ends) for ends in ((0, 3), (4, 7))]
    joint = {name: np.concatenate([half[name] for half in both]) for name in both[0]}
    store.Store(folder, {}).save(block.parent.name, 0, 7, joint)
    assert len(list(folder.rglob("*.npz"))) == 4
    xr.testing.assert_identical(simrl.open(folder), whole)


def test_a_block_knows_its_cell_and_its_variables(sweep, tmp_path):
    simrl.run(sweep, 4, tmp_path)
    one, other = tmp_path.rglob("*.npz")
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    for read in (lambda: simrl.open(tmp_path), lambda: simrl.run(sweep, 4, tmp_path)):
        assert_refused(read, one, "not a block of cell", one.parent.name)
    one.write_bytes(held)
    with np.load(one) as data:
        parts = dict(data)
    for changed in ({"total.step": parts["total.step"][:3]}, {"total.step": None}):
        kept = {name: value for name, value in (parts | changed).items() if value is not None}
        np.savez(one, **kept)
        assert_refused(lambda: simrl.open(tmp_path), one, "lacks variables, or seeds of some")


DAMAGED = {
    "empty": (b"", "damaged"),
    "cut": (b'{"format": 3, "sw', "damaged"),
    "bytes": (b"\xff\xfe\x00", "damaged"),
    "list": (b"[]", "damaged"),
    "null": (b"null", "damaged"),
    "older": (b'{"format": 2, "sweep": {}, "sessions": []}', "format 2"),
    "newer": (b'{"format": 9}', "format 9"),
    "no checksum": (b'{"format": 3, "sweep": null}', "checksum"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_manifests_are_named(name, brief, tmp_path):
    file = tmp_path / "manifest.json"
    content, word = DAMAGED[name]
    file.write_bytes(content)
    assert_refused(lambda: simrl.open(tmp_path), file, word)
    assert_refused(lambda: simrl.run(brief, 2, tmp_path), file, word)
    assert contents(tmp_path) == {file: content}


def test_one_changed_bit_of_a_manifest_is_noticed(brief, tmp_path):
    """A condition whose hash differs by a bit would have no blocks, and be left out."""
    described = simrl.Sweep(brief).describe()
    store.Store(tmp_path, described).open({})
    file = tmp_path / "manifest.json"
    whole = file.read_bytes()
    name = described["cells"][0]["hash"].encode()
    for place in (whole.index(name), whole.index(b"max_steps"), whole.index(b'"mode"') + 10):
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        assert_refused(lambda: store.read_manifest(tmp_path), file, "checksum", "run again")


def test_what_is_not_there_is_said_in_a_line(brief, tmp_path):
    assert_refused(lambda: simrl.open(tmp_path / "none"), tmp_path / "none", "no results")
    store.Store(tmp_path, simrl.Sweep(brief).describe()).open({})
    assert_refused(lambda: simrl.open(tmp_path), tmp_path, "no finished blocks")


OWN = "from simrl import Bandit\nworld = Bandit(num_arms=4).build()\nmake = lambda: world\n"


@pytest.fixture
def my_worlds(tmp_path, monkeypatch):
    """An importable module of the user's own."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "my_worlds.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))


@pytest.mark.usefixtures("my_worlds")
def test_a_world_of_ones_own(small, tmp_path, monkeypatch):
    out = tmp_path / "out"
    mine = simrl.own("my_worlds:world", version="1")
    spec = change(small, environment=mine)
    for unnamed in (mine.thing, lambda: mine.thing):
        assert_refused(
            lambda thing=unnamed: simrl.run(change(small, environment=thing), 2, out),
            "simrl.own",
            "out=None",
        )
    assert not out.exists()
    kept = simrl.run(spec, 2, out)
    assert json.loads(kept.attrs["simrl_spec"])["environment"]["name"] == "my_worlds:world"
    xr.testing.assert_identical(
        kept.drop_attrs(deep=False), simrl.run(small, 2).drop_attrs(deep=False)
    )
    with monkeypatch.context() as patch:  # a stored folder runs no code of its user
        patch.setitem(sys.modules, "my_worlds", None)
        xr.testing.assert_identical(kept, simrl.open(out))
    newer = change(small, environment=simrl.own("my_worlds:world", version="2"))
    assert_refused(lambda: simrl.run(newer, 2, out), "environment.version", "'1' there", "'2' here")
    assert identity.cell_hash(specs.resolved(spec)) != identity.cell_hash(specs.resolved(newer))
    named = change(small, environment={"name": "my_worlds:world", "version": "1"})
    xr.testing.assert_identical(kept, simrl.run(named, 2, out))


@pytest.mark.usefixtures("my_worlds")
def test_a_name_that_cannot_be_found_is_refused():
    for source in ("my_worlds", "my_worlds:none", "no_such_module:world", ":world"):
        assert_refused(lambda source=source: simrl.own(source, version="1"), "module:attribute")
    assert_refused(lambda: simrl.own("my_worlds:world", version=""), "version")


def test_the_manifest_is_plain_json(sweep, tmp_path):
    simrl.run(sweep, 2, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    described = json.loads(json.dumps(sweep.describe()))
    assert manifest["sweep"] == described
    names = {folder.name for folder in (tmp_path / "blocks").iterdir()}
    assert names == {cell["hash"] for cell in described["cells"]}


def test_blocks_of_seeds_that_are_not_wanted_are_not_read(brief, tmp_path, monkeypatch):
    simrl.run(brief, 10, tmp_path)
    read, load = [], store.Store.load

    def watched(self, cell, first, last):
        read.append((first, last))
        return load(self, cell, first, last)

    monkeypatch.setattr(store.Store, "load", watched)
    assert simrl.run(brief, [1, 9], tmp_path)["seed"].values.tolist() == [1, 9]
    assert read == [(0, 3), (8, 9)]


def test_arrays_are_read_as_numpy_reads_them(tmp_path, monkeypatch):
    arrays = {
        "row": np.arange(6, dtype=np.uint64).reshape(2, 3),
        "none": np.zeros((0, 4), np.float32),
        "names": np.array(["a", "bcd"]),
        "flags": np.array(True),
    }
    np.savez(tmp_path / "own.npz", **arrays)
    np.savez(tmp_path / "other.npz", row=np.asfortranarray(np.eye(3)[:, :2]))
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    for name in ("own", "other", "small"):
        data = (tmp_path / f"{name}.npz").read_bytes()
        with np.load(tmp_path / f"{name}.npz") as wanted:
            for key, array in store._arrays(data).items():
                assert (array.dtype, array.shape) == (wanted[key].dtype, wanted[key].shape)
                np.testing.assert_array_equal(array, wanted[key])
                assert array.flags.writeable
    data = (tmp_path / "own.npz").read_bytes()
    place = data.index(arrays["row"].tobytes()) + 3
    flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        store._arrays(flipped)
    monkeypatch.setattr(np, "load", None)  # not needed for what is stored
    assert set(store._arrays(data)) == set(arrays)
