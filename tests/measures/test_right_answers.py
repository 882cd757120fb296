"""Several right answers as one, lanes last: against float64 NumPy that lists every answer."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl import columns
from simrl.measures import right_answers, told
from simrl.types import Heard

LANES, PROMPTS, DRAWS = 12, 2, 3
WORLDS = {
    # (L, V, A), on both sides of `columns.FEW`
    "arms": (1, 5, 2),
    "many arms": (1, 40, 33),
    "prefixes shared": (3, 2, 5),
    "many symbols": (2, 36, 3),
}
SCALES = np.resize([0.0, 0.5, 3.0, 12.0], LANES)  # flat to sharp


def case(name):
    """Logits [M, L, V, N] and right answers [M, A, L, N], in some lanes nearly sure to be given."""
    length, size, num = WORLDS[name]
    draw = np.random.default_rng([length, size])
    logits = draw.normal(size=(PROMPTS, length, size, LANES)) * SCALES
    chosen = [
        draw.choice(size**length, num, replace=False) for _ in range(PROMPTS) for _ in range(LANES)
    ]
    codes = np.moveaxis(np.reshape(chosen, (PROMPTS, LANES, num)), 1, -1)
    symbols = np.stack(np.unravel_index(codes, (size,) * length), axis=2).astype(np.int32)
    for prompt, lane in itertools.product(range(PROMPTS), range(0, LANES, 3)):
        right = symbols[prompt, :, :, lane]
        for t in range(length):
            logits[prompt, t, right[0, t], lane] += 25
        logits[prompt, -1, right[right[:, 0] == right[0, 0]][:, -1], lane] = 25
    return np.float32(logits), symbols


def listed(logits):
    """Log-probabilities [V^L] of all answers, of float32 logits [L, V], in float64."""
    laws = [row - np.logaddexp.reduce(row) for row in np.float64(logits)]
    return functools.reduce(np.add.outer, laws).ravel()


def codes_of(answers, size):
    """Numbers [...] of answers [..., L]."""
    return np.asarray(answers) @ size ** np.arange(answers.shape[-1])[::-1]


def log_odds_by_listing(log_probs, right):
    wrong = np.delete(log_probs, right)
    return np.logaddexp.reduce(log_probs[right]) - np.logaddexp.reduce(wrong)


def columnar(logits, symbols):
    law = columns.law(logits.reshape(-1, *logits.shape[2:]), columns.Fence(jnp.ones(())))
    return right_answers.log_odds(law, right_answers.tree(symbols, logits.shape[2]))


@pytest.mark.parametrize("name", WORLDS)
def test_log_odds_are_those_by_listing(name):
    logits, symbols = case(name)
    found = jax.jit(columnar)(logits, symbols)
    wanted = np.zeros(found.shape)
    for m, lane in np.ndindex(wanted.shape):
        right = codes_of(symbols[m, :, :, lane], logits.shape[2])
        wanted[m, lane] = log_odds_by_listing(listed(logits[m, ..., lane]), right)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert wanted.max() > 17  # 1 - p is below what float32 can tell of 1
    assert wanted.min() < -3 or name == "many arms"


def bits_by_listing(log_probs, right, guesses):
    """Expected and realised joint bits of guesses [n] told right or wrong, right ones merged."""
    probs = np.exp(log_probs)
    ruled = set(guesses) - set(right)
    hit = len(ruled) < len(set(guesses))
    parts = [probs[list(ruled)], [probs[right].sum()] if hit else []]
    left = np.delete(probs, [*ruled, *(right if hit else [])]).sum()
    parts = np.concatenate([*parts, [left]])
    expected = -np.sum(parts[parts > 0] * np.log2(parts[parts > 0]))
    own = np.logaddexp.reduce(log_probs[right]) / np.log(2) if hit else np.log2(left)
    return expected, -own


@pytest.mark.parametrize(("name", "num"), [*((name, 6) for name in WORLDS), ("many arms", 40)])
def test_an_update_is_told_of_them_as_one(name, num):
    """Three draws of two prompts: with the first of each the bits of all guesses at it, else 0."""
    logits, symbols = case(name)
    length, size, _ = WORLDS[name]
    draw = np.random.default_rng(num)
    prompts = draw.integers(PROMPTS, size=(DRAWS, LANES)).astype(np.int32)
    guesses = draw.integers(size, size=(DRAWS, length, num, LANES)).astype(np.int32)
    for k, lane in np.ndindex(prompts.shape):  # some hit, two of them another one, and some repeat
        guesses[k, :, num // 2, lane] = guesses[k, :, 0, lane]
        for place in (1, 2)[: lane % 3]:
            guesses[k, :, place, lane] = symbols[prompts[k, lane], -place, :, lane]

    @jax.jit
    def measure(logits, symbols, prompts, guesses):
        def at(x):
            return columns.rows_at(x, prompts)

        fence, rows = columns.Fence(jnp.ones(())), at(logits)
        law = columns.law(rows.reshape(-1, *rows.shape[2:]), fence)
        answers = guesses.reshape(-1, num, LANES)
        codes = right_answers.code(symbols, size)
        merged, odds = right_answers.Merged(at(codes)), at(columnar(logits, symbols))
        truth = at(symbols[:, 0]).reshape(-1, LANES)
        heard = Heard(prompts, law, answers, None, None)
        return told.of_answers(heard, truth, odds, fence, merged)

    found = measure(logits, symbols, prompts, guesses)
    hits = 0
    for k, lane in np.ndindex(prompts.shape):
        mine, wanted = prompts[:, lane] == prompts[k, lane], (0, 0)
        if not mine[:k].any():
            m = prompts[k, lane]
            right = codes_of(symbols[m, :, :, lane], size).tolist()
            made = np.moveaxis(guesses[mine, ..., lane], 1, -1).reshape(-1, length)
            made = codes_of(made, size).tolist()
            wanted = bits_by_listing(listed(logits[m, ..., lane]), right, made)
            hits += bool(set(made) & set(right))
        for bits, exact in zip(found, wanted, strict=True):
            np.testing.assert_allclose(bits[k, lane], exact, rtol=2e-5, atol=1e-6)
    assert hits > 0
