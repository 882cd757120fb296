"""What every experiment's command shares: arguments, progress, tables on the screen."""

import argparse
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import jax
import pandas as pd
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

import simrl

QUIET_SECONDS = 10.0  # between progress lines where there is no terminal to draw a bar on


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return number


def parser(name: str, description: str, seeds: int) -> argparse.ArgumentParser:
    """The arguments of an experiment that keeps its results in results/<name>."""
    made = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=description)
    made.add_argument("--seeds", type=positive, help=f"seeds per condition (default {seeds})")
    made.add_argument(
        "--out",
        type=Path,
        default=Path("results") / name,
        help="result folder (default %(default)s)",
    )
    made.add_argument("--quick", action="store_true", help="few seeds, to see that it works")
    made.add_argument("--devices", type=positive, help="how many devices (default all)")
    return made


def guarded(main: Callable[[], None]) -> None:
    """Run a command; what is the user's to mend is one line on stderr and exit status 2."""
    # What is imported stays, and what is traced is many small objects: to look for garbage among
    # them as often as Python does is 2 % of what it takes to make the programs.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        main()
    except (simrl.SpecError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; finished blocks are kept, run again to go on", file=sys.stderr)
        sys.exit(130)


@contextmanager
def beside() -> Iterator[Executor]:
    """A process for what needs one core, and not the one that waits for the rest of a command.

    It imports what the command does, at once: until the first program compiles one core is idle.
    Its JAX is on the CPU, so that it takes no accelerator's memory.
    """
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, spawn, initializer=_live_beside)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        pool.submit(os.getpid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # what went wrong is told at once


def _live_beside() -> None:
    """A process that does not outlive its parent, which alone listens to Ctrl-C."""
    jax.config.update("jax_platforms", "cpu")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class Clock:
    """Wall time, the part of it spent compiling, and the updates done, of a whole command."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.compiling = 0.0
        self.updates = self.seeds = 0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **about: str | int) -> None:
        if event.endswith(("backend_compile_duration", "jaxpr_to_mlir_module_duration")):
            self.compiling += duration_secs

    def summary(self) -> str:
        """One line."""
        wall = time.monotonic() - self.began
        if self.seeds == 0:
            return f"{wall:.0f} s; every block was there already"
        told = f"{self.seeds:,} seed-runs, {self.updates:,} updates"
        if self.compiling >= wall:  # two threads compile
            return f"{wall:.0f} s, nearly all of them lowering and compiling; {told}"
        rate = self.updates / (wall - self.compiling)
        return (
            f"{wall:.0f} s, of which {self.compiling:.0f} s lowering and compiling; "
            f"{told}, {rate:,.0f} updates/s of the rest"
        )


def farewell(console: Console, clock: Clock, out: Path) -> None:
    """The last two lines of an experiment."""
    console.print(clock.summary(), highlight=False)
    console.print(f"tables (csv) and figures (pdf, png) are in {out}", highlight=False)


class Programs:
    """The programs compiled from now on: their names and seconds, in order.

    Seconds are of tracing, lowering and compiling; a program that takes next to no time is told as
    well. What one thread compiles is told apart by name.
    """

    STAGES = ("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration", "backend_compile_duration")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.seconds: list[float] = []
        self._begun: dict[str, float] = {}
        jax.monitoring.register_event_duration_secs_listener(self.heard)

    def heard(self, event: str, duration_secs: float, **about: str | int) -> None:
        """Take an event of JAX: `fun_name` is f while tracing and jit(f) after."""
        stage = event.split("/")[-1]
        if stage not in self.STAGES:
            return
        name = str(about.get("fun_name", "")).removeprefix("jit(").removesuffix(")")
        # A name traced again, inside another program, starts anew.
        before = 0.0 if stage == self.STAGES[0] else self._begun.pop(name, 0.0)
        if stage != self.STAGES[-1]:
            self._begun[name] = before + duration_secs
            return
        self.names.append(name)
        self.seconds.append(before + duration_secs)


class Watch:
    """Progress of a run: conditions done, seeds per second, time left."""

    def __init__(self, title: str, console: Console, clock: Clock):
        self.title, self.console, self.clock = title, console, clock
        self.counted = (clock.seeds, clock.updates)
        self.began = self.spoke = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),  # also before the total is known
            TextColumn("seed-runs, {task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(title, total=None, rate="compiling")

    def __enter__(self) -> "Watch":
        self.bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.bar.stop()

    def __call__(self, told: "simrl.Progress") -> None:
        """Take a step of `simrl.run`."""
        now = time.monotonic()
        self.clock.seeds = self.counted[0] + told.seeds_done
        self.clock.updates = self.counted[1] + told.updates_done
        rate = told.seeds_done / (now - self.began)
        text = f"{self.title}: condition {told.cell + 1} of {told.num_cells}"
        self.bar.update(
            self.task,
            description=text,
            completed=told.seeds_done,
            total=told.seeds_total,
            rate=f"{rate:,.0f} seeds/s",
        )
        last = told.seeds_done == told.seeds_total
        if not self.console.is_terminal and (last or now - self.spoke > QUIET_SECONDS):
            self.spoke = now
            left = (told.seeds_total - told.seeds_done) / rate
            self.console.print(f"{text}, {rate:,.0f} seeds/s, {left:.0f} s left", highlight=False)


def console() -> Console:
    """The screen; where there is no terminal, wide enough for the tables."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=150)


def show(frame: pd.DataFrame, title: str, console: Console) -> None:
    """Print a table of strings and numbers."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in frame.columns:
        right = pd.api.types.is_numeric_dtype(frame[column])
        drawn.add_column(str(column), justify="right" if right else "left", no_wrap=True)
    for row in frame.itertuples(index=False):
        drawn.add_row(*(number(value) for value in row))
    console.print(drawn)


def number(value: object) -> str:
    """A cell of a printed table: four digits, a dash for what is not defined."""
    if isinstance(value, float):
        return "–" if value != value else f"{value:.3g}"
    return str(value)
