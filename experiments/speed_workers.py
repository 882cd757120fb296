"""Processes of `experiments.speed`: each measurement runs in one of its own.

`ask` starts one and reads what it prints; `python -m experiments.speed_workers JOB ...` is one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import simrl
from experiments import command, speed_costs, speed_peaks, speed_seeds
from experiments import speed_workloads as workloads

PLATFORMS = {"cpu": "cpu", "gpu": "cuda"}  # as JAX calls them


def ask(platform: str, job: str, *given: object) -> dict[str, Any]:
    """What a job measures, in a process of its own on "cpu" or "cuda"; compiles are not reused."""
    asked = [sys.executable, "-m", "experiments.speed_workers", job, *map(str, given)]
    settings = {"JAX_PLATFORMS": platform, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    done = subprocess.run(asked, capture_output=True, text=True, env={**os.environ, **settings})
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OSError(f"{' '.join(asked[3:])} ended with status {done.returncode}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def platform_of(backend: str) -> str:
    """What JAX calls a backend; one without a device here is refused."""
    platform = PLATFORMS[backend]
    if backend == "gpu":
        # Asked in another process, which holds none of its memory here.
        asked = [sys.executable, "-c", "import jax; jax.devices()"]
        settings = {**os.environ, "JAX_PLATFORMS": platform}
        if subprocess.run(asked, capture_output=True, env=settings).returncode != 0:
            raise simrl.SpecError("no GPU can be had: JAX sees none here (pip install .[cuda12])")
    return platform


def side(name: str, workload: str, size: str, seed: str) -> dict[str, float]:
    """One side on one workload."""
    return workloads.measure(name, workloads.named(workload), size == "quick", int(seed))


def trace(name: str, workload: str, size: str) -> dict[str, float]:
    """One side on one workload, traced."""
    return workloads.launched(name, workloads.named(workload), size == "quick")


def peaks(size: str) -> dict[str, Any]:
    """What the machine can do."""
    load = os.getloadavg()[0]
    return {**speed_peaks.measure(size == "quick"), "load": load}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "side": side,
    "trace": trace,
    "peaks": peaks,
    "compile": speed_costs.compiled,
    "memory": speed_costs.held,
    "looks": speed_costs.looks,
    "seeds": speed_seeds.held,
}


def main() -> None:
    """Do the job that the command line names and print what it found."""
    job, *given = sys.argv[1:]
    print(json.dumps(JOBS[job](*given)))


if __name__ == "__main__":
    command.guarded(main)
