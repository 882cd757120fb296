"""Prompts of graded difficulty and of unequal frequency, against worlds listed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import simrl
from simrl.engine import observe
from simrl.learners import updates
from simrl.sweeps import spec as specs
from tests.contracts.worlds import begun, build, streams, words_of
from tests.oracles import enumeration

GRADED = {"num_prompts": 2, "revealed": (1, 0), "vocab_sizes": (3, 2)}
LAW = np.array([1, 2**-1.5]) / (1 + 2**-1.5)  # of frequency_exponent 1.5


def world(reward="exact", **changes):
    return simrl.Sequence(3, 2, reward, **{**GRADED, **changes})


def seen_of(trial, state, task):
    """What is measured of a state."""

    @jax.jit
    def measure(state, task, key):
        return observe.of_state(trial, state, task, observe.truth(trial, task), key)

    return jax.device_get(measure(state, task, jax.random.key(1)))


def moved(state, seed=3):
    """The state with other logits where no symbol is ruled out."""
    noise = np.float32(np.random.default_rng(seed).normal(size=state.params.shape))
    params = np.asarray(state.params)
    return state._replace(params=jnp.asarray(np.where(params == 0, noise, params)))


def laws_of(state):
    powers = np.exp(np.asarray(state.params, np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_a_prompt_rules_out_what_it_says():
    trial = build(world(), simrl.PolicyGradient(group_size=2))

    @jax.jit
    def begin(now):
        task, state = trial.environment.init(now.task), trial.learner.init(now)
        odds = observe.log_odds(observe.beliefs(trial, state), observe.truth(trial, task))
        return task, state, jax.nn.sigmoid(odds)

    for seed in range(8):
        task, state, rates = begin(streams(seed))
        answers = np.asarray(task.answers)
        assert answers[1].max() < 2
        want = np.zeros((2, 2, 3))
        want[0, 0, answers[0, 0]] = 1
        want[0, 1] = 1 / 3
        want[1, :, :2] = 1 / 2
        np.testing.assert_allclose(laws_of(state), want, atol=1e-12)
        np.testing.assert_allclose(rates, [1 / 3, 1 / 4], rtol=1e-6)


@pytest.mark.parametrize(
    ("reward", "frequencies"),
    [(reward, "uniform") for reward in enumeration.REWARDS] + [("exact", "zipf")],
)
def test_moments_are_those_of_listed_batches(reward, frequencies):
    place = world(reward, frequencies=frequencies, frequency_exponent=1.5)
    trial = build(place, simrl.PolicyGradient(specs.ADVANTAGES["leave_one_out"], 2, 3))
    task, state = begun(trial)
    state = moved(state)
    trace, norm = jax.jit(trial.learner.moments)(state, task)
    law = LAW if frequencies == "zipf" else np.full(2, 0.5)
    second = first = 0.0
    for prompt, probs in enumerate(laws_of(state)):
        samples = enumeration.sequence_samples(probs, np.asarray(task.answers)[prompt], reward)
        one = enumeration.batch_truth(samples, 2, "leave_one_out")
        second += law[prompt] * (one.trace_covariance + one.squared_norm)
        first += law[prompt] ** 2 * one.squared_norm
    np.testing.assert_allclose(norm, first, rtol=2e-5)
    np.testing.assert_allclose(trace, (second - first) / 3, rtol=2e-5)
    for name, values in seen_of(trial, state, task).items():
        assert np.isfinite(values).all(), name
        assert (values >= -1e-6).all(), name


def test_a_revealed_symbol_tells_nothing():
    trial = build(world(), simrl.PolicyGradient(group_size=2))
    task, state = begun(trial)
    state = moved(state)
    information = jax.jit(simrl.measures.information.expected_information, static_argnums=1)
    alone = information(laws_of(state)[0, 1], "outcome")
    np.testing.assert_allclose(seen_of(trial, state, task)["expected"][0], alone, rtol=1e-5)


@pytest.mark.parametrize("name", updates.KEEPING)
def test_what_is_ruled_out_stays_so(name):
    optimizer = getattr(optax, name)(0.5)
    params = np.float32([0.0, 0.3, updates.RULED_OUT])
    state = optimizer.init(params)

    @jax.jit
    def update(gradient, state, params):
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state

    for gradient in ([1.0, -1.0, 0.0], [0.5, 0.1, 0.0], [0.0, 0.0, 0.0]):
        params, state = update(np.float32(gradient), state, params)
    assert np.asarray(params)[2] == updates.RULED_OUT
    assert np.asarray(params)[0] != 0


def test_updates_leave_alone_what_a_prompt_tells():
    learner = simrl.PolicyGradient(
        specs.ADVANTAGES["leave_one_out"], 8, 4, simrl.Optimizer("adam", {"learning_rate": 0.3})
    )
    trial = build(world("token"), learner)
    task, state = begun(trial)
    start, answers = np.asarray(state.params), np.asarray(task.answers)
    step = jax.jit(trial.learner.step)
    for i in range(3):
        state, info = step(streams(0, i), state, task)
        told = np.asarray(info.answers)[np.asarray(info.prompts) == 0]
        assert (told[..., 0] == answers[0, 0]).all()
    after = np.asarray(state.params)
    np.testing.assert_array_equal(after[start < 0], updates.RULED_OUT)
    assert after[0, 0, answers[0, 0]] == 0
    assert (after[start == 0] != 0).sum() == 3 + 4


def test_prompts_follow_their_law():
    environment = world(frequencies="zipf", frequency_exponent=1.5).build()

    @jax.jit
    def draw(key, words):
        task = environment.init(key)
        return environment.prompt_law(task), jax.vmap(environment.prompt, (0, None))(words, task)

    law, drawn = jax.device_get(draw(jax.random.key(0), words_of(jax.random.key(1), (20_000,))))
    np.testing.assert_allclose(law, LAW, rtol=1e-6)
    error = np.sqrt(LAW[0] * LAW[1] / len(drawn))
    assert set(drawn) == {0, 1}
    assert abs((drawn == 1).mean() - LAW[1]) < 4 * error


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"environment.revealed": (2, 0)}, "revealed must be 2 whole numbers in 0 ... 1"),
        ({"environment.vocab_sizes": (3, 1)}, "vocab_sizes must be 2 whole numbers in 2 ... 3"),
        ({"environment.labels": "zipf"}, "need fixed labels"),
        ({"environment.frequencies": "even"}, "frequencies must be one of uniform, zipf"),
        ({"learner.optimizer": {"name": "adamw", "learning_rate": 0.1}}, "need one of sgd, adam"),
        ({"learner.surrogate": "natural"}, "natural needs prompts that rule out no symbols"),
    ],
)
def test_what_does_not_fit_is_refused(changes, line):
    spec = specs.resolved(simrl.Spec(world()))
    for path, value in changes.items():
        spec = specs.put(spec, path, value)
    with pytest.raises(simrl.SpecError, match=line):
        specs.validate(spec)
