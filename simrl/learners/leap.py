"""Policy gradient that jumps: how many groups teach nothing, then the next one that teaches.

A dead group leaves every weight 0. Where that leaves the WHOLE state unchanged (plain SGD: no
momentum, decay, schedule or moving baseline), the groups up to the next live one are independent
draws from one policy: how many of them are dead is geometric, and the live one follows the law of
a group given that it is live. Both are drawn here, so rare success costs no more than frequent
success. Scope: one prompt, a factorised policy, reward 1 for the whole fixed answer and else 0,
weights by the number of successes (`measures.groups.group_weights`). A verifier may err: then
weights, and so life and death, go by what it PASSED, and what was right among the passed and among
the failed is drawn afterwards. THEORY.md, section 7.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl import keys
from simrl.keys import Streams
from simrl.learners import updates
from simrl.learners.failures import chances, coin, draw_answers
from simrl.measures import phases
from simrl.measures.simplex import log_binomial
from simrl.measures.verdicts import Verdict, observed
from simrl.types import Array, Params, Policy, Verifier

WAIT_WORDS = 32  # random words of one wait

_COINS = WAIT_WORDS - 2  # binary digits that may be uneven; the two other words are fair digits
_LIVE, _DEAD = 1, 2  # what the stream is folded with for either group; 0 is the wait
_EVEN = -25  # a digit of log-odds -x, x < 2**_EVEN, is fair to x / 4


class Verdicts(NamedTuple):
    """Dead groups passed over, and what the live one after them was told.

    Where `live` is False the budget ended first: num_success, success and weights are then 0. In a
    group those that passed stand first: an order that no weight by count can see, but not that of
    an exchangeable group. Without a verifier that errs, what passed is what is right.
    """

    num_dead: Array  # [2] uint32 words (high, low): dead groups before the live one or the end
    live: Array  # [] bool: there is a live group
    num_success: Array  # [] int32: how many passed, k
    success: Array  # [B] float, 0 or 1: right in truth
    weights: Array  # [B] float: of the score terms
    right: Array  # [B] bool: as `success`, of a live group even where the budget ended first
    dead_right: Array  # [B] bool: of a group drawn given that it is dead, one for all of them


class Leap(NamedTuple):
    """Verdicts with the guesses that they are about."""

    num_dead: Array  # [2] uint32 words, and so on: as in Verdicts
    live: Array  # [] bool
    num_success: Array  # [] int32
    answers: Array  # [B, L] int32: of the live group; they mean nothing if there is none
    success: Array  # [B] float
    weights: Array  # [B] float
    dead_answers: Array  # [B, L] int32: of the dead one


def wait(words: Array, log_dead: Array) -> Array:
    """How many dead groups come before the next live one: words [2] uint32 (high, low).

    Geometric on {0, 1, ...} with P(dead) = exp(log_dead), drawn digit by digit: P(n) ~ d^n is a
    product over the binary digits of n, so digit i is a coin of its own, of log-odds
    2^i log_dead. Only 30 of them need a coin: those of log-odds above -2^-25 are fair to 2^-26
    altogether and come straight from random bits, those below -32 are 0. An integer is so put
    together from bits and is never rounded, as floor(ln U / log_dead) is beyond 2^24 in float32.
    The law is right to about 1e-6 in total variation, what float32 leaves of a log_dead that comes
    from log p = -28. At most 2^64 - 1, which also stands for any larger count.

    Args:
      words: [WAIT_WORDS] uint32.
      log_dead: [] nats, <= 0; 0 and NaN wait for ever, -inf not at all.
    """
    rate = jnp.abs(log_dead.astype(jnp.float32))
    exponent = (jax.lax.bitcast_convert_type(rate, jnp.int32) >> 23) - 127  # floor of log2
    fair = jnp.clip(_EVEN - exponent, 0, 127)  # the lowest digits, which need no coin
    scale = jax.lax.bitcast_convert_type((fair + 127) << 23, jnp.float32)  # 2**fair
    places = np.arange(_COINS, dtype=np.uint32)
    digits = coin(words[:_COINS], -(rate * scale) * np.exp2(places).astype(np.float32))
    uneven = jnp.sum(digits.astype(jnp.uint32) << places, dtype=jnp.uint32)

    shift = (fair % 32).astype(jnp.uint32)
    moved, over = uneven << shift, (uneven >> 1) >> (31 - shift)
    below = (jnp.uint32(1) << shift) - 1
    high, low = words[_COINS], words[_COINS + 1]
    short = jnp.stack([over, moved | (low & below)])
    long = jnp.stack([moved | (high & below), low])
    saturated = (fair >= 64) | ((fair >= 32) & (over > 0)) | jnp.isnan(rate)
    return jnp.where(saturated, jnp.uint32(2**32 - 1), jnp.where(fair < 32, short, long))


def live_counts(success: Array, failure: Array) -> Array:
    """Which numbers of successes k = 0 ... B leave a weight that is not 0: bool [B + 1].

    success, failure [B + 1]: weights by k (`measures.groups.group_weights`); success[0] and
    failure[B], which no guess ever has, are not read. On the host for NumPy tables. A weight that
    should be 0 must be 0: XLA divides by a constant through its reciprocal, so that k / B at k = B
    need not be 1 (B - k is 0).
    """
    count = np.arange(success.shape[0])
    return ((success != 0) & (count > 0)) | ((failure != 0) & (count < count[-1]))


def _count_logs(log_p: Array, log_fail: Array, size: int) -> Array:
    """Log of Bin(k; B, p) for k = 0 ... B, up to a rounding common to all k: [B + 1] nats."""
    return log_binomial(np.arange(size + 1), size, log_p, log_fail)


def log_live_probability(log_p: Array, log_fail: Array, live: Array) -> tuple[Array, Array]:
    """Log-probabilities [] (nats) that a group of B guesses is live and that it is dead.

    Whichever is the smaller is summed, the other is its complement: P(live) and -log P(dead) are
    right to float32's relative rounding of the logs at p = 1e-30 and at 1 - p = 1e-30.

    Args:
      log_p, log_fail: [] log of the pass rate p and of 1 - p.
      live: [B + 1] bool by number of successes.
    """
    logs = _count_logs(log_p, log_fail, live.shape[0] - 1)
    one, other = (jax.nn.logsumexp(logs, where=some) for some in (live, ~live))
    whole = jnp.logaddexp(one, other)
    small = jnp.minimum(one, other) - whole
    large = jnp.log1p(-jnp.exp(small))
    return jnp.where(one < other, small, large), jnp.where(one < other, large, small)


def draw_count(word: Array, log_p: Array, log_fail: Array, allowed: Array) -> Array:
    """A number of successes [] int32: k ~ Bin(B, p) given that `allowed` [B + 1] bool holds at k.

    The inverse-CDF table is of the law GIVEN what is allowed, with 30 bits: k = 1 stays as likely
    beside k = 2 at p = 1e-30 as it is, and only what is rarer than 2^-31 among the allowed is lost.
    """
    size = allowed.shape[0] - 1
    logs = jnp.where(allowed, _count_logs(log_p, log_fail, size), -jnp.inf)
    return jnp.minimum(keys.choose(word, keys.cumulative(jax.nn.softmax(logs))), size)


class Reports(NamedTuple):
    """What a verifier says of a guess, and what is true given that."""

    log_p: Array  # [] log-probability that the guess passes, nats
    log_fail: Array  # [] and that it does not
    right_odds: tuple[Array, Array] | None  # [] log-odds, nats, that a guess is right if it passed
    # and if it did not; None: it is right if and only if it passed


def reports(log_p: Array, log_fail: Array, verifier: Verifier | None) -> Reports:
    """The reports on a guess that is right with log-probability log_p [] nats, wrong with log_fail.

    p(1 - beta)/(passed) and p beta/(failed) as log-odds, in which nothing is subtracted from 1.
    """
    if verifier is None:
        return Reports(log_p, log_fail, None)
    alpha, beta = (jnp.asarray(rate, log_p.dtype) for rate in verifier)
    seen = observed(Verdict(log_p, log_fail), alpha, beta)
    odds = log_p - log_fail
    passed = odds + jnp.log1p(-beta) - jnp.log(alpha)
    failed = odds + jnp.log(beta) - jnp.log1p(-alpha)
    return Reports(seen.log_yes, seen.log_no, (passed, failed))


def verdicts(
    streams: Streams,
    log_p: Array,
    log_fail: Array,
    success: Array,
    failure: Array,
    most: Array,
    verifier: Verifier | None = None,
) -> Verdicts:
    """The dead groups up to the next live one and that one, of at most `most` groups in all.

    Cut at a budget and taken up again with other keys, the groups have the same law: a geometric
    wait has no memory.

    Args:
      streams: folded with the step; `sample` is read, and `reward` by a verifier that errs.
      log_p, log_fail: [] nats: log of the true pass rate p and of 1 - p.
      success, failure: [B + 1] weights by number of successes; they set B and may be traced.
      most: [2] uint32 words (high, low): the number of groups that the budget still allows.
      verifier: None, or the rates at which it errs; what is right among the failed (or wrong among
        the passed) more rarely than 2^-32 is never drawn.
    """
    log_p, log_fail, right_odds = reports(log_p, log_fail, verifier)
    alive = live_counts(success, failure)
    log_dead = log_live_probability(log_p, log_fail, alive)[1]
    waited = wait(keys.words(keys.fold_in(streams.sample, 0), (WAIT_WORDS,)), log_dead)
    live = (waited[0] < most[0]) | ((waited[0] == most[0]) & (waited[1] < most[1]))

    def count_given(allowed: Array, group: int) -> Array:
        word = keys.words(keys.fold_in(streams.sample, group), (1,))[0]
        return draw_count(word, log_p, log_fail, allowed)

    count, dead_count = count_given(alive, _LIVE), count_given(~alive, _DEAD)

    def truth(passed: Array, group: int) -> Array:
        if right_odds is None:
            return passed
        words = keys.words(keys.fold_in(streams.reward, group), passed.shape)
        return coin(words, jnp.where(passed, *right_odds))

    place = jnp.arange(alive.shape[0] - 1)
    passed = place < count
    right = truth(passed, _LIVE)
    weights = jnp.where(passed, jnp.asarray(success)[count], jnp.asarray(failure)[count])
    return Verdicts(
        num_dead=jnp.where(live, waited, most),
        live=live,
        num_success=jnp.where(live, count, 0),
        success=(right & live).astype(log_p.dtype),
        weights=jnp.where(live, weights, 0).astype(log_p.dtype),
        right=right,
        dead_right=truth(place < dead_count, _DEAD),
    )


def num_updates(found: Verdicts | Leap) -> Array:
    """Groups in all, the dead ones and the live one: words [2] uint32 (high, low)."""
    live = found.live.astype(jnp.uint32)
    return phases.add_words(found.num_dead, jnp.stack([jnp.zeros_like(live), live]))


def leap(
    streams: Streams,
    log_probs: Array,
    answer: Array,
    success: Array,
    failure: Array,
    most: Array,
    verifier: Verifier | None = None,
) -> Leap:
    """`verdicts` under log_probs [L, V] nats on guesses at `answer` [L] int, and the guesses."""
    given = chances(log_probs, answer)
    told = verdicts(streams, given.log_p, given.log_fail, success, failure, most, verifier)
    live, dead = (keys.fold_in(streams.sample, group) for group in (_LIVE, _DEAD))
    return Leap(
        num_dead=told.num_dead,
        live=told.live,
        num_success=told.num_success,
        answers=draw_answers(live, given, told.right),
        success=told.success,
        weights=told.weights,
        dead_answers=draw_answers(dead, given, told.dead_right),
    )


def leap_gradient(policy: Policy, params: Params, found: Leap) -> Params:
    """The live group's gradient estimate, (1/B) sum_i w_i score_i (ascent); 0 if none is live."""
    weights = jnp.broadcast_to(found.weights[:, None], found.answers.shape)
    prompts = jnp.zeros((1,), jnp.int32)
    return updates.weighted_score(policy, params, prompts, found.answers[None], weights[None])
