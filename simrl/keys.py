"""Named random streams and the words drawn from them.

The stream of seed i is fold_in(base, i), then a named purpose, then the step, so that a seed's
numbers do not depend on its company, on the order of the work or on the number of devices, and
conditions of one sweep that share seeds share their random numbers.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array

WORDS_MARK = "threefry_words"  # the call in a jaxpr whose output is random words

_NORMAL = (  # coefficients for w < 5 and for w >= 5, the highest power first
    (2.81022636e-08, -0.000200214257),
    (3.43273939e-07, 0.000100950558),
    (-3.5233877e-06, 0.00134934322),
    (-4.39150654e-06, -0.00367342844),
    (0.00021858087, 0.00573950773),
    (-0.00125372503, -0.0076224613),
    (-0.00417768164, 0.00943887047),
    (0.246640727, 1.00167406),
    (1.50140941, 2.83297682),
)
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
    return purposes(fold_in(base, seed))


def purposes(key: Array) -> Streams:
    """One key split by purpose."""
    if not _is_threefry(key):
        return Streams(*(fold_in(key, jnp.uint32(i)) for i in range(len(Streams._fields))))
    every = fold_in(key, jnp.arange(len(Streams._fields)))  # one block for all, quick to trace
    return Streams(*every)


class Columns:
    """The `halves` [N] of the streams of many seeds, by purpose; of one update if there is a step.

    A purpose is folded with the step when it is asked for.
    """

    def __init__(self, seed_halves: Streams, step: Array | None = None) -> None:
        self._halves, self._step = seed_halves, step

    def at_step(self, step: Array) -> "Columns":
        """Those of one update."""
        return Columns(self._halves, step)

    def __getattr__(self, purpose: str) -> tuple[Array, Array]:
        key: Any = getattr(self._halves, purpose)
        return key if self._step is None else fold_in_halves(key, self._step)


def apart(seed_streams: Streams) -> Streams:
    """The halves [N] of each stream."""
    every: Any = map(halves, seed_streams)
    return Streams(*every)


def at_step(seed_streams: Streams, step: Array) -> Streams:
    """The streams of one update; unused ones cost nothing once compiled."""
    return Streams(*(fold_in(key, step) for key in seed_streams))


def fold_in(key: Array, data: Array | int) -> Array:
    """`jax.random.fold_in` for threefry keys, bit for bit, in a form XLA fuses on CPU."""
    if not _is_threefry(key):
        return jax.random.fold_in(key, data)
    data = jnp.asarray(data).astype(jnp.uint32)
    high, low = _threefry(jax.random.key_data(key), jnp.zeros_like(data), data)
    return jax.random.wrap_key_data(jnp.stack([high, low], axis=-1), impl="threefry2x32")


def fold_in_words(key: Array, count: Array) -> Array:
    """A typed key [] folded with a count [2] of uint32 words (high, low).

    That of `fold_in` with the count below 2**32; beyond, it is folded again, with the complement of
    the high word: no small number, with which keys are folded for their purposes.
    """
    near = fold_in(key, count[1])
    return jnp.where(count[0] > 0, fold_in(near, ~count[0]), near)


def words(key: Array, shape: tuple[int, ...]) -> Array:
    """Uniform 32-bit words, equal bit for bit to `jax.random.bits(key, shape)`.

    They are its words with jax_threefry_partitionable, JAX's default, whether that is on or off, so
    that every path of the engine draws the same ones. jax lowers threefry with rolled loops on CPU,
    which XLA cannot fuse; unrolled, one core makes about 2.7 times as many words a second.
    """
    size = 1
    for length in shape:
        size *= length
    if not _is_threefry(key) or size >= 2**32:
        return jax.random.bits(key, shape, jnp.uint32)
    return threefry_words(jax.random.key_data(key), size).reshape(shape)


def halves(key: Array) -> tuple[Array, Array]:
    """The two words [N] of each of threefry keys [N]: columns, not pairs."""
    data = jax.random.key_data(key)
    return data[..., 0], data[..., 1]


def fold_in_halves(key: tuple[Array, Array], data: Array) -> tuple[Array, Array]:
    """`fold_in` of keys by their halves [N]."""
    data = data.astype(jnp.uint32)
    return _rounds(*key, jnp.zeros_like(data), data)


def lane_words(key: tuple[Array, Array], size: int) -> Array:
    """Words [size, N] of keys by their halves [N]: lane by lane those of `words`."""
    counts = jnp.arange(size, dtype=jnp.uint32)[:, None]
    high, low = _rounds(*key, jnp.zeros_like(counts), counts)
    return high ^ low


@partial(jax.jit, static_argnames="size", inline=False)
def threefry_words(key_data: Array, size: int) -> Array:
    """The first `size` words of a threefry key.

    A call of its own, so that a count of operations knows random words by name; XLA inlines it.
    """
    counts = jnp.arange(size, dtype=jnp.uint32)
    high, low = _threefry(key_data, jnp.zeros_like(counts), counts)
    return high ^ low


def uniform(word: Array) -> Array:
    """Words to floats in [0, 1) with 24 bits."""
    return (word >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def normal(word: Array) -> Array:
    """Words to standard normals by the inverse distribution function (24 bits, |x| < 5.6).

    Giles (2011), "Approximating the erfinv function": two polynomials in w = -log(1 - x^2), to 4e-7
    of itself. `jax.lax.erf_inv` is the same with a log1p, which XLA does not vectorise on CPU.
    """
    x = (word >> 8).astype(jnp.float32) * jnp.float32(2.0**-23) - jnp.float32(1 - 2.0**-24)
    w = -jnp.log((1 - x) * (1 + x))
    middle = w < 5
    z = jnp.where(middle, w - 2.5, jnp.sqrt(w) - 3)
    polynomial = jnp.zeros_like(z)
    for inner, outer in _NORMAL:
        polynomial = polynomial * z + jnp.where(middle, jnp.float32(inner), jnp.float32(outer))
    return jnp.float32(2.0**0.5) * polynomial * x


def _is_threefry(key: Array) -> bool:
    return str(jax.random.key_impl(key)) == "threefry2x32"


def _threefry(key_data: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011), unrolled."""
    return _rounds(key_data[..., 0], key_data[..., 1], x0, x1)


@partial(jax.jit, inline=True)  # traced once for each shape, and no call in a program
def _rounds(k0: Array, k1: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    schedule = (k0, k1, k0 ^ k1 ^ jnp.uint32(0x1BD11BDA))
    x0, x1 = jnp.broadcast_arrays(x0 + k0, x1 + k1)
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x0 = jax.lax.add(x0, x1)
            x1 = jax.lax.bitwise_xor(x0, _rotated(x1, rotation))
        x0 = x0 + schedule[(block + 1) % 3]
        x1 = x1 + schedule[(block + 2) % 3] + jnp.uint32(block + 1)
    return x0, x1


def _rotated(x: Array, by: int) -> Array:
    """Bits turned left; the plain operations, which are traced faster than those of jax.numpy."""
    left = jax.lax.shift_left(x, jax.lax.full_like(x, by))
    return jax.lax.bitwise_or(left, jax.lax.shift_right_logical(x, jax.lax.full_like(x, 32 - by)))


def below(word: Array, bound: int | Array) -> Array:
    """Words to integers in 0 ... bound - 1, int32; no outcome is off by more than bound / 2**32."""
    return _multiply_high(word, jnp.uint32(bound)).astype(jnp.int32)


def cumulative(probs: Array) -> Array:
    """Inverse-CDF table of a choice: cumulative integer weights [V] int32, in units of 2**-30.

    Integers add without rounding, so an arm of 1e-6 keeps its probability to 5e-4 wherever it
    stands; a float32 cumulative sum near 1 would be 7 % wrong there. Arms below 2**-31 are never
    drawn. `probs` [V] sum to 1.
    """
    weights = integer_weights(probs)
    if weights.shape[0] > 4096:
        return jnp.cumsum(weights, dtype=jnp.int32)
    # The same integers on every platform; on CPU a plain loop, vectorised over the seeds, takes a
    # third of the time of the parallel prefix sum (2.0 against 5.5 us a seed at V = 1,000).
    return jax.lax.platform_dependent(weights, cpu=running_sum, default=jnp.cumsum)


def integer_weights(probs: Array) -> Array:
    """Probabilities as integers in units of 2**-30, any shape, int32."""
    return jnp.round(probs.astype(jnp.float32) * jnp.float32(2.0**30)).astype(jnp.int32)


def running_sum(weights: Array) -> Array:
    """Sums over the first axis up to and with each entry: a loop over vectors."""

    def add(total: Array, weight: Array) -> tuple[Array, Array]:
        return total + weight, total + weight

    return jax.lax.scan(add, jnp.zeros(weights.shape[1:], weights.dtype), weights)[1]


def choose(word: Array, table: Array) -> Array:
    """The arm [] int32 that one word picks from a `cumulative` table [V]."""
    found = jnp.searchsorted(table, threshold(word, table[-1]), side="right")
    return found.astype(jnp.int32)


def threshold(word: Array, whole: Array) -> Array:
    """The place int32 in 0 ... whole - 1 that a word stands for; `whole` the sum of the weights.

    The weights sum to 2**30 up to rounding; scaling the word by their sum leaves no arm a gap.
    """
    return _multiply_high(word, whole.astype(jnp.uint32)).astype(jnp.int32)


def _multiply_high(a: Array, b: Array) -> Array:
    """The high 32 bits of the 64-bit product of two uint32.

    `jax.lax.mulhi` is no faster on CPU, and cannot be compiled for several devices (jax 0.10.2).
    """
    half = jnp.uint32(0xFFFF)
    a_high, a_low, b_high, b_low = a >> 16, a & half, b >> 16, b & half
    middle = a_low * b_high + ((a_low * b_low) >> 16)
    carry = a_high * b_low + (middle & half)
    return a_high * b_high + (middle >> 16) + (carry >> 16)
