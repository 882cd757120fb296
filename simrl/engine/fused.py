"""The updates of one stretch for many seeds at once, lanes on the last axis.

What `train._updates` does for one seed at a time; the two are told apart by speed alone. Only what
an update changes is carried: costs are products at the end (simrl.engine.costs).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from simrl import columns, columnwise, keys, prefixes
from simrl.columns import Fence, Law
from simrl.engine import answers, asked, costs, kernels, observe
from simrl.engine.carried import About, Fixed, Lanes, Memo, Reached
from simrl.engine.train import Cell, Given, Hits, Path, Plan, Rules, Run, Stretch
from simrl.measures import information, phases, right_answers, together, told
from simrl.measures.right_answers import Merged
from simrl.types import Array, Heard, Trial

PATIENCE = 4  # updates in the time of a measure, about


def _prepare(cell: Cell, given: Given, run: Run) -> Memo:
    """Where a chunk begins, which no company decides."""
    trial = cell.build(given.spec)
    assert trial.learner.fused is not None  # the path is only taken where there is one
    law = columns.law(trial.learner.fused.logits(run.state), _fence(run.step))
    mean = _mean(run.odds) if len(run.odds) > 1 else run.odds[:0]
    return Memo(_bare(law), mean)


def _told(cell: Cell, spec: Any) -> Callable:
    """(columns) -> columns: what the learner of each lane is told of its own world."""
    of_lanes = cell.over_lanes(lambda trial, *rest: trial.learner.fused.told(*rest))
    return partial(of_lanes, spec)


def _regret(cell: Cell, spec: Any) -> Callable:
    """(columns) -> columns: `asked.regret_at` of each lane in its own world."""
    of_lanes = cell.over_lanes(lambda trial, *rest: asked.regret_at(trial.environment, *rest))
    return partial(of_lanes, spec)


def _fence(steps: Array) -> Fence:
    """1 in every run; no compiler can know, because steps could be negative for all it sees."""
    return Fence(jnp.where(jnp.min(steps) >= 0, 1.0, 2.0))


def _updates(
    cell: Cell,
    given: Given,
    known: observe.Truth,
    run: Run,
    stretch: Stretch,
    memo: Memo,
    on_chip: bool = False,
) -> tuple[Run, dict[str, Array], Memo, Array]:
    """Updates of lanes [..., N], until too many have come to the end of their stretch.

    Those wait for the others, until what was lost by waiting is worth a measure of all.
    """
    right = answers.all_symbols(cell.trial, known)
    about = About(
        spec=given.spec,
        rules=given.rules,
        halves=keys.apart(given.streams),
        task=run.task,
        truth=answers.truth_of_lanes(cell.trial, known),
        right=right,
        laws=known.laws,
        at=stretch.at,
        end=stretch.end,
    )
    zeros = jnp.zeros(run.odds.shape, jnp.uint32)
    steps = run.hits.step
    never = jnp.zeros(steps.shape, jnp.uint32)
    varies = costs.varies(cell.trial)
    began = (run.step < stretch.end) & ~run.done
    lanes = Lanes(
        state=run.state,
        memo=memo,
        step=run.step,
        odds=run.odds,
        visits=zeros if varies or len(run.odds) > 1 else zeros[:0],
        dead=zeros,
        spared=zeros if varies else zeros[:0],
        heard=stretch.told,
        reached=Reached(steps, run.hits.time, never, *[never if varies else never[:0]] * 2),
        going=began,
    )
    train_lanes = partial(_train, cell)
    after = kernels.run(train_lanes, about, lanes) if on_chip else None
    if after is None:
        fence = _fence(stretch.end)
        fence = fence._replace(at_once=kernels.AT_ONCE) if on_chip else fence
        after = train_lanes(about, lanes, fence, PATIENCE)
    run = _finish(cell.build(given.spec), cell.plan, run, after, given.rules)
    return run, after.heard, after.memo, began & ~after.going


def _train(cell: Cell, about: About, lanes: Lanes, fence: Fence, patience: int) -> Lanes:
    """The loop: what becomes of a lane does not depend on its company, but for where it pauses."""
    streams = keys.Columns(about.halves)
    of_lanes = _told(cell, about.spec), _regret(cell, about.spec)
    size, right = cell.trial.environment.shape.vocab_size, about.right
    tree = None if right is None else right_answers.tree(right, size)
    fixed = Fixed(about, cell.build(about.spec), cell.plan, streams, fence, *of_lanes, tree)
    most = jnp.sum(lanes.going, dtype=jnp.float32)

    def update(carry: tuple[Lanes, Array, Array]) -> tuple[Lanes, Array, Array]:
        lanes, _, idle = carry
        after = _update(fixed, lanes)
        num_going = jnp.sum(after.going, dtype=jnp.float32)
        return after, num_going, idle + (most - num_going)

    def unfinished(carry: tuple[Lanes, Array, Array]) -> Array:
        _, num_going, idle = carry
        return (num_going > 0) & (idle <= patience * most)

    return jax.lax.while_loop(unfinished, update, (lanes, most, jnp.float32(0)))[0]


path = Path(_prepare, _updates)
on_chip = Path(_prepare, partial(_updates, on_chip=True))


def _bare(law: Law) -> Law:
    """Without the logits: two copies of them would be carried."""
    return law._replace(logits=law.logits[:0])


def _update(fixed: Fixed, lanes: Lanes) -> Lanes:
    """One update of every lane that is still going; the others stay as they are."""
    learner, fence = fixed.trial.learner.fused, fixed.fence
    assert learner is not None
    active = lanes.going
    now = fixed.streams.at_step(lanes.step)
    old = lanes.memo.law._replace(logits=learner.logits(lanes.state))
    state, heard = learner.step(now, lanes.state, old, fixed.about.task, fence, fixed.told)
    state = jax.tree.map(partial(jnp.where, active), state, lanes.state)
    law = columns.law(learner.logits(state), fence)
    odds = fence(_log_odds(fixed, law))
    several = fixed.num_prompts > 1
    mean = fence(_mean(odds)) if several else odds[0]
    step = lanes.step + active.astype(jnp.int32)
    before_end = step < fixed.about.end
    going = active & before_end & (mean < fixed.about.rules.stop) & ~_left(fixed, law, odds)
    dead = lanes.dead + jnp.where(active, _by_prompt(fixed, heard, heard.dead), 0)
    visits, spared = _visit(fixed, lanes.visits, heard, active), lanes.spared
    if heard.spared is not None:
        spared = spared + jnp.where(active, _by_prompt(fixed, heard, heard.spared), 0)
    return Lanes(
        state=state,
        memo=Memo(_bare(law), mean if several else lanes.memo.mean),
        step=step,
        odds=odds,
        visits=visits,
        dead=dead,
        spared=spared,
        heard=_hear(fixed, lanes, heard, active),
        reached=_reach(fixed.about.rules, lanes, mean, step, (dead, visits, spared)),
        going=going,
    )


def _mean(odds: Array) -> Array:
    """Log-odds [N] of the mean over prompts of the pass rates, from theirs [M, N]."""
    return columnwise.over_lanes(observe.mean_log_odds)(odds)


def _all(x: Array) -> Array:
    """Sum [N] over prompts [M, N]."""
    return columns.total(x[None])[0]


def _by_prompt(fixed: Fixed, heard: Heard, x: Array) -> Array:
    """Sums [M, N] of what belongs to the draws [K, N] of an update."""
    if fixed.num_prompts == 1:
        return x
    x, prompts = fixed.fence(x), heard.prompts
    if heard.drawn is not None:
        x, prompts = jnp.where(prompts >= 0, x, 0), jnp.maximum(prompts, 0)
    return columns.sums_at(x, prompts, fixed.num_prompts)


def _visit(fixed: Fixed, visits: Array, heard: Heard, active: Array) -> Array:
    """How many groups each prompt had so far, where that is not known without counting."""
    if not len(visits):
        return visits
    return visits + jnp.where(active, _by_prompt(fixed, heard, _groups(fixed, heard)), 0)


def _groups(fixed: Fixed, heard: Heard) -> Array:
    """How many groups [K, N] each draw has."""
    if heard.drawn is not None:
        return heard.drawn
    return jnp.full_like(heard.dead, fixed.num_groups // len(heard.prompts))


def _hear(fixed: Fixed, lanes: Lanes, heard: Heard, active: Array) -> dict[str, Array]:
    """What the lanes were told so far, prompt by prompt; `lanes` as they were before."""
    values = {"success": heard.success, **asked.of_lanes(fixed.trial, heard)}
    joint = observe.joint_channel(fixed.trial)
    if joint is not None:
        measure = answers.joint_of_lanes(fixed.trial, joint)
        right = _right(fixed, heard)
        if right is not None:
            measure = partial(told.of_answers, merged=Merged(right))
        odds = _at(fixed, heard, lanes.odds)
        found = measure(heard, _truth(fixed, heard), odds, fixed.fence)
        values["expected_update"], values["realised_update"] = found
    if asked.JOINTLY in asked.told(fixed.trial):
        given = _truth(fixed, heard), _right(fixed, heard), answers.world_of(fixed.trial)
        values[asked.JOINTLY] = together.of_duels(heard, *given, fixed.fence)
    if asked.sums_regret(fixed.trial):
        values["regret"] = _regret_of(fixed, heard, lanes.odds)
    values = {name: _by_prompt(fixed, heard, value) for name, value in values.items()}
    return {k: lanes.heard[k] + jnp.where(active, v, 0) for k, v in values.items()}


def _regret_of(fixed: Fixed, heard: Heard, odds: Array) -> Array:
    """Regret [K, N] of all samples of each draw, by the laws before the update."""
    law, draws = heard.law, len(heard.prompts)
    tree = prefixes.tree_of(law.powers, _truth(fixed, heard), draws)
    probs = law.probs if tree is None else jnp.exp(prefixes.joint(law, tree))
    laws = _at(fixed, heard, fixed.about.laws) if fixed.trial.environment.noisy else None
    at = columns.each(partial(fixed.regret, fixed.about.task))
    probs = probs.reshape(draws, -1, *probs.shape[1:])
    each = at(heard.prompts, probs, _at(fixed, heard, odds), laws)
    samples = fixed.group_size * _groups(fixed, heard).astype(each.dtype)
    return fixed.fence(samples * each)


def _at(fixed: Fixed, heard: Heard, x: Array) -> Array:
    """The rows [K, ..., N] of the prompts drawn, of [M, ..., N]."""
    if fixed.num_prompts == 1:
        return x
    prompts = heard.prompts if heard.drawn is None else jnp.maximum(heard.prompts, 0)
    return fixed.fence(columns.rows_at(x, prompts))


def _truth(fixed: Fixed, heard: Heard) -> Array:
    """The right answers [K L, N] to the prompts drawn."""
    truth = _at(fixed, heard, fixed.about.truth)
    return truth.reshape(-1, truth.shape[-1])


def _right(fixed: Fixed, heard: Heard) -> Array | None:
    """All right answers [K, A, N] to them by their numbers, if there are several."""
    return None if fixed.right is None else _at(fixed, heard, fixed.right.codes)


def _log_odds(fixed: Fixed, law: Law) -> Array:
    """Log-odds [M, N] of the whole answers, of all right ones together."""
    if fixed.right is not None:
        return right_answers.log_odds(law, fixed.right)
    truth = fixed.about.truth
    num, length, lanes = truth.shape
    odds = prefixes.log_odds(law, truth.reshape(-1, lanes), num, fixed.fence).reshape(truth.shape)
    if length == 1:
        return odds[:, 0]
    return columns.each(columnwise.over_lanes(information.joint_log_odds))(odds)


def _phase(fixed: Fixed, law: Law, odds: Array) -> Array:
    """The phases [M, N] int32 of the prompts, by their log-odds or the label laws [M, L, V, N]."""
    coordinate, plan, rules = odds, fixed.plan, fixed.about.rules
    if plan.coordinate == "excess_loss":
        laws, truth = fixed.about.laws, fixed.about.truth
        tree = prefixes.tree_of(law.powers, truth.reshape(-1, truth.shape[-1]), len(truth))
        log_probs = law.log_probs if tree is None else prefixes.joint(law, tree)
        log_probs = log_probs.reshape(laws.shape)
        terms = information.label_gap_terms(laws, log_probs)
        terms = columns.total(terms.reshape(-1, *laws.shape[2:]))
        gaps = columns.each(partial(jnp.sum, axis=0))(terms.reshape(*laws.shape[:2], -1))
        coordinate = jnp.log2(gaps / information.NATS_PER_BIT)
    return phases.Bins(rules.phase_low, rules.phase_high, plan.num_phases).find(coordinate)


def _left(fixed: Fixed, law: Law, odds: Array) -> Array:
    """Whether [N] a prompt has left the phase in which the stretch began."""
    at = _phase(fixed, law, odds)
    left = at != fixed.about.at
    return jnp.any(left, axis=0) if len(left) > 1 else left[0]


def _reach(
    rules: Rules, lanes: Lanes, mean: Array, step: Array, counts: tuple[Array, Array, Array]
) -> Reached:
    """Thresholds reached for the first time by the last update; see `train.hit`.

    `counts` [M, N] each: what is dead, drawn and spared since the stretch began.
    """
    thresholds, before = rules.thresholds, lanes.memo.mean if len(lanes.odds) > 1 else lanes.odds[0]
    new = (lanes.reached.step < 0) & (mean >= thresholds)
    fraction = (thresholds - before) / (mean - before)
    earlier = lanes.reached.dead, lanes.reached.visits, lanes.reached.spared
    pairs = zip(counts, earlier, strict=True)
    noted = (jnp.where(new, _all(now), old) if len(old) else old for now, old in pairs)
    return Reached(
        jnp.where(new, step, lanes.reached.step),
        jnp.where(new, step - 1 + fraction, lanes.reached.time),
        *noted,
    )


def _finish(trial: Trial, plan: Plan, run: Run, lanes: Lanes, rules: Rules) -> Run:
    """The run after the updates."""
    several = len(lanes.odds) > 1
    spent, at_hit = costs.of_stretch(trial, plan, run, lanes)
    new = (run.hits.step < 0) & (lanes.reached.step >= 0)
    hits = Hits(
        step=lanes.reached.step,
        time=lanes.reached.time,
        cost=jnp.where(new[:, None, None], at_hit, run.hits.cost),
    )
    done = (lanes.memo.mean if several else lanes.odds[0]) >= rules.stop
    return Run(lanes.state, run.task, lanes.step, done, lanes.odds, spent, hits)
