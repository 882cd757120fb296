"""Moments from redraws, against exact moments and against their own definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures.gradients import (
    batch_moments,
    redraw_moments,
    sequence_moments,
    two_batch_noise_scale,
)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


PROBS = np.array([0.2, 0.3, 0.5])


def leave_one_out(key, batch_size=4, target=0):
    arms = jax.random.choice(key, 3, (batch_size,), p=jnp.asarray(PROBS, jnp.float32))
    rewards = (arms == target).astype(jnp.float32)
    weights = (rewards - rewards.mean()) * batch_size / (batch_size - 1)
    scores = jax.nn.one_hot(arms, 3) - jnp.asarray(PROBS, jnp.float32)
    return {"logits": jnp.mean(weights[:, None] * scores, axis=0)}


def test_redraws_find_the_exact_moments_within_their_errors():
    """300 experiments: unbiased, and the errors they claim are the errors they make."""
    exact = batch_moments(jnp.asarray(PROBS, jnp.float32), 0, 4, "leave_one_out")
    redraw = jax.jit(
        jax.vmap(lambda k: redraw_moments(leave_one_out, k, 50, batch_size=4, chunk_size=16))
    )
    found = redraw(jax.random.split(jax.random.key(0), 300))
    for name, error in [
        ("trace_covariance", "trace_standard_error"),
        ("squared_norm", "norm_standard_error"),
    ]:
        values, errors = np.asarray(getattr(found, name)), np.asarray(getattr(found, error))
        miss = values - float(getattr(exact, name))
        assert abs(miss.mean()) < 4 * values.std() / np.sqrt(300)
        assert np.mean(np.abs(miss) < 4 * errors) > 0.98
        np.testing.assert_allclose(np.sqrt(np.mean(errors**2)), values.std(), rtol=0.15)
    single = redraw_moments(leave_one_out, jax.random.key(1), 400, batch_size=4)
    for name, error in [
        ("trace_covariance", single.trace_standard_error),
        ("squared_norm", single.norm_standard_error),
    ]:
        assert abs(float(getattr(single, name) - getattr(exact, name))) < 4 * float(error)
    assert single.mean["logits"].shape == (3,)
    np.testing.assert_allclose(single.noise_scale, 4 / single.snr, rtol=1e-5)
    np.testing.assert_allclose(
        single.noise_scale, single.noise_numerator / single.noise_denominator, rtol=1e-6
    )


def test_redraws_by_their_definition(x64):
    """Means and jackknives recomputed by leaving out one redraw at a time."""

    def estimate(key):
        return jax.random.normal(key, (2,)) ** 2 + 1

    key, count = jax.random.key(2), 7
    found = redraw_moments(estimate, key, count, chunk_size=3)
    draws = np.stack([estimate(k) for k in jax.random.split(key, count)])

    def plain(draws):
        trace = np.cov(draws.T).trace()
        return np.array([trace, (draws.mean(axis=0) ** 2).sum() - trace / len(draws)])

    left_out = np.stack([plain(np.delete(draws, i, axis=0)) for i in range(count)])
    errors = np.sqrt((count - 1) * left_out.var(axis=0))
    np.testing.assert_allclose(found.mean, draws.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        [found.trace_covariance, found.squared_norm], plain(draws), rtol=1e-12
    )
    np.testing.assert_allclose(
        [found.trace_standard_error, found.norm_standard_error], errors, rtol=1e-10
    )


def test_two_batch_sizes_give_the_noise_scale(x64):
    one = sequence_moments(PROBS, 0, "exact", 0.3)
    sizes = {size: one.squared_norm + one.trace_covariance / size for size in (2, 16)}
    found = two_batch_noise_scale(sizes[2], sizes[16], 2, 16)
    np.testing.assert_allclose(found.trace_covariance, one.trace_covariance, rtol=1e-12)
    np.testing.assert_allclose(found.squared_norm, one.squared_norm, rtol=1e-12)
    np.testing.assert_allclose(found.noise_scale, one.noise_scale, rtol=1e-12)
