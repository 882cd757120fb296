"""What the learners share: the optimiser, the draw of groups and the weighted score."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simrl import keys
from simrl.errors import SpecError, brief
from simrl.learners import optimizers, schedules
from simrl.measures import phases
from simrl.types import Array, Environment, Info, Params, Policy, State, Task, TeacherForced


@jax.tree_util.register_dataclass
@dataclass(frozen=True, init=False, repr=False)
class Optimizer:
    """An optimiser of optax or optax.contrib by its name, with its arguments as traced numbers.

        Optimizer("adam", learning_rate=1e-3, b1=0.8)
        Optimizer("sgd", learning_rate=0.1, schedule="cosine_decay_schedule", decay_steps=1000)
        Optimizer("sgd", learning_rate=0.1, clip="clip_by_global_norm", max_norm=1.0)

    Plain SGD steps at a rate of 1 unless one is given; no other optimiser has a default rate.

    Attributes:
        name: what optax calls it, or an `optax.GradientTransformation`, whose numbers are then
            static and whose results cannot be stored.
        numbers: its arguments, and those of `schedule` and `clip`, by optax's names. Traced:
            conditions that differ in these alone share one compiled program.
        schedule: optax's name of the schedule of the learning rate, or "". `learning_rate` is its
            `init_value`; warm-ups take `init_value` and `peak_value` themselves.
        clip: optax's name of what clips the gradients first, or "".
        fixed: arguments that cannot be traced (horizons of schedules, switches), put here when a
            spec is resolved.
    """

    name: Any = field(default="sgd", metadata={"static": True})
    numbers: dict[str, float] = field(default_factory=lambda: {"learning_rate": 1.0})
    schedule: str = field(default="", metadata={"static": True})
    clip: str = field(default="", metadata={"static": True})
    fixed: tuple[tuple[str, float], ...] = field(default=(), metadata={"static": True})

    def __init__(
        self,
        name: Any = "sgd",
        numbers: Any = None,
        schedule: str = "",
        clip: str = "",
        fixed: tuple[tuple[str, float], ...] = (),
        **arguments: Any,
    ) -> None:
        if isinstance(numbers, Real):
            numbers = {"learning_rate": numbers}
        if numbers is None:
            plain = isinstance(name, str) and name == "sgd" and not arguments
            numbers = {"learning_rate": 1.0} if plain else {}
        forms = (
            ("numbers", numbers, _are_arguments(numbers), "a number, or numbers by name"),
            ("fixed", fixed, _are_pairs(fixed), "pairs of name and number"),
        )
        for part, value, holds, rule in forms:
            if not holds:
                raise SpecError(f"Optimizer.{part}: must be {rule}, got {brief(value)}")
        numbers = {**numbers, **arguments}
        values = optimizers.known_name(name), numbers, schedule, clip, fixed
        for f, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, f.name, value)

    def __repr__(self) -> str:
        named = {"schedule": self.schedule, "clip": self.clip}
        shown = {**self.numbers, **dict(self.fixed), **{k: x for k, x in named.items() if x}}
        return f"Optimizer({', '.join([self.label, *(f'{k}={x!r}' for k, x in shown.items())])})"

    @property
    def label(self) -> str:
        """The name as it is written in code; of an optax object, what it is."""
        is_object = isinstance(self.name, optax.GradientTransformation)
        return f"<{type(self.name).__name__}>" if is_object else repr(self.name)

    @property
    def plain(self) -> bool:
        """Neither schedule nor clipping nor arguments that cannot be traced."""
        return not (self.schedule or self.clip or self.fixed)

    def resolved(self) -> "Optimizer":
        """The same, with the arguments that cannot be traced made static."""
        numbers, fixed = schedules.parted({**dict(self.fixed), **self.numbers}, self.schedule)
        return replace(self, numbers=numbers, fixed=fixed)

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        if isinstance(self.name, optax.GradientTransformation):
            more = bool(self.numbers) or not self.plain
            line = "an optax object takes no more arguments: chain them with optax.chain"
            return [line] if more else optimizers.update_problems("given as an object", self)
        numbers = {**self.numbers, **dict(self.fixed)}
        others = tuple(name for name in (self.schedule, self.clip) if name)
        problems = (
            optimizers.name_problems(self.name)
            or schedules.problems(self.schedule, self.clip, numbers)
            or optimizers.argument_problems(self.name, others, numbers)
            or optimizers.range_problems(self.name, numbers)
        )
        if problems:
            return problems
        try:
            with optimizers.quiet():
                transformation = self.transformation()
        except (TypeError, ValueError) as error:
            return [f"optax.{', optax.'.join((self.name, *others))} refuses its arguments: {error}"]
        if not isinstance(transformation, optax.GradientTransformation):
            return [f"optax.{self.name} is not an optimiser"]
        return optimizers.update_problems(self.name, self)

    def build(self) -> optax.GradientTransformation:
        """The optimiser; built inside the trace, so its numbers may be traced.

        Its state also holds what rounding takes from the updates of each parameter.
        """
        return optimizers.compensated(self.transformation())

    def transformation(self) -> optax.GradientTransformation:
        """The optimiser as optax has it."""
        if not isinstance(self.name, str):
            return self.name
        numbers = {**self.numbers, **dict(self.fixed)}
        return schedules.build(self.name, self.schedule, self.clip, numbers)


def _are_arguments(numbers: Any) -> bool:
    """Whether a value has arguments by their names; the numbers themselves may be traced."""
    return isinstance(numbers, Mapping) and all(isinstance(name, str) for name in numbers)


def _are_pairs(fixed: Any) -> bool:
    """Whether a value is a sequence of pairs of a name and a value."""
    row: Any = fixed if isinstance(fixed, tuple | list) else [None]
    pairs = all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in row)
    return pairs and all(isinstance(name, str) for name, _ in row)


def reward_optimizer() -> Optimizer:
    """Returns the default of the learners that climb a reward: SGD at rate 8.

    That is .25 for each of 32 samples. Of the rates 1, 2, ... 32 on stock worlds it needs at most
    twice the samples of the best one; the default of 1 needed 12 times as many (`Spec()`).
    """
    return Optimizer("sgd", {"learning_rate": 8.0})


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
    """The params that a learner starts with in this world, whose task is that of the same seed.

    Where prompts rule out symbols, a table starts with their logits at RULED_OUT: their
    probability is 0, and so is every gradient there, with which sgd and adam leave them as they
    are; a position that a prompt reveals has a score of 0.
    """
    start = policy.init(streams.start)
    if policy.pretrain is None and environment.allowed is None:
        return start
    task, prompts = environment.init(streams.task), jnp.arange(environment.shape.num_prompts)
    if policy.pretrain is not None:
        laws = jax.vmap(environment.target, (None, 0))(task, prompts)
        start = policy.pretrain(start, jnp.argmax(laws, axis=-1))
    if environment.allowed is None:
        return start
    allowed = jax.vmap(environment.allowed, (None, 0))(task, prompts)
    return jnp.where(allowed, start, RULED_OUT)


def first_state(
    environment: Environment, policy: Policy, optimizer: Any, streams: Any, kept: State = ()
) -> Learning:
    """The state that a gradient learner starts with; `kept`: the memory of its advantage."""
    params = first_params(environment, policy, streams)
    return Learning(params, optimizer.init(params), kept)


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


def belief(policy: Policy, length: int) -> Callable[..., Array]:
    """The learner's log-probabilities over answers to a prompt: [L, V], or [1, N] if listed.

    A `TeacherForced` policy also takes the answer [L] that it is given to go on from.
    """
    if isinstance(policy, TeacherForced):
        return lambda state, prompt, answer: policy.log_probs(state.params, prompt, answer)
    by_answer = policy.listed
    if by_answer is not None:
        return lambda state, prompt: by_answer(state.params, prompt)[None]

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
