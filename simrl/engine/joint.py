"""Joint information of the guesses (labels) of one update at one prompt: repeats tell nothing new.

Each measure takes the belief [L, V] nats, the right answer [L], all guesses [N, L] of the update,
the prompts [N] they were made at, and which of them [N] are at this one; bits [].
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from simrl.measures import information, listed, lumps
from simrl.measures.information import Information
from simrl.measures.messages import World
from simrl.types import Array, Entries


def measure_of(
    channel: str, num_prompts: int, entries: Entries | None = None, world: World | None = None
) -> Callable:
    """The measure for guesses that add up as `channel`: "label", "exact" or "token".

    `entries`: those of the belief, where they are not the answers themselves. `world`: where whole
    answers are listed, for any channel.
    """
    if entries is not None:
        return partial(_of_lumps, entries)
    if world is not None and channel not in ("label", "exact"):
        return partial(_of_messages, world)
    return partial(_MEASURES[channel], num_prompts)


def _of_labels(
    num_prompts: int, log_probs: Array, answer: Array, labels: Array, owners: Array, mine: Array
) -> Information:
    found = information.sequence_information(log_probs, answer, "label")
    return jax.tree.map(lambda bits: jnp.where(jnp.any(mine), bits, 0), found)


def _of_guesses(
    num_prompts: int, log_probs: Array, answer: Array, guesses: Array, owners: Array, mine: Array
) -> Information:
    """Whole-answer guesses [N, L], each told right or wrong, of which those of `mine` [N] count."""
    size = log_probs.shape[-1]
    if guesses.shape[1] == 1 and size <= guesses.shape[0]:
        return _of_symbols(log_probs, answer, guesses, mine)
    tagged = jnp.concatenate([owners[:, None].astype(guesses.dtype), guesses], axis=1)
    return information.distinct_information(
        information.group_log_odds(log_probs, guesses),
        information.first_occurrences(_coded(tagged, num_prompts, size)) & mine,
        information.sequence_log_odds(log_probs, answer),
        jnp.any(jnp.all(guesses == answer, axis=-1) & mine),
    )


def _of_symbols(log_probs: Array, answer: Array, guesses: Array, mine: Array) -> Information:
    """The same where there are no more symbols V than guesses [N, 1]: over the symbols instead."""
    symbols = jnp.arange(log_probs.shape[-1], dtype=guesses.dtype)
    tried = information.occurring(jnp.where(mine, guesses[:, 0], -1), len(symbols))
    return information.distinct_information(
        information.group_log_odds(log_probs, symbols[:, None]),
        tried,
        information.sequence_log_odds(log_probs, answer),
        jnp.any(tried & (symbols == answer[0])),
    )


def _coded(tagged: Array, num_prompts: int, size: int) -> Array:
    """Rows [N, 1 + L] as rows of one number, if it fits: one comparison tells them apart."""
    if num_prompts * size ** (tagged.shape[1] - 1) >= 2**31:
        return tagged
    powers = np.cumprod([1, *[size] * (tagged.shape[1] - 1)])[::-1]
    return jnp.sum(tagged * powers.astype(np.int32), axis=1, keepdims=True)


def _of_tokens(
    num_prompts: int, log_probs: Array, answer: Array, guesses: Array, owners: Array, mine: Array
) -> Information:
    """The same position by position: what is told of one says nothing of another."""
    by_position = jax.vmap(partial(_of_guesses, num_prompts), (0, 0, 1, None, None))
    found = by_position(log_probs[:, None], answer[:, None], guesses[..., None], owners, mine)
    return jax.tree.map(jnp.sum, found)


def _of_lumps(
    entries: Entries, log_probs: Array, answer: Array, guesses: Array, owners: Array, mine: Array
) -> Information:
    """The same of the entries [N, 1] of a lumped belief; they all belong to its one prompt."""
    return lumps.joint_information(log_probs[0], entries.counts, 0, guesses[:, 0])


def _of_messages(
    world: World, log_probs: Array, answer: Array, guesses: Array, owners: Array, mine: Array
) -> Information:
    """The same of listed answers, the guesses [N, 1], that are told what `world` tells."""
    return listed.joint_information(log_probs[0], answer[0], guesses[:, 0], mine, world)


_MEASURES: dict[str, Callable] = {"label": _of_labels, "exact": _of_guesses, "token": _of_tokens}
