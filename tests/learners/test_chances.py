"""Which arm is best, of many seeds at once: exact fractions, closed forms, and no number lost."""

import jax
import numpy as np
import scipy.special

from simrl.learners import chances
from simrl.measures.best_arm import TINY
from tests.oracles import posteriors

ARMS = [(1, 1), (4, 2), (2, 5)], [(3, 1), (1, 3), (2, 2)], [(9, 2), (1, 1), (7, 3)]


def test_beta_posteriors_in_fractions():
    successes, failures = np.moveaxis(np.float32(ARMS), (0, 1, 2), (2, 1, 0))
    # Beside them, an arm that was pulled a million times.
    often = np.float32([[1e6], [1.0], [3.0]]), np.float32([[1.0], [1e6], [2.0]])
    given = (np.hstack(pair) for pair in zip((successes, failures), often, strict=True))
    found = np.exp(jax.jit(chances.beta)(*given))
    wanted = np.float64([posteriors.best(arms)[0] for arms in ARMS]).T
    np.testing.assert_allclose(found[:, :-1], wanted, rtol=2e-6)
    np.testing.assert_allclose(found[:, -1], [1, 0, 0], atol=1e-5)


def test_two_normal_posteriors_in_closed_form():
    means = np.float32([[0.3, 4.0, 0.0, 1000.0], [0.1, 3.97, 0.0, -1000.0]])
    spreads = np.float32([[0.5, 0.02, 1.0, 1.0], [1.2, 0.03, 1.0, 1.0]])
    found = jax.jit(chances.normal)(means, spreads)
    assert np.all(np.isfinite(found))
    first = scipy.special.ndtr((means[0] - means[1]) / np.hypot(*spreads))
    np.testing.assert_allclose(np.exp(found), [first, 1 - first], rtol=1e-4, atol=1e-30)
    np.testing.assert_allclose(np.exp(found[0, 0]), first[0], rtol=1e-5)


def test_what_lies_below_keeps_its_digits():
    scores = np.float32(np.linspace(-20, 20, 4001))
    wanted = np.maximum(scipy.special.log_ndtr(np.float64(scores)), np.log(TINY))
    errors = np.abs(chances.log_below(scores) - wanted)
    assert np.max(errors / np.maximum(1, np.abs(wanted))) < 4e-7
