"""Seeds per second and memory of simrl by the number of seeds, of one core and of all.

Jobs (`held`) run in a process of their own; `table` turns what they found into rows. Time should be
linear in the number of seeds, and with moments memory the same from a few blocks on.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import pandas as pd

import simrl
from experiments import speed_workloads as workloads

Ask = Callable[..., dict[str, Any]]  # job, *arguments -> what it found

SPEC = simrl.Spec(
    simrl.Bandit("one_right", 10), simrl.PolicyGradient(group_size=8), max_steps=20, log_points=2
)
FIRST = 2048  # seeds of a run before, which compiles
SIZES, QUICK_SIZES = (10**3, 10**4, 10**5, 10**6), (10**3, 10**4)
MOST = 10**7  # with moments, on all cores


def held(num: str, keep: str, devices: str) -> dict[str, float]:
    """Job: seconds and MB that so many seeds take on so many devices, 0 for all."""
    simrl.use_cpu_cores()
    options: dict[str, Any] = {"keep": keep, "devices": int(devices) or None}
    simrl.run(SPEC, FIRST, **options)
    workloads.forget_peak()
    before, began = workloads.memory("VmRSS"), time.perf_counter()
    data = simrl.run(SPEC, int(num), **options)
    seconds = time.perf_counter() - began
    return {
        "devices": int(devices) or len(jax.devices()),
        "seconds": seconds,
        "more_mb": workloads.memory("VmHWM") - before,
        "returned_mb": data.nbytes / 2**20,
    }


def table(ask: Ask, quick: bool, say: Callable[[str], None]) -> pd.DataFrame:
    """Returns a row for each number of seeds, of what is kept and of devices."""
    sizes = QUICK_SIZES if quick else SIZES
    asked = [(num, keep, n) for keep in ("seeds", "moments") for n in (1, 0) for num in sizes]
    asked += [] if quick else [(MOST, "moments", 0)]
    rows = []
    for num, keep, devices in asked:
        found = ask("seeds", num, keep, devices)
        row = {"kept": keep, "devices": found["devices"], "seeds": num}
        row |= {"seconds": found["seconds"], "seeds/s": num / found["seconds"]}
        row |= {"peak, more MB": found["more_mb"], "returned MB": found["returned_mb"]}
        rows.append(row)
        say(f"{num:,} seeds, {keep}, {found['devices']} devices: {found['seconds']:.3g} s")
    return pd.DataFrame(rows)
