"""Which arm of a bandit is best, by what is known of their means: exact to a grid's rounding.

Arms are independent. With densities f_a and distribution functions F_a of the means,
P(A* = a) = int f_a prod_{b != a} F_b, and E[mean_a 1{A* = c}] = int f_c E[mean_a; mean_a <= x]
prod_{b != a, c} F_b (Russo & Van Roy 2018, "Learning to optimize via information-directed
sampling", Algorithm 2). The integrals are Gauss-Legendre sums over PANELS panels of NODES points.

Letters: K arms, P panels, J points of each. Information is in bits.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

PANELS, NODES = 64, 8
SPREADS = 6.0  # of a normal posterior: beyond is 1e-9 of it
TINY = 1e-37  # the least that a distribution function is taken for


def _rule() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [J] in (0, 1), their weights [J], and weights [J, J] of integrals up to each point."""
    at, weights = np.polynomial.legendre.leggauss(NODES)
    powers = np.arange(NODES)
    upto = (at[:, None] ** (powers + 1) - (-1.0) ** (powers + 1)) / (powers + 1)
    return (at + 1) / 2, weights / 2, upto @ np.linalg.inv(at[:, None] ** powers) / 2


POINTS, WEIGHTS, UPTO = _rule()


class Means(NamedTuple):
    """Laws of the means of K arms on a grid."""

    log_masses: Array  # [K, P, J]: log of density times weight; they sum to 1
    log_below: Array  # [K, P, J]: log of the chance to be below the point
    values: Array  # [P, J] or [K, P, J]: the mean at each point


def beta_means(successes: Array, failures: Array) -> Means:
    """Means of Bernoulli arms [K] with densities Beta(successes, failures), both at least 1.

    The grid is uniform in the arcsine of the root of the mean, in which an arm pulled n times is
    known to 1 / (2 sqrt(n)) wherever it lies: good to 1e-4 up to some 10,000 pulls of an arm.
    """
    angle = (np.pi / 2 / PANELS) * (np.arange(PANELS)[:, None] + POINTS)
    sine, cosine = (jnp.asarray(f(angle), jnp.result_type(float)) for f in (np.sin, np.cos))
    a, b = (x[:, None, None] for x in (successes, failures))
    log_density = (2 * a - 1) * jnp.log(sine) + (2 * b - 1) * jnp.log(cosine)
    log_masses = log_density + jnp.log(jnp.asarray(WEIGHTS, log_density.dtype))
    whole = jax.nn.logsumexp(log_masses, axis=(1, 2), keepdims=True)
    log_below = jnp.log(_below(jnp.exp(log_density - whole)))
    return Means(log_masses - whole, log_below, sine**2)


def normal_means(means: Array, spreads: Array) -> Means:
    """Means of arms [K] known as N(means, spreads^2), where the largest of them may lie."""
    low = jnp.max(means - SPREADS * spreads)
    high = jnp.max(means + SPREADS * spreads)
    at = jnp.asarray((np.arange(PANELS)[:, None] + POINTS) / PANELS, means.dtype)
    values = low + (high - low) * at
    scores = (values - means[:, None, None]) / spreads[:, None, None]
    weights = jnp.log(jnp.asarray(WEIGHTS / PANELS, means.dtype) * (high - low))
    norm = jnp.log(spreads)[:, None, None] + 0.5 * jnp.log(2 * jnp.pi)
    log_masses = weights - norm - scores**2 / 2
    log_below = jnp.maximum(jax.scipy.special.log_ndtr(scores), jnp.log(TINY))
    return Means(log_masses, log_below, values)


def _below(density: Array) -> Array:
    """Integrals [..., P, J] of [..., P, J] from the first panel's beginning up to each point.

    In units of a panel. A sum of products: `dot` is rounded to 10 bits on some devices.
    """
    panels = jnp.sum(density * jnp.asarray(WEIGHTS, density.dtype), axis=-1)
    before = jnp.cumsum(panels, axis=-1) - panels
    within = jnp.sum(density[..., None, :] * jnp.asarray(UPTO, density.dtype), axis=-1)
    return jnp.maximum(before[..., None] + within, TINY)


def log_chances(means: Means) -> Array:
    """Log of P(A* = a) [K], nats."""
    others = jnp.sum(means.log_below, axis=0) - means.log_below
    chances = jax.nn.logsumexp(means.log_masses + others, axis=(1, 2))
    return jax.nn.log_softmax(chances)


class Prospect(NamedTuple):
    """What Thompson sampling may expect of its next sample, by its own posterior."""

    regret: Array  # [] of the reward
    information: Array  # [] bits about which arm is best


def bernoulli_prospect(means: Means) -> Prospect:
    """Expected regret and information gain of a pull by Thompson sampling, rewards 0 or 1.

    I(A*; (A, Y)) = sum_a P(a) sum_c P(c) KL(Bern(E[mean_a | A* = c]) || Bern(E mean_a)), and the
    regret is sum_a P(a) (E[mean_a | A* = a] - E mean_a): Russo & Van Roy (2016), "An
    information-theoretic analysis of Thompson sampling", section 5. Their ratio regret^2 /
    information is at most K/2 in nats, K ln(2)/2 in bits.
    """
    masses = jnp.exp(means.log_masses)
    expected = jnp.sum(masses * means.values, axis=(1, 2))
    # Below x a mean is, on average, this; divided by panels as `log_below` is.
    density = masses / jnp.asarray(WEIGHTS, masses.dtype)
    conditional = _below(density * means.values) / jnp.exp(means.log_below)
    others = jnp.sum(means.log_below, axis=0) - means.log_below
    best = jnp.exp(jax.nn.log_softmax(means.log_masses + others, axis=(1, 2)))  # [K, P, J] of c
    given = jnp.sum(best * conditional[:, None], axis=(2, 3))  # [a, c]
    own = jnp.sum(best * means.values, axis=(1, 2))
    same = jnp.eye(len(own), dtype=bool)
    given = jnp.where(same, own, given)
    chances = jnp.exp(log_chances(means))
    bits = _bernoulli_divergence(given, expected[:, None]) / jnp.log(2.0)
    return Prospect(
        regret=jnp.sum(chances * (own - expected)),
        information=jnp.sum(chances[:, None] * chances * bits),
    )


def _bernoulli_divergence(p: Array, q: Array) -> Array:
    """KL(Bern(p) || Bern(q)), nats: a sum of two terms that are not negative."""
    return q * _excess((p - q) / q) + (1 - q) * _excess((q - p) / (1 - q))


def _excess(t: Array) -> Array:
    """(1 + t) log(1 + t) - t for t >= -1, to its own rounding near 0."""
    small = jnp.abs(t) < 0.05
    near = jnp.where(small, t, 0.0)
    # t^2/2 - t^3/6 + t^4/12 - t^5/20 + t^6/30: the next is 2e-10 of the first.
    series = near**2 * (0.5 - near * (1 / 6 - near * (1 / 12 - near * (1 / 20 - near / 30))))
    far = jnp.where(small, 1.0, 1 + t)
    return jnp.where(small, series, jax.scipy.special.xlogy(far, far) - t)
