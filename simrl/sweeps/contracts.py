"""What components of a user's own must return, checked by shapes and dtypes before compiling.

`simrl.sweeps.trials` checks the values besides, for a few inputs.
"""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simrl import keys
from simrl.measures.sequences import CHANNELS
from simrl.sweeps.errors import RAISED_BY_USERS, in_one_line
from simrl.types import (
    Advantage,
    Array,
    Environment,
    Info,
    Learner,
    Outcome,
    Policy,
    Rollout,
    Shape,
    TeacherForced,
)

KINDS: dict[str, Any] = {"integers": (jnp.integer,), "floats": (jnp.floating,)}
KINDS["numbers"] = (jnp.integer, jnp.floating, jnp.bool_)
WORDS_ARE_NO_KEY = (
    "it gets random words, not a key: simrl.keys.choose(word, simrl.keys.cumulative(probs))"
)


class Failed(Exception):
    """A function of a component cannot be called; the message is one line."""


def accepts(function: Any, num_arguments: int) -> bool:
    """Returns whether a function can be called with so many arguments; True if it is unknown."""
    try:
        inspect.signature(function).bind(*range(num_arguments))
    except TypeError:
        return False
    except ValueError:  # a builtin that does not say
        return True
    return True


def returned_by(name: str, function: Any, **arguments: Any) -> Any:
    """Returns the shapes of what a function returns for arguments by name.

    Raises:
      Failed: it takes other arguments, or raises an error.
    """
    last = name.rpartition(".")[2]
    wanted = f"{last}({', '.join(arguments)})"
    if not callable(function):
        raise Failed(f"{name}: must be a function {wanted}, got {type(function).__name__}")
    if not accepts(function, len(arguments)):
        raise Failed(f"{name}: must take {wanted}, got {last}{inspect.signature(function)}")
    try:
        return jax.eval_shape(function, *arguments.values())
    except RAISED_BY_USERS as error:
        raise Failed(f"{name} fails: {in_one_line(error)}") from None


def _array_problems(
    name: str, value: Any, kind: str, *shapes: tuple[int, ...], note: str = ""
) -> list[str]:
    """One line unless a value is an array of a kind and of one of some shapes."""
    shape: Any = getattr(value, "shape", None)
    dtype: Any = getattr(value, "dtype", None)
    right = shape in shapes and any(jnp.issubdtype(dtype, each) for each in KINDS[kind])
    if right:
        return []
    got = type(value).__name__ if shape is None else f"{dtype} of shape {shape}"
    return [f"{name}: must return {kind} of shape {shapes[-1]}{note}, got {got}"]


def _sized(*shape: int, dtype: Any = jnp.int32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def shape_problems(environment: Environment) -> list[str]:
    """Returns a line if an environment has no shape, or one without a choice."""
    shape = environment.shape
    if not isinstance(shape, Shape) or any(
        not isinstance(size, int) or size < least
        for size, least in zip(shape, (1, 1, 2), strict=True)
    ):
        allowed = "at least 1 prompt, 1 position and 2 symbols"
        return [f"shape must be a simrl.Shape of whole numbers, {allowed}, not {shape}"]
    return []


def environment_problems(environment: Environment) -> list[str]:
    """Returns a line for each function of an environment that breaks its contract."""
    _, length, vocab_size = environment.shape
    words = _sized(length, dtype=jnp.uint32)
    prompt, answer = _sized(), _sized(length)
    whole = (length,)
    problems = []
    channel = environment.channel
    if channel is not None and channel not in CHANNELS:
        allowed = f"None or one of {', '.join(CHANNELS)}"
        problems.append(f"environment.channel: must be {allowed}, got {channel!r}")
    unsure = environment.noisy or channel is None or not environment.binary
    if environment.verifier is not None and unsure:
        problems.append("environment.verifier needs fixed labels and a channel of 0/1 rewards")
    try:
        task = returned_by("environment.init", environment.init, key=_key())
    except Failed as failed:
        return [str(failed)]
    calls: dict[str, dict[str, Any]] = {
        "prompt": {"word": _sized(dtype=jnp.uint32), "task": task},
        "label": {"words": words, "task": task, "prompt": prompt},
        "reward": {"words": words, "task": task, "prompt": prompt, "answer": answer},
        "target": {"task": task, "prompt": prompt},
    }
    forms = {
        "prompt": ("integers", ()),
        "label": ("integers", whole),
        "target": ("numbers", (length, vocab_size)),
    }
    for part, arguments in calls.items():
        name = f"environment.{part}"
        try:
            value = returned_by(name, getattr(environment, part), **arguments)
        except Failed as failed:
            problems.append(str(failed))
            continue
        if part != "reward":
            problems += _array_problems(name, value, *forms[part])
        elif not isinstance(value, Outcome):
            got = (
                f"{value.dtype} of shape {value.shape}" if hasattr(value, "shape") else type(value)
            )
            problems.append(f"{name}: must return simrl.Outcome(credit, success), got {got}")
        else:
            forms_of_credit = ("numbers", (), (1,), whole)
            problems += _array_problems(f"{name}, credit", value.credit, *forms_of_credit)
            problems += _array_problems(f"{name}, success", value.success, "numbers", ())
    return problems


def policy_problems(policy: Policy, shape: Shape) -> list[str]:
    """Returns a line for each function of a policy that breaks its contract."""
    _, length, vocab_size = shape
    prompt, answer = _sized(), _sized(length)
    leaves: list[tuple[Any, Any]] = []

    def init(key: Array) -> Any:
        params = policy.init(key)
        leaves.extend(jax.tree_util.tree_leaves_with_path(params))
        return params

    try:
        if not accepts(policy.init, 1):
            returned_by("policy.init", policy.init, key=_key())
        params = returned_by("policy.init", init, key=_key())
    except Failed as failed:
        return _leaf_problems(leaves) or [str(failed)]
    problems = _leaf_problems(leaves)
    if problems:
        return problems
    words = _sized(length, dtype=jnp.uint32)
    note = "" if length == 1 else ", one for each position"
    calls: dict[str, tuple[dict[str, Any], tuple]] = {
        "sample": ({"words": words, "params": params, "prompt": prompt}, ("integers", (length,))),
        "log_prob": (
            {"params": params, "prompt": prompt, "answer": answer},
            ("floats", (length,)),
        ),
        "log_probs": (
            {"params": params, "prompt": prompt, "answer": answer},
            ("floats", (length, vocab_size)),
        ),
    }
    for part, (arguments, form) in calls.items():
        name = f"policy.{part}"
        try:
            value = returned_by(name, getattr(policy, part), **arguments)
        except Failed as failed:
            about_keys = part == "sample" and "key" in str(failed).lower()
            problems.append(f"{failed}; {WORDS_ARE_NO_KEY}" if about_keys else str(failed))
            continue
        problems += _array_problems(name, value, *form, note=note if part == "log_prob" else "")
    return problems


def _leaf_problems(leaves: list[tuple[Any, Any]]) -> list[str]:
    """Parameters that no optimiser can move, by the first of them."""
    for path, leaf in leaves:
        place = f" at {jax.tree_util.keystr(path)}" if path else ""
        if not isinstance(leaf, Array | np.ndarray | np.generic | float):
            what = "a function" if callable(leaf) else f"{type(leaf).__name__} {leaf!r}"
            remedy = "use eqx.partition(module, eqx.is_inexact_array), or keep it outside"
            return [f"policy.init: must return arrays, got {what}{place}; {remedy}"]
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            got = f"{jnp.result_type(leaf)}{place}"
            return [f"policy.init: must return floats, got {got}; keep what is not trained outside"]
    return []


def advantage_problems(advantage: Advantage, batch_size: int, length: int) -> list[str]:
    """Returns a line if a function of an advantage breaks its contract."""
    if advantage.oracle:
        return []  # it is given statistics besides, which the world and the policy have
    whole, real = (batch_size, length), jnp.result_type(float)
    rewards = _sized(*whole, dtype=real)
    success = _sized(batch_size, dtype=real)
    rollout = Rollout(_sized(), _sized(*whole), rewards, success, rewards)
    try:
        state = returned_by("advantage.init", advantage.init)
        value = returned_by("advantage.weights", advantage.weights, state=state, rollout=rollout)
    except Failed as failed:
        return [str(failed)]
    if not isinstance(value, tuple | list) or len(value) != 2:
        return ["advantage.weights must return a pair: the state, then the weights"]
    if _form(value[0]) != _form(state):
        return ["advantage.weights must return, first, a state of the form that init makes"]
    shape = getattr(value[1], "shape", None)
    if shape not in (whole, (batch_size, 1)):
        return [f"advantage.weights must return weights of shape {whole}, not {shape}"]
    return []


def learner_problems(learner: Learner, environment: Environment, policy: Policy) -> list[str]:
    """Returns a line if a function of a learner breaks its contract."""
    _, length, vocab_size = environment.shape
    streams = jax.eval_shape(keys.streams, _key(), _sized(dtype=jnp.uint32))
    task = jax.eval_shape(environment.init, _key())
    try:
        state = returned_by("learner.init", learner.init, keys=streams)
        result = returned_by("learner.step", learner.step, keys=streams, state=state, task=task)
        arguments = {"state": state, "prompt": _sized()}
        if isinstance(policy, TeacherForced) and not learner.listed:
            arguments["answer"] = _sized(length)
        belief = returned_by("learner.belief", learner.belief, **arguments)
        if learner.has_gradient and learner.moments is None:
            returned_by("learner.estimate", learner.estimate, keys=streams, state=state, task=task)
    except Failed as failed:
        return [str(failed)]
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Info):
        return ["learner.step: must return (state, simrl.Info)"]
    if _form(result[0]) != _form(state):
        return ["learner.step: must return, first, a state of the form that init makes"]
    shape = (1, vocab_size**length) if learner.listed else (length, vocab_size)
    problems = _array_problems("learner.belief", belief, "floats", shape)
    if policy.listed is not None and not learner.listed:
        wanted = "True, with a belief [1, V^L] by policy.listed: its positions are dependent"
        problems.append(f"learner.listed: must be {wanted}")
    return problems or _info_problems(result[1], environment.shape)[:1]


def _info_problems(info: Info, shape: Shape) -> list[str]:
    """Fields of what an update tells that are not of their form."""
    shape_of_answers: tuple[int, ...] = getattr(info.answers, "shape", ())
    groups, size, *_ = (*shape_of_answers, 0, 0)
    forms = {
        "answers": ("integers", (groups, size, shape.length)),
        "prompts": ("integers", (groups,)),
        "success": ("numbers", (groups, size)),
        "num_samples": ("integers", (groups,)),
        "num_tokens": ("integers", (groups,)),
        "flops": ("integers", (groups, 2)),
    }
    problems = []
    for name, form in forms.items():
        problems += _array_problems(f"learner.step, Info.{name}", getattr(info, name), *form)
    return problems


def _form(state: Any) -> Any:
    leaves, structure = jax.tree.flatten(state)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
