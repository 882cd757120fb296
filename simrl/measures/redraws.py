"""Moments of a gradient estimator from independent redraws at frozen parameters.

Numerators and denominators are averaged apart: the mean of ratios is badly biased. Every estimate
carries a standard error.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from simrl.measures.simplex import as_float
from simrl.types import Array


class RedrawMoments(NamedTuple):
    """Estimated moments of a whole batch estimator, with standard errors."""

    mean: Any  # pytree like one estimate: average over the redraws
    trace_covariance: Array  # [] unbiased, never negative
    squared_norm: Array  # [] |E g|^2, debiased: may be negative when the redraws are too few
    snr: Array  # [] squared_norm / trace_covariance
    noise_scale: Array  # [] trajectories: noise_numerator / noise_denominator
    noise_numerator: Array  # [] batch_size * trace_covariance: average this over seeds ...
    noise_denominator: Array  # [] squared_norm: ... and this, then divide
    trace_standard_error: Array  # [] of trace_covariance (jackknife)
    norm_standard_error: Array  # [] of squared_norm (jackknife)


class NoiseScale(NamedTuple):
    """Noise scale of independent samples from gradients at two batch sizes."""

    trace_covariance: Array  # [...] of ONE sample: the numerator
    squared_norm: Array  # [...] |E g|^2, debiased: the denominator
    noise_scale: Array  # [...] samples: their quotient


def redraw_moments(
    estimate: Callable[[Array], Any],
    key: Array,
    num_redraws: int,
    batch_size: int = 1,
    chunk_size: int = 32,
) -> RedrawMoments:
    """Moments of `estimate` over independent redraws.

    Two passes draw the same redraws twice, `chunk_size` of them at a time under vmap: the first
    for the mean, the second for distances to it. That costs twice the arithmetic, keeps
    chunk_size + 1 gradients in memory, and never subtracts large squares.

    Args:
      estimate: key -> pytree of float arrays, one draw of the estimator at frozen parameters.
      key: a random key, split into one key per redraw.
      num_redraws: R >= 3, static.
      batch_size: trajectories in one estimate; only the noise scale uses it.
      chunk_size: redraws computed side by side, static.

    Returns:
      RedrawMoments, of the whole estimator. With d_i = |g_i - mean|^2: trace = sum d_i / (R - 1)
      and squared norm = |mean|^2 - trace / R, which is the mean of g_i . g_j over i != j. Both
      are U-statistics and their standard errors are jackknives in closed form (Efron and Stein
      1981: on average the jackknife variance is not too small; at |E g| = 0 that of the squared
      norm is twice the true one).

    Raises:
      ValueError: if num_redraws < 3 or chunk_size < 1.
    """
    count = operator.index(num_redraws)
    if count < 3 or chunk_size < 1:
        raise ValueError(
            f"num_redraws must be at least 3 and chunk_size at least 1, got {count}, {chunk_size}"
        )
    keys, live = _chunks(key, count, min(operator.index(chunk_size), count))
    shapes = jax.eval_shape(estimate, key)
    zero, unravel = ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))

    def draw(some_keys: Array) -> Array:
        return jax.vmap(lambda one: ravel_pytree(estimate(one))[0])(some_keys)

    def add(total: Array, chunk_of: tuple[Array, Array]) -> tuple[Array, None]:
        some_keys, counted = chunk_of
        return total + jnp.sum(jnp.where(counted[:, None], draw(some_keys), 0), axis=0), None

    mean = jax.lax.scan(add, zero, (keys, live))[0] / count

    def measure(some_keys: Array) -> tuple[Array, Array]:
        error = draw(some_keys) - mean
        # No matrix product: accelerators would round it to 10 bits by default.
        return jnp.sum(error**2, axis=-1), jnp.sum(error * mean, axis=-1)

    distance, along = (x.reshape(-1)[:count] for x in jax.lax.map(measure, keys))
    return _summary(unravel(mean), jnp.sum(mean**2), distance, along, batch_size)


def _chunks(key: Array, count: int, chunk: int) -> tuple[Array, Array]:
    """Keys [n, chunk] of the redraws, and which of them count.

    Chunks have one size: the last is filled up with copies of redraw 0 that count for nothing.
    """
    num_chunks = -(-count // chunk)
    order = jnp.arange(num_chunks * chunk)
    keys = jax.random.split(key, count)[jnp.where(order < count, order, 0)]
    keys = keys.reshape((num_chunks, chunk, *keys.shape[1:]))
    return keys, (order < count).reshape(num_chunks, chunk)


def _summary(
    mean: Any, norm: Array, distance: Array, along: Array, batch_size: int
) -> RedrawMoments:
    """From |mean|^2, |g_i - mean|^2 and (g_i - mean) . mean to the estimates and their errors."""
    count = len(distance)
    trace = jnp.sum(distance) / (count - 1)
    squared_norm = norm - trace / count
    excess = distance - jnp.mean(distance)
    # Leaving out redraw i moves the trace by excess_i R / ((R - 1)(R - 2)) and the squared norm
    # by 2 (along_i - excess_i / (R - 2)) / (R - 1).
    spread = count / ((count - 1) * (count - 2) ** 2)
    pull = (along - jnp.mean(along)) - excess / (count - 2)
    return RedrawMoments(
        mean=mean,
        trace_covariance=trace,
        squared_norm=squared_norm,
        snr=squared_norm / trace,
        noise_scale=batch_size * trace / squared_norm,
        noise_numerator=batch_size * trace,
        noise_denominator=squared_norm,
        trace_standard_error=jnp.sqrt(spread * jnp.sum(excess**2)),
        norm_standard_error=jnp.sqrt(4 / (count * (count - 1)) * jnp.sum(pull**2)),
    )


def two_batch_noise_scale(
    small_squared_norm: Array,
    big_squared_norm: Array,
    small_batch: int | Array,
    big_batch: int | Array,
) -> NoiseScale:
    """Noise scale from the squared norms of gradients averaged over two batch sizes.

    Args:
      small_squared_norm, big_squared_norm: [...] E|g|^2 (or an average of |g|^2 over steps) of
        the gradient averaged over `small_batch` and `big_batch` independent samples.
      small_batch, big_batch: numbers of samples, different from each other.

    Returns:
      NoiseScale: numerator and denominator, each unbiased, and their quotient (which is not:
      average the two apart). Not for coupled estimators (leave-one-out, groups).

    Raises:
      ValueError: if both sizes are Python numbers and equal.

    Source: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.1.
    """
    traced = isinstance(small_batch, jax.Array) or isinstance(big_batch, jax.Array)
    if not traced and small_batch == big_batch:
        raise ValueError(f"small_batch and big_batch must differ, got {small_batch} twice")
    small, big = as_float(small_squared_norm), as_float(big_squared_norm)
    norm = (big_batch * big - small_batch * small) / (big_batch - small_batch)
    trace = (small - big) * small_batch * big_batch / (big_batch - small_batch)
    return NoiseScale(trace_covariance=trace, squared_norm=norm, noise_scale=trace / norm)
