"""What describes a result folder: files that processes add to at once, and none is lost."""

import copy
import dataclasses
import errno
import json
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import xarray as xr

import simrl
from simrl.sweeps import files, manifest, store

RATE = "learner.optimizer.learning_rate"


def described(spec, **vary):
    return simrl.Sweep(spec, {RATE if k == "rate" else k: v for k, v in vary.items()}).describe()


def at_once(work, num):
    """What `work(i)` returns or raises in each of `num` threads that begin together."""
    barrier, results = threading.Barrier(num), [None] * num

    def one(i):
        barrier.wait()
        try:
            results[i] = work(i)
        except simrl.SpecError as error:
            results[i] = error

    threads = [threading.Thread(target=one, args=(i,)) for i in range(num)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def rates(path):
    sweep = manifest.read_manifest(path)["sweep"]
    return [cell["coordinates"]["learning_rate"] for cell in sweep["cells"]]


def test_of_files_created_at_once_one_is_there_whole(tmp_path):
    target = tmp_path / "new" / "file"
    done = at_once(lambda i: files.create(target, lambda f: f.write(b"%d" % i * 50_000)), 8)
    assert done.count(True) == 1
    assert target.read_bytes() == b"%d" % done.index(True) * 50_000
    assert list(target.parent.iterdir()) == [target]


def test_without_hard_links_files_are_there_too(tmp_path, monkeypatch):
    def refuse(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    assert files.create(tmp_path / "a", lambda f: f.write(b"1"))
    assert not files.create(tmp_path / "a", lambda f: f.write(b"2"))
    assert (tmp_path / "a").read_bytes() == b"1"


def test_conditions_that_sweeps_add_at_once_are_all_kept(small, tmp_path):
    sweeps = [described(small, rate=[0.5, float(i)]) for i in range(1, 9)]
    assert at_once(lambda i: manifest.add_sweep(tmp_path, sweeps[i]), 8) == [None] * 8
    assert sorted(rates(tmp_path)) == [0.5, *range(1, 9)]


def test_of_two_other_sweeps_at_once_one_is_refused(small, tmp_path):
    others = [described(dataclasses.replace(small, max_steps=8 + i)) for i in range(4)]
    results = at_once(lambda i: manifest.add_sweep(tmp_path, others[i]), 4)
    assert results.count(None) == 1
    refusals = [str(result) for result in results if result is not None]
    assert all("holds another sweep: max_steps" in line for line in refusals)
    assert manifest.read_manifest(tmp_path)["sweep"] == others[results.index(None)]


def test_sessions_that_begin_at_once_are_all_noted(tmp_path):
    at_once(lambda i: manifest.add_session(tmp_path, {"device_count": i // 2}), 18)
    noted = [session["device_count"] for session in manifest.read_sessions(tmp_path)]
    assert sorted(noted) == list(range(9))


def test_conditions_are_added_to_a_finished_folder(small, tmp_path):
    sweeps = [simrl.Sweep(small, {RATE: values}) for values in ([0.5, 2.0], [1.0, 0.5, 2.0], [4.0])]
    simrl.run(sweeps[0], 3, tmp_path)
    blocks = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npz")}
    seen = []
    wider = simrl.run(sweeps[1], 3, tmp_path, progress=seen.append)
    assert [p.seeds_total for p in seen] == [3]
    assert {file: file.stat().st_mtime_ns for file in blocks} == blocks
    assert wider["learning_rate"].values.tolist() == [1.0, 0.5, 2.0]
    xr.testing.assert_identical(wider, simrl.run(sweeps[1], 3))
    xr.testing.assert_identical(wider, simrl.open(tmp_path))
    alone = simrl.run(sweeps[2], 3, tmp_path)
    assert alone["learning_rate"].values.tolist() == [4.0]
    whole = simrl.open(tmp_path)
    assert whole["learning_rate"].values.tolist() == [4.0, 1.0, 0.5, 2.0]
    np.testing.assert_array_equal(
        whole["log_odds"].sel(learning_rate=[1.0, 0.5, 2.0]), wider["log_odds"]
    )
    assert sorted(file.name for file in tmp_path.glob("*.json")) == [
        "manifest-1.json",
        "manifest-2.json",
        "manifest.json",
    ]
    simrl.run(sweeps[0], 3, tmp_path)  # all of it is there: nothing is added
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_a_union_is_a_product_only_if_it_is_whole(small, tmp_path):
    def added(name, *sweeps):
        for sweep in sweeps:
            manifest.add_sweep(tmp_path / name, sweep)
        union = manifest.read_manifest(tmp_path / name)["sweep"]
        rows = [tuple(cell["coordinates"].values()) for cell in union["cells"]]
        return union["mode"], rows

    first = described(small, rate=[1.0], base_seed=[0, 1])
    more = described(small, rate=[2.0], base_seed=[0, 1])
    product = [(2.0, 0), (2.0, 1), (1.0, 0), (1.0, 1)]
    assert added("whole", first, more) == ("product", product)
    one = described(small, rate=[2.0], base_seed=[1])
    assert added("part", first, one) == ("list", [(2.0, 1), (1.0, 0), (1.0, 1)])


def assert_refused(path, asked, *words):
    before = sorted(path.iterdir())
    with pytest.raises(simrl.SpecError) as caught:
        manifest.add_sweep(path, asked)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line.replace(str(path), "out")) <= 300
    for word in ("holds another sweep", *words):
        assert word in line
    assert sorted(path.iterdir()) == before


def test_what_does_not_fit_is_refused(small, tmp_path):
    first = described(small, rate=[0.5, 1.0])
    manifest.add_sweep(tmp_path, first)
    assert_refused(tmp_path, described(small, rate=[1.0], base_seed=[0]), "axes", "base_seed")
    longer = dataclasses.replace(small, max_steps=9)
    for values in ([0.5], [2.0]):  # the same label, and another
        assert_refused(tmp_path, described(longer, rate=values), "max_steps", "8 there", "9 here")
    labelled = described(small, rate={0.5: 3.0})
    assert_refused(tmp_path, labelled, "learner.optimizer.learning_rate", "0.5 there", "3.0 here")
    other = copy.deepcopy(first)
    assert_refused(tmp_path, {**other, "engine": "12, float32"}, "engine", "'12, float32' here")
    other["cells"][1]["path"] = "plain"
    assert_refused(tmp_path, other, "path", "'plain' here")


@pytest.mark.parametrize("name", ["manifest-1.json", "manifest-7.json"])
def test_a_damaged_addition_is_named(name, small, tmp_path):
    manifest.add_sweep(tmp_path, described(small, rate=[0.5]))
    (tmp_path / name).write_text("{")
    with pytest.raises(simrl.SpecError, match=rf"{name} is damaged"):
        store.read_manifest(tmp_path)


def test_a_manifest_is_plain_json_with_its_checksum(small, tmp_path):
    asked = described(small, rate=[0.5])
    manifest.add_sweep(tmp_path, asked)
    text = json.loads((tmp_path / "manifest.json").read_text())
    assert text.pop("sha256") == files.digest(text)
    assert text == {"format": files.FORMAT, "sweep": json.loads(json.dumps(asked))}


def answer(path):
    """What a folder says it holds, or the line of its refusal."""
    try:
        return repr(manifest.read_manifest(path))
    except simrl.SpecError as error:
        line = str(error).replace(str(path), "out")
        assert "\n" not in line
        assert len(line) <= 300
        return None


def test_no_changed_bit_gives_another_answer(small, tmp_path):
    """600 single bits, seeded, of a manifest and of a session."""
    manifest.add_sweep(tmp_path, described(small, rate=[0.5, 2.0]))
    manifest.add_session(tmp_path, {"device_count": 1, "versions": {"jax": "1"}})
    whole, rng = answer(tmp_path), np.random.default_rng(0)
    for file in (tmp_path / "manifest.json", *(tmp_path / "sessions").iterdir()):
        data = file.read_bytes()
        for place in rng.integers(8 * len(data), size=300):
            changed = bytearray(data)
            changed[place // 8] ^= 1 << place % 8
            file.write_bytes(changed)
            assert answer(tmp_path) in (None, whole)
        file.write_bytes(data)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    assert answer(tmp_path) is None


def refusal(read):
    with pytest.raises(simrl.SpecError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("make", [os.mkfifo, pathlib.Path.touch])
def test_a_pipe_or_a_file_in_place_of_a_folder_is_refused(make, small, tmp_path):
    asked = described(small)
    name = asked["cells"][0]["hash"]
    for inner in ("", "sessions", "blocks", f"blocks/{name}"):
        out = tmp_path / (inner.replace("/", "-") or "top")
        place = out / inner
        if inner:
            manifest.add_sweep(out, asked)
            place.parent.mkdir(exist_ok=True)
        make(place)
        lines = [refusal(lambda out=out: simrl.run(small, 2, out))]
        lines += [refusal(lambda out=out: simrl.status(out))]
        assert lines == [f"{place} is not a folder"] * 2


def test_a_pipe_in_place_of_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "manifest.json")
    said = f"{tmp_path / 'manifest.json'} is not a regular file"
    assert refusal(lambda: manifest.read_manifest(tmp_path)) == said


def test_what_may_not_be_read_is_not_called_damaged(small, tmp_path, monkeypatch):
    manifest.add_sweep(tmp_path, described(small))

    def refuse(path, *rest):
        raise PermissionError(errno.EACCES, "Permission denied")

    cell, block = "a" * 16, tmp_path / "blocks" / ("a" * 16) / "0-1.npz"
    files.create(block, lambda file: file.write(b"1"))
    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    assert refusal(lambda: store.load_block(tmp_path, cell, 0, 1)) == (
        f"cannot read {block}: Permission denied"
    )
    said = f"cannot read {tmp_path / 'manifest.json'}: Permission denied"
    assert refusal(lambda: manifest.read_manifest(tmp_path)) == said
    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
    said = f"cannot read {block.parent}: Permission denied"
    assert refusal(lambda: store.blocks_in(tmp_path, cell)) == said


def test_partial_files_of_dead_processes_are_removed(small, tmp_path):
    program = "import os, sys; print(os.getpid())"
    dead = int(subprocess.run([sys.executable, "-c", program], capture_output=True).stdout)
    folder, here = tmp_path / "blocks" / "a", files._machine()
    folder.mkdir(parents=True)
    names = {
        f".partial-{here}-{dead}-x.npz": False,
        f".partial-{here}-{os.getpid()}-x.npz": True,
        f".partial-00000000-{dead}-x.npz": True,  # of another machine
        ".partial-old.npz": False,
        ".partial-new.npz": True,
        "0-3.npz": True,
    }
    for name in names:
        (folder / name).touch()
    os.utime(folder / ".partial-old.npz", (0, 0))
    store.Store(tmp_path, described(small)).open({})
    assert {file.name for file in folder.iterdir()} == {name for name in names if names[name]}


def test_a_new_name_is_on_the_disk(tmp_path, monkeypatch):
    """The folder is synced after the link, and the one above it, which may be new as well."""
    done, sync, link = [], os.fsync, os.link

    def seen(handle):
        done.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", seen)
    monkeypatch.setattr(files.os, "link", lambda *pair: (link(*pair), done.append("link")))
    files.create(tmp_path / "new" / "file", lambda file: file.write(b"1"))
    assert done[1:] == ["link", str(tmp_path / "new"), str(tmp_path)]
