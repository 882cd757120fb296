"""Tabular learners written for many seeds at once, the lanes on the last axis.

The same updates from the same random words as `step` of the same learner, which stays the
reference: the gradient of a softmax is sums of weights by symbol less the law times their total, so
nothing is differentiated and no array [B, L, V] exists.

Letters besides those of simrl.types: N lanes; an update draws K prompts and C answers to each.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import choices, columns, columnwise, prefixes
from simrl.columns import Fence, Law
from simrl.learners import curricula, draws, epochs, exact, rollouts, updates, weighing
from simrl.learners.draws import Asked, Batch
from simrl.learners.obstacles import obstacle as obstacle
from simrl.learners.surrogates import Score
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops
from simrl.types import (
    Advantage,
    Array,
    Curriculum,
    Environment,
    Fused,
    Heard,
    Info,
    Policy,
    State,
    Surrogate,
    Task,
)

SCORE = Score().build()
Told = Callable[[Array, Task, Array], Any]  # see `Fused`


class Learnt(NamedTuple):
    """What an update makes of its guesses."""

    kept: State  # of the advantage
    sums: Array  # [K L, V, N]: weights of the guesses by symbol, over G B
    total: Array  # [K L, N] of all symbols
    heard: Heard
    passed: Array  # [K, N]: how many guesses it was told are right
    guesses: epochs.Guesses | None = None  # for further passes; None: there is one


def policy_gradient(
    environment: Environment,
    policy: Policy,
    advantage: Advantage,
    optimizer: Optimizer,
    batch: tuple[int, int],
    surrogate: Surrogate = SCORE,
    curriculum: Curriculum | None = None,
) -> Fused | None:
    """Policy gradient from groups x guesses; None where there is no fused path."""
    oracle = _oracle(environment, advantage)
    weighed = advantage.trailing or oracle is not None
    if (
        obstacle(environment, policy, by_prefix=True)
        or not weighed
        or not epochs.are_known(surrogate)
    ):
        return None
    if policy.by_prefix and oracle is not None:
        return None
    lot = Batch(environment.shape.num_prompts, *batch)
    if curriculum is not None and (lot.num_prompts == 1 or not curriculum.trailing):
        return None

    learn = _guessing(environment, policy, advantage, lot, surrogate, curriculum)

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence, told: Told
    ) -> tuple[Learning, Heard]:
        about = curriculum, environment, state.curriculum, (law, task), fence
        course = curricula.law_of_lanes(*about)
        asked = draws.ask(environment, lot, keys.prompt, law, task, fence, course)
        baseline = None if oracle is None else fence(told_each(told, lot, asked))
        found = learn(keys, state, asked, baseline, fence)
        heard = found.heard
        if surrogate.penalty is not None:  # it leaves no group without a gradient
            heard = heard._replace(dead=jnp.zeros_like(heard.dead))
        after = climb(optimizer, surrogate, state, lot, asked, found, fence)
        if curriculum is not None:
            told_right = asked.prompts, found.passed[:, None] / lot.answers
            noted = curriculum.update(state.curriculum, *told_right)
            after = after._replace(curriculum=noted)
        return after, heard

    lines = rollouts.bill(surrogate, policy.num_active_params)
    return Fused(logits, step, lambda: charge(lines, environment, batch, batch[1]), oracle)


def _guessing(
    environment: Environment,
    policy: Policy,
    advantage: Advantage,
    lot: Batch,
    surrogate: Surrogate,
    curriculum: Curriculum | None,
) -> Callable[[Any, Learning, Asked, Array | None, Fence], Learnt]:
    """What an update draws, is told and makes of it: guesses one by one, or how many of each."""

    def draw(
        keys: Any, state: Learning, asked: Asked, baseline: Array | None, fence: Fence
    ) -> Learnt:
        answers, told = draws.guesses(environment, lot, keys, asked, fence)
        success = told.success if lot.answers == 1 else fence(told.success)
        about = lot, asked.prompts, told, baseline, fence
        found = weighing.weigh(advantage, state.advantage, *about)
        right = columns.total(success)
        heard = Heard(asked.prompts, asked.law, answers, right, found.dead)
        made = learnt(found.kept, surrogate, lot, heard, found.weights, fence)
        if curriculum is None or environment.verifier is None:
            return made
        passed = jnp.all(told.credit == 1, axis=1).astype(success.dtype)
        return made._replace(passed=columns.total(passed))

    def count(
        keys: Any, state: Learning, asked: Asked, baseline: Array | None, fence: Fence
    ) -> Learnt:
        words = draws.rows(draws.random_words(environment, lot, keys.sample, fence))
        none = jnp.zeros((lot.draws, environment.shape.length, 1, words.shape[-1]), words.dtype)
        answer = draws.rows(draws.labels(environment, asked.task, none))[:, 0]
        counts, right = choices.tally(words, asked.law.probs, answer, lot.draws, fence)
        about = lot, counts, answer, baseline, fence
        weights = weighing.weigh_counts(advantage, state.advantage, *about)
        mine = answer[:, None] == jnp.arange(counts.shape[1], dtype=answer.dtype)[:, None]
        shares = jnp.where(mine, weights.right[:, None], weights.wrong[:, None])
        sums = fence(counts * shares * (1 / (lot.groups * lot.size)))
        heard = Heard(asked.prompts, asked.law, None, right, weights.dead, fence(counts))
        guesses = epochs.Guesses(None, epochs.by_sign(sums)) if surrogate.num_epochs > 1 else None
        return Learnt(weights.kept, sums, fence(columns.total(sums)), heard, right, guesses)

    whole = policy.by_prefix or epochs.are_by_answer(surrogate, environment.shape.length)
    return count if not whole and weighing.is_counted(environment, advantage, lot) else draw


def supervised(
    environment: Environment,
    policy: Policy,
    optimizer: Optimizer,
    batch: tuple[int, int],
    smoothing: Array | float | None = None,
) -> Fused | None:
    """Supervised learning from groups x labels, smoothed; None where there is no fused path."""
    if obstacle(environment, policy, by_prefix=True):
        return None
    lot = Batch(environment.shape.num_prompts, *batch)

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence, told: Told
    ) -> tuple[Learning, Heard]:
        asked = draws.ask(environment, lot, keys.prompt, law, task, fence)
        words = draws.random_words(environment, lot, keys.label, fence)
        labels = draws.rows(fence(draws.labels(environment, asked.task, words)))
        success = jnp.full(asked.prompts.shape, float(lot.answers))
        none = jnp.zeros(success.shape, jnp.uint32)
        heard = Heard(asked.prompts, asked.law, labels, success, none)
        found = learnt((), SCORE, lot, heard, jnp.ones(labels.shape), fence)
        if smoothing is not None:
            even = smoothing * found.total[:, None] / environment.shape.vocab_size
            found = found._replace(sums=fence((1 - smoothing) * found.sums + even))
        gradient = direction(SCORE, state, lot, asked, found, fence)
        return ascend(optimizer, state, gradient, ()), heard

    lines = flops.ledger_lines(policy.num_active_params, 1, "supervised")
    labels = batch[1] * environment.shape.length
    return Fused(logits, step, lambda: charge(lines, environment, batch, labels))


def _oracle(environment: Environment, advantage: Advantage) -> Told | None:
    """The baseline [U] of an oracle, from the law of a guess; None: the advantage is none."""
    of_probs, of_statistics = exact.by_law(environment), advantage.baseline
    if of_probs is None or of_statistics is None:
        return None
    return lambda probs, task, prompt: of_statistics(of_probs(probs, task, prompt))


def told_each(told: Told, lot: Batch, asked: Asked) -> Any:
    """What an update is `told` of each of its draws: [K, ..., N]."""
    laws = asked.law.probs
    laws = laws.reshape(lot.draws, -1, *laws.shape[1:])
    tasks = jax.tree.map(lambda leaf: leaf[..., 0, :], asked.task)
    # Of several prompts a task has the row of one.
    return columns.each(told)(laws, tasks, jnp.full_like(asked.prompts, draws.FIRST))


def logits(state: Learning) -> Array:
    """[M L, V, N]: the positions of every prompt."""
    return draws.rows(state.params)


def learnt(
    kept: State, surrogate: Surrogate, lot: Batch, heard: Heard, weights: Array, fence: Fence
) -> Learnt:
    """From weights [K L, C, N] of the answers heard."""
    shares = weights * (1 / (lot.groups * lot.size))
    sums, guesses = epochs.remembered(surrogate, lot, heard, shares, fence)
    total = prefixes.totals(shares, sums)
    whole = total if lot.answers == 1 else fence(total)
    return Learnt(kept, sums, whole, heard, heard.success, guesses)


def climb(
    optimizer: Optimizer,
    surrogate: Surrogate,
    state: Learning,
    lot: Batch,
    asked: Asked,
    found: Learnt,
    fence: Fence,
) -> Learning:
    """The state after the surrogate's passes over weighted guesses."""

    def again(state: Learning, law: Law, sums: Array, total: Array) -> Learning:
        about = asked._replace(law=law), found._replace(sums=sums, total=total)
        gradient = direction(surrogate, state, lot, *about, fence)
        return ascend(optimizer, state, gradient, found.kept)

    after = again(state, asked.law, found.sums, found.total)
    if found.guesses is None:
        return after
    return epochs.go_on(surrogate, again, lot, asked, found.guesses, after, fence)


def direction(
    surrogate: Surrogate, state: Any, lot: Batch, asked: Asked, found: Learnt, fence: Fence
) -> Array:
    """What an optimiser is to climb: [M, L, V, N]."""
    assert surrogate.on_columns is not None  # see `policy_gradient`
    way = surrogate.on_columns(asked.law, found.sums, found.total, lot.num_prompts, fence)
    if surrogate.penalty_on_columns is not None:
        first = state.start if surrogate.anchored else None
        if first is not None and lot.num_prompts > 1:
            first = columns.rows_at(first, asked.prompts)
        first = None if first is None else draws.rows(first)
        added = surrogate.penalty_on_columns(asked.law, first, fence) / lot.draws
        if found.heard.answers is not None:
            added = prefixes.by_visits(added, found.heard.answers, lot.draws, fence.at_once)
        way = way + added
    return by_prompt(way, lot, asked, fence)


def by_prompt(way: Array, lot: Batch, asked: Asked, fence: Fence) -> Array:
    """Sums [M, L, V, N] of directions [K L, V, N] at the prompts drawn."""
    way = way.reshape(lot.draws, -1, *way.shape[1:])
    if lot.num_prompts == 1:
        return way
    return columns.sums_at(fence(way), asked.prompts, lot.num_prompts)


def ascend(optimizer: Optimizer, state: Any, gradient: Array, kept: Any) -> Any:
    """One optimiser step of every lane up the gradient [M, L, V, N]; states as `updates.ascend`."""

    def one(optimizer: Optimizer, params: Array, opt_state: Any, gradient: Array) -> Any:
        state = Learning(params, opt_state, ())
        return updates.ascend(optimizer.build(), state, gradient, ())[:2]

    params, opt_state = columnwise.over_lanes(one)(
        optimizer, state.params, state.optimizer, gradient
    )
    return state._replace(params=params, optimizer=opt_state, advantage=kept)


def charge(
    lines: dict[str, int], environment: Environment, batch: tuple[int, int], samples: int
) -> Info:
    """The constants of one update; `samples` is per group."""
    prompts = jnp.zeros(batch[:1], jnp.int32)
    answers = jnp.zeros((*batch, environment.shape.length), jnp.int32)
    return updates.report(lines, prompts, answers, jnp.zeros(batch), samples)
