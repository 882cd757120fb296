"""Where results come from: what the manifest and files say of versions, commits and settings."""

import dataclasses
import json
import re
import subprocess

import jax
import pandas as pd
import pytest
import xarray as xr

import simrl
from simrl.engine import lanes
from simrl.sweeps import identity, manifest, provenance

RATE = "learner.optimizer.learning_rate"


def git(folder, *command):
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    result = subprocess.run(
        ["git", "-C", str(folder), *author, *command], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A user's repository with one commit."""
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "mine.py").write_text("x = 1\n")
    git(folder, "add", "mine.py")
    git(folder, "commit", "-q", "-m", "First")
    return folder


def test_the_users_commit_is_not_simrls(repository, monkeypatch):
    """simrl installed within a user's repository is in no commit of it."""
    installed = repository / "venv" / "site-packages"
    (installed / "simrl").mkdir(parents=True)
    monkeypatch.setattr(provenance, "ROOT", installed)
    monkeypatch.chdir(repository)
    head = git(repository, "rev-parse", "HEAD")
    session = provenance.session(lanes.mesh_of(1))
    assert (session["commit"], session["user_commit"]) == ("", head)
    (repository / "mine.py").write_text("x = 2\n")
    assert provenance.session(lanes.mesh_of(1))["user_commit"] == f"{head}-dirty"
    monkeypatch.setenv("GIT_DIR", str(repository / "none"))  # as in a hook
    assert provenance.commit(repository) == f"{head}-dirty"


def test_a_checkouts_commit_is_simrls(repository, monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "ROOT", repository)
    monkeypatch.chdir(tmp_path)  # in no repository
    (repository / "simrl").mkdir()
    (repository / "simrl" / "__init__.py").write_text("")
    (repository / "pyproject.toml").write_text('[project]\nname = "simrl"\n')
    assert provenance.session(lanes.mesh_of(1))["commit"] == ""  # not one of its files yet
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "Add simrl")
    provenance.own_commit.cache_clear()
    head = git(repository, "rev-parse", "HEAD")
    session = provenance.session(lanes.mesh_of(1))
    assert (session["commit"], session["user_commit"]) == (head, "")


def test_settings_that_change_numbers_are_another_engine(monkeypatch):
    plain = identity.engine()
    assert plain == f"{identity.ENGINE}, float32"
    with jax.disable_jit():
        assert identity.engine() == f"{plain}, jit disabled"
    with jax.threefry_partitionable(False):
        assert identity.engine() == f"{plain}, threefry not partitionable"
    with jax.default_matmul_precision("bfloat16"):
        assert identity.engine() == f"{plain}, matmul precision bfloat16"
    with jax.enable_x64(True):
        assert identity.engine() == f"{identity.ENGINE}, float64"
    for flags, added in {
        "--xla_cpu_enable_fast_math=true": ", xla_cpu_enable_fast_math=true",
        "--xla_cpu_enable_fast_math=false --xla_dump_to=/x": "",
        "--xla_force_host_platform_device_count=2": "",
        "--a=1 --xla_allow_excess_precision=false": ", xla_allow_excess_precision=false",
    }.items():
        monkeypatch.setenv("XLA_FLAGS", flags)
        assert identity.engine() == plain + added


@pytest.mark.parametrize("setting", ["jax_disable_jit", "jax_threefry_partitionable"])
def test_a_folder_of_another_setting_is_refused(setting, small, tmp_path):
    simrl.run(small, 2, tmp_path)
    before = getattr(jax.config, setting)
    jax.config.update(setting, not before)
    try:
        with pytest.raises(simrl.SpecError, match=r"engine is '\d+, float32' there") as caught:
            simrl.run(small, 4, tmp_path)
    finally:
        jax.config.update(setting, before)
    assert "\n" not in str(caught.value)
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_other_versions_in_a_folder_are_warned_of(small, tmp_path, monkeypatch):
    own = provenance._version
    simrl.run(small, 2, tmp_path)
    monkeypatch.setattr(provenance, "_version", lambda name: "9.9" if name == "jax" else own(name))
    simrl.run(small, 2, tmp_path)  # nothing new: no word
    assert len(manifest.read_sessions(tmp_path)) == 1
    versions = f"jax 9.9 and {own('jax')}" if own("jax") > "9.9" else f"jax {own('jax')} and 9.9"
    said = rf"mixes results of several versions or devices, .*: {re.escape(versions)}$"
    with pytest.warns(UserWarning, match=said):
        data = simrl.run(small, 4, tmp_path)
    assert json.loads(data.attrs["simrl_versions"])["jax"] == versions.removeprefix("jax ").replace(
        " and ", " or "
    )


@pytest.fixture(scope="module")
def swept(small):
    """Two rates of two conditions each."""
    vary = {RATE: [0.5, 1.0], "learner.batch_size": [1]}
    return simrl.run(simrl.Sweep(small, vary), 4)


def test_a_dataset_says_what_was_run(swept, small):
    spec = json.loads(swept.attrs["simrl_spec"])
    assert spec["max_steps"] == small.max_steps
    assert spec["learner"]["batch_size"] == 1
    assert "learning_rate" not in spec["learner"]["optimizer"]
    assert json.loads(swept.attrs["simrl_conditions"]) == [
        {"coordinates": {"learning_rate": x, "batch_size": 1}, "spec": {RATE: x}}
        for x in (0.5, 1.0)
    ]
    assert json.loads(swept.attrs["simrl_versions"])["jax"] == jax.__version__
    session = provenance.session(lanes.mesh_of(1))
    for name in ("commit", "user_commit"):
        assert swept.attrs[f"simrl_{name}"] == session[name]
    assert swept.attrs["simrl_device"] == session["device_kind"]


def test_objects_without_a_name_are_told_in_short(small):
    world = small.environment.build()
    data = simrl.run(dataclasses.replace(small, environment=lambda: world), 2)
    assert len(data.attrs["simrl_spec"]) < 300


def test_an_exported_file_keeps_them_and_opens_again(swept, tmp_path):
    path = simrl.export(swept, tmp_path / "data.nc")
    xr.testing.assert_identical(simrl.open(path), swept)
    xr.testing.assert_identical(simrl.open(path, seeds=2), swept.isel(seed=[0, 1]))
    table = pd.read_parquet(simrl.export(swept, tmp_path / "data.parquet"))
    assert table.attrs == swept.attrs


def test_what_is_no_exported_dataset_is_refused(swept, tmp_path):
    def refused(path, words, **options):
        with pytest.raises(simrl.SpecError, match=words) as caught:
            simrl.open(path, **options)
        assert "\n" not in str(caught.value)

    whole = simrl.export(swept, tmp_path / "data.nc")
    refused(whole, "not all of the seeds 0 to 4", seeds=5)
    for name in ("csv", "parquet"):
        path = simrl.export(swept, tmp_path / f"data.{name}")
        refused(path, f"pandas.read_{name} reads")
    (tmp_path / "cut.nc").write_bytes(whole.read_bytes()[:500])
    refused(tmp_path / "cut.nc", "cannot read .*cut.nc")
    swept.drop_attrs(deep=False).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    refused(tmp_path / "other.nc", "not a Dataset that simrl.export wrote")
    (tmp_path / "notes.txt").write_text("a")
    refused(tmp_path / "notes.txt", "result folder or a .nc file")
