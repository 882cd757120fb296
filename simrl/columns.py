"""Arithmetic on columns: arrays whose LAST axis is the lanes, one seed each.

The fused path (simrl.learners.fused, simrl.engine.fused) computes many seeds at once with the lanes
innermost, so that a sum over V symbols is V additions of whole vectors. Shapes: N lanes, L
positions, V symbols, B answers; a law is [L, V, N], answers are [L, B, N].

XLA on CPU fuses a cheap producer into every consumer and computes it anew in each: a draw of random
words used by ten rows is drawn ten times. `Fence` stops that: a division by a 1 that the compiler
does not know to be one is exact, and too dear to repeat. Measured on the ten-armed testbed, one
core: 166 ns a pull without, 19 with.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

FEW = 32  # symbols gone through one by one; of more, sums are folded and tables are indexed
SOME = 8  # answers added up in one expression; of more, XLA keeps the comparisons as arrays
NORMAL = 2**25  # an integer plus this is the bits of a float that is neither subnormal nor infinite


class Fence(NamedTuple):
    """Calls keep an array as it is, computed once: `one` [] float is 1 at run time.

    None: nothing is computed twice anyway.
    """

    one: Array | None
    at_once: int = SOME  # answers added up in one expression

    def __call__(self, x: Array) -> Array:
        """Returns the same values; int32 must lie in -2^24 ... 2^31 - 2^26."""
        if self.one is None:
            return x
        if jnp.issubdtype(x.dtype, jnp.floating):
            # A divisor that is the same for all would become a product with its inverse, which
            # is cheap; that a number equals itself the compiler may not assume.
            return x / jnp.where(x == x, self.one.astype(x.dtype), 2.0)
        if x.dtype == jnp.uint32:
            parts = (part.astype(jnp.float32) for part in (x >> 16, x & jnp.uint32(0xFFFF)))
            high, low = (part.astype(x.dtype) for part in self.both(*parts))
            return (high << 16) | low
        # By their bits: as numbers, floats would round them beyond 2^24.
        bits = jax.lax.bitcast_convert_type(x.astype(jnp.int32) + NORMAL, jnp.float32)
        return (jax.lax.bitcast_convert_type(self(bits), jnp.int32) - NORMAL).astype(x.dtype)

    def both(self, one: Array, other: Array) -> tuple[Array, Array]:
        """Two arrays of one shape that are made of the same, kept by one program and not by two."""
        if self.one is None:
            return one, other
        first = jnp.array([True, False]).reshape(2, *[1] * one.ndim)
        kept = self(jnp.where(first, one, other))
        return kept[0], kept[1]


class Law(NamedTuple):
    """One softmax per position and lane; no array but the powers is as large as the logits."""

    logits: Array  # [L, V, N] nats
    largest: Array  # [L, N] logit
    powers: Array  # [L, V, N] exp(logits - largest)
    total: Array  # [L, N] of powers
    inverse: Array  # [L, N] 1 / total
    rest: Array  # [L, N] the total without one largest: 1 - p of a dominant symbol, times total

    @property
    def probs(self) -> Array:
        """[L, V, N]."""
        return self.powers * self.inverse[:, None]

    @property
    def log_probs(self) -> Array:
        """[L, V, N] nats."""
        return (self.logits - self.largest[:, None]) - self.log_total[:, None]

    @property
    def log_total(self) -> Array:
        """[L, N] nats; the total is 1 + rest, of which a nearly sure symbol leaves only the 1."""
        return log1p(self.rest)


def law(logits: Array, fence: Fence) -> Law:
    """The law of logits [L, V, N]."""
    top = fence(largest(logits))
    powers = jnp.exp(logits - top[:, None])
    # The largest are counted, not added: a total of 1 + 1e-12 would have lost the 1e-12.
    below = total(jnp.where(powers < 1, powers, 0))
    tops = total((powers >= 1).astype(logits.dtype))
    whole, rest = fence.both(below + tops, below + (tops - 1))
    return Law(logits, top, powers, whole, 1 / whole, rest)


def others(given: Law, powers: Array) -> Array:
    """(1 - p) times the total, of symbols given by their powers [L, B, N].

    1 - p of p <= 1/2 loses no digits; that of the likeliest symbol is `rest`.
    """
    apart = jnp.where(powers < 1, given.total[:, None] - powers, given.rest[:, None])
    return jnp.maximum(apart, jnp.finfo(apart.dtype).tiny)


def log_odds(given: Law, answer: Array) -> Array:
    """Log-odds [L, N] of each position of an answer [L, N], nats; at most 87."""
    powers = pick(given.powers, answer[:, None])
    shifted = pick(given.logits, answer[:, None])[:, 0] - given.largest
    return shifted - jnp.log(others(given, powers)[:, 0])


def log1p(x: Array) -> Array:
    """log(1 + x), to 3 units in the last place: that of XLA is not vectorised on CPU.

    Near 0 by the series of 2 artanh(x / (2 + x)), of which five terms reach float32's rounding.
    """
    if x.dtype != jnp.float32:
        return jnp.log1p(x)
    near = jnp.abs(x) < 0.4
    ratio = jnp.where(near, x, 0) / (2 + jnp.where(near, x, 0))
    square, series = ratio * ratio, jnp.float32(1 / 11)
    for odd in (9, 7, 5, 3, 1):
        series = series * square + jnp.float32(1 / odd)
    return jnp.where(near, 2 * ratio * series, jnp.log(1 + x))


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return jnp.maximum(x, 0) + log1p(jnp.exp(-jnp.abs(x)))


def total(x: Array) -> Array:
    """Sum over the second axis of [L, V, N]: whole rows at a time, in blocks if they are many."""
    return _folded(jax.lax.add, x, 0)


def largest(x: Array) -> Array:
    """Maximum over the second axis of [L, V, N]."""
    return _folded(jax.lax.max, x, -jnp.inf)


def _folded(combine: Callable, x: Array, neutral: float) -> Array:
    x = fewer(combine, x, 1, neutral)
    return jax.lax.squeeze(functools.reduce(combine, jax.lax.split(x, [1] * x.shape[1], 1)), [1])


def fewer(combine: Callable, x: Array, axis: int, neutral: float) -> Array:
    """At most FEW rows, along an axis, that combine to what all of them combine to."""
    size = x.shape[axis]
    if size <= FEW:
        return x
    num = -(-size // FEW)
    # Rows v, v + num, v + 2 num ... are folded first: slices of whole rows, which XLA vectorises.
    missing = [(0, num * FEW - size if i == axis else 0, 0) for i in range(x.ndim)]
    padded = jax.lax.pad(x, jnp.asarray(neutral, x.dtype), missing)
    folded = functools.reduce(combine, jax.lax.split(padded, [num] * FEW, axis))
    return fewer(combine, folded, axis, neutral)


def pick(table: Array, index: Array) -> Array:
    """table[l, index[l, b, n], n]: [L, B, N] from a table [L, V, N]."""
    size = table.shape[1]
    if size > FEW:
        return table.reshape(-1)[flat(index, size)]
    if index.shape[1] == 1:
        # As one array: comparisons with an index that a loop does not change are put before the
        # loop one by one, and each is a program of its own to compile.
        mine = index == jnp.arange(size, dtype=index.dtype)[:, None]
        if table.dtype == bool:
            return jnp.any(mine & table, axis=1, keepdims=True)
        return total(jnp.where(mine, table, 0))[:, None]
    found = jnp.broadcast_to(table[:, :1], index.shape)
    for v in range(1, size):
        found = jnp.where(index == v, table[:, v : v + 1], found)
    return found


def entry(table: Array, index: Array) -> Array:
    """table[index]: table [K] or [K, 1, N], index [1] or [1, B, N], of one bandit or of lanes."""
    if table.ndim == 1:
        return table[index]
    return pick(jnp.swapaxes(table, 0, 1), index)


def flat(index: Array, size: int) -> Array:
    """Where the entries index [L, B, N] of a table [L, size, N] lie in memory."""
    length, _, lanes = index.shape
    rows = jnp.arange(length, dtype=jnp.int32)[:, None, None] * size + index
    return rows * lanes + jnp.arange(lanes, dtype=jnp.int32)


def gather_sums(values: Array, index: Array, size: int, at_once: int = SOME) -> Array:
    """Sums [L, V, N] of values [L, B, N] by the symbol index [L, B, N] in 0 ... size - 1."""
    length, _, lanes = index.shape
    if size > FEW:
        empty = jnp.zeros(length * size * lanes, values.dtype)
        return empty.at[flat(index, size)].add(values).reshape(length, size, lanes)
    symbols = np.arange(size, dtype=index.dtype)[:, None]

    def add(sums: Array, values: Array, index: Array) -> Array:
        for b in range(values.shape[1]):
            mine = index[:, b : b + 1] == symbols
            sums = sums + jnp.where(mine, values[:, b : b + 1], 0)
        return sums

    nothing = jnp.zeros((length, size, lanes), values.dtype)
    return over_answers(add, at_once, nothing, values, index)


def over_answers(add: Callable, at_once: int, total: Any, *arrays: Array) -> Any:
    """`add(total, *parts)` over the second axis of arrays [L, B, N], so many answers at a time."""
    num = arrays[0].shape[1]
    whole = num - num % at_once
    if num > at_once:

        def add_some(i: Array, total: Any) -> Any:  # sliced in place: nothing is moved for it
            slice_of = functools.partial(jax.lax.dynamic_slice_in_dim, slice_size=at_once, axis=1)
            return add(total, *(slice_of(x, i * at_once) for x in arrays))

        total = jax.lax.fori_loop(0, whole // at_once, add_some, total)
        arrays = tuple(x[:, whole:] for x in arrays)
    return add(total, *arrays) if arrays[0].shape[1] else total


def occurring(index: Array, size: int) -> Array:
    """[L, V, N] bool: the symbol is among index [L, B, N]."""
    if size > FEW:
        return gather_sums(jnp.ones(index.shape, jnp.float32), index, size) > 0
    bits = jnp.uint32(1) << index.astype(jnp.uint32)
    sets = jax.lax.reduce(bits, jnp.uint32(0), jax.lax.bitwise_or, (1,))
    return (sets[:, None] >> jnp.arange(size, dtype=jnp.uint32)[:, None]) & 1 == 1


def first_occurrences(index: Array) -> Array:
    """[B, N] bool: the answer of index [L, B, N] equals none before it."""
    num = index.shape[1]

    def same(shift: int) -> Array:
        return jnp.all(index[:, shift:] == index[:, : num - shift], axis=0)

    repeated = jnp.zeros(index.shape[1:], bool)
    for shift in range(1, num):
        repeated = repeated | jnp.pad(same(shift), ((shift, 0), (0, 0)))
    return ~repeated


def each(function: Callable) -> Callable:
    """`function` mapped over the first axis of every argument; of one thing it is called as it is,
    because a compiler makes other programs of axes of length 1."""

    def mapped(*given: Any) -> Any:
        if jax.tree.leaves(given)[0].shape[0] > 1:
            return jax.vmap(function)(*given)
        found = function(*jax.tree.map(lambda leaf: leaf[0], given))
        return jax.tree.map(lambda leaf: leaf[None], found)

    return mapped


def rows_at(table: Array, rows: Array) -> Array:
    """table[rows[k, n], ..., n]: [K, ..., N] from a table [M, ..., N] and rows [K, N]."""
    apart = jnp.swapaxes(table.reshape(table.shape[0], -1, table.shape[-1]), 0, 1)
    found = pick(apart, jnp.broadcast_to(rows, (apart.shape[0], *rows.shape)))
    return jnp.swapaxes(found, 0, 1).reshape(rows.shape[0], *table.shape[1:])


def sums_at(values: Array, rows: Array, num: int) -> Array:
    """Sums [M, ..., N] of values [K, ..., N] by the row rows [K, N] in 0 ... M - 1."""
    apart = jnp.swapaxes(values.reshape(*rows.shape[:1], -1, rows.shape[1]), 0, 1)
    sums = gather_sums(apart, jnp.broadcast_to(rows, (apart.shape[0], *rows.shape)), num)
    return jnp.swapaxes(sums, 0, 1).reshape(num, *values.shape[1:])
