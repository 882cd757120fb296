"""Moments of a gradient estimator from independent redraws at frozen parameters.

Numerators and denominators are averaged apart: the mean of ratios is badly biased. Every estimate
carries a standard error. `estimate` is always key -> pytree of float arrays, one draw of the whole
estimator; `chunk_size` of them are computed side by side.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl.types import Array


class LeafMoments(NamedTuple):
    """What one leaf of a pytree adds to the moments; over leaves the first two sum to the whole."""

    trace_covariance: Array  # [] unbiased, never negative
    squared_norm: Array  # [] |E g|^2, debiased: may be negative
    trace_standard_error: Array  # [] of trace_covariance (jackknife)
    norm_standard_error: Array  # [] of squared_norm (jackknife)


class RedrawMoments(NamedTuple):
    """Estimated moments of a whole batch estimator, with standard errors."""

    mean: Any  # pytree like one estimate: average over the redraws
    trace_covariance: Array  # [] unbiased, never negative
    squared_norm: Array  # [] |E g|^2, debiased: may be negative when the redraws are too few
    snr: Array  # [] squared_norm / trace_covariance
    noise_scale: Array  # [] trajectories: noise_numerator / noise_denominator
    noise_numerator: Array  # [] batch_size * trace_covariance: average this over seeds ...
    noise_denominator: Array  # [] squared_norm: ... and this, then divide (ratio_of_means)
    trace_standard_error: Array  # [] of trace_covariance (jackknife)
    norm_standard_error: Array  # [] of squared_norm (jackknife)
    mean_standard_error: Any  # pytree like mean, elementwise
    snr_standard_error: Array  # [] of snr (jackknife); not finite where a divisor is 0
    noise_scale_standard_error: Array  # [] of noise_scale, the same
    leaves: Any  # LeafMoments in place of each leaf of mean


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
    chunk_size + 2 gradients in memory, and never subtracts large squares.

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
      norm is twice the true one). So are those of the two quotients, which leave the same redraw
      out above and below.

    Raises:
      ValueError: if num_redraws < 3 or chunk_size < 1.
    """
    count = check_redraws(num_redraws, 3, chunk_size)
    keys, live = _chunks(key, count, chunk_size)
    shapes = jax.eval_shape(estimate, key)
    means, variances, distance, along = _passes(estimate, keys, live, shapes, count)
    norms = jnp.stack([jnp.sum(mean**2) for mean in means])
    parts, _, _ = _moments(norms, distance, along)

    def tree(leaves: list[Any]) -> Any:
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    def shaped(flat: list[Array]) -> Any:
        return tree(
            [x.reshape(s.shape) for x, s in zip(flat, jax.tree.leaves(shapes), strict=True)]
        )

    return _summary(
        shaped(means),
        shaped([jnp.sqrt(variance / count) for variance in variances]),
        tree([LeafMoments(*(x[i] for x in parts)) for i in range(len(means))]),
        _moments(jnp.sum(norms), jnp.sum(distance, axis=-1), jnp.sum(along, axis=-1)),
        batch_size,
    )


def check_redraws(num_redraws: int, least: int, chunk_size: int) -> int:
    """The number of redraws; ValueError if it is less than `least`, or chunk_size than 1."""
    count = operator.index(num_redraws)
    if count < least or operator.index(chunk_size) < 1:
        raise ValueError(
            f"num_redraws must be at least {least} and chunk_size at least 1, "
            f"got {count}, {chunk_size}"
        )
    return count


def _chunks(key: Array, count: int, chunk_size: int) -> tuple[Array, Array]:
    """Keys [n, chunk] of the redraws, and which of them count.

    Chunks have one size: the last is filled up with copies of redraw 0 that count for nothing.
    """
    chunk = min(operator.index(chunk_size), count)
    num_chunks = -(-count // chunk)
    order = jnp.arange(num_chunks * chunk)
    keys = jax.random.split(key, count)[jnp.where(order < count, order, 0)]
    keys = keys.reshape((num_chunks, chunk, *keys.shape[1:]))
    return keys, (order < count).reshape(num_chunks, chunk)


def _passes(
    estimate: Callable[[Array], Any], keys: Array, live: Array, shapes: Any, count: int
) -> tuple[list[Array], list[Array], Array, Array]:
    """By leaf: means and variances, each [size]; |g_i - mean|^2 and (g_i - mean) . mean [R, n]."""

    def draw(some_keys: Array) -> list[Array]:
        leaves = jax.tree.leaves(jax.vmap(estimate)(some_keys))
        return [leaf.reshape(len(leaf), leaf.size // len(leaf)) for leaf in leaves]

    def add(totals: list[Array], counted: Array, draws: list[Array]) -> list[Array]:
        pairs = zip(totals, draws, strict=True)
        return [x + jnp.sum(jnp.where(counted[:, None], y, 0), axis=0) for x, y in pairs]

    def first(totals: list[Array], chunk_of: tuple[Array, Array]) -> tuple[list[Array], None]:
        some_keys, counted = chunk_of
        return add(totals, counted, draw(some_keys)), None

    zeros = [jnp.zeros(s.size, s.dtype) for s in jax.tree.leaves(shapes)]
    means = [total / count for total in jax.lax.scan(first, zeros, (keys, live))[0]]

    def second(totals: list[Array], chunk_of: tuple[Array, Array]) -> tuple[list[Array], Any]:
        some_keys, counted = chunk_of
        errors = [g - mean for g, mean in zip(draw(some_keys), means, strict=True)]
        squares = [error**2 for error in errors]
        # No matrix product: accelerators would round it to 10 bits by default.
        products = [error * mean for error, mean in zip(errors, means, strict=True)]
        by_leaf = [
            jnp.stack([jnp.sum(x, axis=-1) for x in terms], axis=-1)
            for terms in (squares, products)
        ]
        return add(totals, counted, squares), by_leaf

    totals, by_leaf = jax.lax.scan(second, zeros, (keys, live))
    distance, along = (x.reshape(-1, len(means))[:count] for x in by_leaf)
    return means, [total / (count - 1) for total in totals], distance, along


def _moments(norm: Array, distance: Array, along: Array) -> tuple[LeafMoments, Array, Array]:
    """From |mean|^2 [...], |g_i - mean|^2 and (g_i - mean) . mean [R, ...] to the moments [...].

    Also by how much leaving out redraw i lowers the trace and the squared norm, each [R, ...].
    """
    count = len(distance)
    trace = jnp.sum(distance, axis=0) / (count - 1)
    excess = distance - jnp.mean(distance, axis=0)
    pull = (along - jnp.mean(along, axis=0)) - excess / (count - 2)
    spread = count / ((count - 1) * (count - 2) ** 2)
    moments = LeafMoments(
        trace_covariance=trace,
        squared_norm=norm - trace / count,
        trace_standard_error=jnp.sqrt(spread * jnp.sum(excess**2, axis=0)),
        norm_standard_error=jnp.sqrt(4 / (count * (count - 1)) * jnp.sum(pull**2, axis=0)),
    )
    return moments, excess * (count / ((count - 1) * (count - 2))), pull * (2 / (count - 1))


def _jackknife_of_quotient(
    top: Array, bottom: Array, top_drops: Array, bottom_drops: Array, rounding: Array
) -> Array:
    """Jackknife standard error [] of top / bottom.

    `top_drops` and `bottom_drops` [R] are by how much leaving out redraw i lowers either part; a
    bottom of at most `rounding` without it is 0. NaN or infinite where any quotient divides by 0.
    """
    count = top_drops.shape[0]
    left = bottom - bottom_drops
    left = jnp.where(jnp.abs(left) <= rounding, 0, left)
    moved = (top / bottom * bottom_drops - top_drops) / left
    return jnp.sqrt((count - 1) / count * jnp.sum((moved - jnp.mean(moved)) ** 2))


def _summary(
    mean: Any,
    mean_standard_error: Any,
    leaves: Any,
    whole: tuple[LeafMoments, Array, Array],
    batch_size: int,
) -> RedrawMoments:
    """Puts the parts together and adds the quotients."""
    (trace, norm, trace_error, norm_error), trace_drops, norm_drops = whole
    digit = jnp.finfo(trace.dtype).eps * trace
    snr_error = _jackknife_of_quotient(
        norm, trace, norm_drops, trace_drops, len(trace_drops) * digit
    )
    scale_error = _jackknife_of_quotient(trace, norm, trace_drops, norm_drops, digit)
    return RedrawMoments(
        mean=mean,
        trace_covariance=trace,
        squared_norm=norm,
        snr=norm / trace,
        noise_scale=batch_size * trace / norm,
        noise_numerator=batch_size * trace,
        noise_denominator=norm,
        trace_standard_error=trace_error,
        norm_standard_error=norm_error,
        mean_standard_error=mean_standard_error,
        snr_standard_error=snr_error,
        noise_scale_standard_error=batch_size * scale_error,
        leaves=leaves,
    )


def redraw(statistic: Callable[[Array], Any], key: Array, count: int, chunk_size: int) -> Any:
    """`statistic`, key -> pytree of figures [], of each of `count` redraws: figures [R]."""
    keys, _ = _chunks(key, count, chunk_size)
    found = jax.lax.map(jax.vmap(statistic), keys)
    return jax.tree.map(lambda x: x.reshape(-1)[:count], found)
