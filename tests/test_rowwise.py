"""Code on columns taken apart into rows: the same numbers, operation by operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from simrl import keys, rowrules, rowwise
from simrl.columns import Fence

LANES, LENGTH, SIZE = 8, 3, 5


def until_all_are_large(x, s):
    """Each lane doubles until every lane is done; a count of turns is the same for all."""

    def turn(carry):
        x, _, turns = carry
        x = jnp.where(jnp.abs(x) < 9, 2 * x, x)
        return x, jnp.sum(jnp.abs(x) < 9, dtype=jnp.float32), turns + 1

    x, left, turns = lax.while_loop(lambda c: c[1] > 0, turn, (x + s * 0, 1.0 + s.sum() * 0, 0))
    return x, jnp.broadcast_to(left, s.shape), jnp.broadcast_to(turns, s.shape)


def through_rows(x, s):
    """A scan over rows, forwards and backwards, that keeps something of each."""

    def turn(total, row):
        return total + row * s, total * 2

    forwards = lax.scan(turn, jnp.zeros_like(s), x[:, 0])
    return *forwards, *lax.scan(turn, s, x[:, 1], reverse=True)


FUNCTIONS = {  # of x [3, 5, N] float, index [3, 1, N] int and s [N]
    "elementwise": lambda x, i, s: jnp.exp(x) * s + jnp.where(x > s, x, -1.0) / (2.0 + i),
    "numbers alone": lambda x, i, s: x + jnp.sqrt(jnp.arange(5.0))[:, None],
    "one of two numbers": lambda x, i, s: jnp.where(x > 0, 2.0, 2.0) + jnp.where(s > 0, 1.0, 3.0),
    "rounded": lambda x, i, s: jnp.round(jnp.concatenate([x, x * 1e6, jnp.floor(x) + 0.5])),
    "sums": lambda x, i, s: (jnp.sum(x, axis=0), jnp.max(x, axis=(0, 1)), jnp.prod(x, axis=1)),
    "bits together": lambda x, i, s: lax.reduce(
        (x * 1e6).astype(jnp.int32), jnp.int32(5), lax.bitwise_or, (1,)
    ),
    "all and any": lambda x, i, s: (jnp.all(x > s, axis=0), jnp.any(x > s, axis=1)),
    "first of the largest": lambda x, i, s: jnp.argmax(jnp.round(x), axis=1),
    "shapes": lambda x, i, s: (
        jnp.swapaxes(x, 0, 1),
        x[None, :, ::2],
        x.reshape(15, -1),
        x[1:, :2],
    ),
    "around": lambda x, i, s: jnp.pad(x, ((1, 0), (0, 2), (0, 0)), constant_values=7),
    "joined": lambda x, i, s: jnp.concatenate([x, jnp.ones((1, SIZE, x.shape[-1]))]),
    "on a new axis": lambda x, i, s: (jnp.stack([s, s * 2]), jnp.stack([x, -x], axis=1)),
    "apart": lambda x, i, s: (*lax.split(x, (2, 3), 1), *x, *jnp.unstack(x, axis=1)),
    "at a known place": lambda x, i, s: lax.dynamic_index_in_dim(x, jnp.int32(2), 0),
    "picked": lambda x, i, s: jnp.sum(jnp.where(i == jnp.arange(SIZE)[:, None], x, 0), axis=1),
    "bits": lambda x, i, s: keys.lane_words(
        (i[0, 0].astype(jnp.uint32), jnp.uint32(3) + 0 * i[1, 0].astype(jnp.uint32)), 7
    ),
    "normals": lambda x, i, s: keys.normal((x * 1e8).astype(jnp.int32).astype(jnp.uint32)),
    "a call": lambda x, i, s: jax.jit(lambda y: jax.nn.softplus(y) * s)(x),
    "through rows": lambda x, i, s: through_rows(x, s),
    "a loop": lambda x, i, s: until_all_are_large(x[0, 0], s),
    "no fence": lambda x, i, s: Fence(None)(x),
    "nothing changed": lambda x, i, s: (x, s),
}


@pytest.fixture(scope="module")
def arguments():
    draw = np.random.default_rng(0)
    x = np.float32(draw.normal(size=(LENGTH, SIZE, LANES)))
    index = draw.integers(SIZE, size=(LENGTH, 1, LANES)).astype(np.int32)
    return x, index, np.float32(draw.normal(size=LANES))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_are_those_of_the_columns(name, arguments):
    function = FUNCTIONS[name]
    program = rowwise.Program(function, *arguments)
    rows = [row for leaf in arguments for row in leaf.reshape(-1, LANES)]
    found = jax.jit(program.on_rows)(rows)
    wanted, structure = jax.tree.flatten(jax.jit(function)(*arguments))
    assert [(leaf.shape[:-1], leaf.dtype) for leaf in wanted] == program.outputs
    stacked = [row for leaf in wanted for row in np.asarray(leaf).reshape(-1, LANES)]
    for mine, theirs in zip(found, stacked, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=3e-7, atol=5e-7)
    assert jax.tree.structure(program.result(wanted)) == structure


def test_halves_are_rounded_to_even():
    halves = np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2**22 + 0.5, 2**23 + 1, -3e9, 1e-9])
    program = rowwise.Program(jnp.round, halves)
    np.testing.assert_array_equal(jax.jit(program.on_rows)([halves])[0], np.round(halves))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: jnp.sort(x, axis=0), "sort"),
        (lambda x: x[x[0].astype(jnp.int32) % 2], "gather"),
        (lambda x: x + jnp.cumsum(jnp.ones(x.shape[-1])), "cumsum"),
        (lambda x: x + jnp.arange(x.shape[-1]), "iota"),
        (lambda x: x.T, "transpose"),
        (lambda x: x.reshape(-1), "reshape"),
        (lambda x: x[..., 0], "slice|squeeze|lanes"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(function, why):
    x = np.ones((2, LANES), np.float32)
    with pytest.raises(rowrules.Unsupported, match=why):
        rowwise.Program(function, x).on_rows(list(map(jnp.asarray, x)))


def test_cost_counts_operations_on_vectors():
    def function(x, bits):
        total = lax.scan(lambda t, row: (t + jnp.sin(row), None), x[0], x)[0]
        return total * 2 + jnp.sum(x, axis=0), lax.reduce(bits, jnp.int32(0), lax.bitwise_or, (0,))

    x, bits = np.ones((4, LANES), np.float32), np.ones((6, LANES), np.int32)
    # Four turns of two, a product, a sum, and reductions that read four and six.
    program = rowwise.Program(function, x, bits)
    assert program.operations == {"sin": 4, "add": 4 + 1, "mul": 1, "reduce_sum": 4, "or": 6}
    assert program.cost == 4 * 2 + 1 + 1 + 4 + 6
