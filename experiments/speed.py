"""How fast is simrl, against what a good user would write without it?

Each workload and side runs in a process of its own, sides taking turns, each with the flags it
would really use (simrl: all cores; the others: the defaults of their libraries). A process makes a
first call, which compiles, then one timed call; reported are the median and the range over rounds.
The load of the machine is recorded beside each: timings on a shared machine are not the machine's.

`--check` compares what the sides learn. `--scale` times simrl from a thousand to a million seeds.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

import simrl
from experiments import command, speed_check, speed_figure
from experiments import speed_workloads as workloads
from simrl import plots

ROUNDS = 3
SPREAD = ("low", "median", "high")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.speed", description=__doc__)
    parser.add_argument("--rounds", type=command.positive, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    families = sorted({w.family for w in workloads.WORKLOADS.values()})
    parser.add_argument("--only", nargs="+", choices=families, default=families)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--backend", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--scale", action="store_true", help="simrl alone, 1e3 to 1e6 seeds")
    parser.add_argument("--check", action="store_true", help="compare what is learned, not speed")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def worker(side: str, workload: str, quick: bool, seed: int, platform: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    asked = [sys.executable, "-m", "experiments.speed", "--worker", side, workload]
    asked += ["--seed", str(seed), *(["--quick"] if quick else [])]
    settings = {**os.environ, **({"JAX_PLATFORMS": platform} if platform else {})}
    done = subprocess.run(asked, capture_output=True, text=True, env=settings)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OSError(f"{side} on {workload} ended with status {done.returncode}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def timed(chosen: argparse.Namespace, console: Console) -> pd.DataFrame:
    """All measurements, one row each: for every workload, its sides in turn, round by round."""
    rows: list[dict[str, Any]] = []
    for workload in workloads.WORKLOADS.values():
        sides = workloads.sides_of(workload) if workload.family in chosen.only else []
        turns = [(turn, side) for turn in range(chosen.rounds) for side in sides]
        for turn, side in turns:
            result = worker(side, workload.name, chosen.quick, 2 * turn, "")
            value = workloads.in_unit(workload, chosen.quick, result)
            rows.append({"workload": workload.name, "side": side, "value": value, **result})
            text = (
                f"{workload.name}, {side}: {value:.3g} {workload.unit}, load {result['load']:.1f}"
            )
            console.print(text, highlight=False)
    return pd.DataFrame(rows)


def summary(measured: pd.DataFrame) -> pd.DataFrame:
    """Median and range over rounds, and the largest memory."""
    rows = []
    for (name, side), part in measured.groupby(["workload", "side"], sort=False):
        workload = workloads.WORKLOADS[str(name)]
        spread = dict(zip(SPREAD, part["value"].quantile([0, 0.5, 1]), strict=True))
        row: dict[str, Any] = {"workload": name, "side": side, "unit": workload.unit, **spread}
        row["how"] = "extrapolated" if part["extrapolated"].any() else ""
        row |= {
            key: float(part[key].median()) for key in ("seconds", "cores", "compile_s", "first_s")
        }
        row |= {key: float(part[key].max()) for key in ("late_s", "peak_mb", "above_mb", "load")}
        row |= {"last_pass_rate": float(part["last_pass_rate"].mean()), "rounds": len(part)}
        row["extrapolated"] = bool(part["extrapolated"].any())
        rows.append(row)
    table = pd.DataFrame(rows)
    ours = table[table["side"] == workloads.SIMRL].set_index("workload")["median"]
    table.insert(7, "over simrl", table["median"] / table["workload"].map(ours))
    return table


SHOWN = {
    "workload": "workload",
    "side": "side",
    "median": "median",
    "low": "low",
    "high": "high",
    "over simrl": "/ simrl",
    "how": "how",
    "cores": "cores",
    "compile_s": "compile s",
    "peak_mb": "peak MB",
    "load": "load",
}


def scale(chosen: argparse.Namespace, console: Console, platform: str) -> pd.DataFrame:
    """simrl on W1 with few steps, by the number of seed-runs; memory must not grow with steps."""
    rows = []
    for num in workloads.QUICK_SCALES if chosen.quick else workloads.SCALES:
        workload = workloads.scaled(num)
        result = worker(workloads.SIMRL, workload.name, False, 0, platform)
        row = {"seed-runs": num, "updates": workload.problem.steps * workload.problem.looks}
        row |= {"seconds": result["seconds"], "seed-runs/s": num / result["seconds"]}
        row |= {"ns/pull": workloads.in_unit(workload, False, result)}
        keys = ("compile_s", "peak_mb", "load")
        row |= {SHOWN[key]: result[key] for key in keys}
        rows.append(row)
        text = f"{num:,} seed-runs: {result['seconds']:.3g} s, {result['peak_mb']:.0f} MB"
        console.print(text, highlight=False)
    return pd.DataFrame(rows)


def find_gpu() -> str:
    """The platform of a GPU that JAX sees; asked in another process, which holds no memory here."""
    asked = [sys.executable, "-c", "import jax; jax.devices('gpu')"]
    if subprocess.run(asked, capture_output=True).returncode != 0:
        raise simrl.SpecError("no GPU can be had: JAX sees none here (see pip install .[cuda12])")
    return "cuda"


def check(console: Console) -> None:
    """Print what each side learned beside what simrl did; exit status 1 if a law differs."""
    simrl.use_cpu_cores()
    torch = importlib.util.find_spec("torch") is not None
    rows = speed_check.table(torch)
    title = f"means at the last look, asked within {speed_check.MOST:.0f} standard errors; "
    title += "predicted: simrl's, or the sum of 1/p for one guess at a time"
    command.show(rows, title, console)
    if not torch:
        console.print("PyTorch: skipped, torch cannot be imported here", highlight=False)
    if (rows["verdict"] == "FAILS").any():
        raise SystemExit(1)


def compare(chosen: argparse.Namespace, console: Console) -> None:
    """Time every side, print the table, draw the figure."""
    measured = timed(chosen, console)
    table = summary(measured)
    about = f"{chosen.rounds} rounds on {os.cpu_count()} cores; cores: CPU time over wall time; "
    about += "load: 1-minute average before a run, the largest"
    for unit, part in table.groupby("unit", sort=False):
        command.show(part[list(SHOWN)].rename(columns=SHOWN), f"{unit}, {about}", console)
    if importlib.util.find_spec("torch") is None:
        console.print("PyTorch: skipped, torch cannot be imported here", highlight=False)
    if (table["extrapolated"]).any():
        text = "extrapolated: time per guess over a fixed number of guesses x guesses to pass rate "
        text += "1/2 (REINFORCE: the sum of 1/p; GRPO: mean of 256 seeds of the cached pass rate)"
        console.print(text, highlight=False)
    chosen.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(chosen.out / "table.csv", index=False)
    measured.to_csv(chosen.out / "rounds.csv", index=False)
    with plots.paper():
        plots.save(speed_figure.figure(table), chosen.out / "figure")
    console.print(f"tables (csv) and figure (pdf, png) are in {chosen.out}", highlight=False)


def main() -> None:
    """Run what was asked for."""
    chosen, console = arguments(), command.console()
    if chosen.worker:
        side, name = chosen.worker
        found = workloads.measure(side, workloads.named(name), chosen.quick, chosen.seed)
        print(json.dumps(found))
    elif chosen.check:
        check(console)
    elif chosen.scale or chosen.backend == "gpu":
        platform = find_gpu() if chosen.backend == "gpu" else ""
        table = scale(chosen, console, platform)
        command.show(table, f"simrl on W1 by number of seeds, {chosen.backend}", console)
        chosen.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(chosen.out / f"scale_{chosen.backend}.csv", index=False)
    else:
        compare(chosen, console)


if __name__ == "__main__":
    command.guarded(main)
