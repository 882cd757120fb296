"""Progress of a run: what is reported, and a bar or lines that show it."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

COMPILING, RUNNING = "compiling", "running"
SILENCE = 10.0  # seconds between lines where there is no terminal to draw a bar on
REFRESH = 0.5  # seconds between two drawings of a bar


class Progress(NamedTuple):
    """State of a run, passed to a progress function after each block of seeds.

    Attributes:
        cell: position of the condition that the block belongs to, among those that are run.
        num_cells: conditions that are run.
        coordinates: axis -> label of that condition.
        seeds_done: of all conditions; blocks that were on disk before are not counted.
        seeds_total: seeds that this run trains.
        updates_done: summed over seeds.
        stage: "running", or "compiling" while nothing runs because a program is not ready.
        programs_done: programs compiled so far.
        programs_total: programs that this run compiles.
        step: updates of the seeds under way: all of them are there or have stopped.
        max_steps: updates of the seeds under way, at most.
    """

    cell: int
    num_cells: int
    coordinates: dict[str, Any]
    seeds_done: int
    seeds_total: int
    updates_done: int
    stage: str = RUNNING
    programs_done: int = 0
    programs_total: int = 0
    step: int = 0
    max_steps: int = 0


class Estimate:
    """Seconds left, from seeds per second while something ran: compiling is not counted."""

    def __init__(self) -> None:
        self._running, self._since = 0.0, 0.0
        self._stage = COMPILING

    def update(self, state: Progress, now: float) -> None:
        """Takes the state of a run at a time in seconds."""
        if self._stage == RUNNING:
            self._running += now - self._since
        self._since, self._stage = now, state.stage

    def left(self, state: Progress) -> float | None:
        """Returns the seconds left after the last update; None while that is unknown."""
        if state.stage == COMPILING or state.seeds_done == 0 or self._running == 0:
            return None
        return self._running * (state.seeds_total - state.seeds_done) / state.seeds_done


def span(seconds: float) -> str:
    """Returns a time in one unit, for a reader."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe(state: Progress | None, left: float | None) -> str:
    """Returns what a run does, in at most about 50 characters."""
    if state is None:
        return "preparing"
    if state.seeds_total == 0:
        return "every block is stored already"
    if state.stage == COMPILING:
        current = min(state.programs_done + 1, state.programs_total)
        return f"compiling {current} of {state.programs_total}"
    text = f"{state.seeds_done:,} of {state.seeds_total:,} seed-runs"
    if left is not None and state.seeds_done < state.seeds_total:
        return f"{text}, about {span(left)} left"
    if 0 < state.step < state.max_steps and state.seeds_done == 0:
        return f"{text}, update {state.step:,} of {state.max_steps:,}"
    return text


class ProgressBar:
    """Shows the progress of a run: a bar in a terminal, one line in a notebook, else lines.

    `simrl.run(..., progress=ProgressBar("my runs"))`, which enters it as a context: it is drawn at
    once, and again at intervals while nothing is reported. `state`: the last `Progress`.
    """

    def __init__(self, title: str = "simrl.run", file: TextIO | None = None) -> None:
        self._title, self._file = title, sys.stderr if file is None else file
        self.state: Progress | None = None
        self._estimate = Estimate()
        self._began = self._written = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._draw: Callable[[], None] = self._write_line
        self._close: Callable[[], None] = lambda: None

    def __enter__(self) -> "ProgressBar":
        if is_notebook():
            self._draw, self._close = self._rewrite_line, lambda: print(file=self._file)
        elif self._file.isatty():
            self._open_bar()
        self._draw()
        threading.Thread(target=self._repeat, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        with self._lock:
            if self.state is not None:
                self._draw()
            self._close()

    def __call__(self, state: Progress) -> None:
        """Takes the state of the run."""
        with self._lock:
            before, self.state = RUNNING if self.state is None else self.state.stage, state
            self._estimate.update(state, time.monotonic())
            lines = self._draw == self._write_line
            if not lines or before != state.stage:
                self._draw()

    def text(self) -> str:
        """Returns the run's state and the time since it began."""
        left = None if self.state is None else self._estimate.left(self.state)
        seconds = int(time.monotonic() - self._began)
        return f"{describe(self.state, left)} [{seconds // 60}:{seconds % 60:02}]"

    def _repeat(self) -> None:
        """Draws at intervals until the bar is closed."""
        lines = self._draw == self._write_line
        while not self._ended.wait(REFRESH):
            with self._lock:
                if not lines or time.monotonic() - self._written >= SILENCE:
                    self._draw()

    def _write_line(self) -> None:
        self._written = time.monotonic()
        print(f"{self._title}: {self.text()}", file=self._file, flush=True)

    def _rewrite_line(self) -> None:
        print(f"\r{self._title}: {self.text():<60}", end="", file=self._file, flush=True)

    def _open_bar(self) -> None:
        """Draws by rich, where the terminal can move its cursor."""
        from rich.console import Console  # noqa: PLC0415  (heavy: only where a bar is drawn)
        from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
        from rich.progress import Progress as RichProgress  # noqa: PLC0415

        console = Console(file=self._file)
        if not console.is_interactive:
            return
        text = TextColumn("{task.fields[text]}", markup=False)
        columns = TextColumn("{task.description}"), BarColumn(12), text
        bar = RichProgress(*columns, console=console, auto_refresh=False)
        task = bar.add_task(self._title, total=None, text=self.text())

        def draw() -> None:
            known = self.state is not None and self.state.stage == RUNNING
            state = self.state if known else None
            total = None if state is None or not state.seeds_done else state.seeds_total
            done = 0 if state is None else state.seeds_done
            bar.update(task, completed=done, total=total, text=self.text(), refresh=True)

        bar.start()
        self._draw, self._close = draw, bar.stop


class Report:
    """Keeps the state of a run: a bar is passed every change, a function each block."""

    def __init__(self, function: Callable[[Progress], None] | None, num_cells: int, total: int):
        self._function = function
        self._state = Progress(0, num_cells, {}, 0, total, 0)
        self.change()

    def change(self, **fields: Any) -> None:
        """Sets fields of the state."""
        self._state = self._state._replace(**fields)
        if isinstance(self._function, ProgressBar):
            self._function(self._state)

    def block(self, cell: int, coordinates: dict[str, Any], seeds: int, updates: int) -> None:
        """Adds a block of a condition."""
        self._state = self._state._replace(
            cell=cell,
            coordinates=coordinates,
            seeds_done=self._state.seeds_done + seeds,
            updates_done=self._state.updates_done + updates,
        )
        if self._function is not None:
            self._function(self._state)


def is_notebook() -> bool:
    """Returns whether this process is a notebook's kernel; does not import IPython."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
