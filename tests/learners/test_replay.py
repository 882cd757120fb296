"""Hints from own successes: what is kept, what is given, what is learned from, what is charged."""

import jax
import jax.numpy as jnp
import numpy as np

import simrl
from simrl.engine import observe
from simrl.sweeps import spec as specs
from tests.contracts.worlds import build, some_logits, streams
from tests.oracles import enumeration

SIZE, HINT, NUM = 2, 0.75, 6000
SGD = simrl.Optimizer()  # at a rate of 1: a change of the params is a gradient
SPEC = simrl.PrefixReplay(specs.ADVANTAGES["none"], HINT, SIZE, optimizer=SGD)


def made(known, spec=SPEC):
    trial = build(simrl.Sequence(2, 3, "exact"), spec)
    task = trial.environment.init(jax.random.key(2))
    state = trial.learner.init(streams(0))
    params = jnp.asarray(some_logits(state.params.shape))
    state = state._replace(params=params)
    return trial, task, state._replace(answers=task.answers, known=known | state.known)


def test_the_mean_is_that_of_listed_prefixes():
    """Over every k and every completion, and the plain guesses."""
    trial, task, state = made(known=True)

    def one(seed):
        new, info = trial.learner.step(streams(seed), state, task)
        return new.params - state.params, info

    change, info = jax.jit(jax.vmap(one))(jnp.arange(NUM))
    powers = np.exp(np.asarray(state.params[0], np.float64))
    probs = powers / powers.sum(axis=-1, keepdims=True)
    right = np.asarray(task.answers[0])
    want, chance = np.zeros((3, 2)), 0.0
    for k in range(3):
        share = HINT / 3 + (1 - HINT) * (k == 0)
        free = np.arange(3) >= k
        reached = np.prod(probs[np.arange(3), right][k:])  # the only completion that is paid
        want += share * reached * enumeration.score(probs, right) * free[:, None]
        chance += share * reached
    got = np.asarray(change, np.float64)[:, 0]
    error = got.std(axis=0) / np.sqrt(NUM)
    assert np.all(np.abs(got.mean(axis=0) - want) < 4 * error)
    success = np.asarray(info.success).mean(axis=(1, 2))
    assert abs(success.mean() - chance) < 4 * success.std() / np.sqrt(NUM)
    tokens = np.asarray(info.num_tokens, np.float64)[:, 0]
    law = SIZE * (3 - HINT * 1)  # k is 1 on average
    assert abs(tokens.mean() - law) < 4 * tokens.std() / np.sqrt(NUM)
    np.testing.assert_array_equal(info.flops[:, 0, 1], 8 * 2 * 3 * SIZE)  # given or decoded
    assert set(np.asarray(info.num_samples).ravel().tolist()) == {SIZE}


def test_before_a_success_it_is_policy_gradient():
    trial, task, state = made(known=False)
    plain = build(
        simrl.Sequence(2, 3, "exact"),
        simrl.PolicyGradient(specs.ADVANTAGES["none"], SIZE, optimizer=SGD),
    )
    other = plain.learner.init(streams(0))._replace(params=state.params)
    step, reference = jax.jit(trial.learner.step), jax.jit(plain.learner.step)
    blank = state._replace(answers=jnp.zeros_like(state.answers))
    met = set()
    for seed in range(12):
        new, info = step(streams(seed), blank, task)
        want, told = reference(streams(seed), other, task)
        np.testing.assert_allclose(new.params, want.params, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(info.answers, told.answers)
        np.testing.assert_array_equal(info.flops, told.flops)
        won = bool(np.asarray(info.success).any())
        assert bool(new.known[0]) == won
        np.testing.assert_array_equal(new.answers, task.answers if won else blank.answers)
        met.add(won)
    assert met == {False, True}


def test_nothing_is_said_of_what_a_hinted_guess_tells():
    """It is no draw from the policy, which the formulas of expected and realised are about."""
    trial = build(simrl.Sequence(2, 3, "exact"), simrl.PrefixReplay())
    assert observe.information_form(trial) is None
    assert observe.joint_channel(trial) is None
