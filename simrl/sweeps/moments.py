"""Means and covariances of pairs over seeds, which add up over blocks of seeds.

All that tables print of a mean or of a ratio of two sums follows from how many seeds count, a
reference ratio, the means of the denominator and of the residual, numerator - reference x
denominator, and their sums of squared deviations and of products. Those of two sets of seeds merge
into those of both (Chan, Golub and LeVeque 1983, section 3), so that a million seeds take the room
of one block. The reference is near the ratio: without it a spread of 1e-9 of it would be lost.
"""

import numpy as np

FIELDS = (
    "count",
    "reference",
    "residual",
    "denominator",
    "squared_residuals",
    "products",
    "squared_denominators",
)


@np.errstate(all="ignore")
def of_pair(top: np.ndarray, bottom: np.ndarray | float, used: np.ndarray) -> np.ndarray:
    """Returns moments [P, 7] (`FIELDS`) of values [N, P], each over the seeds `used` [N, P].

    A mean is a ratio whose denominator is 1.
    """
    count = used.sum(axis=0)
    top, bottom = np.where(used, top, 0.0), np.where(used, bottom, 0.0)
    reference = top.sum(axis=0) / bottom.sum(axis=0)
    reference = np.where(np.isfinite(reference), reference, 0.0)
    means, rest = [], []
    for values in (top - reference * bottom, bottom):
        means.append(values.sum(axis=0) / np.maximum(count, 1))
        rest.append(np.where(used, values - means[-1], 0.0))
    sums = [np.einsum("np,np->p", rest[i], rest[j]) for i, j in ((0, 0), (0, 1), (1, 1))]
    return np.stack([count, reference, *means, *sums], axis=-1)


@np.errstate(all="ignore")
def merged(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the moments [..., 7] of the seeds of both, with the reference of the larger set."""
    larger = (one[..., :1] >= other[..., :1], one, other)
    one, other = np.where(*larger), np.where(larger[0], other, one)
    other = _about(other, one[..., 1])
    count = one[..., 0] + other[..., 0]
    share = np.where(count > 0, other[..., 0] / count, 0.0)
    step = other[..., 2:4] - one[..., 2:4]
    between = one[..., 0] * share
    products = [step[..., i] * step[..., j] * between for i, j in ((0, 0), (0, 1), (1, 1))]
    means = one[..., 2:4] + step * share[..., None]
    sums = one[..., 4:] + other[..., 4:] + np.stack(products, axis=-1)
    return np.concatenate([count[..., None], one[..., 1:2], means, sums], axis=-1)


def _about(pairs: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The moments [..., 7] with another reference [...]."""
    count, old, residual, bottom, squares, products, others = np.moveaxis(pairs, -1, 0)
    step = old - reference
    squares = squares + 2 * step * products + step**2 * others
    parts = residual + step * bottom, bottom, squares, products + step * others, others
    return np.stack([count, reference, *parts], axis=-1)


@np.errstate(all="ignore")
def ratio(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ratios, their standard errors and how many seeds count, [...] of moments [..., 7].

    The ratio estimator of `pooled_ratio`; NaN where it is undefined.
    """
    count, reference, residual, bottom = np.moveaxis(pairs[..., :4], -1, 0)
    defined = (count > 0) & (bottom != 0) & np.isfinite(bottom)
    value = np.where(defined, reference + residual / bottom, np.nan)
    squares = np.maximum(_about(pairs, value)[..., 4], 0.0)
    error = np.sqrt(squares / (count - 1) / count) / np.abs(bottom)
    certain = (count > 1) & np.isfinite(value)
    return value, np.where(certain, error, np.nan), count
