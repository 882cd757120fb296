"""Beliefs by whole answers: where positions are not independent, or several answers are right.

A whole answer is one symbol out of N = V^L, by its number (simrl.listing): beliefs are [M, 1, N],
right answers [M, 1], and what holds for one choice holds as it is.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simrl import keys, listing
from simrl.measures import guesses, information, listed, together, told
from simrl.measures.messages import World, log_passes
from simrl.types import Array, Entries, State, Task, TeacherForced, Trial


class Truth(NamedTuple):
    """The right answers [M, L] and the label laws [M, L, V] of one task.

    Where answers are lumped, entries stand for symbols here and in beliefs; where they are listed,
    whole answers do, and the laws are empty, [M, 1, 0], if labels are fixed.
    """

    answers: Array
    laws: Array
    entries: Entries | None = None
    right: Array | None = None  # [M, A] where several are right: `answers` has the first of each


def are_listed(trial: Trial) -> bool:
    """Whether whole answers stand for symbols in what is measured."""
    return trial.learner.listed or trial.environment.right is not None


def are_teacher_forced(trial: Trial) -> bool:
    """Whether nothing is known of the belief but the probability of a given answer."""
    return isinstance(trial.policy, TeacherForced) and not trial.learner.listed


def truth(trial: Trial, task: Task) -> Truth:
    """The right answers by their numbers."""
    environment = trial.environment
    num_prompts, _, vocab_size = environment.shape
    prompts, none = jnp.arange(num_prompts), jnp.zeros((num_prompts, 1, 0))
    if environment.right is not None:
        right = listing.code(jax.vmap(environment.right, (None, 0))(task, prompts), vocab_size)
        return Truth(right[:, :1], none, right=right)
    laws = jax.vmap(environment.target, (None, 0))(task, prompts)
    answers = listing.code(jnp.argmax(laws, axis=-1).astype(jnp.int32), vocab_size)
    if environment.noisy:
        none = jnp.exp(jax.vmap(listing.joint)(jnp.log(laws)))[:, None]
    return Truth(answers[:, None], none)


def symbols(trial: Trial, known: Truth) -> Array:
    """The right answers [M, L] symbol by symbol."""
    _, length, vocab_size = trial.environment.shape
    if not are_listed(trial):
        return known.answers
    return listing.decode(known.answers[:, 0], length, vocab_size)


def all_symbols(trial: Trial, known: Truth) -> Array | None:
    """All right answers [M, A, L, N] of lanes symbol by symbol; None where there is one."""
    if known.right is None:
        return None
    _, length, vocab_size = trial.environment.shape
    each = [listing.symbol(known.right, t, length, vocab_size) for t in range(length)]
    return jnp.stack(each, axis=2)


def truth_of_lanes(trial: Trial, known: Truth) -> Array:
    """The right answers [M, L, N] of lanes symbol by symbol, of several the first."""
    if not are_listed(trial):
        return known.answers
    _, length, vocab_size = trial.environment.shape
    first = known.answers[:, 0]
    return jnp.stack([listing.symbol(first, t, length, vocab_size) for t in range(length)], axis=1)


def beliefs(trial: Trial, by_learner: Array) -> Array:
    """Log-probabilities [M, 1, N], nats, from the learner's own [M, L, V] or [M, 1, N]."""
    if trial.learner.listed:
        return by_learner
    return jax.vmap(listing.joint)(by_learner)[:, None]


def merged(log_probs: Array, known: Truth) -> Array:
    """Beliefs [M, 1, N] with the right answers to a prompt as one, if there are several."""
    return log_probs if known.right is None else jax.vmap(listing.merged)(log_probs, known.right)


def guessed(trial: Trial, known: Truth, prompts: Array, answers: Array) -> Array:
    """Answers [G, B, L] at prompts [G] by their numbers, [G, B, 1]; all right ones as the first."""
    codes = listing.code(answers, trial.environment.shape.vocab_size)[..., None]
    if known.right is None:
        return codes
    right = known.right[prompts][:, None]  # [G, 1, A]
    return jnp.where(jnp.any(codes == right, axis=-1, keepdims=True), right[..., :1], codes)


def world_of(trial: Trial) -> World:
    """What a guess is told in this trial, by a channel that there is."""
    _, length, vocab_size = trial.environment.shape
    return World(length, vocab_size, trial.environment.channel or "", trial.environment.verifier)


def information_form(trial: Trial) -> str | None:
    """As `observe.information_form`, for answers that are listed."""
    environment = trial.environment
    if environment.noisy or environment.channel is None:
        return None
    if trial.learner.kind == "supervised":
        return "closed"
    if not listed.is_closed(world_of(trial)):
        return "sampled"
    return "closed" if environment.verifier is None else "verified"


def joint_channel(trial: Trial, channel: str | None) -> str | None:
    """As `observe.joint_channel`: by its own name what is told by more than right or wrong."""
    if channel in ("label", "exact", None):
        return channel
    if trial.environment.shape.length == 1:
        return "exact"
    return channel if listing.num_answers(trial.environment.shape) <= listed.MAX_JOINT else None


def joint_of_lanes(trial: Trial, channel: str) -> Callable:
    """What measures the joint information of what was `Heard`, by `observe.joint_channel`."""
    if trial.policy.by_prefix and channel not in ("label", "exact"):
        return partial(together.of_messages, world=world_of(trial))
    return told.JOINT[channel]


def informed(
    trial: Trial, state: State, log_probs: Array, known: Truth, draws: tuple[Array, int]
) -> dict[str, Array]:
    """Expected and realised bits [M] of one sample, and their errors where they are sampled."""
    if trial.learner.kind == "supervised":
        of_label = jax.vmap(lambda law, y: information.sequence_information(law, y, "label"))
        return of_label(log_probs, known.answers)._asdict()
    prompts, world = jnp.arange(log_probs.shape[0]), world_of(trial)
    laws = log_probs
    if trial.learner.proposal is not None:
        laws = merged(jax.vmap(trial.learner.proposal, (None, 0))(state, prompts), known)
    given = log_probs[:, 0], known.answers[:, 0]
    if information_form(trial) != "sampled":
        told = jax.vmap(lambda law, y, guess: listed.listed_information(law, y, world, guess))
        return told(*given, laws[:, 0])._asdict()
    key, num = draws

    def sampled(
        prompt: Array, law: Array, answer: Array, guess: Array
    ) -> guesses.SampledInformation:
        own = keys.fold_in(key, prompt)
        return listed.sampled_information(own, law, answer, world, num, guess)

    return estimated(jax.vmap(sampled)(prompts, *given, laws[:, 0]))


def estimated(found: guesses.SampledInformation) -> dict[str, Array]:
    """Sampled information by the names of what is measured."""
    return {
        "expected": found.expected,
        "realised": found.realised,
        "expected_error": found.expected_standard_error,
        "realised_error": found.realised_standard_error,
    }


def observed_log_odds(trial: Trial, log_probs: Array, known: Truth) -> Array:
    """Log-odds [M] that a verifier that errs passes every position of a guess, nats."""
    world = world_of(trial)

    def of_prompt(log_probs: Array, answer: Array) -> Array:
        log_yes, log_no = log_passes(jnp.arange(log_probs.shape[0]), answer, world)
        return jax.nn.logsumexp(log_probs + log_yes) - jax.nn.logsumexp(log_probs + log_no)

    return jax.vmap(of_prompt)(log_probs[:, 0], known.answers[:, 0])
