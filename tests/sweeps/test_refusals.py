"""What is handed over wrongly is refused in one line, before anything is compiled or written."""

import functools
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import simrl
from simrl.sweeps import files, memory
from simrl.sweeps import spec as specs


def assert_refused(make, *words, error=simrl.SpecError):
    """One line that names what is allowed, and no error before it is shown."""
    with pytest.raises(error) as caught:
        make()
    line = str(caught.value)
    assert line == " ".join(line.split()) != ""
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    for word in words:
        assert word in line


def sgd(name="sgd", **numbers):
    return simrl.Supervised(optimizer={"name": name, **numbers})


def choosing(**fields):
    return simrl.Sequence(vocab_size=4, length=1, num_prompts=2, **fields)


def alone(advantage):
    return simrl.PolicyGradient(advantage, group_size=1)


def broken():
    raise KeyError("gone")


def calls_broken():
    return broken()


def in_a_library(state, rollout):
    return state, jnp.reshape(rollout.credit, 5)


def in_the_standard_library(state, rollout):
    return state, statistics.mean(())


def breaks(function):
    """Where a function of two lines does."""
    return f"(test_refusals.py, line {function.__code__.co_firstlineno + 1})"


MANY, HUGE = 10**9, 10**400
GAUSSIAN = simrl.Bandit("gaussian")
SPECS = {
    "phases None": ({"phases": None}, ["simrl.Phases", "None"]),
    "phases in a word": ({"phases": "log_odds"}, ["simrl.Phases", "'log_odds'"]),
    "surrogate": ({"learner": simrl.PPO()}, ["supervised, policy_gradient", "PPO"]),
    "environment": ({"learner": simrl.Bandit()}, ["supervised, policy_gradient", "Bandit"]),
    "learner": ({"environment": simrl.PolicyGradient()}, ["bandit, sequence", "PolicyGradient"]),
    "policy": ({"policy": simrl.Bandit()}, ["tabular", "Bandit"]),
    "curriculum": ({"learner": simrl.PolicyGradient(curriculum=broken)}, ["curriculum"]),
    "built": ({"learner": simrl.Bandit().build()}, ["simrl.Learner", "Environment"]),
    "a number": ({"environment": {"name": "math:pi", "version": "1"}}, ["math:pi", "function"]),
    "a sine": (
        {"environment": {"name": "math:sin", "version": "1"}},
        ["function () -> simrl.Environment", "math:sin(x, /)"],
    ),
    "own and more": ({"environment": {"name": "math:sin", "version": "1", "x": 2}}, ["x"]),
    "makes 3": ({"environment": lambda: 3}, ["simrl.Environment", "<lambda>() returned 3"]),
    "fails": ({"environment": broken}, ["broken fails", "KeyError", breaks(broken)]),
    "beliefs": ({"keep_beliefs": "yes"}, ["keep_beliefs", "true or false", "'yes'"]),
    "rewards": ({"environment": simrl.Bandit("given", rewards=3)}, ["rewards", "list", "not 3"]),
    "revealed": ({"environment": choosing(revealed=None)}, ["revealed", "whole numbers"]),
    "probs": ({"policy": simrl.Tabular("given", probs=("a",) * 8)}, ["probs", "numbers"]),
    "thresholds None": ({"thresholds": None}, ["thresholds", "list of numbers"]),
    "thresholds in rows": ({"thresholds": [[0.5], [0.5, 0.6]]}, ["thresholds", "list of numbers"]),
    "no thresholds": ({"thresholds": []}, ["at least one", "not none"]),
    "before all seeds": ({"base_seed": -1}, ["base_seed", "0 ... 2^32 - 1"]),
    "past all seeds": ({"base_seed": 2**32}, ["base_seed", "0 ... 2^32 - 1"]),
    "far past": ({"base_seed": 2**63}, ["base_seed", "0 ... 2^32 - 1"]),
    "b1": ({"learner": sgd("adam", learning_rate=0.1, b1=2.0)}, ["b1", "[0, 1)", "2.0"]),
    "float32": ({"learner": sgd(learning_rate=1e39)}, ["float32", "3.4e+38", "1e+39"]),
    "no float": ({"learner": sgd(learning_rate=HUGE)}, ["float32", "3.4e+38"]),
    "ranks": ({"environment": choosing(labels="zipf", zipf_exponent=-1.0)}, ["zipf_exponent"]),
    "rare first": ({"environment": choosing(frequency_exponent=-1.0)}, ["frequency_exponent"]),
    "channel": ({"environment": GAUSSIAN, "measures": ["known_channel"]}, ["known_channel"]),
    "normal alone": ({"learner": alone("group_normalised")}, ["group_normalised", "at least 2"]),
    "mean alone": ({"learner": alone("batch_mean")}, ["batch_mean", "at least 2"]),
    "centred alone": ({"learner": alone("maxrl_centred")}, ["maxrl_centred", "at least 2"]),
    "arms": ({"environment": simrl.Bandit("one_right", 10**12)}, ["2147483647", "arms"]),
    "symbols": ({"environment": simrl.Sequence(MANY)}, ["GiB", "1000000000 symbols"]),
    "positions": ({"environment": simrl.Sequence(length=MANY)}, ["GiB", "1000000000 positions"]),
    "guesses": ({"learner": simrl.PolicyGradient("none", MANY)}, ["GiB", "3000000000 symbols"]),
    "groups": ({"learner": simrl.Supervised(2, MANY)}, ["GiB", "6000000000 symbols"]),
    "looks": ({"log_points": MANY}, ["log_points", "65536"]),
    "bins": ({"phases": simrl.Phases(num=MANY)}, ["phases", "4096"]),
    "redraws": ({"num_redraws": MANY}, ["num_redraws", "1048576"]),
    "tree": (
        {"policy": "autoregressive", "environment": simrl.Sequence(10, 9999)},
        ["at most 1000000, not 1 * 10^9999"],
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_that_cannot_be_is_refused(name):
    fields, words = SPECS[name]
    assert_refused(lambda: simrl.Sweep(simrl.Spec(**fields)).cells(), *words)


@pytest.mark.parametrize("machine_less", [0, 1])
def test_what_does_not_fit_in_memory_is_refused_to_the_byte(machine_less, monkeypatch):
    # 256 seeds' logits, twice those of 64 lanes, and 32 words a lane; 4 bytes each.
    needed = 4 * ((256 + 2 * 64) * 1000 + 64 * 32)
    monkeypatch.setattr(memory, "machine_bytes", lambda: needed - machine_less)
    sweep = simrl.Sweep(simrl.Spec(simrl.Bandit(num_arms=1000)))
    if machine_less:
        assert_refused(sweep.cells, "0.00144 GiB", "1000 symbols", "32 symbols drawn")
    else:
        assert len(sweep.cells()) == 1


def test_lumps_of_answers_need_no_memory_for_each(monkeypatch):
    monkeypatch.setattr(memory, "machine_bytes", lambda: 2**30)
    world, learner = simrl.Bandit(num_arms=10**8), simrl.PolicyGradient("none", group_size=8)
    assert len(simrl.Sweep(simrl.Spec(world, learner, engine="jump")).cells()) == 1
    plain = simrl.Spec(world, learner, engine="plain")
    assert_refused(simrl.Sweep(plain).cells, "GiB", "100000000 symbols")
    listed = simrl.Spec(world, learner, engine="jump", measures=["regret"])
    assert_refused(simrl.Sweep(listed).cells, "GiB", "100000000 symbols")


SWEEPS = {
    "no spec": (lambda: simrl.Sweep(3), ["simrl.Spec", "not 3"]),
    "number for a name": (lambda: simrl.Sweep(name=3), ["name must be text", "3"]),
    "number for a path": (lambda: simrl.Sweep(vary={3: [1]}), ["as text", "{3: [1]}"]),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_of_something_else_is_refused(name):
    make, words = SWEEPS[name]
    assert_refused(make().cells, *words)


@pytest.mark.parametrize("seeds", [np.nan, np.inf, None, True, 1e300, 2j, [None], [[1], [2, 3]]])
def test_seeds_that_are_none_are_refused(seeds, small):
    assert_refused(lambda: simrl.run(small, seeds), "seeds must be a positive number")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("devices", devices) for devices in ("2", 1.5, True, np.nan)),
        *(("only", only) for only in ("ab", 0, [0.5], [None], [True])),
        ("progress", 3),
        *(("out", out) for out in ("", "a\0b", 5, "a" * 300)),
    ],
)
def test_other_arguments_of_run_are_refused(name, value, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(lambda: simrl.run(small, 2, **{name: value}), name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seeds", ["x", 2.5, True, 0, [1]])
def test_seeds_to_open_are_how_many(seeds, tmp_path):
    assert_refused(lambda: simrl.open(tmp_path, seeds), "seeds must be how many", "1 ... 2^32")


@pytest.mark.parametrize("door", [simrl.load, simrl.open])
@pytest.mark.parametrize("path", [None, 5, "", "a\0b"])
def test_what_is_no_path_is_refused(door, path):
    assert_refused(lambda: door(path), "path must be a path")


def test_a_file_that_is_not_text_is_no_toml(tmp_path):
    (tmp_path / "x.nc").write_bytes(b"\x89HDF\xff\xfe\x00")
    assert_refused(lambda: simrl.load(tmp_path / "x.nc"), "x.nc", "not valid TOML")


PHASES = {"coordinate": "log_odds", "low": 0, "high": 1, "num": 2}
WHOLE = {"coordinates": {}, "hash": "a", "spec": {"phases": PHASES, "thresholds": [0.5]}}
CELLS = {
    "a number": 3,
    "numbers": [3],
    "no hash": [{**WHOLE, "hash": None}],
    "no labels": [{**WHOLE, "coordinates": 3}],
    "empty spec": [{**WHOLE, "spec": {}}],
    "no thresholds": [{**WHOLE, "spec": {"phases": PHASES}}],
    "no phases": [{**WHOLE, "spec": {"phases": {}, "thresholds": [0.5]}}],
}


@pytest.mark.parametrize("name", CELLS)
def test_a_manifest_without_its_cells_is_damaged(name, tmp_path):
    def opened(cells):
        about = {"name": "a", "mode": "product", "engine": "1", "varied": []}
        (tmp_path / "manifest.json").unlink(missing_ok=True)
        files.create_document(tmp_path / "manifest.json", {"sweep": {**about, "cells": cells}})
        return lambda: simrl.open(tmp_path)

    assert_refused(opened(CELLS[name]), "manifest.json is damaged", "cells")
    assert_refused(opened([WHOLE]), "no finished blocks")


def test_a_place_where_nothing_can_be_written_is_named(small, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert_refused(lambda: simrl.run(small, 2, file / "out"), f"{file} is not a folder")
    table = pd.DataFrame({"a": [1]})
    said = f"cannot write to {file / 'a.csv'}: {file} is not a folder"
    assert_refused(lambda: simrl.export(table, file / "a.csv"), said)
    assert_refused(lambda: simrl.export(table, None), "path must be a path")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def own_advantage(weights, init=tuple):
    return lambda batch_size, length: simrl.Advantage(init, weights)


ADVANTAGES = {
    "flat": (own_advantage(lambda s, r: (s, r.success)), ["shape (4, 3)", "not (4,)"]),
    "axes": (own_advantage(lambda s, r: (s, r.credit[..., None])), ["not (4, 3, 1)"]),
    "no state": (own_advantage(lambda s, r: r.credit), ["a pair", "the state"]),
    "new state": (own_advantage(lambda s, r: (r.success, r.credit)), ["of the form that init"]),
    "other state": (own_advantage(lambda s, r: (s[None], r.credit), lambda: 0.0), ["of the form"]),
    "fails": (own_advantage(lambda s, r: (s, r.reward)), ["advantage.weights fails", "reward"]),
    "no init": (
        own_advantage(lambda s, r: (s, r.credit), calls_broken),
        ["advantage.init fails", breaks(broken)],
    ),
    "makes 3": (lambda batch_size, length: 3, ["simrl.Advantage", "returned 3"]),
    "takes one": (lambda batch_size: 3, ["function (batch_size, length)", "got <lambda>(batch_s"]),
    "in a library": (
        own_advantage(in_a_library),
        ["advantage.weights fails", breaks(in_a_library)],
    ),
    "in Python's": (
        own_advantage(in_the_standard_library),
        ["advantage.weights fails", breaks(in_the_standard_library)],
    ),
}


@pytest.mark.parametrize("name", ADVANTAGES)
def test_an_advantage_of_ones_own_keeps_its_contract(name):
    advantage, words = ADVANTAGES[name]
    spec = simrl.Spec(learner=simrl.PolicyGradient(advantage, group_size=4), max_steps=2)
    assert_refused(lambda: simrl.run(spec, 2), *words)


def test_no_line_of_simrls_is_shown_for_the_users():
    fails = functools.partial(max, "in C, and does not say what it takes")
    spec = simrl.Spec(learner=simrl.PolicyGradient(fails), max_steps=2)
    with pytest.raises(simrl.SpecError, match="fails: TypeError") as caught:
        simrl.run(spec, 2)
    assert ", line " not in str(caught.value)


@pytest.mark.parametrize("shape", [simrl.Shape(1, 1, 1), simrl.Shape(0, 1, 2), (1, 1, 4), None])
def test_a_world_of_ones_own_leaves_a_choice(shape):
    world = simrl.Bandit(num_arms=2).build()._replace(shape=shape)
    cells = simrl.Sweep(simrl.Spec(world)).cells
    assert_refused(cells, "1 prompt, 1 position and 2 symbols")
    assert len(simrl.Sweep(simrl.Spec(world._replace(shape=simrl.Shape(1, 1, 2)))).cells()) == 1


def test_things_of_ones_own_still_go_where_they_belong():
    world = simrl.Bandit(num_arms=4).build()
    spec = specs.resolved(simrl.Spec(lambda: world, learner=simrl.PolicyGradient()))
    assert spec.environment.build() is world
    assert specs.resolved(spec) == spec


DATA = xr.Dataset({"pass_rate": (("cell", "seed", "log_point"), np.ones((1, 3, 2)))})
TABLES = {
    "curve": lambda data: simrl.curve_table(data, "pass_rate"),
    "phase": simrl.phase_table,
    "hitting": simrl.hitting_table,
    "long": simrl.long_table,
    "score": lambda data: simrl.score_arrays(data, "pass_rate", "cell"),
    "last": lambda data: simrl.last_values(data, "pass_rate"),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("data", [None, "results/rates", DATA.mean("seed")])
def test_tables_are_made_of_a_dataset_with_seeds(name, data):
    assert_refused(lambda: TABLES[name](data), "Dataset" if data is None else "", error=ValueError)


def test_tables_are_made_of_what_is_there():
    for make in (
        lambda: simrl.each_cell(None),
        lambda: simrl.curve_table(DATA, "loss"),
        lambda: simrl.curve_table(DATA, ["pass_rate"]),
        lambda: simrl.last_values(DATA.isel(log_point=0), "pass_rate"),
        lambda: simrl.phase_table(DATA),
        lambda: simrl.hitting_table(DATA),
        lambda: simrl.long_table(DATA, 3),
    ):
        assert_refused(make, error=ValueError)


ROW = np.ones(3)
INTERVALS = {
    "words": (lambda: simrl.interval(ROW, "x"), ["confidence", "'x'"]),
    "none": (lambda: simrl.interval(None), ["one per seed", "None"]),
    "text": (lambda: simrl.interval("abc"), ["one per seed", "'abc'"]),
    "table": (lambda: simrl.interval(np.ones((3, 2))), ["one per seed"]),
    "unlike": (lambda: simrl.pooled_ratio(ROW, np.ones(4)), ["3 and 4"]),
    "single": (lambda: simrl.pooled_ratio(1.0, 2.0), ["one per seed", "1.0"]),
}


@pytest.mark.parametrize("name", INTERVALS)
def test_an_interval_is_made_of_a_row(name):
    make, words = INTERVALS[name]
    assert_refused(make, *words, error=ValueError)


PROBS = jnp.array([0.2, 0.3, 0.5])
information, gradients = simrl.measures.information, simrl.measures.gradients
OF_INDEX = {
    "outcome": lambda y: information.realised_information(PROBS, y, "outcome"),
    "label": lambda y: information.realised_information(PROBS, y, "label"),
    "sequence": lambda y: gradients.sequence_moments(PROBS, y, "exact").trace_covariance,
    "batch": lambda y: gradients.batch_moments(PROBS, y, 4, "leave_one_out").trace_covariance,
}


@pytest.mark.parametrize("name", OF_INDEX)
@pytest.mark.parametrize("index", [7, -1, np.array(3)])
def test_an_answer_that_is_none_is_refused_where_it_is_known(name, index):
    says = f"must lie in 0 ... 2, not {index}"
    assert_refused(lambda: OF_INDEX[name](index), says, error=ValueError)


def test_an_answer_is_not_looked_at_within_a_program():
    measure = OF_INDEX["label"]
    np.testing.assert_allclose(jax.jit(measure)(2), measure(2), rtol=1e-6)
    assert np.isinf(jax.jit(measure)(7))
    assert_refused(lambda: measure(1.5), "truth must be integers", error=ValueError)
