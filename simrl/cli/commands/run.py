"""`simrl run`: a sweep, or what is missing of it."""

import argparse
import dataclasses
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

import simrl
from simrl.cli import distributed, process, summary, tables
from simrl.errors import SpecError
from simrl.sweeps import spec as specs
from simrl.sweeps.errors import NothingToRun

# Variables of schedulers: the number of this job, how many there are (or the last), the first
# number, and the step from one to the next.
SCHEDULERS = (
    (
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_COUNT",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_STEP",
    ),
    ("SGE_TASK_ID", "SGE_TASK_LAST", "SGE_TASK_FIRST", "SGE_TASK_STEPSIZE"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


def execute(arguments: argparse.Namespace) -> None:
    """Runs the sweep of a file; prints a row for each condition, and where the results are."""
    if not arguments.no_cache:
        process.keep_programs()
    share = of_scheduler() if arguments.shard == "auto" else arguments.shard
    if arguments.coordinator and not arguments.distributed:
        raise SpecError("--coordinator: must stand beside --distributed")
    if arguments.distributed and not arguments.dry_run:  # before a module of the user's uses JAX
        distributed.meet(arguments.coordinator, share)
        share = jax.process_index() + 1, jax.process_count()
    if arguments.allow:
        sys.path.insert(0, os.getcwd())  # which a console script does not look in
    sweep = changed(simrl.load(arguments.file, allow=arguments.allow), arguments.set)
    out = arguments.out or Path("results") / sweep.name
    if arguments.dry_run:
        print(planned(sweep, arguments.seeds, out, arguments.keep))
        return
    bar = simrl.ProgressBar("{} {}/{}".format(sweep.name, *share) if share else sweep.name)
    options = {name: getattr(arguments, name) for name in ("devices", "keep", "strict")}
    try:
        data = simrl.run(sweep, arguments.seeds, out, shard=share, progress=bar, **options)
    except NothingToRun as nothing:  # more processes than blocks are no failure of a job
        print(nothing)
        return
    console = Console()
    frame, title, keys = summary.summary(data)
    tables.show(frame.head(summary.MOST_ROWS), title, console, keys)
    if len(frame) > summary.MOST_ROWS:
        more = len(frame) - summary.MOST_ROWS
        console.print(f"{more} more conditions: simrl table {out}", soft_wrap=True)
    lines = f"results: {out}; simrl figure {out}, simrl table {out}"
    console.print(lines, highlight=False, soft_wrap=True)


def planned(sweep: simrl.Sweep, seeds: int, out: Path, keep: Any = "seeds") -> str:
    """Returns what a run would take, as lines."""
    plan = simrl.plan(sweep, seeds, out, keep=keep)
    rows = {
        "conditions": f"{plan.conditions:,}, of {seeds:,} seeds",
        "to run": f"{plan.seed_runs:,} seed-runs in {plan.blocks:,} blocks; the rest is stored",
        "programs": f"{plan.programs:,} to compile, unless they are in the cache",
        "updates": f"at most {plan.updates:,}",
        "samples": f"at most {plan.samples:,}",
        "FLOPs": f"at most {plan.flops:.3g}, counted from the programs",
        "disk": f"about {in_words(plan.disk)} in {out}",
        "memory": f"about {in_words(plan.memory)} of results at once, with --keep {keep}",
    }
    width = max(map(len, rows)) + 2
    return "\n".join(name.ljust(width) + text for name, text in rows.items())


def in_words(num_bytes: float) -> str:
    """Returns a number of bytes in a unit for a reader."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.3g} TB"


def changed(sweep: simrl.Sweep, changes: Iterable[tuple[str, str]]) -> simrl.Sweep:
    """Returns the sweep with fields set to a value, instead of the file's or of varying.

    `changes`: pairs of a dotted path and a value as in TOML; text may stand without quotes. Raises
    SpecError where there is no such field.
    """
    spec, vary = specs.resolved(sweep.spec), sweep.vary
    for path, text in changes:
        try:
            spec = specs.put(spec, path, value_of(text))
        except SpecError as error:
            raise SpecError(f"--set {path}: {error}") from None
        if isinstance(vary, Mapping):
            vary = {axis: values for axis, values in vary.items() if axis != path}
    return dataclasses.replace(sweep, spec=specs.resolved(spec), vary=vary)


def value_of(text: str) -> Any:
    """Returns the value of a word: as TOML reads it, or else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def of_scheduler() -> tuple[int, int]:
    """Returns the share (i, n), 1 <= i <= n, that the variables of a scheduler name.

    Raises SpecError where no scheduler has set any, or where its numbers are not evenly spaced.
    """
    for own, size, *spacing in SCHEDULERS:
        if own in os.environ and size in os.environ:
            first, step = map(_whole, spacing, "01") if spacing else (0, 1)
            number, rest = divmod(_whole(own) - first, max(step, 1))
            count = _whole(size)
            if size.endswith("LAST"):
                count = (count - first) // max(step, 1) + 1
            if rest or not 0 <= number < count:
                text = f"got {_whole(own)} of {count} jobs from {first}: give each --shard i/n"
                raise SpecError(f"{own}: must be evenly spaced for --shard auto, {text}")
            return number + 1, count
    names = ", ".join(own for own, *_ in SCHEDULERS)
    raise SpecError(f"--shard auto: must be run by a scheduler that sets one of {names}")


def _whole(variable: str, default: str = "") -> int:
    """The whole number that an environment variable has."""
    text = os.environ.get(variable, default)
    if not text.isdecimal():
        raise SpecError(f"{variable}: must be a whole number, got {text[:60]!r}")
    return int(text)
