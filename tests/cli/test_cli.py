"""The `simrl` command: what it prints, refuses and writes."""

import contextlib
import io
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import simrl
from simrl import cli
from simrl.cli import parser
from simrl.cli.commands import list as listing
from simrl.cli.commands import run, table
from simrl.sweeps import identity
from simrl.sweeps import run as sweep_run
from simrl.sweeps.spec import FAMILIES

ROOT = Path(__file__).parents[2]


def output_of(capsys, *words):
    cli.main(list(words))
    return capsys.readouterr().out


def refusal_of(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    assert ended.value.code == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if "preparing [" not in x]
    (line,) = lines  # and none of progress after the first
    assert line.startswith("error: ")
    assert len(line) <= 350
    return line


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["rnu"], "did you mean run?"),
        (["run"], "required: FILE.toml"),
        (["run", "a.toml", "--sedes", "4"], "did you mean --seeds?"),
        (["run", "a.toml", "--seed", "4"], "unrecognized arguments: --seed 4"),
        (["run", "a.toml", "--seeds", "0"], "--seeds: must be a whole number of at least 1"),
        (["run", "a.toml", "--seeds", "4294967297"], "--seeds: must be in 1 ... 4294967296"),
        (["run", "a.toml", "--shard", "4/3"], "--shard: must be i/n with 1 <= i <= n, or auto"),
        (["run", "a.toml", "--set", "max_steps"], "--set: must be path=value, got 'max_steps'"),
        (["run", "a.toml"], "cannot read a.toml: No such file or directory"),
        (["table", "nowhere"], "no results at nowhere"),
        (["table", "nowhere", "--kind", "phases"], "did you mean phase?"),
        (["export", "nowhere"], "required: --to"),
        (["export", "nowhere", "--to", "netcdf", "--file", "a.csv"], "must end in .nc"),
        (["list", "leraner"], "did you mean learner?"),
        (["init", "a b"], "NAME: must be of letters, digits, _, - and ., got 'a b'"),
    ],
)
def test_bad_input_is_one_line(words, wanted, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert wanted in refusal_of(capsys, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", parser.COMMANDS)
def test_help_has_an_example_in_80_columns(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"example:\n  simrl {name}" in text
    assert max(map(len, text.splitlines())) <= 80
    assert f"  {name} " in output_of(capsys)


def test_help_imports_no_numerics():
    program = "import sys; from simrl.cli import main; main(['run', '--help'])"
    words = [sys.executable, "-X", "importtime", "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert imported & {"jax", "numpy", "pandas", "rich", "matplotlib"} == set()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder with the sweep that `simrl init` writes, run for a few seeds."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cli.main(["init", "demo"])
        cli.main(["run", "demo.toml", "--seeds", "16", "--no-cache"])
    return folder


def test_a_written_sweep_runs_and_is_read_from_its_folder_alone(demo, monkeypatch, capsys):
    monkeypatch.chdir(demo)
    assert "NAME: must be of a new file" in refusal_of(capsys, "init", "demo")
    (demo / "demo.toml").rename(demo / "moved.toml")
    try:
        text = output_of(capsys, "table", "results/demo")
        assert text.count("RLOO") == 6  # 2 rates x 3 thresholds
        assert max(map(len, text.splitlines())) <= 80
        assert "noise_scale" in output_of(capsys, "table", "results/demo", "--kind", "phase")
        output_of(capsys, "table", "results/demo", "--kind", "curve", "--to", "curve.csv")
        curve = pd.read_csv("curve.csv")
        assert curve["num_seeds"].unique() == [16]
        for words in (("pass_rate",), ("noise_scale", "--x", "pass_rate")):
            written = output_of(capsys, "figure", "results/demo", "--quantity", *words)
            file = f"results/demo/{words[0]}"
            assert written == f"wrote {file}.pdf and {file}.png\n"
            assert Path(f"{file}.png").read_bytes()[:4] == b"\x89PNG"
        assert "demo.nc" in output_of(capsys, "export", "results/demo", "--to", "netcdf")
        exported, stored = simrl.open("results/demo/demo.nc"), simrl.open("results/demo")
        np.testing.assert_array_equal(exported["pass_rate"], stored["pass_rate"])
    finally:
        (demo / "moved.toml").rename(demo / "demo.toml")


def test_the_name_of_a_sweep_stands_for_its_folder_in_results(demo, monkeypatch, capsys):
    monkeypatch.chdir(demo)
    assert output_of(capsys, "table", "demo") == output_of(capsys, "table", "results/demo")
    shutil.copytree("results/demo", "demo")
    try:  # a folder of that name goes first
        assert parser.results("demo") == Path("demo")
    finally:
        shutil.rmtree("demo")
    assert parser.results("a" * 300) == Path("a" * 300)


def test_a_run_says_what_was_found_and_where(demo, monkeypatch, capsys):
    monkeypatch.chdir(demo)
    text = output_of(capsys, "run", "demo.toml", "--seeds", "16", "--no-cache")  # stored
    assert "4 conditions" in text
    rates = [
        float(line.split()[3]) for line in text.splitlines() if "±" in line and "16 of" in line
    ]
    stored = simrl.open("results/demo")
    for rate in rates:
        assert np.isclose(simrl.last_values(stored, "pass_rate").mean(-1), rate, atol=6e-4).any()
    assert "results: results/demo" in text
    assert "trajectories" in text


def test_printed_comparisons_are_by_whole_answers():
    """Three tokens of an answer are three samples of a supervised learner, and one trajectory."""
    counts = {"num_reached": 2, "num_seeds": 2, "samples_mean": 84.0, "samples_median": 84.0}
    counts |= {"trajectories_mean": 28.0, "trajectories_median": 28.0, "flops_mean": 1.0}
    row = {"learner": "supervised", "pass_rate": 0.9, **counts}
    frame, title = table.hitting(pd.DataFrame([row]), ["learner"])
    assert 28.0 in frame.iloc[0].tolist()
    assert 84.0 not in frame.iloc[0].tolist()
    assert "samples" not in title
    assert not {"realised", "absorbed"} & set(table.PHASES)


def test_a_dry_run_says_what_is_missing(demo, monkeypatch, capsys):
    monkeypatch.chdir(demo)
    before = sorted(demo.rglob("*"))
    text = output_of(capsys, "run", "demo.toml", "--seeds", "300", "--dry-run")
    assert sorted(demo.rglob("*")) == before
    lines = dict(line.split(maxsplit=1) for line in text.splitlines())
    num = 4 * (300 - 16)
    assert lines["to"].startswith(f"run      {num:,} seed-runs in 8 blocks")  # cut at seed 256
    assert lines["updates"] == f"at most {num * 500:,}"
    assert lines["samples"] == f"at most {num * 500 * 16:,}"
    assert lines["programs"].startswith("1 to compile")


def test_a_dry_run_knows_the_size_of_what_is_written(demo):
    sweep = simrl.load(demo / "demo.toml")
    predicted = simrl.plan(sweep, 16).disk
    actual = sum(file.stat().st_size for file in demo.rglob("*.npz"))
    headers = 4 * 61 * 300  # files x arrays x what zip and npy say of each
    assert abs(actual - headers - predicted) < 0.15 * actual


def test_set_changes_a_field_or_takes_the_place_of_an_axis(demo):
    sweep = simrl.load(demo / "demo.toml")
    changed = run.changed(sweep, [("learner.group_size", "8"), ("environment.reward", "exact")])
    assert {cell.spec.learner.group_size for cell in changed.cells()} == {8}
    assert {cell.spec.environment.reward for cell in changed.cells()} == {"exact"}
    path = "learner.optimizer.learning_rate"
    fixed = run.changed(sweep, [(path, "0.5")])
    assert [cell.coordinates for cell in fixed.cells()] == [
        {"advantage": "REINFORCE"},
        {"advantage": "RLOO"},
    ]
    rates = {cell.spec.learner.optimizer.numbers["learning_rate"] for cell in fixed.cells()}
    assert rates == {0.5}
    with pytest.raises(simrl.SpecError, match="did you mean group_size"):
        run.changed(sweep, [("learner.grup_size", "8")])


@pytest.mark.parametrize(
    ("variables", "share"),
    [
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5"}, (3, 8)),
        ({"SLURM_ARRAY_TASK_ID": "0"}, (1, 8)),
        ({"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_STEP": "3"}, (4, 8)),
        ({"SGE_TASK_ID": "8", "SGE_TASK_FIRST": "1", "SGE_TASK_LAST": "8"}, (8, 8)),
        (
            {
                "SGE_TASK_ID": "5",
                "SGE_TASK_FIRST": "1",
                "SGE_TASK_LAST": "8",
                "SGE_TASK_STEPSIZE": "2",
            },
            (3, 4),
        ),
        ({"OMPI_COMM_WORLD_RANK": "7", "OMPI_COMM_WORLD_SIZE": "8"}, (8, 8)),
    ],
)
def test_a_share_is_read_from_a_schedulers_variables(variables, share, monkeypatch):
    for names in run.SCHEDULERS:
        for name in filter(None, names):
            monkeypatch.delenv(name, raising=False)
    with pytest.raises(simrl.SpecError, match="--shard auto: must be run by a scheduler"):
        run.of_scheduler()
    if any(name.startswith("SLURM") for name in variables):
        variables = {**variables, "SLURM_ARRAY_TASK_COUNT": "8"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run.of_scheduler() == share
    monkeypatch.setenv(next(iter(variables)), "99")  # as of an array of 1, 2 and 99
    with pytest.raises(simrl.SpecError, match=r"must be evenly spaced .* got 99 of .* --shard i/n"):
        run.of_scheduler()
    monkeypatch.setenv(next(iter(variables)), "3-5")
    with pytest.raises(simrl.SpecError, match="must be a whole number, got '3-5'"):
        run.of_scheduler()


def test_a_module_of_the_users_own_is_run_if_it_is_allowed(tmp_path, monkeypatch, capsys):
    (tmp_path / "worlds_of_mine.py").write_text(
        "import simrl\n\ndef four_arms():\n    return simrl.Bandit('one_right', 4).build()\n"
    )
    text = 'environment = { name = "worlds_of_mine:four_arms", version = "1" }\nmax_steps = 3\n'
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = ["run", "mine.toml", "--seeds", "4", "--dry-run"]
    assert "--allow worlds_of_mine" in refusal_of(capsys, *words)
    assert "conditions  1" in output_of(capsys, *words, "--allow", "worlds_of_mine")


def test_every_registered_name_is_listed_with_a_sentence(capsys):
    for family, known in FAMILIES.items():
        text = output_of(capsys, "list", family)
        for name, value in known.items():
            assert f"\n  {name}\n" in text
            assert len(listing.sentence(name, value)) > 10
            assert f"{family} {name}" in output_of(capsys, "list", name)
        shared = [name for name, value in known.items() if len(_of_type(known, value)) > 1]
        assert set(shared) <= set(listing.VARIANTS)  # a record's documentation is of none of them


def _of_type(known, value):
    return [other for other in known.values() if type(other) is type(value) is not type]


def test_doctor_names_versions_and_the_engine(capsys):
    text = output_of(capsys, "doctor")
    assert f"{simrl.__version__}" in text
    assert identity.engine() in text


def test_a_pipe_that_is_closed_ends_in_silence(demo):
    words = f"{sys.executable} -m simrl table results/demo --kind phase | head -n 1"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", words], cwd=demo, env=environment, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "run --help",
        "status results/demo",
        "table results/demo --kind curve",
        "table results/demo --kind phase --quantity noise_scale",
        "list",
        "list policy_gradient",
        "doctor",
        "experiments",
        "run demo.toml --seeds 16 --no-cache",
        "run \N{GREEK SMALL LETTER ALPHA}\udcff.toml",
    ],
)
def test_what_an_encoding_lacks_is_printed_as_ascii(words, demo, monkeypatch):
    monkeypatch.chdir(demo)
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    with contextlib.suppress(SystemExit):
        cli.main(words.split(" "))
    printed = screen.buffer.getvalue().decode("ascii")
    assert printed
    if words.startswith("run demo"):
        assert re.search(r"0\.\d{3} \+- 0\.\d{3}", printed)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_compiled(
    demo, monkeypatch, capsys
):
    monkeypatch.chdir(demo)
    monkeypatch.setattr(sweep_run.pools, "run", lambda *_: pytest.fail("something is run"))
    words = ["run", "demo.toml", "--seeds", "17", "--no-cache", "--out", "demo.toml/inside"]
    assert "demo.toml is not a folder" in refusal_of(capsys, *words)


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("no 'cuda'\nat all")])
def test_a_platform_without_a_device_is_one_line(error, demo, monkeypatch, capsys):
    def devices():
        raise error  # JAX asserts where a plugin is not installed

    monkeypatch.chdir(demo)
    monkeypatch.setattr("jax.local_devices", devices)
    monkeypatch.setattr(sweep_run.lanes, "mesh_of", sweep_run.lanes.mesh_of.__wrapped__)
    for words in (["doctor"], ["run", "demo.toml"], ["run", "demo.toml", "--dry-run"]):
        line = refusal_of(capsys, *words, *["--no-cache"][: len(words) - 1])
        assert "JAX_PLATFORMS: must name a platform that JAX can use here" in line


def test_shares_meet_in_one_folder_and_are_one_run(demo, tmp_path, monkeypatch):
    sweep = run.changed(simrl.load(demo / "demo.toml"), [("max_steps", "4")])
    monkeypatch.setattr(sweep_run, "BLOCK", 4)
    whole = simrl.run(sweep, 10, tmp_path / "whole")
    names = {}
    for number in (2, 3, 1):
        before = set(tmp_path.glob("shares/blocks/*/*.npz"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            part = simrl.run(sweep, 10, tmp_path / "shares", shard=(number, 3))
        names[number] = set(tmp_path.glob("shares/blocks/*/*.npz")) - before
        assert len(caught) == (number != 1)  # the others have not run yet
    assert {number: len(own) for number, own in names.items()} == {1: 4, 2: 4, 3: 4}
    assert part.identical(whole.assign_attrs(part.attrs))
    blocks = [sorted(tmp_path.glob(f"{name}/blocks/*/*.npz")) for name in ("whole", "shares")]
    assert [a.read_bytes() for a in blocks[0]] == [b.read_bytes() for b in blocks[1]]


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1,), "1/3", 2])
def test_a_share_that_is_none_is_refused(shard, demo, tmp_path):
    sweep = simrl.load(demo / "demo.toml")
    with pytest.raises(simrl.SpecError, match=r"shard: must be \(i, n\) with 1 <= i <= n, got"):
        simrl.run(sweep, 4, tmp_path / "none", shard=shard)
    with pytest.raises(simrl.SpecError, match="shard cannot be combined with out=None"):
        simrl.run(sweep, 4, shard=(1, 2))
    assert not (tmp_path / "none").exists()


def test_status_says_what_is_missing_and_what_is_damaged(demo, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(demo / "results/demo", folder)
    assert {(cell.seeds, cell.blocks) for cell in simrl.status(folder).cells} == {(16, 1)}
    gone, hurt = sorted(folder.glob("blocks/*/*.npz"))[:2]
    gone.unlink()
    content = bytearray(hurt.read_bytes())
    content[len(content) // 2] ^= 1
    hurt.write_bytes(content)
    (folder / ".partial-x.json").touch()
    assert sum(len(cell.damaged) for cell in simrl.status(folder).cells) == 0  # nothing is read
    found = simrl.status(folder, verify=True)
    assert sorted(cell.seeds for cell in found.cells) == [0, 16, 16, 16]
    assert [str(hurt) in line for cell in found.cells for line in cell.damaged] == [True]
    assert (found.partial, found.most_seeds, found.sessions) == (1, 16, 1)
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", str(folder), "--verify"])
    assert ended.value.code == 1
    text = capsys.readouterr().out
    assert "4 conditions, 2 complete" in text
    assert "1 files were being written" in text
