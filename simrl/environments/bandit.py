"""Bandits: one choice among K arms, one reward.

Kinds: `one_right` pays 1 for one arm, or any of `num_right`, and 0 elsewhere ("The sky is ..."
with K words); `gaussian`
draws arm means from N(mean, spread^2) and adds N(0, noise^2) to each reward (Sutton & Barto 2018,
section 2.3); `bernoulli` draws success probabilities uniformly from [0, 1], or takes them from
`rewards`, and pays 0 or 1; `given` takes the arm means from `rewards`, the same for every seed, and
adds N(0, noise^2).
With several contexts each is a bandit of its own, drawn uniformly and shown as the prompt.
The right answer is the best arm, or each of those that tie. A `noisy` verifier turns rewards of 0
or 1 over now and then (simrl.environments.verifiers); right stays what is right.
"""

import math
import numbers
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from simrl import columns, keys
from simrl.environments import verifiers
from simrl.records import readable
from simrl.types import Array, Environment, Outcome, Prior, Shape, Verifier

Kinds = Literal["one_right", "gaussian", "bernoulli", "given"]
KINDS = get_args(Kinds)
DRAWN = ("gaussian", "bernoulli")  # kinds whose arms are drawn, context by context
BY_REWARDS = ("given", "bernoulli")  # kinds that take the arm means from `rewards`


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bandit:
    """A K-armed bandit: answers of one token, whose symbols are the arms.

    Attributes:
        kind: how the arms pay: "one_right" 1 or 0; "gaussian" and "given" with normal noise, by
            means that are drawn or `rewards`; "bernoulli" 1 or 0, by means of either kind.
        num_arms: K.
        num_contexts: M, contexts with arms of their own, for kinds whose arms are drawn.
        rewards: the mean reward of each arm, K numbers; (): they are drawn for each seed.
        num_right: arms that are right, of "one_right"; counted where `rewards` are given.
        mean: of the distribution of the arms' means; the prior of Thompson sampling too.
        spread: its standard deviation.
        noise: standard deviation of a reward given its arm, of "gaussian" and "given".
        verifier: "exact", or "noisy": turns 0/1 rewards over.
        false_positive: probability that a noisy verifier tells a 0 as 1.
        false_negative: probability that it tells a 1 as 0.
    """

    kind: Kinds = field(default="one_right", metadata={"static": True})
    num_arms: int = field(default=10, metadata={"static": True})
    num_contexts: int = field(default=1, metadata={"static": True})
    rewards: tuple[float, ...] = ()
    num_right: int = field(default=1, metadata={"static": True})
    mean: float = 0.0
    spread: float = 1.0
    noise: float = 1.0
    verifier: Literal["exact", "noisy"] = field(default="exact", metadata={"static": True})
    false_positive: float = 0.0
    false_negative: float = 0.0

    def __post_init__(self) -> None:
        """Counts the best of given arms: how many are right is structure, like their number."""
        if self.num_right == 1 and _are_numbers(self.rewards) and self.rewards:
            object.__setattr__(self, "num_right", self._num_best())

    def _num_best(self) -> int:
        best = max(self.rewards)
        return sum(reward == best for reward in self.rewards)

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = []
        if self.kind not in KINDS:
            found.append(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.num_arms < 2:
            found.append(f"num_arms must be at least 2, not {self.num_arms}")
        if not 1 <= self.num_right < max(self.num_arms, 2):
            found.append(
                f"num_right must be at least 1 and leave a wrong arm, not {self.num_right}"
            )
        if self.num_right > 1 and self.kind != "one_right" and not self.rewards:
            found.append(f"num_right above 1 needs the kind one_right, not {self.kind}")
        if self.spread < 0 or self.noise < 0:
            found.append("spread and noise must not be negative")
        if self.kind in ("gaussian", "given") and self.verifier == "noisy":
            found.append(f"verifier noisy needs rewards of 0 or 1, not the kind {self.kind}")
        if self.num_contexts < 1:
            found.append(f"num_contexts must be at least 1, not {self.num_contexts}")
        if self.num_contexts > 1 and (self.kind not in DRAWN or self.rewards):
            given = " with rewards" if self.rewards else ""
            found.append(
                "num_contexts above 1 needs the kind gaussian or bernoulli, whose arms are drawn, "
                f"not {self.kind}{given}"
            )
        found += self._reward_problems()
        rates = self.false_positive, self.false_negative
        return found + verifiers.problems(self.verifier, *rates)

    def _reward_problems(self) -> list[str]:
        rewards = self.rewards
        if self.kind not in BY_REWARDS:
            return [f"rewards need the kind given or bernoulli, not {self.kind}"] if rewards else []
        if not rewards and self.kind != "given":
            return []
        if len(rewards) != self.num_arms:
            return [f"rewards must be num_arms = {self.num_arms} numbers, not {len(rewards)}"]
        if not _are_numbers(rewards) or not all(map(math.isfinite, rewards)):
            return [f"rewards must be finite numbers, not {rewards}"]
        if self.kind == "bernoulli" and not (min(rewards) >= 0 and max(rewards) <= 1):
            return [f"rewards of the kind bernoulli must be in 0 ... 1, not {rewards}"]
        if self.num_right != self._num_best():
            best = self._num_best()
            return [f"num_right must be {best}, as many as the best rewards, not {self.num_right}"]
        return []

    def build(self) -> Environment:
        """The environment."""
        shape = Shape(num_prompts=self.num_contexts, length=1, vocab_size=self.num_arms)
        if self.kind == "one_right":
            return _one_right(self, shape)
        return _best_arm(self, shape)


def _are_numbers(rewards: Any) -> bool:
    """Whether rewards are a row of numbers that are known: in a trace they are not."""
    row = isinstance(rewards, tuple | list)
    return row and all(isinstance(reward, numbers.Real) for reward in rewards)


def _first_prompt(word: Array, task: Array) -> Array:
    return jnp.int32(0)


def _verifier(spec: Bandit) -> Verifier | None:
    return verifiers.build(spec.verifier, spec.false_positive, spec.false_negative)


def _prior(spec: Bandit) -> Prior | None:
    """What is assumed of the arms of one context: the law they are drawn by, or given ones are not.

    What a verifier that errs passes is 0 or 1 too.
    """
    if spec.num_contexts > 1:
        return None
    if spec.kind in ("gaussian", "given"):
        return Prior("normal", spec.mean, spec.spread, spec.noise)
    return Prior("beta")


def _one_right(spec: Bandit, shape: Shape) -> Environment:
    """Right arms. Arms are exchangeable under every learner, so the first serve for all."""
    verifier, num = _verifier(spec), spec.num_right

    def reward(words: Array, task: Array, prompt: Array, answer: Array) -> Outcome:
        hit = (answer < num if num > 1 else answer == 0).astype(jnp.float32)
        told = hit if verifier is None else verifiers.verdict(words, hit, verifier)
        return Outcome(credit=told, success=hit[0])

    def reward_law(task: Array, prompt: Array) -> tuple[Array, Array]:
        right = jnp.arange(shape.vocab_size) < num
        return verifiers.law(right.astype(jnp.float32), verifier)

    return Environment(
        init=lambda key: jnp.int32(0),
        prompt=_first_prompt,
        label=lambda words, task, prompt: jnp.zeros_like(words, jnp.int32),
        reward=reward,
        target=lambda task, prompt: jax.nn.one_hot(jnp.zeros((1,), jnp.int32), shape.vocab_size),
        shape=shape,
        channel="exact",
        binary=True,
        matching=verifier is None and num == 1,
        verifier=verifier,
        trailing=True,
        right=(lambda task, prompt: jnp.arange(num)[:, None]) if num > 1 else None,
        reward_law=reward_law if num > 1 else None,
        prior=_prior(spec),
    )


def _means(spec: Bandit, key: Array) -> Array:
    """Returns the mean rewards of the arms [K], or [M, K] of contexts: drawn, or those given."""
    if spec.rewards:
        return jnp.stack([jnp.asarray(reward, float) for reward in spec.rewards])
    # The same words as `keys.words`, in a form XLA cannot fuse: fused into the argmax over a
    # multiple of 8 arms they kept its compiler busy for ever.
    shape = (spec.num_contexts, spec.num_arms)[spec.num_contexts == 1 :]
    draw = jax.random.bits(key, shape, jnp.uint32)
    if spec.kind == "gaussian":
        return spec.mean + spec.spread * keys.normal(draw)
    return keys.uniform(draw)


def _best_arm(spec: Bandit, shape: Shape) -> Environment:
    """Arms with real-valued means: the task is the vector of means [K], or [M, K] of contexts."""
    contexts, _, num_arms = shape
    gaussian = spec.kind in ("gaussian", "given")
    verifier = _verifier(spec)  # of a Bernoulli arm: its coin and the verifier's are one coin

    def arms(task: Array, prompt: Array) -> Array:
        return task if contexts == 1 else task[prompt]

    def prompt_of(word: Array, task: Array) -> Array:
        return keys.below(word, contexts) if contexts > 1 else jnp.int32(0)

    def reward(words: Array, task: Array, prompt: Array, answer: Array) -> Outcome:
        means = arms(task, prompt)
        mean = columns.entry(means, answer)
        if gaussian:
            credit = mean + spec.noise * keys.normal(words)
        elif verifier is not None:
            passed = verifiers.happens(words, verifiers.pass_chance(mean, verifier))
            credit = passed.astype(jnp.float32)
        else:
            credit = (keys.uniform(words) < mean).astype(jnp.float32)
        if spec.num_right == 1:
            best = answer[0] == jnp.argmax(means, axis=0)
        else:
            best = mean[0] == jnp.max(means, axis=0)
        return Outcome(credit=credit, success=best.astype(jnp.float32))

    def reward_law(task: Array, prompt: Array) -> tuple[Array, Array]:
        means = arms(task, prompt)
        if gaussian:
            return means, jnp.full_like(means, spec.noise**2)
        chance = means if verifier is None else verifiers.pass_chance(means, verifier)
        return chance, chance * (1 - chance)

    def label(words: Array, task: Array, prompt: Array) -> Array:
        return jnp.argmax(arms(task, prompt), axis=0)[None].astype(jnp.int32)

    def right(task: Array, prompt: Array) -> Array:
        return jax.lax.top_k(arms(task, prompt), spec.num_right)[1][:, None]

    def target(task: Array, prompt: Array) -> Array:
        return jax.nn.one_hot(jnp.argmax(arms(task, prompt))[None], num_arms)

    return Environment(
        init=partial(_means, spec),
        prompt=prompt_of,
        label=label,
        reward=reward,
        target=target,
        shape=shape,
        reward_law=reward_law,
        binary=not gaussian,
        trailing=True,
        by_prompt=contexts > 1,
        right=right if spec.num_right > 1 else None,
        prior=_prior(spec),
    )
