"""On-policy distillation: the student answers, the teacher's full distribution is the target.

Agarwal et al. 2024, "On-Policy Distillation of Language Models" (GKD); Lu & Thinking Machines 2025,
"On-Policy Distillation". The teacher is the world's label law: where labels are fixed it is sure of
them. It is asked at every position of the student's own answers, so what it tells is dense as a
label and on-policy as a reward. Nothing is differentiated through the sampling.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from simrl import choices, columns
from simrl.columns import Fence, Law
from simrl.learners import draws, fused, updates
from simrl.learners.draws import Batch
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import flops, gradients
from simrl.records import readable
from simrl.types import Array, Environment, Fused, Heard, Info, Learner, Params, Policy, Task

DIVERGENCES = ("forward", "reverse")


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Distillation:
    """Each update: `num_groups` prompts, `group_size` answers of the student to each.

    `divergence` at every position, with teacher q and student pi: "forward" climbs sum q log pi
    (cross-entropy, KL(q || pi)), "reverse" -KL(pi || q), which needs a q with full support. Summed
    over positions, averaged over answers. A sample is one token with the teacher's distribution
    for its target, as a labelled token is for a supervised learner, whose column of the
    information table applies: repeats at one prompt tell nothing new. A token is charged 2N for
    its decoding, 2N for a teacher of the student's size (line `reference`) and 6N for training.

    Attributes:
        divergence: "forward" or "reverse".
        group_size: B, answers of the student to each prompt.
        num_groups: G, prompts of an update.
        optimizer: an `Optimizer`, or its name.
    """

    divergence: Literal["forward", "reverse"] = field(default="forward", metadata={"static": True})
    group_size: int = field(default=1, metadata={"static": True})
    num_groups: int = field(default=1, metadata={"static": True})
    optimizer: Optimizer = field(default_factory=Optimizer)

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        if self.divergence not in DIVERGENCES:
            known = ", ".join(DIVERGENCES)
            found.append(f"divergence must be one of {known}, not {self.divergence!r}")
        if self.group_size < 1 or self.num_groups < 1:
            found.append("group_size and num_groups must be at least 1")
        return found

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Why the world's label law does not do for a teacher; None if it does."""
        if environment.right is not None:
            return "distillation needs labels of one right answer"
        if self.divergence == "reverse" and not environment.noisy:
            return "divergence reverse needs a teacher that rules nothing out: noisy labels"
        return None

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer = self.optimizer.build()
        num_prompts, length, _ = environment.shape
        groups, size = self.num_groups, self.group_size
        belief = updates.belief(policy, length)
        value = _forward if self.divergence == "forward" else _reverse
        num_params = policy.num_active_params
        lines = flops.ledger_lines(num_params, 1, "policy_gradient", reference_params=num_params)

        def draw(keys: Any, state: Learning, task: Task) -> tuple[Array, Array, Array]:
            prompts = updates.draw_prompts(keys.prompt, environment, task, groups)
            words = updates.group_words(keys.sample, groups, size, length)
            over_answers = jax.vmap(policy.sample, (0, None, None))
            answers = jax.vmap(over_answers, (0, None, 0))(words, state.params, prompts)
            laws = jax.vmap(environment.target, (None, 0))(task, prompts)
            return prompts, answers, laws

        def gradient(state: Learning, prompts: Array, answers: Array, laws: Array) -> Params:
            return jax.grad(_objective(policy, value, prompts, answers, laws))(state.params)

        def init(keys: Any) -> Learning:
            return updates.first_state(environment, policy, optimizer, keys)

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            prompts, answers, laws = draw(keys, state, task)
            right = jnp.argmax(laws, axis=-1)[:, None]
            success = jnp.all(answers == right, axis=-1).astype(jnp.float32)
            info = updates.report(lines, prompts, answers, success, samples=size * length)
            grad = gradient(state, prompts, answers, laws)
            return updates.ascend(optimizer, state, grad, ()), info

        def moments(state: Learning, task: Task) -> tuple[Array, Array]:
            # A factorised student is told the same whatever it answers.
            def of_prompt(prompt: Array) -> Array:
                log_probs, law = belief(state, prompt), environment.target(task, prompt)
                if self.divergence == "forward":
                    return gradients.supervised_moments(jnp.exp(log_probs), law).squared_norm
                excess = log_probs - jnp.log(law)
                mean = jnp.sum(jnp.exp(log_probs) * excess, axis=-1, keepdims=True)
                return jnp.sum((jnp.exp(log_probs) * (excess - mean)) ** 2)

            norms = jax.vmap(of_prompt)(jnp.arange(num_prompts))
            return updates.over_prompts(
                jnp.zeros_like(norms), norms, groups, updates.prompt_law(environment, task)
            )

        return Learner(
            init=init,
            step=step,
            belief=belief,
            estimate=lambda keys, state, task: gradient(state, *draw(keys, state, task)),
            moments=moments if policy.tabular else None,
            kind="supervised",
            batch_size=groups * size,
            score=updates.answer_score(policy),
            ledger=lines,
            listed=policy.listed is not None,
            fused=_fused(environment, policy, self, lines),
        )


def _objective(
    policy: Policy, value: Callable, prompts: Array, answers: Array, laws: Array
) -> Callable[[Params], Array]:
    """params -> the mean of `value` over the answers [G, B, L], by the laws [G, L, V]."""

    def of_params(params: Params) -> Array:
        def of_answer(prompt: Array, answer: Array, law: Array) -> Array:
            return value(policy.log_probs(params, prompt, answer), law)

        # A policy that ignores the answers is asked once a prompt.
        over_answers = jax.vmap(of_answer, (None, 0, None))
        return jnp.mean(jax.vmap(over_answers)(prompts, answers, laws))

    return of_params


def _forward(log_probs: Array, law: Array) -> Array:
    """sum q log pi [] of one answer; [L, V] each."""
    return jnp.sum(law * log_probs)


def _reverse(log_probs: Array, law: Array) -> Array:
    """-KL(pi || q) [] of one answer."""
    return jnp.sum(jnp.exp(log_probs) * (jnp.log(law) - log_probs))


def _fused(
    environment: Environment, policy: Policy, spec: Distillation, lines: dict[str, int]
) -> Fused | None:
    """The update of many seeds at once; None where there is no fused path.

    A table of logits is told the same whatever it answers: only how many are right is looked at.
    """
    if fused.obstacle(environment, policy):
        return None
    num_prompts, length, vocab_size = environment.shape
    batch = spec.num_groups, spec.group_size
    lot = Batch(num_prompts, *batch)
    on_columns = _forward_on_columns if spec.divergence == "forward" else _reverse_on_columns

    def guess(words: Array, law: Law, right: Array, fence: Fence) -> tuple[Array | None, Array]:
        """Answers [K L, C, N], or None where a look is enough; how many are right [K, N]."""
        if vocab_size <= columns.FEW:
            return None, choices.hits(words, law.probs, right, lot.draws, fence)
        answers = choices.choose(words, law.probs, fence)
        same = (answers == right[:, None]).reshape(lot.draws, length, lot.answers, -1)
        return answers, columns.total(jnp.all(same, axis=1).astype(jnp.float32))

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence, told: fused.Told
    ) -> tuple[Learning, Heard]:
        asked = draws.ask(environment, lot, keys.prompt, law, task, fence)
        taught, right = map(draws.rows, fused.told_each(told, lot, asked))
        words = draws.rows(draws.random_words(environment, lot, keys.sample, fence))
        answers, hits = guess(words, asked.law, right, fence)
        none = jnp.zeros(asked.prompts.shape, jnp.uint32)
        heard = Heard(asked.prompts, asked.law, answers, hits, none)
        way = on_columns(asked.law, fence(taught), fence) / lot.draws
        gradient = fused.by_prompt(way, lot, asked, fence)
        return fused.ascend(spec.optimizer, state, gradient, ()), heard

    def teacher(probs: Array, task: Task, prompt: Array) -> tuple[Array, Array]:
        """Its law [L, V] and its answer [L]."""
        first: Any = np.int32(draws.FIRST)  # a number that is known: a kernel looks nothing up
        law = environment.target(task, first)
        return law, jnp.argmax(law, axis=-1).astype(jnp.int32)

    samples = spec.group_size * length
    return Fused(
        fused.logits, step, lambda: fused.charge(lines, environment, batch, samples), teacher
    )


def _forward_on_columns(law: Law, taught: Array, fence: Fence) -> Array:
    """The gradient [K L, V, N] of `_forward` by the logits: q - pi, of teachers `taught`."""
    return taught - law.probs * fence(columns.total(taught))[:, None]


def _reverse_on_columns(law: Law, taught: Array, fence: Fence) -> Array:
    """That of `_reverse`: pi (x - E x) of x = log q - log pi, without what normalises pi."""
    excess = fence(jnp.log(taught)) - (law.logits - law.largest[:, None])
    probs = law.probs
    return probs * (excess - fence(columns.total(probs * excess))[:, None])
