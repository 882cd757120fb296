"""Any number of seeds and conditions through one compiled program: the host's part of a run.

A launch takes a pool to its next log point, block after block of lanes on each device. Seeds stop
at very different times: those that are still going are packed into as few blocks as hold them; the
last measures of the others are theirs for good. Where no seed can stop there is nothing to do
between log points, and a launch reaches several.
"""

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from simrl import keys
from simrl.engine import clock, lanes, probes, stretches
from simrl.engine.batch import Batch, wait_for
from simrl.engine.compiling import platform_of, promoting
from simrl.engine.lanes import Jobs, Setup
from simrl.engine.record import Observed, Record, Schedule
from simrl.types import Array, Trial

MIN_SEEDS = 256  # that any pool has room for, however large their states: a stored block
MAX_SEEDS = 8192  # in a pool: what an interrupted run repeats, of each that was on its way
MAX_BYTES = 2**26  # of their states
MAX_LOOKS = 32  # in a launch; with one in each, a look at K = 10 takes .65 us a seed, so .19
_ROOMS: dict[Any, int] = {}  # found so far, by what they are found from


def room_for(setup: Setup, jobs: Jobs) -> int:
    """Blocks of lanes on each device, from the bytes of one seed's state: those of every pool.

    One size whatever the number of seeds, so that any number of them run in the same program.
    """
    leaves, structure = jax.tree.flatten(jobs.spec)
    form = (setup, structure, tuple(leaf.shape[1:] for leaf in leaves))
    if form not in _ROOMS:
        trial = setup.build(jax.tree.map(lambda leaf: leaf[0], jobs.spec))
        leaves = jax.tree.leaves(jax.eval_shape(lambda: _first_state(trial)))
        held = sum(leaf.size * max(getattr(leaf.dtype, "itemsize", 8), 1) for leaf in leaves)
        at_once = lanes.width_of(setup, trial) * setup.mesh.devices.size
        most = min(MAX_SEEDS, MAX_BYTES // max(held, 1))
        _ROOMS[form] = max(most // at_once, -(-MIN_SEEDS // at_once))
    return _ROOMS[form]


def size_for(setup: Setup, jobs: Jobs) -> int:
    """How many seeds a pool may hold."""
    trial = setup.build(jax.tree.map(lambda leaf: leaf[0], jobs.spec))
    return room_for(setup, jobs) * lanes.width_of(setup, trial) * setup.mesh.devices.size


def _first_state(trial: Trial) -> Any:
    streams = keys.Streams(*[jax.random.key(0)] * len(keys.Streams._fields))
    return trial.learner.init(streams), trial.environment.init(streams.task)


def launch(
    setup: Setup,
    key: Array,
    jobs: Jobs,
    schedule: Schedule,
    reach: Callable[[int], None] = lambda step: None,
) -> Generator[None, None, Observed]:
    """Train all jobs [S], at most `size_for`, from the start to the last log point.

    It gives way twice, so that a device need not wait for the host between two pools: when its
    first launch is on its way, and when its last is. Ctrl-C between chunks leaves nothing half
    done. `reach` is called with the updates done at the last log point of each launch.
    """
    trial, num = setup.build(jax.tree.map(lambda leaf: leaf[0], jobs.spec)), len(jobs.seed)
    record, room = Record(setup, trial, num, schedule), room_for(setup, jobs)
    num_blocks, company = _layout(record, num, room)
    mine = _placed(setup, _in_lanes(jobs, company))
    course = lanes.start(setup, key, np.int32(num_blocks), mine)
    batch = Batch(np.arange(num), num_blocks, mine, course)
    endless = _never_stop(trial, jobs)
    for points in _launches(schedule.log_points, _at_once(trial, jobs, schedule)):
        record.later(record.copy_last, 0 if endless else points.num)
        if points.after[0] > 0 and not endless:
            batch = _packed(batch, record, room)
        if batch.num_blocks > 0:
            batch, seen = _trained(key, points, batch, record, endless)
            record.look(key, batch, seen, points.num)
            reach(points.after[points.num - 1])
        if points.since == points.after[0]:  # the look at the start
            yield
    record.end(batch)
    yield
    record.catch_up()
    return record.observed()


class Points(NamedTuple):
    """Log points that are reached in one launch."""

    since: int  # updates that were done before
    after: tuple[int, ...]  # [T] updates; those after the first `num` are never reached
    num: int

    @property
    def apart(self) -> int:
        """Updates from the beginning to the last of them."""
        return self.after[self.num - 1] - self.since


def _never_stop(trial: Trial, jobs: Jobs) -> bool:
    """Whether it is certain that every seed makes every update, one by one."""
    return trial.path != "jump" and bool(np.all(np.asarray(jobs.rules.stop) == np.inf))


def _at_once(trial: Trial, jobs: Jobs, schedule: Schedule) -> int:
    """Log points that one launch may reach: several where nothing is to be done between them.

    Lanes that stop are to make room, and what is kept or drawn again takes memory and time.
    """
    busy = schedule.keep_beliefs or probes.wanted(trial)
    return MAX_LOOKS if _never_stop(trial, jobs) and not busy else 1


def _launches(log_points: tuple[int, ...], most: int) -> Iterator[Points]:
    """All log points in turn, `most` in a launch and no more than MAX_STRETCHES updates."""
    since, rest = 0, log_points
    while rest:
        near = [point for point in rest[:most] if point - since <= stretches.MAX_STRETCHES]
        chosen = tuple(near) or rest[:1]
        yield Points(since, (*chosen, *chosen[-1:] * (most - len(chosen))), len(chosen))
        since, rest = chosen[-1], rest[len(chosen) :]


@promoting
def prepare(setup: Setup, key: Array, jobs: Jobs, schedule: Schedule) -> None:
    """Compile the programs of a pool, from one job of its kind."""
    trial = setup.build(jax.tree.map(lambda leaf: leaf[0], jobs.spec))
    num_blocks = room_for(setup, jobs) * setup.mesh.devices.size
    company = np.zeros((num_blocks, lanes.width_of(setup, trial)), int)
    given, one = _placed(setup, _in_lanes(jobs, company)), np.int32(1)
    course = lanes.start(setup, key, one, given)
    points = Points(0, (0,) * _at_once(trial, jobs, schedule), 1)
    limits = *_limits(trial, points), one
    course = lanes.chunk(setup, schedule.keep_beliefs, key, *limits, given, course)[0]
    if probes.wanted(trial):
        lanes.probe(setup, key, one, given, course.run)


def _layout(record: Record, num: int, room: int) -> tuple[int, np.ndarray]:
    """Where `num` seeds go: the blocks in use, and who is in which lane, [D C, W].

    Blocks are filled evenly over devices; lanes without a seed of their own repeat another.
    """
    devices, width = record.setup.mesh.devices.size, lanes.width_of(record.setup, record.trial)
    place = np.arange(num)
    block, device = place // (width * devices), place // width % devices
    rows = (device * room + block) * width + place % width
    company = np.zeros(devices * room * width, int)
    company[rows] = place
    return -(-num // (width * devices)), company.reshape(-1, width)


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


def _packed(batch: Batch, record: Record, room: int) -> Batch:
    """The lanes that are still going in as few blocks as hold them, if that is fewer."""
    going = ~batch.seen(batch.run.done)
    num_blocks, company = _layout(record, int(going.sum()), room)
    if num_blocks == batch.num_blocks:
        return batch
    record.end(batch)
    if num_blocks == 0:
        return Batch(batch.places[going], 0, batch.jobs, batch.course)
    held = batch.seen((batch.jobs, _words(batch.course)))
    held = jax.tree.map(lambda leaf: leaf[going], held)
    jobs, words = _placed(record.setup, _in_lanes(held, company))
    return Batch(batch.places[going], num_blocks, jobs, _with_keys(words, batch.course))


def _limits(trial: Trial, points: Points) -> tuple[np.ndarray, np.int32]:
    """Log points [T] on the clock of a path, and how many of them to reach."""
    return np.stack([clock.of(point, trial.path) for point in points.after]), np.int32(points.num)


def _trained(
    key: Array, points: Points, batch: Batch, record: Record, endless: bool
) -> tuple[Batch, lanes.Seen]:
    """The lanes at the last of the log points, and what is seen of them at each.

    Chunks end after MAX_STRETCHES too, long before float32 sums of equal terms go wrong.
    """
    setup, keep = record.setup, record.schedule.keep_beliefs
    limits = *_limits(record.trial, points), np.int32(batch.num_blocks)
    # Then nothing has to be waited for: all lanes go on, and one chunk takes them there.
    sure = endless and points.apart <= stretches.MAX_STRETCHES
    if sure and points.since > 0 and platform_of(setup.mesh) == "cpu":
        wait_for(batch.run.step)  # JAX would wait in C++ to send a third launch, deaf to Ctrl-C
    while True:
        course, sums, seen = lanes.chunk(setup, keep, key, *limits, batch.jobs, batch.course)
        batch = batch._replace(course=course)
        record.catch_up()  # with what was launched before: the device is busy
        record.add(batch, sums)
        if sure or _finished(batch, points.after[-1]):
            return batch, seen


def _finished(batch: Batch, until: int) -> bool:
    done, step = batch.seen((batch.run.done, batch.run.step))
    return bool(np.all(done | (clock.counts(step) >= until)))
