"""Phases of training: bins of the pass rate before an update, and exact counters for the bins.

Counters of samples and FLOPs pass 2^31 and 2^53, and JAX has no 64-bit integers by default, so a
count is carried as two uint32 words (high, low) along the last axis and read as uint64 on the host.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


OPEN = 2  # bins beside the uniform ones: below `low`, and from `high` on


class Bins(NamedTuple):
    """Uniform bins of a coordinate from `low` to `high`, between two that are open-ended."""

    low: Array | np.ndarray
    high: Array | np.ndarray
    num: int  # with the two open ones

    def find(self, coordinate: Array) -> Array:
        """Returns the bin of each coordinate, int32, same shape; `num`, which is no bin, of NaN."""
        position = (coordinate - self.low) / (self.high - self.low) * (self.num - OPEN)
        index = jnp.clip(jnp.floor(position) + 1, 0, self.num - 1)
        return jnp.where(index == index, index, self.num).astype(jnp.int32)


def edges(low: float, high: float, num: int) -> np.ndarray:
    """Returns the edges [num + 3], in the units of the coordinate, of `num` uniform bins and two
    open-ended ones, whose outer edges are -inf and inf.
    """
    return np.array([-np.inf, *np.linspace(low, high, num + 1), np.inf])


def words_of(count: int) -> np.ndarray:
    """A non-negative count below 2^64 as two words [2] uint32 (high, low)."""
    if not 0 <= count < 2**64:
        raise ValueError(f"a count must lie in 0 ... 2^64 - 1, not {count}")
    return np.array([count >> 32, count & 0xFFFFFFFF], np.uint32)


def count_of(words: Array | np.ndarray) -> np.ndarray:
    """Words [..., 2] as counts [...] uint64."""
    words = np.asarray(words)
    return (words[..., 0].astype(np.uint64) << np.uint64(32)) | words[..., 1]


def add_words(a: Array, b: Array) -> Array:
    """Exact sum of two counts, each [..., 2] uint32."""
    low = a[..., 1] + b[..., 1]
    carry = (low < a[..., 1]).astype(jnp.uint32)
    return jnp.stack([a[..., 0] + b[..., 0] + carry, low], axis=-1)


def subtract_words(a: Array, b: Array) -> Array:
    """Exact difference a - b of two counts with a >= b, each [..., 2] uint32."""
    borrow = (a[..., 1] < b[..., 1]).astype(jnp.uint32)
    return jnp.stack([a[..., 0] - b[..., 0] - borrow, a[..., 1] - b[..., 1]], axis=-1)


def multiply_words(words: Array, times: Array) -> Array:
    """Exact product of counts [..., 2] and `times` (uint32), modulo 2^64."""
    high, low = words[..., 0], words[..., 1]
    half = jnp.uint32(0xFFFF)
    a, b, c, d = low & half, low >> 16, times & half, times >> 16
    middle = (a * c >> 16) + (a * d & half) + (b * c & half)
    carried = b * d + (a * d >> 16) + (b * c >> 16) + (middle >> 16)
    return jnp.stack([high * times + carried, low * times], axis=-1)


def multiply_counts(words: Array, times: Array) -> Array:
    """Exact product of counts [..., 2] and a count `times` [2], modulo 2^64."""
    found = multiply_words(words, times[1])
    return found.at[..., 0].add(words[..., 1] * times[0])


def float_of(words: Array, dtype: Any = jnp.float32) -> Array:
    """Counts [..., 2] as floats [...], to their rounding."""
    return words[..., 0].astype(dtype) * 2.0**32 + words[..., 1].astype(dtype)


def sum_words(words: Array) -> Array:
    """Exact sum over the first axis of counts [N, ..., 2] uint32."""
    total = words[0]
    for i in range(1, words.shape[0]):
        total = add_words(total, words[i])
    return total


def scatter_sums(sums: Array, index: Array, values: Array) -> Array:
    """Add `values` [M, Q] to the rows `index` [M] of `sums` [P, Q].

    A mask rather than a product with a one-hot row: 0 times an infinite measure is NaN.
    """
    rows = jnp.arange(sums.shape[0])[:, None, None] == index[None, :, None]
    return sums + jnp.sum(jnp.where(rows, values[None], 0), axis=1)


def scatter_words(counts: Array, index: Array, words: Array) -> Array:
    """Add `words` [M, C, 2] to the rows `index` [M] of `counts` [P, C, 2], exactly."""
    phases = jnp.arange(counts.shape[0])[:, None, None]
    for m in range(words.shape[0]):
        chosen = jnp.where(phases == index[m], words[m][None], jnp.uint32(0))
        counts = add_words(counts, chosen)
    return counts
