"""Cosines of gradients, against NumPy and against the enumeration of every batch."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures.gradients import cosine, cosine_moments

PROBS = np.array([0.2, 0.3, 0.5])
TARGET = 0
one_cosine = jax.jit(cosine)
DIRECTION = np.eye(3)[TARGET] - PROBS  # grad log pi(y*)


def test_a_cosine_of_trees(float64):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 4, 5))
    expected = [a @ b / np.sqrt(a @ a * (b @ b)) for a, b in zip(one, other, strict=True)]

    def tree(x):
        return {"a": x[:2], "b": x[2:].reshape(3, 1)}

    found = jax.jit(jax.vmap(lambda a, b: cosine(tree(a), tree(b))))(one, other)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    looped = [one_cosine(tree(a), tree(b)) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(found, looped, rtol=1e-12)


def test_rounding_does_not_pass_one():
    some = np.float32(np.random.default_rng(1).normal(size=(200, 5)))
    found = np.asarray(jax.jit(jax.vmap(cosine))(some, some))
    assert np.all(found <= 1)
    np.testing.assert_allclose(found, np.ones(200), rtol=1e-6)


@pytest.mark.parametrize("size", [1e-37, 1e-30, 1.0, 1e37])
def test_no_length_is_too_small_or_too_large(size):
    """Squares of these leave float32."""
    gradient = np.array([3.0, -4.0], np.float32) * np.float32(size)
    for direction, expected in [([0.0, 1.0], -0.8), ([3.0, -4.0], 1.0), ([-3.0, 4.0], -1.0)]:
        for scale in (1.0, 1e-35):
            found = one_cosine(gradient, np.array(direction, np.float32) * np.float32(scale))
            assert found.dtype == jnp.float32
            assert abs(found) <= 1
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_zero_has_no_direction_and_nan_is_not_zero():
    some, zero = np.array([1.0, 2.0]), np.zeros(2)
    assert np.isnan([one_cosine(x, y) for x, y in ((zero, some), (some, zero), (zero, zero))]).all()

    @jax.jit
    def still(gradient, direction):
        return cosine_moments(lambda key: gradient, direction, jax.random.key(0), 4)

    lost = still(some * np.nan, some)
    assert np.isnan(lost.mean)
    assert lost.zero_share == 0
    none = still(zero, some)
    assert np.isnan([none.mean, none.standard_error]).all()
    assert none.zero_share == 1
    assert none.zero_standard_error == 0


def group_gradient(arms):
    """Leave-one-out policy gradient of two pulls."""
    rewards = (arms == TARGET).astype(float)
    advantages = rewards - rewards[::-1]
    return np.mean(advantages[:, None] * (np.eye(3)[arms] - PROBS), axis=0)


def enumerated():
    """Mean cosine of the batches that move, its standard deviation, and the chance of none."""
    batches = [np.array(arms) for arms in itertools.product(range(3), repeat=2)]
    chances = np.array([PROBS[arms].prod() for arms in batches])
    gradients = np.array([group_gradient(arms) for arms in batches])
    lengths = np.sqrt(np.sum(gradients**2, axis=1))
    live = lengths > 0
    cosines = gradients[live] @ DIRECTION / lengths[live] / np.sqrt(DIRECTION @ DIRECTION)
    weights = chances[live] / chances[live].sum()
    mean = weights @ cosines
    return mean, np.sqrt(weights @ (cosines - mean) ** 2), chances[~live].sum()


def estimate(probs, key):
    arms = jax.random.choice(key, 3, (2,), p=probs)
    rewards = (arms == TARGET).astype(probs.dtype)
    advantages = rewards - rewards[::-1]
    scores = jax.nn.one_hot(arms, 3, dtype=probs.dtype) - probs
    return {"logits": jnp.mean(advantages[:, None] * scores, axis=0)}


def moments(num_redraws):
    def run(probs, key):
        direction = {"logits": jnp.asarray(DIRECTION, probs.dtype)}
        return cosine_moments(lambda k: estimate(probs, k), direction, key, num_redraws, 64)

    return run


def test_a_bandit_against_every_batch():
    mean, spread, share = enumerated()
    run, count = jax.jit(moments(1000)), 1000
    probs = np.float32([PROBS, PROBS])
    keys = jax.random.split(jax.random.key(1), 2)
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(probs, keys))
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: float(x[i]), found)
        assert abs(one.mean - mean) < 4 * one.standard_error
        assert abs(one.zero_share - share) < 4 * one.zero_standard_error
        error = spread / np.sqrt(count * (1 - share))
        np.testing.assert_allclose(one.standard_error, error, rtol=0.15)
        np.testing.assert_allclose(
            one.zero_standard_error, np.sqrt(share * (1 - share) / count), rtol=0.1
        )
        np.testing.assert_allclose(one, run(probs[i], keys[i]), rtol=1e-5)


def test_a_cosine_by_its_definition(float64):
    """NumPy over the same redraws, the last chunk not full."""
    key, count = jax.random.key(2), 70
    found = jax.jit(moments(count))(PROBS, key)
    one_by_one = jax.jit(
        lambda probs: jax.lax.map(lambda k: estimate(probs, k), jax.random.split(key, count))
    )
    draws = np.asarray(one_by_one(PROBS)["logits"])
    live = draws[np.any(draws != 0, axis=1)]
    cosines = live @ DIRECTION / np.sqrt(np.sum(live**2, axis=1) * (DIRECTION @ DIRECTION))
    share = 1 - len(live) / count
    expected = [
        cosines.mean(),
        cosines.std(ddof=1) / np.sqrt(len(live)),
        share,
        np.sqrt(share * (1 - share) / count),
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cosine({"a": np.ones(2)}, {"b": np.ones(2)}), "same structure and shapes"),
        (lambda: cosine(np.ones(1), np.ones(3)), "same structure and shapes"),
        (lambda: moments(1)(jnp.asarray(PROBS), jax.random.key(0)), "at least 2"),
    ],
)
def test_wrong_calls_say_what_is_allowed(call, says):
    with pytest.raises(ValueError, match=says):
        call()
