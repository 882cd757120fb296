"""What one update was told, for many seeds at once: lanes on the last axis (simrl.columns).

The joint information of `simrl.measures.information.distinct_information`, where what a group has
ruled out is a set of symbols: nothing cancels, because what is left over is a sum of its own.

Every measure takes what was `Heard` of the K prompts that the update drew, which may repeat, their
right answers [K L, N] and the log-odds [K, N] that a guess was one, nats, before the update; bits
are [K, N], those of a prompt with the first draw of it and 0 with the others.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from simrl import columns, columnwise, listing
from simrl.columns import Fence, Law
from simrl.measures import duels, right_answers
from simrl.measures.information import Information
from simrl.measures.messages import World
from simrl.measures.right_answers import Merged
from simrl.measures.sequences import NATS_PER_BIT, Array, weighted
from simrl.types import Heard


def of_labels(heard: Heard, truth: Array, odds: Array, fence: Fence) -> Information:
    """Bits [K, N] of labels of the truth; repeats tell nothing new."""
    law, prompts = heard.law, heard.prompts
    expected = -_over_positions(columns.total(weighted(law.probs, law.log_probs)), prompts)
    realised = _over_positions(columns.softplus(-_by_position(law, truth, odds)), prompts)
    return _once(expected, realised, prompts)


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
    return _once(expected, realised, prompts)


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
    matches = jnp.all(_apart(answers == truth[:, None], len(prompts)), axis=1)
    if merged is not None:
        answers, size = _numbers(answers, len(prompts), size), size**length
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
    return _once(expected, realised, prompts)


def _as_one(answers: Array, right: Array, world: World) -> Array:
    """Answers [K L, C, N], of the right ones [K, A, N] the first for all."""
    codes = _numbers(answers, len(right), world.vocab_size)
    codes = jnp.where(right_answers.is_among(codes, right), right[:, :1], codes)
    symbols = [listing.symbol(codes, t, *world[:2]) for t in range(world.length)]
    return jnp.stack(symbols, axis=1).reshape(answers.shape)


def _numbers(answers: Array, draws: int, size: int) -> Array:
    """Answers [K L, C, N] by their numbers [K, C, N]."""
    return right_answers.code(jnp.swapaxes(_apart(answers, draws), 1, 2), size)


def of_duels(heard: Heard, truth: Array, right: Array | None, world: World, fence: Fence) -> Array:
    """Realised bits [K, N] of the verdicts of all duels; what the world pays is not told.

    `right` [K, A, N]: the right answers by their numbers, if there are several; they are as one.
    """
    prompts, answers, num = heard.prompts, heard.answers, len(heard.prompts)
    if heard.won is None:
        return jnp.full(prompts.shape, jnp.nan)
    assert answers is not None
    won = jnp.repeat(heard.won, world.length, axis=0)  # [K L, C / 2, N]
    if right is not None:
        answers = _as_one(answers, right, world)
    pairs = answers[:, ::2], answers[:, 1::2]
    of_duel = columnwise.over_lanes(partial(duels.log_likelihood, world=world))

    def add(sums: Array, *guesses: Array) -> Array:
        apart = (jnp.swapaxes(_apart(x, num), 1, 2) for x in guesses)
        return sums + columns.total(jax.vmap(jax.vmap(of_duel))(*apart))

    def realised(log_probs: Array, answer: Array, likely: Array, *right: Array) -> Array:
        answer, law = listing.code(answer, world.vocab_size), listing.joint(log_probs)
        law = listing.merged(law[None], *right)[0] if right else law
        return duels.realised_jointly(law, answer, likely)

    nothing = jnp.zeros((num, world.vocab_size**world.length, won.shape[-1]))
    guesses = jnp.where(won, *pairs), jnp.where(won, *pairs[::-1])
    found = fence(columns.over_answers(add, fence.at_once, nothing, *guesses))
    if num > 1:
        found = columns.total(jnp.where(_same(prompts)[:, :, None], found[None], 0))
    given = [_apart(heard.law.log_probs, num), _apart(truth, num), found]
    given += [] if right is None else [right]
    return _first(columns.each(columnwise.over_lanes(realised))(*given), prompts)


def _guesses(law: Law, answers: Array, draws: int, fence: Fence) -> tuple[Array, Array, Array]:
    """Of whole answers: chance of being right, of being wrong, log of the first; [K, C, N]."""
    shifted = columns.pick(law.logits, answers) - law.largest[:, None]
    powers = columns.pick(law.powers, answers)
    p = _apart(powers * law.inverse[:, None], draws)
    not_p = _apart(columns.others(law, powers) * law.inverse[:, None], draws)
    log_p = jnp.sum(_apart(shifted - law.log_total[:, None], draws), axis=1)
    before, wrong = jnp.ones_like(p[:, 0]), jnp.zeros_like(p[:, 0])
    for position in range(p.shape[1]):
        wrong = wrong + before * not_p[:, position]
        before = before * p[:, position]
    return fence(before), fence(wrong), fence(log_p)


def _first_occurrences(answers: Array, prompts: Array, size: int, fence: Fence) -> Array:
    """[K, C, N] bool: no answer [K L, C, N] before it at the same prompt is the same."""
    draws, (_, num, lanes) = len(prompts), answers.shape
    places = jnp.swapaxes(_apart(answers, draws), 0, 1)  # [L, K, C, N]
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


def _apart(x: Array, draws: int) -> Array:
    """[K L, ...] as [K, L, ...]."""
    return x.reshape(draws, -1, *x.shape[1:])


def _over_positions(x: Array, prompts: Array) -> Array:
    """Sums [K, N] of [K L, N]."""
    return jnp.sum(_apart(x, len(prompts)), axis=1)


def _same(prompts: Array) -> Array:
    """[K, K, N] bool: two draws are of one prompt."""
    return prompts[:, None] == prompts[None]


def _together(x: Array, prompts: Array) -> Array:
    """[K, N]: the sum over all draws of the same prompt."""
    if len(prompts) == 1:
        return x
    return columns.total(jnp.where(_same(prompts), x[None], 0))


def _least(x: Array, prompts: Array, fence: Fence) -> Array:
    """[K, N]: the least of [K, C, N] at all draws of the same prompt."""
    if len(prompts) == 1:
        return jnp.min(x, axis=1)
    most = fence(columns.largest(-x))
    return -fence(columns.largest(jnp.where(_same(prompts), most[None], -jnp.inf)))


def _anywhere(x: Array, prompts: Array) -> Array:
    """[K ..., N] bool, draw by draw: at any draw of the same prompt."""
    draws = len(prompts)
    if draws == 1:
        return x
    each = x.astype(jnp.float32).reshape(1, draws, -1, x.shape[-1])
    counts = jnp.where(_same(prompts)[:, :, None], each, 0)
    counts = jnp.moveaxis(counts, 1, 2).reshape(-1, draws, x.shape[-1])
    return (columns.total(counts) > 0).reshape(x.shape)


def _once(expected: Array, realised: Array, prompts: Array) -> Information:
    """Nats [K, N] as bits, of the first draw of every prompt."""
    bits = expected / NATS_PER_BIT, realised / NATS_PER_BIT
    return Information(*(_first(x, prompts) for x in bits))


def _first(x: Array, prompts: Array) -> Array:
    """[K, N] with the first draw of every prompt, 0 with the others."""
    if len(prompts) == 1:
        return x
    earlier = jnp.tri(len(prompts), k=-1, dtype=bool)[:, :, None]
    return jnp.where(jnp.any(_same(prompts) & earlier, axis=1), 0, x)


JOINT: dict[str, Callable] = {"label": of_labels, "exact": of_answers, "token": of_tokens}
