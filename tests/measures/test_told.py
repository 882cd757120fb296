"""What an update was told, lanes last: that of `measures.information`, lane by lane."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import columns, listing
from simrl.measures import information, listed, together, told
from simrl.measures.messages import World
from simrl.types import Heard

LANES = 24
CASES = [(length, size, num) for length in (1, 3) for size in (5, 40) for num in (1, 6, 40)]
ONE = np.zeros((1, LANES), np.int32)  # the prompt of one draw
SCALES = (0.0, 0.3, 2.0, 8.0)  # flat to sharp


def case(length, size, num):
    """Logits [L, V, N], truths [L, N], guesses [L, B, N]: hits, misses and repeats."""
    draw = np.random.default_rng([length, size, num])
    logits = np.float32(draw.normal(size=(length, size, LANES)) * np.resize(SCALES, LANES))
    truth = draw.integers(size, size=(length, LANES)).astype(np.int32)
    # By the law itself, so that a sharp one repeats, and then some that hit.
    noise = draw.gumbel(size=(num, length, size, LANES))
    guesses = np.argmax(logits + noise, axis=2).swapaxes(0, 1).astype(np.int32)
    guesses[:, -1, ::3] = truth[:, ::3]
    guesses[:, num // 2, ::2] = guesses[:, 0, ::2]
    return logits, truth, guesses


@jax.jit
def group_of_lane(log_probs, truth, guesses):
    """[L, V], [L], [L, B]: joint bits of whole answers told right or wrong."""
    return information.distinct_information(
        information.group_log_odds(log_probs, guesses.T),
        information.first_occurrences(guesses.T),
        information.sequence_log_odds(log_probs, truth),
        jnp.any(jnp.all(truth == guesses.T, axis=1)),
    )


def labels_of_lane(log_probs, truth, guesses):
    return information.sequence_information(log_probs, truth, "label")


def tokens_of_lane(log_probs, truth, guesses):
    """A sum over positions: what is told of one says nothing of another."""
    over_positions = jax.vmap(lambda *of: group_of_lane(*(x[None] for x in of)))
    return jax.tree.map(jnp.sum, over_positions(log_probs, truth, guesses))


REFERENCES = {
    "label": (told.of_labels, labels_of_lane),
    "token": (told.of_tokens, tokens_of_lane),
    "exact": (told.of_answers, group_of_lane),
}


@partial(jax.jit, static_argnums=0)
def of_lanes(reference, logits, truth, guesses):
    return jax.vmap(reference, -1)(jax.nn.log_softmax(logits, axis=1), truth, guesses)


def exact_bits(reference, logits, truth, guesses):
    """The reference in float64 from the same float32 logits."""
    with jax.enable_x64(True):
        found = of_lanes(reference, np.float64(logits), truth, guesses)
        return [np.asarray(bits) for bits in found]


def log_odds(logits, truth, draws):
    """Log-odds [K, N] in float64 of whole answers [K L, N]: where is the first wrong position?"""
    right = np.arange(logits.shape[1])[:, None] == truth[:, None]
    powers = np.exp(np.float64(logits) - logits.max(axis=1, keepdims=True))
    total = powers.sum(axis=1)
    p, not_p = ((powers * these).sum(axis=1) / total for these in (right, ~right))
    p, not_p = (x.reshape(draws, -1, x.shape[-1]) for x in (p, not_p))
    before = np.cumprod(p, axis=1)
    wrong = not_p[:, 0] + (before[:, :-1] * not_p[:, 1:]).sum(axis=1)
    return np.float32(np.log(before[:, -1]) - np.log(wrong))


def measured(measure, logits, truth, guesses, prompts, by_count=False, odds=None):
    """A measure of guesses as such, or of how many there were of each symbol."""

    @jax.jit
    def of_heard(logits, truth, guesses, odds):
        fence = columns.Fence(jnp.ones(()))
        symbols = jnp.arange(logits.shape[1])[:, None]
        counts = jnp.sum(guesses[:, :, None] == symbols, axis=1, dtype=jnp.float32)
        law = columns.law(logits, fence)
        told = (None, None, None, counts) if by_count else (guesses, None, None, None)
        return measure(Heard(prompts, law, *told), truth, odds, fence)

    odds = log_odds(logits, truth, len(prompts)) if odds is None else odds
    return of_heard(logits, truth, guesses, odds)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(("length", "size", "num"), CASES)
def test_told(length, size, num, name):
    logits, truth, guesses = case(length, size, num)
    columnar, reference = REFERENCES[name]

    by_position = name == "token" or (name == "exact" and length == 1)
    counted = [True, False] if by_position and size <= columns.FEW else [False]
    for by_count in counted:
        found = measured(columnar, logits, truth, guesses, ONE, by_count)
        for mine, bits in zip(found, exact_bits(reference, logits, truth, guesses), strict=True):
            assert mine.dtype == jnp.float32
            np.testing.assert_allclose(mine[0], bits, rtol=1e-5, atol=3e-7)


LENGTH, SIZE = 3, 3


def along_a_tree(channel):
    """A measure of guesses along rows for prefixes, and that of listed answers."""
    world = World(LENGTH, SIZE, channel)
    if channel in REFERENCES:
        columnar, by_position = REFERENCES[channel]

        def listed_of_lane(law, truth, guesses):
            return by_position(law[None], truth[None], guesses[None])

        return columnar, listed_of_lane

    def told_of_lane(law, truth, guesses):
        every = jnp.ones(len(guesses), bool)
        return listed.joint_information(law, truth, guesses, every, world)

    return partial(together.of_messages, world=world), told_of_lane


@pytest.mark.parametrize("channel", ["label", "exact", "fraction", "prefix", "reward_to_go"])
def test_rows_for_prefixes(channel):
    """Two draws of two prompts, or of one twice, which then tell together."""
    prompts = np.random.default_rng(2).integers(2, size=(2, LANES)).astype(np.int32)
    alike = prompts[0] == prompts[1]
    policy = simrl.Autoregressive().build(simrl.Shape(1, LENGTH, SIZE))
    rows = policy.init(jax.random.key(0)).shape[1]
    noise = np.random.default_rng(1).normal(size=(2, rows, SIZE, LANES))
    logits = np.float32(noise * np.resize(SCALES, LANES))
    _, truth, guesses = (np.stack(pair) for pair in zip(*(case(LENGTH, SIZE, 6),) * 2, strict=True))
    guesses[1] = guesses[1, :, ::-1] * (np.arange(LANES) % 5 > 0)
    logits[1], truth[1] = np.where(alike, logits[0], logits[1]), np.where(alike, truth[0], 1)
    columnar, reference = along_a_tree(channel)

    @jax.jit
    @partial(jax.vmap, in_axes=-1)
    def of_lanes(params, truth, guesses):
        law, answer = policy.listed(params[None], 0), listing.code(truth, SIZE)
        others = jnp.where(jnp.arange(len(law)) == answer, -jnp.inf, law)
        odds = law[answer] - jax.nn.logsumexp(others)
        return odds, reference(law, answer, listing.code(guesses.T, SIZE))

    with jax.enable_x64(True):
        each = [
            of_lanes(jnp.float64(x), *y)[0] for x, *y in zip(logits, truth, guesses, strict=True)
        ]
    rows = (x.reshape(-1, *x.shape[2:]) for x in (logits, truth, guesses))
    found = measured(columnar, *rows, prompts, odds=np.float32(each))
    for k in range(2):
        mine = np.where(
            alike | (np.arange(2) == k)[:, None, None, None], guesses, guesses[k][:, :1]
        )
        with jax.enable_x64(True):
            wanted = of_lanes(jnp.float64(logits[k]), truth[k], np.concatenate(mine, axis=1))[1]
        for bits, exact in zip(found, wanted, strict=True):
            exact = np.where(alike, 0, exact) if k else exact
            np.testing.assert_allclose(bits[k], exact, rtol=1e-5, atol=3e-7)
    assert 0 < alike.mean() < 1


def test_cases_hit_and_miss_and_repeat():
    _, truth, guesses = case(3, 5, 40)
    hits = np.any(np.all(guesses == truth[:, None], axis=0), axis=0)
    distinct = [len(np.unique(guesses[..., lane], axis=1).T) for lane in range(LANES)]
    assert 0 < hits.sum() < LANES
    assert min(distinct) < 10 < max(distinct)
    assert {name: mine for name, (mine, _) in REFERENCES.items()} == told.JOINT


@pytest.mark.parametrize("name", REFERENCES)
def test_a_nearly_sure_law_keeps_its_digits(name):
    logits = np.float32([20.3, 0, 0]).reshape(1, 3, 1)
    truth, guesses = np.zeros((1, 1), np.int32), np.int32([0, 1]).reshape(1, 2, 1)
    columnar, reference = REFERENCES[name]
    found = measured(columnar, logits, truth, guesses, np.zeros((1, 1), np.int32))
    exact = exact_bits(reference, logits, truth, guesses)
    np.testing.assert_allclose(np.squeeze(found), np.squeeze(exact), rtol=1e-4)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(("length", "size", "num"), [(2, 5, 6), (2, 40, 6), (1, 5, 6), (1, 40, 6)])
def test_draws_of_one_prompt_tell_together(length, size, num, name):
    """Three draws of two prompts: with the first of each the bits of all guesses at it, else 0."""
    worlds = [case(length, size, num + extra) for extra in (0, 1)]
    prompts = np.random.default_rng(2).integers(2, size=(3, LANES)).astype(np.int32)

    def of_draws(parts):  # [2, ..., N] -> [K, ..., N]
        where = prompts.reshape(3, *[1] * (parts[0].ndim - 1), LANES) == 1
        return np.where(where, parts[1], parts[0])

    logits, truth = (of_draws([world[i] for world in worlds]) for i in (0, 1))
    guesses = np.stack([case(length, size, num)[2], *([worlds[1][2][:, 1:]] * 2)])
    guesses[2, :, : num // 2] = guesses[0, :, : num // 2]  # what another draw has had
    columnar, reference = REFERENCES[name]

    rows = (x.reshape(-1, *x.shape[2:]) for x in (logits, truth, guesses))
    found = measured(columnar, *rows, prompts)
    for k in range(3):
        # A guess at another prompt stands as a repeat of this draw's first.
        mine = prompts[:, None, None] == prompts[k]
        all_mine = np.where(mine, guesses, guesses[k][None, :, :1])
        merged = all_mine.swapaxes(0, 1).reshape(length, -1, LANES)
        first = ~np.any(prompts[:k] == prompts[k], axis=0)
        for bits, exact in zip(
            found, exact_bits(reference, logits[k], truth[k], merged), strict=True
        ):
            wanted = np.where(first, exact, 0)
            np.testing.assert_allclose(bits[k], wanted, rtol=1e-5, atol=3e-7)
    assert 0 < np.mean(prompts[2] == prompts[0]) < 1
