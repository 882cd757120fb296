"""Any number of seeds and conditions through one compiled program: the host's part of a run.

A pool is one launch between two log points, block after block of lanes on each device. Seeds stop
at very different times: those that are still going are packed into as few blocks as hold them; the
last measures of the others are theirs for good.
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
MAX_BYTES = 2**26  # of their states

Observed = dict[str, np.ndarray]
# Seeds on the first axis: `look.*` [S, T] measures at log points; `phase.*` [S, P] sums, float64
# or uint64; `hit.*` [S, H]; `total.*` [S]; `stopped` [S]; `look.belief` [S, T, M, L, V] nats, if
# asked for; `full` [S], with lumps: throw these seeds away.


class Schedule(NamedTuple):
    """When to look, and whether to keep the beliefs."""

    log_points: tuple[int, ...]
    keep_beliefs: bool = False


class Batch(NamedTuple):
    """The seeds of a pool that are still going, and the lanes they are in.

    Leaves are [D C, ..., W]: C blocks of W lanes for each of D devices.
    """

    places: np.ndarray  # [n] in the pool
    rows: np.ndarray  # [n] among the D C W lanes; the rest of a block is company
    num_blocks: int  # of each device, that have a seed in them
    jobs: Jobs
    run: train.Run

    def seen(self, leaf: Any) -> np.ndarray:
        """The seeds' rows [n, ...] of a leaf, on the host."""
        whole = np.moveaxis(np.asarray(leaf), -1, 1)
        return whole.reshape(-1, *whole.shape[2:])[self.rows]


def room_for(setup: Setup, jobs: Jobs) -> int:
    """Blocks of lanes on each device, from the bytes of one seed's state: those of every pool.

    One size whatever the number of seeds, so that any number of them run in the same program.
    """
    one = jax.tree.map(lambda leaf: leaf[:1], jobs)
    trial = setup.build(jax.tree.map(lambda leaf: leaf[0], one.spec))
    shapes = jax.eval_shape(lambda: _first_state(trial))
    leaves = jax.tree.leaves(shapes)
    held = sum(leaf.size * max(getattr(leaf.dtype, "itemsize", 8), 1) for leaf in leaves)
    at_once = lanes.width_for(trial) * setup.mesh.devices.size
    return max(min(MAX_SEEDS, MAX_BYTES // max(held, 1)) // at_once, 1)


def size_for(setup: Setup, jobs: Jobs) -> int:
    """How many seeds a pool may hold."""
    trial = setup.build(jax.tree.map(lambda leaf: leaf[0], jobs.spec))
    return room_for(setup, jobs) * lanes.width_for(trial) * setup.mesh.devices.size


def _first_state(trial: Trial) -> Any:
    streams = keys.Streams(*[jax.random.key(0)] * len(keys.Streams._fields))
    return trial.learner.init(streams), trial.environment.init(streams.task)


def launch(setup: Setup, key: Array, jobs: Jobs, schedule: Schedule) -> Observed:
    """Train all jobs [S], at most `size_for`, from the start to the last log point.

    Ctrl-C between chunks leaves nothing half done.
    """
    trial, num = setup.build(jax.tree.map(lambda leaf: leaf[0], jobs.spec)), len(jobs.seed)
    record, room = Record(setup, trial, num, schedule), room_for(setup, jobs)
    rows, num_blocks, company = _layout(record, num, room)
    mine = _placed(setup, _in_lanes(jobs, company))
    run = lanes.start(setup, key, jnp.int32(num_blocks), mine)
    batch = Batch(np.arange(num), rows, num_blocks, mine, run)
    for until in schedule.log_points:
        record.copy_last()
        if until > 0:
            batch = _packed(batch, record, room)
            batch = _trained(setup, key, until, batch, record)
        record.look(key, batch)
    record.end(batch)
    return record.observed()


def prepare(setup: Setup, key: Array, jobs: Jobs, schedule: Schedule) -> None:
    """Compile the programs of a pool, from one job of its kind."""
    trial = setup.build(jax.tree.map(lambda leaf: leaf[0], jobs.spec))
    num_blocks = room_for(setup, jobs) * setup.mesh.devices.size
    company = np.zeros((num_blocks, lanes.width_for(trial)), int)
    given, one = _placed(setup, _in_lanes(jobs, company)), jnp.int32(1)
    run = lanes.start(setup, key, one, given)
    run, _ = lanes.chunk(setup, key, clock.of(0, trial.path), one, given, run)
    lanes.look(setup, schedule.keep_beliefs, key, one, given, run)
    if probes.wanted(trial):
        lanes.probe(setup, key, one, given, run)


def _layout(record: "Record", num: int, room: int) -> tuple[np.ndarray, int, np.ndarray]:
    """Where `num` seeds go: their rows [num], the blocks in use, and who is in which lane [D C, W].

    Blocks are filled evenly over devices; lanes without a seed of their own repeat another.
    """
    devices, width = record.setup.mesh.devices.size, lanes.width_for(record.trial)
    place = np.arange(num)
    block, device = place // (width * devices), place // width % devices
    rows = (device * room + block) * width + place % width
    company = np.zeros(devices * room * width, int)
    company[rows] = place
    return rows, -(-num // (width * devices)), company.reshape(-1, width)


def _in_lanes(tree: Any, company: np.ndarray) -> Any:
    """Rows [n, ...] of every leaf as lanes [D C, ..., W]: which row is in each, [D C, W]."""
    return jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf)[company], 1, -1), tree)


def _placed(setup: Setup, tree: Any) -> Any:
    """Lanes on their devices, as a program leaves them: anywhere else would be another program."""
    return jax.device_put(tree, NamedSharding(setup.mesh, PartitionSpec("seeds")))


def _words(tree: Any) -> Any:
    """Typed random keys [D C, W] as the words [D C, 2, W] that NumPy can hold."""
    return jax.tree.map(
        lambda x: jnp.moveaxis(jax.random.key_data(x), -1, 1) if _is_key(x) else x, tree
    )


def _with_keys(tree: Any, like: Any) -> Any:
    """The words that stand for the keys of `like` as keys again."""

    def made(x: Any, leaf: Any) -> Any:
        if not _is_key(leaf):
            return x
        words = jnp.moveaxis(x, 1, -1)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))

    return jax.tree.map(made, tree, like)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _packed(batch: Batch, record: "Record", room: int) -> Batch:
    """The lanes that are still going in as few blocks as hold them, if that is fewer."""
    going = ~batch.seen(batch.run.done)
    rows, num_blocks, company = _layout(record, int(going.sum()), room)
    if num_blocks == batch.num_blocks:
        return batch
    record.end(batch)
    if num_blocks == 0:
        return Batch(batch.places[going], rows, 0, batch.jobs, batch.run)
    held = jax.tree.map(lambda leaf: batch.seen(leaf)[going], (batch.jobs, _words(batch.run)))
    jobs, words = _placed(record.setup, _in_lanes(held, company))
    return Batch(batch.places[going], rows, num_blocks, jobs, _with_keys(words, batch.run))


def _trained(setup: Setup, key: Array, until: int, batch: Batch, record: "Record") -> Batch:
    """The lanes at `until` updates. Chunks end after MAX_STRETCHES too, long before float32 sums
    of equal terms go wrong."""
    while not _finished(batch, until):
        given = (
            clock.of(until, record.trial.path),
            jnp.int32(batch.num_blocks),
            batch.jobs,
            batch.run,
        )
        run, sums = lanes.chunk(setup, key, *given)
        batch = batch._replace(run=run)
        record.add(batch, sums)
    return batch


def _finished(batch: Batch, until: int) -> bool:
    return bool(
        np.all(batch.seen(batch.run.done) | (clock.counts(batch.seen(batch.run.step)) >= until))
    )


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

    def add(self, batch: Batch, sums: train.Sums) -> None:
        """Add a chunk's accumulators."""
        self.values[batch.places] += batch.seen(sums.values).astype(np.float64)
        self.counts[batch.places] += phases.count_of(batch.seen(sums.counts))

    def look(self, key: Array, batch: Batch) -> None:
        """Measure a batch at the log point that was begun."""
        if batch.num_blocks == 0:
            return
        keep = self.schedule.keep_beliefs
        given = key, jnp.int32(batch.num_blocks), batch.jobs, batch.run
        measured, belief = lanes.look(self.setup, keep, *given)
        values = batch.seen(measured.values)
        found = {name: values[:, q] for q, name in enumerate(measured.names)}
        if keep:
            found["belief"] = batch.seen(belief)
        if probes.wanted(self.trial):
            estimates = lanes.probe(self.setup, *given)
            found |= {name: batch.seen(value) for name, value in estimates.items()}
        found["step"] = clock.counts(batch.seen(batch.run.step))
        self._put(self.looks[-1], batch, found)

    def end(self, batch: Batch) -> None:
        """Hitting times, totals and what became of each seed of a batch."""
        if batch.num_blocks == 0:
            return
        run = batch.run
        cost, total = (phases.count_of(batch.seen(x)) for x in (run.hits.cost, run.spent))
        found = {
            "hit.step": clock.counts(batch.seen(run.hits.step)),
            "hit.time": clock.times(batch.seen(run.hits.time), batch.seen(run.hits.step)),
            "total.step": clock.counts(batch.seen(run.step)),
            "stopped": batch.seen(run.done),
        }
        for c, name in enumerate(train.COUNTERS):
            found[f"hit.{name}"] = cost[..., c]
            found[f"total.{name}"] = total[..., c].sum(axis=1, dtype=np.uint64)
        if self.trial.learner.lumps is not None:
            found["full"] = batch.seen(self.trial.learner.lumps.full(run.state))
        self._put(self.ends, batch, found)

    def _put(self, store: Observed, batch: Batch, found: Observed) -> None:
        """Write what was found of the seeds of a batch."""
        for name, value in found.items():
            if name not in store:
                store[name] = np.zeros((self.num, *value.shape[1:]), value.dtype)
            store[name][batch.places] = value

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
