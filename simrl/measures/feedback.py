"""What feedback tells when labels or verifiers are noisy, or several answers are right, in bits.

Formulas: THEORY.md, section 2 (Bayes, a known channel), checked by listing every truth, label and
message. Information is summed as divergences of a message's law under each truth from its law under
the belief: every term is >= 0, so it does not cancel where the belief is sure or the noise great,
as a difference of entropies does. `expected` and `realised` as in `sequence_information`.
"""

import jax
import jax.numpy as jnp

from simrl.measures.sequences import (
    MAX_LISTED_GUESSES,
    NATS_PER_BIT,
    Array,
    ArrayLike,
    Choice,
    Information,
    check_name,
    choice_from_log_probs,
    choice_from_probs,
    complement,
    floats,
    mark,
    weighted,
)
from simrl.measures.verdicts import (
    Verdict,
    divergence_terms,
    observed,
    verdict_divergence,
    verifier_divergences,
)

VERIFIED_CHANNELS = ("exact", "token")  # whose rewards are 0 or 1, so that a verifier may err


def noisy_label_information(
    log_probs: ArrayLike, answer: ArrayLike, confusion: ArrayLike
) -> Information:
    """Bits that labels seen through a known confusion tell of the true answer, over all positions.

    `log_probs` [L, V] normalised, nats: the belief over the TRUE answer; `answer` [L] int: the
    truth; `confusion` [L, V, V], or [V, V] for all: [t, y] is the law of the label shown when y is
    true, rows on the simplex. Returns scalars: expected sum_t I(y_t; label_t), realised
    sum_t KL(C_{y*_t} || pi_t C_t), +inf where a label is shown that the belief rules out.
    """
    choice = choice_from_log_probs(log_probs)
    confusion = each_position(confusion, choice)
    shown, change = shown_labels(choice, confusion)
    gaps = divergence_terms(confusion, shown.log_yes[:, None, :], change)
    return _over_truths(choice, jnp.sum(gaps, axis=-1), answer)


def noisy_token_information(
    log_probs: ArrayLike, answer: ArrayLike, confusion: ArrayLike
) -> Information:
    """Bits of a right-or-wrong verdict at each position, against a FRESH noisy label, summed.

    Arguments, shapes and +inf as `noisy_label_information`. The guess a ~ pi_t is known; only
    whether it equals the label is told. expected sum_a pi_a [h((pi C)_a) - sum_y pi_y h(C_ya)],
    realised sum_a pi_a KL(Bern(C_{y*a}) || Bern((pi C)_a)). At L = 1 the `exact` channel too.
    Never more than the label (data processing).
    """
    choice = choice_from_log_probs(log_probs)
    confusion = each_position(confusion, choice)
    shown, change = shown_labels(choice, confusion)
    shown = Verdict(shown.log_yes[:, None, :], shown.log_no[:, None, :])
    gaps = verdict_divergence(confusion, complement(confusion), shown, change)
    return _over_truths(choice, jnp.sum(weighted(choice.p[:, None, :], gaps), axis=-1), answer)


def verifier_information(
    probs: ArrayLike, truth: ArrayLike, false_positive: ArrayLike, false_negative: ArrayLike
) -> Information:
    """Bits of one guess drawn from `probs` and judged by a verifier with known error rates.

    `probs` [..., K] on the simplex; `truth` [...] int; rates in [0, 1], [...] or scalar. Returns
    [...]. With the observed rate q_j = `observed_pass_rate(p_j)`: expected
    sum_j p_j [h(q_j) - p_j h(false_negative) - (1 - p_j) h(false_positive)], realised
    sum_j p_j KL(Bern(pass rate of j given the truth) || Bern(q_j)). Without errors the `outcome`;
    0 where the rates sum to 1.
    """
    choice = choice_from_probs(probs)
    right = mark(truth, choice.p.shape[-1])
    return _verified(choice, right, *(jnp.asarray(x) for x in (false_positive, false_negative)))


def verified_information(
    log_probs: ArrayLike,
    answer: ArrayLike,
    channel: str,
    false_positive: ArrayLike,
    false_negative: ArrayLike,
) -> Information:
    """Bits of one on-policy guess at a whole answer, judged by a verifier with known error rates.

    `log_probs` [L, V] normalised, nats; `answer` [L] int; `channel` "exact", one verdict on the
    whole guess, or "token", one on each position, else ValueError; rates scalar. Returns scalars,
    `verifier_information` of the V^L answers, or summed over positions. "exact" lists the answers
    and is NaN beyond MAX_LISTED_GUESSES (`guesses.sampled_information` goes on from there).
    """
    check_name("channel", channel, VERIFIED_CHANNELS)
    choice, answer = choice_from_log_probs(log_probs), jnp.asarray(answer)
    length, size = choice.p.shape
    if channel == "exact" and length > 1 and size**length > MAX_LISTED_GUESSES:
        unknown = jnp.full((), jnp.nan, choice.p.dtype)
        return Information(unknown, unknown)
    right = mark(answer, size)
    if channel == "exact":
        choice, right = _listed(choice, right)
    rates = (jnp.asarray(rate) for rate in (false_positive, false_negative))
    return Information(*(jnp.sum(bits) for bits in _verified(choice, right, *rates)))


def _verified(
    choice: Choice, right: Array, false_positive: Array, false_negative: Array
) -> Information:
    """Bits [...] of one guess drawn from a choice [..., K], its right answer marked."""
    alpha, beta = (
        rate[..., None].astype(choice.p.dtype) for rate in (false_positive, false_negative)
    )
    if_right, if_wrong = verifier_divergences(Verdict(choice.log_p, choice.log_not_p), alpha, beta)
    expected = weighted(choice.p, if_right) + weighted(choice.not_p, if_wrong)
    realised = jnp.where(right, if_right, if_wrong)
    bits = (jnp.sum(weighted(choice.p, told), axis=-1) for told in (expected, realised))
    return Information(*(told / NATS_PER_BIT for told in bits))


def _listed(choice: Choice, right: Array) -> tuple[Choice, Array]:
    """All V^L answers of a factorised choice [L, V] as one choice, and which is right.

    1 - p of an answer is summed over its first wrong position: nothing cancels.
    """
    log_p, log_not_p, whole = choice.log_p[0], choice.log_not_p[0], right[0]
    for t in range(1, len(choice.p)):
        wrong_here = log_p[:, None] + choice.log_not_p[t]
        log_not_p = jnp.logaddexp(log_not_p[:, None], wrong_here).reshape(-1)
        log_p = (log_p[:, None] + choice.log_p[t]).reshape(-1)
        whole = (whole[:, None] & right[t]).reshape(-1)
    return Choice(jnp.exp(log_p), jnp.exp(log_not_p), log_p, log_not_p), whole


def observed_pass_rate(
    pass_rate: ArrayLike, false_positive: ArrayLike, false_negative: ArrayLike
) -> Array:
    """Share of guesses that the verifier passes, at true pass rate p: elementwise."""
    p = floats(pass_rate)
    return p * (1.0 - jnp.asarray(false_negative)) + (1.0 - p) * jnp.asarray(false_positive)


def observed_log_odds(
    log_odds: ArrayLike, false_positive: ArrayLike, false_negative: ArrayLike
) -> Array:
    """`observed_pass_rate` as log-odds, from those of the true one, nats, elementwise.

    Right at both ends, where a float32 rate has lost its digits.
    """
    odds = floats(log_odds)
    passed = Verdict(-jax.nn.softplus(-odds), -jax.nn.softplus(odds))
    rates = (jnp.asarray(rate, odds.dtype) for rate in (false_positive, false_negative))
    log_yes, log_no = observed(passed, *rates)
    return log_yes - log_no


def merge_right_answers(probs: ArrayLike, right: ArrayLike) -> tuple[Array, Array]:
    """Several right answers as one, for every measure of one choice: (merged, answer).

    `probs` [..., K]; `right` [..., K] bool. `merged` [..., K]: the first right answer carries the
    mass of all, the others 0; `answer` [...] int32 is its index. Where none is right, `probs`
    unchanged and -1, which no entry matches.
    """
    probs, right = floats(probs), jnp.asarray(right, bool)
    answer = jnp.where(jnp.any(right, axis=-1), jnp.argmax(right, axis=-1), -1).astype(jnp.int32)
    mass = jnp.sum(jnp.where(right, probs, 0.0), axis=-1, keepdims=True)
    rest = jnp.where(right, 0.0, probs)
    return jnp.where(mark(answer, probs.shape[-1]), mass, rest), answer


def right_answers_log_odds(log_probs: ArrayLike, answers: ArrayLike) -> Array:
    """Log-odds that a guess is one of A whole answers under a factorised belief, nats [].

    `log_probs` [L, V] normalised, nats; `answers` [A, L] int; one listed twice counts once. Right
    to rounding at both ends: what is left over is summed over the places where a guess leaves the
    tree of the answers, so only positive terms. O(L A (A + V)). +inf where they are all there is.
    """
    log_p = choice_from_log_probs(log_probs).log_p
    answers = jnp.asarray(answers)
    size = answers.shape[0]

    def grow(tree: tuple[Array, Array], position: tuple[Array, Array]) -> tuple[tuple, Array]:
        alike, log_prefix = tree  # [A, A]: same symbols so far; [A]
        log_here, symbols = position
        stays = jnp.zeros((size, log_here.shape[0]), jnp.int32).at[:, symbols].max(alike)
        log_leaves = jax.nn.logsumexp(jnp.where(stays > 0, -jnp.inf, log_here), axis=-1)
        log_out = jnp.where(_first(alike), log_prefix + log_leaves, -jnp.inf)
        alike = alike * (symbols[:, None] == symbols)
        return (alike, log_prefix + log_here[symbols]), log_out

    root = jnp.ones((size, size), jnp.int32), jnp.zeros(size, log_p.dtype)
    (alike, log_mass), log_out = jax.lax.scan(grow, root, (log_p, answers.T))
    log_in = jax.nn.logsumexp(jnp.where(_first(alike), log_mass, -jnp.inf))
    return log_in - jax.nn.logsumexp(log_out)


def each_position(confusion: ArrayLike, choice: Choice) -> Array:
    """The confusion as [L, V, V] in the belief's float type."""
    confusion = jnp.asarray(confusion, choice.p.dtype)
    return jnp.broadcast_to(confusion, (*choice.p.shape, choice.p.shape[-1]))


def shown_labels(choice: Choice, confusion: Array) -> tuple[Verdict, Array]:
    """Law of each label being shown under the belief, [L, V], and its change [L, y, V].

    The change, (pi C)_a - C_ya, keeps its digits for the likeliest y, where it is nearly 0: it adds
    up differences of rows, of which the likeliest row's own is 0.
    """
    log_p = choice.log_p[:, :, None]
    shown = Verdict(
        jax.nn.logsumexp(log_p + jnp.log(confusion), axis=1),
        jax.nn.logsumexp(log_p + jnp.log(complement(confusion)), axis=1),
    )
    top = jnp.argmax(choice.log_p, axis=-1)[:, None, None]
    difference = confusion - jnp.take_along_axis(confusion, top, axis=1)
    shift = jnp.sum(choice.p[:, :, None] * difference, axis=1, keepdims=True)
    return shown, shift - difference


def _over_truths(choice: Choice, gaps: Array, answer: ArrayLike) -> Information:
    """Nats [L, V] told under each truth, to bits: averaged over the belief and at the answer."""
    own = jnp.take_along_axis(gaps, jnp.asarray(answer)[:, None], axis=-1)
    expected = jnp.sum(weighted(choice.p, gaps))
    return Information(expected / NATS_PER_BIT, jnp.sum(own) / NATS_PER_BIT)


def _first(alike: Array) -> Array:
    """[A] bool: alike to none before it."""
    return ~jnp.any(jnp.tril(alike, k=-1) > 0, axis=1)
