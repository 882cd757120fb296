"""What feedback tells of a belief over whole answers, whose positions need not be independent.

A belief is a law over the N = V^L answers by their numbers (simrl.listing). For every guess, the
law of what it is told (simrl.measures.messages) is found by adding up the answers that would cause
it; then expected is its entropy and realised -log2 of its probability at the truth (THEORY.md,
section 2).
"""

import jax
import jax.numpy as jnp
import numpy as np

from simrl import keys, listing
from simrl.measures import messages
from simrl.measures.guesses import SampledInformation
from simrl.measures.messages import World
from simrl.measures.sequences import (
    MAX_LISTED_GUESSES,
    NATS_PER_BIT,
    Array,
    Choice,
    Information,
    choice_from_log_probs,
    choice_from_probs,
    mark,
    weighted,
)
from simrl.measures.simplex import divide, log_of
from simrl.measures.verdicts import Verdict, verifier_divergences

MAX_PATTERNS = 2**18  # guesses times patterns of hits that are all gone through
MAX_JOINT = MAX_LISTED_GUESSES  # answers that are sorted for what a group is told together


def is_closed(world: World) -> bool:
    """Whether `listed_information` goes through every guess: else see `sampled_information`."""
    return world.whole or (2 * world.vocab_size) ** world.length <= MAX_PATTERNS


def listed_information(
    log_probs: Array, answer: Array, world: World, guess_log_probs: Array | None = None
) -> Information:
    """Bits one guess tells of the whole answer, exactly; scalars.

    Args:
      log_probs: [N] normalised, nats: the belief.
      answer: [] int, the number of the truth.
      world: what the guess is told. A verifier of "token" errs at each position anew.
      guess_log_probs: [N] normalised, nats: the law of the guess; None: the belief itself.

    Returns:
      expected (truth drawn from the belief) and realised (at the truth). O(N) where a guess is
      told right or wrong, else O((2 V)^L).

    Raises:
      ValueError: an unknown channel, or rates of one whose messages are no verdicts.
    """
    messages.check(world)
    guess = jnp.exp(log_probs if guess_log_probs is None else guess_log_probs)
    if world.whole:
        told = _whole(choice_from_log_probs(log_probs), answer, world)
    else:
        patterns = messages.pattern(jnp.arange(log_probs.shape[0]), answer, world)
        told = _of_patterns(_hit_laws(jnp.exp(log_probs), world), patterns, world)
    return Information(*(jnp.sum(weighted(guess, bits)) for bits in told))


def sampled_information(
    key: Array,
    log_probs: Array,
    answer: Array,
    world: World,
    num_guesses: int,
    guess_log_probs: Array | None = None,
) -> SampledInformation:
    """The same by Monte Carlo over guesses [num_guesses >= 2], with standard errors; O(N) each."""
    messages.check(world)
    if num_guesses < 2:
        raise ValueError(f"num_guesses {num_guesses} is less than 2")
    table = keys.cumulative(jnp.exp(log_probs if guess_log_probs is None else guess_log_probs))
    drawn = jax.vmap(keys.choose, (0, None))(keys.words(key, (num_guesses,)), table)
    probs = jnp.exp(log_probs)

    def told(guess: Array) -> Information:
        law = _hit_law(probs, guess, world)
        found = _of_patterns(law[None], messages.pattern(guess, answer, world)[None], world)
        return Information(*(bits[0] for bits in found))

    bits = jax.lax.map(told, drawn)
    means = [jnp.mean(each) for each in bits]
    spreads = [jnp.std(each, ddof=1) / num_guesses**0.5 for each in bits]
    errors = [jnp.where(jnp.isinf(m), jnp.inf, s) for m, s in zip(means, spreads, strict=True)]
    return SampledInformation(*means, *errors)


def joint_information(
    log_probs: Array, answer: Array, guesses: Array, mine: Array, world: World
) -> Information:
    """Joint bits of a group of given guesses, each told by a verifier that never errs; scalars.

    `log_probs` [N], `answer` [] and `guesses` [B] as in `listed_information`, `mine` [B] bool: the
    guesses that count. Answers that would cause the same messages are one class: expected is the
    entropy of the classes, realised -log2 of the truth's own. Sorts the N answers.
    """
    messages.check(world)
    probs = jnp.exp(log_probs)
    words = _packed(guesses, mine, world, probs.shape[0])
    alike = jnp.all(words == words[:, answer][:, None], axis=0)
    own, rest = (jnp.sum(jnp.where(which, probs, 0)) for which in (alike, ~alike))
    realised = -jnp.where(own < 0.5, jnp.log(own), jnp.log1p(-jnp.minimum(rest, 0.5)))
    *ordered, mass = jax.lax.sort((*words, probs), num_keys=len(words))
    first = jnp.any(jnp.stack([jnp.diff(word, prepend=word[:1]) != 0 for word in ordered]), axis=0)
    law = choice_from_probs(jnp.zeros_like(probs).at[jnp.cumsum(first)].add(mass))
    expected = -jnp.sum(weighted(law.p, law.log_p))
    return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)


def _whole(choice: Choice, answer: Array, world: World) -> Information:
    """Bits [N] of each guess told right or wrong."""
    right = mark(answer, choice.p.shape[0])
    if world.rates is None:
        expected = -weighted(choice.p, choice.log_p) - weighted(choice.not_p, choice.log_not_p)
        realised = -jnp.where(right, choice.log_p, choice.log_not_p)
    else:
        passed = Verdict(choice.log_p, choice.log_not_p)
        rates = (jnp.asarray(rate, choice.p.dtype) for rate in world.rates)
        if_right, if_wrong = verifier_divergences(passed, *rates)
        expected = weighted(choice.p, if_right) + weighted(choice.not_p, if_wrong)
        realised = jnp.where(right, if_right, if_wrong)
    return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)


def _hit_laws(probs: Array, world: World) -> Array:
    """Law [N, 2^L] of the pattern of hits of every guess, the truth drawn from `probs` [N].

    Position by position, the V symbols a truth may have there become V guesses that each hit or
    miss it. What misses is a sum of the others: nothing cancels where one answer has nearly all.
    """
    size = world.vocab_size
    law = probs.reshape(1, -1, 1)
    for _ in range(world.length):
        before, after, patterns = law.shape
        by_symbol = law.reshape(before, size, after // size, patterns)
        total = jnp.sum(by_symbol, axis=1, keepdims=True)
        large = by_symbol > 0.5 * total
        rest = jnp.sum(jnp.where(large, 0, by_symbol), axis=1, keepdims=True)
        miss = jnp.where(large, rest, total - by_symbol)
        law = jnp.stack([miss, by_symbol], axis=-1)
        law = law.reshape(before * size, after // size, 2 * patterns)
    return law[:, 0]


def _hit_law(probs: Array, guess: Array, world: World) -> Array:
    """The same law [2^L] of one guess."""
    size = world.vocab_size
    law = probs.reshape(1, -1)
    for t in range(world.length):
        by_symbol = law.reshape(len(law), size, -1)
        own = (jnp.arange(size) == listing.symbol(guess, t, world.length, size))[:, None]
        each = [jnp.sum(jnp.where(which, by_symbol, 0), axis=1) for which in (~own, own)]
        law = jnp.stack(each, axis=1).reshape(2 * len(law), -1)
    return law[:, 0]


def _of_patterns(laws: Array, patterns: Array, world: World) -> Information:
    """Bits [G] of guesses whose patterns have these laws [G, 2^L]; `patterns` [G] at the truth."""
    if world.rates is not None:
        return _of_reports(laws, patterns, world.rates)
    table = messages.table(world)
    groups = [jnp.sum(laws[:, table == k], axis=1) for k in range(messages.num_messages(world))]
    law = choice_from_probs(jnp.stack(groups, axis=1))
    told = jnp.take_along_axis(law.log_p, jnp.asarray(table)[patterns][:, None], axis=1)[:, 0]
    expected = -jnp.sum(weighted(law.p, law.log_p), axis=1)
    return Information(expected / NATS_PER_BIT, -told / NATS_PER_BIT)


def _of_reports(laws: Array, patterns: Array, rates: messages.Rates) -> Information:
    """The same where a verifier reports on each position, and errs.

    Report after report, given those before: sums of divergences, of which none is negative.
    """
    num, length = len(laws), laws.shape[1].bit_length() - 1
    alpha, beta = (jnp.asarray(rate, laws.dtype) for rate in rates)
    reports = messages.reports(rates).astype(laws.dtype)
    shown, given = laws, jnp.ones((num, 1), laws.dtype)
    expected = realised = jnp.zeros(num, laws.dtype)
    for t in range(length):
        by_position = shown.reshape(num, 2**t, 2, -1)  # [., earlier reports, hit or miss here, .]
        miss, hit = jnp.moveaxis(jnp.sum(by_position, axis=-1), -1, 0)
        right, wrong = divide(hit, hit + miss), divide(miss, hit + miss)
        passed = Verdict(log_of(right, wrong), log_of(wrong, right))
        if_right, if_wrong = verifier_divergences(passed, alpha, beta)
        expected += jnp.sum(weighted(hit, if_right) + weighted(miss, if_wrong), axis=1)
        here = listing.symbol(patterns, t, length, 2)
        own = jnp.where(here[:, None] == 1, if_right, if_wrong)
        realised += jnp.sum(weighted(given, own), axis=1)
        both = [jnp.sum(by_position * reports[:, said, None], axis=2) for said in (0, 1)]
        shown = jnp.stack(both, axis=2).reshape(num, -1)
        given = (given[:, :, None] * reports[here][:, None]).reshape(num, -1)
    return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)


def _packed(guesses: Array, mine: Array, world: World, num_answers: int) -> Array:
    """What the guesses [B] are told under each truth as digits of words [W, N]."""
    base, truths = messages.num_messages(world), jnp.arange(num_answers)
    each = int(31 // np.log2(base))
    words = []
    for b in range(guesses.shape[0]):
        told = jnp.where(mine[b], messages.message(guesses[b], truths, world), 0)
        if b % each == 0:
            words.append(told)
        else:
            words[-1] = words[-1] * base + told
    return jnp.stack(words)
