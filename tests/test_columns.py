"""Columns, lanes last: the same as plain NumPy in float64, and as `simrl.keys` lane by lane."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from simrl import choices, columns, keys

LENGTH, LANES = 2, 12
SIZES = (1, 2, 10, 32, 33, 100, 1000)  # on both sides of `columns.FEW`
NUMBERS = (1, 5, 40, 130)
PAIRS = [(size, num) for size in SIZES for num in NUMBERS]
TINY = 1e-12
AGREES = 4e-6  # of a sum of absolute values: 64 additions in float32
MOST = -np.log(float(np.finfo(np.float32).tiny))  # log-odds of an answer that is sure


probs_of = jax.jit(lambda logits: jax.nn.softmax(logits, axis=1))
integer_weights = jax.jit(lambda logits: keys.integer_weights(jax.nn.softmax(logits, axis=1)))


def fence():
    return columns.Fence(jnp.ones(()))


def some_logits(size):
    """[L, V, N]: random at three scales, flat, one symbol of 1e-12, one of 1 - 1e-12, two tied."""
    draw = np.random.default_rng(size)
    logits = draw.normal(size=(LENGTH, size, LANES)) * np.resize([0.1, 2.0, 10.0], LANES)
    logits[..., 3] = 0.7
    logits[..., 4:7] = 0
    logits[:, 0, 4] = np.log(TINY * max(size - 1, 1))
    logits[:, -1, 5] = -np.log(TINY / max(size - 1, 1))
    logits[:, [0, -1], 6] = 20.0
    return np.float32(logits)


def some_symbols(size, num, seed=0):
    """[L, B, N] int32, with repeats; in lane 0 all are the last symbol."""
    draw = np.random.default_rng([size, num, seed])
    symbols = draw.integers(size, size=(LENGTH, num, LANES)).astype(np.int32)
    symbols[..., 0] = size - 1
    return symbols


def taken(table, index):
    return np.take_along_axis(table, index, axis=1)


@pytest.mark.parametrize("size", SIZES)
def test_law(size):
    logits = some_logits(size)

    @jax.jit
    def measure(x):
        law = columns.law(x, fence())
        names = ("largest", "probs", "log_probs", "total", "inverse", "rest")
        return {name: getattr(law, name) for name in names}

    law = types.SimpleNamespace(**measure(logits))
    exact = special.softmax(np.float64(logits), axis=1)
    np.testing.assert_array_equal(law.largest, logits.max(axis=1))
    np.testing.assert_allclose(law.probs, exact, rtol=1e-5, atol=1e-37)
    log_exact = special.log_softmax(np.float64(logits), axis=1)
    np.testing.assert_allclose(law.log_probs, log_exact, rtol=1e-6, atol=4e-6)
    powers = np.exp(np.float64(logits) - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(law.total, powers.sum(axis=1), rtol=AGREES)
    np.testing.assert_allclose(law.inverse, 1 / powers.sum(axis=1), rtol=AGREES)
    # What is left of a dominant symbol keeps its digits, and a tie leaves all of its second.
    rest = np.sort(powers, axis=1)[:, :-1].sum(axis=1)
    np.testing.assert_allclose(law.rest, rest, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_log_odds(size):
    logits = some_logits(size)
    wide = np.float64(logits)
    measure = jax.jit(lambda x, answer: columns.log_odds(columns.law(x, fence()), answer))
    for answer in (0, size // 2, size - 1):
        found = np.asarray(measure(logits, np.full((LENGTH, LANES), answer, np.int32)))
        others = np.delete(wide, answer, axis=1)
        rest = special.logsumexp(others, axis=1) if size > 1 else np.full(found.shape, -np.inf)
        exact = np.minimum(wide[:, answer] - rest, MOST)
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)
    if size > 1:
        assert found[:, 5].min() > 27  # 1 - p of 1e-12 is still there


@pytest.mark.parametrize("size", [*SIZES, 1100])
def test_total_and_largest(size):
    x = some_logits(size) - 1.0

    @jax.jit
    def measure(x):
        return columns.total(x), columns.largest(x), columns.total(jnp.float32(x != 0))

    total, largest, first = measure(x)
    whole = np.abs(np.float64(x)).sum(axis=1)
    assert np.all(np.abs(total - np.float64(x).sum(axis=1)) <= AGREES * whole)
    np.testing.assert_array_equal(largest, x.max(axis=1))
    np.testing.assert_array_equal(first, (x != 0).sum(axis=1))  # counts are exact


@pytest.mark.parametrize(("size", "num"), [*PAIRS, (3, 64), (3, 128), (3, 129), (40, 128)])
def test_pick_and_sums_and_sets(size, num):
    table, index = some_logits(size), some_symbols(size, num)
    values = np.float32(np.random.default_rng(num).normal(size=index.shape))

    @jax.jit
    def found(table, values, index):
        sums = columns.gather_sums(values, index, size)
        return columns.pick(table, index), sums, columns.occurring(index, size)

    picked, sums, tried = map(np.asarray, found(table, values, index))
    np.testing.assert_array_equal(picked, taken(table, index))
    mine = index[:, :, None] == np.arange(size)[:, None]
    exact = np.where(mine, np.float64(values)[:, :, None], 0)
    np.testing.assert_allclose(sums, exact.sum(axis=1), rtol=0, atol=1e-7 * num)
    np.testing.assert_array_equal(sums == 0, np.all(exact == 0, axis=1))
    np.testing.assert_array_equal(tried, mine.any(axis=1))


@pytest.mark.parametrize("num", NUMBERS)
@pytest.mark.parametrize("size", [1, 2, 10, 100])
def test_first_occurrences(size, num):
    answers = some_symbols(size, num)
    found = np.asarray(jax.jit(columns.first_occurrences)(answers))
    for lane in range(LANES):
        rows = answers[..., lane].T.tolist()
        np.testing.assert_array_equal(
            found[:, lane], [rows.index(r) == b for b, r in enumerate(rows)]
        )


def some_words(num):
    """[L, B, N] uint32, the ends among them."""
    draw = np.random.default_rng(num).integers(2**32, size=(LENGTH, num, LANES), dtype=np.uint32)
    draw[:, 0, :2] = [0, 2**32 - 1]
    draw[:, 0, -1] = 0  # on the edge of every symbol of weight 0
    return draw


def weights_of(logits, short=0):
    """Integer weights of the laws; those of the last `short` symbols are 0 in half of the lanes."""
    weights = np.array(integer_weights(logits))
    weights[:, weights.shape[1] - short :, LANES // 2 :] = 0
    return weights


@pytest.mark.parametrize(("size", "num"), PAIRS)
def test_search_is_the_inverse_of_the_cumulative_weights(size, num):
    words, search = some_words(num), jax.jit(lambda *given: choices.search(*given, fence()))
    for short in {0, size // 3}:
        weights = weights_of(some_logits(size), short)
        weights[:, :, -1] = np.eye(1, size, size // 2, dtype=np.int32)[0] << 30  # one is sure
        edges = np.cumsum(np.uint64(weights), axis=1)
        place = (np.uint64(words) * edges[:, -1:]) >> np.uint64(32)
        exact = (place[:, :, None] >= edges[:, None, :]).sum(axis=2)
        found = search(words, weights)
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, exact)
        assert np.all(taken(weights, np.asarray(found)) > 0)


@pytest.mark.parametrize(("size", "num"), [(2, 5), (32, 1), (32, 40), (33, 5), (1000, 40)])
def test_choices_are_those_of_one_lane(size, num):
    words, logits = some_words(num), some_logits(size)
    probs = probs_of(logits)
    found = jax.jit(lambda *given: choices.choose(*given, fence()))(words, probs)

    def of_lane(words, probs):
        tables = jax.vmap(keys.cumulative, 1, 1)(probs.T).T
        return jax.vmap(jax.vmap(keys.choose, (0, None)))(words, tables)

    one = jax.jit(jax.vmap(of_lane, -1, -1))(words, probs)
    np.testing.assert_array_equal(found, one)
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize(("size", "num"), [(2, 5), (16, 8), (32, 3), (32, 40), (5, 41)])
def test_a_tally_counts_the_choices(size, num):
    words, probs = some_words(num), np.asarray(probs_of(some_logits(size)))
    answer = np.random.default_rng(size).integers(size, size=(LENGTH, LANES)).astype(np.int32)
    answer[:, : LANES // 2] = np.argmax(probs, axis=1)[:, : LANES // 2]  # some are often right

    @jax.jit
    def both(words, probs, answer):
        chosen = choices.choose(words, probs, fence())
        return chosen, choices.tally(words, probs, answer, 1, fence())

    chosen, (counts, right) = (
        np.asarray(x) if i == 0 else x for i, x in enumerate(both(words, probs, answer))
    )
    symbols = np.arange(size)[:, None]
    np.testing.assert_array_equal(counts, (chosen[:, :, None] == symbols).sum(axis=1))
    wanted = np.all(chosen == answer[:, None], axis=0).sum(axis=0)
    np.testing.assert_array_equal(right[0], wanted)
    assert 0 < wanted.sum() < num * LANES


@pytest.mark.parametrize("size", [3, 16])
def test_a_tally_counts_words_at_the_very_edges(size):
    """Integers near 2^30 that float32 would round, by NumPy's in 64 bits."""
    probs = np.asarray(probs_of(np.float32(np.random.default_rng(size).normal(size=(1, size, 1)))))
    edges = np.cumsum(np.int64(np.round(np.float64(probs[0, :, 0]) * 2.0**30)))
    assert (np.float32(edges[:-1]) != edges[:-1]).any()
    at = -(-(edges[:-1] << 32) // edges[-1])  # the first word that falls beyond an edge
    words = np.uint32(np.stack([at - 1, at]).ravel())
    wanted = np.searchsorted(edges, (np.int64(words) * edges[-1]) >> 32, side="right")
    lanes = np.broadcast_to(words[None, :, None], (1, len(words), size))
    given = lanes, np.broadcast_to(probs, (1, size, size)), np.arange(size, dtype=np.int32)[None]

    @jax.jit
    def count(words, probs, answer):
        right = choices.hits(words, probs, answer, 1, fence())
        return choices.tally(words, probs, answer, 1, fence()), right

    (counts, right), hits = jax.device_get(count(*given))
    times = np.bincount(wanted, minlength=size)
    np.testing.assert_array_equal(counts[0], np.broadcast_to(times[:, None], (size, size)))
    np.testing.assert_array_equal(right[0], times)
    np.testing.assert_array_equal(hits[0], times)


def test_log1p_and_softplus_keep_their_digits():
    near = 10.0 ** np.linspace(-30, 10, 2000)
    values = np.float32([*near, *-near[near < 1], *np.linspace(-0.999999, 3, 20_001), 0, -0.0])
    found = np.float64(jax.jit(columns.log1p)(values))
    exact = np.log1p(np.float64(values))
    assert np.max(np.abs(found - exact) / np.spacing(np.abs(np.float32(exact)))) <= 3
    ends = jax.jit(columns.log1p)(np.float32([-1, np.inf]))
    np.testing.assert_array_equal(ends, [-np.inf, np.inf])
    odds = np.float32(np.linspace(-80, 80, 10_001))
    exact = np.logaddexp(0, np.float64(odds))
    np.testing.assert_allclose(jax.jit(columns.softplus)(odds), exact, rtol=4e-7)


@pytest.mark.parametrize(("num", "length"), [(1, 1), (5, 1), (1, 3), (40, 3)])
def test_words_are_those_of_one_lane(num, length):
    lanes = jax.random.split(jax.random.key(num), LANES)
    found = jax.jit(lambda lanes: choices.words(keys.halves(lanes), num, length, fence()))(lanes)
    one = np.asarray(jax.jit(jax.vmap(lambda key: keys.words(key, (num, length))))(lanes))
    np.testing.assert_array_equal(found, np.moveaxis(one, 0, -1).swapaxes(0, 1))


def test_fence_keeps_what_it_is_given():
    draw = np.random.default_rng(0)
    floats = np.float32([0, -0.0, 2e-38, -1 / 3, 3e38, np.inf, *draw.normal(size=100)])
    words = draw.integers(2**32, size=100, dtype=np.uint32)
    whole = np.int32([-(2**24), -1, 0, 1, 2**24, 2**24 + 1, 2**30 - 1, 2**30 + 1, 2**31 - 2**26])
    for values in (floats, words, whole):
        kept = np.asarray(jax.jit(lambda x, one: columns.Fence(one)(x))(values, np.float32(1)))
        assert kept.dtype == values.dtype
        assert kept.tobytes() == values.tobytes()
