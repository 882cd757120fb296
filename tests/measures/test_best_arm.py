"""Which arm is best: against exact fractions, and quadrature in float64."""

from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from simrl.measures import best_arm
from tests.oracles import posteriors

SMALL = [(1, 1), (4, 2), (2, 5)], [(3, 1), (1, 3), (2, 2)], [(9, 2), (1, 1), (7, 3)]
LARGE = {
    "pulled": ([801.0, 90.0, 760.0], [200.0, 40.0, 205.0]),
    "near one": ([1000.0, 1.0, 900.0], [1.0, 1.0, 2.0]),
    "near zero": ([1.0, 1.0, 2.0], [1000.0, 1000.0, 500.0]),
    "often": ([5050.0, 40.0, 4930.0], [4950.0, 60.0, 5070.0]),
}
NORMAL = {
    "alike": ([0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]),
    "one known": ([1.5, 0.2, 1.1, -3.0], [0.03, 0.5, 0.4, 0.02]),
    "narrow": ([4.0, 3.97, 3.9, 0.0], [0.02, 0.03, 0.05, 1.0]),
}


@pytest.fixture(scope="module")
def found():
    """Posteriors [N, 3] -> chances [N, 3] and prospects [N], one program for all of them."""

    @jax.jit
    @jax.vmap
    def measure(successes, failures):
        means = best_arm.beta_means(successes, failures)
        return jnp.exp(best_arm.log_chances(means)), best_arm.bernoulli_prospect(means)

    small = [np.transpose(arms) for arms in SMALL]
    both = np.float32([*small, *LARGE.values()])
    return jax.tree.map(np.asarray, measure(both[:, 0], both[:, 1]))


@pytest.mark.parametrize("case", range(len(SMALL)))
def test_few_pulls_against_fractions(found, case):
    chances, _ = posteriors.best(SMALL[case])
    assert sum(chances) == 1
    np.testing.assert_allclose(found[0][case], np.float64(chances), rtol=2e-6)
    regret, bits = posteriors.prospect(SMALL[case])
    prospect = jax.tree.map(lambda leaf: leaf[case], found[1])
    np.testing.assert_allclose(prospect.regret, regret, rtol=1e-5)
    np.testing.assert_allclose(prospect.information, bits, rtol=1e-4)
    # The bound of Russo & Van Roy (2016), K/2 in nats.
    assert prospect.regret**2 <= prospect.information * len(SMALL[case]) / 2 * np.log(2)


def moments_by_quadrature(laws, low, high):
    """P(A* = c) [K] and E[mean_a | A* = c] [K, K], a dense trapezoid in float64."""
    x = np.linspace(low, high, 200_001)
    density = np.array([law.pdf(x) for law in laws])
    below = np.array([law.cdf(x) for law in laws])
    partial_means = scipy.integrate.cumulative_trapezoid(density * x, x, initial=0)
    num = range(len(laws))
    others = np.array([np.prod(np.delete(below, c, axis=0), axis=0) for c in num])
    chances = scipy.integrate.trapezoid(density * others, x)
    given = np.zeros((len(laws), len(laws)))
    for a in num:
        for c in num:
            rest = np.prod([below[b] for b in num if b not in (a, c)], axis=0)
            inside = x * density[c] * others[c] if a == c else density[c] * partial_means[a] * rest
            given[a, c] = scipy.integrate.trapezoid(inside, x) / chances[c]
    return chances, given


@pytest.mark.parametrize("name", LARGE)
def test_many_pulls_against_quadrature(found, name):
    case = len(SMALL) + list(LARGE).index(name)
    a, b = (np.array(x) for x in LARGE[name])
    laws = [scipy.stats.beta(*arm) for arm in zip(a, b, strict=True)]
    chances, given = moments_by_quadrature(laws, 0.0, 1.0)
    np.testing.assert_allclose(chances.sum(), 1, rtol=1e-4)
    np.testing.assert_allclose(found[0][case], chances / chances.sum(), rtol=1e-3)
    means = a / (a + b)
    regret = chances @ (np.diag(given) - means)
    bits = scipy.special.rel_entr([given, 1 - given], [means[:, None], 1 - means[:, None]] * 1)
    bits = chances @ bits.sum(axis=0) @ chances / np.log(2)
    np.testing.assert_allclose(found[1].regret[case], regret, rtol=1e-3)
    np.testing.assert_allclose(found[1].information[case], bits, rtol=5e-3)


def test_normal_means_against_quadrature():
    measure = jax.jit(jax.vmap(lambda m, s: best_arm.log_chances(best_arm.normal_means(m, s))))
    given = np.float32(list(NORMAL.values()))
    for found, (mean, spread) in zip(measure(given[:, 0], given[:, 1]), given, strict=True):
        mean, spread = np.float64(mean), np.float64(spread)
        low, high = (np.max(mean + side * spread) for side in (-9, 9))
        x = np.linspace(low, high, 400_001)
        below = scipy.stats.norm.cdf(x, mean[:, None], spread[:, None])
        density = scipy.stats.norm.pdf(x, mean[:, None], spread[:, None])
        others = [np.prod(np.delete(below, c, axis=0), axis=0) for c in range(len(mean))]
        wanted = scipy.integrate.trapezoid(density * others, x)
        np.testing.assert_allclose(np.exp(found), wanted, rtol=1e-4, atol=1e-7)
    two = measure(np.float32([[0.3, 0.1]]), np.float32([[0.5, 1.2]]))
    wanted = scipy.stats.norm.cdf(0.2 / np.hypot(0.5, 1.2))
    np.testing.assert_allclose(np.exp(two[0, 0]), wanted, rtol=1e-5)


def test_small_divergences_keep_their_digits():
    chance = np.float32(0.3)
    shift = np.float32([1e-7, 1e-5, -1e-3, 1e-2, 0.02, -0.03, 0.3, -0.3])
    found = jax.jit(best_arm.bernoulli_divergence)(chance, shift)
    with localcontext(prec=40):
        p = [Decimal(float(chance)), 1 - Decimal(float(chance))]
        moved = [Decimal(float(d)) for d in shift]
        each = [(p[0] + d, p[1] - d) for d in moved]
        terms = [[x * (x / y).ln() if x else 0 for x, y in zip(q, p, strict=True)] for q in each]
        wanted = [float(sum(both)) for both in terms]
    np.testing.assert_allclose(found, wanted, rtol=2e-6)
