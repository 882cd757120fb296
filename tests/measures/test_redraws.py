"""Moments from redraws, against exact moments and against their own definition in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures.gradients import (
    LeafMoments,
    batch_moments,
    ratio_of_means,
    redraw_moments,
    sequence_moments,
    two_batch_moments,
    two_batch_noise_scale,
)

PROBS = np.array([0.2, 0.3, 0.5])

ratio_of = jax.jit(ratio_of_means)


def leave_one_out(key, batch_size=4, target=0):
    arms = jax.random.choice(key, 3, (batch_size,), p=jnp.asarray(PROBS, jnp.float32))
    rewards = (arms == target).astype(jnp.float32)
    weights = (rewards - rewards.mean()) * batch_size / (batch_size - 1)
    scores = jax.nn.one_hot(arms, 3) - jnp.asarray(PROBS, jnp.float32)
    return {"logits": jnp.mean(weights[:, None] * scores, axis=0)}


def test_redraws_find_the_exact_moments_within_their_errors():
    """300 experiments: unbiased, and the errors they claim are the errors they make."""
    exact = jax.jit(lambda probs: batch_moments(probs, 0, 4, "leave_one_out"))(np.float32(PROBS))
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
    single = jax.jit(lambda k: redraw_moments(leave_one_out, k, 400, batch_size=4))(
        jax.random.key(1)
    )
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


def tree_estimate(key):
    left, right = jax.random.split(key)
    return {"a": jax.random.normal(left, (2,)) ** 2 + 1, "b": jax.random.uniform(right, (2, 1))}


def plain(draws):
    """Trace, squared norm and their two quotients for 4 trajectories, from draws [R, P]."""
    trace = np.sum(np.var(draws, axis=0, ddof=1))
    norm = np.sum(draws.mean(axis=0) ** 2) - trace / len(draws)
    return np.array([trace, norm, norm / trace, 4 * trace / norm])


def jackknife(statistic, draws):
    """Standard errors by leaving out one draw at a time."""
    left_out = np.stack([statistic(np.delete(draws, i, axis=0)) for i in range(len(draws))])
    return np.sqrt((len(draws) - 1) * left_out.var(axis=0))


def figures(moments):
    """The four of `plain` from what was found."""
    names = ("trace_covariance", "squared_norm", "snr", "noise_scale")
    return [getattr(moments, name) for name in names]


def errors_of(moments):
    names = ("trace", "norm", "snr", "noise_scale")
    return [getattr(moments, name + "_standard_error") for name in names]


def test_redraws_by_their_definition(float64):
    """Means and jackknives recomputed by leaving out one redraw at a time, by leaf too."""
    key, count = jax.random.key(2), 7

    @jax.jit
    def both(key):
        trees = jax.lax.map(tree_estimate, jax.random.split(key, count))
        return redraw_moments(tree_estimate, key, count, batch_size=4, chunk_size=3), trees

    found, trees = jax.tree.map(np.asarray, both(key))
    leaves = {name: trees[name].reshape(count, -1) for name in "ab"}
    draws = np.concatenate(list(leaves.values()), axis=1)
    np.testing.assert_allclose(figures(found), plain(draws), rtol=1e-9)
    np.testing.assert_allclose(errors_of(found), jackknife(plain, draws), rtol=1e-9)
    for name, part in leaves.items():
        shape = trees[name].shape[1:]
        assert found.mean[name].shape == found.mean_standard_error[name].shape == shape
        np.testing.assert_allclose(found.mean[name].ravel(), part.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(
            found.mean_standard_error[name].ravel(), jackknife(lambda x: x.mean(axis=0), part)
        )
        expected = (*plain(part)[:2], *jackknife(plain, part)[:2])
        np.testing.assert_allclose(found.leaves[name], expected, rtol=1e-9)
    for name in ("trace_covariance", "squared_norm"):
        total = sum(getattr(leaf, name) for leaf in found.leaves.values())
        np.testing.assert_allclose(total, getattr(found, name), rtol=1e-12)
    assert found.noise_numerator == 4 * found.trace_covariance
    assert found.noise_denominator == found.squared_norm


MIX = np.random.default_rng(3).normal(size=(5, 5))  # rows: entries of the gradient
CENTRE = np.array([0.5, -1.0, 0.25, 2.0, 0.0])
NAMES = {"a": slice(0, 2), "b": slice(2, 5)}


def gaussian(scale, key):
    noise = jnp.asarray(MIX, scale.dtype) * jax.random.normal(key, (5,), scale.dtype)
    entries = jnp.asarray(CENTRE, scale.dtype) + scale * jnp.sum(noise, axis=1)
    return {"a": entries[:2], "b": entries[2:].reshape(3, 1)}


def several_gaussians(num_redraws):
    def moments(scale, key):
        return redraw_moments(lambda k: gaussian(scale, k), key, num_redraws, 4, chunk_size=16)

    return jax.jit(moments), jax.jit(jax.vmap(moments))


def test_a_gaussian_estimator_of_known_covariance():
    """Every figure within four of its errors; the errors are small and of the right size."""
    count = 600
    found = several_gaussians(count)[1](np.ones(1), jax.random.split(jax.random.key(4), 1))
    found = jax.tree.map(lambda x: np.asarray(x[0], np.float64), found)
    variance, norm = np.sum(MIX**2, axis=1), np.sum(CENTRE**2)
    trace = variance.sum()
    truth = np.array([trace, norm, norm / trace, 4 * trace / norm])
    errors = np.array(errors_of(found))
    assert np.all(np.abs(figures(found) - truth) < 4 * errors)
    assert np.all(errors < 0.2 * np.abs(truth))
    covariance = MIX @ MIX.T
    exact = np.sqrt(2 * np.trace(covariance @ covariance) / count)
    np.testing.assert_allclose(found.trace_standard_error, exact, rtol=0.2)
    for name, part in NAMES.items():
        miss = found.mean[name].ravel() - CENTRE[part]
        error = found.mean_standard_error[name].ravel()
        np.testing.assert_allclose(error, np.sqrt(variance[part] / count), rtol=0.15)
        assert np.all(np.abs(miss) < 4 * error)
        leaf = found.leaves[name]
        assert abs(leaf.trace_covariance - variance[part].sum()) < 4 * leaf.trace_standard_error
        squares = np.sum(CENTRE[part] ** 2)
        assert abs(leaf.squared_norm - squares) < 4 * leaf.norm_standard_error


def test_many_short_experiments_are_unbiased_and_one_program():
    """400 experiments of 16 redraws at several noises; the same as one after the other."""
    moments, together = several_gaussians(16)
    scales = np.where(np.arange(400) % 2 == 0, 1.0, 0.5)
    keys = jax.random.split(jax.random.key(5), 400)
    found = jax.tree.map(np.asarray, together(scales, keys))
    trace = np.sum(MIX**2) * scales**2
    for values, truth in [
        (found.trace_covariance, trace),
        (found.squared_norm, np.sum(CENTRE**2)),
        (found.leaves["a"].squared_norm, np.sum(CENTRE[:2] ** 2)),
        (found.leaves["b"].trace_covariance, trace * np.sum(MIX[2:] ** 2) / np.sum(MIX**2)),
    ]:
        miss = np.asarray(values, np.float64) - truth
        assert abs(miss.mean()) < 4 * miss.std() / np.sqrt(400)
    loud = scales == 1
    ratio = ratio_of(found.noise_numerator[loud], found.noise_denominator[loud])
    truth = 4 * np.sum(MIX**2) / np.sum(CENTRE**2)
    assert abs(ratio.value - truth) < 4 * ratio.standard_error < 0.4 * truth
    one_by_one = [moments(scales[i], keys[i]) for i in (0, 1)]
    for i, one in enumerate(one_by_one):
        same = jax.tree.map(lambda x, i=i: x[i], found)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=1e-5), same, one)


def test_no_noise_and_a_single_bare_leaf():
    """A deterministic estimator has figures without NaN; a bare array has one leaf: itself."""

    @jax.jit
    def still(gradient):
        return redraw_moments(lambda key: gradient, jax.random.key(0), 7)

    for gradient in (np.zeros(3), np.full(3, 0.1)):
        found = still(gradient)
        assert isinstance(found.leaves, LeafMoments)
        np.testing.assert_allclose(found.leaves, [*figures(found)[:2], *errors_of(found)[:2]])
        expected = [0, float(np.sum(gradient**2)), 0, 0]
        np.testing.assert_allclose(found.leaves, expected, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(found.mean_standard_error, np.zeros(3), atol=1e-8)


def test_one_live_redraw_does_not_pretend_to_a_precise_ratio():
    """Without it there is no trace: the jackknife of either quotient is undefined, and says so.

    At several sizes: rounding must not turn 0 / 0 into a figure.
    """
    key = jax.random.key(6)
    chosen = jax.random.key_data(jax.random.split(key, 9)[4])

    def moments(size):
        def estimate(key):
            return jnp.where(jnp.all(jax.random.key_data(key) == chosen), size, 0.0)

        return redraw_moments(estimate, key, 9)

    found = jax.jit(jax.vmap(moments))(np.linspace(0.1, 1.0, 64))
    assert np.all(found.trace_covariance > 0)
    assert not np.any(np.isfinite(found.snr_standard_error))
    assert not np.any(np.isfinite(found.noise_scale_standard_error))


def test_ratio_of_means_by_its_definition(float64):
    rng = np.random.default_rng(0)
    bottom = rng.normal(3, 1, size=(2, 30))
    top = 2 * bottom + rng.normal(size=(2, 30))
    found = jax.jit(jax.vmap(ratio_of_means))(top, bottom)
    for i in range(2):
        value = top[i].mean() / bottom[i].mean()
        cov = np.cov(top[i], bottom[i]) / 30
        variance = cov[0, 0] - 2 * value * cov[0, 1] + value**2 * cov[1, 1]
        np.testing.assert_allclose(found.value[i], value, rtol=1e-12)
        error = np.sqrt(variance) / abs(bottom[i].mean())
        np.testing.assert_allclose(found.standard_error[i], error, rtol=1e-9)
    assert ratio_of(np.array([1, 3]), np.array([2, 2])).value == 1


def test_two_batch_sizes_give_the_noise_scale(float64):
    one = jax.jit(lambda probs: sequence_moments(probs, 0, "exact", 0.3))(PROBS)
    sizes = {size: one.squared_norm + one.trace_covariance / size for size in (2, 16)}
    found = two_batch_noise_scale(sizes[2], sizes[16], 2, 16)
    np.testing.assert_allclose(found.trace_covariance, one.trace_covariance, rtol=1e-12)
    np.testing.assert_allclose(found.squared_norm, one.squared_norm, rtol=1e-12)
    np.testing.assert_allclose(found.noise_scale, one.noise_scale, rtol=1e-12)


LABELS = np.array([0.1, 0.6, 0.3])


def labels(batch, key):
    arms = jax.random.choice(key, 3, (batch,), p=jnp.asarray(LABELS))
    return {"logits": jnp.mean(jax.nn.one_hot(arms, 3), axis=0) - jnp.asarray(PROBS)}


def two_sizes(key):
    return two_batch_moments(lambda k: labels(2, k), lambda k: labels(8, k), key, 2, 8, 500)


def test_two_batches_of_labels_find_the_noise_scale(float64):
    """Fresh labels have trace 1 - sum q^2 and mean q - pi; errors as propagated by hand."""
    keys = jax.random.split(jax.random.key(7), 100)
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(two_sizes))(keys))
    trace, norm = 1 - np.sum(LABELS**2), np.sum((LABELS - PROBS) ** 2)
    names = ("trace", "norm", "noise_scale")
    for values, name, truth in zip(found[:3], names, (trace, norm, trace / norm), strict=True):
        errors = np.asarray(getattr(found, name + "_standard_error"))
        miss = np.asarray(values) - truth
        assert np.abs(miss[0]) < 4 * errors[0]
        if name != "noise_scale":  # the quotient of one experiment is biased
            assert abs(miss.mean()) < 4 * miss.std() / 10
            np.testing.assert_allclose(np.median(errors), miss.std(), rtol=0.25)
    pooled = ratio_of(found.trace_covariance, found.squared_norm)
    assert abs(pooled.value - trace / norm) < 4 * pooled.standard_error
    draws = [
        np.asarray(jax.jit(jax.vmap(partial(labels, batch)))(jax.random.split(some, 500))["logits"])
        for batch, some in zip((2, 8), jax.random.split(keys[0]), strict=True)
    ]
    small, big = (np.sum(x**2, axis=1) for x in draws)
    # Small steps of either mean, instead of the slopes.
    means, spreads = np.array([small.mean(), big.mean()]), np.array([small.std(), big.std()])
    spreads = spreads / np.sqrt(499)

    def formulas(means):
        norm = (8 * means[1] - 2 * means[0]) / 6
        trace = (means[0] - means[1]) / (1 / 2 - 1 / 8)
        return np.array([trace, norm, trace / norm])

    step = 1e-6
    moved = [(formulas(means + d) - formulas(means - d)) / (2 * step) for d in np.eye(2) * step]
    np.testing.assert_allclose([x[0] for x in found[:3]], formulas(means), rtol=1e-9)
    np.testing.assert_allclose(
        [x[0] for x in found[3:]], np.sqrt(np.sum((np.array(moved).T * spreads) ** 2, 1)), rtol=1e-7
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: redraw_moments(tree_estimate, jax.random.key(0), 2), "at least 3"),
        (
            lambda: redraw_moments(tree_estimate, jax.random.key(0), 5, chunk_size=0),
            "chunk_size at least 1",
        ),
        (lambda: two_batch_moments(None, None, jax.random.key(0), 2, 8, 1), "at least 2"),
        (
            lambda: two_batch_moments(tree_estimate, tree_estimate, jax.random.key(0), 8, 8, 2),
            "must differ",
        ),
        (lambda: ratio_of_means(np.ones(1), np.ones(1)), "N at least 2"),
        (lambda: ratio_of_means(np.ones(3), np.ones(2)), "both be"),
    ],
)
def test_wrong_calls_say_what_is_allowed(call, says):
    with pytest.raises(ValueError, match=says):
        call()
