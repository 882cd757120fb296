"""Where a table starts, and bandits whose contexts or rewards are given."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.engine import observe
from simrl.sweeps import checks
from simrl.sweeps import spec as specs
from tests.contracts.worlds import streams

SHAPE = simrl.Shape(num_prompts=2, length=3, vocab_size=4)


def start_of(world, seed=0, **start):
    trial = specs.build((world, simrl.Tabular(**start), simrl.PolicyGradient()))

    @jax.jit
    def init(streams):
        return trial.learner.init(streams), trial.environment.init(streams.task)

    return trial, *init(streams(seed))


def test_given_start():
    probs = (0.05, 0.01, 0.14, 0.8)
    policy = simrl.Tabular("given", probs=probs).build(SHAPE)
    law = jax.jit(lambda key: policy.log_probs(policy.init(key), jnp.int32(1), None))(
        jax.random.key(0)
    )
    np.testing.assert_allclose(np.exp(law), np.tile(probs, (3, 1)), rtol=1e-5)


def test_random_start_is_normal():
    shape = simrl.Shape(8, 16, 64)
    policy = simrl.Tabular("random", spread=2.0).build(shape)
    logits = jax.jit(policy.init)(jax.random.key(1))
    assert logits.shape == shape
    draws = np.float64(logits).ravel() / 2
    error = 1 / np.sqrt(draws.size)
    assert abs(draws.mean()) < 4 * error
    assert abs((draws**2).mean() - 1) < 4 * np.sqrt(2) * error
    assert abs((draws**4).mean() - 3) < 4 * np.sqrt(96) * error


@pytest.mark.parametrize("pass_rate", [1e-9, 0.3, 0.999])
@pytest.mark.parametrize(
    "world", [simrl.Sequence(5, 3, num_prompts=4), simrl.Bandit("gaussian", 7, num_contexts=2)]
)
def test_pretrained_start(world, pass_rate):
    trial, state, task = start_of(world, 5, start="pretrained", pass_rate=pass_rate)

    @jax.jit
    def of_state(state, task):
        known = observe.truth(trial, task)
        odds = observe.log_odds(observe.beliefs(trial, state), known)
        return odds, trial.learner.belief(state, jnp.int32(1)), known.answers[1]

    odds, law, right = of_state(state, task)
    np.testing.assert_allclose(odds, np.log(pass_rate) - np.log1p(-pass_rate), rtol=2e-5)
    law = np.exp(np.float64(law))
    right = np.asarray(right)
    rest = -np.expm1(np.log(pass_rate) / len(right)) / (law.shape[1] - 1)
    for row, symbol in zip(law, right, strict=True):  # the others are alike
        np.testing.assert_allclose(np.delete(row, symbol), rest, rtol=1e-4)  # p0 is a float32


def test_starts_are_not_lumped_and_rare_successes_are_jumped_to():
    spec = simrl.Spec(
        simrl.Bandit(num_arms=50), simrl.PolicyGradient(simrl.Affine(), 1), engine="auto"
    )

    def path(**start):
        return checks.path(dataclasses.replace(spec, policy=simrl.Tabular(**start)))

    assert path() == "fused"
    assert path(start="pretrained", pass_rate=1e-3) == "jump"
    large = dataclasses.replace(spec, environment=simrl.Bandit(num_arms=5000))
    assert checks.path(large) == "jump, lumped"
    trained = dataclasses.replace(large, policy=simrl.Tabular("pretrained", pass_rate=0.5))
    assert checks.path(trained) == "fused"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": simrl.Tabular("flat")}, "start must be one of"),
        ({"policy": simrl.Tabular("given", probs=(0.5, 0.5))}, "one for each of 3"),
        ({"policy": simrl.Tabular("given", probs=(0.5, 0.5, 0.5))}, "sum to 1"),
        ({"policy": simrl.Tabular("pretrained", pass_rate=1.0)}, "between 0 and 1"),
        ({"policy": simrl.Tabular("random", spread=-1.0)}, "must not be negative"),
        ({"policy": simrl.Tabular(probs=(1.0, 0.0, 0.0))}, "need the start given"),
        ({"environment": simrl.Bandit("given", 3)}, "num_arms = 3 numbers, not 0"),
        (
            {"environment": simrl.Bandit("given", 3, num_right=2, rewards=(1.0, 0.5, 0.0))},
            "num_right must be 1, as many as the best rewards, not 2",
        ),
        ({"environment": simrl.Bandit("bernoulli", 2, rewards=(1.5, 0.0))}, "in 0 ... 1"),
        ({"environment": simrl.Bandit("gaussian", 3, rewards=(1.0, 0.0, 0.0))}, "the kind given"),
        ({"environment": simrl.Bandit(num_arms=3, num_contexts=2)}, "gaussian or bernoulli"),
    ],
)
def test_what_cannot_start_is_refused(changes, message):
    spec = simrl.Spec(**{"environment": simrl.Bandit(num_arms=3), **changes})
    with pytest.raises(simrl.SpecError, match=message):
        specs.validate(specs.resolved(spec))


def test_contexts_are_bandits_of_their_own():
    """Each is paid by its own arms, drawn as often as the others, and learned apart."""
    environment = simrl.Bandit("gaussian", 4, num_contexts=3, noise=0.0).build()
    task = np.asarray(jax.jit(environment.init)(jax.random.key(2)))
    assert task.shape == (3, 4)
    assert len(np.unique(task)) == 12
    words = np.asarray(keys.words(jax.random.key(3), (9000, 1)))
    prompts = np.asarray(jax.jit(jax.vmap(environment.prompt, (0, None)))(words[:, 0], task))
    shares = np.bincount(prompts, minlength=3) / 9000
    assert np.abs(shares - 1 / 3).max() < 4 * np.sqrt(2 / 9 / 9000)
    pay = jax.jit(jax.vmap(environment.reward, (0, None, None, 0)))
    for prompt in range(3):
        told = pay(words[:4], task, np.int32(prompt), np.arange(4)[:, None])
        np.testing.assert_array_equal(np.asarray(told.credit)[:, 0], task[prompt])
        np.testing.assert_array_equal(told.success, np.arange(4) == np.argmax(task[prompt]))
