"""Named random streams and the words drawn from them.

The stream of seed i is fold_in(base, i), then a named purpose, then the step, so that a seed's
numbers do not depend on its company, on the order of the work or on the number of devices, and
conditions of one sweep that share seeds share their random numbers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


class Streams(NamedTuple):
    """One typed key per purpose."""

    task: Array
    start: Array
    prompt: Array
    sample: Array
    label: Array
    reward: Array
    probe: Array


def streams(base: Array, seed: Array) -> Streams:
    """The streams of one seed: `base` a typed key, `seed` an integer."""
    key = jax.random.fold_in(base, seed)
    return Streams(*(jax.random.fold_in(key, i) for i in range(len(Streams._fields))))


def at_step(seed_streams: Streams, step: Array) -> Streams:
    """The streams of one update; unused ones cost nothing once compiled."""
    return Streams(*(fold_in(key, step) for key in seed_streams))


def fold_in(key: Array, data: Array) -> Array:
    """`jax.random.fold_in` for threefry keys, bit for bit, in a form XLA fuses on CPU."""
    if not _is_threefry(key):
        return jax.random.fold_in(key, data)
    data = jnp.asarray(data).astype(jnp.uint32)
    high, low = _threefry(jax.random.key_data(key), jnp.zeros_like(data), data)
    return jax.random.wrap_key_data(jnp.stack([high, low]), impl="threefry2x32")


def words(key: Array, shape: tuple[int, ...]) -> Array:
    """Uniform 32-bit words, equal bit for bit to `jax.random.bits(key, shape)`.

    jax lowers threefry with rolled loops on CPU, which XLA cannot fuse; unrolled, one core makes
    about 2.7 times as many words a second.
    """
    size = 1
    for length in shape:
        size *= length
    if not _is_threefry(key) or size >= 2**32 or not jax.config.jax_threefry_partitionable:
        return jax.random.bits(key, shape)
    counts = jnp.arange(size, dtype=jnp.uint32)
    high, low = _threefry(jax.random.key_data(key), jnp.zeros_like(counts), counts)
    return (high ^ low).reshape(shape)


def uniform(word: Array) -> Array:
    """Words to floats in [0, 1) with 24 bits."""
    return (word >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def normal(word: Array) -> Array:
    """Words to standard normals by the inverse distribution function (24 bits, |x| < 5.6)."""
    centred = (word >> 8).astype(jnp.float32) * jnp.float32(2.0**-23) - jnp.float32(1 - 2.0**-24)
    return jnp.float32(2.0**0.5) * jax.lax.erf_inv(centred)


def _is_threefry(key: Array) -> bool:
    return str(jax.random.key_impl(key)) == "threefry2x32"


def _threefry(key_data: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011), unrolled."""
    k0, k1 = key_data[..., 0], key_data[..., 1]
    schedule = (k0, k1, k0 ^ k1 ^ jnp.uint32(0x1BD11BDA))
    x0, x1 = x0 + k0, x1 + k1
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x0 = x0 + x1
            x1 = (x1 << jnp.uint32(rotation)) | (x1 >> jnp.uint32(32 - rotation))
            x1 = x0 ^ x1
        x0 = x0 + schedule[(block + 1) % 3]
        x1 = x1 + schedule[(block + 2) % 3] + jnp.uint32(block + 1)
    return x0, x1
