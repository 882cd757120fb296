"""Weights of rewards that stand for several rollouts each are those of the rollouts, one by one."""

import jax.numpy as jnp
import numpy as np
import pytest

from simrl.learners import advantages
from simrl.sweeps import spec as specs
from simrl.types import Rollout

# [K, L]: of five rollouts at each position
TIMES = np.array([[3, 1, 0, 0], [0, 4, 2, 2], [2, 0, 3, 3]])
SIZE = 5


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "name", [name for name, kind in specs.ADVANTAGES.items() if not getattr(kind, "oracle", False)]
)
def test_a_tally_is_the_weights_of_its_rollouts(name, binary):
    spec = specs.ADVANTAGES[name]
    if not binary and getattr(spec, "binary_only", False):
        pytest.skip("for rewards of 0 or 1")
    # Those met are equal at the last two, dead groups, beside a larger and a smaller one not met.
    values = np.array([[0.0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 0, 1]])
    if not binary:
        values = values * 0.7 + np.array([0.1, 0.2, 1 / 3, 1 / 3])
    credit = np.stack([np.repeat(values[:, t], TIMES[:, t]) for t in range(4)], axis=1)
    built = spec.build(SIZE, 4)
    start = built.init()
    if isinstance(start, advantages.Running):
        start = advantages.Running(jnp.array([0.3, 0.1, 0.6, 0.2]), jnp.float32(10))
    rollout = Rollout(0, None, jnp.float32(credit), None, None)
    kept, weights = built.weights(start, rollout)
    mine, found = built.tally(start, jnp.float32(values), jnp.float32(TIMES))
    for one, other in zip(mine, kept, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    wanted = np.asarray(weights)
    assert np.ptp(wanted) > 0
    for t in range(4):
        expanded = np.repeat(np.asarray(found)[:, t], TIMES[:, t])
        np.testing.assert_allclose(expanded, wanted[:, t], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(expanded == 0, wanted[:, t] == 0)
