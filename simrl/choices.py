"""Random choices on columns: the symbols that `simrl.keys` would pick, for many seeds at once.

Shapes as in simrl.columns: N lanes last, words and answers [L, B, N], laws [L, V, N].
"""

import functools
import itertools

import jax
import jax.numpy as jnp

from simrl import columns, keys
from simrl.columns import Array, Fence

WIDTH = 4  # entries of a block; three are looked up on each level of a tree of sums


def words(key: tuple[Array, Array], num: int, length: int, fence: Fence) -> Array:
    """Random words [length, num, N] of keys by their halves [N]: those of `keys.words`."""
    # One word of a key has no halves to share with others.
    kept = key if num * length == 1 else fence.both(*key)
    drawn = keys.lane_words(kept, num * length)
    return jnp.swapaxes(drawn.reshape(num, length, -1), 0, 1)


def choose(words: Array, probs: Array, fence: Fence) -> Array:
    """Symbols [L, B, N] int32 that words pick from laws [L, V, N]: those of `keys.choose`."""
    return search(words, keys.integer_weights(probs), fence)


def search(words: Array, weights: Array, fence: Fence) -> Array:
    """The same from integer weights [L, V, N] in units of 2^-30."""
    size = weights.shape[1]
    if size > columns.FEW:
        blocks = [weights]
        while blocks[-1].shape[1] > columns.FEW:
            blocks.append(_block_sums(blocks[-1], fence))
        whole = jnp.sum(blocks[-1], axis=1, keepdims=True)
        return _descend(fence(keys.threshold(words, whole)), blocks, fence)
    if words.shape[1] > 1:
        edges = fence(edges_of(weights))
    else:  # all of it is one program
        rows = [weights[:, v : v + 1] for v in range(size)]
        edges = jnp.concatenate(list(itertools.accumulate(rows)), axis=1)
    threshold = keys.threshold(words, edges[:, -1:])
    found = jnp.zeros(words.shape, jnp.float32)
    for v in range(size - 1):
        found = found + (threshold >= edges[:, v : v + 1]).astype(jnp.float32)
    return fence(found).astype(jnp.int32)


def tally(
    words: Array, probs: Array, answer: Array, draws: int, fence: Fence
) -> tuple[Array, Array]:
    """How often words [K L, C, N] pick each symbol, [K L, V, N], and whole answers, [K, N]; floats.

    Those of `choose` from laws [K L, V, N] of at most `columns.FEW` symbols; answer [K L, N], of K
    draws. What is counted is how many lie beyond each edge of the law: no guess has to be known by
    its symbol.
    """
    edges, threshold, (low, high) = _places(words, probs, answer, fence)

    def add(total: tuple[Array, Array], threshold: Array) -> tuple[Array, Array]:
        beyond, right = total
        for b in range(threshold.shape[1]):
            beyond = beyond + (threshold[:, b : b + 1] >= edges[:, :-1])
        hit = (threshold >= low) & (threshold < high)
        hit = jnp.all(hit.reshape(draws, -1, *hit.shape[1:]), axis=1)
        return beyond, right + jnp.sum(hit, axis=1, dtype=jnp.int32)

    none = jnp.zeros_like(edges[:, :-1]), jnp.zeros((draws, words.shape[-1]), jnp.int32)
    beyond, right = columns.over_answers(add, fence.at_once, none, threshold)
    all_, nobody = jnp.full_like(beyond[:, :1], words.shape[1]), jnp.zeros_like(beyond[:, :1])
    at_least = jnp.concatenate([all_, beyond, nobody], axis=1)
    return (at_least[:, :-1] - at_least[:, 1:]).astype(probs.dtype), right.astype(probs.dtype)


def hits(words: Array, probs: Array, answer: Array, draws: int, fence: Fence) -> Array:
    """How many of words [K L, C, N] pick a whole answer [K L, N], [K, N] floats: as by `tally`."""
    _, threshold, (low, high) = _places(words, probs, answer, fence)
    hit = (threshold >= low) & (threshold < high)
    apart = hit.reshape(draws, -1, *hit.shape[1:])
    # Row by row: a reduction would draw its words one seed at a time, in 2.5 times the time.
    whole = functools.reduce(jnp.logical_and, [apart[:, t] for t in range(apart.shape[1])])
    return columns.total(whole.astype(probs.dtype))


def _places(
    words: Array, probs: Array, answer: Array, fence: Fence
) -> tuple[Array, Array, tuple[Array, Array]]:
    """The edges [K L, V, N] of a law, where words fall, and those around an answer."""
    edges = fence(edges_of(keys.integer_weights(probs)))
    threshold = keys.threshold(words, edges[:, -1:])
    below = jnp.pad(edges[:, :-1], ((0, 0), (1, 0), (0, 0)))
    low, high = (fence(columns.pick(table, answer[:, None])) for table in (below, edges))
    return edges, threshold, (low, high)


def edges_of(weights: Array, fence: Fence | None = None) -> Array:
    """Sums [L, V, N] of integer weights up to and with each symbol.

    With a fence every pass is made once: without, of many rows each is made anew in the next.
    """
    # By doubling: added row by row, each row would be a program of its own to compile.
    size, shift = weights.shape[1], 1
    while shift < size:
        weights = weights + jnp.pad(weights[:, :-shift], ((0, 0), (shift, 0), (0, 0)))
        weights = weights if fence is None else fence(weights)
        shift *= 2
    return weights


def _descend(left: Array, blocks: list[Array], fence: Fence) -> Array:
    """Down a tree of sums [L, ..., N], the symbols' own weights first; no table of all is made."""
    few = blocks[-1]
    edges = fence(edges_of(few))
    place, passed = jnp.zeros_like(left), jnp.zeros_like(left)
    for v in range(few.shape[1] - 1):
        edge = edges[:, v : v + 1]
        over = left >= edge
        place, passed = place + over, jnp.where(over, edge, passed)
    place, left = fence(place), fence(left - passed)
    for level in blocks[-2::-1]:
        place, left = _step_down(level, WIDTH * place, left, fence)
    # Nothing less than nothing remains, which no compiler knows. With two that read them, the last
    # entries looked up are an array of their own; else they would be looked up where they are
    # compared, one by one.
    return jnp.where(left >= 0, place, -1)


def _block_sums(weights: Array, fence: Fence) -> Array:
    """Sums [L, ceil(V / WIDTH), N] of integer weights [L, V, N] in blocks of neighbours."""
    length, size, lanes = weights.shape
    num = -(-size // WIDTH)
    padded = jnp.pad(weights, ((0, 0), (0, num * WIDTH - size), (0, 0)))
    blocks = padded.reshape(length, num, WIDTH, lanes)
    return fence(functools.reduce(jnp.add, [blocks[:, :, v] for v in range(WIDTH)]))


def _step_down(weights: Array, first: Array, left: Array, fence: Fence) -> tuple[Array, Array]:
    """Of WIDTH entries from `first` [L, B, N], the one where `left` falls, and what remains."""
    last, flat = weights.shape[1] - 1, weights.reshape(-1)
    places = [jnp.minimum(first + v, last) for v in range(WIDTH - 1)]
    index = columns.flat(jnp.concatenate(places, axis=1), last + 1)
    own = jnp.split(fence(flat[index]), WIDTH - 1, axis=1)
    place, passed, edge = first, jnp.zeros_like(left), jnp.zeros_like(left)
    for v, weight in enumerate(own):
        edge = edge + weight
        over = (left >= edge) & (first + v < last)
        place, passed = place + over, jnp.where(over, edge, passed)
    return fence(place), fence(left - passed)


def _below(table: Array, threshold: Array, size: int) -> Array:
    """How many of the first size - 1 entries of ascending [L, size, N] are <= threshold."""
    if size <= columns.FEW:
        return sum(
            ((threshold >= table[:, v : v + 1]).astype(jnp.int32) for v in range(size - 1)),
            start=jnp.zeros_like(threshold),
        )
    flat = table.reshape(-1)
    found = jnp.zeros_like(threshold)
    step = 1 << (size - 1).bit_length()
    while step > 1:
        step //= 2
        probe = found + step - 1
        value = flat[columns.flat(jnp.minimum(probe, size - 1), size)]
        found = jnp.where((probe < size - 1) & (value <= threshold), found + step, found)
    return found


def chosen(words: Array, tables: Array) -> Array:
    """Symbols that words pick from `keys.cumulative` tables: [L] and [L, V], or lanes behind.

    Lanes: words [L, B, N] and tables [L, V, 1, N].
    """
    if words.ndim == 1:
        return jax.vmap(keys.choose)(words, tables)
    table = tables[:, :, 0]
    found = _below(table, keys.threshold(words, table[:, -1:]), table.shape[1])
    # Weights are never negative, which no compiler knows.
    return Fence(jnp.where(table[0, -1, 0] >= 0, 1.0, 2.0))(found)
