"""A chain of stretches: what is summed of the updates of many seeds, phase by phase.

A run is a chain of chunks with traced bounds, so one compiled program serves every gap between log
points. Inside a chunk, updates come in stretches of up to `observe_every` that end when a phase
does; the state is measured once a stretch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import columnwise, keys
from simrl.engine import clock, observe, probes, train
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


class Course(NamedTuple):
    """Seeds between two chunks: each at the beginning of a stretch, where it has been measured."""

    run: Run
    at: Array  # [M] int32: the phases of its prompts; -1 before the first stretch
    label_score: Array | None  # [M], see `Stretch`
    measured: dict[str, Array]  # [M] each
    diverged: Array  # updates when a value was first seen not finite, on the path's clock


class Carry(NamedTuple):
    """Lanes [..., N] between two calls of the updates."""

    run: Run
    stretch: Stretch
    memo: Any  # the path's own
    num: Array  # [N] int32: stretches so far
    sums: Sums
    diverged: Array  # see `Course`


class Limits(NamedTuple):
    """How far lanes [N] go."""

    log_points: Array  # [T], on the path's clock: where they are looked at, in turn
    num_looks: Array  # [] int32: the first so many of them
    observe_every: Array  # [N] int32: updates in a stretch at most


def chunk(
    cell: Cell, given: Given, course: Course, limits: Limits, path: Path, look: Callable
) -> tuple[Course, Sums, Any]:
    """Train lanes [N] to some log points, or the stop, and `look(course)` at each of the points.

    Every leaf has the lanes on its last axis. After MAX_STRETCHES of them a lane goes no further.
    Stretches end at different times: what is summed of one does not depend on who else has ended
    theirs. Where a stretch ends the next begins, so that a state is measured once: for what is
    summed from there on, and for who looks at it there. What was seen is [T, ...], zeros at points
    that were not asked for.
    """
    known = cell.over_lanes(observe.truth)(given.spec, course.run.task)
    num_phases, num_lanes = cell.plan.num_phases, course.run.done.shape[0]
    sums = Sums(
        jnp.zeros((num_phases, len(observe.quantities(cell.trial)), num_lanes)),
        jnp.zeros((num_phases, len(COUNTERS), 2, num_lanes), jnp.uint32),
    )
    see = jax.jit(look)  # traced once for its shapes and for itself
    shapes = jax.eval_shape(see, course)
    room = limits.log_points.shape[0]
    seen = jax.tree.map(lambda leaf: jnp.zeros((room, *leaf.shape), leaf.dtype), shapes)

    def to_look(i: Array, both: tuple[Carry, Any]) -> tuple[Carry, Any]:
        carry, seen = both
        until = jax.lax.dynamic_index_in_dim(limits.log_points, i, keepdims=False)
        after = _advance(cell, given, known, (until, limits.observe_every), path, carry)
        carry = _checked(cell, given.spec, carry, after)
        put = partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0)
        return carry, jax.tree.map(put, seen, see(_rest(carry)))

    num = jnp.zeros(num_lanes, jnp.int32)
    memo = path.prepare(cell, given, course.run)
    carry = Carry(course.run, _resumed(cell.trial, course), memo, num, sums, course.diverged)
    carry, seen = jax.lax.fori_loop(0, limits.num_looks, to_look, (carry, seen))
    return _rest(carry), carry.sums, seen


def _rest(carry: Carry) -> Course:
    """Lanes where each has begun a stretch and gone no further."""
    stretch = carry.stretch
    return Course(carry.run, stretch.at, stretch.label_score, stretch.measured, carry.diverged)


def _resumed(trial: Trial, course: Course) -> Stretch:
    """The stretches that lanes [..., N] have begun; where they end is not known yet."""
    run, at, label_score, measured, _ = course
    told = {name: jnp.zeros_like(run.odds) for name in observe.told(trial)}
    since = run.step if trial.learner.discards else None
    return Stretch(run.step, at, run.odds, run.spent, label_score, measured, told, since)


def _advance(
    cell: Cell,
    given: Given,
    known: observe.Truth,
    limits: tuple[Array, Array],
    path: Path,
    carry: Carry,
) -> Carry:
    """Train lanes [N] to `until` [], in stretches of `observe_every` [N]: the `limits`."""
    until, observe_every = limits

    def limit(at: Array, most: Array, num: Array) -> Array:
        return clock.chosen(num < MAX_STRETCHES, clock.end_of_stretch(at, most, until), at)

    def end(run: Run, num: Array) -> Array:
        return columnwise.over_lanes(limit)(run.step, observe_every, num)

    def unfinished(carry: Carry) -> Array:
        early = columnwise.over_lanes(lambda step: clock.earlier(step, until))(carry.run.step)
        going = early & ~carry.run.done & (carry.num < MAX_STRETCHES)
        return jnp.any(going | _fresh(carry.stretch))

    def step(carry: Carry) -> Carry:
        run, stretch, fresh = carry.run, carry.stretch, _fresh(carry.stretch)
        run, told, memo, ended = path.updates(cell, given, known, run, stretch, carry.memo)
        ended, stretch = ended & ~fresh, stretch._replace(told=told)
        account = cell.over_lanes(partial(_account, plan=cell.plan))
        sums = account(given.spec, known, run, stretch, carry.sums)
        sums = jax.tree.map(partial(jnp.where, ended), sums, carry.sums)
        num = carry.num + ended.astype(jnp.int32)
        begin = cell.over_lanes(partial(_begin, plan=cell.plan))
        begun = begin(given.spec, given, known, run, end(run, num))
        stretch = jax.tree.map(partial(jnp.where, ended | fresh), begun, stretch)
        return carry._replace(run=run, stretch=stretch, memo=memo, num=num, sums=sums)

    # All stretches have begun where lanes were to stop: they may go on from there.
    stretch = carry.stretch._replace(end=end(carry.run, carry.num))
    return jax.lax.while_loop(unfinished, step, carry._replace(stretch=stretch))


def start(trial: Trial, given: Given, plan: Plan) -> Course:
    """A seed before its first update and its first stretch."""
    run = train.start(trial, given.rules, given.streams)
    known = observe.truth(trial, run.task)
    shapes = jax.eval_shape(partial(_begin, trial, plan=plan), given, known, run, run.step)
    stretch = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    at = jnp.full_like(stretch.at, -1)
    sound = _are_sound(trial, (run.state, run.odds))
    diverged = clock.chosen(sound, clock.of(-1, trial.path), clock.of(0, trial.path))
    return Course(run, at, stretch.label_score, stretch.measured, diverged)


def _fresh(stretch: Stretch) -> Array:
    """Whether lanes [N] have yet to begin their first stretch."""
    return stretch.at[0] < 0


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
        since=run.step if trial.learner.discards else None,
    )


def _label_score(trial: Trial, known: observe.Truth, run: Run) -> Array | None:
    """What `absorbed_label` is a difference of [M], or nothing."""
    if "absorbed_label" not in observe.quantities(trial):
        return None
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
    if stretch.label_score is not None:
        gain = observe.label_score(observe.beliefs(trial, run.state), known) - stretch.label_score
        values["absorbed_label"] = gain / information.NATS_PER_BIT
    if stretch.since is not None:  # an update of several prompts is shared by what they drew
        share = trajectories / jnp.maximum(jnp.sum(trajectories), 1)
        values["updates"] = share * (run.step - stretch.since)
    columns = jnp.stack([values[name] for name in observe.quantities(trial)], axis=-1)
    return Sums(
        values=phases.scatter_sums(sums.values, stretch.at, columns),
        counts=phases.scatter_words(sums.counts, stretch.at, spent),
    )


def _checked(cell: Cell, spec: Any, before: Carry, after: Carry) -> Carry:
    """Lanes [N] at a log point: which have diverged, and what they sum from then on is left out."""
    known = {k: v for k, v in after.stretch.measured.items() if not k.endswith("_error")}
    values = after.run.state, after.run.odds, after.sums.values, known
    sound = cell.over_lanes(_are_sound)(spec, values)

    def seen(diverged: Array, step: Array, sound: Array) -> tuple[Array, Array]:
        new = clock.never(diverged)
        return new, clock.chosen(new & ~sound, step, diverged)

    new, diverged = columnwise.over_lanes(seen)(before.diverged, after.run.step, sound)
    sums = jax.tree.map(partial(jnp.where, new), after.sums, before.sums)
    return after._replace(sums=sums, diverged=diverged)


def _are_sound(trial: Trial, values: Any) -> Array:
    """Whether [] all floats of a seed are finite; not NaN, for a learner without a gradient.

    Such a learner may know: a log-probability of -inf is an answer that is refuted.
    """
    leaves = [x for x in jax.tree.leaves(values) if jnp.issubdtype(x.dtype, jnp.floating)]
    test = jnp.isfinite if trial.learner.has_gradient else (lambda x: x == x)
    return jnp.all(jnp.stack([jnp.all(test(leaf)) for leaf in leaves]))
