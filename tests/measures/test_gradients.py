"""Every exact moment against a list of every batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures.gradients import (
    affine_moments,
    bandit_moments,
    bandit_statistics,
    batch_moments,
    constant_moments,
    dead_group_probability,
    group_normalised_moments,
    group_weight,
    maxrl_moments,
    minimum_variance_baseline,
    sequence_moments,
    sequence_statistics,
    supervised_moments,
)
from tests.oracles import enumeration as oracle

SHAPES = [(1, 3), (2, 3), (3, 2)]
# The other ADVANTAGES: test_groups.py.
NAMED = ("none", "leave_one_out", "group_mean", "batch_mean", "group_normalised", "maxrl")

statistics_of = jax.jit(sequence_statistics, static_argnames="reward")
affine_of = jax.jit(affine_moments)
constant_of = jax.jit(constant_moments)
bandit_of = jax.jit(bandit_moments)
one_guess_of = jax.jit(sequence_moments, static_argnames="reward")
arms_of = jax.jit(bandit_statistics)
token_of = {
    "group_normalised": jax.jit(group_normalised_moments, static_argnums=1),
    "maxrl": jax.jit(maxrl_moments, static_argnums=1),
}
label_of = jax.jit(supervised_moments, static_argnames="batch_size")
batch_of = jax.jit(batch_moments, static_argnames=("batch_size", "advantage", "reward"))


def random_law(rng, length, vocab_size, sharpness=1.0):
    return rng.dirichlet(np.full(vocab_size, sharpness), size=length)


def assert_agrees(moments, truth, batch_size, tolerance):
    close = partial(np.testing.assert_allclose, rtol=tolerance)
    close(moments.mean, truth.mean.astype(float), atol=tolerance * 0.1)
    close(moments.trace_covariance, float(truth.trace_covariance), atol=tolerance * 1e-3)
    close(moments.squared_norm, float(truth.squared_norm))
    close(moments.snr, float(truth.squared_norm / truth.trace_covariance), rtol=10 * tolerance)
    scale = float(batch_size * truth.trace_covariance / truth.squared_norm)
    close(moments.noise_scale, scale, rtol=10 * tolerance)


def affine_names(batch_size):
    return {
        "none": (1.0, 0.0),
        "group_mean": (1.0, 1.0),
        "leave_one_out": (batch_size / (batch_size - 1), 1.0),
    }


def assert_every_batch_agrees(statistics, samples):
    """All batches of 2 and 3, listed, for each affine advantage and a constant baseline."""
    for batch_size in (2, 3):
        for name, (scale, centre) in affine_names(batch_size).items():
            truth = oracle.batch_truth(samples, batch_size, name)
            assert_agrees(
                affine_of(statistics, batch_size, scale, centre), truth, batch_size, 1e-10
            )
        truth = oracle.batch_truth(samples, batch_size, 0.3)
        assert_agrees(constant_of(statistics, batch_size, 0.3), truth, batch_size, 1e-10)


def test_oracle_scores_average_to_zero():
    probs = random_law(np.random.default_rng(0), 2, 3)
    samples = oracle.sequence_samples(probs, [0, 1], "exact")
    np.testing.assert_allclose(samples.weight.sum(), 1, rtol=1e-14)
    average = np.einsum("n,nlv->lv", samples.weight, samples.score)
    np.testing.assert_allclose(average, 0, atol=1e-15)


def test_oracle_scores_are_gradients_of_the_log_probability(float64):
    logits = np.random.default_rng(1).normal(size=(2, 3))
    answer = np.array([2, 0])

    def log_prob(logits):
        return jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(2), answer])

    probs = np.asarray(jax.nn.softmax(logits))
    gradient = jax.jit(jax.grad(log_prob))(logits)
    np.testing.assert_allclose(oracle.score(probs, answer), gradient, atol=1e-14)


@pytest.mark.parametrize("reward", oracle.REWARDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_batches_of_a_clean_world(float64, shape, reward):
    rng = np.random.default_rng([*shape, 2])
    probs = random_law(rng, *shape)
    target = rng.integers(shape[1], size=shape[0])
    statistics = statistics_of(probs, target, reward=reward)
    samples = oracle.sequence_samples(probs, target, reward)
    assert_every_batch_agrees(statistics, samples)
    truth = oracle.batch_truth(samples, 1, 0.3)
    assert_agrees(constant_of(statistics, 1, 0.3), truth, 1, 1e-10)


@pytest.mark.parametrize("reward", oracle.REWARDS)
@pytest.mark.parametrize("shape", [(1, 3), (2, 2)])
def test_batches_with_a_noisy_verifier(float64, shape, reward):
    rng = np.random.default_rng([*shape, 3])
    probs, target = random_law(rng, *shape), random_law(rng, *shape)
    statistics = statistics_of(probs, target, reward=reward)
    samples = oracle.sequence_samples(probs, target, reward)
    assert_every_batch_agrees(statistics, samples)


@pytest.mark.parametrize("reward", oracle.REWARDS)
def test_long_noisy_sequences(float64, reward):
    """Three positions tell apart what comes before a position from what comes after."""
    rng = np.random.default_rng(4)
    probs, target = random_law(rng, 3, 2), random_law(rng, 3, 2)
    samples = oracle.sequence_samples(probs, target, reward)
    statistics = statistics_of(probs, target, reward=reward)
    for name, (scale, centre) in affine_names(2).items():
        truth = oracle.batch_truth(samples, 2, name)
        assert_agrees(affine_of(statistics, 2, scale, centre), truth, 2, 1e-10)


def test_any_scale_and_centre(float64):
    """The affine family away from its named members, and with a different J per position."""
    rng = np.random.default_rng(5)
    probs = random_law(rng, 2, 3)
    statistics = statistics_of(probs, np.array([1, 2]), reward="reward_to_go")
    samples = oracle.sequence_samples(probs, [1, 2], "reward_to_go")
    chance, index = oracle.batches(samples, 3)
    plain = oracle.gradient(samples, index, "none")
    centred = oracle.gradient(samples, index, "group_mean")
    for scale, centre in [(0.7, 0.4), (2.0, 0.9), (1.0, -0.5)]:
        values = scale * ((1 - centre) * plain + centre * centred)
        mean = np.einsum("m,mlv->lv", chance, values)
        trace = np.einsum("m,mlv->", chance, (values - mean) ** 2)
        truth = oracle.Truth(mean, trace, (mean**2).sum())
        assert_agrees(affine_of(statistics, 3, scale, centre), truth, 3, 1e-10)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("batch_size", [2, 3])
@pytest.mark.parametrize("advantage", ["group_normalised", "maxrl"])
def test_groups_normalised_by_their_own_successes(float64, advantage, batch_size, noisy):
    rng = np.random.default_rng(6)
    probs = random_law(rng, 2, 2 if noisy else 3)
    target = random_law(rng, 2, 2) if noisy else np.array([2, 0])
    samples = oracle.sequence_samples(probs, target, "exact")
    truth = oracle.batch_truth(samples, batch_size, advantage)
    assert_agrees(batch_of(probs, target, batch_size, advantage), truth, batch_size, 1e-10)


@pytest.mark.parametrize("advantage", NAMED)
def test_named_batches_and_one_choice(float64, advantage):
    """`batch_moments` takes [K] and [L, V], and picks the estimator it is told."""
    probs = random_law(np.random.default_rng(7), 1, 4)
    name = "group_mean" if advantage == "batch_mean" else advantage
    truth = oracle.batch_truth(oracle.sequence_samples(probs, [1], "exact"), 3, name)
    assert_agrees(batch_of(probs, np.array([1]), 3, advantage), truth, 3, 1e-10)
    flat = batch_of(probs[0], 1, 3, advantage)
    assert_agrees(flat._replace(mean=flat.mean[None]), truth, 3, 1e-10)
    assert flat.mean.shape == (4,)


def test_token_groups_normalise_position_by_position(float64):
    probs = random_law(np.random.default_rng(8), 2, 2)
    statistics = statistics_of(probs, np.array([1, 0]), reward="token")
    samples = oracle.sequence_samples(probs, [1, 0], "token")
    for name in ("group_normalised", "maxrl"):
        truth = oracle.batch_truth(samples, 3, name)
        assert_agrees(token_of[name](statistics, 3), truth, 3, 1e-10)


def test_bandits_with_noisy_rewards(float64):
    rng = np.random.default_rng(9)
    for arms in (2, 4):
        probs, rewards = random_law(rng, 1, arms)[0], rng.normal(size=arms)
        variance = rng.uniform(size=arms)
        samples = oracle.bandit_samples(probs, rewards, variance)
        statistics = arms_of(probs, rewards, variance)
        for name, (scale, centre) in affine_names(2).items():
            truth = oracle.batch_truth(samples, 2, name)
            assert_agrees(affine_of(statistics, 2, scale, centre), truth, 2, 1e-10)
        for baseline in (0.0, 0.3):
            moments = bandit_of(probs, rewards, baseline, variance)
            truth = oracle.batch_truth(samples, 1, baseline)
            assert_agrees(moments._replace(mean=moments.mean[None]), truth, 1, 1e-10)


def test_minimum_variance_baseline(float64):
    rng = np.random.default_rng(10)
    probs, rewards = random_law(rng, 1, 4)[0], rng.normal(size=4)
    best = float(jax.jit(minimum_variance_baseline)(probs, rewards))
    samples = oracle.bandit_samples(probs, rewards, np.ones(4))
    grid = best + np.array([-0.01, 0, 0.01])
    below, least, above = (oracle.batch_truth(samples, 1, b).trace_covariance for b in grid)
    assert least < min(below, above)
    np.testing.assert_allclose(below, above, rtol=1e-12)  # a parabola about its minimum


def test_supervised(float64):
    rng = np.random.default_rng(11)
    probs, law = random_law(rng, 2, 3), random_law(rng, 2, 3)
    samples = oracle.label_samples(probs, law)
    assert_agrees(label_of(probs, law), oracle.batch_truth(samples, 1, "none"), 1, 1e-10)
    batch = label_of(probs, law, 2)
    assert_agrees(batch, oracle.batch_truth(samples, 2, "none"), 2, 1e-10)


def test_a_clean_label_has_no_noise():
    moments = label_of(np.array([0.2, 0.3, 0.5]), np.array([0.0, 1.0, 0.0]))
    assert moments.trace_covariance == 0
    assert moments.snr == np.inf
    np.testing.assert_allclose(moments.mean, [-0.2, 0.7, -0.5], rtol=1e-6)


@pytest.mark.parametrize("p", [1e-12, 1e-4, 0.3, 0.9])
def test_noise_scale_without_baseline_knows_no_number_of_arms(p):
    for arms in (2, 5):
        probs = np.full(arms, (1 - p) / (arms - 1), np.float32)
        probs[0] = p
        moments = one_guess_of(probs, 0, reward="exact")
        np.testing.assert_allclose(moments.noise_scale, (1 - p) / p, rtol=1e-5)


@pytest.mark.parametrize("arms", [3, 10])
def test_value_baseline_adds_variance_past_a_pass_rate(float64, arms):
    turn = (arms + 2) / (3 * arms)
    for p, more in [(turn - 1e-3, False), (turn + 1e-3, True)]:
        probs = np.full(arms, (1 - p) / (arms - 1))
        probs[0] = p
        rewards = np.eye(arms)[0]
        value = bandit_of(probs, rewards, p).trace_covariance
        none = bandit_of(probs, rewards, 0.0).trace_covariance
        assert (value > none) == more


@partial(jax.jit, static_argnums=1)
def weights_and_dead(p, size):
    """Of a few estimators by name: the weight, and the chance of a dead group."""
    names = ("none", "leave_one_out", "group_mean", "group_normalised", "maxrl")
    dead = dead_group_probability(p, size), dead_group_probability(p, size, "maxrl")
    return {name: group_weight(p, size, name) for name in names}, dead


def test_group_weight_and_dead_groups(float64):
    probs = random_law(np.random.default_rng(12), 1, 3)
    samples = oracle.sequence_samples(probs, [1], "exact")
    gradient = oracle.batch_truth(samples, 1, "none").mean
    for size in (2, 3):
        weights, found = weights_and_dead(probs[0, 1], size)
        for name, weight in weights.items():
            update = oracle.batch_truth(samples, size, name).mean
            np.testing.assert_allclose(float(weight) * gradient, update, rtol=1e-12)
        dead, silent = oracle.group_truth(samples, size)
        np.testing.assert_allclose(found[0], dead, rtol=1e-12)
        np.testing.assert_allclose(found[1], silent, rtol=1e-12)


def test_group_weight_at_the_ends():
    @jax.jit
    def found(ends):
        names = ("maxrl", "group_normalised", "group_mean")
        return *(group_weight(ends, 8, name) for name in names), dead_group_probability(ends, 8)

    maxrl, normalised, mean, dead = found(np.array([0.0, 1e-12, 1.0]))
    np.testing.assert_allclose(maxrl, [8, 8, 1], rtol=1e-6)
    np.testing.assert_allclose(normalised, np.sqrt(7), rtol=1e-5)
    np.testing.assert_allclose(mean, 7 / 8, rtol=1e-6)
    np.testing.assert_allclose(dead, 1, rtol=1e-6)
