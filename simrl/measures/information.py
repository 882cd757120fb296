"""Bits per sample: what labels, right-or-wrong outcomes and groups of guesses tell.

Arrays in, arrays out, in bits unless said. Four measures, never mixed (THEORY.md, section 2):
`nominal` (Patel 2025), `expected` (truth drawn from the belief), `realised` (truth given) and
`absorbed`, a difference of log2-probabilities that the engine takes. Nothing here returns NaN for a
law on the simplex; limits that are infinite come out as +inf.
"""

import math

import jax
import jax.numpy as jnp

from simrl.measures.arguments import check_index
from simrl.measures.sequences import (
    CHANNELS,
    MAX_LISTED_GUESSES,
    NATS_PER_BIT,
    Array,
    ArrayLike,
    Information,
    check_name,
    choice_from_log_probs,
    choice_from_probs,
    complement,
    floats,
    group_log_odds,
    joint_log_odds,
    log_odds,
    mark,
    outcome_expected,
    outcome_realised,
    sequence_information,
    sequence_log_odds,
    weighted,
)

__all__ = [
    "CHANNELS",
    "FEEDBACKS",
    "KINDS",
    "MAX_LISTED_GUESSES",
    "Information",
    "binary_entropy",
    "channel_information",
    "complement",
    "distinct_information",
    "entropy",
    "expected_information",
    "first_occurrences",
    "group_information",
    "group_log_odds",
    "joint_log_odds",
    "label_gap",
    "label_gap_terms",
    "log_odds",
    "nominal_information",
    "occurring",
    "realised_information",
    "samples_to_success",
    "sequence_information",
    "sequence_log_odds",
    "surprisal",
]

FEEDBACKS = ("label", "outcome")  # what one sample of a K-way choice tells
KINDS = ("supervised", "policy_gradient")  # columns of the nominal table


def surprisal(p: ArrayLike) -> Array:
    """-log2 p, bits, elementwise; +inf at p = 0."""
    return -jnp.log2(floats(p))


def binary_entropy(p: ArrayLike) -> Array:
    """h(p) = -p log2 p - (1-p) log2(1-p), bits, elementwise; 0 at both ends.

    Right at p = 1e-12. Where 1 - p is the small one, float32 has already lost it in p: use
    `nominal_information` on log-odds.
    """
    p = floats(p)
    not_p = 1.0 - p
    return -(weighted(p, jnp.log(p)) + weighted(not_p, jnp.log1p(-p))) / NATS_PER_BIT


def entropy(probs: ArrayLike) -> Array:
    """-sum_j p_j log2 p_j, bits [...], of laws [..., K]; right where one p rounds to 1."""
    choice = choice_from_probs(probs)
    return -jnp.sum(weighted(choice.p, choice.log_p), axis=-1) / NATS_PER_BIT


def expected_information(probs: ArrayLike, feedback: str) -> Array:
    """Bits one sample tells a Bayesian whose belief is `probs`, the truth drawn from it.

    `probs` [..., K] on the simplex; `feedback` "label": H(p), "outcome": sum_j p_j h(p_j), one
    guess drawn from `probs` and told right or wrong; else ValueError. Returns [...].
    THEORY.md, section 2: label >= outcome, equal iff at most two answers are possible.
    """
    check_name("feedback", feedback, FEEDBACKS)
    if feedback == "label":
        return entropy(probs)
    return outcome_expected(choice_from_probs(probs)) / NATS_PER_BIT


def realised_information(probs: ArrayLike, truth: ArrayLike, feedback: str) -> Array:
    """Bits one sample tells of the truth y, averaged over what is random: log2 of posterior/prior.

    `probs` [..., K] on the simplex; `truth` [...] int in 0..K-1, else ValueError (not under `jit`
    and `vmap`, where it is not looked at); `feedback` "label": -log2 p_y, "outcome":
    -p_y log2 p_y - sum over j != y of p_j log2(1 - p_j); else ValueError. Returns [...].
    +inf for a label at p_y = 0 and for an outcome where a wrong answer has probability 1.
    THEORY.md, section 2: averaged over y ~ probs it is `expected_information`.
    """
    check_name("feedback", feedback, FEEDBACKS)
    choice = choice_from_probs(probs)
    check_index("truth", truth, choice.p.shape[-1])
    if feedback == "outcome":
        return outcome_realised(choice, truth) / NATS_PER_BIT
    right = mark(truth, choice.p.shape[-1])
    return -jnp.max(jnp.where(right, choice.log_p, -jnp.inf), axis=-1) / NATS_PER_BIT


def nominal_information(log_odds: ArrayLike, kind: str) -> Array:
    """The essay's bits per sample at pass rate p, elementwise, from log-odds in nats.

    `kind` "supervised": -log2 p, "policy_gradient": h(p); else ValueError. Right at both ends.
    Source: Patel (2025); the two cross at p = 1/2.
    """
    check_name("kind", kind, KINDS)
    odds = floats(log_odds)
    if kind == "supervised":
        return jax.nn.softplus(-odds) / NATS_PER_BIT
    # h is even in the log-odds: -log of the likelier outcome, and |odds| more for the other. The
    # bound only keeps inf * 0 away; exp(-1e4) is 0 in float64 too.
    size = jnp.minimum(jnp.abs(odds), 1e4)
    return (jax.nn.softplus(-size) + size * jax.nn.sigmoid(-size)) / NATS_PER_BIT


def first_occurrences(answers: ArrayLike) -> Array:
    """[B] bool: the answer equals none before it. `answers` [B, L] int; O(B^2 L)."""
    answers = jnp.asarray(answers)
    same = jnp.all(answers[:, None, :] == answers[None, :, :], axis=-1)
    return ~jnp.any(jnp.tril(same, k=-1), axis=1)


def occurring(symbols: ArrayLike, vocab_size: int) -> Array:
    """[V] bool: the symbol is among `symbols` [B] int; those outside 0 ... V - 1 are ignored.

    A set as bits of 32-bit words: B V / 32 operations.
    """
    symbols = jnp.asarray(symbols)
    words = jnp.arange(-(-vocab_size // 32))
    bit = jnp.uint32(1) << (symbols & 31).astype(jnp.uint32)
    mine = jnp.where(symbols[:, None] >> 5 == words, bit[:, None], jnp.uint32(0))
    sets = jax.lax.reduce(mine, jnp.uint32(0), jax.lax.bitwise_or, (0,))
    every = jnp.arange(vocab_size)
    return (sets[every >> 5] >> (every & 31).astype(jnp.uint32)) & 1 == 1


def distinct_information(
    guess_log_odds: ArrayLike, first: ArrayLike, answer_log_odds: ArrayLike, hit: ArrayLike
) -> Information:
    """Joint bits of a GROUP of guesses each told right or wrong; divide by B for bits per sample.

    `guess_log_odds` [B] nats: log-odds of each guess being right (`group_log_odds`); `first` [B]
    bool marks the distinct ones D (`first_occurrences`); `answer_log_odds` [] nats: that of the
    truth y; `hit` [] bool: y is among the guesses. Returns scalars, THEORY.md, section 2:
    expected (given these guesses) H({p_j} for j in D, 1 - sum_D p); realised -log2 p_y on a hit,
    else -log2(1 - sum_D p). Repeats of a guess tell nothing new.

    Log-odds carry 1 - p of a dominant guess, which float32 p cannot. What is left over is exact to
    rounding of 1 - max p, and on a miss at least p_y; realised is +inf only if nothing is left.
    """
    guess_odds, answer_odds = floats(guess_log_odds), floats(answer_log_odds)
    first, hit = jnp.asarray(first, bool), jnp.asarray(hit, bool)
    log_p = -jax.nn.softplus(-guess_odds)
    p = jnp.where(first, jnp.exp(log_p), 0.0)
    total = jnp.sum(p)

    is_top = mark(jnp.argmax(jnp.where(first, guess_odds, -jnp.inf)), p.shape[0])
    log_not_top = -jax.nn.softplus(jnp.max(jnp.where(first, guess_odds, -jnp.inf)))
    left = jnp.exp(log_not_top) - jnp.sum(jnp.where(is_top, 0.0, p))
    left = jnp.maximum(left, jnp.where(hit, 0.0, jax.nn.sigmoid(answer_odds)))
    log_left = jnp.where(total < 0.5, jnp.log1p(-total), jnp.log(left))

    expected = -jnp.sum(weighted(p, log_p)) - weighted(left, log_left)
    realised = jnp.where(hit, jax.nn.softplus(-answer_odds), -log_left)
    return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)


def label_gap(label_probs: ArrayLike, log_probs: ArrayLike) -> Array:
    """KL(q || p) in bits [], summed over positions: what a learner of labels q has left to learn.

    `label_probs` q [..., V] on the simplex; `log_probs` log p [..., V] normalised, nats. >= 0;
    +inf where q > 0 = p.

    sum q log(q/p) cancels near 0 (to -1e-7 in float32 where the gap is 1e-12), so p - q, whose sum
    is 0, is added to every term: it becomes q phi(d) >= 0, d = log(p/q), phi(d) = e^d - 1 - d.
    """
    return jnp.sum(label_gap_terms(label_probs, log_probs)) / NATS_PER_BIT


def label_gap_terms(label_probs: ArrayLike, log_probs: ArrayLike) -> Array:
    """The terms of `label_gap`, one a symbol, nats, elementwise."""
    q, log_p = floats(label_probs), floats(log_probs)
    possible = q > 0
    ratio = log_p - jnp.log(jnp.where(possible, q, 1.0))
    near = jnp.abs(ratio) < 0.5
    small = q * _exponential_remainder(jnp.where(near, ratio, 0.0))
    terms = jnp.where(near, small, jnp.exp(log_p) - q - q * ratio)
    return jnp.where(possible, terms, jnp.exp(log_p))


def _exponential_remainder(x: Array) -> Array:
    """e^x - 1 - x for |x| < 1/2, by its series: 14 terms reach float64's rounding."""
    total = jnp.ones_like(x)
    for n in range(15, 2, -1):
        total = 1.0 + total * x * (1.0 / n)
    return 0.5 * x * x * total


def channel_information(vocab_size: ArrayLike, length: int, feedback: str) -> Array:
    """Bits one uniform guess tells of a uniform secret in V^L, [...].

    `vocab_size` V [...], `length` L (a Python int for "fraction"); `feedback` one of CHANNELS, else
    ValueError. "label" L log2 V, "exact" h(V^-L), "token" L h(1/V), "fraction" the entropy of
    Binomial(L, 1/V), "prefix" h(1/V) (1 - V^-L) / (1 - 1/V). THEORY.md, section 2, "Channels".
    """
    check_name("feedback", feedback, CHANNELS)
    size = floats(vocab_size)
    log_size = jnp.log(size)
    if feedback == "label":
        return length * log_size / NATS_PER_BIT
    if feedback == "exact":
        log_p = -length * log_size
        return nominal_information(log_p - jnp.log(-jnp.expm1(log_p)), "policy_gradient")
    if feedback == "fraction":
        return _binomial_entropy(length, -log_size, jnp.log1p(-1.0 / size))
    one_position = binary_entropy(1.0 / size)
    if feedback == "prefix":
        reached = jnp.expm1(-length * log_size) / jnp.expm1(-jnp.maximum(log_size, 1e-6))
        return one_position * reached
    return length * one_position


def _binomial_entropy(length: int, log_p: Array, log_not_p: Array) -> Array:
    """Entropy of Binomial(L, p), bits [...], from log p and log(1 - p) [...]."""
    ways = [math.log(math.comb(length, k)) for k in range(length + 1)]
    hits = jnp.arange(length + 1, dtype=log_p.dtype)
    log_law = jnp.asarray(ways, log_p.dtype) + weighted(hits, log_p[..., None])
    law = choice_from_log_probs(log_law + weighted(length - hits, log_not_p[..., None]))
    return -jnp.sum(weighted(law.p, law.log_p), axis=-1) / NATS_PER_BIT


def group_information(num_answers: ArrayLike, num_distinct: ArrayLike) -> Array:
    """Expected bits of M distinct exact-match guesses at a uniform secret among N, elementwise.

    log2 N - (N - M)/N log2(N - M), 0 log 0 = 0 (THEORY.md, section 2), written in M/N so that it
    does not cancel for M << N. N must fit the float type; 0 <= M <= N.
    """
    size = jnp.asarray(num_answers, float)
    share = jnp.asarray(num_distinct, float) / size
    found = weighted(share, jnp.log(size))
    return (found - weighted(1.0 - share, jnp.log1p(-share))) / NATS_PER_BIT


def samples_to_success(pass_rate: ArrayLike, confidence: float | None = None) -> Array:
    """Guesses a memoryless searcher needs at pass rate p [...], elementwise: a float count.

    `confidence` None: the mean, 1/p. A number c in [0, 1), else ValueError: the fewest guesses that
    succeed with probability >= c, ceil(ln(1 - c) / ln(1 - p)). +inf at p = 0. Source: the geometric
    law; THEORY.md, section 2. float32 counts are exact to about 1e6.
    """
    p = floats(pass_rate)
    if confidence is None:
        return 1.0 / p
    if not 0.0 <= confidence < 1.0:
        raise ValueError(f"confidence {confidence!r} is not in [0, 1)")
    # log1p(-c) on the host: 1 - 0.999 has five digits in float32.
    guesses = -math.log1p(-confidence) / jnp.abs(jnp.log1p(-p))
    # A quotient that should be whole may come out a rounding above it.
    guesses = jnp.ceil(guesses * (1.0 - 4.0 * jnp.finfo(guesses.dtype).eps))
    return jnp.maximum(guesses, 1.0 if confidence > 0 else 0.0)
