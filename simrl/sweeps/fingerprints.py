"""Fingerprints of the code of a user's own components, stored beside their versions.

A fingerprint is a hash of the programs (jaxprs) that the functions of a component are traced to,
with their constants. It is compared only under the versions of simrl and jax that it was made with:
another jax may write the same program otherwise.
"""

import hashlib
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from simrl import keys
from simrl.sweeps import identity
from simrl.sweeps import spec as specs
from simrl.sweeps.errors import RAISED_BY_USERS, SpecError
from simrl.sweeps.manifest import read_manifest
from simrl.sweeps.owned import Own
from simrl.types import Advantage, Environment, Policy, Rollout, Shape, Trial

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_CACHE: dict[Any, str] = {}  # by component and what it is built from


def of_spec(spec: Any) -> list[dict[str, str]]:
    """Returns an entry for each component of a spec that was named by `simrl.own`.

    `component` and `version` name it, `built_from` the sizes (or, of learners and surrogates, the
    condition) it was traced for, `made_with` the versions of simrl and jax.
    """
    learner = spec.learner
    parts = {"environment": spec.environment, "policy": spec.policy, "learner": learner}
    parts |= {name: getattr(learner, name, None) for name in ("advantage", "surrogate")}
    named = {name: part for name, part in parts.items() if isinstance(part, Own) and part.source}
    if not named:
        return []
    trial = specs.build(specs.parts(spec))
    shape, size = trial.environment.shape, getattr(learner, "group_size", 1)
    built_from = {"environment": "", "policy": str(tuple(shape))}
    built_from["advantage"] = str((size, shape.length))
    entries = []
    for family, part in named.items():
        context = built_from[family] if family in built_from else identity.cell_hash(spec)
        if (part, context) not in _CACHE:
            _CACHE[part, context] = _fingerprint(family, part, trial, size)
        entries.append(
            {
                "component": f"{family} {part.source}",
                "version": part.version,
                "built_from": context,
                "made_with": _made_with(),
                "fingerprint": _CACHE[part, context],
            }
        )
    return entries


def refuse_changes(path: Path, cells: list[dict[str, Any]]) -> None:
    """Raises SpecError if a component has changed since a folder stored results of its version.

    `cells`: those of `Sweep.describe()`.
    """
    entries = [entry for cell in cells for entry in cell.get("code", [])]
    if not entries or not (path / "manifest.json").exists():
        return
    stored = read_manifest(path)["sweep"]["cells"]
    there = {_name(entry): entry for cell in stored for entry in cell.get("code", [])}
    for entry in entries:
        before = there.get(_name(entry), entry)
        if before["fingerprint"] and before["fingerprint"] != entry["fingerprint"]:
            raise SpecError(
                f"{entry['component']}: has changed since version {entry['version']} was stored in "
                f"{path}; give it another version, or the run another out"
            )


def _name(entry: dict[str, str]) -> tuple:
    return tuple(value for key, value in sorted(entry.items()) if key != "fingerprint")


def _made_with() -> str:
    try:
        own = importlib.metadata.version("simrl")
    except importlib.metadata.PackageNotFoundError:
        own = "not installed"
    return f"simrl {own}, jax {jax.__version__}"


def _fingerprint(family: str, part: Own, trial: Trial, size: int) -> str:
    """16 hex digits; empty where a function cannot be traced, which is refused elsewhere."""
    digest = hashlib.sha256()
    try:
        for text, arrays in _programs(family, part, trial, size):
            digest.update(text.encode())
            for array in arrays:
                digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    except RAISED_BY_USERS:
        return ""
    return digest.hexdigest()[:16]


def _programs(
    family: str, part: Own, trial: Trial, size: int
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The text and the constants of everything a component consists of."""
    shape = trial.environment.shape
    component: Any = getattr(trial, family, None)
    if family == "advantage":
        component = part.build(size, shape.length)
        calls = _calls_of_advantage(component, size, shape.length)
    elif family == "environment":
        calls = _calls_of_environment(component)
    elif family == "policy":
        calls = _calls_of_policy(component, shape)
    else:
        component, calls = trial.learner, _calls_of_learner(trial)
    if component is not trial.learner:
        yield repr([value for value in component if not callable(value)]), []
    for name, (function, arguments) in calls.items():
        program = jax.make_jaxpr(function)(*arguments)
        text = _ADDRESS.sub("", str(program))
        yield f"{name}: {text}", [_as_numpy(x) for x in _constants(program)]


Calls = dict[str, tuple[Any, tuple]]  # name -> function, shapes of its arguments


def _sized(*shape: int, dtype: Any = jnp.int32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def _calls_of_environment(environment: Environment) -> Calls:
    length = environment.shape.length
    words, prompt = _sized(length, dtype=jnp.uint32), _sized()
    task = jax.eval_shape(environment.init, _key())
    arguments: dict[str, tuple] = {
        "init": (_key(),),
        "prompt": (_sized(dtype=jnp.uint32), task),
        "label": (words, task, prompt),
        "reward": (words, task, prompt, _sized(length)),
        "target": (task, prompt),
        "prompt_law": (task,),
    }
    arguments |= dict.fromkeys(("reward_law", "label_channel", "right", "allowed"), (task, prompt))
    functions = {name: getattr(environment, name) for name in arguments}
    return {name: (f, arguments[name]) for name, f in functions.items() if f is not None}


def _calls_of_policy(policy: Policy, shape: Shape) -> Calls:
    params = jax.eval_shape(policy.init, _key())
    words, prompt, answer = _sized(shape.length, dtype=jnp.uint32), _sized(), _sized(shape.length)
    return {
        "init": (policy.init, (_key(),)),
        "sample": (policy.sample, (words, params, prompt)),
        "log_prob": (policy.log_prob, (params, prompt, answer)),
        "log_probs": (policy.log_probs, (params, prompt, answer)),
    }


def _calls_of_advantage(advantage: Advantage, size: int, length: int) -> Calls:
    real = jnp.result_type(float)
    rewards, success = _sized(size, length, dtype=real), _sized(size, dtype=real)
    rollout = Rollout(_sized(), _sized(size, length), rewards, success, rewards)
    state = jax.eval_shape(advantage.init)
    return {"init": (advantage.init, ()), "weights": (advantage.weights, (state, rollout))}


def _calls_of_learner(trial: Trial) -> Calls:
    streams = jax.eval_shape(keys.streams, _key(), _sized(dtype=jnp.uint32))
    task = jax.eval_shape(trial.environment.init, _key())
    state = jax.eval_shape(trial.learner.init, streams)
    step = trial.learner.step
    return {"init": (trial.learner.init, (streams,)), "step": (step, (streams, state, task))}


def _constants(program: Any) -> Iterator[Any]:
    """Every array that a jaxpr holds, those of programs within it too."""
    if isinstance(program, ClosedJaxpr):
        yield from program.consts
        program = program.jaxpr
    if isinstance(program, tuple | list):
        for part in program:
            yield from _constants(part)
    if not isinstance(program, Jaxpr):
        return
    for equation in program.eqns:
        yield from (x.val for x in equation.invars if isinstance(x, Literal))
        for value in equation.params.values():
            yield from _constants(value)


def _as_numpy(x: Any) -> np.ndarray:
    """An array, or the words of random keys."""
    is_key = jnp.issubdtype(getattr(x, "dtype", np.float32), jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)
