"""What one update was told, for many seeds at once: lanes on the last axis (simrl.columns).

Bits [N] from a law, the right answer [L, N] and what was `Heard`.

The joint information of `simrl.measures.information.distinct_information`, where what a group has
ruled out is a set of symbols: nothing cancels, because what is left over is a sum of its own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from simrl import columns, columnwise
from simrl.columns import Fence, Law
from simrl.measures import information
from simrl.measures.information import Information
from simrl.measures.sequences import NATS_PER_BIT, Array, weighted
from simrl.types import Heard


def of_labels(law: Law, truth: Array, heard: Heard, fence: Fence) -> Information:
    """Bits [N] of labels of the truth [L, N]; repeats tell nothing new."""
    expected = -jnp.sum(columns.total(weighted(law.probs, law.log_probs)), axis=0)
    realised = jnp.sum(columns.softplus(-columns.log_odds(law, truth)), axis=0)
    return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)


def of_tokens(law: Law, truth: Array, heard: Heard, fence: Fence) -> Information:
    """Bits [N] of guesses each told right or wrong at every position."""
    if heard.counts is not None:
        return _of_symbols(law, truth, heard.counts > 0, fence)
    assert heard.answers is not None
    length, num, _ = heard.answers.shape
    size = law.powers.shape[1]
    if size > columns.FEW and num**2 < 8 * size:
        apart = []
        for place in (slice(t, t + 1) for t in range(length)):
            here = Law(*(part[place] for part in law))
            apart.append(_of_guesses(here, truth[place], heard.answers[place], fence))
        bits = jax.tree.map(lambda *each: sum(each[1:], each[0]), *apart)
        return Information(*bits)
    return _of_symbols(law, truth, columns.occurring(heard.answers, size), fence)


def _of_symbols(law: Law, truth: Array, tried: Array, fence: Fence) -> Information:
    """The same from which symbols were `tried` [L, V, N] bool."""
    found = columns.total(jnp.where(tried, weighted(law.probs, law.log_probs), 0))
    left = fence(columns.total(jnp.where(tried, 0, law.probs)))
    mass = fence(columns.total(jnp.where(tried, law.probs, 0)))
    log_left = jnp.where(mass < 0.5, columns.log1p(-mass), jnp.log(left))
    hit = columns.pick(tried, truth[:, None])[:, 0]
    own = columns.softplus(-columns.log_odds(law, truth))
    expected = -jnp.sum(found + weighted(left, log_left), axis=0)
    realised = jnp.sum(jnp.where(hit, own, -log_left), axis=0)
    return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)


def of_answers(law: Law, truth: Array, heard: Heard, fence: Fence) -> Information:
    """Bits [N] of whole answers, each told right or wrong."""
    (length, size, _), answers = law.powers.shape, heard.answers
    few = size <= columns.FEW
    if answers is None or (length == 1 and (few or answers.shape[1] ** 2 >= 8 * size)):
        return of_tokens(law, truth, heard, fence)
    return _of_guesses(law, truth, answers, fence)


def _of_guesses(law: Law, truth: Array, answers: Array, fence: Fence) -> Information:
    """The same guess by guess [L, B, N].

    What is left is what the likeliest guess leaves less the others: that of one guess is summed
    over its first wrong position, so that nothing cancels where it is nearly sure.
    """
    length = answers.shape[0]
    shifted = columns.pick(law.logits, answers) - law.largest[:, None]
    powers = columns.pick(law.powers, answers)
    p = powers * law.inverse[:, None]
    not_p = columns.others(law, powers) * law.inverse[:, None]
    log_p = fence(jnp.sum(shifted - law.log_total[:, None], axis=0))
    before, wrong = jnp.ones(p.shape[1:], p.dtype), jnp.zeros(p.shape[1:], p.dtype)
    for position in range(length):
        wrong = wrong + before * not_p[position]
        before = before * p[position]
    right, wrong = fence(before), fence(wrong)

    first = fence(columns.first_occurrences(answers).astype(p.dtype)) > 0
    tried = _sum(jnp.where(first, right, 0))
    top = jnp.min(wrong, axis=0)
    ties = _sum((first & (wrong == top)).astype(p.dtype))
    others = _sum(jnp.where(first & (wrong > top), right, 0)) + (ties - 1) * jnp.max(right, axis=0)
    hit = jnp.any(jnp.all(answers == truth[:, None], axis=0), axis=0)
    odds = columns.log_odds(law, truth)
    odds = odds[0] if length == 1 else columnwise.over_lanes(information.joint_log_odds)(odds)
    left = jnp.maximum(top - others, jnp.where(hit, 0, jax.nn.sigmoid(odds)))
    log_left = jnp.where(tried < 0.5, columns.log1p(-tried), jnp.log(left))
    expected = -_sum(jnp.where(first, weighted(right, log_p), 0)) - weighted(left, log_left)
    realised = jnp.where(hit, columns.softplus(-odds), -log_left)
    return Information(expected / NATS_PER_BIT, realised / NATS_PER_BIT)


def _sum(x: Array) -> Array:
    """Over the first axis of [B, N]."""
    return columns.total(x[None])[0]


JOINT: dict[str, Callable] = {"label": of_labels, "exact": of_answers, "token": of_tokens}
