"""What is learned: the prompts, labels and rewards of an environment, for one seed and one sample.

Letters used for shapes: see simrl.types, where these names are found too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Task = Any


class Shape(NamedTuple):
    """The size of an environment. Static: it fixes the shapes of every array.

    Attributes:
        num_prompts: M, how many prompts (contexts) there are.
        length: L, positions (tokens) of an answer.
        vocab_size: V, symbols (arms) at each position.
    """

    num_prompts: int
    length: int
    vocab_size: int


class Outcome(NamedTuple):
    """The reward of one answer.

    Attributes:
        credit: [L] float, the reward of each position; a reward of the whole answer is repeated.
        success: [] float, 1 if the whole answer is right, else 0: what the pass rate counts.
    """

    credit: Array
    success: Array


class Verifier(NamedTuple):
    """The error rates of the verifier of a 0/1 reward, independent each time; their sum is below 1.

    Attributes:
        false_positive: [] alpha, the probability that a wrong answer passes.
        false_negative: [] beta, the probability that a right answer does not.
    """

    false_positive: Array | float
    false_negative: Array | float


class Prior(NamedTuple):
    """The distribution that the mean rewards of a bandit's arms are drawn from, each alone.

    Attributes:
        family: "normal": means N(mean, spread^2), rewards N(mean of the arm, noise^2). "beta":
            means Beta(right, wrong), rewards 0 or 1.
        mean: [] mean of the arms' means, of a normal prior.
        spread: [] their standard deviation.
        noise: [] standard deviation of a reward given its arm.
        right: [] successes that a beta prior counts beforehand.
        wrong: [] failures that it counts.
    """

    family: str
    mean: Array | float = 0.0
    spread: Array | float = 1.0
    noise: Array | float = 1.0
    right: Array | float = 1.0
    wrong: Array | float = 1.0


class Environment(NamedTuple):
    """A task drawn once per seed, then prompts, labels and rewards. The first six fields suffice.

    `words` are 32-bit random words, drawn once for a whole batch (a key per sample is 3 to 5 times
    slower); `simrl.keys.uniform` and `simrl.keys.normal` turn them into numbers.

    Attributes:
        init: key -> task, any pytree: the secret of one seed.
        prompt: (word [], task) -> prompt [] int32 in 0 ... M - 1.
        label: (words [L], task, prompt) -> answer [L] int32, as a teacher gives it.
        reward: (words [L], task, prompt, answer [L]) -> Outcome.
        target: (task, prompt) -> [L, V], the distribution of the label at each position.
        shape: M, L and V.
        channel: what the reward tells: a key of `simrl.measures.information.CHANNELS`. None: the
            bits that it tells are not measured, unless trying every answer shows an exact match.
        noisy: labels are drawn from `target`, not fixed by it.
        reward_law: (task, prompt) -> mean [V] and variance [V] of the reward of each arm; L = 1.
        label_channel: (task, prompt) -> [L, V, V], the distribution of a label at each position
            given each possible truth.
        binary: every credited reward is 0 or 1.
        matching: every position is paid 1 for the symbol of `label`, else 0, without luck.
        verifier: the error rates of the verifier of a 0/1 reward. None: it never errs.
        trailing: `label` and `reward` work along the first axis alone, so that words, answers
            [L, B, N] and tasks [..., 1, N] may have more axes behind it: what the fused engine
            needs.
        right: (task, prompt) -> the right answers [A, L] where there are several; `exact` rewards.
        by_prompt: every leaf of a task has the prompts on its first axis, and `label`, `reward`
            and their distributions read the row of theirs alone: what the fused engine needs of
            several prompts.
        prior: that of the arms, where counts of pulls and rewards are a sufficient statistic.
        allowed: (task, prompt) -> [L, V] bool, symbols that the prompt does not rule out; for
            tables of logits.
        prompt_law: task -> [M], the distribution of prompts. None: uniform.
    """

    init: Callable[[Array], Task]
    prompt: Callable[[Array, Task], Array]
    label: Callable[[Array, Task, Array], Array]
    reward: Callable[[Array, Task, Array, Array], Outcome]
    target: Callable[[Task, Array], Array]
    shape: Shape
    channel: str | None = None
    noisy: bool = False
    reward_law: Callable[[Task, Array], tuple[Array, Array]] | None = None
    label_channel: Callable[[Task, Array], Array] | None = None
    binary: bool = False
    matching: bool = False
    verifier: Verifier | None = None
    trailing: bool = False
    right: Callable[[Task, Array], Array] | None = None
    by_prompt: bool = False
    prior: Prior | None = None
    allowed: Callable[[Task, Array], Array] | None = None
    prompt_law: Callable[[Task], Array] | None = None
