"""A chain of stretches: what is summed of the updates of many seeds, phase by phase.

A run is a chain of chunks with traced bounds, so one compiled program serves every gap between log
points. Inside a chunk, updates come in stretches of up to `observe_every` that end when a phase
does; the state is measured once a stretch.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import columnwise, keys
from simrl.engine import clock, observe, probes
from simrl.engine.train import (
    COUNTERS,
    Cell,
    Given,
    Path,
    Plan,
    Run,
    Stretch,
    phases_of,
)
from simrl.measures import information, phases
from simrl.types import Array, Trial

MAX_STRETCHES = 4096  # in one chunk: float32 sums of a million equal terms are off by .3 %


class Sums(NamedTuple):
    """One chunk's accumulators by phase; the host adds chunks up in 64 bits."""

    values: Array  # [P, Q] float32: each quantity times its weight
    counts: Array  # [P, C, 2] words


class Carry(NamedTuple):
    """Lanes [..., N] between two calls of the updates."""

    run: Run
    stretch: Stretch
    memo: Any  # the path's own
    begins: Array  # [N] bool: whether a new stretch does
    num: Array  # [N] int32: stretches so far
    sums: Sums


def chunk(
    cell: Cell, given: Given, run: Run, limits: tuple[Array, Array], path: Path
) -> tuple[Run, Sums]:
    """Train lanes [N] until `until` updates are done, the stop is reached, or for MAX_STRETCHES.

    Every leaf has the lanes on its last axis; `limits` are `until` [] and `observe_every` [N]. A
    lane that is finished makes no update. Stretches end at different times: what is summed of one
    does not depend on who else has ended theirs.
    """
    until, observe_every = limits
    known = cell.over_lanes(observe.truth)(given.spec, run.task)
    num_phases, num_lanes = cell.plan.num_phases, run.done.shape[0]
    empty = Sums(
        jnp.zeros((num_phases, len(observe.quantities(cell.trial)), num_lanes)),
        jnp.zeros((num_phases, len(COUNTERS), 2, num_lanes), jnp.uint32),
    )

    def limit(at: Array, most: Array, num: Array) -> Array:
        return clock.chosen(num < MAX_STRETCHES, clock.end_of_stretch(at, most, until), at)

    @jax.jit  # traced once for its shapes and for itself
    def begun(run: Run, num: Array) -> Stretch:
        end = columnwise.over_lanes(limit)(run.step, observe_every, num)
        begin = cell.over_lanes(partial(_begin, plan=cell.plan))
        return begin(given.spec, given, known, run, end)

    def unfinished(carry: Carry) -> Array:
        early = columnwise.over_lanes(lambda step: clock.earlier(step, until))(carry.run.step)
        return jnp.any(early & ~carry.run.done & (carry.num < MAX_STRETCHES))

    def step(carry: Carry) -> Carry:
        begins = partial(jnp.where, carry.begins)
        stretch = jax.tree.map(begins, begun(carry.run, carry.num), carry.stretch)
        run, told, memo, ended = path.updates(cell, given, known, carry.run, stretch, carry.memo)
        stretch = stretch._replace(told=told)
        account = cell.over_lanes(partial(_account, plan=cell.plan))
        sums = account(given.spec, known, run, stretch, carry.sums)
        sums = jax.tree.map(partial(jnp.where, ended), sums, carry.sums)
        return Carry(run, stretch, memo, ended, carry.num + ended.astype(jnp.int32), sums)

    num = jnp.zeros(num_lanes, jnp.int32)
    shapes = jax.eval_shape(begun, run, num)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    memo = path.prepare(cell, given, run)
    carry = Carry(run, nothing, memo, jnp.ones(num_lanes, bool), num, empty)
    after = jax.lax.while_loop(unfinished, step, carry)
    return after.run, after.sums


def _begin(
    trial: Trial, given: Given, known: observe.Truth, run: Run, end: Array, *, plan: Plan
) -> Stretch:
    """Measure a state at the beginning of a stretch."""
    key = keys.fold_in(clock.fold_in(given.streams.probe, run.step), probes.OF_STATE)
    drawn = key, plan.num_redraws
    return Stretch(
        end=end,
        at=phases_of(trial, plan, given.rules, known, run),
        odds=run.odds,
        spent=run.spent,
        label_score=_label_score(trial, known, run),
        measured=observe.of_state(trial, run.state, run.task, known, *drawn, odds=run.odds),
        told={name: jnp.zeros_like(run.odds) for name in observe.told(trial)},
    )


def _label_score(trial: Trial, known: observe.Truth, run: Run) -> Array:
    """What `absorbed_label` is a difference of [M], or nothing [0]."""
    if "absorbed_label" not in observe.quantities(trial):
        return jnp.zeros((0,), run.odds.dtype)
    return observe.label_score(observe.beliefs(trial, run.state), known)


def _account(
    trial: Trial, known: observe.Truth, run: Run, stretch: Stretch, sums: Sums, *, plan: Plan
) -> Sums:
    """Add a stretch to the phases that its prompts were in when it began.

    Measures of the state are those at its beginning, weighed by the trajectories spent on a prompt;
    what was told is a sum already and what was absorbed is a difference.
    """
    spent = phases.subtract_words(run.spent, stretch.spent)
    trajectories = phases.float_of(spent[:, COUNTERS.index("trajectories")])
    # A prompt that was not drawn adds nothing, even where its measure is infinite.
    weighed = {name: value * trajectories for name, value in stretch.measured.items()}
    values = {name: jnp.where(trajectories > 0, value, 0) for name, value in weighed.items()}
    values |= stretch.told
    values["absorbed"] = observe.absorbed(stretch.odds, run.odds)
    if "absorbed_label" in observe.quantities(trial):
        gain = _label_score(trial, known, run) - stretch.label_score
        values["absorbed_label"] = gain / information.NATS_PER_BIT
    columns = jnp.stack([values[name] for name in observe.quantities(trial)], axis=-1)
    return Sums(
        values=phases.scatter_sums(sums.values, stretch.at, columns),
        counts=phases.scatter_words(sums.counts, stretch.at, spent),
    )
