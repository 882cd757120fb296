"""What a guess at a whole answer is told: the message that each possible truth would cause.

It depends on which positions of the guess are right, the pattern of its hits. Patterns are numbers
too (simrl.listing), of digits 0 and 1, the first position first.
"""

import functools
import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from simrl import listing
from simrl.measures.guesses import GUESS_CHANNELS
from simrl.measures.sequences import Array, check_name

Rates = tuple[Array | float, Array | float]


class World(NamedTuple):
    """What a guess is told of: answers of `length` symbols out of `vocab_size`, by a channel."""

    length: int
    vocab_size: int
    channel: str  # one of guesses.GUESS_CHANNELS
    rates: Rates | None = None
    # false positives and negatives of a verifier of "exact" or "token"; None: it never errs

    @property
    def whole(self) -> bool:
        """A guess is told right or wrong as a whole."""
        return self.channel == "exact" or self.length == 1


def check(world: World) -> None:
    """Raise ValueError for an unknown channel, or rates where messages are no verdicts."""
    check_name("channel", world.channel, GUESS_CHANNELS)
    if world.rates is not None and not (world.whole or world.channel == "token"):
        raise ValueError(f"channel {world.channel!r} has no verdicts for a verifier to get wrong")


def pattern(guess: Array, truth: Array, world: World) -> Array:
    """The pattern of hits of guesses and truths by their numbers, of shapes that broadcast."""
    found = jnp.zeros(jnp.broadcast_shapes(guess.shape, truth.shape), jnp.int32)
    for t in range(world.length):
        found = 2 * found + _hit(guess, truth, t, world)
    return found


def table(world: World) -> np.ndarray:
    """The message [2^L] int32 of each pattern of hits."""
    length = world.length
    hits = np.arange(2**length)[:, None] >> np.arange(length)[::-1] & 1
    found = {
        "exact": hits.all(axis=1),
        "fraction": hits.sum(axis=1),
        "prefix": hits.cumprod(axis=1).sum(axis=1),
        "token": np.arange(2**length),
        "reward_to_go": np.arange(2**length),  # sums of later hits: the same bits
    }
    return found[world.channel].astype(np.int32)


def num_messages(world: World) -> int:
    """How many messages there are."""
    return int(table(world).max()) + 1


def message(guess: Array, truth: Array, world: World) -> Array:
    """What a verifier that never errs says of guesses under truths, of shapes that broadcast."""
    return jnp.asarray(table(world))[pattern(guess, truth, world)]


def of_hits(hits: Array, world: World) -> Array:
    """The message [..., N] of hits [..., L, N], with the lanes on the last axis."""
    each = [hits[..., t, :].astype(jnp.int32) for t in range(world.length)]
    if world.channel == "fraction":
        return functools.reduce(jnp.add, each)
    if world.channel in ("token", "reward_to_go"):
        return functools.reduce(lambda said, hit: 2 * said + hit, each)
    so_far = list(itertools.accumulate(each, jnp.multiply))
    return functools.reduce(jnp.add, so_far) if world.channel == "prefix" else so_far[-1]


def heard(credit: Array, world: World) -> Array:
    """The message [] int32 that the credit [L] of a guess stands for."""
    if world.channel == "reward_to_go":
        later = jnp.concatenate([credit[1:], jnp.zeros_like(credit[:1])])
        return listing.code(jnp.round(credit - later).astype(jnp.int32), 2)
    if world.channel == "token":
        return listing.code((credit > 0.5).astype(jnp.int32), 2)
    scale = 1 if world.channel == "exact" else world.length
    return jnp.round(credit[0] * scale).astype(jnp.int32)


def log_likelihood(said: Array, guess: Array, world: World, num_answers: int) -> Array:
    """Log-probability [N] under each possible truth, nats, that a guess is told what it was.

    `said` [] the message `heard`, `guess` [] its number.
    """
    truths = jnp.arange(num_answers)
    if world.rates is None:
        return jnp.where(message(guess, truths, world) == said, 0.0, -jnp.inf)
    logs = jnp.log(reports(world.rates))
    if world.whole:
        return jnp.where(truths == guess, logs[1, said], logs[0, said])
    found = jnp.zeros(num_answers)
    for t in range(world.length):
        here = listing.symbol(said, t, world.length, 2)
        found += jnp.where(_hit(guess, truths, t, world), logs[1, here], logs[0, here])
    return found


def noisy_log_likelihood(
    said: Array, guess: Array, world: World, num_answers: int, confusion: Array
) -> Array:
    """The same [N] where a guess is compared with a fresh label, by the law of labels.

    `confusion` [L, V, V]: law of the label at each position, given the symbol (row) of the truth.
    Positions are independent, so that each is hit with the chance that its label is the guess's.
    """
    truths, shape = jnp.arange(num_answers), (world.length, world.vocab_size)
    hits = [
        confusion[t, listing.symbol(truths, t, *shape), listing.symbol(guess, t, *shape)]
        for t in range(world.length)
    ]
    if world.channel == "fraction":
        law = jnp.ones((1, num_answers))  # of how many hits there are so far
        for hit in hits:
            law = jnp.pad(law * (1 - hit), ((0, 1), (0, 0))) + jnp.pad(law * hit, ((1, 0), (0, 0)))
        return jnp.log(law[said])
    if world.channel == "exact":
        every = jnp.prod(jnp.stack(hits), axis=0)
        return jnp.where(said == 1, jnp.log(every), jnp.log1p(-every))
    found = jnp.zeros(num_answers)
    for t, hit in enumerate(hits):
        matched = said > t  # of a prefix, of which what follows the first miss is not told
        if world.channel != "prefix":
            matched = listing.symbol(said, t, world.length, 2) == 1
        here = jnp.where(matched, jnp.log(hit), jnp.log1p(-hit))
        found += jnp.where((said >= t) | (world.channel != "prefix"), here, 0)
    return found


def reports(rates: Rates) -> Array:
    """Probabilities [2, 2] of being told wrong or right, by what is true: wrong or right."""
    alpha, beta = (jnp.asarray(rate, float) for rate in rates)
    return jnp.stack([jnp.stack([1 - alpha, alpha]), jnp.stack([beta, 1 - beta])])


def log_passes(guesses: Array, answer: Array, world: World) -> tuple[Array, Array]:
    """Log-probabilities, nats, that all positions of guesses [G] pass, and that not all do."""
    logs = jnp.log(reports(world.rates or (0.0, 0.0)))
    log_yes = jnp.zeros(guesses.shape)
    for t in range(world.length):
        log_yes += jnp.where(_hit(guesses, answer, t, world), logs[1, 1], logs[0, 1])
    return log_yes, jnp.log(-jnp.expm1(log_yes))


def _hit(guess: Array, truth: Array, t: int, world: World) -> Array:
    """Whether guesses and truths, of shapes that broadcast, agree at position t."""
    shape = world.length, world.vocab_size
    return listing.symbol(guess, t, *shape) == listing.symbol(truth, t, *shape)
