"""What `experiments.speed` times: workloads, sides, and one worker's measurement."""

import ctypes
import gc
import importlib
import importlib.util
import os
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import command, speed_trace
from experiments.peers import cached_rate, problems

SIMRL = "simrl"
SIDES = {  # name -> file of experiments.peers
    SIMRL: "with_simrl",
    "plain JAX": "jax_plain",
    "plain JAX + inverse CDF": "jax_inverse",
    "NumPy": "numpy_batched",
    "PyTorch": "torch_batched",
    "cached pass rate": "cached_rate",
}
SPEAKING = {"torch_batched": "torch"}  # file -> package that it needs and simrl does not
ON_CPU = {"NumPy", "PyTorch", "cached pass rate"}  # sides that know no GPU
MOST_CALLS = 3
LARGE = "large"  # W1 and W2 at sizes that fill an accelerator; minutes on a CPU
# Slow sides at fewer looks: the same launches, fewer of them, so the time of a unit is the same.
CUT = {("W2", "plain JAX"): 2}


class Workload(NamedTuple):
    """One problem at one size."""

    name: str
    family: str  # what `--only` names
    unit: str
    solve: str  # the function of a peer
    problem: Any
    quick: Any


def _one_token(vocab_size: int, group: int) -> Workload:
    """W3 at one V: to pass rate 1/2 at V = 100, a fixed number of guesses above.

    Thousands of seeds at V = 100, as a sweep has them: 256 take simrl 15 ms, nearly all the host's.
    """
    kind, rate = ("REINFORCE", 1.0) if group == 1 else ("GRPO", 3.0)
    # About 1 nat for a first right guess: of 8, it has weight sqrt(7) and a share of 1/8.
    whole = problems.OneToken(vocab_size, group, rate, seeds=2048, steps=160 // group)
    if vocab_size > 100:
        steps = {10_000: 200, 100_000: 32}[vocab_size] // (1 if group == 1 else 4)
        whole = whole._replace(seeds=64, steps=steps, looks=1)
    name = f"W3 {kind} V={vocab_size}"
    quick = whole._replace(seeds=64, steps=min(whole.steps, 20))
    return Workload(name, "W3", "s/seed", "one_token", whole, quick)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "W1",
            "W1",
            "ns/pull",
            "ten_armed",
            problems.TenArmed(),
            problems.TenArmed(runs=256, steps=20),
        ),
        Workload(
            "W2",
            "W2",
            "ns/token",
            "guessing",
            problems.Guessing(),
            problems.Guessing(seeds=64, steps=5),
        ),
        *(_one_token(size, group) for group in (1, 8) for size in (100, 10_000, 100_000)),
        Workload(
            "W1 large",
            LARGE,
            "ns/pull",
            "ten_armed",
            problems.TenArmed(runs=25_000, steps=1000),
            problems.TenArmed(runs=256, steps=20),
        ),
        Workload(
            "W2 large",
            LARGE,
            "ns/token",
            "guessing",
            problems.Guessing(seeds=32_768),
            problems.Guessing(seeds=64, steps=5),
        ),
    )
}
SCALES, QUICK_SCALES = (10**3, 10**4, 10**5, 10**6), (10**3, 10**4)


def scaled(num_runs: int) -> Workload:
    """W1 with `num_runs` seed-runs over its conditions and few steps."""
    problem = problems.TenArmed(runs=num_runs // 4, steps=50, looks=2)
    return Workload(f"scale {num_runs}", "scale", "ns/pull", "ten_armed", problem, problem)


def named(name: str) -> Workload:
    """The workload of a name, those of `--scale` included."""
    return scaled(int(name.split()[1])) if name.startswith("scale ") else WORKLOADS[name]


def sides_of(workload: Workload) -> list[str]:
    """The sides that can solve it here: their packages are installed."""
    able = []
    for side, file in SIDES.items():
        installed = importlib.util.find_spec(SPEAKING.get(file, "numpy")) is not None
        if not installed or (file == "cached_rate") > (workload.solve == "one_token"):
            continue
        able.append(side)
    return able


def peer(side: str) -> Any:
    """The module of a side."""
    return importlib.import_module(f"experiments.peers.{SIDES[side]}")


def problem_for(side: str, workload: Workload, quick: bool) -> Any:
    """What a side is timed on."""
    problem = workload.quick if quick else workload.problem
    looks = CUT.get((workload.name, side), problem.looks)
    return problem if quick else problem._replace(looks=looks)


def measure(side: str, workload: Workload, quick: bool, seed: int) -> dict[str, float]:
    """One worker: a first call over one look, which compiles, then one timed call.

    A call that still compiles, since there are more looks, is made again. `compile_s` is lowering
    and compiling in the first call, `late_s` in the one that is told; `peak_mb` is the most memory
    the process ever held, `above_mb` that without what the imports took, `device_mb` the most that
    the arrays of a GPU took. `cores` is CPU time over wall time: what the call had of the machine.
    """
    load, clock = os.getloadavg()[0], command.Clock()
    solve = getattr(peer(side), workload.solve)
    problem = problem_for(side, workload, quick)
    imported = memory("VmRSS")
    began = time.perf_counter()
    solve(problem._replace(looks=1), seed)
    first, compiled = time.perf_counter() - began, clock.compiling
    for _ in range(MOST_CALLS):
        before = clock.compiling
        began, worked = time.perf_counter(), time.process_time()
        curves = solve(problem, seed + 1)
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
        if clock.compiling == before:
            break
    whole = curves.guesses is not None and bool((curves.guesses > 0).all())
    per = problem.seeds if whole else problem.units()
    return {
        "seconds": seconds,
        "per_unit": seconds / per,
        "cores": worked / seconds,
        "looks": float(problem.looks),
        "extrapolated": float(workload.solve == "one_token" and not whole),
        "first_s": first,
        "compile_s": compiled,
        "late_s": clock.compiling - before,
        "peak_mb": memory("VmHWM"),
        "above_mb": memory("VmHWM") - imported,
        "device_mb": device_memory(),
        "load": load,
        "last_pass_rate": float(curves.pass_rate[..., -1].mean()),
    }


def launched(side: str, workload: Workload, quick: bool) -> dict[str, float]:
    """A run of one look traced on a GPU: the share it computes, kernels, updates, seconds."""
    problem = problem_for(side, workload, quick)._replace(looks=1)
    solve = getattr(peer(side), workload.solve)
    solve(problem, 0)
    found = speed_trace.traced(lambda: solve(problem, 1))
    busy = found.busy_s / found.wall_s
    return {
        "busy": busy,
        "kernels": found.kernels,
        "updates": problem.steps,
        "wall_s": found.wall_s,
    }


def device_memory() -> float:
    """MB: the most that one device held, where JAX counts it (not on CPUs)."""
    found = [device.memory_stats() for device in jax.local_devices()]
    return max((some or {}).get("peak_bytes_in_use", float("nan")) for some in found) / 2**20


def forget_peak() -> None:
    """Let VmHWM start anew from what is held now; freed memory goes back first. Linux alone."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim is not None:
        trim(0)
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")


def memory(line: str) -> float:
    """MB of a line of /proc/self/status; NaN off Linux.

    getrusage would do, but a child's ru_maxrss starts at its parent's.
    """
    path = Path("/proc/self/status")
    text = path.read_text() if path.exists() else ""
    found = [row.split()[1] for row in text.splitlines() if row.startswith(f"{line}:")]
    return float(found[0]) / 1024 if found else float("nan")


def in_unit(workload: Workload, quick: bool, result: dict[str, float]) -> float:
    """A measurement in the workload's unit."""
    if workload.solve != "one_token":
        return 1e9 * result["per_unit"]
    problem = workload.quick if quick else workload.problem
    return result["per_unit"] * (expected_guesses(problem) if result["extrapolated"] else 1)


@cache
def expected_guesses(problem: problems.OneToken) -> float:
    """Guesses to pass rate 1/2: in closed form, or the mean of 256 seeds of `cached_rate`."""
    if problem.group == 1:
        return problem.expected_guesses()
    guesses = cached_rate.one_token(problem._replace(seeds=256), 12345).guesses
    return float(np.asarray(guesses).mean())
