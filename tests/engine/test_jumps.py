"""Jumps over updates that change nothing: in law the plain path, to the last count."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.engine import stretches
from simrl.measures import phases
from simrl.sweeps import checks
from simrl.sweeps import spec as specs
from tests.engine.bits import assert_jumps_keep_their_bits

SEEDS = 1024
RATE = simrl.Optimizer("sgd", {"learning_rate": 1.0})


def spec_of(world, advantage, size, **changes):
    learner = simrl.PolicyGradient(advantage, group_size=size, optimizer=RATE)
    spec = simrl.Spec(world, learner, max_steps=400, log_points=6, stop_pass_rate=0.95)
    return specs.resolved(dataclasses.replace(spec, observe_every=1, **changes))


WORLDS = {
    "one arm": (simrl.Bandit(num_arms=20), "leave_one_out", 3),
    "sequence": (simrl.Sequence(5, 2), "group_normalised", 4),
}


@pytest.fixture(scope="module", params=WORLDS)
def both(request):
    """The same spec by either path."""
    spec = spec_of(*WORLDS[request.param])
    return tuple(
        simrl.run(dataclasses.replace(spec, engine=path), SEEDS).isel(cell=0)
        for path in ("plain", "jump")
    )


ALIKE = (
    "total_samples",
    "total_dead",
    "total_flops",
    "total_flops_counted",
    "total_flops_dead",
    "hit_step",
    "hit_samples",
    "phase_trajectories",
    "phase_success",
    "phase_expected",
    "phase_realised",
    "phase_expected_update",
    "phase_realised_update",
    "phase_absorbed",
    "phase_trace_covariance",
    "pass_rate",
    "stopped",
)


@pytest.mark.parametrize("name", ALIKE)
def test_both_paths_have_one_law(both, name):
    one, other = (np.nan_to_num(np.float64(data[name].values)) for data in both)  # NaN: never
    error = np.sqrt((one.var(axis=0) + other.var(axis=0)) / SEEDS)
    slack = 1e-5 * np.abs(one).max()
    difference = np.abs(one.mean(axis=0) - other.mean(axis=0))
    np.testing.assert_array_less(difference, 4.5 * error + slack + 1e-12)


def test_charges_are_those_of_every_sample(both):
    _, data = both
    steps, size = data["total_step"].values, data["update_trajectories"].values
    np.testing.assert_array_equal(data["total_trajectories"].values, steps * size)
    lines = sum(data[f"total_flops_{line}"].values for line in ("decode", "training", "dead"))
    np.testing.assert_array_equal(lines, data["total_flops"].values)
    np.testing.assert_array_equal(
        data["phase_samples"].sum("phase").values, data["total_samples"].values
    )
    ended = data["stopped"].values | (steps == 400)
    assert ended.all()


def test_a_jump_stops_at_the_budget():
    spec = spec_of(
        simrl.Bandit(num_arms=1000), "none", 1, max_steps=300, log_points=2, engine="auto"
    )
    assert (
        checks.path(spec) == "jump, lumped"
    )  # by itself: one update in a thousand changes anything
    spec = dataclasses.replace(spec, log_spacing="linear", stop_pass_rate=1.0)
    data = simrl.run(spec, 256).isel(cell=0)
    assert (data["total_step"].values == 300).all()
    assert (data["steps_done"].values == [0, 150, 300]).all()
    hits = data["phase_success"].sum("phase").values
    np.testing.assert_array_equal(data["total_dead"].values, 300 - hits)
    never = 0.999**300  # before its first hit a seed guesses at 1/1000
    assert abs((hits == 0).mean() - never) < 4 * np.sqrt(never * (1 - never) / 256)


@pytest.mark.usefixtures("users_programs")
def test_jumps_keep_their_bits():
    spec = spec_of(*WORLDS["sequence"], engine="jump")
    assert_jumps_keep_their_bits(spec)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment": simrl.Sequence(5, 2, "token")}, "whole answers"),
        ({"environment": simrl.Sequence(5, 1, labels="zipf")}, "whole answers"),
        ({"environment": simrl.Sequence(5, 2, num_prompts=2)}, "one prompt"),
        ({"learner": simrl.Supervised()}, "only policy gradient"),
        ({"learner": simrl.PolicyGradient(simrl.RunningMean())}, "number of successes"),
        (
            {"learner": simrl.PolicyGradient(optimizer=simrl.Optimizer("adam", learning_rate=1.0))},
            "sgd with a learning_rate alone",
        ),
    ],
)
def test_what_is_not_exact_is_refused_with_its_reason(changes, reason):
    spec = simrl.Spec(simrl.Sequence(5, 2), simrl.PolicyGradient(), engine="jump")
    with pytest.raises(simrl.SpecError, match=reason) as error:
        simrl.run(dataclasses.replace(spec, **changes), 2)
    assert "\n" not in str(error.value)
    automatic = specs.resolved(dataclasses.replace(spec, engine="auto", **changes))
    assert "jump" not in checks.path(automatic)


def test_the_path_is_in_the_manifest():
    rare, often = simrl.Bandit(num_arms=5000), simrl.Bandit(num_arms=5)
    spec = simrl.Spec(rare, simrl.PolicyGradient(group_size=2), engine="auto")
    sweep = simrl.Sweep(spec, {"environment": {"rare": rare, "often": often}})
    assert [cell["path"] for cell in sweep.describe()["cells"]] == ["jump, lumped", "fused"]
    with pytest.raises(simrl.SpecError, match="engine must be one of fused, plain, jump, auto"):
        simrl.run(dataclasses.replace(spec, engine="fast"), 2)


def test_false_alarms_decide_whether_jumps_pay():
    """A verifier that errs may be jumped by; its wrong answers bear weights and are not lumped."""
    noisy = simrl.Bandit(num_arms=5000, verifier="noisy", false_negative=0.3)
    learner = simrl.PolicyGradient("none", group_size=2)
    found = {}
    for alpha in (0.0, 1e-4, 0.1):
        world = dataclasses.replace(noisy, false_positive=alpha)
        found[alpha] = checks.path(specs.resolved(simrl.Spec(world, learner, engine="auto")))
    assert found == {0.0: "jump", 1e-4: "jump", 0.1: "fused"}


def test_counts_are_multiplied_exactly():
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 2**63, 200, dtype=np.uint64) >> rng.integers(0, 63, 200).astype("u8")
    times = rng.integers(0, 2**32, 200, dtype=np.uint64)
    words = jnp.asarray(np.stack([phases.words_of(int(count)) for count in counts]))
    found = phases.count_of(phases.multiply_words(words, jnp.asarray(times, jnp.uint32)))
    wanted = [int(a) * int(b) % 2**64 for a, b in zip(counts, times, strict=True)]
    assert found.tolist() == wanted
    np.testing.assert_allclose(phases.float_of(words), counts.astype(np.float64), rtol=1e-6)


def test_long_chunks_are_cut_without_a_trace(monkeypatch, small):
    """Sums of a run do not depend on where chunks end, but for the rounding of float32."""
    spec = dataclasses.replace(small, max_steps=40, log_points=1, observe_every=1)
    whole = simrl.run(spec, 16)
    monkeypatch.setattr(stretches, "MAX_STRETCHES", 7)
    other = dataclasses.replace(spec, num_redraws=63)  # another program
    cut = simrl.run(other, 16)
    for name in whole.data_vars:
        exact = whole[name].dtype.kind != "f"
        np.testing.assert_allclose(
            whole[name].values, cut[name].values, rtol=0 if exact else 1e-5, err_msg=name
        )
