"""Duels: the mean update and what a verdict tells, by listing every pair of guesses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.engine import observe
from simrl.learners.self_play import verdicts
from simrl.measures import duels
from simrl.sweeps import spec as specs
from tests.contracts.worlds import build, some_logits, streams
from tests.oracles import enumeration

NUM = 6000


def test_the_mean_is_the_gradient_of_the_chance_to_win():
    trial = build(simrl.Sequence(2, 2, "fraction"), simrl.SelfPlay(group_size=2))
    task = trial.environment.init(jax.random.key(2))
    state = trial.learner.init(streams(0))
    state = state._replace(params=jnp.asarray(some_logits(state.params.shape)))

    def one(seed):
        new, info = trial.learner.step(streams(seed), state, task)
        return new.params - state.params, info

    change, info = jax.jit(jax.vmap(one))(jnp.arange(NUM))
    powers = np.exp(np.asarray(state.params[0], np.float64))
    probs = powers / powers.sum(axis=-1, keepdims=True)
    samples = enumeration.sequence_samples(probs, np.asarray(task.answers[0]), "fraction")
    pay, score = samples.credit[:, 0], samples.score
    wins = (pay[:, None] > pay) + (pay[:, None] == pay) / 2
    chance = samples.weight @ wins.T  # of each guess
    want = np.einsum("n,n,nlv->lv", samples.weight, chance, score)
    got = np.asarray(change, np.float64)[:, 0]
    error = got.std(axis=0) / np.sqrt(NUM)
    assert np.all(np.abs(got.mean(axis=0) - want) < 4 * error)
    assert np.abs(want).max() > 8 * error.max()
    np.testing.assert_array_equal(info.flops[:, 0, 1], 8 * 2 * 4)
    seen = observe.of_state(trial, state, task, observe.truth(trial, task), jax.random.key(1))
    assert "expected" not in seen  # it is not told what the world pays
    np.testing.assert_array_equal(seen["nominal"], 0.5)  # an even coin for two guesses
    np.testing.assert_allclose(seen["pass_rate"], samples.weight @ (pay == 1), rtol=1e-5)


def test_verdicts_and_ties():
    credit = jnp.array([[[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]])
    words = jnp.zeros((1, 2), jnp.uint32)
    np.testing.assert_array_equal(verdicts(credit, words), [[-0.5, 0.5, -0.5, 0.5]])
    tie, heads, tails = jnp.ones((1, 2, 2)), jnp.uint32([[0]]), jnp.uint32([[2**31]])
    np.testing.assert_array_equal(verdicts(tie, heads), [[0.5, -0.5]])
    np.testing.assert_array_equal(verdicts(tie, tails), [[-0.5, 0.5]])


@pytest.mark.parametrize("reward", ["exact", "fraction", "prefix"])
def test_information_is_that_of_the_listed_table(reward):
    rng = np.random.default_rng(4)
    answers = enumeration.answers(2, 2)
    probs = rng.dirichlet(np.ones(4))
    scores = np.array(
        [[enumeration.credit(g, y, reward, 1.0)[0] for y in answers] for g in answers]
    )
    want = ties = 0.0
    for a, b in itertools.product(range(4), repeat=2):
        table = np.zeros((4, 2))  # P(answer, who won) given the guesses
        for y in range(4):
            first = 0.5 if scores[a, y] == scores[b, y] else float(scores[a, y] > scores[b, y])
            table[y] = probs[y] * np.array([first, 1 - first])
            ties += probs[a] * probs[b] * probs[y] * (scores[a, y] == scores[b, y])
        independent = table.sum(1, keepdims=True) * table.sum(0)
        some = table > 0
        bits = np.sum(table[some] * np.log2(table[some] / independent[some]))
        want += probs[a] * probs[b] * bits
    got = duels.duel_information(jnp.asarray(probs, jnp.float32), scores)
    np.testing.assert_allclose(got.expected, want, rtol=1e-4)
    np.testing.assert_allclose(got.win_rate, 0.5, rtol=1e-6)
    np.testing.assert_allclose(got.tie_rate, ties, rtol=1e-5)
    assert want < 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="do not match"):
        duels.duel_information(jnp.ones(2) / 2, jnp.ones((3, 3)))
    odd = simrl.Spec(learner=simrl.SelfPlay(group_size=3))
    with pytest.raises(simrl.SpecError, match="group_size must be even"):
        specs.validate(specs.resolved(odd))
    noisy = simrl.Spec(simrl.Sequence(labels="zipf"), "self_play")
    with pytest.raises(simrl.SpecError, match="self_play needs fixed labels"):
        specs.validate(specs.resolved(noisy))
