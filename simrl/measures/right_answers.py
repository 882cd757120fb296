"""Several right answers to a prompt as one, for many seeds at once: lanes last (simrl.columns).

What `simrl.measures.feedback.right_answers_log_odds` does for one seed: a guess is wrong where it
leaves the tree of the right answers, so that 1 - p is a sum of its own and nothing cancels.

Letters besides those of simrl.types: N lanes, A right answers to each prompt.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from simrl import columns
from simrl.columns import Law
from simrl.measures.sequences import Array


class Right(NamedTuple):
    """The right answers, all distinct, and where guesses leave them: no update changes these."""

    answers: Array  # [M, A, L, N] int32
    codes: Array  # [M, A, N] int32: their numbers (simrl.listing)
    leaving: tuple[Array, ...]
    # by position t, [M, 1 or A, V, N] bool: the answer is the first of those that begin with its t
    # symbols, and none of those goes on with this one. [M, 1, ...] where all begin alike


class Merged(NamedTuple):
    """The right answers to the K prompts of an update as one."""

    codes: Array  # [K, A, N]

    def has(self, codes: Array) -> Array:
        """Whether [K, C, N] guesses by their numbers are among them."""
        return is_among(codes, self.codes)


def tree(answers: Array, vocab_size: int) -> Right:
    """That of right answers [M, A, L, N]."""
    num, size, length, lanes = answers.shape
    alike: Array | bool = True  # the same symbols so far
    first = jnp.zeros((num, size, lanes), jnp.int32)
    leaving = []
    for t in range(length):
        if t:  # answers that begin alike are told by the first of them
            last = answers[:, :, t - 1]
            alike = alike & (last[:, :, None] == last[:, None])
            first = jnp.argmax(alike, axis=1).astype(jnp.int32)
        nodes = jnp.arange(size if t else 1, dtype=jnp.int32)[:, None]
        leads = first[:, : len(nodes)] == nodes
        follows = _follow(first, answers[:, :, t], nodes, vocab_size)
        leaving.append(leads[:, :, None] & ~follows)
    return Right(answers, code(answers, vocab_size), tuple(leaving))


def _follow(first: Array, here: Array, nodes: Array, vocab_size: int) -> Array:
    """[M, P, V, N] bool: whether a node, P of them, goes on with a symbol: of answers [M, A, N]."""
    num, size, lanes = here.shape
    if vocab_size > columns.FEW:
        both = columns.occurring(first * vocab_size + here, len(nodes) * vocab_size)
        return both.reshape(num, len(nodes), vocab_size, lanes)
    symbols = jnp.arange(vocab_size, dtype=here.dtype)[:, None]
    each = (
        (first[:, a : a + 1] == nodes)[:, :, None] & (here[:, a : a + 1] == symbols)[:, None]
        for a in range(size)
    )
    return functools.reduce(jnp.logical_or, each)


def code(answers: Array, vocab_size: int) -> Array:
    """Answers [K, C, L, N] by their numbers [K, C, N]."""
    found = answers[:, :, 0]
    for t in range(1, answers.shape[2]):
        found = found * vocab_size + answers[:, :, t]
    return found


def is_among(codes: Array, others: Array) -> Array:
    """[K, C, N] bool: which of codes [K, C, N] are among others [K, A, N]."""
    if others.shape[1] > columns.FEW:
        return jnp.any(codes[:, None] == others[:, :, None], axis=1)
    # One by one: whole rows of lanes are compared.
    each = (codes == others[:, a : a + 1] for a in range(others.shape[1]))
    return functools.reduce(jnp.logical_or, each)


def log_odds(law: Law, right: Right) -> Array:
    """Log-odds [M, N] that a guess is right, nats, by a law [M L, V, N]; at most 87."""
    num, size, length, lanes = right.answers.shape
    symbols = jnp.swapaxes(right.answers, 1, 2).reshape(-1, size, lanes)
    shifted = columns.pick(law.logits, symbols) - law.largest[:, None]  # [M L, A, N]
    log_p = jnp.sum((shifted - law.log_total[:, None]).reshape(num, length, size, lanes), axis=1)
    most = columns.largest(log_p)
    log_in = most + jnp.log(columns.total(jnp.exp(log_p - most[:, None])))

    def by_position(x: Array) -> Array:
        return x.reshape(num, length, *x.shape[1:])

    powers, inverse = by_position(law.powers), by_position(law.inverse)
    here = by_position(jnp.exp(shifted))
    out, before = jnp.zeros_like(log_in), jnp.ones_like(log_p)
    for t, leaving in enumerate(right.leaving):
        rest = jnp.where(leaving, powers[:, t, None], 0)
        leaves = columns.total(rest.reshape(-1, *rest.shape[2:])).reshape(*rest.shape[:2], lanes)
        reached = before[:, : leaves.shape[1]]
        out = out + columns.total(reached * leaves) * inverse[:, t]
        before = before * here[:, t] * inverse[:, t, None]
    return log_in - jnp.log(jnp.maximum(out, jnp.finfo(out.dtype).tiny))
