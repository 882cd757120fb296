"""Pools: pieces of cells that one compiled program runs together."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from simrl.engine import compiling, lanes, observe, pool, probes, train
from simrl.engine.lanes import Jobs, Setup
from simrl.measures import phases
from simrl.sweeps import checks, owned
from simrl.sweeps import spec as specs
from simrl.sweeps.errors import SpecError
from simrl.sweeps.grid import Cell
from simrl.sweeps.progress import COMPILING, RUNNING, Report
from simrl.sweeps.spec import Spec
from simrl.sweeps.store import Block

Piece = tuple[int, int, int]  # position of a cell, its first and its last seed
_PREPARED: set[Any] = set()  # `_programs` that this process has compiled


def run(
    cells: list[Cell], groups: list[list[Piece]], mesh: Any, report: Report
) -> Iterator[list[Block]]:
    """The blocks of each pool in turn; programs of later pools are compiled meanwhile.

    While the last launch of a pool runs, the next pool is sent after it; what comes of the one
    before is written down by another thread. Left early (Ctrl-C), nothing under way is waited for.
    """
    compiler, writer = ThreadPoolExecutor(max_workers=2), Background()
    kinds_of = {i: kind_of(cells[i].spec, mesh) for i in {group[0][0] for group in groups}}
    kinds = [kinds_of[group[0][0]] for group in groups]
    waiting: dict[Any, Future] = {}
    try:
        for group, kind in zip(groups, kinds, strict=True):
            if kind not in waiting and _programs(kind) not in _PREPARED:
                spec = cells[group[0][0]].spec
                arguments = kind[0], streams_of(0), _one_job(spec), kind[2]
                waiting[kind] = compiler.submit(pool.prepare, *arguments)
        sent: deque[Future] = deque()
        for group, kind in zip(groups, kinds, strict=True):
            while sent and kind in waiting and not waiting[kind].done():
                yield sent.popleft().result()
            if kind in waiting:
                _await(waiting, kind, report)
                _PREPARED.add(_programs(kind))
            following = run_pool(cells, group, mesh, report)
            next(following)
            if len(sent) > 1:
                yield sent.popleft().result()
            next(following)
            sent.append(writer.submit(_result, following))
        while sent:
            yield sent.popleft().result()
    finally:
        writer.close()
        compiler.shutdown(wait=False, cancel_futures=True)


def _await(waiting: dict[Any, Future], kind: Any, report: Report) -> None:
    """Waits for the programs of a kind; says how many are compiled of those that are wanted."""

    def change(stage: str) -> None:
        done = sum(future.done() for future in waiting.values())
        report.change(stage=stage, programs_done=done, programs_total=len(waiting))

    while not waiting[kind].done():
        change(COMPILING)
        futures.wait([waiting[kind]], timeout=1.0)
    change(RUNNING)
    waiting[kind].result()


class Background:
    """One thread that works while the caller goes on, and that the process does not wait for."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Returns the future result of `function(*arguments)`, after all that came before."""
        future: Future = Future()
        self._jobs.put((future, function, arguments))
        return future

    def close(self) -> None:
        """Ends the thread after the call that is under way; later ones are dropped."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function, arguments = job
            try:
                future.set_result(function(*arguments))
            except BaseException as error:  # raised by result()
                future.set_exception(error)


def _result(work: Generator[None, None, Any]) -> Any:
    """What a pool returns in the end."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def streams_of(base_seed: int) -> Any:
    """The key of all streams: threefry, whatever kind of key is the default elsewhere.

    Without a program for the device, which `jax.random.key` would send.
    """
    words: Any = np.array([0, base_seed], np.uint32)
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def _setup(spec: Spec, mesh: Any) -> tuple[Setup, Any, pool.Schedule]:
    """What a compiled program is made for, the key of all streams, and when to look."""
    trial = specs.build(specs.parts(spec))
    setup = Setup(specs.build, plan_of(spec, trial), mesh)
    schedule = pool.Schedule(log_points(spec), spec.keep_beliefs)
    return setup, spec.base_seed, schedule


def kind_of(spec: Spec, mesh: Any) -> tuple:
    """What specs that run together have in common: all but numbers."""
    structure = jax.tree.structure(specs.parts(spec))
    # Pools of seeds that never stop are launched otherwise.
    return (*_setup(spec, mesh), structure, len(spec.thresholds), spec.stop_pass_rate >= 1)


def _programs(kind: tuple) -> tuple:
    """The part of a kind that its programs are made for: not the base seed, nor the log points."""
    setup, _, schedule, *rest = kind
    return setup, schedule.keep_beliefs, *rest


def split(cells: list[Cell], pieces: list[Piece], mesh: Any) -> Iterator[list[Piece]]:
    """Pieces that run together: neighbours that differ in numbers alone, a pool full."""
    group: list[Piece] = []
    last, room = None, 0
    kinds = {i: kind_of(cells[i].spec, mesh) for i in {piece[0] for piece in pieces}}
    for piece in pieces:
        spec, kind = cells[piece[0]].spec, kinds[piece[0]]
        size = piece[2] - piece[1] + 1
        if kind != last or size > room:
            if group:
                yield group
            group, last = [], kind
            room = pool.size_for(kind[0], _one_job(spec))
        group.append(piece)
        room -= size
    if group:
        yield group


def _one_job(spec: Spec) -> Jobs:
    """Seed 0 of a condition."""
    return _repeated([_numbers(spec, None)], [range(1)])


def _numbers(spec: Spec, entries: int | None) -> tuple[Any, train.Rules, np.int32]:
    """The numbers of a condition."""
    return specs.traced(specs.parts(spec, entries)), rules_of(spec), np.int32(spec.observe_every)


def _repeated(numbers: Sequence[tuple], seeds: Sequence[range]) -> Jobs:
    """Every number of some conditions, repeated for each of their seeds."""
    sizes = [len(own) for own in seeds]
    repeated = jax.tree.map(lambda *x: np.repeat(np.stack(x), sizes, axis=0), *numbers)
    all_seeds = np.concatenate([np.asarray(own, np.uint32) for own in seeds])
    return Jobs(repeated[0], repeated[1], repeated[2], all_seeds)


def run_pool(
    cells: list[Cell], pieces: list[Piece], mesh: Any, report: Report
) -> Generator[None, None, list[Block]]:
    """Train the seeds of several pieces together; a block for each. Gives way as `launch` does.

    Where answers are lumped, seeds that run out of entries are run again with more, and with the
    same random numbers: each seed's result is that of the first size that is enough for it.
    """
    spec = cells[pieces[0][0]].spec
    setup, base_seed, schedule = _setup(spec, mesh)
    key = streams_of(base_seed)
    sizes = checks.lump_sizes(spec) or (0,)

    def reach(step: int) -> None:
        report.change(step=step, max_steps=spec.max_steps)

    jobs = _joined(cells, pieces, sizes[0])
    observed = yield from pool.launch(setup, key, jobs, schedule, reach)
    full = observed.pop("full", np.zeros(len(observed["stopped"]), bool))
    for entries in sizes[1:]:
        if not full.any():
            break
        jobs = _joined(cells, pieces, entries)
        rest = jax.tree.map(lambda leaf: leaf[full], jobs)
        again = _result(pool.launch(setup, key, rest, schedule))
        still = again.pop("full")
        for name, values in again.items():
            if not name.startswith("update."):  # constants, held once for all
                observed[name][full] = values
        full[full] = still
    if full.any():
        raise RuntimeError("entries ran out at the last size: this is a fault of simrl")
    blocks, begin = [], 0
    for _, first, last in pieces:
        end = begin + last - first + 1
        rows = {name: value[begin:end] for name, value in observed.items()}
        blocks.append({"seed": np.arange(first, last + 1), **rows})
        begin = end
    return blocks


def _joined(cells: list[Cell], pieces: list[Piece], entries: int) -> Jobs:
    """The jobs of all pieces."""
    numbers = {i: _numbers(cells[i].spec, entries) for i in {piece[0] for piece in pieces}}
    seeds = [range(first, last + 1) for _, first, last in pieces]
    return _repeated([numbers[i] for i, _, _ in pieces], seeds)


def widths(spec: Spec, mesh: Any) -> set[int]:
    """Lanes per device of each program that a cell may need."""
    sizes, platform = checks.lump_sizes(spec) or (0,), compiling.platform_of(mesh)
    return {lanes.width_for(specs.build(specs.parts(spec, size)), platform) for size in sizes}


# The learner's part and the world's, by structure: numbers do not change what an update computes.
_COUNTED: dict[Any, tuple[Any, Any]] = {}


def plan_of(spec: Spec, trial: Any) -> train.Plan:
    """The static part of the loop; counts the FLOPs of one update from its program."""
    parts = specs.parts(spec)[:3]
    structure = jax.tree.structure(parts)
    if structure not in _COUNTED:
        problems = owned.problems(spec, trial)
        if problems:
            raise SpecError("; ".join(problems))
        _COUNTED[structure] = lanes.count_update(specs.build(parts))  # of every update: no jumps
    counted, world = _COUNTED[structure]
    problems = checks.total_problems(spec, trial.learner, counted.total)
    if problems:
        raise SpecError("; ".join(problems))
    num_phases = spec.phases.num + phases.OPEN
    # Where nothing is sampled no program depends on how often: one serves every number.
    sampled = probes.wanted(trial) or observe.information_form(trial) == "sampled"
    num_redraws = spec.num_redraws if sampled else 0
    return train.Plan(num_phases, spec.phases.coordinate, counted, world, num_redraws)


def rules_of(spec: Spec) -> train.Rules:
    """The traced numbers of the loop."""

    def odds(p: float) -> float:
        return float("inf") if p >= 1 else float(np.log(p) - np.log1p(-p))

    return specs.traced(
        train.Rules(
            thresholds=np.array([odds(p) for p in spec.thresholds]),
            stop=np.array(odds(spec.stop_pass_rate)),
            phase_low=np.array(spec.phases.low),
            phase_high=np.array(spec.phases.high),
        )
    )


def log_points(spec: Spec) -> tuple[int, ...]:
    """Updates at which to look: 0, then `log_points` more up to `max_steps`, whole and distinct."""
    if spec.log_spacing == "log":
        points = np.geomspace(1, spec.max_steps, spec.log_points + 1)[1:]
    else:
        points = np.linspace(0, spec.max_steps, spec.log_points + 1)
    return tuple(sorted({0, spec.max_steps, *(int(p) for p in np.round(points))}))
