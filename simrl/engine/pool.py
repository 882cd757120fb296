"""Any number of seeds and conditions through one compiled program: the host's part of a run.

Seeds stop at very different times. Between log points those that are still going are packed into
as few groups of lanes as hold them; the last measures of the others are theirs for good.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from simrl import keys
from simrl.engine import clock, lanes, observe, probes, train
from simrl.engine.lanes import Jobs, Setup
from simrl.measures import phases
from simrl.types import Array, Trial

MAX_SEEDS = 8192  # in a pool: what an interrupted run repeats
MAX_BYTES = 2**28  # of their states

Observed = dict[str, np.ndarray]
# Seeds on the first axis: `look.*` [S, T] measures at log points; `phase.*` [S, P] sums, float64
# or uint64; `hit.*` [S, H]; `total.*` [S]; `stopped` [S]; `look.belief` [S, T, M, L, V] nats, if
# asked for; `full` [S], with lumps: throw these seeds away.


class Schedule(NamedTuple):
    """When to look, and whether to keep the beliefs."""

    log_points: tuple[int, ...]
    keep_beliefs: bool = False


class Group(NamedTuple):
    """Lanes that are launched together."""

    places: np.ndarray  # [n] in the pool; the lanes behind them repeat the first
    jobs: Jobs
    run: train.Run


def size_for(setup: Setup, jobs: Jobs) -> int:
    """How many seeds a pool may hold, from the bytes of one seed's state."""
    one = jax.tree.map(lambda leaf: leaf[:1], jobs)
    trial = setup.build(jax.tree.map(lambda leaf: leaf[0], one.spec))
    shapes = jax.eval_shape(lambda: _first_state(trial))
    leaves = jax.tree.leaves(shapes)
    held = sum(leaf.size * max(getattr(leaf.dtype, "itemsize", 8), 1) for leaf in leaves)
    lanes_at_once = lanes.width_for(trial) * setup.mesh.devices.size
    return max(min(MAX_SEEDS, MAX_BYTES // max(held, 1)), lanes_at_once)


def _first_state(trial: Trial) -> Any:
    streams = keys.Streams(*[jax.random.key(0)] * len(keys.Streams._fields))
    return trial.learner.init(streams), trial.environment.init(streams.task)


def launch(setup: Setup, key: Array, jobs: Jobs, schedule: Schedule) -> Observed:
    """Train all jobs [S], from the start to the last log point.

    Ctrl-C between chunks leaves nothing half done.
    """
    trial = setup.build(jax.tree.map(lambda leaf: leaf[0], jobs.spec))
    num, size = len(jobs.seed), lanes.width_for(trial) * setup.mesh.devices.size
    record = Record(setup, trial, num, schedule)
    groups = []
    for first in range(0, num, size):
        index = np.arange(first, min(first + size, num))
        mine = _take(jobs, np.resize(index, size))
        groups.append(Group(index, mine, lanes.start(setup, key, mine)))
    for until in schedule.log_points:
        record.copy_last()
        if until > 0:
            groups = _packed(groups, record, size)
            groups = _trained(setup, key, until, groups, record)
        record.look(key, groups)
    for group in groups:
        record.end(group)
    return record.observed()


def prepare(setup: Setup, key: Array, jobs: Jobs, schedule: Schedule) -> None:
    """Compile the programs of a pool, from one job of its kind."""
    trial = setup.build(jax.tree.map(lambda leaf: leaf[0], jobs.spec))
    size = lanes.width_for(trial) * setup.mesh.devices.size
    group = _take(jobs, np.zeros(size, int))
    run = lanes.start(setup, key, group)
    run, _ = lanes.chunk(setup, key, clock.of(0, trial.path), group, run)
    lanes.look(setup, schedule.keep_beliefs, key, group, run)
    if probes.wanted(trial):
        lanes.probe(setup, key, group, run)


def _take(tree: Any, index: np.ndarray) -> Any:
    """Rows of every leaf, on the host."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def _without_keys(tree: Any) -> Any:
    """Typed random keys as the words that NumPy can hold."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _with_keys(tree: Any, like: Any) -> Any:
    """The words that stand for the keys of `like` as keys again."""

    def made(x: Any, leaf: Any) -> Any:
        if not _is_key(leaf):
            return x
        return jax.random.wrap_key_data(x, impl=jax.random.key_impl(leaf))

    return jax.tree.map(made, tree, like)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _packed(groups: list[Group], record: "Record", size: int) -> list[Group]:
    """The lanes that are still going, in as few groups as hold them, if that is fewer."""
    going = [np.flatnonzero(~np.asarray(g.run.done)[: len(g.places)]) for g in groups]
    total = sum(len(places) for places in going)
    if -(-total // size) == len(groups):
        return groups
    for group in groups:
        record.end(group)
    parts = [
        (g.places[at], _take(g.jobs, at), _take(_without_keys(g.run), at))
        for g, at in zip(groups, going, strict=True)
        if len(at)
    ]
    if not parts:
        return []
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    made = []
    over_seeds = NamedSharding(record.setup.mesh, PartitionSpec("seeds"))
    for first in range(0, total, size):
        places = np.arange(first, min(first + size, total))
        jobs, run = _take(joined[1:], np.resize(places, size))
        # Placed as a program leaves it: lanes anywhere else would be another program.
        run = _with_keys(jax.device_put(run, over_seeds), groups[0].run)
        made.append(Group(joined[0][places], jobs, run))
    return made


def _trained(
    setup: Setup, key: Array, until: int, groups: list[Group], record: "Record"
) -> list[Group]:
    """The groups at `until` updates. Chunks end after MAX_STRETCHES too, long before float32 sums
    of equal terms go wrong."""
    unfinished = list(range(len(groups)))
    groups = list(groups)
    end = clock.of(until, record.trial.path)
    while unfinished:
        # All are launched before the first is waited for: the host's work is done meanwhile.
        found = [lanes.chunk(setup, key, end, groups[i].jobs, groups[i].run) for i in unfinished]
        for i, (run, sums) in zip(unfinished, found, strict=True):
            groups[i] = groups[i]._replace(run=run)
            record.add(groups[i].places, sums)
        runs = [(i, groups[i].run) for i in unfinished]
        unfinished = [i for i, run in runs if not _finished(run, until)]
    return groups


def _finished(run: train.Run, until: int) -> bool:
    return bool(np.all(np.asarray(run.done) | (clock.counts(run.step) >= until)))


class Record:
    """What is seen of a pool [S], on the host."""

    def __init__(self, setup: Setup, trial: Trial, num: int, schedule: Schedule) -> None:
        self.setup, self.trial, self.schedule = setup, trial, schedule
        plan, names = setup.plan, observe.quantities(trial)
        self.num = num
        self.values = np.zeros((num, plan.num_phases, len(names)))
        self.counts = np.zeros((num, plan.num_phases, len(train.COUNTERS)), np.uint64)
        self.looks: list[dict[str, np.ndarray]] = []
        self.ends: Observed = {}

    def copy_last(self) -> None:
        """Begin a log point with the measures of the last."""
        last = self.looks[-1] if self.looks else {}
        self.looks.append({name: value.copy() for name, value in last.items()})

    def add(self, index: np.ndarray, sums: train.Sums) -> None:
        """Add a chunk's accumulators."""
        self.values[index] += np.asarray(sums.values, np.float64)[: len(index)]
        self.counts[index] += phases.count_of(sums.counts)[: len(index)]

    def look(self, key: Array, groups: list[Group]) -> None:
        """Measure groups at the log point that was begun."""
        keep, seen = self.schedule.keep_beliefs, []
        for group in groups:
            measured, belief = lanes.look(self.setup, keep, key, group.jobs, group.run)
            more = {"belief": belief} if keep else {}
            if probes.wanted(self.trial):
                more |= lanes.probe(self.setup, key, group.jobs, group.run)
            seen.append((measured, more))
        for group, (measured, more) in zip(groups, seen, strict=True):
            found = dict(zip(measured.names, np.asarray(measured.values).T, strict=True))
            found |= {name: np.asarray(value) for name, value in more.items()}
            found["step"] = clock.counts(group.run.step)
            _put(self.looks[-1], self.num, group.places, found)

    def end(self, group: Group) -> None:
        """Hitting times, totals and what became of each seed of a group."""
        run = group.run
        cost, total = phases.count_of(run.hits.cost), phases.count_of(run.spent)
        found = {
            "hit.step": clock.counts(run.hits.step),
            "hit.time": clock.times(run.hits.time, run.hits.step),
            "total.step": clock.counts(run.step),
            "stopped": np.asarray(run.done),
        }
        for c, name in enumerate(train.COUNTERS):
            found[f"hit.{name}"] = cost[..., c]
            found[f"total.{name}"] = total[..., c].sum(axis=1, dtype=np.uint64)
        if self.trial.learner.lumps is not None:
            found["full"] = np.asarray(self.trial.learner.lumps.full(run.state))
        _put(self.ends, self.num, group.places, found)

    def observed(self) -> Observed:
        """Everything, by name."""
        names = self.looks[0]
        found = {f"look.{k}": np.stack([seen[k] for seen in self.looks], axis=1) for k in names}
        found |= _of_update(self.trial, self.setup.plan, self.num)
        quantities = enumerate(observe.quantities(self.trial))
        found |= {f"phase.{name}": self.values[..., q] for q, name in quantities}
        counters = enumerate(train.COUNTERS)
        found |= {f"phase.{name}": self.counts[..., c] for c, name in counters}
        found |= self.ends
        return found | _ledger_lines(self.trial, found)


def _put(store: Observed, num: int, index: np.ndarray, found: Observed) -> None:
    """Write the rows of a group; the lanes behind the index are company."""
    for name, value in found.items():
        if name not in store:
            store[name] = np.zeros((num, *value.shape[1:]), value.dtype)
        store[name][index] = value[: len(index)]


def _of_update(trial: Trial, plan: train.Plan, num_seeds: int) -> Observed:
    """Constants of one update: trajectories, and operations counted from its program."""
    constants = {"trajectories": trial.learner.batch_size}
    constants |= {f"learner_{name}": count for name, count in plan.counted._asdict().items()}
    constants |= {f"world_{name}": count for name, count in plan.counted_world._asdict().items()}
    return {f"update.{name}": np.full(num_seeds, count) for name, count in constants.items()}


def _ledger_lines(trial: Trial, found: Observed) -> Observed:
    """The lines of the 2N/4N bill of each phase and of the run, for learners that tell them."""
    if trial.learner.ledger is None:
        return {}
    length = np.uint64(trial.environment.shape.length)
    rates = {name: np.uint64(rate) for name, rate in trial.learner.ledger.items() if rate > 0}
    lines = {}
    for place in ("phase", "total"):
        tokens = found[f"{place}.tokens"]
        dead = found[f"{place}.dead"] * length
        for line, rate in rates.items():
            charged = tokens if line in ("critic", "reference") else tokens - dead
            lines[f"{place}.flops_{line}"] = charged * rate
        if "decode" in rates:
            lines[f"{place}.flops_dead"] = dead * (rates["decode"] + rates["training"])
    return lines
