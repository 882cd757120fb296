"""Moments in float32 where a probability is nearly 0 or nearly 1, against exact fractions."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures.gradients import (
    affine_moments,
    bandit_statistics,
    batch_moments,
    constant_moments,
    sequence_statistics,
)
from tests.oracles import enumeration as oracle

AFFINE_PAIRS = {"none": (1.0, 0.0), "group_mean": (1.0, 1.0), "leave_one_out": (2.0, 1.0)}

statistics_of = jax.jit(sequence_statistics, static_argnames="reward")
affine_of = jax.jit(affine_moments)
constant_of = jax.jit(constant_moments)
arms_of = jax.jit(bandit_statistics)
batch_of = jax.jit(batch_moments, static_argnames=("batch_size", "advantage", "reward"))

# Policies as float32 stores them: the right answer's own entry may have rounded to 1.
EXTREMES = {
    "rare": [[1e-12, 0.7, 0.3], [0.5, 0.2, 0.3]],
    "rare everywhere": [[1e-6, 0.7, 0.3], [3e-6, 0.2, 0.8]],
    "sure": [[1.0, 1e-12, 3e-12], [1.0, 2e-12, 1e-13]],
    "sure then open": [[1.0, 1e-12, 3e-12], [0.4, 0.35, 0.25]],
    "open then sure": [[0.4, 0.35, 0.25], [1.0, 1e-12, 3e-12]],
    "nearly sure": [[1.0, 1e-6, 3e-6], [1.0, 2e-6, 1e-7]],
    "rare then sure": [[1e-12, 0.9, 0.1], [1.0, 1e-9, 3e-12]],
}


def exactly(rows):
    """The float32 policy as fractions, its largest entry being what the others leave."""
    rows = [[Fraction(float(np.float32(p))) for p in row] for row in rows]
    for row in rows:
        top = int(np.argmax(row))
        row[top] = 1 - sum(row[:top] + row[top + 1 :])
    return np.array(rows, dtype=object)


@pytest.mark.parametrize("world", EXTREMES)
@pytest.mark.parametrize("reward", oracle.REWARDS)
def test_float32_at_both_ends(reward, world):
    """1e-4 in float32, against arithmetic without rounding."""
    target = np.array([0, 0])
    probs = jnp.array(EXTREMES[world], jnp.float32)
    samples = oracle.sequence_samples(exactly(EXTREMES[world]), target, reward)
    statistics = statistics_of(probs, target, reward=reward)
    for name, (scale, centre) in AFFINE_PAIRS.items():
        truth = oracle.batch_truth(samples, 2, name)
        moments = affine_of(statistics, 2, scale, centre)
        for field in ("trace_covariance", "squared_norm"):
            np.testing.assert_allclose(
                getattr(moments, field), float(getattr(truth, field)), rtol=1e-4, err_msg=name
            )
        scale_truth = float(2 * truth.trace_covariance / truth.squared_norm)
        np.testing.assert_allclose(moments.noise_scale, scale_truth, rtol=1e-4)
        np.testing.assert_allclose(moments.mean, truth.mean.astype(float), rtol=1e-4)


@pytest.mark.parametrize(
    ("advantage", "world"),
    [
        ("group_normalised", "rare"),
        ("group_normalised", "sure"),
        ("group_normalised", "rare then sure"),
        ("maxrl", "rare"),
        ("maxrl", "nearly sure"),  # at "sure" its variance, 1e-45, is below float32
        ("maxrl", "rare then sure"),
    ],
)
def test_float32_groups_at_both_ends(advantage, world):
    rows, target = EXTREMES[world], np.array([0, 0])
    exact = exactly(rows)
    samples = oracle.sequence_samples(exact, target, "exact")
    # With two samples the weights of both are rational: +1 and -1 when the rewards differ (the
    # std is 1/2), and 2 r / k; so no root is needed.
    chance, index = oracle.batches(samples, 2)
    rewards = samples.credit[index][..., 0]
    first, second = rewards[:, 0], rewards[:, 1]
    total = first + second
    if advantage == "maxrl":
        shares = [
            np.array([2 * r / k if k else 0 * r for r, k in zip(x, total, strict=True)])
            for x in (first, second)
        ]
    else:
        shares = [first - second, second - first]
    values = sum(
        share[:, None, None] * samples.score[index[:, i]] for i, share in enumerate(shares)
    ) / Fraction(2)
    mean = (chance[:, None, None] * values).sum(axis=0)
    trace = (chance[:, None, None] * (values - mean) ** 2).sum()
    moments = batch_of(jnp.array(rows, jnp.float32), target, 2, advantage)
    np.testing.assert_allclose(moments.trace_covariance, float(trace), rtol=1e-4)
    np.testing.assert_allclose(moments.squared_norm, float((mean**2).sum()), rtol=1e-4)


@pytest.mark.parametrize("top", [0, 2])
def test_float32_bandits_at_both_ends(top):
    row = [2e-12, 3e-12, 5e-13]
    row[top] = 1.0
    exact = exactly([row])[0]
    rewards = [Fraction(1), Fraction(0), Fraction(1, 4)]
    samples = oracle.Samples(
        exact,
        np.array([oracle.score(exact[None], (arm,)) for arm in range(3)]),
        np.array([[r] for r in rewards], dtype=object),
    )
    statistics = arms_of(jnp.array(row, jnp.float32), jnp.array(rewards, float))
    for name, (scale, centre) in AFFINE_PAIRS.items():
        truth = oracle.batch_truth(samples, 2, name)
        moments = affine_of(statistics, 2, scale, centre)
        np.testing.assert_allclose(
            moments.trace_covariance, float(truth.trace_covariance), rtol=1e-4
        )
        np.testing.assert_allclose(moments.squared_norm, float(truth.squared_norm), rtol=1e-4)


def test_large_groups_in_float32_agree_with_float64():
    probs = np.array([0.03, 0.9, 0.07])
    for name in ("group_normalised", "maxrl"):
        single = batch_of(jnp.array(probs, jnp.float32), 0, 1024, name)
        with jax.enable_x64(True):
            double = batch_of(jnp.array(probs), 0, 1024, name)
        for field in ("trace_covariance", "squared_norm"):
            np.testing.assert_allclose(getattr(single, field), getattr(double, field), rtol=1e-4)


def test_degenerate_policies_raise_no_nan_in_the_moments():
    for row in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]):
        for reward in oracle.REWARDS:
            statistics = statistics_of(jnp.array([row, row]), np.array([0, 0]), reward=reward)
            for moments in (affine_of(statistics, 2, 1.0, 1.0), constant_of(statistics, 2, 0.3)):
                assert moments.trace_covariance == 0
                assert moments.squared_norm == 0
                assert np.all(moments.mean == 0)
        for name in ("group_normalised", "maxrl"):
            moments = batch_of(jnp.array([row, row]), np.array([0, 0]), 4, name)
            assert moments.trace_covariance == 0
            assert moments.squared_norm == 0
