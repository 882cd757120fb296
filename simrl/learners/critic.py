"""A table of values over positions, and what it makes of rewards.

Sutton & Barto 2018, section 12.2 (lambda-returns); Schulman et al. 2016, equation 16 (generalised
advantage estimates), with gamma = 1. B answers of L positions, V symbols, M prompts, N values each.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simrl import keys
from simrl.learners import exact, updates
from simrl.learners.updates import Learning
from simrl.measures import gradients, scores
from simrl.types import Array, Environment, Rollout, Task

FEATURES = ("prompt", "position", "prefix")
MAX_VALUES = 1_000_000
BY_POSITION = ("token", "reward_to_go")  # what is paid to a position depends on its symbol alone


class Critic(NamedTuple):
    """The value function: expected sum of the rewards to come, in units of reward."""

    values: Array  # [M, N]
    visits: Any  # [M, N] float: rollouts each has learned from; () where none is stopped
    optimizer: Any


class Judged(NamedTuple):
    """G groups of guesses and what the critic made of them."""

    drawn: Rollout  # a guess that was stopped is no success
    places: Array  # [G, B, L] int32: where the value before each position is, in the prompt's row
    live: Array  # [G, B, L] bool: the position was decoded
    weights: Array  # [G, B, L] of the score terms; 0 where it was not


def num_values(features: str, environment: Environment) -> int:
    """N: values of one prompt; for "prefix" the nodes of the tree, (V^L - 1)/(V - 1)."""
    _, length, vocab_size = environment.shape
    tree = (vocab_size**length - 1) // (vocab_size - 1)
    return {"prompt": 1, "position": length, "prefix": tree}[features]


def places(features: str, answers: Array, vocab_size: int) -> Array:
    """Where the value before each position of answers [..., L] is: int32 [..., L]."""
    length = answers.shape[-1]
    if features == "prompt":
        return jnp.zeros(answers.shape, jnp.int32)
    if features == "position":
        return jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), answers.shape)
    node = jnp.zeros(answers.shape[:-1], jnp.int32)
    found = [node]
    for t in range(length - 1):  # the children of node n are V n + 1 ... V n + V
        node = vocab_size * node + 1 + answers[..., t]
        found.append(node)
    return jnp.stack(found, axis=-1)


def paid(credit: Array, channel: str | None) -> Array:
    """What each position [..., L] is paid, of the credit that its score is weighted by.

    `token` pays each position its own. Any other credit is the sum of the rewards to come: an
    outcome, the same at every position, is paid at the last.
    """
    if channel == "token":
        return credit
    return credit - jnp.concatenate([credit[..., 1:], jnp.zeros_like(credit[..., :1])], axis=-1)


def decoded(values: Array, visits: Array, below: Array | float, after: Array | float) -> Array:
    """Which positions [..., L] are decoded where a prefix of low value is stopped.

    values, visits [..., L]: those of the prefix before each position. The first is always decoded.
    """
    low = (values < below) & (visits >= after)
    return jnp.cumsum(low.at[..., 0].set(False), axis=-1) == 0


def explorers(stream: Array, batch: tuple[int, int], share: Array | float) -> Array:
    """Which guesses [G, B] are never stopped, a `share` of them."""
    return keys.uniform(keys.words(stream, batch)) < share


def advantages(rewards: Array, values: Array, live: Array, decay: Array | float) -> Array:
    """Generalised advantage estimates [..., L]: sums of decay^k delta_{t+k}.

    delta_t = r_t + V_{t+1} - V_t, V_L = 0, and 0 where a position was not decoded: what was stopped
    is credited the value of where it was stopped.
    """
    after = jnp.concatenate([values[..., 1:], jnp.zeros_like(values[..., :1])], axis=-1)
    return decayed(jnp.where(live, rewards + after - values, 0), decay)


def decayed(terms: Array, decay: Array | float) -> Array:
    """Sums [..., L] over k >= 0 of decay^k times the term k positions later."""
    return jnp.moveaxis(decayed_rows(jnp.moveaxis(terms, -1, 0), decay), 0, -1)


def decayed_rows(terms: Array, decay: Array | float) -> Array:
    """The same of terms [L, ...]."""

    def back(total: Array, term: Array) -> tuple[Array, Array]:
        total = term + decay * total
        return total, total

    _, sums = jax.lax.scan(back, jnp.zeros_like(terms[0]), terms, reverse=True)
    return sums


def learned(optimizer: optax.GradientTransformation, known: Critic, found: Judged) -> Critic:
    """The critic after a batch: one step down half the squared error to the lambda-return.

    The error at a position is its weight. It is averaged over the visits to each value.
    """
    at = found.drawn.prompt[:, None, None], found.places
    nothing = jnp.zeros_like(known.values)
    times = nothing.at[at].add(found.live.astype(nothing.dtype))
    slope = -nothing.at[at].add(found.weights) / jnp.maximum(times, 1)
    change, kept = optimizer.update(slope, known.optimizer, known.values)
    values: Any = optax.apply_updates(known.values, change)
    visits = known.visits if isinstance(known.visits, tuple) else known.visits + times
    return Critic(values, visits, kept)


def has_moments(environment: Environment, features: str) -> bool:
    """Whether a weight is a reward less what, given the state, the symbol does not change."""
    if exact.statistics(environment, lambda *given: None) is None:
        return False
    separate = environment.channel in BY_POSITION and features != "prefix"
    return environment.shape.length == 1 or separate


def moments(
    environment: Environment, belief: Any, features: str, decay: Array | float, batch: Any
) -> Any:
    """(state, task) -> trace of covariance and squared mean, where `has_moments`; table of logits.

    Later rewards are independent of a position's symbol: they add to the variance alone, so that
    the mean is the gradient for every decay and any values.
    """
    num_prompts, length, vocab_size = environment.shape
    groups, size = batch
    alone = length == 1
    by_position = environment if alone else environment._replace(channel="token")
    statistics = exact.required(exact.statistics(by_position, belief))

    def after(terms: Array, decay: Array | float) -> Array:
        return decayed(terms, decay) - terms

    def found(state: Learning, task: Task) -> tuple[Array, Array]:
        where = places(features, jnp.zeros((length,), jnp.int32), vocab_size)
        live, nothing = jnp.ones((length,), bool), jnp.zeros((length,))

        def of_prompt(prompt: Array) -> tuple[Array, Array]:
            one: Any = statistics(state, task, prompt)
            if not alone:
                later = after(one.reward_mean, decay), after(one.reward_variance, decay**2)
                one = scores.with_later(one, *later)
            baseline = -advantages(nothing, state.advantage.values[prompt, where], live, decay)
            whole = gradients.constant_moments(one, size, baseline)
            return whole.trace_covariance, whole.squared_norm

        return updates.over_prompts(
            *jax.vmap(of_prompt)(jnp.arange(num_prompts)),
            groups,
            updates.prompt_law(environment, task),
        )

    return found
