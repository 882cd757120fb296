"""What NumPy computes while a program is traced: what XLA would, bit for bit, or nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl import known
from simrl.measures import phases

FLOATS = np.float32([0.1, -3.7, 1e-20, 2.5e7, 0.0, np.inf])
WHOLE = np.array([0, 1, 7, 2**31 - 1, -5, -(2**31)], np.int32)
WORDS = np.array([0, 1, 0x12345678, 2**32 - 1, 2**31, 6], np.uint32)

FUNCTIONS = {
    "arithmetic": lambda: (FLOATS * jnp.float32(1.1) - 0.3) / jnp.arange(1.0, 7.0),
    "whole numbers": lambda: jnp.asarray(WHOLE) * 3 + WHOLE[::-1] - jnp.arange(6),
    "words": lambda: (jnp.asarray(WORDS) * jnp.uint32(2654435761) ^ WORDS) & jnp.uint32(0xFFFF),
    "shifted": lambda: jnp.asarray(WORDS) >> jnp.arange(6, dtype=jnp.uint32) * 8,
    "compared": lambda: jnp.where(jnp.asarray(FLOATS) < 1, jnp.maximum(FLOATS, 0), -FLOATS),
    "logic": lambda: (jnp.asarray(WHOLE) >= 1) & ~(jnp.asarray(FLOATS) == 0),
    "moved": lambda: jnp.concatenate([jnp.eye(3)[1:], jnp.ones((1, 3))])[:, ::2][1:, None],
    "stacked": lambda: jnp.stack([jnp.asarray(WORDS), jnp.tile(jnp.asarray(WORDS[:2]), 3)], -1),
    "summed": lambda: jnp.sum(jnp.asarray(WORDS).reshape(2, 3), axis=1, dtype=jnp.uint32),
    "converted": lambda: jnp.asarray(WHOLE).astype(jnp.float32).astype(jnp.float32),
    "two words": lambda: phases.multiply_words(phases.words_of(6_000_000_007), jnp.uint32(96)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numpy_gives_what_xla_does(name):
    found = known.constant(FUNCTIONS[name])
    expected = np.asarray(jax.jit(FUNCTIONS[name])())
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


LEFT = {  # to the program
    "an exponential": lambda: jnp.exp(jnp.asarray(FLOATS)),
    "a sum of floats": lambda: jnp.sum(jnp.asarray(FLOATS)),
    "whole division": lambda: jax.lax.div(jnp.asarray(WHOLE), jnp.int32(2)),
    "a float as a whole number": lambda: jnp.asarray(FLOATS).astype(jnp.int32),
    "many numbers": lambda: jnp.arange(known.MOST + 1),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_numpy_might_round_otherwise_is_left_to_the_program(name):
    found = known.constant(LEFT[name])
    assert isinstance(found, jax.Array)
    np.testing.assert_array_equal(found, jax.jit(LEFT[name])())


def test_in_a_trace_nothing_is_left_of_what_is_known():
    def traced(x):
        return x * known.constant(lambda: 1.0 / jnp.arange(1.0, 5.0))

    operations = [e.primitive.name for e in jax.make_jaxpr(traced)(jnp.ones(4)).eqns]
    assert operations == ["mul"]
