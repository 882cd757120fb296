"""NumPy over all seeds at once: gradients by hand, answers by the inverse of the CDF, float32.

Seeds lie on the trailing axis, where NumPy's inner loops are longest.
"""

import numpy as np

from experiments.peers.problems import HALF, Curves, Guessing, OneToken, TenArmed


def softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    """Probabilities along an axis."""
    weights = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def ten_armed(problem: TenArmed, seed: int) -> Curves:
    """The score of the arm that was pulled is onehot - probs."""
    rng = np.random.default_rng(seed)
    rates, baselines = (np.repeat(x, problem.runs) for x in problem.conditions())
    runs = np.arange(len(rates))
    means = rng.standard_normal((problem.num_arms, len(runs)), np.float32)
    best = means.argmax(axis=0)
    logits, probs = np.zeros_like(means), np.full_like(means, 1 / problem.num_arms)
    mean_reward, looks = np.zeros(len(runs), np.float32), []
    for step in range(problem.looks * problem.steps):
        uniform = rng.random(len(runs), np.float32)
        arm = (np.cumsum(probs, axis=0)[:-1] <= uniform).sum(axis=0)
        reward = means[arm, runs] + rng.standard_normal(len(runs), np.float32)
        earlier = reward if step == 0 else mean_reward
        push = rates * (reward - baselines * earlier)
        logits -= push * probs
        logits[arm, runs] += push
        mean_reward += (reward - mean_reward) / (step + 1)
        probs = softmax(logits, axis=0)
        if (step + 1) % problem.steps == 0:
            looks.append((probs[best, runs], (probs * means).sum(axis=0)))
    shape = (-1, problem.runs, problem.looks)
    return Curves(*(np.stack(x, axis=-1).reshape(shape) for x in zip(*looks, strict=True)))


def guessing(problem: Guessing, seed: int) -> Curves:
    """Weights of a batch sum to 0 at each position, so the score's -probs drops out."""
    rng = np.random.default_rng(seed)
    size = (problem.length, problem.seeds)
    places = np.arange(problem.length * problem.seeds).reshape(size)
    secret = rng.integers(problem.vocab_size, size=size, dtype=np.uint8)
    logits, looks = np.zeros((problem.vocab_size, *size), np.float32), []
    probs = softmax(logits, axis=0)
    for step in range(problem.looks * problem.steps):
        edges = np.cumsum(probs, axis=0)
        uniform = rng.random((problem.batch, *size), np.float32)
        answer = np.zeros(uniform.shape, np.uint8)
        for edge in edges[:-1]:
            answer += uniform >= edge
        reward = (answer == secret).astype(np.float32)
        weight = reward - reward.mean(axis=0)
        cells = answer * np.int64(places.size) + places
        score = np.bincount(cells.ravel(), weight.ravel(), minlength=logits.size)
        logits += problem.rate / problem.batch * score.reshape(logits.shape).astype(np.float32)
        probs = softmax(logits, axis=0)
        if (step + 1) % problem.steps == 0:
            right = np.take_along_axis(probs, secret[None].astype(np.int64), axis=0)[0]
            looks.append((right.prod(axis=0), right.mean(axis=0)))
    return Curves(*(np.stack(x, axis=-1)[None] for x in zip(*looks, strict=True)))


def one_token(problem: OneToken, seed: int) -> Curves:
    """Every guess is sampled, by one search over the CDFs of all seeds laid end to end."""
    rng = np.random.default_rng(seed)
    rows = np.arange(problem.seeds)[:, None]
    logits = np.zeros((problem.seeds, problem.vocab_size), np.float32)
    probs, guesses, looks = softmax(logits, axis=1), np.zeros(problem.seeds), []
    for _ in problem.stretches():
        for _ in range(problem.steps):
            there = probs[:, 0] >= HALF
            edges = np.cumsum(probs, axis=1, dtype=np.float64)
            uniform = rng.random((problem.seeds, problem.group)) * edges[:, -1:]
            places = np.searchsorted((edges + 2 * rows).ravel(), uniform + 2 * rows, side="right")
            answer = places - rows * problem.vocab_size
            weight = (answer == 0).astype(np.float32)
            if problem.group > 1:
                spread = weight.std(axis=1, keepdims=True)
                weight = (weight - weight.mean(axis=1, keepdims=True)) / np.where(spread, spread, 1)
            weight *= ~there[:, None] * np.float32(problem.rate / problem.group)
            logits -= weight.sum(axis=1, keepdims=True) * probs
            np.add.at(logits, (rows, answer), weight)
            guesses += np.where(there, 0, problem.group)
            probs = softmax(logits, axis=1)
        looks.append(probs[:, 0])
        if looks[-1].min() >= HALF:
            break
    found = np.stack(looks, axis=-1)[None]
    return Curves(found, found, np.where(found[0, :, -1] >= HALF, guesses, np.nan))
