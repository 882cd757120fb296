"""Beliefs over answers, accurate at both ends, and what one guess at a sequence tells.

Log-probabilities are nats, information is bits. A belief over sequences is factorised: [L, V], one
law per position. Formulas: THEORY.md, section 2 (Patel 2025 for `nominal`; Bayes for `expected`
and `realised`), checked in the tests by listing every answer, guess and feedback message.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl.measures.simplex import log_not

Array = jax.Array
ArrayLike = Any  # arrays, NumPy arrays, numbers

NATS_PER_BIT = math.log(2.0)
MAX_LISTED_GUESSES = 4096  # the `fraction` channel lists guesses up to this number

# Above this, 1 - p is the sum of the other entries. At most one entry passes, ties at 1/2 never do,
# and below it 1 - p loses less than two bits.
_LARGE = 0.75


class Information(NamedTuple):
    """Bits one sample tells, under the two Bayesian measures."""

    expected: Array  # the truth drawn from the belief itself
    realised: Array  # the truth given


class Choice(NamedTuple):
    """One belief over K answers with 1 - p beside p, each [..., K]; logs in nats."""

    p: Array
    not_p: Array
    log_p: Array
    log_not_p: Array


def floats(values: ArrayLike) -> Array:
    """The values as a floating array: their own float type, or jax's default for integers."""
    values = jnp.asarray(values)
    return values if jnp.issubdtype(values.dtype, jnp.floating) else values.astype(float)


def check_name(what: str, name: str, allowed: Any) -> None:
    """Raise ValueError, naming what is allowed, unless `name` is one of `allowed`."""
    if name not in allowed:
        raise ValueError(f"unknown {what} {name!r}; allowed: {', '.join(map(repr, allowed))}")


def weighted(weight: Array, log: Array) -> Array:
    """weight * log with 0 * (-inf) = 0; NaN passes through."""
    return jnp.where(weight == 0, 0.0, weight * log)


def mark(answer: ArrayLike, num_answers: int) -> Array:
    """[..., K] bool: True at the answer, an integer array [...]."""
    return jnp.arange(num_answers) == jnp.asarray(answer)[..., None]


def complement(probs: ArrayLike) -> Array:
    """1 - probs, [..., K]; a dominant entry's is the sum of the others.

    Right to rounding where p itself rounds to 1 and the others carry the 1e-12.
    """
    probs = floats(probs)
    others = jnp.sum(jnp.where(probs > _LARGE, 0.0, probs), axis=-1, keepdims=True)
    return jnp.where(probs > _LARGE, others, 1.0 - probs)


def choice_from_probs(probs: ArrayLike) -> Choice:
    """The belief with probabilities [..., K]."""
    probs = floats(probs)
    not_p = complement(probs)
    large = probs > _LARGE
    log_p = jnp.where(large, jnp.log1p(-not_p), jnp.log(probs))
    log_not_p = jnp.where(large, jnp.log(not_p), jnp.log1p(-probs))
    return Choice(probs, not_p, log_p, log_not_p)


def choice_from_log_probs(log_probs: ArrayLike) -> Choice:
    """The belief with normalised log-probabilities [..., K], nats.

    A dominant entry's own logarithm is not read (float32 rounds log(1 - 1e-12) to 0): it and that
    of 1 - p come from the others.
    """
    log_probs = floats(log_probs)
    large = log_probs > math.log(_LARGE)
    others = jnp.where(large, -jnp.inf, log_probs)
    log_others = jax.nn.logsumexp(others, axis=-1, keepdims=True)
    p_others, p = jnp.exp(log_others), jnp.exp(log_probs)
    return Choice(
        p=p,
        not_p=jnp.where(large, p_others, 1.0 - p),
        log_p=jnp.where(large, jnp.log1p(-jnp.minimum(p_others, 1.0 - _LARGE)), log_probs),
        log_not_p=jnp.where(large, log_others, log_not(jnp.minimum(p, _LARGE))),
    )


def outcome_expected(choice: Choice) -> Array:
    """sum_j p_j h(p_j), nats [...]: one guess drawn from the belief and told right or wrong."""
    right, wrong = weighted(choice.p, choice.log_p), weighted(choice.not_p, choice.log_not_p)
    return -jnp.sum(choice.p * (right + wrong), axis=-1)


def outcome_realised(choice: Choice, answer: ArrayLike) -> Array:
    """-p_y log p_y - sum over j != y of p_j log(1 - p_j), nats [...], for the answer y [...]."""
    right = mark(answer, choice.p.shape[-1])
    return -jnp.sum(weighted(choice.p, jnp.where(right, choice.log_p, choice.log_not_p)), axis=-1)


def log_odds(log_probs: ArrayLike, answer: ArrayLike) -> Array:
    """log of p_y / (1 - p_y) at one choice, nats [...].

    `log_probs` [..., V] nats, normalised or not (logits do); `answer` [...] int in 0..V-1. Right
    at both ends: 1 - p is the sum of the others. V = 1 gives +inf.
    """
    log_probs = floats(log_probs)
    right = mark(answer, log_probs.shape[-1])
    own = jnp.max(jnp.where(right, log_probs, -jnp.inf), axis=-1)
    return own - jax.nn.logsumexp(jnp.where(right, -jnp.inf, log_probs), axis=-1)


def sequence_log_odds(log_probs: ArrayLike, answer: ArrayLike) -> Array:
    """Log-odds of the whole answer being right, nats [].

    `log_probs` [L, V] nats, normalised or not; `answer` [L] int. Right at p -> 0 and 1 - p -> 0,
    below the smallest float32 too.
    """
    return joint_log_odds(log_odds(log_probs, answer))


def joint_log_odds(odds: Array) -> Array:
    """Log-odds [] of all of L independent things, each of log-odds `odds` [L], nats."""
    log_all, log_not_all = _all_of(-jax.nn.softplus(-odds), -jax.nn.softplus(odds))
    return log_all - log_not_all


def group_log_odds(log_probs: ArrayLike, answers: ArrayLike) -> Array:
    """Log-odds of each of B whole answers under one factorised belief, nats [B].

    `log_probs` [L, V] normalised, nats; `answers` [B, L] int. What `jax.vmap(sequence_log_odds)`
    over the answers gives, for O(L V + B L) instead of O(B L V).
    """
    choice = choice_from_log_probs(log_probs)
    answers = jnp.asarray(answers)
    positions = jnp.arange(answers.shape[-1])
    log_all, log_not_all = _all_of(
        choice.log_p[positions, answers], choice.log_not_p[positions, answers]
    )
    return log_all - log_not_all


def _all_of(log_p: Array, log_not_p: Array) -> tuple[Array, Array]:
    """log of prod_t p_t and of 1 - prod_t p_t, from log p_t and log(1 - p_t) [..., L].

    1 - prod_t p_t is summed over the first position that fails: only positive terms, so nothing
    cancels and nothing underflows.
    """
    log_before = jnp.cumsum(log_p, axis=-1)[..., :-1]
    log_before = jnp.concatenate([jnp.zeros_like(log_p[..., :1]), log_before], axis=-1)
    return jnp.sum(log_p, axis=-1), jax.nn.logsumexp(log_before + log_not_p, axis=-1)


def _pick(table: Array, answer: Array) -> Array:
    """table[t, answer_t] [L]."""
    return jnp.take_along_axis(table, answer[:, None], axis=-1)[:, 0]


def _label(choice: Choice, answer: Array) -> tuple[Array, Array]:
    return -jnp.sum(weighted(choice.p, choice.log_p)), -jnp.sum(_pick(choice.log_p, answer))


def _token(choice: Choice, answer: Array) -> tuple[Array, Array]:
    return jnp.sum(outcome_expected(choice)), jnp.sum(outcome_realised(choice, answer))


def _prefix(choice: Choice, answer: Array) -> tuple[Array, Array]:
    # Position t is heard of only if all before it matched: with probability prod_{u<t} S_u when the
    # truth is drawn from the belief, prod_{u<t} p_u for a given truth.
    one = jnp.ones_like(choice.p[:1, 0])
    collisions = jnp.sum(choice.p**2, axis=-1)
    reach = jnp.concatenate([one, jnp.cumprod(collisions)[:-1]])
    reach_truth = jnp.concatenate([one, jnp.cumprod(_pick(choice.p, answer))[:-1]])
    expected = jnp.sum(reach * outcome_expected(choice))
    return expected, jnp.sum(weighted(reach_truth, outcome_realised(choice, answer)))


def _exact(choice: Choice, answer: Array) -> tuple[Array, Array]:
    # sum_y p_y h(p_y) = -sum p^2 log p, a product form, - sum p (1 - p) log(1 - p), a power series
    # in p. The likeliest sequence is taken out of the series; the next is at most 1/2.
    if choice.p.shape[0] == 1:
        return _token(choice, answer)
    top = jnp.argmax(choice.log_p, axis=-1)
    log_top, log_not_top = _all_of(_pick(choice.log_p, top), _pick(choice.log_not_p, top))
    p_top = jnp.exp(log_top)
    log_own = jnp.sum(_pick(choice.log_p, answer))
    own_is_rest = jnp.any(top != answer)
    order = 1.0 + jnp.arange(int(jnp.finfo(choice.p.dtype).nmant), dtype=choice.p.dtype)
    rest = _rest_powers(choice.log_p, top, log_top, order + 1.0)
    own = jnp.where(own_is_rest, jnp.exp((order + 1.0) * log_own), 0.0)
    expected_series = jnp.where(order == 1.0, 1.0, -1.0 / jnp.maximum(order * (order - 1.0), 1.0))
    expected = _collision_entropy(choice) + jnp.sum(rest * expected_series)
    expected -= weighted(p_top * jnp.exp(log_not_top), log_not_top)
    realised = jnp.sum(jnp.maximum(rest - own, 0.0) / order) - weighted(jnp.exp(log_own), log_own)
    return expected, realised - jnp.where(own_is_rest, weighted(p_top, log_not_top), 0.0)


def _collision_entropy(choice: Choice) -> Array:
    """-sum over sequences of p^2 log p, nats: a sum over positions of products over the others."""
    square = choice.p**2
    log_collision = jnp.log(jnp.sum(square, axis=-1))
    here = -jnp.sum(weighted(square, choice.log_p), axis=-1)
    return jnp.sum(here * jnp.exp(jnp.sum(log_collision) - log_collision))


def _rest_powers(log_p: Array, top: Array, log_top: Array, order: Array) -> Array:
    """sum of p^n over all sequences but the likeliest, for each n of `order`.

    prod_t (p_t(top)^n + the others' n-th powers) - p(top)^n, as p(top)^n (prod_t (1 + R_t) - 1):
    the difference itself has no digits left in float32 when one sequence has p near 1.
    """
    gaps = log_p - _pick(log_p, top)[:, None]
    gaps = jnp.where(mark(top, log_p.shape[-1]), -jnp.inf, gaps)
    ratios = jnp.sum(jnp.exp(order[:, None, None] * gaps), axis=-1)
    log_growth = jnp.sum(jnp.log1p(ratios), axis=-1)
    return jnp.exp(order * log_top + log_growth) * -jnp.expm1(-log_growth)


def _fraction(choice: Choice, answer: Array) -> tuple[Array, Array]:
    length, vocab_size = choice.p.shape
    if length == 1 or vocab_size == 1:
        return _token(choice, answer)
    if vocab_size**length > MAX_LISTED_GUESSES:
        unknown = jnp.full((), jnp.nan, choice.p.dtype)
        return unknown, unknown
    log_guess, log_law, matches = _match_laws(choice, answer)
    law = choice_from_log_probs(log_law)
    guess = jnp.exp(log_guess)
    heard = jnp.take_along_axis(law.log_p, matches[:, None], axis=-1)[:, 0]
    expected = jnp.sum(guess * -jnp.sum(weighted(law.p, law.log_p), axis=-1))
    return expected, -jnp.sum(weighted(guess, heard))


def _match_laws(choice: Choice, answer: Array) -> tuple[Array, Array, Array]:
    """Every guess g: log of its probability [N], law of its matches [N, L + 1], its matches [N].

    The number of positions where a truth drawn from the belief agrees with g is Poisson-binomial;
    its law grows one position at a time, in logs because products of L small numbers underflow.
    """
    length, vocab_size = choice.p.shape
    log_guess, log_law = (jnp.zeros(shape, choice.p.dtype) for shape in ((1,), (1, 1)))
    matches = jnp.zeros((1,), jnp.int32)
    impossible = -jnp.inf
    for t in range(length):
        law = log_law[:, None, :]
        miss = law + choice.log_not_p[t][:, None]  # as many matches as before
        hit = law + choice.log_p[t][:, None]  # one more
        miss = jnp.pad(miss, ((0, 0), (0, 0), (0, 1)), constant_values=impossible)
        hit = jnp.pad(hit, ((0, 0), (0, 0), (1, 0)), constant_values=impossible)
        log_law = jnp.logaddexp(miss, hit).reshape(-1, t + 2)
        log_guess = (log_guess[:, None] + choice.log_p[t]).reshape(-1)
        matches = (matches[:, None] + mark(answer[t], vocab_size)).reshape(-1)
    return log_guess, log_law, matches


CHANNELS: dict[str, Callable[[Choice, Array], tuple[Array, Array]]] = {
    "label": _label,
    "exact": _exact,
    "fraction": _fraction,
    "token": _token,
    "reward_to_go": _token,  # sums of later token rewards: the same bits
    "prefix": _prefix,
}


def sequence_information(log_probs: ArrayLike, answer: ArrayLike, channel: str) -> Information:
    """Bits per trajectory: one on-policy guess at a whole answer, or its label.

    `log_probs` [L, V] normalised, nats: policy and belief at once, factorised over positions;
    `answer` [L] int: the truth; `channel` one of CHANNELS, else ValueError. Returns scalars.
    `label` tells the answer, `exact` whether all of the guess is right, `fraction` how many
    positions are, `token` (`reward_to_go`) which, `prefix` how many before the first wrong one.
    Formulas: THEORY.md, section 2. With L = 1 all but `label` are the one-choice outcome.
    `exact` is a series with the likeliest sequence taken out; M terms cut it short by less than
    2^-M / M relative, M = bits of the mantissa (23 or 52), so it costs O(M L V) for any V^L.
    `fraction` lists the V^L guesses, (L + 1) floats each, and is NaN beyond MAX_LISTED_GUESSES.
    `realised` is +inf where the limit is: a wrong answer of probability 1; for `label` p = 0.
    """
    check_name("channel", channel, CHANNELS)
    expected, realised = CHANNELS[channel](choice_from_log_probs(log_probs), jnp.asarray(answer))
    return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)
