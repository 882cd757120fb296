"""`--distributed`: processes that share a sweep, one that is missing, and one that dies."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import simrl

ROOT = Path(__file__).parents[2]
CLUSTERS = re.compile("SLURM_|OMPI_|JAX_COORDINATOR|JAX_COMPILATION_CACHE_DIR")
SWEEP = """
name = "two"
max_steps = 3
log_points = 2
environment = { name = "bandit", kind = "one_right", num_arms = 4 }
[vary]
"learner.optimizer.learning_rate" = [0.5, 1.0]
"""
# Process 1, where JAX's runtime is, dies as soon as all have met; 2 goes on when it is gone.
MEETING = """
import os, sys, time
import jax
from simrl.cli import distributed, process

number, patience = int(sys.argv[1]), int(sys.argv[3])
distributed.PATIENCE = patience
process.guarded(lambda: distributed.meet(sys.argv[2], (number, 2)))
if number == 1:
    os._exit(9)
sys.stdin.readline()
time.sleep(2)  # in which the runtime would end this process
print(jax.process_index(), jax.process_count(), int(jax.numpy.arange(4).sum()))
"""


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def start(words, folder, **variables):
    """A Python process in a folder, in no cluster but that of the variables."""
    inherited = {name: text for name, text in os.environ.items() if not CLUSTERS.match(name)}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)} | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_of_two_devices_are_one_run_of_half_the_work_each(tmp_path, port):
    (tmp_path / "two.toml").write_text(SWEEP)
    words = ["-m", "simrl", "run", "two.toml", "--seeds", "600", "--no-cache", "--out"]
    slurm = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    slurm |= {"JAX_COORDINATOR_PORT": str(port), "JAX_NUM_CPU_DEVICES": "2"}
    ranks = [slurm | {"SLURM_PROCID": i, "SLURM_LOCALID": i} for i in "01"]
    both = [start([*words, "shared", "--distributed"], tmp_path, **rank) for rank in ranks]
    alone = start([*words, "alone"], tmp_path, JAX_NUM_CPU_DEVICES="4")
    (first, first_log), (second, second_log), _ = (x.communicate() for x in (*both, alone))
    assert [x.returncode for x in (*both, alone)] == [0, 0, 0], first_log + second_log
    assert first.startswith("2 processes, 4 devices\nprocess  devices  kind\n")
    assert "processes" not in second
    # Conditions 2 x blocks 3 (seeds 0, 256, 512): each has 3 of the 6 blocks, and 600 seed-runs.
    assert "two 1/2: 600 of 600 seed-runs" in first_log
    assert "two 2/2: 600 of 600 seed-runs" in second_log
    blocks = [sorted((tmp_path / name).glob("blocks/*/*.npz")) for name in ("shared", "alone")]
    assert len(blocks[0]) == 6
    assert [file.name for file in blocks[0]] == [file.name for file in blocks[1]]
    assert [file.read_bytes() for file in blocks[0]] == [file.read_bytes() for file in blocks[1]]
    shared, whole = (simrl.open(tmp_path / name) for name in ("shared", "alone"))
    assert shared.identical(whole.assign_attrs(shared.attrs))


def test_a_process_that_dies_ends_no_other(tmp_path, port):
    dying, other = (start(["-c", MEETING, i, f"localhost:{port}", "60"], tmp_path) for i in "12")
    dying.communicate()
    out, log = other.communicate("go on\n")
    assert (dying.returncode, other.returncode) == (9, 0), log
    assert out == "1 2 6\n"


@pytest.mark.parametrize("number", "12")
def test_a_process_that_is_missing_is_one_line_after_a_stated_time(tmp_path, port, number):
    process = start(["-c", MEETING, number, f"localhost:{port}", "1"], tmp_path)
    out, log = process.communicate()
    line = "error: --distributed: all processes must start within 1 s, and some did not; "
    assert (process.returncode, out) == (2, "")
    assert log == f"{line}--shard i/n waits for none\n"


def test_where_no_cluster_is_found_the_options_are_named(tmp_path):
    process = start(["-m", "simrl", "run", "two.toml", "--distributed"], tmp_path)
    line = process.communicate()[1]
    assert process.returncode == 2
    assert len(line.splitlines()) == 1
    assert "--coordinator HOST:PORT --shard i/n" in line


def test_processes_of_a_users_own_runtime_share_by_default(tmp_path, monkeypatch):
    spec = simrl.Spec(simrl.Bandit("one_right", 4), max_steps=3)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr("jax.process_index", lambda: 1)
    with pytest.raises(simrl.SpecError, match=r"out=None: shares meet .* \(1, 1\) runs all"):
        simrl.run(spec, 4)
    with pytest.raises(simrl.SpecError, match="this share has none to run"):
        simrl.run(spec, 4, tmp_path / "shared")  # one block, of process 0
