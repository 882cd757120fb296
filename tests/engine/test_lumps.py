"""Runs whose answers are carried as one: in law those that list every answer, to the last count."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

import simrl
from simrl.learners import lumping
from simrl.sweeps import checks
from simrl.sweeps import spec as specs
from tests.engine.bits import assert_jumps_keep_their_bits
from tests.engine.test_jumps import ALIKE

SEEDS = 384


def spec_of(num_arms, advantage, size, rate=1.0, **changes):
    optimizer = simrl.Optimizer("sgd", {"learning_rate": rate})
    learner = simrl.PolicyGradient(advantage, size, optimizer=optimizer)
    spec = simrl.Spec(simrl.Bandit(num_arms=num_arms), learner, max_steps=20_000, log_points=8)
    return specs.resolved(
        dataclasses.replace(spec, **{"stop_pass_rate": 0.9, "engine": "jump", **changes})
    )


CASES = {
    "no weight of failures": (200, "none", 2),
    "repeats": (300, "leave_one_out", 6, 1.5),
}


@pytest.fixture(scope="module", params=CASES)
def both(request):
    """The same spec without lumps and with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lumping, "sizes", lambda vocab_size, failure: ())
        spec = spec_of(*CASES[request.param])  # how a spec is run is found once
        assert checks.path(spec) == "jump"
        dense = simrl.run(spec, range(SEEDS, 2 * SEEDS)).isel(cell=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lumping, "FEWEST", 16)  # so that some seeds are run again
        patch.setattr(lumping, "GROUPS", 2)
        spec = spec_of(*CASES[request.param])
        assert checks.path(spec) == "jump, lumped"
        return dense, simrl.run(spec, SEEDS).isel(cell=0)


@pytest.mark.parametrize("name", [*ALIKE, "nominal", "expected", "realised", "squared_norm"])
def test_lumped_or_not_is_one_law(both, name):
    # How many seeds reached a pass rate has one law too: NaN, not reached, is a number of its own.
    one, other = (np.nan_to_num(np.float64(data[name].values), nan=-1) for data in both)
    error = np.sqrt((one.var(axis=0) + other.var(axis=0)) / SEEDS)
    slack = 1e-5 * np.abs(one).max()
    difference = np.abs(one.mean(axis=0) - other.mean(axis=0))
    np.testing.assert_array_less(difference, 4.5 * error + slack + 1e-12)


def test_whole_runs_have_one_law(both):
    for name in ("total_samples", "total_dead", "phase_success", "phase_realised_update"):
        one, other = (np.float64(data[name].values) for data in both)
        if one.ndim > 1:
            one, other = (x.sum(axis=-1) for x in (one, other))
        assert stats.ks_2samp(one, other, method="asymp").pvalue > 0.001, name


def test_mean_guesses_are_the_sum_of_one_over_p():
    """REINFORCE without baseline: its policies are fixed, in float64, all 1,000 logits."""
    logits, passes = np.zeros(1000), []
    while (probs := np.exp(logits - np.logaddexp.reduce(logits)))[0] < 0.99:
        passes.append(probs[0])
        logits = logits + np.eye(1000)[0] - probs
    spec = spec_of(1000, "none", 1, stop_pass_rate=0.99, max_steps=2**30, engine="auto")
    data = simrl.run(spec, 2000).isel(cell=0)
    assert data["stopped"].all()
    found, p = data["total_samples"].values, np.array(passes)
    error = np.sqrt(np.sum((1 - p) / p**2) / len(found))
    assert abs(found.mean() - np.sum(1 / p)) < 4 * error
    assert (data["phase_success"].sum("phase") == len(passes)).all()
    np.testing.assert_array_equal(data["total_dead"].values, found - len(passes))
    half = np.argmax(p >= 0.5)
    error = np.sqrt(np.sum(((1 - p) / p**2)[:half]) / len(found))
    mean = data["hit_samples"].sel(threshold=0.5).values.mean()
    assert abs(mean - np.sum(1 / p[:half])) < 4 * error


@pytest.fixture(scope="module")
def with_entries():
    """The same runs, with beliefs, with many entries at first and with few."""
    spec = spec_of(1024, "group_normalised", 8, 0.7, keep_beliefs=True, log_points=2)
    spec = dataclasses.replace(spec, environment=simrl.Sequence(1024, 1, "token"))
    assert checks.lump_sizes(spec) == (256, 1024)
    many = simrl.run(spec, 128, devices=1).isel(cell=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lumping, "FEWEST", 186)
        patch.setattr(lumping, "GROUPS", 1)
        assert checks.lump_sizes(spec) == (186, 1024)
        return many, simrl.run(spec, 128, devices=1).isel(cell=0)


def test_seeds_that_need_more_entries_are_run_again(with_entries):
    """With few entries at first or with many: the same runs, up to rounding, none selected."""
    many, few = with_entries
    assert many["stopped"].all()
    belief = few["belief"].values[:, -1, 0, 0]
    touched = (belief != np.median(belief, axis=1, keepdims=True)).sum(axis=1) - 1
    assert 0.1 < (touched > 184).mean() < 0.9  # these seeds were
    same = few["total_samples"].values == many["total_samples"].values
    assert same.mean() > 0.97
    for name in few.data_vars:
        if "seed" not in few[name].dims:
            continue
        one, other = (np.float64(data[name].values)[same] for data in (few, many))
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4, err_msg=name)


def test_beliefs_list_every_answer(with_entries):
    for data in with_entries:
        belief = data["belief"].values[:, :, 0, 0]
        assert belief.shape == (128, 3, 1024)
        np.testing.assert_allclose(np.exp(np.float64(belief)).sum(axis=-1), 1, rtol=1e-5)
        np.testing.assert_allclose(belief[:, 0], -np.log(1024), rtol=1e-6)
        right = np.exp(belief[:, -1].max(axis=-1))
        np.testing.assert_allclose(right, data["pass_rate"].values[:, -1], rtol=1e-5)
        assert len(np.unique(belief[:, -1].argmax(axis=-1))) > 100  # each seed has its own secret


@pytest.mark.usefixtures("users_programs")
def test_lumps_keep_their_bits():
    spec = spec_of(2000, "group_normalised", 8)
    assert checks.path(spec) == "jump, lumped"
    assert_jumps_keep_their_bits(spec)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({}, "jump, lumped"),
        ({"environment": simrl.Sequence(5000, 1, "prefix")}, "jump, lumped"),
        ({"environment": simrl.Sequence(90, 2)}, "jump"),
        ({"environment": simrl.Sequence(5000, 1, labels="zipf")}, "fused"),
        ({"measures": ("redraws",)}, "jump"),
        ({"engine": "plain"}, "plain"),
        ({"learner": simrl.PolicyGradient("group_normalised", group_size=20)}, "jump, lumped"),
        ({"learner": simrl.PolicyGradient("group_normalised", group_size=60)}, "jump"),
    ],
)
def test_lumps_are_chosen_where_they_are_exact_and_a_gain(changes, path):
    spec = spec_of(5000, "none", 1, engine="auto")
    assert checks.path(specs.resolved(dataclasses.replace(spec, **changes))) == path
