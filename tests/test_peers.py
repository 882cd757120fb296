"""The peers of `experiments.speed` learn as simrl does: means within 4 standard errors."""

import numpy as np
import pytest

from experiments import speed_check, speed_workloads
from experiments.peers import cached_rate, numpy_batched, problems

PEERS = ["plain JAX", "plain JAX + inverse CDF", "NumPy"]
TEN_ARMED = problems.TenArmed(runs=512, steps=20, looks=2, num_arms=4, baselines=(1.0,))
GUESSING = problems.Guessing(seeds=256, steps=10, looks=2, vocab_size=4, length=2, batch=8)


@pytest.mark.parametrize(("solve", "problem"), [("ten_armed", TEN_ARMED), ("guessing", GUESSING)])
def test_peers_learn_as_simrl_does(solve, problem):
    peers = PEERS if solve == "ten_armed" else PEERS[1:]
    rows = speed_check.curve_rows(solve, problem, peers)
    assert [row for row in rows if row["verdict"] != "holds"] == []
    start = 1 / 4 if solve == "ten_armed" else 1 / 4**2
    learned = [row for row in rows if row["quantity"].endswith("pass_rate")]
    assert min(row["measured"] for row in learned) > 1.5 * start


def test_pytorch_learns_as_simrl_does():
    pytest.importorskip("torch")
    rows = speed_check.curve_rows("guessing", GUESSING, ["PyTorch"])
    assert [row for row in rows if row["verdict"] != "holds"] == []


@pytest.mark.parametrize(("group", "rate"), [(1, 1.0), (8, 3.0)])
def test_guesses_to_half(group, rate):
    problem = problems.OneToken(20, group, rate, seeds=512, steps=40)
    rows = speed_check.token_rows(problem, ["NumPy", "cached pass rate"])
    assert [row for row in rows if row["verdict"] != "holds"] == []


def test_a_wrong_law_is_found():
    slow = problems.OneToken(20, 1, rate=0.8, seeds=512)
    guesses = cached_rate.one_token(slow, 0).guesses
    right = slow._replace(rate=1.0).expected_guesses()
    error = guesses.std() / np.sqrt(len(guesses))
    assert abs(guesses.mean() - slow.expected_guesses()) < speed_check.MOST * error
    assert abs(guesses.mean() - right) > speed_check.MOST * error


def test_every_workload_has_its_sides():
    for workload in speed_workloads.WORKLOADS.values():
        sides = speed_workloads.sides_of(workload)
        assert speed_workloads.SIMRL in sides
        assert ("cached pass rate" in sides) == (workload.solve == "one_token")
        assert all(hasattr(speed_workloads.peer(side), workload.solve) for side in sides)


def test_a_measurement_is_whole():
    result = speed_workloads.measure("NumPy", speed_workloads.WORKLOADS["W2"], True, 0)
    assert result["seconds"] > 0
    assert result["compile_s"] == result["late_s"] == 0
    assert np.isfinite(result["peak_mb"])
    assert numpy_batched.guessing(GUESSING, 0).pass_rate.shape == (1, 256, 2)
