"""One stretch of updates as the engine makes it, from the start, for tests of its paths."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from simrl import keys
from simrl.engine import lanes, observe, stretches, train
from simrl.sweeps import pools
from simrl.sweeps import spec as specs


def lanes_of(spec, num):
    """What programs of a spec are made for, and its first seeds in so many lanes."""
    spec = specs.resolved(spec)
    setup, _, _ = pools._setup(spec, lanes.mesh_of(1))

    def repeated(leaf):
        return jnp.asarray(np.repeat(np.moveaxis(np.asarray(leaf), 0, -1), num, -1))

    jobs = jax.tree.map(repeated, pools._one_job(spec))
    return setup, jobs._replace(seed=jnp.arange(num, dtype=jnp.uint32))


def after(setup, num_updates, path, jobs):
    """What a path makes of lanes in one stretch: the run, what it was told, a memo, who ended."""
    streams = jax.vmap(keys.streams, (None, 0))(jax.random.key(0), jobs.seed)
    given = train.Given(jobs.spec, jobs.rules, streams)
    first = setup.build(jax.tree.map(lambda leaf: leaf[..., 0], jobs.spec))
    cell = train.Cell(setup.build, setup.plan, first)
    start = cell.over_lanes(partial(stretches.start, plan=setup.plan))
    run = start(jobs.spec, given).run
    known = cell.over_lanes(observe.truth)(jobs.spec, run.task)
    begin = cell.over_lanes(partial(stretches._begin, plan=setup.plan))
    stretch = begin(given.spec, given, known, run, jnp.full_like(run.step, num_updates))
    return path.updates(cell, given, known, run, stretch, path.prepare(cell, given, run))
