"""What this machine can do: peak rates of the operations that `experiments.speed_roofline` counts.

Each rate is the best of a few jitted kernels of one operation on arrays that stay near the
arithmetic units, on all local devices at once (simrl's CPU devices are the cores). Memory is a
triad on arrays that fit in no cache. The same code runs on a GPU, with larger arrays.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, PartitionSpec

import simrl

SECONDS = 0.03  # of one repeat
REPEATS = 5  # the best is taken: a peak is what nothing disturbed
TRIAD_FLOATS = 2**26  # of each of two arrays, over all devices: 256 MiB
TRIAD_BYTES = 12  # a float: one array is read and written, one read
LAUNCHES = 500
MOST_TURNS = 4**13


class Tuning(NamedTuple):
    """What is tried; the best counts."""

    sizes: tuple[int, ...]  # elements per device
    chains: tuple[int, ...]  # cheap operations on an element between its load and its store
    options: tuple[dict[str, Any], ...]  # compiler options


CPU = Tuning((2**11, 2**13), (16, 48), ({}, {"xla_cpu_prefer_vector_width": 512}))
GPU = Tuning((2**22, 2**24), (64, 256), ({},))


class Kernel(NamedTuple):
    """One operation, many times over."""

    make: Callable[[int], Array]  # elements -> their first values
    turn: Callable[[Array, Array, int], Array]  # values, number of the turn, operations -> values
    cost: int  # cheap operations that one of these is about worth; shortens the chain


def blocks(x: Array, turn: Array, num: int) -> Array:
    """Threefry blocks of 20 rounds."""
    for k in range(num):
        key = simrl.keys.fold_in(jax.random.key(k), turn)
        x = x ^ simrl.keys.words(key, x.shape)
    return x


def exponentials(x: Array, turn: Array, num: int) -> Array:
    """x = exp(-x), which stays in 0 ... 1."""
    for _ in range(num):
        x = jnp.exp(-x)
    return x


def normals(x: Array, turn: Array, num: int) -> Array:
    """Inverse error functions, each with one multiply-add that keeps x near .45."""
    for _ in range(num):
        x = 0.5 * jax.lax.erf_inv(x) + 0.25
    return x


def multiply_adds(x: Array, turn: Array, num: int) -> Array:
    """x = a x + b with numbers unknown to the compiler."""
    a = 0.5 + 0.1 / (1 + turn.astype(x.dtype))
    for _ in range(num):
        x = a * x + (1 - a)
    return x


def comparisons(x: Array, turn: Array, num: int) -> Array:
    """The share of the edges k/num that lie at or below x: a comparison and an addition each."""
    count = jnp.zeros(x.shape, jnp.int32)
    edge = 1e-6 * turn.astype(x.dtype)
    for k in range(num):
        count = count + (x >= edge + k / num)
    return count.astype(x.dtype) * (1 / num)


def _halves(size: int) -> Array:
    return jnp.linspace(0.2, 0.7, size, dtype=jnp.float32)


KERNELS = {
    "threefry blocks": Kernel(lambda size: jnp.zeros(size, jnp.uint32), blocks, 16),
    "exponentials": Kernel(_halves, exponentials, 16),
    "normals": Kernel(_halves, normals, 16),
    "comparisons": Kernel(_halves, comparisons, 1),
    "multiply-adds": Kernel(_halves, multiply_adds, 1),
}


def variants(kernel: Kernel, tuning: Tuning) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Elements per device, operations on each in a turn, compiler options."""
    for size, chain, options in itertools.product(*tuning):
        yield size, max(chain // kernel.cost, 1), options


def measure(quick: bool) -> dict[str, Any]:
    """Operations and bytes per second of all devices, and what launches cost, in seconds."""
    simrl.use_cpu_cores()
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("all",), axis_types=(AxisType.Auto,), devices=devices)
    tuning = CPU if devices[0].platform == "cpu" else GPU
    if quick:
        tuning = tuning._replace(sizes=tuning.sizes[:1], chains=tuning.chains[:1])
    found: dict[str, Any] = {
        name: max(rate(kernel, mesh, *how) for how in variants(kernel, tuning))
        for name, kernel in KERNELS.items()
    }
    found["bytes"] = triad(mesh, TRIAD_FLOATS >> (4 if quick else 0))
    found |= {"launch_s": launch(), "turn_s": turn()}
    return {**found, "devices": len(devices), "device": devices[0].device_kind}


def over_devices(mesh: Any, function: Callable, num_arrays: int, **options: Any) -> Callable:
    """jit of `function(turns, *arrays)`, each device on its own part of the arrays."""
    over = PartitionSpec("all")
    mapped = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(PartitionSpec(), *[over] * num_arrays),
        out_specs=over,
        check_vma=False,
    )
    return jax.jit(mapped, **options)


def rate(kernel: Kernel, mesh: Any, size: int, num: int, options: dict[str, Any]) -> float:
    """Operations per second of one kernel in one form."""

    def run(turns: Array, x: Array) -> Array:
        return jax.lax.fori_loop(0, turns, lambda i, x: kernel.turn(x, i, num), x)

    whole = kernel.make(size * mesh.devices.size)
    program = over_devices(mesh, run, 1, compiler_options=options or None)
    return whole.size * num / per_turn(lambda turns: program(turns, whole))


def triad(mesh: Any, floats: int) -> float:
    """Bytes per second that a = s a + b reads and writes."""

    def run(turns: Array, a: Array, b: Array) -> Array:
        return jax.lax.fori_loop(0, turns, lambda i, a: 0.5 * a + b, a)

    size = floats - floats % mesh.devices.size
    program = over_devices(mesh, run, 2)
    whole = jnp.ones(size), jnp.ones(size)
    return TRIAD_BYTES * size / per_turn(lambda turns: program(turns, *whole))


def turn() -> float:
    """Seconds of one turn of a loop that does next to nothing."""
    program = jax.jit(lambda turns, x: jax.lax.fori_loop(0, turns, lambda i, x: x * 0.5 + 1, x))
    return per_turn(lambda turns: program(turns, jnp.ones(1)))


def launch() -> float:
    """Seconds to call a program that does next to nothing, many calls before one wait."""
    program = jax.jit(lambda x: x + 1)
    x = program(jnp.zeros(1)).block_until_ready()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(LAUNCHES):
            x = program(x)
        x.block_until_ready()
        times.append(time.perf_counter() - began)
    return min(times) / LAUNCHES


def per_turn(run: Callable[[Any], Array]) -> float:
    """Seconds of one turn: the best of repeats, less what a call without turns takes."""

    def seconds(turns: int) -> float:
        began = time.perf_counter()
        run(np.int32(turns)).block_until_ready()
        return time.perf_counter() - began

    seconds(0)  # compiles
    idle = min(seconds(0) for _ in range(REPEATS))
    turns, best = 1, idle
    while best - idle < max(SECONDS, idle) / 2 and turns < MOST_TURNS:
        turns *= 4
        best = min(seconds(turns) for _ in range(REPEATS))
    return max(best - idle, 1e-12) / turns
