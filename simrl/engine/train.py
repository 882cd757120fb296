"""One seed's run: what it carries, and the updates of a stretch, written once.

They know no algorithm. A stretch is a row of updates within one phase (simrl.engine.stretches). A
seed whose pass rate has reached the stop is frozen. Many seeds come from `vmap`
(simrl.engine.lanes), which turns the loop conditions into masks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl import columnwise, keys
from simrl.engine import asked, clock, observe
from simrl.measures import flops, information, phases
from simrl.types import Array, Info, State, Task, Trial

COUNTERS = ("samples", "tokens", "trajectories", "dead", "flops", "flops_counted")


class Rules(NamedTuple):
    """Traced numbers of the loop; thresholds and stop are log-odds of the pass rate."""

    thresholds: Array | np.ndarray  # [H]
    stop: Array | np.ndarray  # []
    phase_low: Array | np.ndarray  # []
    phase_high: Array | np.ndarray  # []


class Plan(NamedTuple):
    """What is static about a run beyond its trial."""

    num_phases: int  # bins, the two open-ended ones included
    coordinate: str  # "log_odds" of the pass rate, or "excess_loss": log2 of KL(labels || belief)
    counted: flops.FlopCount  # the learner's part of one update, counted from its program
    counted_world: flops.FlopCount  # the world's part
    num_redraws: int


class Hits(NamedTuple):
    """When the pass rate first reached each threshold [H]; never: not yet."""

    step: Array  # updates done, on the path's clock: simrl.engine.clock
    time: Array  # float32: the same, interpolated in log-odds between two updates
    cost: Array  # [H, C, 2] words


class Run(NamedTuple):
    """All that one seed carries from chunk to chunk."""

    state: State
    task: Task
    step: Array  # [] int32, [2] uint32 words where the path jumps: simrl.engine.clock
    done: Array  # [] bool
    odds: Array  # [M] log-odds of the right answer
    spent: Array  # [M, C, 2] words: counters by prompt
    hits: Hits


class Given(NamedTuple):
    """What the lanes [..., N] of a chunk are given."""

    spec: Any
    rules: Rules
    streams: keys.Streams


class Cell(NamedTuple):
    """What is static about the lanes of a chunk: they differ in numbers alone."""

    build: Callable[[Any], Trial]
    plan: Plan
    trial: Trial  # that of the first lane: for its structure

    def over_lanes(self, function: Callable) -> Callable:
        """`function(trial, ...)` of one lane as a function of the specs [N] and the rest [N]."""
        return columnwise.over_lanes(lambda spec, *rest: function(self.build(spec), *rest))

    def lane_by_lane(self, function: Callable) -> Callable:
        """The same by `jax.vmap`: the reference."""

        def one(spec: Any, *rest: Any) -> Any:
            return function(self.build(spec), *rest)

        return jax.vmap(one, in_axes=-1, out_axes=-1)


class Stretch(NamedTuple):
    """What a stretch of updates needs to know of its beginning, of one seed."""

    end: Array  # where it ends at the latest, on the path's clock
    at: Array  # [M] int32: the phases of its prompts; -1 before the first stretch
    odds: Array  # [M]
    spent: Array  # [M, C, 2] words
    label_score: Array | None  # [M] nats, `observe.label_score`; None where nothing asks for it
    measured: dict[str, Array]  # [M] each
    told: dict[str, Array]  # [M] each: sums over its updates so far
    since: Array | None = None  # [] updates before it, where samples do not tell how many it has


class Path(NamedTuple):
    """One way to make the updates of lanes [..., N]."""

    prepare: Callable[[Cell, Given, Run], Any]
    # What is carried from one call to the next beside the run.

    updates: Callable[[Cell, Given, observe.Truth, Run, Stretch, Any], tuple[Run, dict, Any, Array]]
    # Updates of every lane that is before the end of its stretch, until it ends: the run after
    # them, what the stretch was told so far, what is carried, and whose stretch [N] has ended.


def start(trial: Trial, rules: Rules, seed_streams: keys.Streams) -> Run:
    """A seed before its first update."""
    task = trial.environment.init(seed_streams.task)
    state = trial.learner.init(seed_streams)
    known = observe.truth(trial, task)
    odds = observe.log_odds(observe.beliefs(trial, state, known), known)
    spent = jnp.zeros((odds.shape[0], len(COUNTERS), 2), jnp.uint32)
    overall = observe.mean_log_odds(odds)
    reached = overall >= rules.thresholds
    hits = Hits(
        step=clock.chosen(reached, clock.of(0, trial.path), clock.of(-1, trial.path)),
        time=jnp.where(reached, 0.0, jnp.inf).astype(odds.dtype),
        cost=jnp.zeros((rules.thresholds.shape[0], len(COUNTERS), 2), jnp.uint32),
    )
    step = jnp.asarray(clock.of(0, trial.path))
    return Run(state, task, step, overall >= rules.stop, odds, spent, hits)


def phases_of(trial: Trial, plan: Plan, rules: Rules, known: observe.Truth, run: Run) -> Array:
    """The phase [M] int32 each prompt is in."""
    coordinate = run.odds
    if plan.coordinate == "excess_loss":
        log_probs = observe.beliefs(trial, run.state, known)
        coordinate = jnp.log2(jax.vmap(information.label_gap)(known.laws, log_probs))
    return phases.Bins(rules.phase_low, rules.phase_high, plan.num_phases).find(coordinate)


def lane_by_lane(one: Callable) -> Path:
    """The updates of a stretch in lanes [..., N] by the code `one` for a seed, mapped over them."""

    def updates(
        cell: Cell, given: Given, known: observe.Truth, run: Run, stretch: Stretch, memo: Any
    ) -> tuple[Run, dict[str, Array], Any, Array]:
        of_seed = cell.lane_by_lane(partial(one, plan=cell.plan))
        run, told = of_seed(given.spec, given, known, run, stretch)
        return run, told, memo, jnp.ones_like(run.done)

    return Path(lambda cell, given, run: (), updates)


def _updates(
    trial: Trial, given: Given, known: observe.Truth, run: Run, stretch: Stretch, *, plan: Plan
) -> tuple[Run, dict[str, Array]]:
    """Updates to the end of a stretch, or until a prompt leaves its phase; also what they told.

    Ending with the phase makes every update belong to the phase of the state before it. What an
    update is told depends on its luck, which also ends stretches: it is summed at every update.
    """
    rules = given.rules

    def unfinished(carry: tuple[Run, dict[str, Array], Array]) -> Array:
        run, _, left = carry
        return (run.step < stretch.end) & ~run.done & ~left

    def update(carry: tuple[Run, dict[str, Array], Array]) -> tuple[Run, dict[str, Array], Array]:
        run, told, _ = carry
        now = keys.at_step(given.streams, run.step)
        belief = observe.beliefs(trial, run.state, known)
        state, info = trial.learner.step(now, run.state, run.task)
        heard = observe.of_update(trial, belief, known, info)
        heard |= asked.regret_of_update(trial, run.task, (belief, run.odds), known, info)
        told = jax.tree.map(jnp.add, told, heard)
        spent = spend(run.spent, info, plan.counted.total)
        odds = observe.log_odds(observe.beliefs(trial, state, known), known)
        hits = hit(run, rules, odds, spent, run.step + 1)
        done = observe.mean_log_odds(odds) >= rules.stop
        after = Run(state, run.task, run.step + 1, done, odds, spent, hits)
        left = jnp.any(phases_of(trial, plan, rules, known, after) != stretch.at)
        return after, told, left

    run, told, _ = jax.lax.while_loop(unfinished, update, (run, stretch.told, jnp.bool_(False)))
    return run, told


path = lane_by_lane(_updates)  # the reference


def spend(spent: Array, info: Info, counted: int, times: Array | None = None) -> Array:
    """Charge an update, or `times` (words [2]) like it, to the prompts it drew.

    `spent` [M, C, 2].
    """
    num_groups, size = info.success.shape
    # An update is counted as a whole; a share per group is exact for one group, else rounded up.
    share = jnp.asarray(phases.words_of(-(-counted // num_groups)))
    trajectories = jnp.full((num_groups,), size, jnp.uint32)
    dead = jnp.zeros_like(trajectories) if info.dead is None else info.dead
    low = jnp.stack([info.num_samples, info.num_tokens, trajectories, dead], axis=1)
    words = jnp.stack([jnp.zeros_like(low), low], axis=-1)
    counted_words = jnp.tile(share, (num_groups, 1))
    cost = jnp.concatenate([words, info.flops[:, None], counted_words[:, None]], axis=1)
    if times is not None:
        cost = phases.multiply_counts(cost, times)
    if spent.shape[0] == 1:
        cost = jnp.where(info.prompts[:, None, None] >= 0, cost, jnp.uint32(0))
        return phases.add_words(spent, phases.sum_words(cost)[None])
    return phases.scatter_words(spent, info.prompts, cost)


def hit(run: Run, rules: Rules, odds: Array, spent: Array, step: Array) -> Hits:
    """Record the thresholds that the last of `step` updates has reached for the first time."""
    before, after = observe.mean_log_odds(run.odds), observe.mean_log_odds(odds)
    new = clock.never(run.hits.step) & (after >= rules.thresholds)
    fraction = (rules.thresholds - before) / (after - before)
    return Hits(
        step=clock.chosen(new, step, run.hits.step),
        time=jnp.where(new, clock.interpolated(step, fraction), run.hits.time),
        cost=jnp.where(new[:, None, None], phases.sum_words(spent), run.hits.cost),
    )
