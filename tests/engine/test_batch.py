"""What comes back from an accelerator in one piece is what lies in the host's memory."""

import numpy as np
import pytest

import simrl
from simrl.engine import batch, lanes

SPECS = {
    "steps, beliefs": simrl.Spec(
        simrl.Bandit("gaussian", 3),
        simrl.Supervised(),
        max_steps=30,
        log_points=4,
        keep_beliefs=True,
    ),
    "none can stop, several looks in a launch": simrl.Spec(
        simrl.Bandit("one_right", 4),
        simrl.Supervised(),
        max_steps=30,
        log_points=4,
        stop_pass_rate=1.0,
    ),
    "jumps, some stop": simrl.Spec(
        simrl.Bandit("one_right", 40),
        simrl.PolicyGradient("none", 1),
        engine="jump",
        max_steps=4000,
        log_points=3,
        stop_pass_rate=0.5,
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_packed_or_not_is_the_same(name, monkeypatch):
    spec, seeds = SPECS[name], range(3, 303)
    monkeypatch.setattr(lanes, "WIDTHS", (32, 32))  # so that lanes are packed as seeds stop
    near = simrl.run(spec, seeds, devices=1)
    asked = []
    monkeypatch.setattr(batch, "_is_far", lambda leaf: asked.append(leaf) is None)
    far = simrl.run(spec, seeds, devices=1)
    assert asked
    assert set(near) == set(far)
    for variable in near:
        one, other = near[variable].values, far[variable].values
        assert one.dtype == other.dtype, variable
        np.testing.assert_array_equal(one, other, err_msg=variable)
