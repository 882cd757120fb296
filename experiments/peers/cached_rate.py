"""One token by a simulator made for it: keep the pass rate, draw Bernoullis until one is right.

While no guess of a group tells anything the policy stays as it is, and so does its pass rate: the
guesses between two updates are Bernoullis of a known chance. Only an update looks at all V logits.
"""

import numpy as np

from experiments.peers.problems import HALF, Curves, OneToken

BLOCK = 4096  # groups drawn at once, at most


def one_token(problem: OneToken, seed: int) -> Curves:
    """Seeds one after the other, each to pass rate 1/2; `looks` and `steps` are not read."""
    rngs = np.random.default_rng(seed).spawn(problem.seeds)
    ends = [_one(problem, rng) for rng in rngs]
    pass_rate, guesses = (np.array(x, np.float64) for x in zip(*ends, strict=True))
    return Curves(pass_rate[None, :, None], pass_rate[None, :, None], guesses)


def _one(problem: OneToken, rng: np.random.Generator) -> tuple[float, int]:
    """Pass rate at the end and guesses spent."""
    size = problem.group
    logits, guesses = np.zeros(problem.vocab_size), 0
    while True:
        probs = np.exp(logits - logits.max())
        probs /= probs.sum()
        if probs[0] >= HALF:
            return float(probs[0]), guesses
        groups, hits = _wait(float(probs[0]), size, rng)
        guesses += groups * size
        if size == 1:
            logits -= problem.rate * probs
            logits[0] += problem.rate
            continue
        # Weights of a group sum to 0, so the score's -probs drops out.
        mean = hits / size
        unit = problem.rate / size / np.sqrt(mean * (1 - mean))
        logits[0] += unit * hits * (1 - mean)
        edges = np.cumsum(probs[1:])
        uniform = rng.random(size - hits) * edges[-1]
        wrong = 1 + np.searchsorted(edges, uniform, side="right")
        np.add.at(logits, wrong, -unit * mean)


def _wait(p: float, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Groups until one leaves a gradient, itself included, and its number of right guesses."""
    dead, block = 0, int(np.clip(2 / (p * size), 16, BLOCK))
    while True:
        hits = np.count_nonzero(rng.random((block, size)) < p, axis=1)
        live = (hits > 0) & ((hits < size) | (size == 1))
        first = int(live.argmax())
        if live[first]:
            return dead + first + 1, int(hits[first])
        dead += block
