"""What the first updates cost, count and tell is the same on the fused path, exactly."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.engine import fused, lanes, observe, stretches, train
from simrl.measures import phases
from simrl.sweeps import pools
from simrl.sweeps import spec as specs

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
    "distillation": (
        simrl.Sequence(2, 2, "exact", num_prompts=3),
        simrl.Distillation("forward", GROUP, 2, SGD),
    ),
}  # a draw may flip by the rounding of its law: of so few, none does


@pytest.fixture(scope="module", params=SPECS)
def both(request):
    """What became of lanes in one stretch by either path, and the name of their learner."""
    world, learner = SPECS[request.param]
    one_phase = simrl.Phases(num=1)  # no lane leaves it
    thresholds = (0.5, 0.8)
    spec = simrl.Spec(world, learner, phases=one_phase, thresholds=thresholds)
    setup, _, _ = pools._setup(specs.resolved(spec), lanes.mesh_of(1))
    one = pools._one_job(specs.resolved(spec))
    jobs = jax.tree.map(
        lambda leaf: jnp.asarray(np.repeat(np.moveaxis(np.asarray(leaf), 0, -1), LANES, -1)), one
    )
    jobs = jobs._replace(seed=jnp.arange(LANES, dtype=jnp.uint32))

    @jax.jit
    def updates(jobs):
        streams = jax.vmap(keys.streams, (None, 0))(jax.random.key(0), jobs.seed)
        given = train.Given(jobs.spec, jobs.rules, streams)
        first = setup.build(jax.tree.map(lambda leaf: leaf[..., 0], jobs.spec))
        cell = train.Cell(setup.build, setup.plan, first)
        start = cell.over_lanes(partial(stretches.start, plan=setup.plan))
        run = start(jobs.spec, given).run
        known = cell.over_lanes(observe.truth)(jobs.spec, run.task)
        begin = cell.over_lanes(partial(stretches._begin, plan=setup.plan))
        stretch = begin(given.spec, given, known, run, jnp.full_like(run.step, UPDATES))
        of_path = partial(_after, cell, given, known, run, stretch)
        return of_path(train.path), of_path(fused.path)

    return jax.tree.map(np.asarray, updates(jobs)), request.param


def _after(cell, given, known, run, stretch, path):
    return path.updates(cell, given, known, run, stretch, path.prepare(cell, given, run))[:2]


def test_counts_and_sums_are_those_of_the_plain_path(both):
    ((plain, told), (run, heard)), name = both
    for mine, theirs in ((run.spent, plain.spent), (run.hits.cost, plain.hits.cost)):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(run.step, UPDATES)
    np.testing.assert_array_equal(run.hits.step, plain.hits.step)
    np.testing.assert_array_equal(heard.pop("success"), told.pop("success"))
    assert set(heard) == set(told) == {"expected_update", "realised_update"}
    for key in heard:
        np.testing.assert_allclose(heard[key], told[key], 1e-5, 1e-6, err_msg=key)
    np.testing.assert_allclose(run.odds, plain.odds, 1e-5, 1e-5)
    assert (plain.hits.step > 1).any()
    words = np.moveaxis(plain.spent.sum(axis=0), -1, 0)  # counts are far below 2^32
    spent = dict(zip(train.COUNTERS, phases.count_of(words).T, strict=True))
    whole = spent["samples"].max() == spent["samples"].min()
    assert whole == (name == "distillation")  # else luck decides what an update costs
    assert (spent["dead"] > 0).any() != whole
