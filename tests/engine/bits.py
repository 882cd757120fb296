"""What it means that results are the same bits."""

import numpy as np

import simrl


def assert_same_bits(one, other):
    assert set(one) == set(other)
    for name in one.data_vars:
        a, b = one[name].values, other[name].values
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), name


def assert_jumps_keep_their_bits(spec):
    """Alone and in company; the exception that simrl/README.md names holds to rounding."""
    alone = simrl.run(spec, range(300, 340), devices=2)
    company = simrl.run(spec, range(250, 410), devices=1).sel(seed=list(range(300, 340)))
    for name in alone.data_vars:
        if name not in ("phase_expected_update", "phase_realised_update"):
            assert alone[name].values.tobytes() == company[name].values.tobytes(), name
        np.testing.assert_allclose(alone[name].values, company[name].values, rtol=1e-6)
