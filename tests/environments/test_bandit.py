"""The arms of a bandit."""

import jax
import numpy as np
import pytest

import simrl


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli"])
def test_arms_are_the_same_numbers_in_float64(kind):
    """Words have 32 bits whatever the floats: of 64 they would be no normals."""
    world, key = simrl.Bandit(kind, 5).build(), jax.random.key(1)
    single = np.asarray(world.init(key))
    with jax.enable_x64(True):
        double = np.asarray(world.init(key))
    np.testing.assert_allclose(double, single, rtol=1e-6)
    assert np.ptp(single) > 0
