"""The Bayesian: it keeps the exact posterior over all answers, and guesses by it.

The ceiling of what feedback can teach: from a uniform prior, each guess multiplies the posterior by
the probability, under each possible truth, of what was told (exact, token, reward_to_go, fraction
or prefix; a verifier that errs by its rates, labels that are drawn anew by their law). With exact
match it crosses off refuted answers: of N it hits one after (N + 1)/2 guesses in the mean, and
knows it after (N + 1)/2 - 1/N (THEORY.md, section 2).

It has no parameters, follows no gradient, and leaves the policy of its spec unread. The 2N/4N
convention does not speak of it: it is charged 2 FLOPs for each answer and guess, the multiplication
and the addition of Bayes' rule. What it really does is counted from its program like all else.
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from simrl import keys as streams
from simrl import listing
from simrl.learners import rollouts, updates
from simrl.measures import messages, phases
from simrl.records import readable
from simrl.types import Array, Environment, Info, Learner, Policy, Task

GUESSES = ("best", "posterior")
TIE = 1e-4  # nats: answers so near the best are as good; rounding alone may part what is equal


class Posterior(NamedTuple):
    """The state: log-probabilities [M, N] of answers by their numbers, nats; -inf: refuted."""

    log_probs: Array


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bayesian:
    """Each update: `num_groups` prompts, `group_size` guesses to each, then Bayes' rule for all.

    `guess`: "best", the likeliest answer, ties broken at random, no answer twice in a group while
    another is possible; or "posterior", independent draws from the posterior (Thompson sampling).
    The uniform prior is the law of the secrets of `sequence` and of the `one_right` bandit. Labels
    by a Zipf law are ranked from a secret that is uniform: the law is how they are told of, known
    to all, and no prior; what is believed and known in the end is the secret.

    Attributes:
        guess: "best" or "posterior".
        group_size: B, answers to each prompt.
        num_groups: G, prompts of an update.
    """

    guess: Literal["best", "posterior"] = field(default="best", metadata={"static": True})
    group_size: int = field(default=1, metadata={"static": True})
    num_groups: int = field(default=1, metadata={"static": True})

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = []
        if self.guess not in GUESSES:
            found.append(f"guess must be one of {', '.join(GUESSES)}, not {self.guess!r}")
        if self.group_size < 1 or self.num_groups < 1:
            found.append("group_size and num_groups must be at least 1")
        return found

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Why it cannot learn in this world; None if it can."""
        if environment.channel is None or environment.right is not None:
            return "bayesian needs rewards that tell of one right answer"
        if environment.noisy and environment.label_channel is None:
            return "bayesian needs fixed labels, or their law given each answer"
        if environment.allowed is not None:
            return "bayesian needs prompts that rule out no symbols: its prior is uniform"
        return next(iter(listing.problems(environment.shape, "bayesian")), None)

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world."""
        num_prompts, length, vocab_size = environment.shape
        num_answers = listing.num_answers(environment.shape)
        groups, size = self.num_groups, self.group_size
        told_by = environment.channel or ""
        world = messages.World(length, vocab_size, told_by, environment.verifier)
        choose = _best if self.guess == "best" else _drawn

        def init(keys: Any) -> Posterior:
            return Posterior(jnp.zeros((num_prompts, num_answers)) - math.log(num_answers))

        labels = environment.label_channel if environment.noisy else None

        def log_likelihood(task: Task, prompt: Array, credit: Array, guesses: Array) -> Array:
            """[N] of everything that the guesses [B] were told, credit [B, L]."""
            law = messages.log_likelihood
            if labels is not None:
                law = partial(messages.noisy_log_likelihood, confusion=labels(task, prompt))

            def add(total: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
                said = messages.heard(one[0], world)
                return total + law(said, one[1], world, num_answers), None

            return jax.lax.scan(add, jnp.zeros(num_answers), (credit, guesses))[0]

        def step(keys: Any, state: Posterior, task: Task) -> tuple[Posterior, Info]:
            prompts = updates.draw_prompts(keys.prompt, environment, task, groups)
            words = updates.group_words(keys.sample, groups, size, length)
            guesses = jax.vmap(choose)(words[..., 0], state.log_probs[prompts])
            answers = listing.decode(guesses, length, vocab_size)
            noise = updates.group_words(keys.reward, groups, size, length)
            over_group = jax.vmap(partial(rollouts.verdict, environment), (0, None, None, 0))
            told = jax.vmap(over_group, (0, None, 0, 0))(noise, task, prompts, answers)
            evidence = jax.vmap(log_likelihood, (None, 0, 0, 0))(
                task, prompts, told.credit, guesses
            )
            after = state.log_probs.at[prompts].add(evidence)
            after = after - jax.nn.logsumexp(after, axis=1, keepdims=True)
            info = updates.report({}, prompts, answers, told.success, size)
            charge = jnp.asarray(phases.words_of(2 * num_answers * size))
            return Posterior(after), info._replace(flops=jnp.tile(charge, (groups, 1)))

        return Learner(
            init=init,
            step=step,
            belief=lambda state, prompt: state.log_probs[prompt][None],
            estimate=lambda keys, state, task: (),
            moments=None,
            kind="policy_gradient",
            batch_size=groups * size,
            has_gradient=False,
            listed=True,
            proposal=lambda state, prompt: (
                _log_best(state.log_probs[prompt])[None]
                if self.guess == "best"
                else state.log_probs[prompt][None]
            ),
        )


def _tied(log_probs: Array) -> Array:
    """[N] bool: no answer is likelier."""
    return log_probs >= jnp.max(log_probs) - TIE


def _log_best(log_probs: Array) -> Array:
    """Law [N] of the likeliest answer, ties broken at random, nats."""
    tied = _tied(log_probs)
    return jnp.where(tied, -jnp.log(jnp.sum(tied)), -jnp.inf)


def _best(words: Array, log_probs: Array) -> Array:
    """The likeliest answers [B] int32, one after the other, each left out once it is taken."""

    def take(left: Array, word: Array) -> tuple[Array, Array]:
        tied = _tied(jnp.where(jnp.max(left) > -jnp.inf, left, log_probs))
        place = streams.below(word, jnp.sum(tied))
        chosen = jnp.argmax(jnp.cumsum(tied) > place).astype(jnp.int32)
        return left.at[chosen].set(-jnp.inf), chosen

    return jax.lax.scan(take, log_probs, words)[1]


def _drawn(words: Array, log_probs: Array) -> Array:
    """Independent draws [B] int32 from the posterior."""
    table = streams.cumulative(jnp.exp(log_probs))
    return jax.vmap(streams.choose, (0, None))(words, table)
