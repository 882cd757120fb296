"""Exact counters: two 32-bit words that carry across 2^32 and 2^53."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures import phases

EDGES = [0, 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**63 + 5, 2**64 - 1]


def words(*counts):
    return jnp.asarray(np.stack([phases.words_of(count) for count in counts]))


@pytest.mark.parametrize("count", EDGES)
def test_round_trip(count):
    found = phases.count_of(phases.words_of(count))
    assert found.dtype == np.uint64
    assert int(found) == count


@pytest.mark.parametrize("count", [-1, 2**64])
def test_counts_that_do_not_fit_are_refused(count):
    with pytest.raises(ValueError, match="must lie in"):
        phases.words_of(count)


def test_sums_and_differences_are_exact():
    pairs = [(a, b) for a in EDGES for b in EDGES if a + b < 2**64]
    left, right = (words(*side) for side in zip(*pairs, strict=True))
    added = jax.jit(phases.add_words)(left, right)
    assert added.dtype == jnp.uint32
    assert phases.count_of(added).tolist() == [a + b for a, b in pairs]
    np.testing.assert_array_equal(jax.jit(phases.subtract_words)(added, right), left)
    np.testing.assert_array_equal(jax.jit(phases.subtract_words)(added, left), right)
    assert any(a < 2**32 <= b + a for a, b in pairs)


def test_sum_over_the_first_axis_is_exact():
    counts = [2**32 - 1, 1, 2**53, 2**31, 2**31, 7]
    assert int(phases.count_of(phases.sum_words(words(*counts)))) == sum(counts)


def test_scatter_adds_each_row_to_its_phase():
    sums = phases.scatter_words(
        jnp.zeros((3, 1, 2), jnp.uint32),
        jnp.array([2, 0, 2]),
        words(2**32 - 1, 5, 2**52)[:, None],
    )
    assert phases.count_of(sums)[:, 0].tolist() == [5, 0, 2**52 + 2**32 - 1]
    values = jnp.array([[1.0], [jnp.inf], [2.0]])
    totals = phases.scatter_sums(jnp.ones((3, 1)), jnp.array([2, 0, 2]), values)
    assert totals[:, 0].tolist() == [np.inf, 1.0, 4.0]


def test_bins_are_uniform_between_two_that_are_open_ended():
    edges = phases.edges(-2.0, 2.0, 4)
    np.testing.assert_array_equal(edges, [-np.inf, -2, -1, 0, 1, 2, np.inf])
    bins = phases.Bins(jnp.float32(-2.0), jnp.float32(2.0), len(edges) - 1)
    coordinate = np.array([-np.inf, -2.5, -2.0, -1.5, -1.0, 0.0, 1.99, 2.0, 1e30, np.inf])
    index = bins.find(jnp.array(coordinate, jnp.float32))
    assert index.dtype == jnp.int32
    assert index.tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 5, 5]
    assert (edges[index] <= coordinate).all()
    assert (coordinate <= edges[np.array(index) + 1]).all()


def test_what_is_not_a_number_is_in_no_bin():
    index = phases.Bins(jnp.float32(-2.0), jnp.float32(2.0), 4).find(jnp.array([jnp.nan]))
    sums = phases.scatter_sums(jnp.zeros((4, 1)), index, jnp.array([[jnp.nan]]))
    counts = phases.scatter_words(jnp.zeros((4, 1, 2), jnp.uint32), index, words(7)[:, None])
    assert not np.array(sums).any()
    assert not np.array(counts).any()
