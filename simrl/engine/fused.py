"""The updates of one stretch for many seeds at once, lanes on the last axis.

What `train._updates` does for one seed at a time; the two are told apart by speed alone. Only what
an update changes is carried: charges are constant per update, so costs are products at the end.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import columns, columnwise, keys
from simrl.columns import Fence, Law
from simrl.engine import observe
from simrl.engine.train import COUNTERS, Cell, Given, Hits, Plan, Rules, Run, spend
from simrl.measures import information, phases, told
from simrl.types import Array, Heard, State, Trial


class Reached(NamedTuple):
    """When a lane first reached each threshold in this stretch."""

    step: Array  # [H, N] int32, -1: not yet
    time: Array  # [H, N]
    dead: Array  # [H, N] uint32: trajectories without gradient since the stretch began


class Lanes(NamedTuple):
    """What the loop carries of N seeds."""

    state: State  # leaves [..., N]
    law: Law  # its logits, which are in the state, are empty
    step: Array  # [N] int32
    odds: Array  # [N]
    dead: Array  # [N] uint32
    heard: dict[str, Array]  # [N] each
    reached: Reached
    done: Array  # [N] bool
    left: Array  # [N] bool: its phase, so its stretch is over


class Fixed(NamedTuple):
    """What the loop reads."""

    trial: Trial  # its numbers are [N]
    rules: Rules  # leaves [..., N]
    plan: Plan
    streams: keys.Streams  # of `keys.halves` [N]
    task: Any  # leaves [..., N]
    truth: Array  # [L, N]
    laws: Array  # [L, V, N] of the labels
    end: Array  # [N] int32
    begin: Array  # [N] int32, the phase
    fence: Fence


def updates(
    cell: Cell, given: Given, known: observe.Truth, run: Run, end: Array
) -> tuple[Run, dict[str, Array]]:
    """Updates of lanes [..., N] up to `end` [N] or until one leaves its phase; what was told."""
    trial = cell.build(given.spec)
    assert trial.learner.fused is not None  # the path is only taken where there is one
    # 1 in every run; no compiler can know, because steps could be negative for all it sees.
    fence = Fence(jnp.where(jnp.min(end) >= 0, 1.0, 2.0))
    odds, truth, laws = run.odds[0], known.answers[0], known.laws[0]
    law = columns.law(trial.learner.fused.logits(run.state), fence)
    begin = _phase(cell.plan, given.rules, laws, law, odds)
    streams = keys.Streams(*map(keys.halves, given.streams))
    given_all = (given.rules, cell.plan, streams, run.task, truth, laws, end, begin, fence)
    fixed = Fixed(trial, *given_all)
    zeros = jnp.zeros(odds.shape, jnp.uint32)
    reached = Reached(run.hits.step, run.hits.time, jnp.zeros(run.hits.step.shape, jnp.uint32))
    heard = {name: jnp.zeros_like(odds) for name in observe.told(trial)}
    law = _bare(law)
    lanes = Lanes(run.state, law, run.step, odds, zeros, heard, reached, run.done, zeros > 0)
    after = jax.lax.while_loop(lambda c: jnp.any(_active(fixed, c)), partial(_update, fixed), lanes)
    return _finish(trial, cell.plan, run, after)


def _bare(law: Law) -> Law:
    """Without the logits: two copies of them would be carried."""
    return law._replace(logits=jnp.zeros((0,), law.logits.dtype))


def _active(fixed: Fixed, lanes: Lanes) -> Array:
    return (lanes.step < fixed.end) & ~lanes.done & ~lanes.left


def _update(fixed: Fixed, lanes: Lanes) -> Lanes:
    """One update of every lane that is still going; the others stay as they are."""
    trial, fence = fixed.trial, fixed.fence
    assert trial.learner.fused is not None
    active = _active(fixed, lanes)
    now = keys.Streams(*(keys.fold_in_halves(key, lanes.step) for key in fixed.streams))
    old = lanes.law._replace(logits=trial.learner.fused.logits(lanes.state))
    state, heard = trial.learner.fused.step(now, lanes.state, old, fixed.task, fence)
    state = jax.tree.map(partial(jnp.where, active), state, lanes.state)
    law = columns.law(trial.learner.fused.logits(state), fence)
    odds = fence(_log_odds(law, fixed.truth))
    step = lanes.step + active.astype(jnp.int32)
    dead = lanes.dead + jnp.where(active, heard.dead, 0)
    sums = _hear(fixed, old, lanes.heard, heard, active)
    return Lanes(
        state=state,
        law=_bare(law),
        step=step,
        odds=odds,
        dead=dead,
        heard=sums,
        reached=_reach(fixed.rules, lanes, odds, step, dead),
        done=odds >= fixed.rules.stop,
        left=_phase(fixed.plan, fixed.rules, fixed.laws, law, odds) != fixed.begin,
    )


def _hear(
    fixed: Fixed, law: Law, sums: dict[str, Array], heard: Heard, active: Array
) -> dict[str, Array]:
    """What the lanes were told so far."""
    values = {"success": heard.success}
    joint = observe.joint_channel(fixed.trial)
    if joint is not None:
        found = told.JOINT[joint](law, fixed.truth, heard, fixed.fence)
        values["expected_update"], values["realised_update"] = found
    return {k: sums[k] + jnp.where(active, v, 0) for k, v in values.items()}


def _log_odds(law: Law, truth: Array) -> Array:
    """Log-odds [N] of the whole answer [L, N]."""
    odds = columns.log_odds(law, truth)
    if odds.shape[0] == 1:
        return odds[0]
    return columnwise.over_lanes(information.joint_log_odds)(odds)


def _phase(plan: Plan, rules: Rules, laws: Array, law: Law, odds: Array) -> Array:
    """The phase [N] int32 of each lane."""
    coordinate = odds
    if plan.coordinate == "excess_loss":
        terms = columns.total(information.label_gap_terms(laws, law.log_probs))
        coordinate = jnp.log2(jnp.sum(terms, axis=0) / information.NATS_PER_BIT)
    return phases.Bins(rules.phase_low, rules.phase_high, plan.num_phases).find(coordinate)


def _reach(rules: Rules, lanes: Lanes, odds: Array, step: Array, dead: Array) -> Reached:
    """Thresholds reached for the first time by the last update; see `train.hit`."""
    thresholds = rules.thresholds
    new = (lanes.reached.step < 0) & (odds >= thresholds)
    fraction = (thresholds - lanes.odds) / (odds - lanes.odds)
    return Reached(
        step=jnp.where(new, step, lanes.reached.step),
        time=jnp.where(new, step - 1 + fraction, lanes.reached.time),
        dead=jnp.where(new, dead, lanes.reached.dead),
    )


def _finish(trial: Trial, plan: Plan, run: Run, lanes: Lanes) -> tuple[Run, dict[str, Array]]:
    """The run after the updates, and what they told."""
    assert trial.learner.fused is not None
    charge = spend(
        jnp.zeros_like(run.spent[0, ..., 0])[None], trial.learner.fused.charge(), plan.counted.total
    )

    def cost(spent: Array, updates: Array, dead: Array) -> Array:
        words = phases.multiply_words(charge, updates.astype(jnp.uint32))
        words = words.at[:, COUNTERS.index("dead"), 1].add(dead)
        return phases.add_words(spent, words)

    since = columnwise.over_lanes(cost)
    reached = lanes.reached
    new = (run.hits.step < 0) & (reached.step >= 0)
    at_hit = [
        since(run.spent, reached.step[h] - run.step, reached.dead[h])[0] for h in range(len(new))
    ]
    hits = Hits(
        step=reached.step,
        time=reached.time,
        cost=jnp.where(new[:, None, None], jnp.stack(at_hit), run.hits.cost),
    )
    spent = since(run.spent, lanes.step - run.step, lanes.dead)
    after = Run(lanes.state, run.task, lanes.step, lanes.done, lanes.odds[None], spent, hits)
    return after, {name: value[None] for name, value in lanes.heard.items()}
