"""The sampler: how many of the 2^32 words pick each arm, counted exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl import keys
from simrl.policies.tabular import Tabular
from simrl.types import Shape

RARE = 1e-6
WORDS = 2**32


@jax.jit
def arms(words, table):
    return jax.vmap(keys.choose, (0, None))(words, table)


def pick(words, table):
    """The arms of words that are Python-sized integers."""
    return np.asarray(arms(jnp.asarray(words.astype(np.uint32)), table))


def first_words(table):
    """For each arm 0 ... V, the least word that picks it or a later one: by bisection."""
    size = len(table)
    arm = np.arange(size + 1)
    low, high = np.zeros(size + 1, np.int64), np.full(size + 1, WORDS, np.int64)
    while np.any(low < high):
        middle = (low + high) // 2
        reached = (pick(np.minimum(middle, WORDS - 1), table) >= arm) | (middle == WORDS)
        high = np.where(reached, middle, high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    return low


def shares(probs):
    """Probability of each arm under `choose`, exactly, and the table."""
    table = keys.cumulative(jnp.asarray(probs, jnp.float32))
    return np.diff(first_words(table)) / WORDS, table


def with_rare_arms(size, places):
    probs = np.full(size, (1 - RARE * len(places)) / (size - len(places)))
    probs[places] = RARE
    return probs


@pytest.mark.parametrize("size", [10, 1000])
def test_rare_arms_keep_their_probability(size):
    for places in ([0], [size // 2], [size - 1], [0, size // 2, size - 1]):
        probs = with_rare_arms(size, places)
        found, _ = shares(probs)
        assert found.sum() == 1.0
        np.testing.assert_allclose(found, probs, rtol=1e-3)


@pytest.mark.parametrize("size", [10, 1000])
def test_steep_laws_keep_every_arm_above_one_in_a_million(size):
    steep = np.geomspace(1, 1e-5, size)
    for probs in (steep / steep.sum(), steep[::-1] / steep.sum()):
        found, _ = shares(probs)
        kept = probs >= RARE
        assert kept.sum() >= 10
        np.testing.assert_allclose(found[kept], probs[kept], rtol=1e-3)


def test_one_arm_takes_all_but_what_the_others_have():
    for place in (0, 4, 9):
        probs = np.full(10, RARE)
        probs[place] = 1 - 9 * RARE
        found, _ = shares(probs)
        np.testing.assert_allclose(found, probs, rtol=1e-3)
        np.testing.assert_allclose(1 - found[place], 9 * RARE, rtol=1e-3)


def test_certain_and_impossible_arms():
    for place in (0, 1, 2):
        found, _ = shares(np.eye(3)[place])
        np.testing.assert_array_equal(found, np.eye(3)[place])


def test_arms_rise_with_the_word():
    """What the bisection rests on."""
    _, table = shares(with_rare_arms(1000, [500]))
    words = np.sort(np.random.default_rng(0).integers(0, WORDS, 20_000))
    picked = pick(words, table)
    assert np.all(np.diff(picked) >= 0)
    assert len(np.unique(picked)) > 900


def test_the_policy_draws_by_this_sampler():
    policy = Tabular().build(Shape(2, 2, 4))
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2, 4)), jnp.float32)
    words = keys.words(jax.random.key(0), (500, 2))
    sampled = jax.vmap(policy.sample, (0, None, None))(words, logits, jnp.int32(1))
    probs = jnp.exp(policy.log_probs(logits, jnp.int32(1), jnp.zeros(2, jnp.int32)))
    for position in range(2):
        table = keys.cumulative(probs[position])
        np.testing.assert_array_equal(sampled[:, position], arms(words[:, position], table))
