"""What every experiment's command shares: arguments, progress, interrupts, programs on disk."""

import argparse
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import jax
from rich.console import Console

import simrl
from simrl.cli.parser import Parser, positive
from simrl.cli.process import guarded, keep_programs, refuse_unwritable

__all__ = ["guarded", "positive", "refuse_unwritable"]  # of all commands


def parser(name: str, about: str, example: str = "--quick") -> Parser:
    """Returns the parser of an experiment, whose docstring is `about`; refuses abbreviations."""
    prog = f"python -m experiments.{name}"
    return Parser(prog, about, f"{prog} {example}")


def arguments(name: str, about: str, seeds: int, quick: int) -> argparse.Namespace:
    """Parses the command line of an experiment that stores its results in a folder.

    `seeds` and `quick`: how many by default, and with --quick. Keeps compiled programs on disk.
    """
    options = parser(name, about, f"--seeds {max(quick, 2)} --out results/mine")
    add = options.add_argument
    add("--seeds", type=positive, help=f"seeds per condition (default {seeds}, quick {quick})")
    folder = f"results/{name}"
    add("--out", type=Path, help=f"result folder (default {folder}, quick {folder}-quick)")
    add("--quick", action="store_true", help="a small run, to see that it works")
    add("--devices", type=positive, help="how many devices (default all)")
    add("--verbose", action="store_true", help="print every table")
    text = "do not keep compiled programs in the user's cache folder"
    add("--no-cache", action="store_true", help=text)
    chosen = options.parse_args()
    chosen.seeds = chosen.seeds or (quick if chosen.quick else seeds)
    chosen.out = chosen.out or Path(f"{folder}-quick" if chosen.quick else folder)
    refuse_unwritable(chosen.out)
    if not chosen.no_cache:
        keep_programs()
    return chosen


@contextmanager
def beside() -> Iterator[Executor]:
    """A process for what needs one core, and not the one that waits for the rest of a command.

    It imports what the command does, at once: until the first program compiles one core is idle.
    Its JAX is on the CPU, so that it takes no accelerator's memory.
    """
    spawn = multiprocessing.get_context("spawn")
    # `leave` ends without giving the pool's locks back, which Python's tracker of them does, but
    # not without a warning, unless it begins with this.
    ignored = "ignore::UserWarning:multiprocessing.resource_tracker"
    with mock.patch.dict(os.environ, {"PYTHONWARNINGS": ignored}):
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
    """Wall time of a whole command, the part of it spent compiling, and its runs."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.compiling = 0.0
        self.bars: list[simrl.ProgressBar] = []
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def bar(self, title: str) -> simrl.ProgressBar:
        """Returns a progress bar whose run is counted in the summary."""
        self.bars.append(simrl.ProgressBar(title))
        return self.bars[-1]

    def _heard(self, event: str, duration_secs: float, **about: str | int) -> None:
        if event.endswith(("backend_compile_duration", "jaxpr_to_mlir_module_duration")):
            self.compiling += duration_secs

    def summary(self) -> str:
        """Returns one line."""
        wall = time.monotonic() - self.began
        states = [bar.state for bar in self.bars if bar.state is not None]
        seeds = sum(state.seeds_done for state in states)
        if seeds == 0:
            return f"{wall:.0f} s; every block was stored already"
        updates = sum(state.updates_done for state in states)
        compiling = f", most of it compiling ({self.compiling:.0f} thread-seconds)"
        text = compiling if 2 * self.compiling > wall else ""
        return f"{wall:.0f} s{text}; {seeds:,} seed-runs, {updates:,} updates"


def farewell(console: Console, clock: Clock, out: Path) -> None:
    """Prints the last two lines of an experiment."""
    console.print(clock.summary(), highlight=False)
    console.print(f"tables (csv) and figures (pdf, png): {out}", highlight=False, soft_wrap=True)


def console() -> Console:
    """Returns the screen; where there is no terminal it is 80 columns wide, or COLUMNS."""
    return Console()


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
