"""Schedules and clipping named in a spec, against optax used directly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import simrl
from simrl.learners import jumping
from simrl.sweeps import checks, identity
from simrl.sweeps import spec as specs
from tests.contracts.worlds import begun, build, streams

GRADIENTS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
COSINE = {"name": "adam", "learning_rate": 0.1, "schedule": "cosine_decay_schedule"}
COSINE |= {"decay_steps": 4, "alpha": 0.2}
CLIPPED = {"clip": "clip_by_global_norm", "max_norm": 0.7}
WARM = {"name": "sgd", "schedule": "warmup_cosine_decay_schedule", "warmup_steps": 2}
WARM |= {"init_value": 0.01, "peak_value": 0.5, "decay_steps": 5, "end_value": 0.1}
EXPONENTIAL = {"name": "sgd", "learning_rate": 0.3, "schedule": "exponential_decay"}
EXPONENTIAL |= {"transition_steps": 2, "decay_rate": 0.5, "momentum": 0.9}
CYCLE = {"name": "sgd", "schedule": "cosine_onecycle_schedule", "transition_steps": 4}
ADAPTIVE = {"name": "adam", "learning_rate": 0.1, "eps": 1e-3, "clip": "adaptive_grad_clip"}

PEAKED = {
    "warmup_constant_schedule": {"init_value": 0.01, "warmup_steps": 2},
    "warmup_cosine_decay_schedule": {
        "init_value": 0.01, "warmup_steps": 2, "decay_steps": 5, "end_value": 0.02
    },
    "warmup_exponential_decay_schedule": {
        "init_value": 0.0, "warmup_steps": 2, "transition_steps": 2, "decay_rate": 0.5,
        "end_value": 0.03,
    },
    "cosine_onecycle_schedule": {"transition_steps": 5},
    "linear_onecycle_schedule": {"transition_steps": 5},
}  # all that optax has  # fmt: skip

DIRECTLY = {
    "cosine": (COSINE, lambda: optax.adam(optax.cosine_decay_schedule(0.1, 4, 0.2))),
    "cosine, clipped": (
        COSINE | CLIPPED,
        lambda: optax.chain(
            optax.clip_by_global_norm(0.7), optax.adam(optax.cosine_decay_schedule(0.1, 4, 0.2))
        ),
    ),
    "clipped": (
        {"name": "sgd", "learning_rate": 0.1, **CLIPPED},
        lambda: optax.chain(optax.clip_by_global_norm(0.7), optax.sgd(0.1)),
    ),
    "warm-up": (
        WARM,
        lambda: optax.sgd(optax.warmup_cosine_decay_schedule(0.01, 0.5, 2, 5, 0.1)),
    ),
    "exponential": (EXPONENTIAL, lambda: optax.sgd(optax.exponential_decay(0.3, 2, 0.5), 0.9)),
    "constant": (
        {"name": "sgd", "learning_rate": 0.3, "schedule": "constant_schedule"},
        lambda: optax.sgd(optax.constant_schedule(0.3)),
    ),
    "one cycle": (
        CYCLE | {"peak_value": 0.5},
        lambda: optax.sgd(optax.cosine_onecycle_schedule(4, 0.5)),
    ),
    "adaptive": (
        ADAPTIVE | {"clipping": 0.1},  # eps is the optimiser's
        lambda: optax.chain(optax.adaptive_grad_clip(0.1), optax.adam(0.1, eps=1e-3)),
    ),
}


def learner(optimizer, **fields):
    spec = simrl.Spec(learner={"name": "supervised", "optimizer": optimizer, **fields})
    return simrl.Sweep(spec).cells()[0].spec.learner


def path_of(optimizer):
    """Parameters after each gradient."""
    params = jnp.arange(1.0, 4.0)
    state, seen = optimizer.init(params), []
    for gradient in GRADIENTS:
        moved, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, moved)
        seen.append(params)
    return jnp.stack(seen)


@pytest.mark.parametrize("name", DIRECTLY)
def test_it_is_optax_used_directly(name):
    """With every number that may be traced traced."""
    value, direct = DIRECTLY[name]
    spec = learner(value).optimizer
    found = jax.jit(lambda spec: path_of(spec.build()))(specs.traced(spec))
    wanted = jax.jit(lambda: path_of(direct()))()
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-7)
    plain = path_of(getattr(optax, value["name"])(0.1))
    assert np.abs(plain - wanted).max() > 1e-3  # it does something


def test_numbers_are_traced_and_horizons_are_not():
    spec = learner(COSINE | CLIPPED).optimizer
    assert spec.numbers == {"learning_rate": 0.1, "alpha": 0.2, "max_norm": 0.7}
    assert spec.fixed == (("decay_steps", 4),)
    made = simrl.Optimizer(
        "adam",
        {"learning_rate": 0.1, "decay_steps": 4, "alpha": 0.2, "max_norm": 0.7},
        "cosine_decay_schedule",
        "clip_by_global_norm",
    )
    assert made.resolved() == spec
    tree = jax.tree.structure(spec)
    rates = simrl.Sweep(
        simrl.Spec(learner={"name": "supervised", "optimizer": COSINE | CLIPPED}),
        {"learner.optimizer.learning_rate": [0.1, 0.2], "learner.optimizer.decay_steps": [4, 8]},
    ).cells()
    assert [jax.tree.structure(c.spec.learner.optimizer) == tree for c in rates] == [
        True, False, True, False
    ]  # fmt: skip
    assert rates[3].spec.learner.optimizer.fixed == (("decay_steps", 8),)
    assert len({identity.cell_hash(cell.spec) for cell in rates}) == 4


@pytest.mark.parametrize("schedule", PEAKED)
def test_peaks_are_one_program(schedule):
    """Also those of `numbers` given as a field, before anything is resolved."""
    fields = {"name": "sgd", "schedule": schedule, **PEAKED[schedule]}
    rates = (0.1, 0.4)
    spec = simrl.Spec(learner={"name": "supervised", "optimizer": fields | {"peak_value": 0.2}})
    cells = simrl.Sweep(spec, {"learner.optimizer.peak_value": list(rates)}).cells()
    one, other = (specs.traced(specs.parts(cell.spec)) for cell in cells)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert len({identity.cell_hash(cell.spec) for cell in cells}) == 2
    path = jax.jit(lambda parts: path_of(parts[2].optimizer.build()))
    for peak, parts in zip(rates, (one, other), strict=True):
        direct = getattr(optax, schedule)(**PEAKED[schedule], peak_value=peak)
        np.testing.assert_allclose(path(parts), path_of(optax.sgd(direct)), rtol=1e-5, atol=1e-7)
    assert path._cache_size() == 1


def test_plain_optimisers_are_described_as_ever():
    spec = learner({"name": "adafactor", "learning_rate": 0.1, "decay_rate": 0.7}).optimizer
    assert identity.describe(spec) == {"name": "adafactor", "learning_rate": 0.1, "decay_rate": 0.7}
    assert spec.numbers["decay_rate"] == 0.7  # an optimiser's own number is traced
    told = identity.describe(learner(COSINE | CLIPPED).optimizer)
    assert told == COSINE | CLIPPED
    assert learner(told).optimizer == learner(COSINE | CLIPPED).optimizer


BAD = {
    "schedule": (COSINE | {"schedule": "cosine"}, "optax schedule, not 'cosine'"),
    "no name": (COSINE | {"schedule": 3}, "schedule must be text, not 3"),
    "not a schedule": (COSINE | {"schedule": "sgd"}, "must name an optax schedule, not 'sgd'"),
    "hidden": (COSINE | {"clip": "_src"}, "not '_src'"),
    "not clipping": (COSINE | {"clip": "adam"}, "not 'adam'"),
    "no horizon": (
        {k: v for k, v in COSINE.items() if k != "decay_steps"},
        "missing 1 required positional argument: 'decay_steps'",
    ),
    "no rate": ({"name": "sgd", "schedule": "constant_schedule"}, "needs a learning_rate"),
    "no norm": ({"name": "sgd", "learning_rate": 1.0, "clip": "clip"}, "'max_delta'"),
    "half a step": (COSINE | {"decay_steps": 2.5}, "decay_steps must be a whole number"),
    "in words": (COSINE | {"decay_steps": "x"}, "decay_steps must be a number, not 'x'"),
    "zero": (COSINE | {"decay_steps": 0}, "positive"),
    "no peak": (WARM | {"peak_value": 0.0}, "peak_value must be above 0"),
    "warm-up's rate": (WARM | {"learning_rate": 0.1}, "init_value and peak_value in place"),
    "unknown": (COSINE | {"speed": 1.0}, "speed"),
    "traced in words": (COSINE | {"alpha": "x"}, "alpha must be a number"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_ones_are_refused_in_one_line(name):
    value, line = BAD[name]
    with pytest.raises(simrl.SpecError, match=line) as error:
        learner(value)
    assert "\n" not in str(error.value)


def test_jumps_refuse_them():
    world = simrl.Bandit(num_arms=3)
    for changes in ({}, {"schedule": "constant_schedule"}, CLIPPED):
        given = {"name": "sgd", "learning_rate": 0.1, **changes}
        spec = simrl.Spec(world, {"name": "policy_gradient", "optimizer": given})
        ready = specs.resolved(spec)
        policy = simrl.Tabular().build(world.build().shape)
        obstacle = jumping.obstacle(world.build(), policy, ready.learner)
        assert (obstacle is None) == (changes == {})
        assert obstacle is None or "sgd with a learning_rate alone" in obstacle


def test_the_fused_path_takes_them():
    """Steps of two lanes that differ in their numbers, against `step` by itself."""
    spec = simrl.Spec(
        simrl.Sequence(3, 2),
        {"name": "supervised", "optimizer": COSINE | CLIPPED},
        max_steps=5,
        log_points=1,
    )
    assert checks.path(specs.resolved(spec)) == "fused"
    rates = [0.1, 0.4]
    data = simrl.run(simrl.Sweep(spec, {"learner.optimizer.learning_rate": rates}), 1)
    for rate, found in zip(rates, data["pass_rate"].values[:, 0, -1], strict=True):
        trial = build(spec.environment, learner(COSINE | CLIPPED | {"learning_rate": rate}))
        task, state = begun(trial)
        step = jax.jit(trial.learner.step)
        for i in range(5):  # labels are fixed: there is no luck in it
            state = step(streams(0, i), state, task)[0]
        belief = np.asarray(jax.jit(trial.learner.belief)(state, np.int32(0)))
        final = belief[np.arange(2), np.asarray(task.answers)[0]]
        np.testing.assert_allclose(found, np.exp(final.sum()), rtol=1e-5)


def test_numbers_of_an_optimiser_are_its_own():
    """`decay_rate` of adafactor is no schedule's, with clipping or without."""
    given = {"name": "adafactor", "learning_rate": 0.1, "decay_rate": 0.7, **CLIPPED}
    spec = learner(given).optimizer
    assert (spec.fixed, spec.numbers["decay_rate"]) == ((), 0.7)
    jax.eval_shape(lambda spec: path_of(spec.build()), specs.traced(spec))
