"""Numbers of updates beyond 2^31: the clock's words against Python's integers, and runs by it.

The world is one right answer of 16^8 and REINFORCE without baseline, whose policies are fixed: the
waits are geometric, with chances from all logits in float64.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import simrl
from simrl.engine import clock
from simrl.learners import optimizers
from simrl.measures import phases
from simrl.sweeps import checks
from simrl.sweeps import spec as specs
from simrl.sweeps.export import export
from simrl.sweeps.table import hitting_table
from tests.engine.bits import assert_same_bits

EDGES = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40, 2**52 + 1, 2**53 - 1, 2**53]
SEEDS = 1024
BUDGET = 2**52 + 1
CHARGES = {"samples": 1, "trajectories": 1, "tokens": 8, "flops": 8 * 16 * 8}  # of one update


def spec_of(rate, max_steps):
    """Numbers alone differ: one program."""
    optimizer = simrl.Optimizer("sgd", {"learning_rate": rate})
    spec = simrl.Spec(
        simrl.Sequence(16, 8, "exact"),
        simrl.PolicyGradient("none", group_size=1, optimizer=optimizer),
        max_steps=max_steps,
        log_points=3,
        stop_pass_rate=0.5,
        thresholds=(0.5,),
        phases=simrl.Phases(low=-24.0, high=0.0, num=24),
        engine="auto",
    )
    return specs.resolved(spec)


def chances(rate):
    """Pass rates before each right answer, up to one half."""
    logits, found = np.zeros(16), []
    while (p := (probs := np.exp(logits - np.logaddexp.reduce(logits)))[0] ** 8) < 0.5:
        found.append(p)
        logits = logits + rate * (np.eye(16)[0] - probs)
    return np.array(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("far") / "results"


@pytest.fixture(scope="module")
def far(folder, all_optimised):
    """Until one answer in two is right, stored."""
    spec = spec_of(0.3, 2**45)
    assert checks.path(spec) == "jump"
    return simrl.run(spec, SEEDS, out=folder).isel(cell=0)


@pytest.fixture(scope="module")
def unlearning(far):
    """A rate below 0: after one right answer there is none ever; the budget ends the run."""
    with pytest.MonkeyPatch.context() as patch:  # rates below 0 are refused
        patch.setattr(optimizers, "range_problems", lambda name, numbers: [])
        return simrl.run(spec_of(-400.0, BUDGET), 100).isel(cell=0)


def clocks(counts, path="jump"):
    return jnp.asarray(np.stack([clock.of(count, path) for count in counts]))


def test_clocks_of_both_kinds_are_integers():
    for path, counts in (("jump", EDGES), ("plain", EDGES[:3])):
        pairs = [pair for pair in itertools.product(counts, repeat=2) if pair[0] > 0]
        one, other = (clocks(side, path) for side in zip(*pairs, strict=True))
        first = np.array([a for a, _ in pairs])
        np.testing.assert_array_equal(clock.counts(one), first)
        assert clock.counts(one).dtype == np.int64
        before = jax.jit(clock.earlier)(one, other)
        half = jax.jit(clock.interpolated)(one, jnp.float32(0.5))
        assert before.tolist() == [a < b for a, b in pairs]
        np.testing.assert_allclose(np.float64(half), first - 0.5, rtol=2e-7)
        far = first >= 2**31
        assert (np.abs(clock.times(half, one) - first + 0.5)[far] <= 0.5).all()
        chosen = clock.chosen(first > 7, one, clock.of(-1, path))
        np.testing.assert_array_equal(clock.counts(chosen), np.where(first > 7, first, -1))
        np.testing.assert_array_equal(clock.never(chosen), first <= 7)
    stretch = clock.end_of_stretch(jnp.array([0, 7, 9, 12]), jnp.full(4, 5), jnp.int32(10))
    assert stretch.tolist() == [5, 10, 10, 12]
    jump = clock.end_of_stretch(clocks(EDGES[:3]), jnp.full(3, 5), clock.of(2**40, "jump"))
    assert clock.counts(jump).tolist() == [2**40] * 3


def test_charges_are_multiplied_by_counts_of_two_words():
    rng = np.random.default_rng(6)
    charges = [*rng.integers(0, 2**40, 50).tolist(), *EDGES]
    times = [*(rng.integers(0, 2**53, 50) >> rng.integers(0, 53, 50)).tolist(), *EDGES[::-1]]
    found = jax.jit(jax.vmap(phases.multiply_counts))(clocks(charges), clocks(times))
    wanted = [a * b % 2**64 for a, b in zip(charges, times, strict=True)]
    assert phases.count_of(found).tolist() == wanted
    assert sum(n > 2**53 for n in wanted) > 10


def test_mean_guesses_are_the_sum_of_one_over_p(far):
    p = chances(0.3)
    assert 1 / p[0] == 2**32
    found = far["total_samples"].values.astype(np.int64)
    assert far["stopped"].all()
    assert (found > 2**32).mean() > 0.3
    error = np.sqrt(np.sum((1 - p) / p**2) / SEEDS)
    assert abs(found.mean() - np.sum(1 / p)) < 4 * error
    drawn = np.random.default_rng(0).geometric(p, (20_000, len(p))).sum(axis=1)
    assert stats.ks_2samp(found, drawn, method="asymp").pvalue > 0.001


def test_phases_are_weighed_by_the_samples_passed_over(far):
    p = chances(0.3)
    low, high = far["phase_low"].values, far["phase_high"].values
    place = np.searchsorted(high, np.log(p) - np.log1p(-p), side="right")
    held = np.bincount(place, minlength=len(low))
    np.testing.assert_array_equal(far["phase_success"].values, np.tile(held, (SEEDS, 1)))
    alone = held[place] == 1  # its phase has the waits at this chance, and no others
    assert alone.sum() > 5
    chance, place = p[alone], place[alone]
    spent = far["phase_trajectories"].values[:, place]
    assert spent.max() > 2**33
    verdict = -(chance * np.log2(chance) + (1 - chance) * np.log1p(-chance) / np.log(2))
    for name, wanted in (("pass_rate", chance), ("nominal", verdict)):
        mean = far[f"phase_{name}"].values[:, place] / spent
        np.testing.assert_allclose(mean, np.tile(wanted, (SEEDS, 1)), rtol=5e-5, err_msg=name)
    # At the uniform start all guesses tell alike, so that those passed over tell what they cost.
    told = far["phase_expected_update"].values[:, place[0]] / spent[:, 0]
    np.testing.assert_allclose(told, verdict[0], rtol=5e-5)
    told = far["phase_realised_update"].values[:, place[0]]
    rest = -np.log1p(-chance[0]) / np.log(2) * (spent[:, 0] - 1)
    np.testing.assert_allclose(told, 32 + rest, rtol=5e-5)


@pytest.mark.parametrize("name", ["far", "unlearning"])
def test_totals_are_whole_numbers_of_updates(name, request):
    data = request.getfixturevalue(name)
    steps = data["total_step"].values.tolist()
    kinds = ("matmul", "elementwise", "transcendental", "reduction")
    counted = sum(int(data[f"update_learner_{kind}"].values[0]) for kind in kinds)
    if name == "unlearning":
        assert int(float(counted * BUDGET)) != counted * BUDGET  # beyond what float64 holds
    for counter, charge in {**CHARGES, "flops_counted": counted}.items():
        total = data[f"total_{counter}"].values
        assert total.dtype == np.uint64
        assert total.tolist() == [charge * n for n in steps]
        parts = data[f"phase_{counter}"].values.tolist()
        assert [sum(row) for row in parts] == total.tolist()
    right = data["phase_success"].values.sum(axis=1).astype(int).tolist()
    assert data["total_dead"].values.tolist() == [n - k for n, k in zip(steps, right, strict=True)]


def test_a_budget_past_2_to_the_52_is_reached_exactly(unlearning):
    assert set(unlearning["total_step"].values.tolist()) == {BUDGET}
    assert set(unlearning["total_dead"].values.tolist()) == {BUDGET - 1}
    assert not unlearning["stopped"].any()
    looks = np.round(np.geomspace(1, BUDGET, 4)).astype(np.int64)[1:]
    np.testing.assert_array_equal(unlearning["steps_done"].values, [[0, *looks[:-1], BUDGET]] * 100)
    np.testing.assert_array_equal(unlearning["step"].values, [0, *looks[:-1], BUDGET])
    assert np.isnan(unlearning["hit_step"].values).all()
    assert np.isnan(unlearning["hit_time"].values).all()


def test_stored_numbers_lose_nothing(far, folder, tmp_path):
    again = simrl.open(folder).isel(cell=0)
    assert_same_bits(far, again)
    steps = again["hit_step"].values[:, 0]
    np.testing.assert_array_equal(steps, far["total_step"].values)
    np.testing.assert_array_equal(again["hit_samples"].values[:, 0], steps)
    within = again["hit_time"].values[:, 0] - steps
    assert ((within >= -1) & (within <= 0))[steps > 2**31].all()
    row = hitting_table(again).iloc[0]
    wanted = sum(steps.tolist()) / SEEDS
    np.testing.assert_allclose([row["step_mean"], row["samples_mean"]], wanted, rtol=1e-14)
    with xr.open_dataset(export(again, tmp_path / "far.nc"), engine="h5netcdf") as read:
        assert read["hit_step"].values.tobytes() == again["hit_step"].values.tobytes()
        assert read["total_flops"].values.tobytes() == again["total_flops"].values.tobytes()


def test_too_many_updates_are_refused_with_the_reason(tmp_path):
    spec = spec_of(1.0, 2**53)
    refused = {
        "max_steps must be in 1 ... 9007199254740992,": {"max_steps": 2**53 + 1},
        "engine fused makes every update.*engine jump takes more": {"engine": "fused"},
        "engine jump is not exact here: there must be one prompt": {
            "environment": simrl.Sequence(16, 8, "exact", num_prompts=2)
        },
        "max_steps must be at most [0-9]+, not .* FLOPs": {},
    }
    for reason, changes in refused.items():
        with pytest.raises(simrl.SpecError, match=reason) as error:
            simrl.run(dataclasses.replace(spec, **changes), 2, out=tmp_path / "new")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()
    most = int(str(error.value).split("at most ")[1].split(",")[0])
    charge = int(str(error.value).split("charged ")[1].split(" ")[0])
    assert charge * most < 2**64 <= charge * (most + 1)
