"""What is measured of a learner at one moment: a function of its belief, never of its algorithm.

Values are per prompt [M], so that each prompt is binned by its own pass rate. Information is in
bits per trajectory (one answer), joint information in bits per group of an update.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl.measures import information
from simrl.types import Array, Info, State, Task, Trial

LISTED = 4096  # fraction rewards have a closed form only by listing V^L answers


class Truth(NamedTuple):
    """The right answers [M, L] and the label laws [M, L, V] of one task."""

    answers: Array
    laws: Array


def truth(trial: Trial, task: Task) -> Truth:
    """The right answer to every prompt: the likeliest label."""
    prompts = jnp.arange(trial.environment.shape.num_prompts)
    laws = jax.vmap(trial.environment.target, (None, 0))(task, prompts)
    return Truth(jnp.argmax(laws, axis=-1).astype(jnp.int32), laws)


def beliefs(trial: Trial, state: State) -> Array:
    """Log-probabilities [M, L, V] for every prompt, nats."""
    prompts = jnp.arange(trial.environment.shape.num_prompts)
    return jax.vmap(trial.learner.belief, (None, 0))(state, prompts)


def log_odds(log_probs: Array, known: Truth) -> Array:
    """Log-odds [M] of the whole answer being right, nats."""
    return jax.vmap(information.sequence_log_odds)(log_probs, known.answers)


def channel_of(trial: Trial) -> str | None:
    """The information channel of the learner's feedback, None where it has no closed form."""
    environment = trial.environment
    if environment.noisy:
        return None
    if trial.learner.kind == "supervised":
        return "label"
    _, length, vocab_size = environment.shape
    if environment.channel == "fraction" and vocab_size**length > LISTED:
        return None
    return environment.channel


def joint_channel(trial: Trial) -> str | None:
    """How the guesses of a group add up: as whole answers, position by position, or not known."""
    channel = channel_of(trial)
    if channel in ("label", "exact") or channel is None:
        return channel
    if trial.environment.shape.length == 1:
        return "exact"
    return "token" if channel in ("token", "reward_to_go") else None


def quantities(trial: Trial) -> tuple[str, ...]:
    """The names of the real-valued phase sums of this trial, in order."""
    names = ["pass_rate", "success", "nominal", "absorbed"]
    if channel_of(trial) is not None:
        names += ["expected", "realised"]
    if joint_channel(trial) is not None:
        names += ["expected_update", "realised_update"]
    if trial.environment.noisy:
        names += ["gap", "absorbed_label"]
    if trial.learner.moments is not None:
        names += ["trace_covariance", "squared_norm"]
    return tuple(names)


def of_state(trial: Trial, state: State, task: Task, known: Truth) -> dict[str, Array]:
    """Measures [M] of the policy and of the learner's estimator before an update."""
    log_probs = beliefs(trial, state)
    odds = log_odds(log_probs, known)
    values = {"pass_rate": jax.nn.sigmoid(odds), "nominal": _nominal(trial, log_probs, known, odds)}
    channel = channel_of(trial)
    if channel is not None:
        measure = jax.vmap(lambda lp, y: information.sequence_information(lp, y, channel))
        values["expected"], values["realised"] = measure(log_probs, known.answers)
    if trial.environment.noisy:
        values["gap"] = jax.vmap(information.label_gap)(known.laws, log_probs)
    if trial.learner.moments is not None:
        trace, norm = trial.learner.moments(state, task)
        values["trace_covariance"] = jnp.broadcast_to(trace, odds.shape)
        values["squared_norm"] = jnp.broadcast_to(norm, odds.shape)
    return values


def _nominal(trial: Trial, log_probs: Array, known: Truth, odds: Array) -> Array:
    """The essay's curve [M]: -log2 p of a label, h(p) of a verdict; their means if noisy."""
    if not trial.environment.noisy:
        return information.nominal_information(odds, trial.learner.kind)
    if trial.learner.kind == "supervised":
        return -jnp.sum(known.laws * log_probs, axis=(1, 2)) / jnp.log(2.0)
    matches = jnp.sum(jnp.exp(log_probs) * known.laws, axis=-1)
    return information.binary_entropy(jnp.prod(matches, axis=-1))


def absorbed(odds_before: Array, odds_after: Array) -> Array:
    """Bits [M] gained about the right answer between two beliefs, from its log-odds [M] in nats.

    Through the log-odds, because a float32 log-probability near 0 has lost its digits.
    """
    gain = jax.nn.log_sigmoid(odds_after) - jax.nn.log_sigmoid(odds_before)
    return gain / jnp.log(2.0)


def absorbed_label(before: Array, after: Array, known: Truth) -> Array:
    """Bits [M] gained about labels drawn from their law; before, after [M, L, V] nats."""
    return jnp.sum(known.laws * (after - before), axis=(1, 2)) / jnp.log(2.0)


def of_update(trial: Trial, log_probs: Array, known: Truth, info: Info) -> dict[str, Array]:
    """Joint information of what an update was told [M], and its number of right guesses [M].

    Sums over the groups of the update that drew the prompt; per group, repeats tell nothing new.
    """
    hit_prompt = info.prompts[:, None] == jnp.arange(log_probs.shape[0])  # [G, M]

    def per_prompt(of_group: Array) -> Array:
        return jnp.sum(jnp.where(hit_prompt, of_group[:, None], 0), axis=0)

    values = {"success": per_prompt(jnp.sum(info.success, axis=1))}
    joint = joint_channel(trial)
    if joint is None:
        return values
    found = jax.vmap(_joint(joint))(
        log_probs[info.prompts], known.answers[info.prompts], info.answers
    )
    values["expected_update"] = per_prompt(found.expected)
    values["realised_update"] = per_prompt(found.realised)
    return values


def _joint(channel: str) -> Callable[[Array, Array, Array], Any]:
    """(log_probs [L, V], answer [L], guesses [B, L]) -> Information of the group, bits."""
    if channel == "label":
        return lambda log_probs, answer, labels: information.sequence_information(
            log_probs, answer, "label"
        )
    if channel == "exact":
        return _group
    by_position = jax.vmap(_group, (0, 0, 1))

    def token(log_probs: Array, answer: Array, guesses: Array) -> Any:
        found = by_position(log_probs[:, None], answer[:, None], guesses[..., None])
        return jax.tree.map(jnp.sum, found)

    return token


def _group(log_probs: Array, answer: Array, guesses: Array) -> Any:
    """What a group of whole-answer guesses, each told right or wrong, tells together."""
    return information.distinct_information(
        information.group_log_odds(log_probs, guesses),
        information.first_occurrences(guesses),
        information.sequence_log_odds(log_probs, answer),
        jnp.any(jnp.all(guesses == answer, axis=-1)),
    )
