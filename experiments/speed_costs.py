"""What simrl costs besides its updates: compiling, memory, looks; each beside what was asked.

Jobs (`compiled`, `held`, `looks`) measure in a process of their own, through public names alone;
`table` turns what they found into rows.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import simrl
from experiments import command, speed_workloads
from experiments.peers import problems, with_simrl

Ask = Callable[..., dict[str, Any]]  # job, *arguments -> what it found

MOST_COMPILE, MOST_BYTES, MOST_LOOK, MOST_SHARE = 3.0, 500.0, 0.2, 0.15
ALIKE = MOST_BYTES / 10  # bytes by which memory after many and after few steps may differ
RUNS, QUICK_RUNS = (10**4, 10**5), (10**3, 4 * 10**3)  # seed-runs
STEPS, QUICK_STEPS = (100, 1000), (10, 40)
LOOK_RUNS, QUICK_LOOK_RUNS = 4096, 256
LOOKS = 200, 2  # in a fifth of the long run
REPEATS = 7
LONG, LONG_LOOKS = 10_000, 50  # updates of the run whose looks may take 15 %


def cells() -> dict[str, simrl.Spec]:
    """Tabular cells whose programs are compiled, with the measures and phases of every spec."""
    guesses, labels = simrl.PolicyGradient("leave_one_out", 32), simrl.Supervised()
    known = {
        "bandit K=10": (simrl.Bandit("gaussian", 10), simrl.PolicyGradient("running_mean", 1)),
        "bandit V=1,000": (simrl.Bandit("one_right", 1000), guesses),
        "sequence exact": (simrl.Sequence(8, 3, "exact"), guesses),
        "sequence token": (simrl.Sequence(16, 8, "token"), guesses),
        "supervised V=1,000": (simrl.Bandit("one_right", 1000), labels),
    }
    few = {"max_steps": 20, "log_points": 2}
    return {name: simrl.Spec(*pair, **few) for name, pair in known.items()}  # type: ignore[arg-type]


def compiled(cell: str) -> dict[str, Any]:
    """Job: the programs of a cell and the seconds of each: tracing, lowering, compiling."""
    simrl.use_cpu_cores()
    programs = command.Programs()
    simrl.run(cells()[cell], 64)
    return {"names": programs.names, "seconds": programs.seconds}


def held(runs: str, steps: str) -> dict[str, float]:
    """Job: bytes at the peak of W1 with so many seed-runs and updates, and of what it returns.

    A small run before compiles, which takes more memory than training does.
    """
    problem = problems.TenArmed(runs=int(runs) // 4, steps=int(steps) // 2, looks=2)
    simrl.run(with_simrl.ten_armed_sweep(problem, 0), 16)
    speed_workloads.forget_peak()
    data = simrl.run(with_simrl.ten_armed_sweep(problem, 0), problem.runs)
    on_device = speed_workloads.device_memory()
    peak = speed_workloads.memory("VmHWM") if np.isnan(on_device) else on_device
    returned = data.nbytes if np.isnan(on_device) else 0  # it lies on the host
    return {"peak": peak * 2**20, "returned": float(returned)}


def looks(size: str) -> dict[str, list[float]]:
    """Job: seconds a look takes per seed at K = 10, and the share of 50 in 10,000 updates.

    Differences of runs that look often and seldom, in turns. A look is all measures at a log point
    and at the start of the stretch that it begins.
    """
    quick = size == "quick"
    runs, steps = (QUICK_LOOK_RUNS, LONG // 10) if quick else (LOOK_RUNS, LONG)
    often, seldom = LOOKS
    asked = [(often, steps // 5), (seldom, steps // 5), (LONG_LOOKS, steps), (1, steps)]
    found: dict[str, list[float]] = {"look_s": [], "share": []}
    for turn in range(REPEATS + 1):
        first, last, some, one = (
            seconds(problems.TenArmed(runs, updates // num, num), turn) for num, updates in asked
        )
        if turn == 0:
            continue  # compiles
        found["look_s"].append((first - last) / (often - seldom) / runs)
        found["share"].append((some - one) / some * LONG_LOOKS / (LONG_LOOKS - 1))
    return found


def seconds(problem: problems.TenArmed, seed: int) -> float:
    """Wall time of one condition of W1."""
    world, learner = simrl.Bandit("gaussian", 10), simrl.PolicyGradient("running_mean", 1)
    spec = with_simrl.lean(world, learner, problem, base_seed=seed)
    began = time.perf_counter()
    simrl.run(spec, problem.runs)
    return time.perf_counter() - began


class Row(NamedTuple):
    """One requirement."""

    what: str
    unit: str
    measured: list[float]  # repeats
    most: float | None  # what was asked; None: told, not judged
    note: str = ""


def table(rows: list[Row]) -> pd.DataFrame:
    """Median and range of each requirement, and whether the median keeps to what was asked."""
    shown = []
    for row in rows:
        low, median, high = np.quantile(row.measured, [0, 0.5, 1]).tolist()
        told = {"cost": row.what, "unit": row.unit, "median": median, "low": low, "high": high}
        told["at most"] = float("nan") if row.most is None else row.most
        verdict = "" if row.most is None else "met" if median <= row.most else "not met"
        shown.append({**told, "verdict": verdict, "note": row.note})
    return pd.DataFrame(shown)


def measure(ask: Ask, rounds: int, quick: bool, say: Callable[[str], None]) -> pd.DataFrame:
    """Run the jobs, one after the other."""
    rows = []
    for cell in cells():
        told = [ask("compile", cell) for _ in range(1 if quick else rounds)]
        rows += compile_rows(cell, told)
        say(f"{rows[-2].what}: {np.median(rows[-2].measured):.3g} s")
    runs = QUICK_RUNS if quick else RUNS
    peaks = {
        steps: [[ask("memory", num, steps) for num in runs] for _ in range(rounds)]
        for steps in (QUICK_STEPS if quick else STEPS)
    }
    rows += memory_rows(peaks, runs)
    say(f"{rows[-1].what}: {rows[-1].measured[0]:.3g} B")
    found = ask("looks", "quick" if quick else "full")
    rows += look_rows(found)
    say(f"{rows[-2].what}: {np.median(rows[-2].measured):.3g} us")
    return table(rows)


def compile_rows(cell: str, told: list[dict[str, Any]]) -> list[Row]:
    """The slowest program of a cell, and all of them."""
    slowest = int(np.argmax(told[0]["seconds"]))
    name, num = told[0]["names"][slowest], len(told[0]["names"])
    most = [max(one["seconds"]) for one in told]
    whole = [sum(one["seconds"]) for one in told]
    return [
        Row(f"compile, {cell}", "s", most, MOST_COMPILE, f"slowest program: {name}"),
        Row(f"compile, {cell}, all", "s", whole, None, f"{num} programs"),
    ]


def memory_rows(peaks: dict[int, list[list[dict[str, float]]]], runs: tuple[int, int]) -> list[Row]:
    """Bytes that one more seed-run takes, with few updates and with many; round by round."""
    rows: list[Row] = []
    for steps, rounds in peaks.items():
        held, told = [], []
        for small, large in rounds:
            peak, kept = (
                (large[key] - small[key]) / (runs[1] - runs[0]) for key in ("peak", "returned")
            )
            held.append(peak - kept)
            told.append((peak, kept))
        peak, kept = np.median(told, axis=0)
        note = f"{peak:.0f} at the peak less {kept:.0f} handed back"
        rows.append(Row(f"memory per seed-run, {steps:,} updates", "B", held, MOST_BYTES, note))
    medians = [float(np.median(row.measured)) for row in rows]
    few, many = min(peaks), max(peaks)
    note = f"{many:,} against {few:,} updates; a tenth of what was asked"
    apart = abs(medians[-1] - medians[0])
    return [*rows, Row("memory, more by more updates", "B", [apart], ALIKE, note)]


def look_rows(found: dict[str, list[float]]) -> list[Row]:
    """One look, and all looks of a long run."""
    micro = [1e6 * value for value in found["look_s"]]
    what = f"looks, share of {LONG:,} updates at {LONG_LOOKS} log points"
    return [
        Row("look per seed, K = 10", "us", micro, MOST_LOOK, "all measures"),
        Row(what, "1", found["share"], MOST_SHARE),
    ]
