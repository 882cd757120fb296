"""Random streams: bit equality with jax, laws in standard errors, independence of company."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from simrl import keys

NUM_DRAWS = 200_000

table_of, chosen = jax.jit(keys.cumulative), jax.jit(jax.vmap(keys.choose, in_axes=(0, None)))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 0, 4), (64, 129)])
@pytest.mark.parametrize("seed", [0, 2**31 + 5])
def test_words_equal_jax_bits(shape, seed):
    key = jax.random.key(seed)
    expected, traced = jax.jit(lambda k: (jax.random.bits(k, shape), keys.words(k, shape)))(key)
    words = keys.words(key, shape)
    assert words.dtype == expected.dtype
    assert words.shape == expected.shape
    np.testing.assert_array_equal(words, expected)
    np.testing.assert_array_equal(traced, expected)


def test_words_do_not_depend_on_a_setting_of_jax():
    key = jax.random.key(3)
    expected = jax.random.bits(key, (4, 5), jnp.uint32)
    with jax.threefry_partitionable(False):
        assert not np.array_equal(jax.random.bits(key, (4, 5), jnp.uint32), expected)
        np.testing.assert_array_equal(keys.words(key, (4, 5)), expected)


def test_words_equal_jax_bits_under_vmap():
    many = jax.random.split(jax.random.key(3), 5)
    expected = jax.jit(jax.vmap(lambda k: jax.random.bits(k, (2, 3))))(many)
    np.testing.assert_array_equal(jax.vmap(lambda k: keys.words(k, (2, 3)))(many), expected)


@pytest.mark.parametrize("data", [0, 1, 2**32 - 1])
def test_fold_in_equals_jax(data):
    key, data = jax.random.key(11), np.uint32(data)
    expected = jax.random.key_data(jax.random.fold_in(key, data))
    np.testing.assert_array_equal(jax.random.key_data(keys.fold_in(key, data)), expected)
    traced = jax.jit(keys.fold_in)(key, data)
    np.testing.assert_array_equal(jax.random.key_data(traced), expected)


def test_other_generators_keep_their_own_words():
    key = jax.random.key(0, impl="rbg")
    np.testing.assert_array_equal(keys.words(key, (5,)), jax.random.bits(key, (5,)))
    folded = keys.fold_in(key, 2)
    np.testing.assert_array_equal(
        jax.random.key_data(folded), jax.random.key_data(jax.random.fold_in(key, 2))
    )


def test_words_leave_no_call_in_the_compiled_program():
    def fn(key):
        return keys.normal(keys.words(keys.fold_in(key, 3), (64,)))

    text = jax.jit(fn).lower(jax.random.key(0)).compile().as_text()
    assert "threefry_words" in text  # as the name of where an instruction comes from
    assert " call(" not in text


def test_uniform_is_in_the_unit_interval_at_its_ends():
    ends = keys.uniform(jnp.array([0, 255, 256, 2**32 - 1], jnp.uint32))
    np.testing.assert_array_equal(ends, np.float32([0.0, 0.0, 2.0**-24, 1.0 - 2.0**-24]))


def test_uniform_moments_within_four_standard_errors():
    draws = np.asarray(keys.uniform(keys.words(jax.random.key(1), (NUM_DRAWS,))), np.float64)
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    for power in (1, 2, 3, 4):
        mean = 1 / (power + 1)
        variance = 1 / (2 * power + 1) - mean**2
        error = np.sqrt(variance / NUM_DRAWS)
        assert abs(np.mean(draws**power) - mean) < 4 * error


def test_normal_moments_within_four_standard_errors():
    normals = jax.jit(lambda key: keys.normal(keys.words(key, (NUM_DRAWS,))))
    draws = np.asarray(normals(jax.random.key(2)), np.float64)
    even = {0: 1, 2: 1, 4: 3, 6: 15, 8: 105}  # E x^k of a standard normal; odd ones are 0
    for power in (1, 2, 3, 4):
        mean = even.get(power, 0)
        error = np.sqrt((even[2 * power] - mean**2) / NUM_DRAWS)
        assert abs(np.mean(draws**power) - mean) < 4 * error


def test_normal_is_odd_and_finite_at_its_ends():
    low, high = np.asarray(jax.jit(keys.normal)(np.array([0, 2**32 - 1], np.uint32)))
    assert low == -high
    assert 5.0 < high < 5.6


def test_normals_are_the_inverse_distribution_function():
    """All the way into both tails, where the polynomial is another."""
    near = np.arange(2**16, dtype=np.uint32) << 8
    words = np.concatenate([near, ~near, np.arange(0, 2**32, 2**16 + 1).astype(np.uint32)])
    exact = scipy.special.ndtri(((words >> 8).astype(np.float64) + 0.5) * 2.0**-24)
    np.testing.assert_allclose(jax.jit(keys.normal)(words), exact, rtol=4e-7)


def _all_words(streams):
    return np.stack([keys.words(key, (4,)) for key in streams])


def test_purposes_steps_and_seeds_have_streams_of_their_own():
    base = jax.random.key(0)
    seen = [
        _all_words(keys.at_step(keys.streams(base, seed), step))
        for seed in range(3)
        for step in range(3)
    ]
    seen += [_all_words(keys.streams(base, seed)) for seed in range(3)]
    rows = np.concatenate(seen)
    assert len(rows) == 12 * len(keys.Streams._fields)
    assert len(np.unique(rows.reshape(-1))) == rows.size  # no word twice: a chance of 1e-5


def test_counts_of_two_words_have_streams_of_their_own():
    """Below 2^32 those of `fold_in`; beyond, no two alike, nor like a step's own purposes."""
    key = jax.random.key(3)
    fold = jax.jit(keys.fold_in_words)

    def data(one):
        return np.asarray(jax.random.key_data(one)).tolist()

    for low in (0, 5, 2**31, 2**32 - 1):
        near = keys.fold_in(key, np.uint32(low))
        assert data(fold(key, np.array([0, low], np.uint32))) == data(near)
    near = keys.fold_in(key, np.uint32(5))
    found = [data(keys.fold_in(near, np.uint32(purpose))) for purpose in range(8)]
    counts = [(high, low) for high in (0, 1, 2, 2**21) for low in (0, 1, 5, 2**32 - 1)]
    found += [data(fold(key, np.array(count, np.uint32))) for count in counts]
    assert len({tuple(halves) for halves in found}) == 8 + len(counts)


def test_a_seed_alone_equals_the_seed_in_company():
    base = jax.random.key(7)

    def draw(seed):
        at_step = keys.at_step(keys.streams(base, seed), 5)
        words = jnp.stack([keys.words(key, (3,)) for key in at_step])
        return words, keys.normal(words)

    one, many = jax.jit(draw), jax.jit(jax.vmap(draw))
    alone = [one(seed) for seed in range(4)]
    together = jax.tree.map(np.asarray, many(np.arange(4)))
    for seed, (words, normals) in enumerate(alone):
        np.testing.assert_array_equal(together[0][seed], words)
        np.testing.assert_allclose(together[1][seed], normals, rtol=1e-5, atol=1e-6)
    shuffled = many(np.array([2, 0]))
    np.testing.assert_array_equal(shuffled[0], together[0][np.array([2, 0])])


@pytest.mark.parametrize("bound", [1, 2, 10, 1000])
def test_below_is_in_range_and_fair(bound):
    draws = np.asarray(keys.below(keys.words(jax.random.key(4), (NUM_DRAWS,)), bound))
    assert draws.dtype == np.int32
    assert draws.min() == 0
    assert draws.max() == bound - 1
    mean, variance = (bound - 1) / 2, (bound**2 - 1) / 12
    assert abs(draws.mean() - mean) <= 4 * np.sqrt(variance / NUM_DRAWS)
    ends = keys.below(jnp.array([0, 2**32 - 1], jnp.uint32), bound)
    np.testing.assert_array_equal(ends, [0, bound - 1])


def test_choose_follows_its_probabilities():
    probs = np.array([0.5, 0.0, 0.3, 0.2 - 1e-3, 1e-3])
    words = keys.words(jax.random.key(5), (NUM_DRAWS,))
    arms = np.asarray(chosen(words, table_of(probs)))
    counts = np.bincount(arms, minlength=5)
    assert counts[1] == 0
    error = np.sqrt(probs * (1 - probs) / NUM_DRAWS)
    np.testing.assert_array_less(np.abs(counts / NUM_DRAWS - probs), 4 * error + 1e-12)
    # An arm that is never chosen, at the end where the least word is.
    np.testing.assert_array_equal(chosen(np.uint32([0]), table_of(probs[[1, 0, 2]])), [1])


@pytest.mark.parametrize("rare_at", [0, 5, 9])
def test_a_rare_arm_keeps_its_probability_wherever_it_stands(rare_at):
    probs = np.full(10, (1 - 1e-6) / 9)
    probs[rare_at] = 1e-6
    table = table_of(probs)
    arms = chosen(np.array([0, 2**32 - 1], np.uint32), table)
    table = np.asarray(table, np.float64)
    shares = np.diff(table, prepend=0.0) / table[-1]
    np.testing.assert_allclose(shares, probs, rtol=5e-4)
    np.testing.assert_array_equal(arms, [0, 9])
