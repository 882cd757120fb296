"""What the verdict of a duel tells of the right answer.

Two guesses are compared by a score that depends on the answer; the verdict says which scored
higher, ties by a fair coin. It is even by construction where both guesses come from one belief, and
yet tells less than 1 bit: a tie tells nothing. By listing every pair of guesses: given the two, the
verdict is a channel whose law under each answer is known, and realised is KL(C_y* || pi C), of
which expected is the mean over answers drawn from the belief (THEORY.md, section 2).

What many duels between given guesses tell together is what the posterior over all answers gains by
their verdicts. What they are expected to tell takes the law of all 2^D verdicts, and is not given.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl import listing
from simrl.measures import messages
from simrl.measures.messages import World
from simrl.measures.sequences import NATS_PER_BIT, choice_from_log_probs, floats, weighted

Array = jax.Array
Chances = tuple[Array, Array, Array]  # that the first guess scores higher, lower, the same

PAIRS = 2**24  # answers times pairs of guesses that are listed at most
MAX_COMPARED = 2**18  # the same where states are measured again and again: 1 to 20 ns each


class DuelInformation(NamedTuple):
    """Of one duel of two guesses from the belief itself."""

    expected: Array  # [] bits that the verdict tells of the answer, drawn from the belief
    win_rate: Array  # [] chance that the first guess wins: 1/2 by symmetry
    tie_rate: Array  # [] chance that a coin decides
    realised: Array | None = None  # [] bits that it tells of the right answer; None: not given


def duel_information(
    probs: Array, scores: Array, answer: Array | int | None = None
) -> DuelInformation:
    """Expected I(answer; verdict | guesses), and KL(C_answer || pi C) realised, bits a duel.

    The guesses are two draws from the belief. O(N^3).

    Args:
      probs: [N] belief over whole answers.
      scores: [N, N] of the guess (row) if the answer is that of the column, any unit.
      answer: [] int, the number of the right one; None: nothing is realised.

    Raises:
      ValueError: shapes that do not match, or more than PAIRS triples to list.
    """
    probs, scores = floats(probs), jnp.asarray(scores)
    num = probs.shape[0]
    if probs.shape != (num,) or scores.shape != (num, num):
        raise ValueError(f"probs [N] and scores [N, N] do not match: {probs.shape}, {scores.shape}")
    if num**3 > PAIRS:
        raise ValueError(f"{num}^3 triples are more than the {PAIRS} that are listed")

    def against(guess: Array) -> Chances:
        own = scores[guess]
        higher, lower, same = (
            jnp.sum(jnp.where(which, probs, 0), axis=1)
            for which in (own > scores, own < scores, own == scores)
        )
        return higher, lower, same

    def verdict(guess: Array) -> Array:
        return jnp.sign(scores[guess, answer] - scores[:, answer])

    return _of_pairs(probs, against, None if answer is None else verdict)


def listed_information(log_probs: Array, answer: Array, world: World) -> DuelInformation:
    """The same for guesses that score the mean reward that the world pays them.

    Args:
      log_probs: [N] normalised, nats: belief over whole answers by their numbers.
      answer: [] int, the number of the right one.
      world: by what channel a guess is paid; no verifier errs.

    O(N^2) where a guess is right or wrong as a whole, else O(N^3): `num_compared`.
    """
    messages.check(world)
    each = jnp.arange(log_probs.shape[0])
    if not world.whole:
        symbols = listing.decode(each, world.length, world.vocab_size)
        return duel_information(jnp.exp(log_probs), score(symbols, world), answer)
    probs, wrong, *_ = choice_from_log_probs(log_probs)

    def against(guess: Array) -> Chances:
        own, other = probs[guess], each != guess
        same = jnp.where(own > probs, wrong[guess] - probs, wrong - own)
        return (
            jnp.where(other, own, 0),
            jnp.where(other, probs, 0),
            jnp.where(other, jnp.maximum(same, 0), 1),
        )

    def verdict(guess: Array) -> Array:
        return jnp.where(guess == answer, 1, 0) - jnp.where(each == answer, 1, 0)

    return _of_pairs(probs, against, verdict)


def num_compared(world: World) -> int:
    """Steps that `listed_information` takes."""
    return (world.vocab_size**world.length) ** (2 if world.whole else 3)


def log_likelihood(winner: Array, loser: Array, world: World) -> Array:
    """How likely each possible answer makes it that one guess has beaten another, bits [N].

    log2 of 2 P(verdict | answer): 1 where the winner would win under the answer, 0 where a coin
    would decide, -inf where it would lose. Sums over duels are those of all their verdicts.

    Args:
      winner: [L] int, symbol by symbol.
      loser: [L] int.
      world: by what channel a guess is paid; no verifier errs.
    """
    messages.check(world)
    better, worse = score(winner, world), score(loser, world)
    return jnp.where(better > worse, 1.0, jnp.where(better == worse, 0.0, -jnp.inf))


def realised_jointly(log_probs: Array, answer: Array, log_likelihood: Array) -> Array:
    """Bits [] that the verdicts of many duels, as they fell, tell together of the right answer.

    log2 of posterior(answer) / belief(answer), given all guesses (THEORY.md, section 2). It is that
    of the verdicts drawn, not the mean over what the coins might have said: so a Bayesian absorbs
    all of it, and no 2^D cases are gone through. That mean is KL(C_answer || pi C) of all verdicts
    together, never negative; the gain itself may be, where coins have misled.

    Args:
      log_probs: [N] normalised, nats: belief over whole answers by their numbers.
      answer: [] int, the number of the right one, whose own likelihood is finite.
      log_likelihood: [N] bits: the function of this name, or sums of its results.
    """
    probs, own = jnp.exp(log_probs), jnp.arange(log_probs.shape[0]) == answer
    ratio = jnp.exp2(log_likelihood - jnp.sum(jnp.where(own, log_likelihood, 0)))
    # belief(answer) / posterior(answer) less 1, a sum over the others: where the belief is nearly
    # sure of the answer, no digit is lost.
    change = jnp.sum(jnp.where(own, 0, probs * (ratio - 1)))
    near = jnp.abs(change) < 0.5
    total = jnp.where(near, 1, jnp.sum(probs * ratio))
    return -jnp.where(near, jnp.log1p(jnp.where(near, change, 0)), jnp.log(total)) / NATS_PER_BIT


def score(guesses: Array, world: World) -> Array:
    """What guesses [..., L] score under each possible answer, [..., N], in the channel's own unit.

    From the last position to the first, which is the digit that counts most.
    """
    channel = world.channel
    found = jnp.full((*guesses.shape[:-1], 1), channel == "exact", jnp.int32)
    for t in reversed(range(world.length)):
        hit, later = guesses[..., t, None] == jnp.arange(world.vocab_size), found[..., None, :]
        hit = hit[..., None].astype(found.dtype)
        if channel in ("exact", "prefix"):
            found = hit * (later + (channel == "prefix"))
        else:
            found = hit * (t + 1 if channel == "reward_to_go" else 1) + later
        found = found.reshape(*guesses.shape[:-1], -1)
    return found


def _of_pairs(
    probs: Array, against: Callable[[Array], Chances], verdict: Callable[[Array], Array] | None
) -> DuelInformation:
    """Means over pairs of guesses drawn from `probs` [N].

    `against(guess)` [N]: its chances against each other one, over answers drawn from the belief;
    `verdict(guess)` [N]: 1 it beats the other under the right answer, -1 it loses, 0 a tie.
    """

    def row(guess: Array) -> Array:
        higher, lower, same = against(guess)
        told = _told(higher, lower, same)
        bits = [weighted(*pair) for pair in zip((higher, lower, same), told, strict=True)]
        means = [bits[0] + bits[1] + bits[2], higher + same / 2, same]
        if verdict is not None:
            sign = verdict(guess)
            means.append(jnp.where(sign > 0, told[0], jnp.where(sign < 0, told[1], told[2])))
        return jnp.stack([jnp.sum(weighted(probs * probs[guess], x)) for x in means])

    expected, wins, ties, *realised = jnp.sum(jax.lax.map(row, jnp.arange(probs.shape[0])), axis=0)
    bits = [x / NATS_PER_BIT for x in (expected, *realised)]
    return DuelInformation(bits[0], wins, ties, *bits[1:])


def _told(higher: Array, lower: Array, same: Array) -> Chances:
    """What verdicts tell under an answer by which the first is better, worse, or as good, nats.

    Divergences from the belief's own law of the verdict, none negative: nothing cancels where the
    belief is sure, and almost all duels are ties.
    """
    lead, less = higher - lower, jnp.minimum(higher, lower) + same / 2
    likely, unlikely = -jnp.log1p(-jnp.minimum(less, 0.5)), -jnp.log(less)
    # A coin has -log(4 less (1 - less)) / 2, and 4 less (1 - less) is 1 - lead^2.
    near = jnp.abs(lead) < 0.5
    close = -jnp.log1p(-(jnp.where(near, lead, 0) ** 2)) / 2
    coin = jnp.where(near, close, (likely + unlikely) / 2 - np.log(2))
    ahead = lead >= 0
    return jnp.where(ahead, likely, unlikely), jnp.where(ahead, unlikely, likely), coin
