"""What an update of many seeds draws: prompts, words, labels and verdicts, lanes on the last axis.

Letters besides those of simrl.types: N lanes; an update draws K prompts and C answers to each.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import choices, columns, columnwise, prefixes
from simrl.columns import Fence, Law
from simrl.types import Array, Environment, Outcome, Task

Halves = tuple[Array, Array]  # of keys [N]: `simrl.keys.halves`

FIRST = 0  # the prompt, where there is only one


class Batch(NamedTuple):
    """What an update draws. Groups at the only prompt are one draw: K = 1, C = G B."""

    num_prompts: int
    groups: int
    size: int  # answers of a group

    @property
    def draws(self) -> int:
        """K."""
        return 1 if self.num_prompts == 1 else self.groups

    @property
    def answers(self) -> int:
        """C."""
        return self.groups // self.draws * self.size


class Asked(NamedTuple):
    """The prompts that an update has drawn, and what is theirs."""

    prompts: Array  # [K, N] int32
    law: Law  # [K L, V, N], or [K R, V, N] of policies with rows for prefixes
    task: Task  # leaves [K, ...]: the task of a world of one prompt, as [..., 1, N]


def rows(x: Array) -> Array:
    """[K, L, ...] as [K L, ...]."""
    return x.reshape(-1, *x.shape[2:])


def ask(
    environment: Environment,
    lot: Batch,
    stream: Halves,
    law: Law,
    task: Task,
    fence: Fence,
    course: Array | None = None,
) -> Asked:
    """The prompts that the words of the stream pick: those of `updates.draw_prompts`.

    `course` [M, N]: the law by which a curriculum draws them; None: the world does.
    """
    if lot.num_prompts == 1:
        prompts = jnp.full((1, *law.total.shape[-1:]), FIRST, jnp.int32)
        return Asked(prompts, law, jax.tree.map(lambda leaf: leaf[None, ..., None, :], task))
    words = choices.words(stream, lot.draws, 1, fence)[0]
    if course is None:
        draw = jax.vmap(environment.prompt, (0, None))
        prompts = fence(columnwise.over_lanes(draw)(words, task))
    else:
        prompts = choices.choose(words[None], course[None], fence)[0]

    def at(leaf: Array) -> Array:
        """The rows of the prompts drawn, found once."""
        found = columns.rows_at(leaf, prompts)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return fence(found)
        return fence(found.astype(jnp.uint32)).astype(leaf.dtype)

    parts = (at(part.reshape(lot.num_prompts, -1, *part.shape[1:])) for part in law)
    tasks = jax.tree.map(lambda leaf: at(leaf)[:, None, ..., None, :], task)
    return Asked(prompts, Law(*(rows(part) for part in parts)), tasks)


def of_every(num_prompts: int, task: Task) -> Task:
    """What is theirs of all prompts, as `ask` has it of those drawn."""
    row = (slice(None), None) if num_prompts > 1 else (None,)
    return jax.tree.map(lambda leaf: leaf[(*row, ..., None, slice(None))], task)


def random_words(environment: Environment, lot: Batch, stream: Halves, fence: Fence) -> Array:
    """Random words [K, L, C, N]: those of `updates.group_words`."""
    length = environment.shape.length
    words = choices.words(stream, lot.draws * lot.answers, length, fence)
    return jnp.swapaxes(words.reshape(length, lot.draws, lot.answers, -1), 0, 1)


def guesses(
    environment: Environment, lot: Batch, keys: Any, asked: Asked, fence: Fence
) -> tuple[Array, Outcome]:
    """Answers [K L, C, N] of the policy to what is asked, and their `verdicts`."""
    words = random_words(environment, lot, keys.sample, fence)
    answers = prefixes.choose(rows(words), asked.law.probs, lot.draws, fence)
    noise = random_words(environment, lot, keys.reward, fence)
    return answers, verdicts(environment, noise, asked.task, answers.reshape(noise.shape))


def verdicts(environment: Environment, noise: Array, tasks: Task, answers: Array) -> Outcome:
    """Credit [K, L, C, N] and success [K, C, N] of answers [K, L, C, N]."""

    def verdict(noise: Array, task: Task, answers: Array) -> Outcome:
        told = environment.reward(noise, task, jnp.int32(FIRST), answers)
        return Outcome(jnp.broadcast_to(told.credit, answers.shape), told.success)

    return columns.each(verdict)(noise, tasks, answers)


def labels(environment: Environment, tasks: Task, words: Array) -> Array:
    """Labels [K, L, C, N] by words; where they are not drawn, no word is read."""

    def label(words: Array, task: Task) -> Array:
        told = environment.label(words, task, jnp.int32(FIRST))
        return jnp.broadcast_to(told, words.shape)

    return columns.each(label)(words, tasks)
