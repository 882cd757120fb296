"""What one update was told, for many seeds at once: lanes on the last axis (simrl.columns).

The joint information of `simrl.measures.information.distinct_information`, where what a group has
ruled out is a set of symbols: nothing cancels, because what is left over is a sum of its own.

Every measure takes what was `Heard` of the K prompts that the update drew, which may repeat, their
right answers [K L, N] and the log-odds [K, N] that a guess was one, nats, before the update; bits
are [K, N], those of a prompt with the first draw of it and 0 with the others.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from simrl import columns, prefixes
from simrl.columns import Fence, Law
from simrl.measures import right_answers
from simrl.measures.information import Information
from simrl.measures.right_answers import Merged
from simrl.measures.sequences import NATS_PER_BIT, Array, weighted
from simrl.types import Heard


def of_labels(heard: Heard, truth: Array, odds: Array, fence: Fence) -> Information:
    """Bits [K, N] of labels of the truth; repeats tell nothing new."""
    law, prompts = heard.law, heard.prompts
    by_row = columns.total(weighted(law.probs, law.log_probs))
    tree = prefixes.tree_of(law.powers, truth, len(prompts))
    if tree is None:
        expected = -_over_positions(by_row, prompts)
    else:
        expected = -prefixes.over_prefixes(law, fence(by_row), tree, fence)
    return once(expected, columns.softplus(-odds), prompts)


def of_tokens(heard: Heard, truth: Array, odds: Array, fence: Fence) -> Information:
    """Bits [K, N] of guesses each told right or wrong at every position."""
    if heard.counts is not None:
        return _of_symbols(heard, heard.counts > 0, truth, odds, fence)
    assert heard.answers is not None
    rows, num, _ = heard.answers.shape
    size, length = heard.law.powers.shape[1], rows // len(heard.prompts)
    if size <= columns.FEW or num**2 >= 8 * size:
        return _of_symbols(heard, columns.occurring(heard.answers, size), truth, odds, fence)
    apart = []
    for place in (slice(t, None, length) for t in range(length)):
        law = Law(*(part[place] for part in heard.law))
        here = heard._replace(law=law, answers=heard.answers[place])
        own = columns.log_odds(law, truth[place])
        apart.append(_of_guesses(here, truth[place], own, fence))
    bits = jax.tree.map(lambda *each: sum(each[1:], each[0]), *apart)
    return Information(*bits)


def _by_position(law: Law, truth: Array, odds: Array) -> Array:
    """Log-odds [K L, N] of the right symbols; of answers of one symbol they are known."""
    return odds if len(odds) == len(truth) else columns.log_odds(law, truth)


def _of_symbols(
    heard: Heard,
    tried: Array,
    truth: Array,
    odds: Array,
    fence: Fence,
    merged: Merged | None = None,
) -> Information:
    """The same from which symbols were `tried` [K L, V, N] bool."""
    law, prompts = heard.law, heard.prompts
    probs, log_probs = law.probs, law.log_probs
    if merged is not None:
        tried, probs, log_probs = _with_one_right(tried, probs, log_probs, truth, odds, merged)
    tried = _anywhere(tried, prompts)
    found = columns.total(jnp.where(tried, weighted(probs, log_probs), 0))
    left = fence(columns.total(jnp.where(tried, 0, probs)))
    mass = fence(columns.total(jnp.where(tried, probs, 0)))
    log_left = jnp.where(mass < 0.5, columns.log1p(-mass), jnp.log(left))
    hit = columns.pick(tried, truth[:, None])[:, 0]
    own = columns.softplus(-_by_position(law, truth, odds))
    expected = -_over_positions(found + weighted(left, log_left), prompts)
    realised = _over_positions(jnp.where(hit, own, -log_left), prompts)
    return once(expected, realised, prompts)


def _with_one_right(
    tried: Array, probs: Array, log_probs: Array, truth: Array, odds: Array, merged: Merged
) -> tuple[Array, Array, Array]:
    """What was tried and a law [K, V, N] with the right symbols as one: the first, the truth."""
    right = columns.occurring(merged.codes, probs.shape[1])
    hit = jnp.any(tried & right, axis=1)[:, None]
    is_first = truth[:, None] == jnp.arange(probs.shape[1], dtype=truth.dtype)[:, None]
    p, log_p = jax.nn.sigmoid(odds), -columns.softplus(-odds)
    return (
        jnp.where(is_first, hit, tried),
        jnp.where(is_first, p[:, None], jnp.where(right, 0, probs)),
        jnp.where(is_first, log_p[:, None], log_probs),
    )


def of_answers(
    heard: Heard, truth: Array, odds: Array, fence: Fence, merged: Merged | None = None
) -> Information:
    """Bits [K, N] of whole answers, each told right or wrong.

    `merged`: where several are right; `truth` has the first of them.
    """
    size, answers = heard.law.powers.shape[1], heard.answers
    if answers is None:
        return of_tokens(heard, truth, odds, fence)
    rows, num, _ = answers.shape
    if rows == len(heard.prompts) and (size <= columns.FEW or num**2 >= 8 * size):
        return _of_symbols(heard, columns.occurring(answers, size), truth, odds, fence, merged)
    return _of_guesses(heard, truth, odds, fence, merged)


def _of_guesses(
    heard: Heard, truth: Array, odds: Array, fence: Fence, merged: Merged | None = None
) -> Information:
    """The same guess by guess.

    What is left is what the likeliest guess leaves less the others: that of one guess is summed
    over its first wrong position, so that nothing cancels where it is nearly sure.
    """
    law, prompts, answers = heard.law, heard.prompts, heard.answers
    assert answers is not None
    size, length = law.powers.shape[1], len(answers) // len(prompts)
    right, wrong, log_p = _guesses(law, answers, len(prompts), fence)
    matches = jnp.all(by_draw(answers == truth[:, None], len(prompts)), axis=1)
    if merged is not None:
        answers, size = numbers(answers, len(prompts), size), size**length
        matches = merged.has(answers)
        answers = fence(jnp.where(matches, merged.codes[:, :1], answers))
        p, not_p = jax.nn.sigmoid(odds)[:, None], jax.nn.sigmoid(-odds)[:, None]
        right, wrong = jnp.where(matches, p, right), jnp.where(matches, not_p, wrong)
        log_p = jnp.where(matches, -columns.softplus(-odds)[:, None], log_p)
    first = fence(_first_occurrences(answers, prompts, size, fence).astype(right.dtype)) > 0
    tried = _together(columns.total(jnp.where(first, right, 0)), prompts)
    top = _least(wrong, prompts, fence)
    is_top = wrong == top[:, None]
    ties = _together(columns.total((first & is_top).astype(right.dtype)), prompts)
    others = columns.total(jnp.where(first & (wrong > top[:, None]), right, 0))
    others = _together(others, prompts) + (ties - 1) * -_least(-right, prompts, fence)
    hit = _anywhere(jnp.any(matches, axis=1), prompts)
    left = jnp.maximum(top - others, jnp.where(hit, 0, jax.nn.sigmoid(odds)))
    log_left = jnp.where(tried < 0.5, columns.log1p(-tried), jnp.log(left))
    found = columns.total(jnp.where(first, weighted(right, log_p), 0))
    expected = -_together(found, prompts) - weighted(left, log_left)
    realised = jnp.where(hit, columns.softplus(-odds), -log_left)
    return once(expected, realised, prompts)


def numbers(answers: Array, draws: int, size: int) -> Array:
    """Answers [K L, C, N] by their numbers [K, C, N]."""
    return right_answers.code(jnp.swapaxes(by_draw(answers, draws), 1, 2), size)


def _guesses(law: Law, answers: Array, draws: int, fence: Fence) -> tuple[Array, Array, Array]:
    """Of whole answers: chance of being right, of being wrong, log of the first; [K, C, N]."""
    law, own = prefixes.along(law, answers, draws, fence)
    shifted = columns.pick(law.logits, own) - law.largest[:, None]
    powers = columns.pick(law.powers, own)
    p = by_draw(powers * law.inverse[:, None], draws)
    not_p = by_draw(columns.others(law, powers) * law.inverse[:, None], draws)
    log_p = jnp.sum(by_draw(shifted - law.log_total[:, None], draws), axis=1)
    before, wrong = jnp.ones_like(p[:, 0]), jnp.zeros_like(p[:, 0])
    for position in range(p.shape[1]):
        wrong = wrong + before * not_p[:, position]
        before = before * p[:, position]
    shape = (draws, *answers.shape[1:])
    right, wrong, log_p = (fence(x.reshape(shape)) for x in (before, wrong, log_p))
    return right, wrong, log_p


def _first_occurrences(answers: Array, prompts: Array, size: int, fence: Fence) -> Array:
    """[K, C, N] bool: no answer [K L, C, N] before it at the same prompt is the same."""
    draws, (_, num, lanes) = len(prompts), answers.shape
    places = jnp.swapaxes(by_draw(answers, draws), 0, 1)  # [L, K, C, N]
    if len(places) > 1 and size ** len(places) < 2**32:  # one number tells answers apart
        code = jnp.zeros(places.shape[1:], jnp.uint32)
        for place in places:
            code = code * size + place.astype(jnp.uint32)
        places = fence(code)[None].astype(jnp.int32)
    if draws == 1:
        return columns.first_occurrences(places[:, 0])[None]
    owner = jnp.broadcast_to(prompts[None, :, None], (1, *places.shape[1:]))
    tagged = jnp.concatenate([owner, places]).reshape(-1, draws * num, lanes)
    return columns.first_occurrences(tagged).reshape(draws, num, lanes)


def by_draw(x: Array, draws: int) -> Array:
    """[K L, ...] as [K, L, ...]."""
    return x.reshape(draws, -1, *x.shape[1:])


def _over_positions(x: Array, prompts: Array) -> Array:
    """Sums [K, N] of [K L, N]."""
    return jnp.sum(by_draw(x, len(prompts)), axis=1)


def same(prompts: Array) -> Array:
    """[K, K, N] bool: two draws are of one prompt."""
    return prompts[:, None] == prompts[None]


def _together(x: Array, prompts: Array) -> Array:
    """[K, N]: the sum over all draws of the same prompt."""
    if len(prompts) == 1:
        return x
    return columns.total(jnp.where(same(prompts), x[None], 0))


def _least(x: Array, prompts: Array, fence: Fence) -> Array:
    """[K, N]: the least of [K, C, N] at all draws of the same prompt."""
    if len(prompts) == 1:
        return jnp.min(x, axis=1)
    most = fence(columns.largest(-x))
    return -fence(columns.largest(jnp.where(same(prompts), most[None], -jnp.inf)))


def _anywhere(x: Array, prompts: Array) -> Array:
    """[K ..., N] bool, draw by draw: at any draw of the same prompt."""
    draws = len(prompts)
    if draws == 1:
        return x
    each = x.astype(jnp.float32).reshape(1, draws, -1, x.shape[-1])
    counts = jnp.where(same(prompts)[:, :, None], each, 0)
    counts = jnp.moveaxis(counts, 1, 2).reshape(-1, draws, x.shape[-1])
    return (columns.total(counts) > 0).reshape(x.shape)


def once(expected: Array, realised: Array, prompts: Array) -> Information:
    """Nats [K, N] as bits, of the first draw of every prompt."""
    bits = expected / NATS_PER_BIT, realised / NATS_PER_BIT
    return Information(*(first_of_each(x, prompts) for x in bits))


def first_of_each(x: Array, prompts: Array) -> Array:
    """[K, N] with the first draw of every prompt, 0 with the others."""
    if len(prompts) == 1:
        return x
    earlier = jnp.tri(len(prompts), k=-1, dtype=bool)[:, :, None]
    return jnp.where(jnp.any(same(prompts) & earlier, axis=1), 0, x)


JOINT: dict[str, Callable] = {"label": of_labels, "exact": of_answers, "token": of_tokens}
