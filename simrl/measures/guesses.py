"""What each given guess tells of the truth, and Monte Carlo over guesses, in bits.

For what `sequence_information` has no closed form: long `fraction` channels, noisy labels under
`exact`, `fraction` and `prefix`. A guess g hits position t with probability pi_t(g_t), or
(pi C)_t(g_t) against a noisy label, independently; the message is a function of the hits.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl import keys
from simrl.measures.feedback import each_position, shown_labels
from simrl.measures.sequences import (
    NATS_PER_BIT,
    Array,
    ArrayLike,
    Choice,
    Information,
    check_name,
    choice_from_log_probs,
    complement,
    weighted,
)
from simrl.measures.verdicts import (
    Verdict,
    divergence_terms,
    observed,
    verdict_divergence,
    verifier_divergences,
)

GUESS_CHANNELS = ("exact", "fraction", "prefix", "token", "reward_to_go")


class SampledInformation(NamedTuple):
    """Bits one guess tells, estimated over guesses drawn from the belief."""

    expected: Array
    realised: Array
    expected_standard_error: Array
    realised_standard_error: Array


class _Hits(NamedTuple):
    """Whether each guess hits at each position, [N, L]."""

    believed: Verdict  # the truth drawn from the belief
    given: Verdict  # the truth given
    change: Array  # probability of a hit, believed less given


def guess_information(
    log_probs: ArrayLike,
    answer: ArrayLike,
    guesses: ArrayLike,
    channel: str,
    *,
    confusion: ArrayLike | None = None,
    truths: ArrayLike | None = None,
    false_positive: ArrayLike = 0.0,
    false_negative: ArrayLike = 0.0,
) -> Information:
    """Bits that each given guess tells of the whole answer; fields [N].

    `log_probs` [L, V] normalised, nats: the belief; `answer` [L] int: the truth; `guesses` [N, L]
    int; `channel` one of GUESS_CHANNELS, else ValueError.
    - Without noise: expected is the entropy of the message, realised -log2 of its probability.
    - `confusion` [L, V, V] or [V, V] (`noisy_label_information`): the guess is compared with a
      fresh label. realised is KL(message given the truth || message under the belief); expected is
      H(message) - H(message given truths[n]), unbiased (it may be < 0) for `truths` [N, L] drawn
      from the belief independently of the guesses; without them ValueError.
    - Error rates, scalars, flip each 0/1 verdict: the whole one of `exact`, each position's of
      `token` and `reward_to_go`. `fraction` and `prefix` have none: a rate other than 0 is a
      ValueError or, where it may be traced (a JAX array), turns the result to NaN.
    realised is +inf where the belief rules out the message. `fraction` takes O(N L^2), in logs.
    """
    check_name("channel", channel, GUESS_CHANNELS)
    rates = (false_positive, false_negative)
    is_verdict = channel not in ("fraction", "prefix")
    if not is_verdict and any(not isinstance(r, jax.Array) and np.any(r != 0) for r in rates):
        raise ValueError(f"channel {channel!r} has no verdicts for a verifier to get wrong")
    if confusion is not None and truths is None:
        raise ValueError("noisy labels need `truths` drawn from the belief")
    choice = choice_from_log_probs(log_probs)
    alpha, beta = (jnp.asarray(rate, choice.p.dtype) for rate in rates)
    guesses, answer = jnp.asarray(guesses), jnp.asarray(answer)
    if confusion is None:
        hits, other = _clean_hits(choice, answer, guesses), None
    else:
        hits, other = _noisy_hits(choice, confusion, answer, guesses, jnp.asarray(truths))
    if not is_verdict:
        realised = _divergence(channel, hits)
        expected = _entropy(channel, hits.believed)
        expected -= 0.0 if other is None else _entropy(channel, other)
        valid = (alpha == 0) & (beta == 0)
        expected, realised = (jnp.where(valid, x, jnp.nan) for x in (expected, realised))
        return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)
    if channel == "exact":
        hits, other = _whole(hits), None if other is None else _all(other)
    expected, realised = _verdicts(hits, other, alpha, beta)
    return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)


def sampled_information(
    key: Array,
    log_probs: ArrayLike,
    answer: ArrayLike,
    channel: str,
    num_guesses: int,
    *,
    confusion: ArrayLike | None = None,
    false_positive: ArrayLike = 0.0,
    false_negative: ArrayLike = 0.0,
) -> SampledInformation:
    """Bits of one on-policy guess, by Monte Carlo over guesses (and truths) drawn from the belief.

    `key` a typed key; `num_guesses` >= 2 (a Python int), else ValueError; the rest as
    `guess_information`. Returns scalars: means over the guesses and their standard errors (ddof
    1), +inf where the mean is. Symbols below 2^-31 are never drawn. Against fixed labels, what
    `exact` tells where the guess is right is not left to chance: rare, it may be most of realised.
    """
    if num_guesses < 2:
        raise ValueError(f"num_guesses {num_guesses} is less than 2")
    log_probs = jnp.asarray(log_probs)
    guesses = _draw(keys.fold_in(key, jnp.uint32(0)), log_probs, num_guesses)
    truths = None
    if confusion is not None:
        truths = _draw(keys.fold_in(key, jnp.uint32(1)), log_probs, num_guesses)
    bits = guess_information(
        log_probs,
        answer,
        guesses,
        channel,
        confusion=confusion,
        truths=truths,
        false_positive=false_positive,
        false_negative=false_negative,
    )
    alone = channel == "exact" and confusion is None
    if alone:
        right = jnp.all(guesses == jnp.asarray(answer), axis=-1)
        bits = bits._replace(realised=jnp.where(right, 0.0, bits.realised))
    means = [jnp.mean(told) for told in bits]
    spreads = [jnp.std(told, ddof=1) / num_guesses**0.5 for told in bits]
    errors = [jnp.where(jnp.isinf(m), jnp.inf, s) for m, s in zip(means, spreads, strict=True)]
    if alone:
        rates = {"false_positive": false_positive, "false_negative": false_negative}
        means[1] += _of_right(log_probs, jnp.asarray(answer), **rates)
    return SampledInformation(*means, *errors)


def _of_right(log_probs: Array, answer: Array, **rates: ArrayLike) -> Array:
    """Bits of a right guess under `exact`, times its probability."""
    told = guess_information(log_probs, answer, answer[None], "exact", **rates).realised[0]
    return weighted(jnp.exp(jnp.sum(log_probs[jnp.arange(answer.shape[0]), answer])), told)


def _draw(key: Array, log_probs: Array, count: int) -> Array:
    """[count, L] answers drawn from the belief."""
    tables = jax.vmap(keys.cumulative)(jnp.exp(log_probs))
    words = keys.words(key, (count, log_probs.shape[0]))
    return jax.vmap(jax.vmap(keys.choose), in_axes=(0, None))(words, tables)


def _clean_hits(choice: Choice, answer: Array, guesses: Array) -> _Hits:
    here = jnp.arange(answer.shape[0]), guesses
    right = guesses == answer
    given = Verdict(*(jnp.where(hit, 0.0, -jnp.inf) for hit in (right, ~right)))
    change = jnp.where(right, -choice.not_p[here], choice.p[here])
    return _Hits(Verdict(choice.log_p[here], choice.log_not_p[here]), given, change)


def _noisy_hits(
    choice: Choice, confusion: ArrayLike, answer: Array, guesses: Array, truths: Array
) -> tuple[_Hits, Verdict]:
    """Hits on a fresh label, for the answer, and their law for the other truths."""
    confusion = each_position(confusion, choice)
    shown, change = shown_labels(choice, confusion)
    not_confusion = complement(confusion)
    t = jnp.arange(answer.shape[0])
    believed = Verdict(shown.log_yes[t, guesses], shown.log_no[t, guesses])
    given, other = (
        Verdict(jnp.log(confusion[t, y, guesses]), jnp.log(not_confusion[t, y, guesses]))
        for y in (answer, truths)
    )
    return _Hits(believed, given, change[t, answer, guesses]), other


def _all(law: Verdict) -> Verdict:
    """Every position a hit, [N, 1]; a miss is summed over the first position that misses."""
    log_miss = jax.nn.logsumexp(_log_reach(law) + law.log_no, axis=-1, keepdims=True)
    return Verdict(jnp.sum(law.log_yes, axis=-1, keepdims=True), log_miss)


def _whole(hits: _Hits) -> _Hits:
    """One verdict on the whole guess, [N, 1].

    Where the two products nearly agree, their difference is summed over positions: the given law
    before t, the change at t, the believed law after.
    """
    believed, given = _all(hits.believed), _all(hits.given)
    after = jnp.cumsum(hits.believed.log_yes[:, ::-1], axis=-1)[:, ::-1]
    after = jnp.concatenate([after[:, 1:], jnp.zeros_like(after[:, :1])], axis=-1)
    summed = jnp.sum(hits.change * jnp.exp(_log_reach(hits.given) + after), axis=-1, keepdims=True)
    near = jnp.abs(believed.log_yes - given.log_yes) < 0.5
    change = jnp.where(near, summed, jnp.exp(believed.log_yes) - jnp.exp(given.log_yes))
    return _Hits(believed, given, change)


def _verdicts(hits: _Hits, other: Verdict | None, alpha: Array, beta: Array) -> tuple[Array, Array]:
    """Nats [N], expected and realised, of verdicts reported with these error rates."""
    believed, given = (observed(law, alpha, beta) for law in (hits.believed, hits.given))
    change = hits.change * (1.0 - alpha - beta)
    yes, no = (jnp.exp(log) for log in given)
    realised = jnp.sum(verdict_divergence(yes, no, believed, change), axis=-1)
    if other is not None:
        expected = _verdict_entropy(believed) - _verdict_entropy(observed(other, alpha, beta))
        return jnp.sum(expected, axis=-1), realised
    told = verifier_divergences(hits.believed, alpha, beta)
    parts = [weighted(jnp.exp(p), x) for p, x in zip(hits.believed, told, strict=True)]
    return jnp.sum(parts[0] + parts[1], axis=-1), realised


def _entropy(channel: str, law: Verdict) -> Array:
    """Nats [N] of the message of `fraction` or `prefix`."""
    if channel == "prefix":
        return jnp.sum(jnp.exp(_log_reach(law)) * _verdict_entropy(law), axis=-1)
    count = _count(law)
    return -jnp.sum(weighted(count.p, count.log_p), axis=-1)


def _divergence(channel: str, hits: _Hits) -> Array:
    """KL, nats [N], of the message of `fraction` or `prefix`, given the truth, from the belief's.

    A prefix goes on from one position to the next; divergences add up over what is reached.
    """
    if channel == "prefix":
        yes, no = (jnp.exp(log) for log in hits.given)
        told = verdict_divergence(yes, no, hits.believed, hits.change)
        return jnp.sum(weighted(jnp.exp(_log_reach(hits.given)), told), axis=-1)
    believed, given = _count(hits.believed), _count(hits.given)
    ratio = believed.log_p - given.log_p
    near = jnp.abs(ratio) < 0.5
    close = given.p * jnp.expm1(jnp.where(near, ratio, 0.0))
    change = jnp.where(near, close, believed.p - given.p)
    return jnp.sum(divergence_terms(given.p, believed.log_p, change), axis=-1)


def _verdict_entropy(law: Verdict) -> Array:
    return -weighted(jnp.exp(law.log_yes), law.log_yes) - weighted(jnp.exp(law.log_no), law.log_no)


def _log_reach(law: Verdict) -> Array:
    """Log-probability [N, L] that all positions before t are hits."""
    before = jnp.cumsum(law.log_yes, axis=-1)[:, :-1]
    return jnp.concatenate([jnp.zeros_like(law.log_yes[:, :1]), before], axis=-1)


def _count(law: Verdict) -> Choice:
    """Law of the number of hits, [N, L + 1]: Poisson-binomial, grown one position at a time."""

    def grow(log_law: Array, position: Verdict) -> tuple[Array, None]:
        one_more = jnp.pad(log_law[:, :-1], ((0, 0), (1, 0)), constant_values=-jnp.inf)
        hit = one_more + position.log_yes[:, None]
        return jnp.logaddexp(log_law + position.log_no[:, None], hit), None

    num_guesses, length = law.log_yes.shape
    none = jnp.where(jnp.arange(length + 1) == 0, 0.0, -jnp.inf).astype(law.log_yes.dtype)
    start = jnp.broadcast_to(none, (num_guesses, length + 1))
    by_position = Verdict(law.log_yes.T, law.log_no.T)
    return choice_from_log_probs(jax.lax.scan(grow, start, by_position)[0])
