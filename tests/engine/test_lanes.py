"""Many seeds: the same bits in any company and on any devices; one program for many numbers."""

import dataclasses

import jax
import numpy as np
import pytest

import simrl
from simrl.engine import lanes, pool, stretches
from simrl.sweeps import spec as specs
from tests.engine.bits import assert_same_bits

SOME = range(300, 400)


def change(spec, **changes):
    return dataclasses.replace(spec, **changes)


def with_numbers(spec, **numbers):
    optimizer = simrl.Optimizer(spec.learner.optimizer.name, numbers)
    return change(spec, learner=change(spec.learner, optimizer=optimizer))


@pytest.fixture(scope="module")
def momentum(guessing):
    """A stop, momentum and sparse looks; shares the program of `guessing`."""
    spec = with_numbers(guessing, learning_rate=0.3, momentum=0.5)
    return change(spec, log_points=4, stop_pass_rate=0.95, observe_every=5)


@pytest.fixture(scope="module")
def alone(momentum):
    return simrl.run(momentum, SOME, devices=2)


def test_seeds_alone_equal_seeds_in_company(momentum, alone):
    company = simrl.run(momentum, 4096, devices=2)
    assert len(set(company["total_step"].values.ravel().tolist())) > 15
    assert_same_bits(alone, company.sel(seed=list(SOME)))


def test_seeds_on_one_device_equal_seeds_on_two(momentum, alone):
    assert_same_bits(alone, simrl.run(momentum, SOME, devices=1))
    assert_same_bits(alone, simrl.run(momentum, 512, devices=1).sel(seed=list(SOME)))


@pytest.fixture(scope="module")
def noisy():
    """Seeds that leave their phases early and late, 100 alone and in company; short chunks."""
    spec = simrl.Spec(
        simrl.Sequence(10, 1, labels="zipf"),
        simrl.Supervised(4, optimizer=simrl.Optimizer("sgd", {"learning_rate": 0.5})),
        phases=simrl.Phases("excess_loss", low=-6.0, high=3.0, num=18),
        max_steps=300,
        log_points=3,
        observe_every=80,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "MAX_STRETCHES", 3)
        return simrl.run(spec, SOME, devices=2), simrl.run(spec, 512, devices=2)


def test_stretches_are_a_seeds_own(noisy):
    """A chunk takes so many of each seed, however many the others have made by then."""
    alone, company = noisy
    assert_same_bits(alone, company.sel(seed=list(SOME)))


def test_what_is_absorbed_about_labels_is_what_the_gap_loses(noisy):
    """log p of labels from their law is the gap's negative, but for the entropy of the law."""
    data = noisy[1].isel(cell=0)
    gap = data["gap"].values.astype(np.float64)
    lost, found = gap[:, 0] - gap[:, -1], data["phase_absorbed_label"].sum("phase").values
    assert lost.min() > 0.2
    assert np.ptp(lost) > 0.1
    rounding = np.finfo(np.float32).eps * np.log2(10) * 4  # of a stretch: two scores, their sums
    np.testing.assert_allclose(found, lost, rtol=0, atol=300 * rounding)


def test_seeds_that_cannot_stop_are_not_waited_for(momentum, monkeypatch):
    """And go the same way as those that could have stopped, but did not."""
    finished, waits = pool._finished, []

    def waited(batch, until):
        waits.append(until)
        return finished(batch, until)

    monkeypatch.setattr(pool, "_finished", waited)
    monkeypatch.setattr(pool, "MAX_LOOKS", 1)  # one program, and sums added up in one way
    found = simrl.run(change(momentum, stop_pass_rate=1.0), SOME, devices=2)
    assert waits == []
    assert float(found["pass_rate"].max()) > 0.95  # where others of that program stop
    other = simrl.run(change(momentum, stop_pass_rate=1 - 1e-9), SOME, devices=2)
    assert len(waits) >= found.sizes["log_point"]
    assert_same_bits(found, other)


@pytest.mark.usefixtures("users_programs")
def test_adam_over_prompts_keeps_its_bits(several):
    spec = change(several, log_points=2)
    alone = simrl.run(spec, SOME, devices=2)
    assert_same_bits(alone, simrl.run(spec, 512, devices=2).sel(seed=list(SOME)))
    assert_same_bits(alone, simrl.run(spec, SOME, devices=1))


@pytest.mark.usefixtures("users_programs")
@pytest.mark.parametrize(
    ("world", "advantage"),
    [
        (simrl.Sequence(10, 1, labels="zipf"), simrl.Affine(1.0, 1.0)),
        (simrl.Sequence(4, 2, "fraction", "zipf"), simrl.Affine(1.0, 1.0)),
        (simrl.Sequence(5, 3, "prefix"), simrl.RunningMean()),
    ],
)
def test_moments_have_the_same_bits_on_one_device_and_two(world, advantage):
    """Worlds whose moments a compiler that simplifies differently for two devices would round."""
    learner = simrl.PolicyGradient(advantage, group_size=3)
    spec = simrl.Spec(world, learner, max_steps=60, log_points=4, observe_every=2)
    two = simrl.run(spec, SOME, devices=2)
    assert_same_bits(two, simrl.run(spec, SOME, devices=1))
    assert np.isfinite(two["phase_trace_covariance"].values).all()


def test_looking_does_not_disturb(guessing, guessed):
    seldom = simrl.run(change(guessing, log_points=1, observe_every=100), guessed.sizes["seed"])
    for name in ("log_odds", "belief", "trace_covariance"):
        last = seldom[name].isel(cell=0, log_point=-1).values
        assert last.tobytes() == guessed[name].isel(log_point=-1).values.tobytes(), name


def test_seeds_differ_and_base_seeds_differ(guessing, guessed):
    paths = guessed["log_odds"].values
    assert len(np.unique(paths, axis=0)) == len(paths)
    other = simrl.run(change(guessing, base_seed=1), 8).isel(cell=0)["log_odds"].values
    assert not np.any(np.all(other == paths[:8], axis=1))


def test_conditions_that_share_seeds_share_random_numbers(guessing):
    spec = change(guessing, max_steps=1, log_points=1)
    small, smaller = (
        simrl.run(with_numbers(spec, learning_rate=rate, momentum=0.0), 64).isel(cell=0)
        for rate in (1e-2, 1e-3)
    )
    np.testing.assert_array_equal(small["phase_success"].values, smaller["phase_success"].values)


COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compiled():
    """Counts programs compiled while the test runs."""
    seen = []

    def listen(event, duration, **about):
        if event == COMPILED:
            seen.append(about)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def test_numbers_share_one_program(guessing, guessed, compiled):
    base = with_numbers(guessing, learning_rate=1.0, momentum=0.0)
    quick = change(base, max_steps=3, log_points=1)
    rates = {"learner.optimizer.learning_rate": [0.1 * i for i in range(1, 9)]}
    many = simrl.run(simrl.Sweep(quick, rates), 8)
    assert many.sizes["learning_rate"] == 8
    names = {"learner.advantage": ["none", "batch_mean", "leave_one_out"]}
    weighed = simrl.run(simrl.Sweep(quick, names), 8)
    simrl.run(change(quick, max_steps=5, thresholds=(0.1, 0.2, 0.3), base_seed=3), 8)
    assert compiled == []
    final = weighed["log_odds"].isel(log_point=-1).values
    assert len(np.unique(final[:, 0])) > 1  # the numbers do reach the program


def test_whole_numbers_and_halves_are_one_program(small, compiled):
    counts = []
    for rate in (1, 1.5, np.float32(2.0), np.float64(3.0)):
        learner = simrl.Supervised(optimizer=simrl.Optimizer("sgd", {"learning_rate": rate}))
        simrl.run(change(small, learner=learner), 2)
        counts.append(len(compiled))
    assert counts == [counts[0]] * 4  # the first may compile


def test_structure_compiles_anew(small, compiled):
    """The listener of the two tests above does hear a compile."""
    simrl.run(change(small, environment=simrl.Bandit(num_arms=5)), 2)
    assert {"jit(start)", "jit(chunk)"} <= {about["fun_name"] for about in compiled}


def test_all_devices_by_default():
    """Here tests are given one, by conftest."""
    assert lanes.mesh_of.__wrapped__(None).devices.tolist() == jax.devices()
    assert len(jax.devices()) == 2


def test_widths_are_powers_of_two_from_shapes():
    def width(environment, learner, *platform):
        parts = (environment, simrl.Tabular(), learner)
        return lanes.width_for(specs.build(parts), *platform)

    assert width(simrl.Bandit(num_arms=2), simrl.Supervised()) == lanes.WIDTHS[1]
    assert width(simrl.Bandit(num_arms=100_000), simrl.Supervised()) == lanes.WIDTHS[0]
    wide = width(simrl.Bandit(num_arms=1000), simrl.Supervised())
    assert lanes.WIDTHS[0] <= wide <= lanes.FUSED_WIDTHS[1]
    assert wide & (wide - 1) == 0
    on_gpu = width(simrl.Bandit(num_arms=1000), simrl.Supervised(), "gpu")
    assert lanes.WIDE_WIDTHS[0] < on_gpu < lanes.WIDE_WIDTHS[1]
    assert on_gpu & (on_gpu - 1) == 0
    assert width(simrl.Bandit(num_arms=2), simrl.Supervised(), "gpu") == lanes.WIDE_WIDTHS[1]


def test_world_and_learner_share_the_count_of_an_update(guessing):
    trial = specs.build((guessing.environment, guessing.policy, guessing.learner))
    own, world = lanes.count_update(trial)
    assert own.total > 0
    assert min(own) >= 0
    assert min(world) >= 0
    answers, fields = guessing.learner.group_size, 1
    assert world.total <= 10 * answers * fields  # a comparison or two for each answer
    assert own.random_words + world.random_words >= answers
