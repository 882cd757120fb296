"""Noisy labels and verifiers by listing: every truth, every label drawn, every report.

Joint tables {(truth, heard): probability}, to be read by `tests.oracles.information`. Floats or
Decimals. Nothing here knows a formula of simrl.
"""

import itertools
import math
from collections import defaultdict

import numpy as np

from tests.oracles.information import (
    belief,
    list_answers,
    message,
    mutual_information,
    pointwise_information,
)


def confusions(seed, shape):
    """A random confusion [..., V, V] for beliefs of `shape`, some labels never shown."""
    rng = np.random.default_rng(seed)
    size = shape[-1]
    noise = rng.dirichlet(np.ones(size), shape) * rng.integers(0, 2, (*shape, size))
    rows = noise + rng.uniform(0.2, 2.0) * np.eye(size)
    return rows / rows.sum(-1, keepdims=True)


def labels(truth, confusion):
    """(label, probability) of every label a truth can be shown as; certain without a confusion."""
    if confusion is None:
        yield truth, 1
        return
    for label in list_answers(len(truth), len(confusion[0])):
        shown = zip(confusion, truth, label, strict=True)
        yield label, math.prod(rows[y][a] for rows, y, a in shown)


def reports(heard, false_positive, false_negative):
    """(report, probability) of a verdict, or of each in a tuple of verdicts."""
    if isinstance(heard, tuple):
        each = [list(reports(verdict, false_positive, false_negative)) for verdict in heard]
        for chosen in itertools.product(*each):
            yield tuple(report for report, _ in chosen), math.prod(p for _, p in chosen)
    elif isinstance(heard, bool):
        passes = 1 - false_negative if heard else false_positive
        yield from ((True, passes), (False, 1 - passes))
    else:
        yield heard, 1


def label_table(prior, confusion):
    """P(truth, label shown)."""
    table = defaultdict(int)
    for truth, p in prior.items():
        for label, q in labels(truth, confusion):
            table[truth, label] += p * q
    return table


def guess_table(prior, guess, channel, confusion=None, false_positive=0, false_negative=0):
    """P(truth, report on one given guess compared with a fresh label)."""
    table = defaultdict(int)
    for truth, p in prior.items():
        for label, q in labels(truth, confusion):
            heard = message(channel, guess, label)
            for report, r in reports(heard, false_positive, false_negative):
                table[truth, report] += p * q * r
    return table


def both(table, truth):
    """(expected, realised) bits of a joint table."""
    return mutual_information(table), pointwise_information(table, truth)


def on_policy(prior, truth, channel, *noise):
    """(expected, realised) bits, averaged over guesses drawn from the belief."""
    tables = {guess: guess_table(prior, guess, channel, *noise) for guess, p in prior.items() if p}
    told = {guess: both(table, truth) for guess, table in tables.items()}
    return [sum(prior[guess] * bits[i] for guess, bits in told.items()) for i in range(2)]


def mass(law, answers):
    """Probability that a draw from a factorised belief is one of the answers."""
    return sum(p for answer, p in belief(law).items() if answer in set(answers))
