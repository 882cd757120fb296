"""The compiled programs: lanes of a fixed width per device, one seed of one condition in each.

A seed's result is the same, bit for bit, for the same width per device, compiled program and kind
of device, whatever the number of devices and the company: lanes are always padded to the width and
seeds never communicate. A launch is given many blocks of lanes, one after the other on each device:
the host waits once for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

from simrl import columnwise, keys, listing
from simrl.engine import answers, fused, jumps, kernels, looks, observe, stretches, train
from simrl.engine.compiling import CPU_OPTIONS, GPU_OPTIONS, START_OPTIONS, compiled, platform_of
from simrl.engine.stretches import Course
from simrl.errors import SpecError
from simrl.measures import flops, phases
from simrl.types import Array, Trial

CACHE_BYTES = 2**20  # a core's second-level cache; blocks that leave it cost 10 to 20 times
WIDTHS = (32, 128)  # the least and the most lanes
# Lanes innermost: narrower, each operation's start counts; wider, lanes wait longer for each other.
FUSED_BYTES, FUSED_WIDTHS = 2**18, (64, 256)
# An accelerator has thousands of units to fill, and a launch costs the same whatever it fills; but
# few seeds pay for empty lanes. Sequences on an H200, ms at 2**24, 2**25, 2**26: 1,024 seeds took
# 43, 45, 59; 2,048 seeds 76, 49, 55; 32,768 seeds 570 at 2**25 and 400 at 2**26. Ten arms at 2**15,
# 2**16, 2**17 lanes: 8,000 seed-runs took 27, 29, 55; a million 680, 510, 580.
WIDE_BYTES, WIDE_WIDTHS = 2**25, (256, 2**16)
PATHS = {"plain": train.path, "fused": fused.path, "jump": jumps.path}


class Setup(NamedTuple):
    """What a compiled program is made for. Hashable: it keys the compile cache."""

    build: Callable[[Any], Trial]  # spec -> trial, called inside the trace
    plan: train.Plan
    mesh: Mesh


class Jobs(NamedTuple):
    """One condition and seed for each lane: leaves [..., W] in a block, [D C, ..., W] in a launch.

    Numbers are traced: a program serves all.
    """

    spec: Any  # parts of a spec, every number float32
    rules: train.Rules
    observe_every: Any  # int32
    seed: Any  # uint32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Seen:
    """What is seen of lanes at log points [T]: numbers in one array, which is cheap to fetch."""

    values: Array  # [T, Q, W] float
    step: Array  # [T, ..., W] on the path's clock
    spent: Array | None  # [T, C, 2, W] words so far, where one update costs more than another
    belief: Array | None  # [T, M, L, V, W] nats
    names: tuple[str, ...] = field(metadata={"static": True})  # of the values


def local_devices() -> list[Any]:
    """Returns the devices of this process; raises SpecError where JAX can use none."""
    try:
        return jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts where a plugin is not installed
        platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
        reason = next(iter(str(error).splitlines()), "it is not installed")
        raise SpecError(
            f"JAX_PLATFORMS: must name a platform that JAX can use here, got {platforms!r}: "
            f"{reason}; `simrl doctor` with JAX_PLATFORMS= shows what there is"
        ) from None


def mesh_of(num_devices: int | None = None) -> Mesh:
    """A mesh of the first `num_devices` local devices (all by default) over seeds.

    Raises SpecError where there are fewer, or none.
    """
    devices = local_devices()
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise SpecError(f"devices must be in 1 ... {len(devices)}, not {num_devices}")
    devices = devices[:num_devices]
    return jax.make_mesh((len(devices),), ("seeds",), axis_types=(AxisType.Auto,), devices=devices)


def width_for(trial: Trial, platform: str = "cpu") -> int:
    """Lanes per device: a power of two whose working set stays in the cache, from shapes alone."""
    num_prompts, length, vocab_size = trial.environment.shape
    if trial.learner.lumps is not None:
        vocab_size = trial.learner.lumps.entries.num_entries
    elif answers.are_listed(trial):
        length, vocab_size = 1, listing.num_answers(trial.environment.shape)
    floats = 6 * num_prompts * length * vocab_size + 4 * trial.learner.batch_size * length
    cache, bounds = CACHE_BYTES, WIDTHS
    if platform != "cpu":
        cache, bounds = WIDE_BYTES, WIDE_WIDTHS
    elif trial.path == "fused":
        cache, bounds = FUSED_BYTES, FUSED_WIDTHS
    fitting = max(cache // (4 * floats), 1)
    return int(np.clip(2 ** int(np.log2(fitting)), *bounds))


def width_of(setup: Setup, trial: Trial) -> int:
    """The same for the devices of a setup."""
    return width_for(trial, platform_of(setup.mesh))


def path_of(setup: Setup, trial: Trial) -> train.Path:
    """How updates are made; the loop of a GPU is a kernel where there can be one."""
    on_chip = trial.path == "fused" and kernels.can_run(setup.mesh.devices.flat[0])
    return fused.on_chip if on_chip else PATHS[trial.path]


def _over_devices(setup: Setup, on_device: Callable, shared: Any, lanes: tuple) -> Any:
    """`on_device(shared, *lanes)` of the lanes of each device."""
    over = PartitionSpec("seeds")
    # Nothing crosses devices; the check would only ask every user function to be annotated.
    mapped = jax.shard_map(
        lambda shared, lanes: on_device(shared, *lanes),
        mesh=setup.mesh,
        in_specs=(PartitionSpec(), over),
        out_specs=over,
        check_vma=False,
    )
    return mapped(shared, lanes)


def _over_blocks(
    setup: Setup,
    block: Callable,
    shared: tuple,
    lanes: tuple,
    num_blocks: Array,
    goes_on: bool = False,
) -> Any:
    """`block(shared, *lanes)` of `num_blocks` [] blocks on each device, one after the other.

    Leaves [D C, ..., W]: C blocks of W lanes for each of D devices, of which a block is given
    [..., W]. What is not asked for comes back as zeros, or, if a block makes of the last of its
    lanes the first of its results (`goes_on`), as it was; C does not enter what a block computes.
    """

    def on_device(shared: tuple, *lanes: Any) -> Any:
        *given, num = shared
        one = jax.jit(lambda *own: block(tuple(given), *own))  # traced once for both uses

        def at(i: Array | int, lanes: tuple) -> Any:
            part = partial(jax.lax.dynamic_index_in_dim, index=i, keepdims=False)
            return jax.tree.map(part, lanes)

        def fill(i: Array, whole: Any) -> Any:
            put = partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0)
            own = (*lanes[:-1], whole[0]) if goes_on else lanes
            return jax.tree.map(put, whole, one(*at(i, own)))

        room = jax.tree.leaves(lanes)[0].shape[0]
        whole = jax.tree.map(partial(_zeros, room), jax.eval_shape(lambda: one(*at(0, lanes))))
        begun = (lanes[-1], *whole[1:]) if goes_on else whole
        return jax.lax.fori_loop(0, num, fill, begun)

    return _over_devices(setup, on_device, (*shared, num_blocks), lanes)


def _zeros(room: int, like: Any) -> Array:
    """Zeros for as many blocks like this one, which may be of random keys."""
    shape = (room, *like.shape)
    if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jnp.zeros(shape, like.dtype)
    empty = jax.random.key_data(jax.random.key(0))
    return jax.random.wrap_key_data(jnp.zeros((*shape, *empty.shape), empty.dtype))


def _over_lanes(setup: Setup, one: Callable, key: Array, lanes: tuple, num_blocks: Array) -> Any:
    """`one(trial, streams, rules, *rest)` for every lane of jobs and the rest."""

    def of_lane(key: Array, job: Jobs, *rest: Any) -> Any:
        return one(setup.build(job.spec), keys.streams(key, job.seed), job.rules, *rest)

    def block(shared: tuple, *lanes: Any) -> Any:
        return columnwise.over_lanes(partial(of_lane, *shared))(*lanes)

    return _over_blocks(setup, block, (key,), lanes, num_blocks)


@compiled((0,), cpu=START_OPTIONS)
def start(setup: Setup, key: Array, num_blocks: Array, jobs: Jobs) -> Course:
    """The lanes before their first update."""

    def one(trial: Trial, streams: keys.Streams, rules: train.Rules) -> Course:
        return stretches.start(trial, train.Given((), rules, streams), setup.plan)

    return _over_lanes(setup, one, key, (jobs,), num_blocks)


@compiled((0, 1), cpu=CPU_OPTIONS, gpu=GPU_OPTIONS)
def chunk(
    setup: Setup,
    keep_beliefs: bool,
    key: Array,
    log_points: Array,
    num_looks: Array,
    num_blocks: Array,
    jobs: Jobs,
    course: Course,
) -> tuple[Course, stretches.Sums, Seen]:
    """Train the lanes to the first `num_looks` of log points [T], on the clock of their path.

    See `stretches.chunk`. What is measured of them there is seen, and their beliefs, if those are
    kept.
    """

    def seen(trial: Trial, course: Course) -> Seen:
        found = looks.snapshot(course)
        belief = observe.whole_beliefs(trial, course.run.state) if keep_beliefs else None
        varies = trial.learner.discards or trial.learner.partial
        spent = phases.sum_words(course.run.spent) if varies else None
        values = jnp.stack(list(found.values()))
        return Seen(values, course.run.step, spent, belief, tuple(found))

    def block(shared: tuple[Array, Array, Array], jobs: Jobs, course: Course) -> tuple:
        key, log_points, num_looks = shared
        streams = jax.vmap(keys.streams, (None, 0))(key, jobs.seed)
        given = train.Given(jobs.spec, jobs.rules, streams)
        first = setup.build(jax.tree.map(lambda leaf: leaf[..., 0], jobs.spec))
        cell = train.Cell(setup.build, setup.plan, first)
        limits = stretches.Limits(log_points, num_looks, jobs.observe_every)
        look = partial(cell.over_lanes(seen), jobs.spec)
        return stretches.chunk(cell, given, course, limits, path_of(setup, first), look)

    shared = key, log_points, num_looks
    return _over_blocks(setup, block, shared, (jobs, course), num_blocks, goes_on=True)


@compiled((0,), cpu=CPU_OPTIONS, gpu=GPU_OPTIONS)
def probe(
    setup: Setup, key: Array, num_blocks: Array, jobs: Jobs, run: train.Run
) -> dict[str, Array]:
    """What a log point estimates by drawing gradients again."""

    def one(
        trial: Trial, streams: keys.Streams, rules: train.Rules, run: train.Run
    ) -> dict[str, Array]:
        return looks.probe(trial, setup.plan, streams, run)

    return _over_lanes(setup, one, key, (jobs, run), num_blocks)


def count_update(trial: Trial) -> tuple[flops.FlopCount, flops.FlopCount]:
    """Operations of one update counted from its program: the learner's own and the world's.

    THEORY 5(b). The world's part is counted from its own functions and taken off the whole.
    """
    environment, learner = trial.environment, trial.learner
    key = jax.random.key(0)
    streams = jax.eval_shape(keys.streams, key, jnp.uint32(0))
    task = jax.eval_shape(environment.init, key)
    state = jax.eval_shape(learner.init, streams)
    whole = flops.count_flops(learner.step, streams, state, task)
    if not learner.draws:
        return whole, whole - whole
    answers = jax.eval_shape(learner.step, streams, state, task)[1].answers
    words = jnp.zeros(answers.shape, jnp.uint32)

    def world(words: Array, task: Any) -> Any:
        prompts = jax.vmap(environment.prompt, (0, None))(words[:, 0, 0], task)
        if learner.kind == "supervised":
            labels = jax.vmap(environment.label, (0, None, None))
            return jax.vmap(labels, (0, None, 0))(words, task, prompts)
        guesses = words.astype(jnp.int32)
        rewards = jax.vmap(environment.reward, (0, None, None, 0))
        return jax.vmap(rewards, (0, None, 0, 0))(words, task, prompts, guesses)

    outside = flops.count_flops(world, words, task)
    return whole - outside, outside
