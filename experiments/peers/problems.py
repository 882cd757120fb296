"""The three problems that every peer solves, and what it hands back.

A peer trains `looks` times `steps` updates and looks at the policy after each stretch. The reward
of a look is the expected reward of the policy then, not that of one noisy draw.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

HALF = 0.5  # the pass rate at which one token is learned


class TenArmed(NamedTuple):
    """Sutton & Barto's testbed: arm means from N(0, 1), noise N(0, 1), gradient bandit, batch 1.

    Conditions: each learning rate with the running mean of earlier rewards as baseline, and
    without one.
    """

    runs: int = 2000
    steps: int = 100
    looks: int = 10
    num_arms: int = 10
    rates: tuple[float, ...] = (0.1, 0.4)
    baselines: tuple[float, ...] = (1.0, 0.0)

    def conditions(self) -> tuple[np.ndarray, np.ndarray]:
        """Learning rates [C] and whether there is a baseline [C]: 1 or 0."""
        pairs = [(rate, baseline) for baseline in self.baselines for rate in self.rates]
        rates, baselines = np.array(pairs, np.float32).T
        return rates, baselines

    def units(self) -> int:
        """Pulls."""
        return len(self.conditions()[0]) * self.runs * self.steps * self.looks


class Guessing(NamedTuple):
    """Sequence guessing: L symbols out of V, each position told of its own match ("token").

    (With the reward `exact` one guess in V^L = 4e9 is right and nothing is learned.) REINFORCE with
    the batch mean as baseline, plain SGD.
    """

    seeds: int = 1024
    steps: int = 50
    looks: int = 10
    vocab_size: int = 16
    length: int = 8
    batch: int = 64
    rate: float = 0.25

    def units(self) -> int:
        """Tokens."""
        return self.seeds * self.steps * self.looks * self.batch * self.length


class OneToken(NamedTuple):
    """One token of V, arm 0 right, learned to pass rate 1/2 from groups of guesses.

    `group` 1 is REINFORCE without a baseline, more is GRPO: (r - mean) / std of the group. A seed
    is frozen once it is there. `looks` 0: until all seeds are there.
    """

    vocab_size: int = 100
    group: int = 1
    rate: float = 1.0
    seeds: int = 256
    steps: int = 100
    looks: int = 0

    def units(self) -> int:
        """Guesses, where their number is fixed."""
        return self.seeds * self.steps * self.looks * self.group

    def stretches(self) -> Iterator[int]:
        """Numbers of the stretches; without end where `looks` is 0."""
        number = 0
        while self.looks == 0 or number < self.looks:
            yield number
            number += 1

    def expected_guesses(self) -> float:
        """Guesses to pass rate 1/2 on average, for REINFORCE: the sum of 1/p along its path.

        Every seed walks the same path, since a wrong guess changes nothing; only the waits differ.
        """
        if self.group > 1:
            raise ValueError("the path of GRPO is random; its mean has no closed form")
        wrong = self.vocab_size - 1
        lead, total = 0.0, 0.0  # of the right logit over the others
        while (p := 1 / (1 + wrong * np.exp(-lead))) < HALF:
            total += 1 / p
            lead += self.rate * (1 - p) * (1 + 1 / wrong)
        return total


class Curves(NamedTuple):
    """What a peer hands back, per condition C, seed N and look T."""

    pass_rate: np.ndarray  # [C, N, T] probability of the best arm, or of the whole answer
    reward: np.ndarray  # [C, N, T] expected reward
    guesses: np.ndarray | None = None  # [N] to pass rate 1/2, one token only; NaN: not there
