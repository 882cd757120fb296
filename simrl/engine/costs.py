"""What the updates of a stretch cost many seeds at once, lanes on the last axis.

Charges are constant per group, so that costs are products at the end of a stretch, exact in 64
bits: of how many groups were drawn, less the relief of what was `spared`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from simrl import columnwise, known
from simrl.engine import train
from simrl.engine.carried import Lanes
from simrl.engine.train import Plan, Run
from simrl.measures import phases
from simrl.types import Array, Trial


def varies(trial: Trial) -> bool:
    """Whether one update may cost more than another: groups and what is spared are counted."""
    return trial.learner.fused is not None and trial.learner.fused.relief is not None


def of_stretch(trial: Trial, plan: Plan, run: Run, lanes: Lanes) -> tuple[Array, Array]:
    """What is spent [M, C, 2, N] after it, and was at each threshold [H, C, 2, N] first reached.

    `run`: where it began.
    """
    group, update = known.constant(partial(_charges, trial, plan))
    counted = varies(trial)
    updates = (lanes.step - run.step).astype(jnp.uint32)
    if counted or len(lanes.odds) > 1:
        charge, times = group, lanes.visits
    else:
        charge, times = update, updates[None]
    spent = columnwise.over_lanes(partial(_cost, charge))(run.spent, times, lanes.dead)
    reached, at_hit = lanes.reached, group[0] if counted else update[0]
    at = reached.visits if counted else (reached.step - run.step).astype(jnp.uint32)
    hits = columnwise.over_lanes(partial(_cost_at, at_hit))(run.spent, at, reached.dead)
    if counted:
        less = columnwise.over_lanes(partial(_less, _relief(trial)))
        spent, hits = less(spent, lanes.spared), less(hits, reached.spared)
    return spent, hits


def _charges(trial: Trial, plan: Plan) -> tuple[Array, Array]:
    """What a group and what an update cost, words [1, C, 2] each; see `train.spend`."""
    assert trial.learner.fused is not None
    info = trial.learner.fused.charge()
    num_groups = len(info.prompts)
    one = jax.tree.map(lambda leaf: leaf[:1], info)
    share = -(-plan.counted.total // num_groups)
    group = train.spend(jnp.zeros((1, len(train.COUNTERS), 2), jnp.uint32), one, share)
    return group, phases.multiply_words(group, jnp.uint32(num_groups))


def _relief(trial: Trial) -> Array:
    """What is not charged of one that is spared, words [C, 2]."""
    assert trial.learner.fused is not None
    relief = trial.learner.fused.relief or {}
    return jnp.stack([phases.words_of(relief.get(name, 0)) for name in train.COUNTERS])


def _cost(charge: Array, spent: Array, times: Array, dead: Array) -> Array:
    """What is spent [..., C, 2] and `times` [...] a charge, with the trajectories [...] dead."""
    words = phases.multiply_words(charge, times[..., None])
    words = words.at[..., train.COUNTERS.index("dead"), 1].add(dead)
    return phases.add_words(spent, words)


def _cost_at(charge: Array, spent: Array, times: Array, dead: Array) -> Array:
    """The same of all prompts [M, C, 2] at each of several times [H]."""
    return _cost(charge, phases.sum_words(spent), times, dead)


def _less(relief: Array, spent: Array, spared: Array) -> Array:
    """Words [..., C, 2] less the relief [C, 2] of so many [...] that were spared."""
    return phases.subtract_words(spent, phases.multiply_words(relief, spared[..., None]))
