"""Sequence guessing: a secret answer in V^L for each of M prompts, told of in five ways.

Rewards of a guess y against a label y*: `exact` 1 if all positions match; `fraction` the share
that match; `prefix` (length of the matched prefix) / L; `token` each position told of its own
match; `reward_to_go` each position told of its own and all later matches.

Labels are `fixed` (always the secret) or `zipf`: every position is drawn anew from a Zipf law over
ranks, p(rank r) ~ r^-zipf_exponent, whose first rank is the secret's symbol. The reward compares
a guess with a fresh label; `success` always speaks of the secret itself.

Prompts may be of graded difficulty: the prompt itself tells the first `revealed[m]` symbols of the
answer to prompt m, or that only the first `vocab_sizes[m]` symbols come into question. A policy
that is a table knows what its prompt tells from the start (simrl.learners.updates.first_params);
tokens that are told are charged like the others. Prompts are drawn uniformly or by a Zipf law over
m, p(m) ~ (m + 1)^-frequency_exponent. A pass rate over prompts is their plain mean, whatever the
frequencies: the accuracy over the set, not the expected reward of a draw.

Where labels are fixed and rewards are 0 or 1, a `noisy` verifier turns them over now and then
(simrl.environments.verifiers): one coin for the whole answer, or one for each position of `token`.

Where labels are fixed and the reward is `exact`, `num_right` distinct answers to each prompt, drawn
uniformly, may be right: any of them is paid, and is a success.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from simrl import choices, keys, listing
from simrl.environments import verifiers
from simrl.records import readable
from simrl.types import Array, Environment, Outcome, Shape

Rewards = Literal["exact", "fraction", "prefix", "token", "reward_to_go"]
REWARDS = get_args(Rewards)
Labels = Literal["fixed", "zipf"]
LABELS = get_args(Labels)
Frequencies = Literal["uniform", "zipf"]
FREQUENCIES = get_args(Frequencies)


class Secrets(NamedTuple):
    """The task: what is drawn once per seed. Laws and tables are None where labels are fixed."""

    answers: Array  # [M, L] int32; the first of several
    laws: Array | None  # [M, L, V] label law
    tables: Array | None  # [M, L, V] int32, its inverse-CDF tables
    right: Array | None = None  # [M, A, L] int32, all right answers, if several are
    frequencies: Array | None = None  # [M] int32, inverse-CDF table of prompts not drawn uniformly


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sequence:
    """M prompts, each with a secret of L symbols out of V.

    Attributes:
        vocab_size: V, symbols at each position.
        length: L, positions of an answer.
        reward: what an answer is paid: "exact", "fraction", "prefix", "token" or "reward_to_go".
        labels: "fixed", or "zipf": drawn anew each time.
        num_prompts: M, prompts, each with a secret of its own.
        num_right: right answers to each prompt; above 1 for the reward "exact" alone.
        zipf_exponent: of the labels' distribution over ranks, for "zipf" labels.
        verifier: "exact", or "noisy": turns 0/1 rewards over.
        false_positive: probability that a noisy verifier tells a 0 as 1.
        false_negative: probability that it tells a 1 as 0.
        revealed: how many first symbols each prompt tells, M numbers; (): none.
        vocab_sizes: how many first symbols come into question, told by each prompt; (): all.
        frequencies: "uniform" or "zipf" distribution of the prompts.
        frequency_exponent: of that distribution, for "zipf" frequencies.
    """

    vocab_size: int = field(default=8, metadata={"static": True})
    length: int = field(default=3, metadata={"static": True})
    reward: Rewards = field(default="exact", metadata={"static": True})
    labels: Labels = field(default="fixed", metadata={"static": True})
    num_prompts: int = field(default=1, metadata={"static": True})
    num_right: int = field(default=1, metadata={"static": True})
    zipf_exponent: float = 1.0
    verifier: Literal["exact", "noisy"] = field(default="exact", metadata={"static": True})
    false_positive: float = 0.0
    false_negative: float = 0.0
    revealed: tuple[int, ...] = field(default=(), metadata={"static": True})
    vocab_sizes: tuple[int, ...] = field(default=(), metadata={"static": True})
    frequencies: Frequencies = field(default="uniform", metadata={"static": True})
    frequency_exponent: float = 1.0

    def of_labels(self) -> "Sequence":
        """The same world for whoever reads labels alone: with the rewards that all of those share.

        A verifier that errs is told of beside the labels, and so are its rewards.
        """
        return self if self.verifier == "noisy" else replace(self, reward="exact")

    @property
    def binary(self) -> bool:
        """Rewards are 0 or 1."""
        return self.reward in ("exact", "token") or self.length == 1

    @property
    def by_position(self) -> bool:
        """The reward of a position is 1 if its own symbol is right, else 0."""
        return self.reward == "token" or self.length == 1

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = []
        if self.reward not in REWARDS:
            found.append(f"reward must be one of {', '.join(REWARDS)}, not {self.reward!r}")
        if self.labels not in LABELS:
            found.append(f"labels must be one of {', '.join(LABELS)}, not {self.labels!r}")
        if self.vocab_size < 2:
            found.append(f"vocab_size must be at least 2, not {self.vocab_size}")
        if self.length < 1 or self.num_prompts < 1:
            found.append("length and num_prompts must be at least 1")
        if self.verifier == "noisy" and not self.binary:
            found.append(f"verifier noisy needs the reward exact or token, not {self.reward!r}")
        if self.verifier == "noisy" and self.labels != "fixed":
            found.append(f"verifier noisy needs fixed labels, not {self.labels!r}")
        rates = self.false_positive, self.false_negative
        found += verifiers.problems(self.verifier, *rates) + self._prompt_problems()
        return found or self._problems_of_several()

    def _problems_of_several(self) -> list[str]:
        """What is wrong with the number of right answers, where all else is well."""
        shape = Shape(self.num_prompts, self.length, self.vocab_size)
        if not 1 <= self.num_right < listing.num_answers(shape):
            return [f"num_right must be at least 1 and leave a wrong answer, not {self.num_right}"]
        if self.num_right == 1:
            return []
        if self.labels != "fixed" or (self.reward != "exact" and self.length > 1):
            return ["num_right above 1 needs fixed labels and the reward exact"]
        if self.revealed or self.vocab_sizes:
            return ["num_right above 1 needs prompts that rule out no symbols"]
        return listing.problems(shape, "num_right above 1")

    def _prompt_problems(self) -> list[str]:
        found = []
        ranges = {
            "revealed": (self.revealed, 0, self.length - 1),
            "vocab_sizes": (self.vocab_sizes, 2, self.vocab_size),
        }
        for name, (given, low, high) in ranges.items():
            whole = all(isinstance(n, int) and low <= n <= high for n in given)
            if given and (len(given) != self.num_prompts or not whole):
                found.append(
                    f"{name} must be {self.num_prompts} whole numbers in {low} ... {high}, one for "
                    f"each prompt, not {given}"
                )
        if (self.revealed or self.vocab_sizes) and self.labels != "fixed":
            found.append(f"revealed and vocab_sizes need fixed labels, not {self.labels!r}")
        for name in ("zipf_exponent", "frequency_exponent"):
            if getattr(self, name) < 0:
                found.append(f"{name} must not be negative, not {getattr(self, name)}")
        if self.frequencies not in FREQUENCIES:
            known = ", ".join(FREQUENCIES)
            found.append(f"frequencies must be one of {known}, not {self.frequencies!r}")
        return found

    def _frequencies(self) -> Array:
        return _zipf(jnp.arange(self.num_prompts), self.frequency_exponent)

    def _vocab_sizes(self) -> Array:
        """[M] int32."""
        return jnp.asarray(self.vocab_sizes or (self.vocab_size,) * self.num_prompts, jnp.int32)

    def _allowed(self, task: Secrets, prompt: Array) -> Array:
        symbols = jnp.arange(self.vocab_size)
        revealed = jnp.asarray(self.revealed or (0,) * self.num_prompts, jnp.int32)
        told = jnp.arange(self.length)[:, None] < revealed[prompt]
        mine = symbols == task.answers[prompt][:, None]
        return jnp.where(told, mine, symbols < self._vocab_sizes()[prompt])

    def _label_channel(self, task: Secrets, prompt: Array) -> Array:
        symbols = jnp.arange(self.vocab_size)
        law = _zipf((symbols - symbols[:, None]) % self.vocab_size, self.zipf_exponent)
        return jnp.broadcast_to(law, (self.length, *law.shape))

    def _init(self, key: Array) -> Secrets:
        """Draw the secrets of one seed."""
        law = None if self.frequencies == "uniform" else keys.cumulative(self._frequencies())
        if self.num_right > 1:
            shape = Shape(self.num_prompts, self.length, self.vocab_size)
            right = _subsets(keys.words(key, (self.num_prompts, self.num_right)), shape)
            return Secrets(right[:, 0], None, None, right, law)
        draw = keys.words(key, (self.num_prompts, self.length))
        sizes = self._vocab_sizes()[:, None] if self.vocab_sizes else self.vocab_size
        answers = keys.below(draw, sizes)
        if self.labels == "fixed":
            return Secrets(answers, None, None, None, law)
        # Rank 1 is the secret's symbol, rank 2 the next one, and so on around.
        rank = (jnp.arange(self.vocab_size) - answers[..., None]) % self.vocab_size
        laws = _zipf(rank, self.zipf_exponent)
        tables = jax.vmap(jax.vmap(keys.cumulative))(laws)
        return Secrets(answers, laws, tables, None, law)

    def build(self) -> Environment:
        """The environment; its task is a `Secrets`."""
        shape = Shape(self.num_prompts, self.length, self.vocab_size)
        noisy, several = self.labels == "zipf", self.num_right > 1
        even = self.frequencies == "uniform"
        graded = bool(self.revealed or self.vocab_sizes)
        verifier = verifiers.build(self.verifier, self.false_positive, self.false_negative)

        def target(task: Secrets, prompt: Array) -> Array:
            if task.laws is None:
                return jax.nn.one_hot(task.answers[prompt], self.vocab_size)
            return task.laws[prompt]

        def reward(words: Array, task: Secrets, prompt: Array, answer: Array) -> Outcome:
            if task.right is None:
                match = (answer == _label(words, task, prompt)).astype(jnp.float32)
                success = jnp.all(answer == task.answers[prompt], axis=0).astype(jnp.float32)
                paid = credit(match, self.reward)
            else:
                matches = jnp.all(answer == task.right[prompt], axis=1)
                success = jnp.any(matches, axis=0).astype(jnp.float32)
                paid = jnp.broadcast_to(success, answer.shape)
            if verifier is not None:
                coins = words if self.reward == "token" else words[:1]
                paid = verifiers.verdict(coins, paid, verifier)
            return Outcome(credit=paid, success=success)

        def prompt(word: Array, task: Secrets) -> Array:
            if task.frequencies is not None:
                whole = task.frequencies[-1]
                # `keys.choose`, in additions: the fused path takes it lane by lane.
                below = task.frequencies <= keys.threshold(word, whole)
                return jnp.sum(below, dtype=jnp.int32)
            # A constant where there is no choice: the compiler then drops the draw and the gathers.
            return keys.below(word, self.num_prompts) if self.num_prompts > 1 else jnp.int32(0)

        def reward_law(task: Secrets, prompt: Array) -> tuple[Array, Array]:
            paid = jnp.any(jnp.arange(self.vocab_size) == _right(task, prompt), axis=0)
            return verifiers.law(paid.astype(jnp.float32), verifier)

        return Environment(
            init=self._init,
            prompt=prompt,
            label=_label,
            reward=reward,
            target=target,
            shape=shape,
            channel=self.reward,
            noisy=noisy,
            label_channel=self._label_channel if noisy else None,
            binary=self.binary,
            matching=self.by_position and not noisy and not several and verifier is None,
            verifier=verifier,
            trailing=True,
            right=_right if several else None,
            reward_law=reward_law if several and self.length == 1 else None,
            by_prompt=True,
            allowed=self._allowed if graded else None,
            prompt_law=None if even else _prompt_law,
        )


def _label(words: Array, task: Secrets, prompt: Array) -> Array:
    if task.tables is None:
        return task.answers[prompt]
    return choices.chosen(words, task.tables[prompt])


def _right(task: Secrets, prompt: Array) -> Array:
    assert task.right is not None  # it is asked for with several alone
    return task.right[prompt]


def _prompt_law(task: Secrets) -> Array:
    """Probabilities [M] of the prompts."""
    assert task.frequencies is not None  # it is given with them alone
    weights = jnp.diff(task.frequencies, prepend=0)
    return weights / task.frequencies[-1]


def _zipf(rank: Array, exponent: float) -> Array:
    """Probabilities [..., V] of symbols by their rank, from 0."""
    return jax.nn.softmax(-exponent * jnp.log1p(rank.astype(jnp.float32)))


def _subsets(words: Array, shape: Shape) -> Array:
    """Distinct answers [M, A, L] int32, every set of A as likely, from words [M, A].

    Floyd's algorithm: the answer number N - A + i is taken where the draw out of those up to it
    has been taken before (Bentley & Floyd 1987, "A sample of brilliance").
    """
    most, (_, num) = listing.num_answers(shape), words.shape

    def subset(words: Array) -> Array:
        def take(i: Array, taken: Array) -> Array:
            last = most - num + i
            draw = keys.below(words[i], last + 1)
            return taken.at[i].set(jnp.where(jnp.any(taken == draw), last, draw))

        return jax.lax.fori_loop(0, num, take, jnp.full((num,), -1, jnp.int32))

    return listing.decode(jax.vmap(subset)(words), shape.length, shape.vocab_size)


def credit(match: Array, reward: str) -> Array:
    """Reward of each position from the matches of one guess, [L, ...] each."""
    length = match.shape[0]
    if reward == "token":
        return match
    if reward == "reward_to_go":
        return jnp.cumsum(match[::-1], axis=0)[::-1]
    if reward == "exact":
        total = jnp.prod(match, axis=0)
    elif reward == "fraction":
        total = jnp.mean(match, axis=0)
    else:
        total = jnp.sum(jnp.cumprod(match, axis=0), axis=0) / length
    return jnp.broadcast_to(total, match.shape)
