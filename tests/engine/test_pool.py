"""Whole runs: many lanes at once against one at a time, lanes packed anew, cells in one pool."""

import dataclasses

import jax
import numpy as np
import pytest

import simrl
from simrl.engine import lanes, pool, stretches
from simrl.sweeps import pools as sweeps
from simrl.sweeps import run as runs
from simrl.sweeps import spec as specs
from tests.engine.bits import assert_same_bits

WIDTH = 8  # lanes of a group: five groups of 40 seeds
SEEDS = 40
COMPILED = "/jax/core/compile/backend_compile_duration"
SGD = simrl.Optimizer("sgd", {"learning_rate": 0.4})
SPECS = {
    "bandit": simrl.Spec(
        environment=simrl.Bandit("gaussian", num_arms=5),
        learner=simrl.PolicyGradient(simrl.RunningMean(), group_size=4, optimizer=SGD),
        stop_pass_rate=0.9,
    ),
    "exact": simrl.Spec(
        environment=simrl.Sequence(3, 2, "exact"),
        learner=simrl.PolicyGradient(
            simrl.Affine(1.0, 1.0),
            group_size=4,
            optimizer=simrl.Optimizer("sgd", {"learning_rate": 0.4, "momentum": 0.5}),
        ),
        stop_pass_rate=0.95,
    ),
    "token": simrl.Spec(
        environment=simrl.Sequence(36, 2, "token"),
        learner=simrl.PolicyGradient(group_size=16, optimizer=SGD),
    ),
    "labels": simrl.Spec(
        environment=simrl.Sequence(5, 2, labels="zipf", num_prompts=2),
        learner=simrl.Supervised(batch_size=2, num_groups=3, optimizer=SGD),
        phases=simrl.Phases("excess_loss", -6.0, 2.0, 6),
    ),
    "prefixes": simrl.Spec(
        environment=simrl.Sequence(3, 2, "prefix", "zipf", num_prompts=2),
        policy="autoregressive",
        learner=simrl.PolicyGradient(
            simrl.RunningMean(), group_size=4, num_groups=3, optimizer=SGD
        ),
        phases=simrl.Phases("excess_loss", -6.0, 2.0, 6),
    ),
    "graded, told": simrl.Spec(
        environment=simrl.Sequence(
            3,
            2,
            "token",
            num_prompts=2,
            revealed=(1, 0),
            vocab_sizes=(2, 3),
            frequencies="zipf",
            verifier="noisy",
            false_positive=0.1,
            false_negative=0.2,
        ),
        learner=simrl.PolicyGradient(
            simrl.Oracle("minimum_variance", 0.1),
            group_size=4,
            num_groups=3,
            optimizer=SGD,
            surrogate=simrl.Penalised(0.05, 0.02),
            curriculum=simrl.Band(),
        ),
    ),
    "stopping": simrl.Spec(
        environment=simrl.Sequence(3, 2, num_prompts=2),
        learner=simrl.ActorCritic(
            4,
            3,
            trace_decay=0.9,
            optimizer=SGD,
            stop_below=0.05,
            stop_after=8.0,
            stop_exploration=0.2,
        ),
        stop_pass_rate=0.9,
    ),
}
SPECS = {
    name: dataclasses.replace(spec, max_steps=150, log_points=6, observe_every=7, num_redraws=8)
    for name, spec in SPECS.items()
}


@pytest.mark.parametrize("name", SPECS)
def test_fused_runs_are_plain_runs(name):
    """The same random numbers: every count is the same, and floats but for rounding."""
    fused, plain = (
        simrl.run(dataclasses.replace(SPECS[name], engine=engine), SEEDS, devices=1)
        for engine in ("fused", "plain")
    )
    assert set(fused) == set(plain)
    whole = [v for v in plain.data_vars if plain[v].dtype.kind in "iub" or v == "hit_step"]
    assert {"reached", "total_step", "phase_trajectories", "total_dead", "stopped"} <= set(whole)
    for variable in plain.data_vars:
        mine, theirs = fused[variable].values, plain[variable].values
        assert mine.dtype == theirs.dtype
        if variable in whole:
            np.testing.assert_array_equal(mine, theirs, err_msg=variable)
        elif theirs.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4, err_msg=variable)
    assert np.ptp(plain["log_odds"].isel(log_point=-1).values) > 0.01  # seeds do differ


def test_a_pool_has_room_for_a_stored_block_whatever_its_states(monkeypatch):
    monkeypatch.setattr(pool, "_ROOMS", {})
    spec = specs.resolved(SPECS["bandit"])
    setup, _, _ = sweeps._setup(spec, lanes.mesh_of(1))
    assert pool.size_for(setup, sweeps._one_job(spec)) == pool.MAX_SEEDS
    monkeypatch.setattr(pool, "MAX_BYTES", 1)
    monkeypatch.setattr(lanes, "FUSED_WIDTHS", (WIDTH, WIDTH))
    pool._ROOMS.clear()
    assert pool.size_for(setup, sweeps._one_job(spec)) == runs.BLOCK


@pytest.fixture
def narrow(monkeypatch):
    """Blocks of 8 lanes."""
    for bounds in ("WIDTHS", "FUSED_WIDTHS"):
        monkeypatch.setattr(lanes, bounds, (WIDTH, WIDTH))


@pytest.fixture
def launched(monkeypatch):
    """The seeds of every block of every chunk that is launched, in order."""
    seen, chunk = [], lanes.chunk

    def watched(setup, keep_beliefs, key, points, num_looks, num_blocks, jobs, course):
        if points[0] > 0:
            seen.append(np.asarray(jobs.seed)[: int(num_blocks)].tolist())
        return chunk(setup, keep_beliefs, key, points, num_looks, num_blocks, jobs, course)

    monkeypatch.setattr(lanes, "chunk", watched)
    return seen


@pytest.fixture
def pools(monkeypatch):
    """How many seeds each pool holds."""
    seen, launch = [], pool.launch

    def watched(setup, key, jobs, *rest):
        seen.append(len(jobs.seed))
        return launch(setup, key, jobs, *rest)

    monkeypatch.setattr(pool, "launch", watched)
    return seen


@pytest.fixture
def compiled():
    """Programs compiled while the test runs, by name."""
    seen = []

    def listen(event, duration, **about):
        if event == COMPILED:
            seen.append(str(about.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.usefixtures("users_programs")
@pytest.mark.parametrize(("name", "engine"), [("bandit", "fused"), ("exact", "plain")])
def test_packed_seeds_keep_their_bits(name, engine, narrow, launched):
    spec = dataclasses.replace(SPECS[name], engine=engine, log_points=12)
    company = simrl.run(spec, SEEDS, devices=1)
    steps = company["total_step"].values.ravel()
    assert len(set(steps.tolist())) > 10
    assert (steps < steps.max()).sum() > SEEDS - WIDTH
    assert all(len(block) == WIDTH for blocks in launched for block in blocks)
    met = [{seed // WIDTH for seed in block} for blocks in launched for block in blocks]
    assert [len(first) for first in met[:5]] == [1] * 5
    assert max(len(seeds) for seeds in met) >= 2  # seeds of several blocks went on together
    assert len(launched) <= 12
    assert 1 <= len(launched[-1]) < len(launched[0]) == 5
    for seed in range(0, SEEDS, 3):
        assert_same_bits(simrl.run(spec, [seed], devices=1), company.sel(seed=[seed]))


def test_packed_lanes_of_two_devices_run_in_the_same_program(narrow, launched, compiled):
    simrl.run(dataclasses.replace(SPECS["bandit"], log_points=12), SEEDS, devices=2)
    assert len(launched[-1]) < len(launched[0])  # packed
    assert compiled.count("jit(chunk)") == 1


def test_cells_that_differ_in_numbers_are_one_pool_and_one_program(narrow, compiled, pools):
    spec = dataclasses.replace(
        SPECS["exact"], environment=simrl.Sequence(4, 2, "exact"), max_steps=60, log_points=3
    )
    vary = {
        "learner.optimizer.learning_rate": [0.03, 0.1, 0.3],
        "learner.advantage": ["none", "batch_mean", "leave_one_out"],
    }
    sweep = simrl.Sweep(spec, vary)
    together = simrl.run(sweep, 6, devices=1)
    assert pools == [9 * 6]
    chunks = [name for name in compiled if "chunk" in name]
    assert len(chunks) == 1, compiled
    compiled.clear()
    for cell in sweep.cells():
        alone = simrl.run(cell.spec, 6, devices=1)
        mine = together.sel({axis: [value] for axis, value in cell.coordinates.items()})
        for name in alone.data_vars:
            if "seed" in alone[name].dims:
                a, b = alone[name].values, mine[name].values
                assert a.tobytes() == b.tobytes(), name
    assert compiled == []
    finals = together["log_odds"].isel(log_point=-1, seed=0).values
    assert len(np.unique(finals)) == 9  # the numbers do reach the program


def test_log_points_that_lie_near_are_reached_in_one_launch(monkeypatch):
    monkeypatch.setattr(stretches, "MAX_STRETCHES", 100)
    found = list(pool._launches((0, 10, 20, 30, 100, 250, 260), 3))
    assert [points.after[: points.num] for points in found] == [
        (0, 10, 20),
        (30, 100),
        (250,),  # further than one launch goes
        (260,),
    ]
    assert all(len(points.after) == 3 for points in found)
    assert [points.apart for points in found] == [20, 80, 150, 10]


def test_seeds_are_the_same_at_log_points_of_one_launch_or_of_many(narrow, launched, monkeypatch):
    spec = dataclasses.replace(SPECS["bandit"], stop_pass_rate=1.0, max_steps=60, log_points=20)
    monkeypatch.setattr(pool, "MAX_LOOKS", 16)
    together = simrl.run(spec, 12, devices=1)
    assert len(launched) == 1  # after that which looks at the start
    launched.clear()
    monkeypatch.setattr(pool, "MAX_LOOKS", 1)
    apart = simrl.run(spec, 12, devices=1)
    assert len(launched) == apart.sizes["log_point"] - 1 == 17
    # On the device, sums go over several log points: at most 60 terms, each sum rounded.
    seeded = [k for k, v in together.items() if "seed" in v.dims and v.dtype.kind == "f"]
    sums = [k for k in seeded if k.startswith("phase_")]
    assert_same_bits(together.drop_vars(sums), apart.drop_vars(sums))
    for name in sums:
        rounding = 60 * np.finfo(np.float32).eps * np.abs(apart[name].values).max()
        np.testing.assert_allclose(together[name], apart[name], rtol=0, atol=rounding)
