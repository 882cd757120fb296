"""Policy gradient that jumps over the updates that change nothing: `leap` tied to a learner."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from simrl.learners import leap, updates
from simrl.learners.curricula import Uniform
from simrl.learners.surrogates import Score
from simrl.learners.updates import Learning
from simrl.measures import flops
from simrl.types import Array, Environment, Info, Jump, Policy, Task


def obstacle(environment: Environment, policy: Policy, learner: Any) -> str | None:
    """Why a policy-gradient specification cannot jump in this world; None if it can.

    A jump is exact only while a batch without signal leaves the whole state as it is (THEORY.md,
    section 7), and is built for one prompt whose verdict is about the whole answer, be it that of a
    verifier that errs.
    """
    shape, channel = environment.shape, environment.channel
    whole = channel == "exact" or (channel is not None and shape.length == 1)
    optimizer = getattr(learner, "optimizer", None)
    numbers = set(getattr(optimizer, "numbers", ()))
    reasons = {
        "the policy must be tabular": not policy.tabular,
        "only policy gradient does": not hasattr(learner, "group_size"),
        "the reward must tell right from wrong of whole answers": not whole or environment.noisy,
        "one answer must be right": environment.right is not None,
        "no prompt may rule out symbols": environment.allowed is not None,
        "there must be one prompt and one group": shape.num_prompts != 1
        or getattr(learner, "num_groups", 1) != 1,
        "the optimizer must be sgd with a learning_rate alone": getattr(optimizer, "name", "")
        != "sgd"
        or numbers != {"learning_rate"}
        or not getattr(optimizer, "plain", False),
        "the surrogate must be score": not isinstance(
            getattr(learner, "surrogate", Score()), Score
        ),
        "the curriculum must be uniform": not isinstance(
            getattr(learner, "curriculum", Uniform()), Uniform
        ),
        "the advantage must follow from the number of successes": not hasattr(
            getattr(learner, "advantage", None), "tables"
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def build(environment: Environment, policy: Policy, learner: Any) -> Callable | None:
    """The `jump` of a policy-gradient specification; None where there is an `obstacle`."""
    if obstacle(environment, policy, learner):
        return None

    def jump(keys: Any, state: Learning, task: Task, most: Array) -> Jump:
        made = environment, policy, learner.optimizer.build()
        tables = learner.advantage.tables(learner.group_size)
        return jump_of(*made, tables)(keys, state, task, most)

    return jump


def jump_of(
    environment: Environment,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    tables: tuple[Array, Array],
) -> Callable[[Any, Learning, Task, Array], Jump]:
    """The learner's `jump`, for weights of success and failure [B + 1] each by their number."""
    length = environment.shape.length
    success, failure = (jnp.asarray(table, jnp.float32) for table in tables)
    size = success.shape[0] - 1
    prompts = jnp.zeros((1,), jnp.int32)

    lines = flops.ledger_lines(policy.num_active_params, 1, "policy_gradient")

    def info(answers: Array, right: Array, weights: Array) -> Info:
        return updates.report(lines, prompts, answers[None], right[None], size, weights)

    def jump(keys: Any, state: Learning, task: Task, most: Array) -> Jump:
        nothing = jnp.zeros((length,), jnp.int32)
        log_probs = policy.log_probs(state.params, prompts[0], nothing)
        answer = jnp.argmax(environment.target(task, prompts[0]), axis=-1).astype(jnp.int32)
        found = leap.leap(keys, log_probs, answer, success, failure, most, environment.verifier)
        gradient = leap.leap_gradient(policy, state.params, found)
        weights = jnp.broadcast_to(found.weights[:, None], found.answers.shape)[None]
        dead_right = jnp.all(found.dead_answers == answer, axis=-1).astype(jnp.float32)
        return Jump(
            state=updates.ascend(optimizer, state, gradient, state.advantage),
            num_updates=leap.num_updates(found),
            num_dead=found.num_dead,
            live=info(found.answers, found.success, weights),
            dead=info(found.dead_answers, dead_right, jnp.zeros_like(weights)),
        )

    return jump
