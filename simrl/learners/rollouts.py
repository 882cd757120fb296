"""What learners by guessing share: groups of guesses, their verdicts and their weights."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from simrl.learners import updates
from simrl.learners.surrogates import Score
from simrl.learners.updates import Learning
from simrl.measures import flops
from simrl.types import (
    Advantage,
    Array,
    Environment,
    Outcome,
    Params,
    Policy,
    Rollout,
    State,
    Surrogate,
    Task,
)


def draw(
    keys: Any,
    environment: Environment,
    policy: Policy,
    params: Params,
    task: Task,
    batch: tuple[int, int],
    prompts: Array | None = None,
    given: tuple[Array, Array] | None = None,
) -> Rollout:
    """Rollouts of G groups of B answers: every field of the Rollout with a leading axis [G].

    `prompts` [G]: other than those that the world draws. `given`: an answer [G, L] to each, and how
    many of its first symbols [G, B] a rollout starts from; for policies factorised over positions.
    """
    groups, size = batch
    length = environment.shape.length
    if prompts is None:
        prompts = updates.draw_prompts(keys.prompt, environment, task, groups)
    sample_words = updates.group_words(keys.sample, groups, size, length)
    reward_words = updates.group_words(keys.reward, groups, size, length)

    told_of = partial(verdict, environment)

    def group(prompt: Array, words: Array, noise: Array, given: Any) -> Rollout:
        answers = jax.vmap(policy.sample, (0, None, None))(words, params, prompt)
        if given is not None:
            known, sizes = given
            answers = jnp.where(jnp.arange(length) < sizes[:, None], known, answers)
        outcome = jax.vmap(told_of, (0, None, None, 0))(noise, task, prompt, answers)
        log_prob = jax.vmap(policy.log_prob, (None, None, 0))(params, prompt, answers)
        return Rollout(prompt, answers, outcome.credit, outcome.success, log_prob)

    return jax.vmap(group)(prompts, sample_words, reward_words, given)


def verdict(
    environment: Environment, words: Array, task: Task, prompt: Array, answer: Array
) -> Outcome:
    """What a world says of one answer [L], as credit [L] and success [], both floats."""
    # An own world may pay one number for the whole answer, or whole numbers.
    told = environment.reward(words, task, prompt, answer)
    paid = jnp.broadcast_to(jnp.asarray(told.credit, float), answer.shape)
    return Outcome(paid, jnp.asarray(told.success, float))


def weigh(advantage: Advantage, state: State, rollouts: Rollout) -> tuple[State, Array]:
    """Weights [G, B, L]; an advantage with a memory sees the groups one after the other."""
    if not jax.tree.leaves(state):
        return state, jax.vmap(lambda rollout: advantage.weights(state, rollout)[1])(rollouts)
    return jax.lax.scan(advantage.weights, state, rollouts)


def climb(
    optimizer: optax.GradientTransformation,
    surrogate: Surrogate,
    policy: Policy,
    drawn: Rollout,
    weights: Array,
    state: Learning,
    kept: State,
) -> Learning:
    """The state after the surrogate's passes over weighted guesses; `kept`: what is remembered."""

    def epoch(_: Array | int, state: Learning) -> Learning:
        way = surrogate.direction(policy, state.params, drawn, weights, state.start)
        return updates.ascend(optimizer, state, way, kept)

    # An optimiser may not have what it carries in its final form before the first step.
    first = epoch(0, state)
    epochs = surrogate.num_epochs
    return first if epochs == 1 else jax.lax.fori_loop(1, epochs, epoch, first)


def bill(surrogate: Surrogate, num_params: int, critic_params: int = 0) -> dict[str, int]:
    """FLOPs of a token by line."""
    return flops.ledger_lines(
        num_params,
        1,
        "policy_gradient",
        num_epochs=surrogate.num_epochs,
        reference_params=num_params if surrogate.anchored else 0,
        critic_params=critic_params,
    )


def estimate(
    surrogate: Surrogate, policy: Policy, drawn: Rollout, weights: Array, state: Learning
) -> Params:
    """One draw of the gradient estimate: the first direction, or what it is made from."""
    score = surrogate.score and surrogate.penalty is None
    way = Score().build().direction if score else surrogate.direction
    return way(policy, state.params, drawn, weights, state.start)
