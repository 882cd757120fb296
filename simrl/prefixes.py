"""Rows of logits for every prefix, of many seeds at once: lanes last (simrl.columns).

A tree of K draws has K R rows, R = (V^L - 1)/(V - 1), those of simrl.policies.autoregressive: the
prefixes of t symbols are level t, by their numbers (simrl.listing). By next symbol, what a level
keeps is a table of the V^(t+1) beginnings that are one longer. Where a draw has L rows they are
those of positions, whatever came before, and everything here is as for any table.

Letters besides those of simrl.types: N lanes; K draws of a prompt, C answers to each.
"""

import itertools
from typing import NamedTuple

import jax.numpy as jnp

from simrl import choices, columns, keys
from simrl.columns import Array, Fence, Law


class Tree(NamedTuple):
    """Where the rows of K draws lie. Static."""

    draws: int
    length: int
    size: int  # V

    def levels(self, rows: Array) -> list[Array]:
        """[K, V^t, ..., N] for t = 0 ... L - 1, from [K R, ..., N]."""
        apart = rows.reshape(self.draws, -1, *rows.shape[1:])
        ends = list(itertools.accumulate(self.size**t for t in range(self.length)))
        return jnp.split(apart, ends[:-1], axis=1)

    def tables(self, rows: Array) -> list[Array]:
        """[K, V^(t+1), N] for t = 0 ... L - 1, from [K R, V, N]."""
        return [x.reshape(self.draws, -1, x.shape[-1]) for x in self.levels(rows)]

    def rows(self, tables: list[Array]) -> Array:
        """[K R, V, N] from the same."""
        apart = [x.reshape(self.draws, -1, self.size, x.shape[-1]) for x in tables]
        return jnp.concatenate(apart, axis=1).reshape(-1, *apart[0].shape[2:])

    def positions(self, x: Array) -> list[Array]:
        """[K, C, N] for t = 0 ... L - 1, from [K L, C, N]."""
        apart = x.reshape(self.draws, self.length, *x.shape[1:])
        return [apart[:, t] for t in range(self.length)]

    def numbers(self, answers: Array) -> list[Array]:
        """Of answers [K L, C, N] the numbers [K, C, N] of the first t + 1 symbols, all t."""
        found: list[Array] = []
        for symbol in self.positions(answers):
            found.append(found[-1] * self.size + symbol if found else symbol)
        return found


def num_rows(length: int, size: int) -> int:
    """R."""
    return sum(size**t for t in range(length))


def tree_of(table: Array, answers: Array, draws: int) -> Tree | None:
    """That of a table [K R, V, N] for answers [K L, ..., N]; None: it has a row a position."""
    length = len(answers) // draws
    return Tree(draws, length, table.shape[1]) if len(table) > len(answers) else None


def choose(words: Array, probs: Array, draws: int, fence: Fence) -> Array:
    """Symbols [K L, C, N] int32 that words pick from the rows of laws to which those before lead.

    Words [K L, C, N], laws [K R, V, N].
    """
    tree = tree_of(probs, words, draws)
    if tree is None:
        return choices.choose(words, probs, fence)
    weights = keys.integer_weights(probs)
    first, *later = tree.positions(words)
    edges = tree.tables(choices.edges_of(weights, fence))
    symbol = choices.search(first, tree.levels(weights)[0][:, 0], fence)
    answer, prefix = [symbol], symbol
    for own, table in zip(later, edges[1:], strict=True):
        symbol = _next(own, table, prefix, tree.size, fence)
        answer.append(symbol)
        prefix = fence(prefix * tree.size + symbol)
    return jnp.stack(answer, axis=1).reshape(words.shape)


def _next(words: Array, edges: Array, prefix: Array, size: int, fence: Fence) -> Array:
    """Symbols [K, C, N] that words pick by edges [K, P V, N], in the rows that prefixes lead to."""
    table, lanes = edges.reshape(-1), edges.shape[-1]
    base = columns.flat(prefix * size, edges.shape[1])

    def at(symbol: Array | int) -> Array:
        return fence(table[base + symbol * lanes])

    threshold = fence(keys.threshold(words, at(size - 1)))
    found, step = jnp.zeros_like(prefix), 1 << (size - 1).bit_length()
    while step > 1:  # how many edges are not beyond it
        step //= 2
        probe = found + step - 1
        passed = (probe < size - 1) & (at(jnp.minimum(probe, size - 1)) <= threshold)
        found = jnp.where(passed, found + step, found)
    return fence(found)


def pick(table: Array, answers: Array, draws: int) -> Array:
    """The entries [K L, C, N] of a table [K R, V, N] at each symbol of answers [K L, C, N]."""
    tree = tree_of(table, answers, draws)
    if tree is None:
        return columns.pick(table, answers)
    pairs = zip(tree.tables(table), tree.numbers(answers), strict=True)
    return jnp.stack([columns.pick(*pair) for pair in pairs], axis=1).reshape(answers.shape)


def gather_sums(values: Array, answers: Array, table: Array, draws: int, at_once: int) -> Array:
    """Sums of values [K L, C, N] by row and symbol, laid out as a table [K R, V, N]."""
    tree = tree_of(table, answers, draws)
    if tree is None:
        return columns.gather_sums(values, answers, table.shape[1], at_once)
    pairs = zip(tree.positions(values), tree.numbers(answers), strict=True)
    sizes = (tree.size ** (t + 1) for t in range(tree.length))
    each = [columns.gather_sums(*pair, n, at_once) for pair, n in zip(pairs, sizes, strict=True)]
    return tree.rows(each)


def totals(values: Array, sums: Array) -> Array:
    """Of each row, [K R, N], of values [K L, C, N], of which these are the `gather_sums`."""
    return columns.total(values if len(sums) == len(values) else sums)


def by_visits(rows: Array, answers: Array, draws: int, at_once: int) -> Array:
    """What every row has, [K R, V, N], times the share of answers [K L, C, N] that lead there."""
    if tree_of(rows, answers, draws) is None:
        return rows
    visits = gather_sums(jnp.ones(answers.shape, rows.dtype), answers, rows, draws, at_once)
    return rows * (columns.total(visits) / answers.shape[1])[:, None]


def along(law: Law, answers: Array, draws: int, fence: Fence) -> tuple[Law, Array]:
    """A law with a row a position, and answers by it; those of a tree as lanes of their own.

    Of laws [K R, V, N] and answers [K L, C, N], laws [K L, 1, C N] of the symbols that there are,
    and answers [K L, 1, C N].
    """
    tree = tree_of(law.powers, answers, draws)
    if tree is None:
        return law, answers
    numbers = tree.numbers(answers)
    prefixes = [jnp.zeros_like(numbers[0]), *numbers[:-1]]

    def found(tables: list[Array], at: list[Array]) -> Array:
        rows = [columns.pick(table, i) for table, i in zip(tables, at, strict=True)]
        return fence(jnp.stack(rows, axis=1)).reshape(len(answers), -1)

    logits = found(tree.tables(law.logits), numbers)
    largest, total, rest = (
        found(tree.levels(x), prefixes) for x in (law.largest, law.total, law.rest)
    )
    powers = fence(jnp.exp(logits - largest))
    own = Law(logits[:, None], largest, powers[:, None], total, 1 / total, rest)
    return own, jnp.zeros(powers[:, None].shape, answers.dtype)


def log_odds(law: Law, answer: Array, draws: int, fence: Fence) -> Array:
    """Log-odds [K L, N] of each symbol of an answer [K L, N] after those before it, nats."""
    if tree_of(law.powers, answer, draws) is None:
        return columns.log_odds(law, answer)
    law, own = along(law, answer[:, None], draws, fence)
    return columns.log_odds(law, own[:, 0])


def joint(law: Law, tree: Tree) -> Array:
    """Log-probabilities [K, V^L, N] of whole answers by their numbers, nats."""
    first, *later = tree.tables(law.log_probs)
    found = first
    for table in later:
        own = table.reshape(*found.shape[:2], tree.size, -1)
        found = (found[:, :, None] + own).reshape(table.shape)
    return found


def over_prefixes(law: Law, by_row: Array, tree: Tree, fence: Fence) -> Array:
    """Sums [K, N] of what rows have, [K R, N], by the chances that an answer leads there."""
    chance, found = jnp.ones(()), jnp.zeros(())
    for probs, own in zip(tree.tables(law.probs), tree.levels(by_row), strict=True):
        found = found + columns.total(chance * own)
        before = jnp.broadcast_to(chance, own.shape)
        chance = fence(jnp.repeat(before, tree.size, axis=1) * probs)
    return found
