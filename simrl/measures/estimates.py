"""Noise scales, cosines and ratios of means, from redraws or from figures at hand, with errors."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl.measures.redraws import check_redraws, redraw
from simrl.measures.simplex import as_float
from simrl.types import Array


class NoiseScale(NamedTuple):
    """Noise scale of independent samples from gradients at two batch sizes."""

    trace_covariance: Array  # [...] of ONE sample: the numerator
    squared_norm: Array  # [...] |E g|^2, debiased: the denominator
    noise_scale: Array  # [...] samples: their quotient


class TwoBatchMoments(NamedTuple):
    """Noise scale of independent samples from redraws at two batch sizes."""

    trace_covariance: Array  # [] of ONE sample, unbiased: may be negative
    squared_norm: Array  # [] |E g|^2, unbiased: may be negative
    noise_scale: Array  # [] samples: their quotient
    trace_standard_error: Array  # []
    norm_standard_error: Array  # []
    noise_scale_standard_error: Array  # [] delta method; not finite where squared_norm is 0


class CosineMoments(NamedTuple):
    """Angle of an estimator to a direction."""

    mean: Array  # [] average cosine of the redraws that are not 0; NaN if all are
    standard_error: Array  # [] of mean; NaN for fewer than 2 such redraws
    zero_share: Array  # [] share of redraws that are exactly 0, left out above
    zero_standard_error: Array  # [] of zero_share (binomial): 0 where none or all are 0


class Ratio(NamedTuple):
    """Ratio of two means."""

    value: Array  # []
    standard_error: Array  # [] in units of the value


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


def two_batch_moments(
    small_estimate: Callable[[Array], Any],
    big_estimate: Callable[[Array], Any],
    key: Array,
    small_batch: int | Array,
    big_batch: int | Array,
    num_redraws: int,
    chunk_size: int = 32,
) -> TwoBatchMoments:
    """Noise scale from redraws of the gradient at two batch sizes, |g|^2 averaged apart.

    Args:
      small_estimate, big_estimate: key -> pytree of float arrays, the gradient averaged over
        `small_batch` and `big_batch` independent samples.
      key: a random key, split into one for either and then one per redraw.
      small_batch, big_batch: numbers of samples, different from each other.
      num_redraws: R >= 2 of either, static.
      chunk_size: redraws computed side by side, static.

    Returns:
      TwoBatchMoments: as `two_batch_noise_scale`, with standard errors propagated from those of
      the two means, which are independent; the quotient counts that its parts share them.

    Raises:
      ValueError: if num_redraws < 2, chunk_size < 1, or both sizes are Python numbers and equal.

    Source: McCandlish et al. 2018, appendix A.1.
    """
    count = check_redraws(num_redraws, 2, chunk_size)

    def squares(estimate: Callable[[Array], Any], some_key: Array) -> Array:
        def squared(one: Array) -> Array:
            return jnp.sum(jnp.stack([jnp.sum(x**2) for x in jax.tree.leaves(estimate(one))]))

        return redraw(squared, some_key, count, chunk_size)

    keys = jax.random.split(key)
    draws = squares(small_estimate, keys[0]), squares(big_estimate, keys[1])
    small, big = (jnp.mean(x) for x in draws)
    small_error, big_error = (jnp.std(x, ddof=1) / math.sqrt(count) for x in draws)
    found = two_batch_noise_scale(small, big, small_batch, big_batch)
    # Both parts are linear in the two means, with these slopes.
    to_norm = -small_batch / (big_batch - small_batch), big_batch / (big_batch - small_batch)
    to_trace = -big_batch * to_norm[0], to_norm[0] * big_batch
    to_scale = [
        (over - found.noise_scale * under) / found.squared_norm
        for over, under in zip(to_trace, to_norm, strict=True)
    ]

    def error(slopes: Sequence[float | Array]) -> Array:
        return jnp.hypot(slopes[0] * small_error, slopes[1] * big_error)

    return TwoBatchMoments(*found, error(to_trace), error(to_norm), error(to_scale))


def ratio_of_means(numerators: Array, denominators: Array) -> Ratio:
    """Mean of the numerators over mean of the denominators, for pairs that are independent.

    Args:
      numerators, denominators: [N] one pair per seed, N >= 2; the two of a pair may depend.

    Returns:
      Ratio, with the delta-method standard error: that of the mean of numerators - ratio *
      denominators, over |mean denominator|. Bias O(1/N); NaN or infinite where that mean is 0.

    Raises:
      ValueError: unless both are [N] with the same N >= 2.

    Source: Cochran 1977, "Sampling Techniques", section 6.4.
    """
    top, bottom = as_float(numerators), as_float(denominators)
    count = top.size
    if top.shape != bottom.shape or top.ndim != 1 or count < 2:
        raise ValueError(
            "numerators and denominators must both be [N] with N at least 2, "
            f"got {top.shape}, {bottom.shape}"
        )
    below = jnp.mean(bottom)
    value = jnp.mean(top) / below
    variance = jnp.sum((top - value * bottom) ** 2) / (count - 1)
    return Ratio(value=value, standard_error=jnp.sqrt(variance / count) / jnp.abs(below))


def _largest(tree: Any) -> Array:
    """Largest absolute value [] in a pytree of arrays; NaN if one of them is."""
    return jnp.max(jnp.stack([jnp.max(jnp.abs(x), initial=0) for x in jax.tree.leaves(tree)]))


def cosine(gradient: Any, direction: Any) -> Array:
    """Cosine [] of the angle between two pytrees of float arrays, each taken as one vector.

    NaN where either is exactly 0. Both are divided by their largest entry first, so that no square
    underflows or overflows. Raises ValueError if structures or shapes differ.
    """

    def shapes(tree: Any) -> tuple[Any, list[tuple[int, ...]]]:
        return jax.tree.structure(tree), [jnp.shape(x) for x in jax.tree.leaves(tree)]

    if shapes(gradient) != shapes(direction):
        raise ValueError(
            "gradient and direction must have the same structure and shapes, "
            f"got {shapes(gradient)}, {shapes(direction)}"
        )
    one, other = _unit(gradient), _unit(direction)
    # No matrix product: accelerators would round it.
    products = [jnp.sum(a * b) for a, b in zip(one, other, strict=True)]
    return jnp.clip(jnp.sum(jnp.stack(products)), -1, 1)


def _unit(tree: Any) -> list[Array]:
    """Leaves of a pytree over its length; NaN for a zero one."""
    size = _largest(tree)
    leaves = [as_float(x) / size for x in jax.tree.leaves(tree)]
    length = jnp.sqrt(jnp.sum(jnp.stack([jnp.sum(x**2) for x in leaves])))
    return [x / length for x in leaves]


def cosine_moments(
    estimate: Callable[[Array], Any],
    direction: Any,
    key: Array,
    num_redraws: int,
    chunk_size: int = 32,
) -> CosineMoments:
    """Cosine of the redraws of `estimate` to a direction, e.g. that of grad log pi(y*).

    Args:
      estimate: key -> pytree of float arrays, one draw of the estimator at frozen parameters.
      direction: a pytree like it, of any length but 0 (else the mean is NaN).
      key: a random key, split into one key per redraw as in `redraw_moments`.
      num_redraws: R >= 2, static.
      chunk_size: redraws computed side by side, static.

    Returns:
      CosineMoments: over the redraws that are not exactly 0, and the share of those that are.

    Raises:
      ValueError: if num_redraws < 2, chunk_size < 1, or the two pytrees differ in shape.

    Source: THEORY.md, section 3.
    """
    count = check_redraws(num_redraws, 2, chunk_size)

    def statistic(one: Array) -> tuple[Array, Array]:
        gradient = estimate(one)
        return cosine(gradient, direction), _largest(gradient) == 0

    cosines, zero = redraw(statistic, key, count, chunk_size)
    num_live = jnp.sum(~zero).astype(cosines.dtype)
    mean = jnp.sum(jnp.where(zero, 0, cosines)) / num_live
    squares = jnp.sum(jnp.where(zero, 0, cosines - mean) ** 2)
    share = jnp.mean(zero, dtype=cosines.dtype)
    return CosineMoments(
        mean=mean,
        standard_error=jnp.where(
            num_live < 2, jnp.nan, jnp.sqrt(squares / num_live / (num_live - 1))
        ),
        zero_share=share,
        zero_standard_error=jnp.sqrt(share * (1 - share) / count),
    )
