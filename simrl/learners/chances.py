"""Which arm of a bandit is best, of many seeds at once: simrl.measures.best_arm on columns.

The same grid and the same floors, gone through panel by panel with the lanes innermost, so that no
array [K, P, J, N] exists.

Letters besides those of simrl.measures.best_arm: N lanes.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl import columns
from simrl.measures.best_arm import PANELS, POINTS, SPREADS, TINY, UPTO, WEIGHTS

Array = jax.Array

AT = (np.arange(PANELS)[:, None] + POINTS) / PANELS  # [P, J] in (0, 1)
SHARES = UPTO / WEIGHTS  # [J, J]: of masses, in what lies below each point of their panel
_LOG_ERFC = (  # of Press et al.'s fit, the highest power first
    *(0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807),
    *(-0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223),
)


class Total(NamedTuple):
    """Sums of exponentials: exp(top) sums."""

    top: Array  # [K, N] the largest exponent
    sums: Array  # [K, N]


def normal(means: Array, spreads: Array) -> Array:
    """Logs of the chances [K, N] to be best, nats, of means known as N(means, spreads^2)."""
    low, high = (_largest(means + sign * SPREADS * spreads) for sign in (-1, 1))
    norm = jnp.log(high - low) - jnp.log(spreads) - 0.5 * math.log(2 * math.pi)

    def terms(_: None, at: Array) -> tuple[None, tuple[Array, Array]]:
        values = low + (high - low) * at[:, None]
        scores = (values - means[:, None]) / spreads[:, None]
        weights = jnp.asarray(np.log(WEIGHTS / PANELS), means.dtype)[:, None]
        return None, (weights + norm[:, None] - scores**2 / 2, log_below(scores))

    return _log_chances(terms, None, means, AT)


def beta(successes: Array, failures: Array) -> Array:
    """The same of means with densities Beta(successes, failures) [K, N], both at least 1."""
    a, b = 2 * successes - 1, 2 * failures - 1
    angle = np.pi / 2 * AT
    grid = np.log(np.sin(angle)), np.log(np.cos(angle))
    weights = jnp.asarray(np.log(WEIGHTS), a.dtype)[:, None]
    top = (a * jnp.log(a / (a + b)) + b * jnp.log(b / (a + b))) / 2  # of the log density

    def log_masses(sine: Array, cosine: Array) -> Array:
        return a[:, None] * sine[:, None] + b[:, None] * cosine[:, None] - top[:, None] + weights

    def add(total: Total, at: tuple[Array, Array]) -> tuple[Total, None]:
        return _with(total, log_masses(*at)), None

    whole = _log(jax.lax.scan(add, _nothing(a), _as(grid, a.dtype))[0])

    def terms(before: Array, at: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        logs = log_masses(*at) - whole[:, None]
        masses = jnp.exp(logs)
        within = [columns.total(masses * share[:, None]) for share in _as(SHARES, a.dtype)]
        below = jnp.maximum(before[:, None] + jnp.stack(within, axis=1), TINY)
        return before + columns.total(masses), (logs, jnp.log(below))

    return _log_chances(terms, jnp.zeros_like(a), a, grid)


def log_below(scores: Array) -> Array:
    """log Phi of scores, but at least log(TINY); to 4e-7 of itself, or of 1.

    Press et al. (1992), "Numerical Recipes", section 6.2: erfc(x) = t exp(-x^2 + polynomial(t)),
    t = 1 / (1 + x/2). With that of jax the integrals take 50 times as long on CPU.
    """
    if scores.dtype != jnp.float32:
        return jnp.maximum(jax.scipy.special.log_ndtr(scores), math.log(TINY))
    x = jnp.abs(scores) * jnp.float32(math.sqrt(0.5))
    t = 1 / (1 + x / 2)
    power = jnp.zeros_like(t)
    for coefficient in _LOG_ERFC:
        power = power * t + jnp.float32(coefficient)
    power, low = power - x * x, scores < 0
    found = jnp.log(jnp.where(low, t / 2, 1 - t / 2 * jnp.exp(power)))
    return jnp.maximum(found + jnp.where(low, power, 0), math.log(TINY))


def _log_chances(
    terms: Callable[[Any, Any], tuple[Any, tuple[Array, Array]]],
    start: Any,
    like: Array,
    grid: Any,
) -> Array:
    """Log of the integrals [K, N] over the grid, less that of their sum.

    `terms(carry, at) -> (carry, (log_masses, log_below))` of a panel, [K, J, N] each.
    """

    def add(carry: tuple[Any, Total], at: Any) -> tuple[tuple[Any, Total], None]:
        carried, (log_masses, below) = terms(carry[0], at)
        logs = log_masses + (columns.total(below[None])[0] - below)
        return (carried, _with(carry[1], logs)), None

    chances = _log(jax.lax.scan(add, (start, _nothing(like)), _as(grid, like.dtype))[0][1])
    above = chances - _largest(chances)
    return above - jnp.log(columns.total(jnp.exp(above)[None])[0])


def _nothing(like: Array) -> Total:
    return Total(jnp.full_like(like, -jnp.inf), jnp.zeros_like(like))


def _with(total: Total, logs: Array) -> Total:
    """The total and terms [K, J, N]."""
    top = jnp.maximum(total.top, columns.largest(logs))
    new = columns.total(jnp.exp(logs - top[:, None]))
    return Total(top, total.sums * jnp.exp(total.top - top) + new)


def _log(total: Total) -> Array:
    return total.top + jnp.log(total.sums)


def _largest(x: Array) -> Array:
    """Maximum [N] over arms [K, N]."""
    return columns.largest(x[None])[0]


def _as(grid: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), grid)
