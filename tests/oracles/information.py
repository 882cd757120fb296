"""Information by listing: every answer, every guess, every feedback message.

Mutual and pointwise information are read off joint tables, literally. Numbers are floats or
Decimals (50 digits, for beliefs so extreme that float64 loses them). Nothing here knows a formula
of simrl.
"""

import itertools
import math
from collections import defaultdict
from decimal import Decimal, getcontext

import numpy as np

getcontext().prec = 50

TOLERANCE = {False: 1e-4, True: 1e-10}  # relative, by "is it float64"


def log2(x):
    return x.ln() / Decimal(2).ln() if isinstance(x, Decimal) else math.log2(x)


def decimal_softmax(logits):
    """Exact law of float logits [..., V], as an object array of Decimals."""
    logits = np.asarray(logits)
    out = np.empty(logits.shape, object)
    for index in np.ndindex(logits.shape[:-1]):
        powers = [Decimal(float(x)).exp() for x in logits[index]]
        out[index] = [x / sum(powers) for x in powers]
    return out


def list_answers(length, vocab_size):
    return list(itertools.product(range(vocab_size), repeat=length))


def belief(laws):
    """{answer: probability} of a factorised belief [L, V]."""
    length, vocab_size = np.shape(laws)
    return {
        answer: math.prod(laws[t][a] for t, a in enumerate(answer))
        for answer in list_answers(length, vocab_size)
    }


def message(channel, guess, truth):
    """What the learner hears; the guess itself it knows."""
    hits = [g == t for g, t in zip(guess, truth, strict=True)]
    if channel == "label":
        return truth
    if channel in ("exact", "outcome"):
        return all(hits)
    if channel == "fraction":
        return sum(hits)
    if channel == "token":
        return tuple(hits)
    if channel == "reward_to_go":
        return tuple(sum(hits[t:]) for t in range(len(hits)))
    if channel == "prefix":
        return (*hits, False).index(False)
    raise AssertionError(channel)


def one_guess_table(prior, channel):
    """P(truth, heard): the guess is drawn from the same law as the truth, independently."""
    table = defaultdict(int)
    for truth, p_truth in prior.items():
        for guess, p_guess in prior.items():
            table[truth, (guess, message(channel, guess, truth))] += p_truth * p_guess
    return table


def group_table(prior, guesses):
    """P(truth, heard) where each of the given guesses is told right or wrong."""
    table = defaultdict(int)
    for truth, p_truth in prior.items():
        table[truth, tuple(message("exact", guess, truth) for guess in guesses)] += p_truth
    return table


def marginals(table):
    truths, heards = defaultdict(int), defaultdict(int)
    for (truth, heard), p in table.items():
        truths[truth] += p
        heards[heard] += p
    return truths, heards


def mutual_information(table):
    """sum P(x, y) log2 P(x, y) / (P(x) P(y))."""
    truths, heards = marginals(table)
    return sum(
        p * log2(p / (truths[truth] * heards[heard]))
        for (truth, heard), p in table.items()
        if p > 0
    )


def pointwise_information(table, truth):
    """sum over y of P(y | x) log2 P(x | y) / P(x), for the truth x."""
    truths, heards = marginals(table)
    return sum(
        p / truths[truth] * log2(p / (heards[heard] * truths[truth]))
        for (x, heard), p in table.items()
        if x == truth and p > 0
    )


def divergence(q, p):
    """KL(q || p) in bits over all entries."""
    pairs = zip(np.ravel(q), np.ravel(p), strict=True)
    return sum(a * log2(a / b) for a, b in pairs if a > 0)


def fewest_guesses(pass_rate, confidence):
    count, failure = 0, 1.0
    while 1.0 - failure < confidence:
        count, failure = count + 1, failure * (1.0 - pass_rate)
    return count


def laws(seed, shape, count=4):
    """Random laws, flat to peaked; the last has a symbol of probability 0 at every position."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        logits = rng.normal(size=shape) * (0.3, 1.0, 4.0, 1.0)[i % 4]
        probs = np.exp(logits)
        if i % 4 == 3 and shape[-1] > 1:
            probs[..., 0] = 0.0
        yield probs / probs.sum(-1, keepdims=True)


def safe_log(probs):
    with np.errstate(divide="ignore"):
        return np.log(probs)


def relative_error(got, want):
    return abs(float(got) / float(want) - 1.0)


# Logits whose laws float32 probabilities cannot hold: 1 - p or p is about 1e-12, 1e-9, 1e-40.
EXTREME = {
    "sure": [[28.0, 0.0, 0.5], [0.0, 27.0, 1.0]],
    "one position sure": [[28.0, 0.0, 0.5], [0.1, 0.3, -0.2]],
    "beyond float32": [[95.0, 0.0, 0.5], [0.0, 92.0, 1.0]],
    "two sequences share all": [[30.0, 30.0, 0.0], [0.0, 28.0, 1.0]],
}
