"""Which prompts an update draws, and what that does to the estimate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.learners import curricula
from simrl.sweeps import spec as specs
from tests.contracts.worlds import build, some_logits, streams
from tests.oracles import enumeration

WORLD = simrl.Sequence(2, 2, "exact", num_prompts=3)
SIZE, GROUPS = 2, 2


def learner(curriculum):
    advantage = specs.ADVANTAGES["batch_mean"]  # biased, so that a bias is seen
    return simrl.PolicyGradient(advantage, SIZE, GROUPS, curriculum=curriculum)


def at_random(trial):
    task = trial.environment.init(jax.random.key(2))
    state = trial.learner.init(streams(0))
    return task, state._replace(params=jnp.asarray(some_logits(state.params.shape)))


def laws_of(state):
    powers = np.exp(np.asarray(state.params, np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def pass_rates(state, task):
    right = zip(laws_of(state), np.asarray(task.answers), strict=True)
    return np.array([enumeration.probability(law, answer) for law, answer in right])


def test_band_follows_what_it_is_told():
    band = curricula.Band(rate=0.25, floor=0.2, start=0.5).build(WORLD.build())
    state = band.init()
    np.testing.assert_allclose(band.law(state), 1 / 3, rtol=1e-6)
    success = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    state = band.update(state, jnp.array([0, 2, 2]), success)
    rates = np.array([0.5, 0.5, 0.625 * 0.75])  # 0.5 -> 0.5; 0.5 -> 0.625 -> 0.46875
    np.testing.assert_allclose(state, rates, rtol=1e-6)
    share = rates * (1 - rates)
    want = 0.8 * share / share.sum() + 0.2 / 3
    np.testing.assert_allclose(band.law(state), want, rtol=1e-6)
    extreme = jnp.array([0.0, 1.0, 0.9])
    words = keys.words(jax.random.key(1), (20_000,))
    drawn = np.bincount(np.asarray(band.choose(extreme, words)), minlength=3) / 20_000
    law = np.array([0.2 / 3, 0.2 / 3, 0.8 + 0.2 / 3])
    assert np.all(np.abs(drawn - law) < 4 * np.sqrt(law * (1 - law) / 20_000))
    np.testing.assert_allclose(band.law(jnp.array([0.0, 1.0, 0.0])), 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("oracle", [False, True])
def test_moments_are_those_of_its_law(oracle):
    trial = build(WORLD, learner(curricula.Band(floor=0.1, oracle=oracle)))
    assert trial.learner.jump is None
    task, state = at_random(trial)
    rates = pass_rates(state, task)
    if not oracle:
        rates = np.array([0.5, 0.1, 0.9])
        state = state._replace(curriculum=jnp.asarray(rates, jnp.float32))
    share = rates * (1 - rates)
    law = 0.9 * share / share.sum() + 0.1 / 3
    second = first = bias = 0.0
    for m, probs in enumerate(laws_of(state)):
        samples = enumeration.sequence_samples(probs, np.asarray(task.answers[m]), "exact")
        one = enumeration.batch_truth(samples, SIZE, "group_mean")
        true = enumeration.batch_truth(samples, 1, "none").mean
        second += law[m] * (one.trace_covariance + one.squared_norm)
        first += law[m] ** 2 * one.squared_norm
        bias += np.sum((law[m] * one.mean - true / 3) ** 2)
    trace, norm = jax.jit(trial.learner.moments)(state, task)
    np.testing.assert_allclose(norm, first, rtol=2e-5)
    np.testing.assert_allclose(trace, (second - first) / GROUPS, rtol=2e-5)
    found = jax.jit(trial.learner.squared_bias)(state, task)
    np.testing.assert_allclose(found, bias, rtol=2e-4)


def test_estimates_follow_the_law():
    """The mean of redraws is the mean over prompts by the curriculum's law."""
    trial = build(WORLD, learner(curricula.Band(floor=0.1)))
    task, state = at_random(trial)
    rates = np.array([0.5, 0.1, 0.9])
    state = state._replace(curriculum=jnp.asarray(rates, jnp.float32))
    share = rates * (1 - rates)
    law = 0.9 * share / share.sum() + 0.1 / 3
    draws = jax.jit(jax.vmap(lambda i: trial.learner.estimate(streams(i), state, task)))
    values = np.asarray(draws(jnp.arange(8000)), np.float64)
    want = np.zeros(values.shape[1:])
    for m, probs in enumerate(laws_of(state)):
        samples = enumeration.sequence_samples(probs, np.asarray(task.answers[m]), "exact")
        want[m] = law[m] * enumeration.batch_truth(samples, SIZE, "group_mean").mean
    error = values.std(axis=0) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0) - want) < 4 * error)


def test_a_step_remembers_the_verdicts():
    noisy = simrl.Sequence(
        2, 1, num_prompts=3, verifier="noisy", false_positive=0.4, false_negative=0.4
    )
    trial = build(noisy, learner(curricula.Band(rate=0.5)))
    task, state = at_random(trial)
    seen, right, step = False, trial.environment, jax.jit(trial.learner.step)
    for i in range(6):
        new, info = step(streams(i), state, task)
        moved = np.asarray(new.curriculum) != np.asarray(state.curriculum)
        assert set(np.flatnonzero(moved)) <= set(np.asarray(info.prompts).tolist())
        drawn = np.asarray(info.success).mean(axis=-1)
        truth = np.asarray(state.curriculum)
        for prompt, mean in zip(np.asarray(info.prompts), drawn, strict=True):
            truth = truth + 0.5 * (mean - truth) * (np.arange(3) == prompt)
        seen |= not np.allclose(truth, new.curriculum)
    assert seen  # the word of a verifier that errs, not the truth
    assert right.verifier is not None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"learner.curriculum": {"name": "band", "floor": 1.5}}, "floor must lie in"),
        ({"learner.curriculum": "hard"}, "curriculum must be one of uniform, band"),
        ({"learner.curriculum": "band", "environment.labels": "zipf"}, "needs fixed labels"),
        ({"learner.curriculum": "band", "learner.surrogate": "natural"}, "drawn uniformly"),
        ({"learner.curriculum": "band", "engine": "jump"}, "curriculum must be uniform"),
    ],
)
def test_what_does_not_fit_is_refused(changes, line):
    spec = specs.resolved(simrl.Spec(simrl.Sequence(num_prompts=1)))

    def check(given):
        for path, value in changes.items():
            given = specs.put(given, path, value)
        specs.validate(given)

    with pytest.raises(simrl.SpecError, match=line):
        check(spec)
