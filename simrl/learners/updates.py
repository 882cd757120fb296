"""What the learners share: the optimiser, the draw of groups and the weighted score."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simrl import keys
from simrl.measures import phases
from simrl.types import Array, Environment, Info, Params, Policy, State, Task


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Optimizer:
    """Any optax optimiser by its name, with its arguments as traced numbers."""

    name: str = field(default="sgd", metadata={"static": True})
    numbers: dict[str, float] = field(default_factory=lambda: {"learning_rate": 1.0})

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        make = getattr(optax, self.name, None)
        if self.name.startswith("_") or not callable(make):
            return [
                f"optimizer must name an optax optimiser such as sgd or adam, not {self.name!r}"
            ]
        try:
            made = make(**self.numbers)
        except (TypeError, ValueError) as error:
            return [f"optax.{self.name} refuses its numbers: {error}"]
        if not isinstance(made, optax.GradientTransformation):
            return [f"optax.{self.name} is not an optimiser"]
        return []

    def build(self) -> optax.GradientTransformation:
        """The optimiser; built inside the trace, so its numbers may be traced."""
        return getattr(optax, self.name)(**self.numbers)


RULED_OUT = -1e4  # logit, nats: its power is 0 in float32 and in float64
KEEPING = ("sgd", "adam", "adagrad", "amsgrad", "nadam", "rmsprop")
# optax optimisers that leave alone what has no gradient


class Learning(NamedTuple):
    """The state every gradient learner here carries."""

    params: Params
    optimizer: Any
    advantage: State
    start: Params = ()  # the first params, where an update reads them
    curriculum: State = ()


def first_params(environment: Environment, policy: Policy, streams: Any) -> Params:
    """The params that a learner starts with in this world.

    Where prompts rule out symbols, a table starts with their logits at RULED_OUT: their
    probability is 0, and so is every gradient there, with which sgd and adam leave them as they
    are; a position that a prompt reveals has a score of 0.
    """
    start = policy.init(streams.start)
    if environment.allowed is None:
        return start
    task, prompts = environment.init(streams.task), jnp.arange(environment.shape.num_prompts)
    allowed = jax.vmap(environment.allowed, (None, 0))(task, prompts)
    return jnp.where(allowed, start, RULED_OUT)


def draw_prompts(stream: Array, environment: Environment, task: Task, num_groups: int) -> Array:
    """The prompts [G] int32 of one update."""
    words = keys.words(stream, (num_groups,))
    return jax.vmap(environment.prompt, (0, None))(words, task)


def group_words(stream: Array, num_groups: int, size: int, length: int) -> Array:
    """Random words [G, B, L] for one purpose of one update: one draw for the whole batch."""
    return keys.words(stream, (num_groups, size, length))


def weighted_score(
    policy: Policy, params: Params, prompts: Array, answers: Array, weights: Array
) -> Params:
    """Gradient of the weighted log-likelihood: summed over positions, averaged over trajectories.

    prompts [G], answers and weights [G, B, L]. What depends on a prompt alone is computed once a
    group, because the inner map is over answers only.
    """

    def objective(params: Params) -> Array:
        over_answers = jax.vmap(policy.log_prob, (None, None, 0))
        log_prob = jax.vmap(over_answers, (None, 0, 0))(params, prompts, answers)
        return jnp.sum(weights * log_prob) / (answers.shape[0] * answers.shape[1])

    return jax.grad(objective)(params)


def prompt_law(environment: Environment, task: Task) -> Array | None:
    """Probabilities [M] of the prompts that the world gives; None: uniform."""
    return None if environment.prompt_law is None else environment.prompt_law(task)


def ascend(
    optimizer: optax.GradientTransformation, state: Any, gradient: Params, advantage: State
) -> Any:
    """One optimiser step up the gradient, of a `Learning` or what has its first fields."""
    descent = jax.tree.map(jnp.negative, gradient)
    updates, opt_state = optimizer.update(descent, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(params=params, optimizer=opt_state, advantage=advantage)


def belief(policy: Policy, length: int) -> Callable[[Learning, Array], Array]:
    """The learner's log-probabilities [L, V] over answers to a prompt."""

    def log_probs(state: Learning, prompt: Array) -> Array:
        return policy.log_probs(state.params, prompt, jnp.zeros((length,), jnp.int32))

    return log_probs


def answer_score(policy: Policy) -> Callable[[Learning, Array], Params]:
    """Gradient of the mean log-likelihood of right answers [M, L], one for each prompt."""

    def score(state: Learning, answers: Array) -> Params:
        prompts = jnp.arange(len(answers))
        ones = jnp.ones((*answers.shape[:1], 1, answers.shape[1]))
        return weighted_score(policy, state.params, prompts, answers[:, None], ones)

    return score


def report(
    lines: dict[str, int],
    prompts: Array,
    answers: Array,
    success: Array,
    samples: int,
    weights: Array | None = None,
) -> Info:
    """Info of one update; `samples` is per group. Each group is charged by `lines`, the FLOPs of a
    token by the 2N/4N convention.

    `weights` [G, B, L] of the score terms tell which groups leave no gradient; None: all do.
    """
    num_groups, size, length = answers.shape
    charge = phases.words_of(sum(lines.values()) * size * length)
    return Info(
        prompts=prompts,
        answers=answers,
        success=success,
        num_samples=jnp.full((num_groups,), samples, jnp.uint32),
        num_tokens=jnp.full((num_groups,), size * length, jnp.uint32),
        flops=jnp.tile(jnp.asarray(charge), (num_groups, 1)),
        dead=None
        if weights is None
        else size * jnp.all(weights == 0, axis=(1, 2)).astype(jnp.uint32),
    )


def over_prompts(
    trace: Array, squared_norm: Array, num_groups: int, law: Array | None = None
) -> tuple[Array, Array]:
    """Trace of covariance and squared mean of an average over G groups of prompts drawn by a law.

    trace, squared_norm [M]: those of one group's estimator for each prompt, whose parameters are
    disjoint. `law` [M]: probabilities of the prompts; None: uniform. Law of total covariance; equal
    to trace / G when M = 1.
    """
    if law is not None:
        between = jnp.sum(law * (1 - law) * squared_norm)
        return (jnp.sum(law * trace) + between) / num_groups, jnp.sum(law**2 * squared_norm)
    num_prompts = trace.shape[0]
    between = (1 - 1 / num_prompts) * jnp.mean(squared_norm)
    return (jnp.mean(trace) + between) / num_groups, jnp.mean(squared_norm) / num_prompts
