"""Speed of simrl against JAX, NumPy and PyTorch, and against the roofline of the machine.

Each workload and side runs in a process of its own, sides taking turns, each with the flags it
would really use (simrl: all cores; the others: the defaults of their libraries). A process makes a
first call, which compiles, then one timed call; reported are the median and the range over rounds.
The load of the machine is recorded beside each: timings on a shared machine are not the machine's.

Parts: W1, W2, W3 against the other sides; `large`, the first two at sizes that fill an accelerator;
`scale`, simrl from a thousand to a million seed-runs; `seeds`, what is kept of up to ten million
seeds; `costs`, compiling, memory and looks. The roofline is measured first. `--check` compares what
the sides learn.
"""

import argparse
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

import simrl
from experiments import command, speed_check, speed_costs, speed_figure, speed_seeds, speed_workers
from experiments import speed_roofline as roofline
from experiments import speed_table as tables
from experiments import speed_workloads as workloads
from simrl import plots
from simrl.cli import tables as printed

ROUNDS = 3


class Bench:
    """What all parts need: how they ask for measurements, and where they leave tables."""

    def __init__(self, chosen: argparse.Namespace, console: Console) -> None:
        self.chosen, self.console = chosen, console
        self.platform = speed_workers.platform_of(chosen.backend)
        self.size = "quick" if chosen.quick else "full"
        name = "speed" if self.on_cpu else "speed_gpu"
        self.out = chosen.out or Path("results") / (f"{name}-quick" if chosen.quick else name)
        command.refuse_unwritable(self.out)

    @property
    def on_cpu(self) -> bool:
        """Everything is run on the CPU."""
        return self.chosen.backend == "cpu"

    def ask(self, job: str, *given: object) -> dict[str, Any]:
        """A measurement on the backend."""
        return speed_workers.ask(self.platform, job, *given)

    def say(self, text: str) -> None:
        """A line of progress."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def keep(self, table: pd.DataFrame, name: str) -> None:
        """Store a table."""
        simrl.export(table, self.out / f"{name}.csv")

    def show(self, table: pd.DataFrame, title: str) -> None:
        """Print a table."""
        printed.show(table, title, self.console)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = command.parser("speed", __doc__ or "", "--only W1 --rounds 1")
    parser.add_argument("--rounds", type=command.positive, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="default results/speed[_gpu][-quick]")
    families = sorted({w.family for w in workloads.WORKLOADS.values()})
    parts = [*families, "scale", "seeds", "costs"]
    text = f"default: all, but {workloads.LARGE} on a CPU, where it takes minutes"
    text = f"of {', '.join(parts)}; {text}"
    parser.add_argument("--only", nargs="+", choices=parts, metavar="PART", help=text)
    text = f"of {', '.join(workloads.SIDES)}; default: all"
    parser.add_argument("--sides", nargs="+", choices=workloads.SIDES, metavar="SIDE", help=text)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--backend", choices=tuple(speed_workers.PLATFORMS), default="cpu")
    parser.add_argument("--check", action="store_true", help="compare what is learned, not speed")
    chosen = parser.parse_args()
    left_out = {workloads.LARGE} if chosen.backend == "cpu" else set()
    chosen.only = chosen.only or [part for part in parts if part not in left_out]
    return chosen


def peaks(bench: Bench) -> dict[str, Any]:
    """Measure the machine, and show what it makes of the work that W1 and W2 need."""
    rates = bench.ask("peaks", bench.size)
    problems = {name: workloads.WORKLOADS[name].problem for name in roofline.COUNTS}
    table = roofline.work_table(problems, rates)
    bench.keep(table, "roofline")
    title = f"work per unit on {rates['devices']} x {rates['device']}, an empty launch "
    title += f"{1e6 * rates['launch_s']:.3g} us, load {rates['load']:.1f}; kinds added up"
    bench.show(table, title)
    return rates


def timed(bench: Bench) -> pd.DataFrame:
    """All measurements, one row each: for every workload, its sides in turn, round by round."""
    rows: list[dict[str, Any]] = []
    quick = bench.chosen.quick
    for workload in workloads.WORKLOADS.values():
        sides = workloads.sides_of(workload) if workload.family in bench.chosen.only else []
        sides = [side for side in sides if side in (bench.chosen.sides or sides)]
        turns = [(turn, side) for turn in range(bench.chosen.rounds) for side in sides]
        for turn, side in turns:
            on = tables.backend_of(side, bench.chosen.backend)
            given = ("side", side, workload.name, bench.size, 2 * turn)
            result = speed_workers.ask(speed_workers.PLATFORMS[on], *given)
            value = workloads.in_unit(workload, quick, result)
            rows.append({"workload": workload.name, "side": side, "value": value, **result})
            text = f"{workload.name}, {side}: {value:.3g} {workload.unit}"
            bench.say(f"{text}, load {result['load']:.1f}")
    return pd.DataFrame(rows)


def compare(bench: Bench, rates: dict[str, Any]) -> None:
    """Time every side, print the table, draw the figure."""
    chosen = bench.chosen
    measured = timed(bench)
    table = tables.with_shares(tables.summary(measured, chosen.backend), rates, chosen.backend)
    if {"W1", "W2", workloads.LARGE}.intersection(chosen.only):
        table["limit"] = limits(bench, table, rates)
    bench.keep(table, "table")
    bench.keep(measured, "rounds")
    about = f"medians and ranges of {chosen.rounds} rounds on {os.cpu_count()} cores"
    for unit, part in table.groupby("unit", sort=False):
        bench.show(tables.shown(part, tables.TIMES), f"{unit}, {about}")
    about = "arithmetic, memory: shares of the roofline; cores: CPU time over wall time"
    bench.show(tables.shown(table, tables.USES), f"what was used; {about}")
    if chosen.quick:
        bench.say("quick: the sizes are too small for times and ratios to mean anything")
    if importlib.util.find_spec("torch") is None:
        bench.say("PyTorch: skipped, torch cannot be imported here")
    if (table["extrapolated"]).any():
        text = "extrapolated: time per guess over a fixed number of guesses x guesses to pass rate "
        text += "1/2 (REINFORCE: the sum of 1/p; GRPO: mean of 256 seeds of the cached pass rate)"
        bench.say(text)
    with plots.paper():
        plots.save(speed_figure.figure(table), bench.out / "figure")


def limits(bench: Bench, table: pd.DataFrame, rates: dict[str, Any]) -> list[str]:
    """What limits each side of W1 and W2 on the backend, of a GPU simrl's alone; else ""."""
    found = []
    for _, row in table.iterrows():
        if np.isnan(row["arithmetic"]):  # not counted, or not on the backend
            found.append("")
            continue
        busy, launching = row["cores"] / (os.cpu_count() or 1), tables.NAN
        if not bench.on_cpu:
            ours = row["side"] == workloads.SIMRL
            nothing = tables.NAN, tables.NAN
            busy, launching = traced(bench, row["workload"], rates) if ours else nothing
        found.append(roofline.limit(busy, launching, row["arithmetic"], row["memory"]))
        if row["side"] == workloads.SIMRL:
            bench.say(f"{row['workload']}: simrl is limited by: {found[-1]}")
    return found


def traced(bench: Bench, workload: str, rates: dict[str, Any]) -> tuple[float, float]:
    """Shares of a traced run's wall time: the GPU computes; launches at the pace of empty ones."""
    told = bench.ask("trace", workloads.SIMRL, workload, bench.size)
    launch = min(rates["launch_s"], rates["turn_s"])
    launching = told["kernels"] * launch / told["wall_s"]
    text = f"{workload}, traced: {told['kernels'] / told['updates']:.3g} launches an update,"
    bench.say(f"{text} GPU busy {told['busy']:.0%}, empty launches would take {launching:.0%}")
    return told["busy"], launching


def scale(bench: Bench, rates: dict[str, Any]) -> None:
    """simrl on W1 with few updates, by the number of seed-runs."""
    rows = []
    for num in workloads.QUICK_SCALES if bench.chosen.quick else workloads.SCALES:
        workload = workloads.scaled(num)
        result = bench.ask("side", workloads.SIMRL, workload.name, "full", 0)
        rows.append(scale_row(workload, num, result, rates))
        bench.say(f"{num:,} seed-runs: {result['seconds']:.3g} s, {result['peak_mb']:.0f} MB")
    table = pd.DataFrame(rows)
    bench.keep(table, "scale")
    shown = table.dropna(axis=1, how="all")
    bench.show(shown, f"simrl on W1 by number of seed-runs, {bench.chosen.backend}")


def scale_row(
    workload: workloads.Workload, num: int, result: dict[str, float], rates: dict[str, Any]
) -> dict[str, Any]:
    """Time, memory and roofline shares of one size."""
    floor = roofline.floor(roofline.ten_armed(workload.problem), rates)
    updates = workload.problem.steps * workload.problem.looks
    value = workloads.in_unit(workload, False, result)
    row = {"seed-runs": num, "updates": updates, "seconds": result["seconds"]}
    row |= {"seed-runs/s": num / result["seconds"], "ns/pull": value}
    row |= {"arith.": 1e9 * floor.arithmetic / value, "memory": 1e9 * floor.memory / value}
    shown = {"compile_s": "compile s", "peak_mb": "peak MB", "above_mb": "above imports MB"}
    shown |= {"device_mb": "device MB", "cores": "cores", "load": "load"}
    return row | {name: result[key] for key, name in shown.items()}


def costs(bench: Bench) -> None:
    """Compiling, memory and looks, beside what was asked."""
    table = speed_costs.measure(bench.ask, bench.chosen.rounds, bench.chosen.quick, bench.say)
    bench.keep(table, "costs")
    bench.show(table, "what simrl costs besides its updates")


def seeds(bench: Bench) -> None:
    """Seeds per second and memory by the number of seeds, and by what is kept of them."""
    table = speed_seeds.table(bench.ask, bench.chosen.quick, bench.say)
    bench.keep(table, "seeds")
    bench.show(table, "ten arms, 20 updates of 8 answers, by the number of seeds")


def check(console: Console) -> None:
    """Print what each side learned beside what simrl did; exit status 1 if a law differs."""
    simrl.use_cpu_cores()
    torch = importlib.util.find_spec("torch") is not None
    rows = speed_check.table(torch)
    title = f"means at the last look, asked within {speed_check.MOST:.0f} standard errors; "
    title += "predicted: simrl's, or the sum of 1/p for one guess at a time"
    printed.show(rows, title, console)
    if not torch:
        console.print("PyTorch: skipped, torch cannot be imported here", highlight=False)
    if (rows["verdict"] == "FAILS").any():
        raise SystemExit(1)


def main() -> None:
    """Run what was asked for."""
    chosen, console = arguments(), command.console()
    if chosen.check:
        check(console)
        return
    bench = Bench(chosen, console)
    parts = set(chosen.only)
    rates = peaks(bench) if parts & {*roofline.COUNTS, workloads.LARGE, "scale"} else {}
    if parts - {"scale", "seeds", "costs"}:
        compare(bench, rates)
    if "scale" in parts:
        scale(bench, rates)
    if "seeds" in parts:
        seeds(bench)
    if "costs" in parts:
        costs(bench)
    bench.say(f"tables (csv) and figure (pdf, png): {bench.out}")


if __name__ == "__main__":
    command.guarded(main)
