"""Code of one seed with the lanes behind: that of `jax.vmap`, primitive by primitive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from simrl import columnwise, keys

LANES, LENGTH, SIZE = 32, 3, 5


def looped(x):
    return lax.fori_loop(0, 3, lambda i, total: total + x * i, jnp.zeros_like(x))


def many(x):
    """[3, 95], more than are gone through one by one."""
    return jnp.tile(x, 19) * jnp.linspace(-0.1, 0.1, 95)


FUNCTIONS = {  # of x [3, 5] float, index [3] int and a scalar
    "elementwise": lambda x, i, s: jnp.exp(x) * s + jnp.where(x > s, x, -1.0) / (2.0 + i[:, None]),
    "one condition for all": lambda x, i, s: jnp.where(s > 0, x, x.T.reshape(x.shape)),
    "reductions": lambda x, i, s: (jnp.sum(x, axis=0), jnp.max(x), jnp.argmin(x, axis=1), x.any()),
    "many rows": lambda x, i, s: (many(x).sum(axis=1), many(x).max(), jnp.sum(many(x).T, (0, 1))),
    "many rows, some endless": lambda x, i, s: (
        jnp.max(jnp.log(jnp.maximum(many(x), 0)), axis=1),
        jnp.sum(many(x).at[1, 90].set(jnp.nan), axis=1),
        jnp.sum((50 * many(x)).astype(jnp.int32), axis=1),
    ),
    "softmax": lambda x, i, s: (jax.nn.softmax(x, axis=-1), jax.nn.logsumexp(x - s)),
    "log1p": lambda x, i, s: (jax.nn.softplus(x), jnp.log1p(x**2)),
    "prefix sums": lambda x, i, s: (jnp.cumsum(x, axis=1), jnp.cumsum(x[::-1], axis=0)[::-1]),
    "from the end": lambda x, i, s: lax.cumsum(x, 1, reverse=True),
    "a long prefix sum": lambda x, i, s: jnp.cumsum(jnp.tile(x[0], 9)),
    "products so far": lambda x, i, s: jnp.cumprod(x, axis=0),
    "shapes": lambda x, i, s: (x.T, x[None, :, ::2], jnp.pad(x, 1), x.reshape(5, 3), x[1:, :2]),
    "joined": lambda x, i, s: (jnp.concatenate([x, jnp.ones((1, SIZE))]), jnp.stack([s, 1.0])),
    "spread": lambda x, i, s: (jnp.broadcast_to(x[0][:, None], (SIZE, 4)), jnp.tile(s, 3)),
    "picked": lambda x, i, s: (x[jnp.arange(LENGTH), i], jnp.take_along_axis(x, i[:, None], 1)),
    "one hot": lambda x, i, s: jax.nn.one_hot(i, SIZE) @ x.T,
    "products": lambda x, i, s: (x @ x.T, jnp.vdot(x, x)),
    "a loop": lambda x, i, s: looped(x),
    "a branch": lambda x, i, s: lax.cond(s > 0, jnp.sin, jnp.cos, x),
    "sorted": lambda x, i, s: jnp.sort(x, axis=1),
    "inner vmap": lambda x, i, s: jax.vmap(lambda row, k: row[k] * s)(x, i),
    "a gradient": lambda x, i, s: jax.grad(lambda x: jnp.sum(jnp.tanh(x) * s))(x),
    "nothing of a lane": lambda x, i, s: (jnp.arange(4.0), 2.0),
}


def some_lanes():
    draw = np.random.default_rng(0)
    x = np.float32(draw.normal(size=(LENGTH, SIZE, LANES)))
    index = draw.integers(SIZE, size=(LENGTH, LANES)).astype(np.int32)
    return x, index, np.float32(draw.normal(size=LANES))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_a_map_over_the_last_axis(name):
    lanes, function = some_lanes(), FUNCTIONS[name]
    mapped = columnwise.over_lanes(function), jax.vmap(function, -1, -1)
    found, wanted = jax.jit(lambda *lanes: [one(*lanes) for one in mapped])(*lanes)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for mine, theirs in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=2e-6)


def test_random_keys_and_what_is_closed_over():
    outside = jnp.float32(3)

    def draw(key, step):
        return keys.normal(keys.words(keys.fold_in(key, step), (2,))) * outside

    lanes = jax.random.split(jax.random.key(1), LANES), jnp.arange(LANES)
    found = jax.jit(columnwise.over_lanes(draw))(*lanes)
    np.testing.assert_allclose(found, jax.jit(jax.vmap(draw, -1, -1))(*lanes), rtol=1e-6)


def test_sums_do_not_depend_on_the_place_among_the_lanes():
    x, index, scalar = some_lanes()
    function = jax.jit(columnwise.over_lanes(lambda x, i, s: jax.nn.logsumexp(x * s)))
    turned = function(*(np.roll(leaf, 7, axis=-1) for leaf in (x, index, scalar)))
    np.testing.assert_array_equal(np.roll(function(x, index, scalar), 7), turned)


def operations(function, *arguments):
    return [
        e.primitive.name for e in jax.make_jaxpr(columnwise.over_lanes(function))(*arguments).eqns
    ]


def test_what_is_asked_for_twice_is_done_once():
    """Also where the two differ in axes of length 1, and across calls."""
    x = jnp.ones((SIZE, LANES))

    def thrice(x):
        again = jax.jit(lambda x: jnp.exp(x)[:, None])
        return jnp.exp(x) + jnp.exp(x[None])[0] + again(x)[:, 0]

    assert operations(thrice, x).count("exp") == 1


def test_what_is_only_alike_is_done_apart():
    x = jnp.ones((SIZE, LANES))

    def apart(x):
        return jnp.exp(x), jnp.exp(x + 1.0), x * 0.0, x * -0.0

    assert operations(apart, x).count("exp") == 2
    assert operations(apart, x).count("mul") == 2


def test_the_same_array_in_another_shape_is_another():
    x = np.arange(1.0, 1 + SIZE * LANES, dtype=np.float32).reshape(SIZE, LANES)
    both = columnwise.over_lanes(lambda x: (lax.cumsum(x, 0), lax.cumsum(x[None], 0)[0]))
    along, alone = jax.jit(both)(x)
    np.testing.assert_array_equal(along, np.cumsum(x, axis=0))
    np.testing.assert_array_equal(alone, x)


def test_what_has_an_effect_is_done_each_time():
    def says(x):
        for _ in range(2):
            jax.debug.print("once")
            jax.debug.print("{}", x)
        return x

    found = operations(says, jnp.ones((SIZE, LANES)))
    assert found.count("debug_print") == 2 + 2 * LANES


def test_numbers_without_lanes_are_computed_while_tracing():
    x = jnp.ones((SIZE, LANES))
    found = operations(lambda x: x * (1.0 / jnp.arange(1.0, SIZE + 1)), x)
    assert "iota" not in found
    assert "div" not in found


def test_an_array_of_one_number_is_none_of_the_program():
    closed = jax.make_jaxpr(columnwise.over_lanes(lambda x: x + jnp.ones(SIZE)))(
        jnp.ones((SIZE, LANES))
    )
    assert closed.consts == []
