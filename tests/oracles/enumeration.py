"""Truth by listing everything: every answer, every label, every batch. NumPy only.

Nothing here knows a formula: scores, rewards, advantages and covariances are computed by their
definitions, in float64 or, with an object array of `fractions.Fraction`, without any rounding.
"""

import itertools
from typing import NamedTuple

import numpy as np

REWARDS = ("exact", "fraction", "prefix", "token", "reward_to_go")


class Samples(NamedTuple):
    """Every possible sample of a world."""

    weight: np.ndarray  # [N] probability
    score: np.ndarray  # [N, L, V] gradient of log pi(answer) by the logits
    credit: np.ndarray  # [N, L] reward given to each position


class Truth(NamedTuple):
    """Moments of an estimator, by listing its values."""

    mean: np.ndarray  # [L, V]
    trace_covariance: float
    squared_norm: float


def answers(length, vocab_size):
    return list(itertools.product(range(vocab_size), repeat=length))


def probability(probs, answer):
    product = 1
    for row, symbol in zip(probs, answer, strict=True):
        product = product * row[symbol]
    return product


def score(probs, answer):
    result = -probs
    for t, symbol in enumerate(answer):
        result[t, symbol] = result[t, symbol] + 1
    return result


def credit(answer, label, reward, unit=1):
    """Reward of each position; `unit` is the number one, of the type to compute in."""
    length = len(answer)
    hits = [unit * int(a == b) for a, b in zip(answer, label, strict=True)]
    if reward == "exact":
        return [unit * int(tuple(answer) == tuple(label))] * length
    if reward == "fraction":
        return [sum(hits) / (unit * length)] * length
    if reward == "prefix":
        matched = 0
        while matched < length and answer[matched] == label[matched]:
            matched += 1
        return [unit * matched / length] * length
    if reward == "token":
        return hits
    if reward == "reward_to_go":
        return [sum(hits[t:]) for t in range(length)]
    raise ValueError(reward)


def sequence_samples(probs, target, reward):
    """Every guess, with every label it may be compared with; target [L] int or a law [L, V]."""
    length, vocab_size = probs.shape
    unit = probs[0, 0] * 0 + 1
    target = np.asarray(target)
    if target.ndim == 1:
        labels = [(unit, tuple(target))]
    else:
        labels = [(probability(target, label), label) for label in answers(length, vocab_size)]
    rows = [
        (
            probability(probs, answer) * chance,
            score(probs, answer),
            credit(answer, label, reward, unit),
        )
        for answer in answers(length, vocab_size)
        for chance, label in labels
    ]
    weight, scores, credits = zip(*rows, strict=True)
    return Samples(np.array(weight), np.array(scores), np.array(credits))


def bandit_samples(probs, rewards, reward_variance):
    """Every arm, its reward a fair coin between mean - deviation and mean + deviation."""
    deviation = np.sqrt(np.asarray(reward_variance))
    rows = [
        (probs[arm] / 2, score(probs[None], (arm,)), [rewards[arm] + sign * deviation[arm]])
        for arm in range(len(probs))
        for sign in (-1, 1)
    ]
    weight, scores, credits = zip(*rows, strict=True)
    return Samples(np.array(weight), np.array(scores), np.array(credits))


def label_samples(probs, law):
    """Supervised: every label, with a weight of one on its score."""
    rows = [
        (probability(law, label), score(probs, label), [1.0] * len(probs))
        for label in answers(*probs.shape)
    ]
    weight, scores, credits = zip(*rows, strict=True)
    return Samples(np.array(weight), np.array(scores), np.array(credits))


def advantage_weights(rewards, advantage):
    """Weights [..., B] of the score terms for rewards [..., B], by definition.

    `advantage` is a name, or a number: a constant baseline.
    """
    size = rewards.shape[-1]
    total = rewards.sum(axis=-1, keepdims=True)
    if advantage == "none":
        return rewards
    if advantage == "group_mean":
        return rewards - total / size
    if advantage == "leave_one_out":
        return rewards - (total - rewards) / (size - 1)
    if advantage == "group_normalised":
        std = rewards.std(axis=-1, keepdims=True)
        return np.where(std > 1e-9, (rewards - total / size) / np.where(std > 1e-9, std, 1), 0)
    if advantage == "maxrl":
        return np.where(total > 0, size * rewards / np.where(total > 0, total, 1), 0)
    return rewards - advantage


def batches(samples, batch_size):
    """Probability [M] of every batch, and the sample [M, B] at each of its places."""
    index = np.array(list(itertools.product(range(len(samples.weight)), repeat=batch_size)))
    return samples.weight[index].prod(axis=-1), index


def gradient(samples, index, advantage):
    """The estimate [M, L, V] of every batch: (1/B) sum of weight times score."""
    size = index.shape[-1]
    rewards = np.moveaxis(samples.credit[index], 1, -1)  # [M, L, B]
    weights = np.moveaxis(advantage_weights(rewards, advantage), -1, 1)  # [M, B, L]
    terms = weights[..., None] * samples.score[index]
    return terms.sum(axis=1) / size


def batch_truth(samples, batch_size, advantage):
    """Moments of the estimator over every batch."""
    chance, index = batches(samples, batch_size)
    values = gradient(samples, index, advantage)
    chance = chance[:, None, None]
    mean = (chance * values).sum(axis=0)
    trace = (chance * (values - mean) ** 2).sum()
    return Truth(mean, trace, (mean**2).sum())


def group_truth(samples, batch_size):
    """Probability of a batch of equal rewards, and of one without reward; binary rewards."""
    chance, index = batches(samples, batch_size)
    rewards = samples.credit[index][..., 0]
    equal = (rewards == rewards[:, :1]).all(axis=1)
    return chance[equal].sum(), chance[(rewards == 0).all(axis=1)].sum()
