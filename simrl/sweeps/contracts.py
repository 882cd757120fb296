"""What a user's own environment and advantage must return: their contracts, held to by shapes."""

from typing import Any

import jax
import jax.numpy as jnp

from simrl.sweeps.errors import in_one_line
from simrl.types import Advantage, Environment, Rollout, Shape


def shape_problems(environment: Environment) -> list[str]:
    """Why an environment has no shape, or one without a choice, in one line at most."""
    shape = environment.shape
    if not isinstance(shape, Shape) or any(
        not isinstance(size, int) or size < least
        for size, least in zip(shape, (1, 1, 2), strict=True)
    ):
        told = "at least 1 prompt, 1 position and 2 symbols"
        return [f"shape must be a simrl.Shape of whole numbers, {told}, not {shape}"]
    return []


def environment_problems(environment: Environment) -> list[str]:
    """Functions of an environment that fail, or return another shape than the contract's."""
    _, length, vocab_size = environment.shape
    key = jax.random.key(0)
    word, words = (jax.ShapeDtypeStruct(shape, jnp.uint32) for shape in ((), (length,)))
    prompt = jax.ShapeDtypeStruct((), jnp.int32)
    answer = jax.ShapeDtypeStruct((length,), jnp.int32)
    try:
        task = jax.eval_shape(environment.init, key)
    except Exception as error:  # the user's code may raise anything
        return [f"environment.init fails: {in_one_line(error)}"]
    whole: tuple[int, ...] = (length,)
    calls: dict[str, tuple] = {
        "prompt": ((word, task), lambda found: found, [()]),
        "label": ((words, task, prompt), lambda found: found, [whole]),
        "reward": ((words, task, prompt, answer), lambda found: found.credit, [(), (1,), whole]),
        "target": ((task, prompt), lambda found: found, [(length, vocab_size)]),
    }
    found = []
    sure = environment.verifier is None
    if not sure and (environment.noisy or environment.channel is None or not environment.binary):
        found.append("environment.verifier needs fixed labels and a channel of rewards of 0 or 1")
    for name, (given, part, allowed) in calls.items():
        try:
            shape = jnp.shape(part(jax.eval_shape(getattr(environment, name), *given)))
        except Exception as error:
            found.append(f"environment.{name} fails: {in_one_line(error)}")
            continue
        if shape not in allowed:
            found.append(f"environment.{name} must return shape {allowed[-1]}, not {shape}")
    return found


def advantage_problems(advantage: Advantage, batch_size: int, length: int) -> list[str]:
    """Functions of an advantage that fail, or return another shape than the contract's."""
    if advantage.oracle:
        return []  # it is given statistics besides, which the world and the policy have
    whole, real = (batch_size, length), jnp.result_type(float)
    rewards: Any = jax.ShapeDtypeStruct(whole, real)
    answers: Any = jax.ShapeDtypeStruct(whole, jnp.int32)
    success: Any = jax.ShapeDtypeStruct((batch_size,), real)
    prompt: Any = jax.ShapeDtypeStruct((), jnp.int32)
    rollout = Rollout(prompt, answers, rewards, success, rewards)
    try:
        state = jax.eval_shape(advantage.init)
    except Exception as error:  # the user's code may raise anything
        return [f"advantage.init fails: {in_one_line(error)}"]
    try:
        told = jax.eval_shape(advantage.weights, state, rollout)
    except Exception as error:
        return [f"advantage.weights fails: {in_one_line(error)}"]
    if not isinstance(told, tuple | list) or len(told) != 2:
        return ["advantage.weights must return a pair: the state, then the weights"]
    if _form(told[0]) != _form(state):
        return ["advantage.weights must return, first, a state of the form that init makes"]
    shape = getattr(told[1], "shape", None)
    if shape not in (whole, (batch_size, 1)):
        return [f"advantage.weights must return weights of shape {whole}, not {shape}"]
    return []


def _form(state: Any) -> Any:
    leaves, structure = jax.tree.flatten(state)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
