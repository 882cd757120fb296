"""The updates of one stretch where a learner jumps over those that change nothing.

Every lane makes one jump: the dead updates that come before the next live one, and that one, if
there is time for it. Both are charged, and what they were told is summed, as if each had been made.
"""

from functools import partial

import jax
import jax.numpy as jnp

from simrl import keys
from simrl.engine import clock, observe
from simrl.engine.train import Given, Plan, Run, Stretch, hit, lane_by_lane, spend
from simrl.measures import phases
from simrl.types import Array, Trial


def _jump(
    trial: Trial, given: Given, known: observe.Truth, run: Run, stretch: Stretch, *, plan: Plan
) -> tuple[Run, dict[str, Array]]:
    """One jump; none of a lane that is finished."""
    assert trial.learner.jump is not None  # the path is only taken where there is one
    now = keys.Streams(*(keys.fold_in_words(key, run.step) for key in given.streams))
    belief = observe.beliefs(trial, run.state)
    most = phases.subtract_words(stretch.end, run.step)
    jump = trial.learner.jump(now, run.state, run.task, most)
    told = stretch.told
    spent = run.spent
    num_live = phases.subtract_words(jump.num_updates, jump.num_dead)
    for info, times in ((jump.dead, jump.num_dead), (jump.live, num_live)):
        heard = observe.of_update(trial, belief, known, info)
        told = jax.tree.map(partial(_add, times), told, heard)
        spent = spend(spent, info, plan.counted.total, times)
    odds = observe.log_odds(observe.beliefs(trial, jump.state), known)
    step = phases.add_words(run.step, jump.num_updates)
    hits = hit(run, given.rules, odds, spent, step)
    done = observe.mean_log_odds(odds) >= given.rules.stop
    done |= observe.full(trial, jump.state)
    after = Run(jump.state, run.task, step, done, odds, spent, hits)
    going = clock.earlier(run.step, stretch.end) & ~run.done
    return jax.tree.map(partial(jnp.where, going), (after, told), (run, stretch.told))


def _add(times: Array, total: Array, heard: Array) -> Array:
    """`total` and `times` (words [2]) what one update was told; nothing of none, even if inf."""
    weight = phases.float_of(times, heard.dtype)
    return total + jnp.where(weight > 0, heard * weight, 0)


path = lane_by_lane(_jump)  # one jump in each of the lanes
