"""What a pool is made from."""

import jax
import numpy as np
import pytest

from simrl.sweeps import pools


@pytest.mark.parametrize("base_seed", [0, 7, 2**31 + 5, 2**32 - 1, 2**32 + 3])
def test_the_key_of_all_streams_is_that_of_jax(base_seed):
    with jax.default_prng_impl("rbg"):  # whatever the default is
        found = pools.streams_of(base_seed)
    wanted = jax.random.key(base_seed, impl="threefry2x32")
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(wanted))
