"""The lines of the efficiency map: closed forms of `simrl.measures` over the pass rate.

They are those of a policy whose positions are alike and whose wrong answers are alike. Supervised
learning from one right answer keeps both; a policy gradient keeps neither exactly, and positions
drift apart most under rewards by token and late under a baseline.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl.measures import gradients, information

GROUP = 32
SUPERVISED, GUESSING = "supervised", "leave_one_out"  # the two that stand for their kind
ADVANTAGES = ("none", "batch_mean", "leave_one_out")


class World(NamedTuple):
    """What the closed forms ask of a world with one right answer."""

    num_symbols: int
    length: int
    reward: str


class Forms(NamedTuple):
    """Over pass rates [G]: bits/sample [G] by (learner, measure), noise scales [G] by advantage."""

    pass_rates: np.ndarray
    bits: dict[tuple[str, str], np.ndarray]
    noise: dict[str, np.ndarray]


@cache
def closed_forms(world: World) -> Forms:
    """The lines of a world; a supervised sample is one labelled token, a guess is one sample."""
    odds = jnp.linspace(-7.4, 4.9, 161)
    bits, noise = jax.jit(jax.vmap(lambda o: _at(o, world)))(odds)
    bits = {(who, measure): np.asarray(bits[who][measure]) for who in bits for measure in bits[who]}
    noise = {advantage: np.asarray(values) for advantage, values in noise.items()}
    return Forms(np.asarray(jax.nn.sigmoid(odds)), bits, noise)


@cache
def zipf_gap(num_symbols: int) -> float:
    """KL of a uniform policy from labels by Zipf's law, bits."""

    def gap() -> jax.Array:
        weights = 1.0 / jnp.arange(1, num_symbols + 1)
        uniform = jnp.full(num_symbols, -jnp.log(float(num_symbols)))
        return information.label_gap(weights / weights.sum(), uniform)

    return float(jax.jit(gap)())


def _at(
    odds: jax.Array, world: World
) -> tuple[dict[str, dict[str, jax.Array]], dict[str, jax.Array]]:
    """The measures at one log-odds of the pass rate."""
    log_right = -jax.nn.softplus(-odds) / world.length  # of one position
    log_wrong = jnp.log(-jnp.expm1(log_right) / (world.num_symbols - 1))
    row = jnp.concatenate([log_right[None], jnp.repeat(log_wrong, world.num_symbols - 1)])
    log_probs = jnp.repeat(row[None], world.length, axis=0)
    answer = jnp.zeros(world.length, int)

    labels = information.sequence_information(log_probs, answer, "label")
    guesses = information.sequence_information(log_probs, answer, world.reward)
    nominal = [information.nominal_information(odds, kind) for kind in information.KINDS]
    told = {"nominal": nominal[0], "expected": labels.expected, "realised": labels.realised}
    guessed = {"nominal": nominal[1], "expected": guesses.expected, "realised": guesses.realised}
    bits = {SUPERVISED: {name: value / world.length for name, value in told.items()}}
    noise = {}
    for advantage in ADVANTAGES:
        arguments = (jnp.exp(log_probs), answer, GROUP, advantage, world.reward)
        noise[advantage] = gradients.batch_moments(*arguments).noise_scale
    return {**bits, GUESSING: guessed}, noise
