"""Many seeds: lanes of a fixed width under `vmap`, one block of lanes per device under `shard_map`.

A seed's result is the same, bit for bit, for the same width per device, compiled program and kind
of device, whatever the number of devices and the company: lanes are always padded to the width and
seeds never communicate.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

from simrl import keys
from simrl.engine import observe, probes, train
from simrl.measures import flops, phases
from simrl.types import Array, Trial

CACHE_BYTES = 2**20  # a core's second-level cache; blocks that leave it cost 10 to 20 times
MIN_WIDTH, MAX_WIDTH = 32, 128
CPU_OPTIONS: dict[str, bool | int | str] = {
    # One level of LLVM below the default: it does not unroll loops, whose main part and remainder
    # round differently, so that a seed's measures would depend on its place among the lanes.
    # Measured: as fast, and a third less time to compile.
    "xla_backend_optimization_level": 1,
    # A program for several devices has one more pass of this kind than that for one; the two then
    # fuse, and round, differently.
    "xla_disable_hlo_passes": "cse",
}
# Looks are rare. Unoptimised, every operation rounds by itself, wherever it stands.
LOOK_OPTIONS = {**CPU_OPTIONS, "xla_backend_optimization_level": 0}


Shared = tuple[Any, train.Rules, Array]  # spec, rules, base key: the same for every lane


class Setup(NamedTuple):
    """What a compiled program is made for. Hashable: it keys the compile cache."""

    build: Callable[[Any], Trial]  # spec -> trial, called inside the trace
    plan: train.Plan
    mesh: Mesh


Observed = dict[str, np.ndarray]
# One launch on the host, seeds on the first axis: `look.*` [N, T] measures at log points;
# `phase.*` [N, P] sums, float64 or uint64; `hit.*` [N, H]; `total.*` [N]; `stopped` [N];
# `look.belief` [N, T, M, L, V] nats, if asked for; `full` [N], with lumps: throw these seeds away.


def mesh_of(num_devices: int | None = None) -> Mesh:
    """A mesh of the first `num_devices` local devices (all by default) over seeds."""
    devices = jax.local_devices()
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise ValueError(f"devices must be in 1 ... {len(devices)}, not {num_devices}")
    devices = devices[:num_devices]
    return jax.make_mesh((len(devices),), ("seeds",), axis_types=(AxisType.Auto,), devices=devices)


def width_for(trial: Trial) -> int:
    """Lanes per device: a power of two whose working set stays in the cache, from shapes alone."""
    num_prompts, length, vocab_size = trial.environment.shape
    if trial.learner.lumps is not None:
        vocab_size = trial.learner.lumps.entries.num_entries
    floats = 6 * num_prompts * length * vocab_size + 4 * trial.learner.batch_size * length
    fitting = max(CACHE_BYTES // (4 * floats), 1)
    return int(np.clip(2 ** int(np.log2(fitting)), MIN_WIDTH, MAX_WIDTH))


class Schedule(NamedTuple):
    """The host's part of a run: when to look."""

    log_points: tuple[int, ...]
    observe_every: int
    keep_beliefs: bool = False


def launch(
    setup: Setup,
    shared: Shared,
    seeds: np.ndarray,
    schedule: Schedule,
) -> Observed:
    """Train `seeds` [devices * width] together, from the start to the last log point.

    `shared` holds traced float32 numbers: conditions that differ only in numbers share a compiled
    program. Ctrl-C between chunks leaves nothing half done.
    """
    lane_seeds = jnp.asarray(seeds, jnp.uint32)
    run = _start(setup, shared, lane_seeds)
    snapshots, beliefs, steps = [], [], []
    values: Any = 0.0
    counts: Any = np.uint64(0)
    every = jnp.int32(schedule.observe_every)
    redrawn = probes.wanted(setup.build(shared[0]))
    for until in schedule.log_points:
        # The first point runs an empty chunk, so that the sums have their shapes. Chunks end after
        # MAX_STRETCHES too, long before float32 sums of equal terms go wrong.
        while until == 0 or not np.all(np.asarray(run.done) | (np.asarray(run.step) >= until)):
            limits = (jnp.int32(until), every)
            run, sums = _chunk(setup, shared, limits, lane_seeds, run)
            values = values + np.asarray(sums.values, np.float64)
            counts = counts + phases.count_of(sums.counts)
            if until == 0:
                break
        seen, believed = _look(setup, schedule.keep_beliefs, shared, lane_seeds, run)
        if redrawn:
            seen |= _probe(setup, shared, lane_seeds, run)
        snapshots.append(jax.device_get(seen))
        steps.append(np.asarray(run.step, np.int64))
        beliefs.append(believed)
    found = {f"look.{k}": np.stack([s[k] for s in snapshots], axis=1) for k in snapshots[0]}
    found["look.step"] = np.stack(steps, axis=1)
    if beliefs[0] is not None:
        found["look.belief"] = np.stack(beliefs, axis=1)
    trial = setup.build(shared[0])
    found |= _of_update(trial, setup.plan, len(seeds))
    names = observe.quantities(trial)
    found |= {f"phase.{name}": values[..., q] for q, name in enumerate(names)}
    found |= {f"phase.{name}": counts[..., c] for c, name in enumerate(train.COUNTERS)}
    found |= _ends(run)
    if trial.learner.lumps is not None:
        found["full"] = np.asarray(trial.learner.lumps.full(run.state))
    return found | _ledger_lines(trial, found)


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


def _ends(run: train.Run) -> Observed:
    """Hitting times, totals and what became of each seed."""
    cost, total = phases.count_of(run.hits.cost), phases.count_of(run.spent)
    found = {
        "hit.step": np.asarray(run.hits.step, np.int64),
        "hit.time": np.asarray(run.hits.time, np.float64),
        "total.step": np.asarray(run.step, np.int64),
        "stopped": np.asarray(run.done),
    }
    for c, name in enumerate(train.COUNTERS):
        found[f"hit.{name}"] = cost[..., c]
        found[f"total.{name}"] = total[..., c].sum(axis=1, dtype=np.uint64)
    return found


def _compiled(
    static_argnums: tuple[int, ...], options_on_cpu: dict[str, bool | int | str]
) -> Callable[[Callable], Callable]:
    """jit for a function of a Setup (static), with options if it is for a CPU."""

    def wrap(function: Callable) -> Callable:
        @cache
        def made(platform: str) -> Callable:
            options = options_on_cpu if platform == "cpu" else None
            return jax.jit(function, static_argnums=static_argnums, compiler_options=options)

        @wraps(function)
        def call(setup: Setup, *rest: Any) -> Any:
            return made(setup.mesh.devices.flat[0].platform)(setup, *rest)

        return call

    return wrap


def _over_lanes(setup: Setup, one: Callable, shared: tuple, lanes: tuple) -> Any:
    """`one(shared, *lane)` for every lane: vmapped within a device, sharded over devices."""

    def on_device(shared: tuple, lanes: tuple) -> Any:
        return jax.vmap(lambda *lane: one(shared, *lane))(*lanes)

    over = PartitionSpec("seeds")
    # Nothing crosses devices; the check would only ask every user function to be annotated.
    mapped = jax.shard_map(
        on_device,
        mesh=setup.mesh,
        in_specs=(PartitionSpec(), over),
        out_specs=over,
        check_vma=False,
    )
    return mapped(shared, lanes)


@_compiled((0,), CPU_OPTIONS)
def _start(setup: Setup, shared: Shared, seeds: Array) -> train.Run:
    def one(shared: Shared, seed: Array) -> train.Run:
        spec, rules, key = shared
        return train.start(setup.build(spec), rules, keys.streams(key, seed))

    return _over_lanes(setup, one, shared, (seeds,))


@_compiled((0,), CPU_OPTIONS)
def _chunk(
    setup: Setup, shared: Shared, limits: tuple[Array, Array], seeds: Array, run: train.Run
) -> tuple[train.Run, train.Sums]:
    def one(everything: tuple, seed: Array, run: train.Run) -> tuple[train.Run, train.Sums]:
        (spec, rules, key), (until, observe_every) = everything
        trial, streams = setup.build(spec), keys.streams(key, seed)
        return train.chunk(trial, setup.plan, rules, streams, run, until, observe_every)

    return _over_lanes(setup, one, (shared, limits), (seeds, run))


@_compiled((0, 1), LOOK_OPTIONS)
def _look(
    setup: Setup, keep_beliefs: bool, shared: Shared, seeds: Array, run: train.Run
) -> tuple[dict[str, Array], Array | None]:
    def one(shared: Shared, seed: Array, run: train.Run) -> tuple[dict, Array | None]:
        spec, _, key = shared
        trial = setup.build(spec)
        seen = train.snapshot(trial, setup.plan, keys.streams(key, seed), run)
        return seen, observe.whole_beliefs(trial, run.state) if keep_beliefs else None

    return _over_lanes(setup, one, shared, (seeds, run))


@_compiled((0,), CPU_OPTIONS)
def _probe(setup: Setup, shared: Shared, seeds: Array, run: train.Run) -> dict[str, Array]:
    def one(shared: Shared, seed: Array, run: train.Run) -> dict[str, Array]:
        spec, _, key = shared
        return train.probe(setup.build(spec), setup.plan, keys.streams(key, seed), run)

    return _over_lanes(setup, one, shared, (seeds, run))


def count_update(trial: Trial) -> tuple[flops.FlopCount, flops.FlopCount]:
    """Operations of one update counted from its program: the learner's own and the world's.

    THEORY 5(b). The world's part is counted from its own functions and taken off the whole.
    """
    environment, learner = trial.environment, trial.learner
    key = jax.random.key(0)
    streams = keys.streams(key, jnp.uint32(0))
    task = jax.eval_shape(environment.init, key)
    state = jax.eval_shape(learner.init, streams)
    whole = flops.count_flops(learner.step, streams, state, task)
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
