"""What is exact of a tabular policy gradient: score statistics, and moments made of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from simrl.learners import updates
from simrl.measures import gradients, scores, units
from simrl.types import Advantage, Array, Environment, Rollout, State, Surrogate, Task

Statistics = Callable[[State, Task, Array], scores.ScoreStatistics]
# (state, task, prompt) -> those of one guess


def statistics(environment: Environment, belief: Callable) -> Statistics | None:
    """Score statistics of a factorised belief in a world; None where they have no closed form."""
    of_probs = by_law(environment)
    if of_probs is None:
        return None

    def of_prompt(state: State, task: Task, prompt: Array) -> scores.ScoreStatistics:
        return of_probs(jnp.exp(belief(state, prompt)), task, prompt)

    return of_prompt


def by_law(
    environment: Environment,
) -> Callable[[Array, Task, Array], scores.ScoreStatistics] | None:
    """The same as functions of a guess's law: of (probabilities [L, V], task, prompt)."""
    verifier = environment.verifier
    # Where several answers are right it is arm by arm, or not known.
    channel = environment.channel if environment.right is None else None
    reward_law: Any = environment.reward_law
    lucky = verifier is not None and not environment.binary
    if lucky or (channel is None and reward_law is None):
        return None

    def of_probs(probs: Array, task: Task, prompt: Array) -> scores.ScoreStatistics:
        if channel is None:
            law = reward_law(task, prompt)
            if environment.binary:
                return _with_natural(scores.verdict_statistics(probs[0], law[0]), probs, law[0])
            return _with_natural(scores.bandit_statistics(probs[0], *law), probs, law[0])
        hits = environment.target(task, prompt)
        target = hits if environment.noisy else jnp.argmax(hits, axis=-1)
        known = scores.sequence_statistics(probs, target, channel)
        if verifier is not None:
            known = units.verified_statistics(known, *verifier)
            hits = verifier.false_positive * (1 - hits) + (1 - verifier.false_negative) * hits
        alone = channel == "token" or probs.shape[0] == 1
        return _with_natural(known, probs, hits) if alone else known

    return of_probs


def _with_natural(
    known: scores.ScoreStatistics, probs: Array, rewards: Array
) -> scores.ScoreStatistics:
    """Statistics of units of one symbol each, whose mean rewards are [L, V], with that baseline."""
    rows = jnp.broadcast_to(rewards, probs.shape)
    return known._replace(natural_baseline=jax.vmap(gradients.natural_baseline)(probs, rows))


def required(statistics: Statistics | None) -> Statistics:
    """The statistics of a world that must have them.

    Raises:
      ValueError: it has none.
    """
    if statistics is None:
        raise ValueError("this needs a tabular policy and a world whose rewards have a closed law")
    return statistics


def told(
    advantage: Advantage, statistics: Statistics | None, state: State, task: Task, drawn: Rollout
) -> Rollout:
    """Rollouts [G, ...] with the statistics of their prompts, if the advantage reads them."""
    if not advantage.oracle:
        return drawn
    of_prompt = jax.vmap(required(statistics), (None, None, 0))
    return drawn._replace(statistics=of_prompt(state, task, drawn.prompt))


def penalty(surrogate: Surrogate, belief: Callable) -> Callable[[State, Array], Array] | None:
    """(state, prompt) -> what penalties add to the estimate [L, V]; None without any."""
    penalties = surrogate.penalty
    if penalties is None:
        return None

    def added(state: Any, prompt: Array) -> Array:
        first = belief(state._replace(params=state.start), prompt) if surrogate.anchored else None
        return penalties(belief(state, prompt), first)

    return added


def moments(
    environment: Environment,
    advantage: Advantage,
    statistics: Statistics | None,
    batch: tuple[int, int],
    added: Callable[[State, Array], Array] | None = None,
    law_of: Callable[[State, Task], Array | None] = lambda state, task: None,
) -> tuple[Any, Any]:
    """Exact moments and squared bias where the world and the advantage have them, else None.

    `added` (state, prompt) is a part of the estimate that is no matter of luck, or None; `law_of`
    (state, task) the probabilities [M] with which prompts are drawn, None: uniform.
    An advantage with a memory sees several groups in turn, which its moments do not describe.
    """
    groups, size = batch
    batch_moments: Any = advantage.moments
    continuous = advantage.binary_moments and not environment.binary
    remembers = groups > 1 and jax.tree.leaves(advantage.init())
    if statistics is None or batch_moments is None or remembers or continuous:
        return None, None
    num_prompts = environment.shape.num_prompts

    def moments(state: Any, task: Task) -> tuple[Array, Array]:
        def of_prompt(prompt: Array) -> tuple[Array, Array]:
            found = batch_moments(state.advantage, statistics(state, task, prompt), size)
            if added is None:
                return found.trace_covariance, found.squared_norm
            return found.trace_covariance, jnp.sum((found.mean + added(state, prompt)) ** 2)

        found = jax.vmap(of_prompt)(jnp.arange(num_prompts))
        return updates.over_prompts(*found, groups, law_of(state, task))

    def squared_bias(state: Any, task: Task) -> Array:
        mine, given = law_of(state, task), updates.prompt_law(environment, task)
        prompts = jnp.arange(num_prompts)
        even = jnp.ones(prompts.shape)
        if mine is not None:
            given = even / len(prompts) if given is None else given
        # Of an even law the share of a prompt is taken last.
        shares = even if mine is None else mine, even if given is None else given

        def of_prompt(prompt: Array, mine: Array, given: Array) -> Array:
            one = statistics(state, task, prompt)
            mean = batch_moments(state.advantage, one, size).mean
            mean = mean if added is None else mean + added(state, prompt)
            return jnp.sum((mine * mean - given * one.mean) ** 2)

        found = jax.vmap(of_prompt)(prompts, *shares)
        return jnp.mean(found) / len(prompts) if mine is None else jnp.sum(found)

    return moments, squared_bias
