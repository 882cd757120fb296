"""Curricula: which prompts an update draws.

`uniform` leaves it to the world. `band` keeps near prompts that are won about every second time:
those drawn have probability proportional to p(1 - p), the variance of a reward of 0 or 1, plus a
floor for exploring, where p is the learner's own moving average of what it was told at that prompt
(in the spirit of Florensa et al. 2018, "goals of intermediate difficulty"). `oracle_band` reads p
off the policy and the answer, which no learner could: a bound, not a rival.

A curriculum changes the objective: an update is unbiased for the gradient of the reward under the
curriculum's law, not under the world's. Its exact moments are those of that law, and its squared
bias is measured against the world's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simrl import columns, columnwise, keys
from simrl.columns import Fence, Law
from simrl.learners import draws, updates
from simrl.measures import information
from simrl.records import readable
from simrl.types import (
    Array,
    Curriculum,
    Environment,
    Policy,
    Rollout,
    State,
    Task,
    TeacherForced,
)


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Uniform:
    """The prompts that the world gives."""

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        return []

    def build(self, environment: Environment) -> None:
        """No curriculum."""
        return

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Every world draws prompts."""
        return None


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Band:
    """Prompts by p(1 - p): (1 - floor) of the draws, the others uniform.

    Attributes:
        rate: step of the moving average of a prompt's success rate, for each group at it.
        floor: share of the draws that are uniform.
        start: success rate assumed before the first group; of all, .5 is drawn most.
        oracle: the policy's exact success rates are used.
    """

    rate: float = 0.1
    floor: float = 0.1
    start: float = 0.5
    oracle: bool = field(default=False, metadata={"static": True})

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        ranges = {"rate": self.rate, "floor": self.floor, "start": self.start}
        return [
            f"curriculum {name} must lie in [0, 1], not {value}"
            for name, value in ranges.items()
            if not 0 <= value <= 1
        ]

    def build(self, environment: Environment) -> Curriculum:
        """The curriculum for this world."""
        num_prompts = environment.shape.num_prompts

        def init() -> State:
            return () if self.oracle else jnp.full((num_prompts,), 1.0 * self.start)

        def law(state: Array) -> Array:
            share = state * (1 - state)
            whole = jnp.sum(share, axis=0)
            even = jnp.full_like(share, 1 / num_prompts)
            band = jnp.where(whole > 0, share / jnp.where(whole > 0, whole, 1), even)
            return (1 - self.floor) * band + self.floor * even

        def choose(state: Array, words: Array) -> Array:
            table = keys.cumulative(law(state))
            return jax.vmap(keys.choose, (0, None))(words, table)

        def update(state: State, prompts: Array, success: Array) -> State:
            if self.oracle:
                return state

            def group(rates: Array, told: tuple[Array, Array]) -> tuple[Array, None]:
                prompt, mean = told
                if rates.ndim == 1:
                    return rates.at[prompt].add(self.rate * (mean - rates[prompt])), None
                mine = prompt == jnp.arange(num_prompts, dtype=prompt.dtype)[:, None]
                return jnp.where(mine, rates + self.rate * (mean - rates), rates), None

            return jax.lax.scan(group, state, (prompts, jnp.mean(success, axis=1)))[0]

        return Curriculum(init, choose, update, law, self.oracle, trailing=True)

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Why it cannot choose prompts in this world; None if it can."""
        if environment.noisy:
            return "a curriculum needs fixed labels: of fresh ones none tells what is right"
        if not self.oracle and not tells_success(environment):
            return "curriculum band needs rewards that tell what is right"
        dependent = policy.listed is not None or isinstance(policy, TeacherForced)
        if self.oracle and (environment.right is not None or dependent):
            return "curriculum oracle_band needs one right answer and independent positions"
        return None


def tells_success(environment: Environment) -> bool:
    """Whether a reward tells if the whole answer is right, but for a verifier's errors."""
    return environment.channel is not None and not environment.noisy


def memory(
    curriculum: Curriculum, environment: Environment, belief: Callable, state: Any, task: Task
) -> State:
    """What a curriculum goes by: its own state, or the exact pass rates [M] of the policy."""
    if not curriculum.oracle:
        return state.curriculum

    def rate(prompt: Array) -> Array:
        answer = jnp.argmax(environment.target(task, prompt), axis=-1)
        return jax.nn.sigmoid(information.sequence_log_odds(belief(state, prompt), answer))

    return jax.vmap(rate)(jnp.arange(environment.shape.num_prompts))


def heard(environment: Environment, drawn: Rollout) -> Array:
    """The successes [G, B] that a learner is told of: the word of a verifier, if it errs."""
    if environment.verifier is None:
        return drawn.success
    return jnp.all(drawn.credit == 1, axis=-1).astype(drawn.success.dtype)


def law(
    curriculum: Curriculum | None,
    environment: Environment,
    belief: Callable,
    state: Any,
    task: Task,
) -> Array | None:
    """Probabilities [M] of the prompts that an update draws; None: uniform."""
    if curriculum is None:
        return updates.prompt_law(environment, task)
    return curriculum.law(memory(curriculum, environment, belief, state, task))


def law_of_lanes(
    curriculum: Curriculum | None,
    environment: Environment,
    state: State,
    known: tuple[Law, Task],
    fence: Fence,
) -> Array | None:
    """The law [M, N] by which curricula of `trailing` axes draw several prompts, lanes last.

    `known`: the law [M L, V, N] of the policy and the task. None: the world draws them.
    """
    if curriculum is None:
        return None
    if not curriculum.oracle:
        return fence(curriculum.law(state))
    (num_prompts, length, _), (law, task) = environment.shape, known
    lanes = law.total.shape[-1]
    tasks = draws.of_every(num_prompts, task)
    none = jnp.zeros((num_prompts, length, 1, lanes), jnp.uint32)
    answers = draws.labels(environment, tasks, none)[:, :, 0]
    odds = columns.log_odds(law, draws.rows(answers)).reshape(num_prompts, length, lanes)
    whole = columns.each(columnwise.over_lanes(information.joint_log_odds))(odds)
    return fence(curriculum.law(fence(jax.nn.sigmoid(whole))))


NAMED = {"uniform": Uniform(), "band": Band(), "oracle_band": Band(oracle=True)}


class Course(NamedTuple):
    """A curriculum tied to a learner's state."""

    is_uniform: bool  # the world draws the prompts
    init: Callable[[], State]
    prompts: Callable[[Any, Any, Task], Array | None]  # None: those that the world draws
    update: Callable[[Any, Rollout], Any]
    law: Callable[[Any, Task], Array | None]  # of the prompts [M]; None: uniform


def course(
    curriculum: Curriculum | None, environment: Environment, belief: Callable, num_groups: int
) -> Course:
    """What a learner with a field `curriculum` in its state does with its curriculum."""

    def law_of(state: Any, task: Task) -> Array | None:
        return law(curriculum, environment, belief, state, task)

    if curriculum is None:
        return Course(True, lambda: (), lambda *given: None, lambda state, drawn: state, law_of)

    def prompts(streams: Any, state: Any, task: Task) -> Array:
        known = memory(curriculum, environment, belief, state, task)
        return curriculum.choose(known, keys.words(streams.prompt, (num_groups,)))

    def update(state: Any, drawn: Rollout) -> Any:
        success = heard(environment, drawn)
        kept = curriculum.update(state.curriculum, drawn.prompt, success)
        return state._replace(curriculum=kept)

    return Course(False, curriculum.init, prompts, update, law_of)
