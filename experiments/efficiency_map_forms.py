"""Closed forms of the efficiency map, in float64 NumPy, for policies whose wrong answers are alike.

A supervised learner, and REINFORCE without a baseline under a right/wrong reward, keep it so: both
make the same step, one on every sample, the other on each success. So they visit the same states,
and REINFORCE waits 1/p samples in each. Positions of a sequence are alike as well.
"""

from math import comb
from typing import Any, NamedTuple

import numpy as np

Values = Any  # float64, [...] or one number
FLOPS_RATIO = 8 / 6  # FLOPs of a sample, policy gradient over supervised (2N/4N convention)


class World(NamedTuple):
    """A task with one right answer of `length` symbols out of `num_symbols`."""

    num_symbols: int
    length: int = 1
    reward: str = "exact"


def label_bits(p: Values) -> Values:
    """Returns the bits [...] of a label at pass rates p [...], nominal and pointwise: -log2 p."""
    return -np.log2(p)


def reward_bits(p: Values) -> Values:
    """Returns the nominal bits [...] of a right/wrong reward: the binary entropy of p [...]."""
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def pointwise_reward_bits(p: Values, world: World) -> Values:
    """Returns -p log2 p - sum of q log2(1 - q) over wrong answers [...], bits per trajectory.

    With a reward for each symbol, positions add up.
    """
    right = p ** (1 / world.length)
    wrong = (1 - right) / (world.num_symbols - 1)
    if world.reward == "token":
        return world.length * _outcome_bits(right, [(world.num_symbols - 1, wrong)])
    others = []
    for missed in range(1, world.length + 1):
        times = comb(world.length, missed) * (world.num_symbols - 1) ** missed
        others.append((times, right ** (world.length - missed) * wrong**missed))
    return _outcome_bits(p, others)


def _outcome_bits(p: Values, others: list[tuple[int, Values]]) -> Values:
    """Pointwise bits of an outcome; `others`: how many wrong answers have which probability."""
    bits = -p * np.log2(p)
    for times, q in others:
        bits = bits - times * q * np.log1p(-q) / np.log(2)
    return bits


def noise_scale(p: Values, num_symbols: int, baseline: bool) -> Values:
    """Returns tr Cov / |mean|^2 [...] of the gradient (r - b)(e - pi) of one answer of one symbol.

    b is 0, or p with `baseline`.
    """
    q = (1 - p) / (num_symbols - 1)
    right = (1 - p) ** 2 + (num_symbols - 1) * q**2  # |e - pi|^2 of the right answer
    wrong = (1 - q) ** 2 + p**2 + (num_symbols - 2) * q**2
    b = p if baseline else 0.0
    second = p * (1 - b) ** 2 * right + (1 - p) * b**2 * wrong
    return second / (p**2 * right) - 1


def log_odds_step(p: Values, num_symbols: int, rate: Values) -> Values:
    """Returns the gain in log-odds [...], nats, by one gradient step on the right answer."""
    return rate * ((1 - p) + (1 - p) / (num_symbols - 1))


def learned_bits(p: Values, num_symbols: int, rate: Values) -> Values:
    """Returns log2 p'/p [...] of one gradient step on the right answer, bits."""
    odds = np.log(p / (1 - p)) + log_odds_step(p, num_symbols, rate)
    return -(np.logaddexp(0, -odds) / np.log(2)) - np.log2(p)


def path(rate: float, num_symbols: int, threshold: float) -> np.ndarray:
    """Returns the pass rates [K] before each of the K right samples that lead to `threshold`."""
    p, visited = 1 / num_symbols, []
    while p < threshold:
        visited.append(p)
        odds = np.log(p / (1 - p)) + log_odds_step(p, num_symbols, rate)
        p = 1 / (1 + np.exp(-odds))
    return np.array(visited)


def sample_ratio(rate: float, num_symbols: int, threshold: float) -> float:
    """Returns the samples of REINFORCE over those of a supervised learner, one per update.

    Each right answer takes 1/p rollouts, so the ratio is the mean of 1/p over the states.
    """
    return float(np.mean(1 / path(rate, num_symbols, threshold)))


def bits_per_flop_ratio(p: float, num_symbols: int, batch: int, rate: float) -> float:
    """Returns learned bits per FLOP (2N/4N), supervised over REINFORCE, of an update at p.

    Of `batch` samples each, at `rate` nats a sample. (8/6)/p where steps are small, or the batch 1;
    a batch whose step is large brings both to the answer.
    """
    right = np.arange(batch + 1)
    chance = np.array([comb(batch, k) for k in right]) * p**right * (1 - p) ** (batch - right)
    guessed = (chance * learned_bits(p, num_symbols, rate * right)).sum()
    labelled = learned_bits(p, num_symbols, rate * batch)
    return float(FLOPS_RATIO * labelled / guessed)


def overlap(p: float, num_symbols: int, batch: int) -> float:
    """Returns the share of its pointwise bits that is left to each of `batch` rollouts.

    Jointly they tell -log2 p if one is right, else -log2(1 - D q) where D different wrong answers
    were seen, each of probability q; D is set to its mean, since D q is small.
    """
    others = num_symbols - 1
    missed = (1 - p) ** batch
    seen = others * -np.expm1(batch * np.log1p(-1 / others))
    jointly = (1 - missed) * -np.log2(p) - missed * np.log2(1 - seen * (1 - p) / others)
    return float(jointly / batch / pointwise_reward_bits(p, World(num_symbols)))


def zipf_gap(num_symbols: int) -> float:
    """Returns KL(labels by Zipf's law || uniform policy), bits."""
    weights = 1 / np.arange(1, num_symbols + 1)
    probs = weights / weights.sum()
    return float(np.log2(num_symbols) + (probs * np.log2(probs)).sum())
