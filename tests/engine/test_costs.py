"""What the first updates cost, count and tell is the same on the fused path, exactly."""

import jax
import numpy as np
import pytest

import simrl
from simrl.engine import fused, train
from simrl.measures import phases
from tests.engine.stretch import after, lanes_of

LANES, GROUP, UPDATES = 64, 4, 8
SGD = simrl.Optimizer("sgd", {"learning_rate": 2.0})
SPECS = {
    "filtering": (
        simrl.Bandit("one_right", 4),
        simrl.FilteredPolicyGradient("running_mean", GROUP, 2, 5, SGD),
    ),
    "filtering of several": (
        simrl.Sequence(2, 2, "exact", num_prompts=3),
        simrl.FilteredPolicyGradient("leave_one_out", GROUP, 2, 5, SGD),
    ),
    "several right": (
        simrl.Sequence(2, 3, "exact", num_prompts=2, num_right=3),
        simrl.PolicyGradient("running_mean", GROUP, 3, SGD),
    ),
    "right arms": (
        simrl.Bandit("one_right", 5, num_right=2),
        simrl.PolicyGradient("leave_one_out", GROUP, 1, SGD),
    ),
    "distillation": (
        simrl.Sequence(2, 2, "exact", num_prompts=3),
        simrl.Distillation("forward", GROUP, 2, SGD),
    ),
    "hints": (
        simrl.Sequence(2, 3, "exact"),
        simrl.PrefixReplay("running_mean", 0.5, GROUP, 3, SGD),
    ),
    "hints of several": (
        simrl.Sequence(2, 2, "exact", num_prompts=3),
        simrl.PrefixReplay("leave_one_out", 0.75, GROUP, 2, SGD),
    ),
    "ucb1": (simrl.Bandit("gaussian", 3), simrl.UCB1()),
}
# A draw may flip by the rounding of its law: of so few, none does
LUCK = {"filtering": {"samples", "tokens", "flops"}, "hints": {"tokens"}}
# what it decides that an update costs


@pytest.fixture(scope="module", params=SPECS)
def both(request):
    """What became of lanes in one stretch by either path, and the name of their learner."""
    world, learner = SPECS[request.param]
    one_phase = simrl.Phases(low=-1e6, high=1e6, num=1)  # no lane leaves it
    thresholds = (0.5, 0.8)
    spec = simrl.Spec(world, learner, phases=one_phase, thresholds=thresholds)
    setup, jobs = lanes_of(spec, LANES)

    @jax.jit
    def updates(jobs):
        return [after(setup, UPDATES, path, jobs)[:2] for path in (train.path, fused.path)]

    return jax.tree.map(np.asarray, updates(jobs)), request.param


def test_counts_and_sums_are_those_of_the_plain_path(both):
    ((plain, told), (run, heard)), name = both
    for mine, theirs in ((run.spent, plain.spent), (run.hits.cost, plain.hits.cost)):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(run.step, UPDATES)
    np.testing.assert_array_equal(run.hits.step, plain.hits.step)
    np.testing.assert_array_equal(heard.pop("success"), told.pop("success"))
    kind = name.split()[0]
    untold = kind in ("hints", "ucb1")
    bits = set() if untold else {"expected_update", "realised_update"}
    assert set(heard) == set(told) == bits
    for key in heard:
        np.testing.assert_allclose(heard[key], told[key], 1e-5, 1e-6, err_msg=key)
    np.testing.assert_allclose(run.odds, plain.odds, 1e-5, 1e-5)
    assert (plain.hits.step > 1).any()
    words = np.moveaxis(plain.spent.sum(axis=0), -1, 0)  # counts are far below 2^32
    spent = dict(zip(train.COUNTERS, phases.count_of(words).T, strict=True))
    varying = {name for name in ("samples", "tokens", "flops") if np.ptp(spent[name]) > 0}
    assert varying == LUCK.get(kind, set())
    assert (spent["dead"] > 0).any() == (bool(varying) or "right" in name)
