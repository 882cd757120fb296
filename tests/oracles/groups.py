"""Truth about estimators that count successes: every batch, every subset of it, every verdict.

Weights by their definitions, from the list of a batch's rewards; floats or `fractions.Fraction`.
"""

import itertools
import math
from fractions import Fraction

import numpy as np

from tests.oracles import enumeration


def mean(values):
    values = list(values)
    return sum(values) / (len(values) * (values[0] * 0 + 1))


def advantage(rewards, name, k=None):
    """The weight of each guess of ONE batch, by what the estimator is defined to do."""
    size, total = len(rewards), sum(rewards)
    own = mean(rewards)
    if name == "none":
        return list(rewards)
    if name in ("group_mean", "batch_mean"):
        return [r - own for r in rewards]
    if name == "leave_one_out":
        return [r - mean(others(rewards, i)) for i, r in enumerate(rewards)]
    if name in ("group_normalised", "group_normalised_sample"):
        free = size - 1 if name.endswith("sample") else size
        if total in (0, size):
            return [0 * r for r in rewards]
        std = math.sqrt(sum((r - own) ** 2 for r in rewards) / free)
        return [(r - own) * as_kind(1 / std, r) for r in rewards]
    if name == "maxrl":
        return [r / own if total else 0 * r for r in rewards]
    if name == "maxrl_centred":
        return [(r - own) / own if total else 0 * r for r in rewards]
    subsets = list(itertools.combinations(range(size), k))
    best = [max(rewards[i] for i in subset) for subset in subsets]
    if name == "pass_at_k":  # a guess is paid by every k-subset that it is in
        paid = [[b * (i in s) for b, s in zip(best, subsets, strict=True)] for i in range(size)]
        return [size * mean(p) for p in paid]
    if name == "pass_at_k_leave_one_out":  # less what the k-subsets without it make
        without = [
            [b for b, s in zip(best, subsets, strict=True) if i not in s] for i in range(size)
        ]
        return [size * (mean(best) - mean(w)) for w in without]
    raise ValueError(name)


def others(values, place):
    return [v for i, v in enumerate(values) if i != place]


def as_kind(number, like):
    """A number of the kind that `like` is: a fraction or a float."""
    return Fraction(number) if isinstance(like, Fraction) else number


def weigh(rewards, name, k=None):
    """`advantage` of each row of rewards [M, L, B]; or a baseline [L]; or a rule of one row."""
    if isinstance(name, np.ndarray):
        return rewards - name[:, None]
    rule = name if callable(name) else lambda row: advantage(row, name, k)
    rows = rewards.reshape(-1, rewards.shape[-1])
    known = {}
    for row in rows:
        if tuple(row) not in known:
            known[tuple(row)] = rule(list(row))
    return np.array([known[tuple(row)] for row in rows], rewards.dtype).reshape(rewards.shape)


def estimates(samples, batch_size, name, k=None):
    """Chance [M] of every batch, its weights [M, L, B] and its estimate [M, L, V]."""
    chance, index = enumeration.batches(samples, batch_size)
    rewards = np.moveaxis(samples.credit[index], 1, -1)
    weights = weigh(rewards, name, k)
    terms = np.moveaxis(weights, -1, 1)[..., None] * samples.score[index]
    return chance, weights, terms.sum(axis=1) / batch_size


def batch_truth(samples, batch_size, name, k=None):
    """Moments of the estimator over every batch."""
    chance, _, values = estimates(samples, batch_size, name, k)
    chance = chance[:, None, None]
    average = (chance * values).sum(axis=0)
    trace = (chance * (values - average) ** 2).sum()
    return enumeration.Truth(average, trace, (average**2).sum())


def dead_truth(samples, batch_size, name, k=None):
    """Probability of a batch whose weights are all zero."""
    chance, weights, _ = estimates(samples, batch_size, name, k)
    return chance[(np.abs(weights) < 1e-12).all(axis=(1, 2))].sum()


def least_noisy_baseline(samples, together):
    """The baseline [L] at which the variance is least, of the whole or of each position apart.

    The variance is a parabola in the baseline; three of its values tell where it turns.
    """
    squares = (samples.score**2).sum(axis=-1)  # [N, L]

    def second_moment(baseline):
        values = samples.weight[:, None] * (samples.credit - baseline) ** 2 * squares
        by_position = values.sum(axis=0)
        return by_position * 0 + by_position.sum() if together else by_position

    below, at, above = (second_moment(b) for b in (-1, 0, 1))
    return (below - above) / (2 * (below - 2 * at + above))


def verdicts(samples, alpha, beta, together):
    """Every sample with every verdict on it; one verdict for all positions, or one for each."""
    length = samples.credit.shape[1]
    rows = []
    for weight, score, credit in zip(*samples, strict=True):
        for said in itertools.product((0.0, 1.0), repeat=1 if together else length):
            said = np.array(said) if len(said) == length else np.full(length, said[0])
            right = np.where(credit == 1, 1 - beta, alpha)
            chances = np.where(said == 1, right, 1 - right)
            chance = chances[0] if together else chances.prod()
            rows.append((weight * chance, score, said))
    return enumeration.Samples(*(np.array(column) for column in zip(*rows, strict=True)))


def objective_gradient(probs, target, objective, k, unit):
    """Gradient [L, V] of the objective by the logits, by central differences, summed over units.

    `unit`: "exact" for the whole answer, "token" for each position apart.
    """
    logits = np.log(probs)

    def value(logits):
        rows = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        hits = rows[np.arange(len(rows)), target]
        rates = [hits.prod()] if unit == "exact" else hits
        shapes = {
            "reward": lambda p: p,
            "log_likelihood": math.log,
            "pass_at_k": lambda p: 1 - (1 - p) ** k,
        }
        return sum(shapes[objective](p) for p in rates)

    gradient = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[place] = 1e-3
        # Fourth order: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h.
        near = value(logits + step) - value(logits - step)
        far = value(logits + 2 * step) - value(logits - 2 * step)
        gradient[place] = (8 * near - far) / 12e-3
    return gradient
