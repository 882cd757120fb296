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
    # Twice: of thousands of pulls the first sum is in the thousands, and rounded to their digits.
    for _ in range(2):
        whole = jax.nn.logsumexp(log_masses, axis=(1, 2), keepdims=True)
        log_masses = log_masses - whole
    below = jnp.maximum(_below(jnp.exp(log_masses)), TINY)
    return Means(log_masses, jnp.log(below), sine**2)


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


def _below(masses: Array) -> Array:
    """Sums [..., P, J] of masses [..., P, J] from the beginning up to each point.

    A sum of products: `dot` is rounded to 10 bits on some devices.
    """
    panels = jnp.sum(masses, axis=-1)
    before = jnp.cumsum(panels, axis=-1) - panels
    shares = jnp.asarray(UPTO / WEIGHTS, masses.dtype)
    return before[..., None] + jnp.sum(masses[..., None, :] * shares, axis=-1)


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
    whole = jnp.sum(masses, axis=(1, 2))
    expected = jnp.sum(masses * means.values, axis=(1, 2)) / whole
    excess = means.values - expected[:, None, None]  # [K, P, J]: what is small keeps its digits
    # Once more about that mean: summed one by one, float32 would be off by more than the regret.
    rest = jnp.sum(masses * excess, axis=(1, 2)) / whole
    expected, excess = expected + rest, excess - rest[:, None, None]
    # What a mean is on average above its own, given that it is below a point.
    lower = _below(masses * excess) / jnp.exp(means.log_below)
    others = jnp.sum(means.log_below, axis=0) - means.log_below
    best = jax.nn.softmax(means.log_masses + others, axis=(1, 2))  # of the mean of c if it is best
    shift = jnp.sum(best * lower[:, None], axis=(2, 3))  # [a, c]
    own = jnp.sum(best * excess, axis=(1, 2))
    shift = jnp.where(jnp.eye(len(own), dtype=bool), own, shift)
    chances = jnp.exp(log_chances(means))
    nats = bernoulli_divergence(expected[:, None], shift)
    return Prospect(
        regret=jnp.sum(chances * own),
        information=jnp.sum(chances[:, None] * chances * nats) / jnp.log(2.0),
    )


def bernoulli_divergence(chance: Array, shift: Array) -> Array:
    """KL(Bern(chance + shift) || Bern(chance)), nats, elementwise; two terms, neither negative."""
    other = 1 - chance
    return chance * _excess(shift / chance) + other * _excess(-shift / other)


def _excess(t: Array) -> Array:
    """(1 + t) log(1 + t) - t for t >= -1, to its own rounding near 0."""
    small = jnp.abs(t) < 0.3
    near, far = jnp.where(small, t, 0.0), jnp.where(small, 0.0, t)
    # t^2/2 - t^3/6 + ... = sum over n of (-t)^n / (n (n - 1)): to n = 14, 1e-8 of the first.
    series = jnp.zeros_like(t)
    for n in range(14, 1, -1):
        series = 1 / (n * (n - 1)) - near * series
    return jnp.where(small, near**2 * series, jax.scipy.special.xlog1py(1 + far, far) - far)
