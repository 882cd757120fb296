"""Plain JAX with one uniform per choice: the same code, answers by the inverse of the CDF.

The uniforms of a batch, or of a stretch of single pulls, are one draw; `jax.random.categorical`
takes one Gumbel for every symbol.
"""

import jax
import jax.numpy as jnp
from jax import Array, random

from experiments.peers import jax_plain
from experiments.peers.jax_plain import Sampler
from experiments.peers.problems import Curves, Guessing, OneToken, TenArmed

FEW = 64  # symbols; more are searched by bisection


def invert(uniforms: Array, logits: Array, size: int) -> Array:
    """Choices [B, ...] from each row of logits [..., V]: how many CDF edges lie below u."""
    edges = jnp.cumsum(jax.nn.softmax(logits), axis=-1)
    if logits.shape[-1] <= FEW:
        return jnp.sum(uniforms[..., None] >= edges[..., :-1], axis=-1)
    if logits.ndim > 1:
        raise ValueError("long rows are searched one at a time")
    return jnp.searchsorted(edges[:-1], uniforms, side="right")


def invert_batch(key: Array, logits: Array, size: int) -> Array:
    """The same, the uniforms of a batch drawn in one call."""
    return invert(random.uniform(key, (size, *logits.shape[:-1])), logits, size)


def one_each(key: Array, steps: int) -> Array:
    """The uniforms of a whole stretch in one call, for batches of one choice."""
    return random.uniform(key, (steps, 1))


ONE = Sampler(one_each, invert)
BATCH = Sampler(random.split, invert_batch)  # a stretch of batches would not stay in the cache


def ten_armed(problem: TenArmed, seed: int) -> Curves:
    """The testbed."""
    return jax_plain.ten_armed(problem, seed, ONE)


def guessing(problem: Guessing, seed: int) -> Curves:
    """Sequence guessing."""
    return jax_plain.guessing(problem, seed, BATCH)


def one_token(problem: OneToken, seed: int) -> Curves:
    """One token to pass rate 1/2, every guess sampled."""
    return jax_plain.one_token(problem, seed, BATCH)
