"""Bernoulli arms with Beta posteriors of whole numbers, in fractions: densities are polynomials.

Polynomials are lists of coefficients, the constant first.
"""

from fractions import Fraction
from math import factorial

import numpy as np


def times(p, q):
    product = [Fraction(0)] * (len(p) + len(q) - 1)
    for i, x in enumerate(p):
        for j, y in enumerate(q):
            product[i + j] += x * y
    return product


def integral(p):
    """From 0 on, as a polynomial of the end."""
    return [Fraction(0), *(x / (i + 1) for i, x in enumerate(p))]


def density(a, b):
    """That of Beta(a, b)."""
    p = [Fraction(factorial(a + b - 1), factorial(a - 1) * factorial(b - 1))]
    for factor, power in (([0, 1], a - 1), ([1, -1], b - 1)):
        for _ in range(power):
            p = times(p, [Fraction(x) for x in factor])
    return p


def best(arms):
    """P(A* = c) [K] and E[mean_a 1{A* = c}] [K][K] of arms (a, b)."""
    num = range(len(arms))
    densities = [density(*arm) for arm in arms]
    below = [integral(p) for p in densities]
    partial = [integral(times([Fraction(0), Fraction(1)], p)) for p in densities]
    chances, joint = [], [[Fraction(0)] * len(arms) for _ in num]
    for c in num:
        rest = [Fraction(1)]
        for b in num:
            rest = rest if b == c else times(rest, below[b])
        chances.append(sum(integral(times(densities[c], rest))))
        for a in num:
            inside = times([Fraction(0), Fraction(1)], densities[c]) if a == c else densities[c]
            for b in num:
                if b != c:
                    inside = times(inside, partial[b] if b == a else below[b])
            joint[a][c] = sum(integral(inside))
    return chances, joint


def prospect(arms):
    """Expected regret of a pull by Thompson sampling, and its bits about the best arm.

    The bits are what the entropy of the best arm falls by, on average over the arm and its reward.
    """
    chances, joint = best(arms)
    means = [Fraction(a, a + b) for a, b in arms]
    regret = sum(joint[c][c] for c in range(len(arms))) - sum(
        p * mean for p, mean in zip(chances, means, strict=True)
    )
    bits = 0.0
    for i, (chance, mean) in enumerate(zip(chances, means, strict=True)):
        for reward, told in ((1, mean), (0, 1 - mean)):
            a, b = arms[i]
            after = [*arms[:i], (a + reward, b + 1 - reward), *arms[i + 1 :]]
            bits += float(chance * told) * (entropy(chances) - entropy(best(after)[0]))
    return float(regret), bits


def entropy(chances):
    """Bits."""
    return -sum(float(p) * np.log2(float(p)) for p in chances)
