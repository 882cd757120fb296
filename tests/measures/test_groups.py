"""Estimators that count successes, baselines, bias and verifiers, against a list of every batch."""

import itertools
from functools import partial

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures import gradients
from simrl.measures.gradients import (
    affine_moments,
    batch_bias,
    batch_moments,
    constant_moments,
    count_weighted_moments,
    dead_group_probability,
    group_moments,
    group_weight,
    group_weights,
    minimum_variance_baseline,
    sequence_minimum_variance_baseline,
    sequence_statistics,
    verified_statistics,
)
from tests.measures.test_gradient_ends import EXTREMES, exactly
from tests.oracles import enumeration
from tests.oracles import groups as oracle

statistics_of = jax.jit(sequence_statistics, static_argnames="reward")
counted_of = jax.jit(count_weighted_moments, static_argnames="size")
least_of = jax.jit(
    lambda statistics, size: group_moments(statistics, size, "minimum_variance"), static_argnums=1
)
batch_of = jax.jit(batch_moments, static_argnames=("batch_size", "advantage", "reward", "k"))
baseline_of = jax.jit(sequence_minimum_variance_baseline, static_argnames="reward")
verified_of = jax.jit(verified_statistics)
weight_of = jax.jit(group_weight, static_argnames=("group_size", "advantage"))
bias_of = jax.jit(
    batch_bias, static_argnames=("batch_size", "advantage", "reward", "k", "objective")
)
affine_of, constant_of = jax.jit(affine_moments), jax.jit(constant_moments)

COUNTED = set(gradients.ADVANTAGES) - {"minimum_variance"}


def estimators(size):
    """Every (name, k) that a group of this size allows."""
    for name in sorted(COUNTED):
        most = {"pass_at_k": size, "pass_at_k_leave_one_out": size - 1}.get(name)
        yield from [(name, None)] if most is None else [(name, k + 1) for k in range(most)]


def random_world(seed, length, vocab_size, noisy=False):
    rng = np.random.default_rng([*seed, length, vocab_size])
    probs = rng.dirichlet(np.ones(vocab_size), size=length)
    if noisy:
        return probs, rng.dirichlet(np.ones(vocab_size), size=length)
    return probs, rng.integers(vocab_size, size=length)


def assert_agrees(moments, truth, batch_size, tolerance=1e-10, note=""):
    def close(found, right, **more):
        more = {"rtol": tolerance, "err_msg": str(note), **more}
        np.testing.assert_allclose(found, np.asarray(right, float), **more)

    loose, trace, norm = 10 * tolerance, truth.trace_covariance, truth.squared_norm
    close(moments.mean, truth.mean, atol=tolerance * 0.1)
    close(moments.trace_covariance, trace, atol=tolerance * 1e-30)
    close(moments.squared_norm, norm)
    close(moments.snr, norm / trace, rtol=loose)
    close(moments.noise_scale, batch_size * trace / norm, rtol=loose)


@pytest.mark.parametrize("reward", ["exact", "token"])
@pytest.mark.parametrize(
    ("size", "shape", "noisy"),
    [(2, (2, 3), False), (3, (1, 4), False), (3, (2, 2), True), (4, (1, 3), True)],
)
def test_every_estimator_that_counts(float64, size, shape, noisy, reward):
    for seed in range(2):
        probs, target = random_world([1, seed], *shape, noisy)
        samples = enumeration.sequence_samples(probs, target, reward)
        statistics = statistics_of(probs, target, reward=reward)
        for name, k in estimators(size):
            truth = oracle.batch_truth(samples, size, name, k)
            if truth.squared_norm == 0:
                continue
            moments = counted_of(statistics, size, *group_weights(name, size, k))
            assert_agrees(moments, truth, size, note=(name, k))


@hypothesis.settings(deadline=None, max_examples=40, derandomize=True)
@hypothesis.given(
    weights=st.lists(st.floats(-3, 3), min_size=8, max_size=8),
    logits=st.lists(st.floats(-6, 6), min_size=3, max_size=3),
)
def test_any_table_of_weights(weights, logits):
    success, failure = np.array(weights[:4]), np.array(weights[4:])

    def rule(rewards):
        k = int(sum(rewards))
        return [success[k] if r else failure[k] for r in rewards]

    probs = np.exp(logits)[None] / np.sum(np.exp(logits))
    truth = oracle.batch_truth(enumeration.sequence_samples(probs, [0], "exact"), 3, rule)
    success[0], failure[3] = np.nan, np.nan  # no guess has them
    with jax.enable_x64(True):
        moments = counted_of(
            statistics_of(probs, np.array([0]), reward="exact"), 3, success, failure
        )
    np.testing.assert_allclose(moments.mean, truth.mean, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(moments.trace_covariance, truth.trace_covariance, rtol=1e-9)


@pytest.mark.parametrize("advantage", sorted(gradients.ADVANTAGES))
def test_batches_by_name_of_one_choice(float64, advantage):
    """At one position every reward is 0 or 1, so all five go with every advantage."""
    probs, target = random_world([2], 1, 3)
    k = 2 if advantage.startswith("pass_at_k") else None
    samples = enumeration.sequence_samples(probs, target, "exact")
    name = advantage
    if advantage == "minimum_variance":
        name = oracle.least_noisy_baseline(samples, together=True)
    truth = oracle.batch_truth(samples, 3, name, k)

    @jax.jit
    def both(probs, target):
        return [batch_moments(probs, target, 3, advantage, r, k) for r in ("exact", "prefix")]

    for moments in jax.tree.map(np.asarray, both(probs[0], target[0])):
        assert moments.mean.shape == (3,)
        assert_agrees(moments._replace(mean=moments.mean[None]), truth, 3)


@pytest.mark.parametrize("world", ["rare", "sure", "nearly sure", "rare then sure"])
def test_float32_at_both_ends(world):
    """1e-4 in float32, against arithmetic without rounding."""
    target, size = np.array([0, 0]), 2
    samples = enumeration.sequence_samples(exactly(EXTREMES[world]), target, "exact")
    statistics = statistics_of(np.array(EXTREMES[world], np.float32), target, reward="exact")
    for name, k in estimators(size):
        truth = oracle.batch_truth(samples, size, name, k)
        if min(float(truth.trace_covariance), float(truth.squared_norm)) < 1e-37:
            continue  # below float32: the trace of MaxRL and the norm of pass@2 at "sure", 1e-45
        moments = counted_of(statistics, size, *group_weights(name, size, k))
        assert_agrees(moments, truth, size, 1e-4, (name, k))
    best = oracle.least_noisy_baseline(samples, together=True)
    assert_agrees(least_of(statistics, size), oracle.batch_truth(samples, size, best), size, 1e-4)


def test_float32_of_larger_groups_at_both_ends():
    target, size = np.array([0]), 4
    for row in ([1e-12, 0.7, 0.3], [1.0, 1e-6, 3e-6], [0.3, 0.5, 0.2]):
        samples = enumeration.sequence_samples(exactly([row]), target, "exact")
        statistics = statistics_of(np.array([row], np.float32), target, reward="exact")
        for name, k in estimators(size):
            truth = oracle.batch_truth(samples, size, name, k)
            moments = counted_of(statistics, size, *group_weights(name, size, k))
            for field in ("trace_covariance", "squared_norm"):
                right = float(getattr(truth, field))
                if right > 1e-37:
                    found = getattr(moments, field)
                    np.testing.assert_allclose(found, right, rtol=1e-4, err_msg=str((name, k)))


@pytest.mark.parametrize("size", [7, 64])
def test_variance_that_only_a_group_without_success_makes(float64, size):
    """One right answer: the plain mean over successes says the same thing whatever their number."""
    probs = np.array([0.9, 0.07, 0.03])
    moments = batch_of(probs, 0, size, "maxrl")
    direction = np.eye(3)[0] - probs
    silent = (1 - probs[0]) ** size
    right = silent * (1 - silent) * (direction**2).sum()
    np.testing.assert_allclose(moments.trace_covariance, right, rtol=1e-10)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_group_normalised_update_over_all_outcomes(float64, size):
    """A right arm and a wrong one: the first coordinate of the score is r - p."""
    for p in (0.02, 0.5, 0.9):
        update = 0
        for rewards in itertools.product((0.0, 1.0), repeat=size):
            chance = np.prod([p if r else 1 - p for r in rewards])
            std = np.std(rewards)
            if std > 0:
                update += chance * np.mean(
                    (rewards - np.mean(rewards)) / std * (np.array(rewards) - p)
                )
        weight = weight_of(p, size, "group_normalised")
        np.testing.assert_allclose(weight * p * (1 - p), update, rtol=1e-12)


@pytest.mark.parametrize("size", [2, 4])
def test_group_normalised_second_moment_of_three_tokens(float64, size):
    probs, target = random_world([3], 1, 3)
    samples = enumeration.sequence_samples(probs, target, "exact")
    chance, _, values = oracle.estimates(samples, size, "group_normalised")
    statistics = statistics_of(probs, target, reward="exact")
    moments = counted_of(statistics, size, *group_weights("group_normalised", size))
    second = (chance * (values**2).sum(axis=(1, 2))).sum()
    np.testing.assert_allclose(moments.trace_covariance + moments.squared_norm, second, rtol=1e-10)


@partial(jax.jit, static_argnums=1)
def weights_and_dead(p, size):
    """Of every estimator, by (name, k)."""
    every = [*estimators(size), ("minimum_variance", None)]
    return {
        (name, k): (group_weight(p, size, name, k), dead_group_probability(p, size, name, k))
        for name, k in every
    }


def test_group_weight_and_dead_groups(float64):
    for size in (2, 3, 4):
        probs, target = random_world([4, size], 1, 3)
        samples = enumeration.sequence_samples(probs, target, "exact")
        p = probs[0, target[0]]
        gradient = oracle.batch_truth(samples, 1, "none").mean
        every = weights_and_dead(p, size)
        for name, k in estimators(size):
            weight, found = every[name, k]
            update = oracle.batch_truth(samples, size, name, k).mean
            np.testing.assert_allclose(
                float(weight) * gradient, update, rtol=1e-11, atol=1e-16, err_msg=name
            )
            dead = oracle.dead_truth(samples, size, name, k)
            np.testing.assert_allclose(found, dead, rtol=1e-12, err_msg=str((name, k)))
        assert every["minimum_variance", None] == (1, 0)


def test_tiny_weights_and_tiny_chances_of_a_dead_group():
    """In float32, where every closed form is a power."""
    p = np.array([0.25, 0.9], np.float32)
    kept = np.array(p, float)

    @jax.jit
    def found(p):
        dead = partial(dead_group_probability, p)
        names = ("pass_at_k", "pass_at_k_leave_one_out")
        weights = [group_weight(p, 32, name, 16) for name in names]
        named = dead(32, "pass_at_k", 3), dead(32, "pass_at_k_leave_one_out", 2)
        return *weights, dead(32), *named, dead(1, "leave_one_out")

    few = (1 - kept) ** 32 + kept**32 + 32 * kept**31 * (1 - kept)
    tiny = 16 * (1 - kept) ** 15
    wanted = tiny, tiny, kept**32 + (1 - kept) ** 32, (1 - kept) ** 32, few, np.ones(2)
    for one, right in zip(found(p), wanted, strict=True):
        assert one.shape == (2,)
        np.testing.assert_allclose(one, right, rtol=2e-5)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("reward", enumeration.REWARDS)
def test_least_noisy_baseline(float64, reward, noisy):
    probs, target = random_world([5], 2, 2 if noisy else 3, noisy)
    samples = enumeration.sequence_samples(probs, target, reward)
    together = reward not in ("token", "reward_to_go")
    best = oracle.least_noisy_baseline(samples, together)
    found = baseline_of(probs, target, reward=reward)
    np.testing.assert_allclose(found, best[0] if together else best, rtol=1e-12)
    moments = least_of(statistics_of(probs, target, reward=reward), 2)
    assert_agrees(moments, oracle.batch_truth(samples, 2, best), 2)


def test_least_noisy_baseline_of_one_choice(float64):
    probs = np.array([0.2, 0.5, 0.3])
    found = baseline_of(probs, 1, reward="token")
    assert found.shape == ()
    right = jax.jit(minimum_variance_baseline)(probs, np.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(found, right, rtol=1e-12)
    coin = batch_of(probs[:2] / 0.7, 0, 3, "minimum_variance")
    assert coin.trace_covariance == 0  # between two arms b* = 1 - p: every guess says the same


@pytest.mark.parametrize("unit", ["exact", "token"])
@pytest.mark.parametrize("objective", gradients.OBJECTIVES)
def test_bias_of_a_binary_reward(float64, objective, unit):
    probs, target = random_world([6], 2, 2)
    samples = enumeration.sequence_samples(probs, target, unit)
    for size, k in [(3, 2), (2, 5)]:
        gradient = oracle.objective_gradient(probs, target, objective, k, unit)
        for name in sorted(COUNTED):
            if k > size - name.endswith("leave_one_out") and name.startswith("pass"):
                continue
            right = oracle.batch_truth(samples, size, name, k).mean - gradient
            found = batch_bias(probs, target, size, name, unit, k, objective)
            np.testing.assert_allclose(found, right, atol=1e-10, err_msg=str((name, size, k)))


@partial(jax.jit, static_argnums=2)
def gradient_and_biases(probs, target, reward):
    names = ("none", "leave_one_out", "minimum_variance", "group_mean")
    biases = {name: batch_bias(probs, target, 3, name, reward) for name in names}
    return sequence_statistics(probs, target, reward).mean, biases


def test_what_is_unbiased_and_by_how_much_the_rest_is_not(float64):
    probs, target = random_world([7], 2, 3)
    for reward in enumeration.REWARDS:
        gradient, biases = gradient_and_biases(probs, target, reward)
        for name in ("none", "leave_one_out", "minimum_variance"):
            np.testing.assert_allclose(biases[name], 0, atol=1e-15)
        np.testing.assert_allclose(biases["group_mean"], -np.asarray(gradient) / 3, rtol=1e-12)
    for name in ("pass_at_k", "pass_at_k_leave_one_out"):
        bias = bias_of(probs, target, 4, name, "exact", 2, "pass_at_k")
        np.testing.assert_allclose(bias, 0, atol=1e-15)
    p = probs[np.arange(2), target].prod()
    bias = bias_of(probs, target, 3, "maxrl", objective="log_likelihood")
    towards = np.eye(3)[target] - probs
    np.testing.assert_allclose(bias, -((1 - p) ** 3) * towards, rtol=1e-12)


def test_bias_in_float32_where_success_is_sure_or_rare():
    sure = np.array([1.0, 1e-6, 3e-6], np.float32)
    bias = bias_of(sure, 0, 3, "maxrl", objective="log_likelihood")
    right = -(4e-6**3) * np.array([4e-6, -1e-6, -3e-6])
    np.testing.assert_allclose(bias, right, rtol=1e-4)
    never = np.array([0.0, 0.25, 0.75], np.float32)
    bias = bias_of(never, 0, 3, "maxrl", objective="log_likelihood")
    np.testing.assert_allclose(bias, [-1, 0.25, 0.75], rtol=1e-5)


def test_bias_of_noisy_labels(float64):
    probs, law = random_world([8], 1, 3, noisy=True)
    p = (probs * law).sum()
    samples = enumeration.sequence_samples(probs, law, "exact")
    gradient = oracle.batch_truth(samples, 1, "none").mean
    update = oracle.batch_truth(samples, 3, "maxrl").mean
    found = bias_of(probs, law, 3, "maxrl", "exact", None, "log_likelihood")
    np.testing.assert_allclose(found, update - gradient / p, rtol=1e-11)


@pytest.mark.parametrize("reward", ["exact", "token"])
@pytest.mark.parametrize("rates", [(0.2, 0.3), (0.0, 0.4), (0.7, 0.6)])
def test_verdicts_of_a_verifier_that_errs(float64, rates, reward):
    probs, target = random_world([9], 2, 2)
    statistics = statistics_of(probs, target, reward=reward)
    seen = verified_of(statistics, *rates)
    samples = enumeration.sequence_samples(probs, target, reward)
    together = reward == "exact"
    verdicts = oracle.verdicts(samples, *rates, together)
    for name, tables in {name: group_weights(name, 2) for name in ("maxrl", "none")}.items():
        truth = oracle.batch_truth(verdicts, 2, name)
        assert_agrees(counted_of(seen, 2, *tables), truth, 2)
    truth = oracle.batch_truth(verdicts, 2, "leave_one_out")
    assert_agrees(affine_of(seen, 2, 2.0, 1.0), truth, 2)  # reads reward_variance and the centred
    truth = oracle.batch_truth(verdicts, 2, np.full(2, 0.3))
    assert_agrees(constant_of(seen, 2, 0.3), truth, 2)  # reads cross and score
    best = oracle.least_noisy_baseline(verdicts, together)
    assert_agrees(least_of(seen, 2), oracle.batch_truth(verdicts, 2, best), 2)


def test_a_verifier_that_never_errs_changes_nothing():
    for world in ("rare", "nearly sure", "rare then sure"):
        for reward in ("exact", "token"):
            probs = np.array(EXTREMES[world], np.float32)
            statistics = statistics_of(probs, np.array([0, 0]), reward=reward)
            same = verified_of(statistics, 0.0, 0.0)
            for field, value in statistics._asdict().items():
                found = getattr(same, field)
                np.testing.assert_allclose(found, value, rtol=1e-5, err_msg=field)


def test_many_policies_at_once():
    rng = np.random.default_rng(10)
    probs = rng.dirichlet(np.ones(3), size=(4, 2)).astype(np.float32)

    @jax.jit
    @jax.vmap
    def both(probs):
        target = jnp.array([0, 2])
        moments = batch_moments(probs, target, 4, "pass_at_k_leave_one_out", "token", 2)
        return moments, batch_bias(probs, target, 4, "maxrl", objective="pass_at_k", k=2)

    moments, bias = both(probs)
    assert moments.snr.shape == (4,)
    assert bias.shape == probs.shape
    assert moments.snr.dtype == bias.dtype == jnp.float32
    one = batch_of(probs[2], np.array([0, 2]), 4, "pass_at_k_leave_one_out", "token", 2)
    np.testing.assert_allclose(
        np.asarray(moments.trace_covariance)[2], one.trace_covariance, rtol=1e-5
    )


ONE, TWO = np.array([0.2, 0.3, 0.5]), np.full((2, 3), 1 / 3)
RIGHT = np.array([0, 1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: group_weights("best", 4), "advantage must be one of"),
        (lambda: group_weights("minimum_variance", 4), "constant baseline"),
        (lambda: group_weights("pass_at_k", 4), "needs k from 1 to 4, got None"),
        (lambda: group_weights("pass_at_k", 4, 5), "needs k from 1 to 4, got 5"),
        (lambda: group_weights("pass_at_k_leave_one_out", 4, 4), "needs k from 1 to 3, got 4"),
        (lambda: group_weights("pass_at_k_leave_one_out", 1, 1), "at least 2, got 1"),
        (lambda: group_weight(0.5, 4, "pass_at_k", 0), "needs k from 1 to 4, got 0"),
        (lambda: dead_group_probability(0.5, 4, "pass_at_k"), "needs k"),
        (lambda: batch_moments(TWO, RIGHT, 4, "maxrl", "prefix"), "'exact' and 'token' only"),
        (lambda: batch_moments(ONE, 0, 4, "pass_at_k"), "needs k from 1 to 4"),
        (
            lambda: batch_bias(ONE, 0, 4, "none", objective="best"),
            "objective must be one of reward",
        ),
        (
            lambda: batch_bias(TWO, RIGHT, 4, "none", "prefix", objective="log_likelihood"),
            "objective must be one of reward, got",
        ),
        (lambda: batch_bias(ONE, 0, 4, "none", objective="pass_at_k"), "needs k at least 1"),
        (
            lambda: count_weighted_moments(
                statistics_of(TWO, RIGHT, reward="exact"), 2, np.ones(2), np.ones(3)
            ),
            "must have shape",
        ),
    ],
)
def test_wrong_calls_say_what_is_allowed(call, says):
    with pytest.raises(ValueError, match=says):
        call()
