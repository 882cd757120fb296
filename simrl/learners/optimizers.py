"""What optax has by a name, which of it moves parameters by their gradient alone, and rounding."""

import contextlib
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from simrl import rounding
from simrl.errors import brief, meant, spelling

EXAMPLE = jax.ShapeDtypeStruct((1, 2, 3), jnp.float32)  # params: a table of logits [M, L, V]
MEMORIES = ("b1", "b2", "b3", "decay")  # decay rates of running means, which 1 never lets begin
POSITIVE = ("peak_value", "max_norm", "max_delta", "threshold", "clipping")
NOT_NEGATIVE = ("learning_rate", "init_value", "end_value", "value", "eps_root")


def public(name: Any) -> Any:
    """Returns what optax or optax.contrib calls a name; None where there is nothing."""
    if not isinstance(name, str) or name.startswith("_"):
        return None
    return vars(optax).get(name) or vars(contrib).get(name)  # not optax's deprecated names


def known_name(name: Any) -> Any:
    """Returns the name that optax knows for one in another spelling (`AdamW`), else the name."""
    if public(name) is not None or not isinstance(name, str):
        return name
    return spelling(name) if callable(public(spelling(name))) else name


def parameters(make: Callable) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function of optax by their names."""
    return inspect.signature(make).parameters


def name_problems(name: Any) -> list[str]:
    """Why a name is not that of an optimiser, in one line at most."""
    make = public(name)
    if not callable(make) or isinstance(make, type):
        hint = meant(name, optimisers()) if isinstance(name, str) else ""
        wanted = "optimizer must name an optax optimiser such as sgd or adam"
        return [f"{wanted}, not {brief(name)}{hint}"]
    bare = not _has_rate(name, make)
    return [f"optax.{name} is not an optimiser: it has no learning_rate"] if bare else []


def optimisers() -> list[str]:
    """The names of the optimisers of optax and optax.contrib."""
    things = {**vars(contrib), **vars(optax)}.items()
    public_names = [(name, make) for name, make in things if not name.startswith("_")]
    return [n for n, make in public_names if inspect.isfunction(make) and _has_rate(n, make)]


def _has_rate(name: str, make: Callable) -> bool:
    """Whether it steps by a learning rate; what only scales a gradient would step the other way."""
    rate = any(argument.endswith("learning_rate") for argument in parameters(make))
    return rate and not name.startswith("scale_by_")


def argument_problems(name: str, others: tuple[str, ...], numbers: Mapping[str, Any]) -> list[str]:
    """Numbers that nothing takes, and a learning rate that is missing, in one line at most."""
    taken = dict(parameters(public(name)))
    rate = taken.get("learning_rate")
    for other in others:
        taken |= parameters(public(other))
    strangers = [number for number in numbers if number not in taken]
    if strangers:
        names = ", optax.".join((name, *others))
        return [f"optax.{names} has no argument {strangers[0]!r}{meant(strangers[0], taken)}"]
    missing = rate is not None and rate.default is inspect.Parameter.empty
    if missing and "learning_rate" not in numbers and not others:
        return [f"{name} needs a learning_rate: simrl.Optimizer({name!r}, learning_rate=...)"]
    return []


def range_problems(name: str, numbers: Mapping[str, Any]) -> list[str]:
    """Numbers with which an optimiser divides by 0, or goes away from where it is led."""
    allowed = {
        "in [0, 1)": (MEMORIES, lambda x: 0 <= x < 1),
        "in [0, 1]": (("momentum",), lambda x: 0 <= x <= 1),
        "above 0": (POSITIVE, lambda x: x > 0),
        "at least 0": (NOT_NEGATIVE, lambda x: x >= 0),
    }
    usual = parameters(public(name))
    if "eps" in usual and usual["eps"].default == 0:  # lars divides by norms that are not 0
        allowed["at least 0 "] = (("eps",), lambda x: x >= 0)
    else:
        allowed["above 0 "] = (("eps",), lambda x: x > 0)
    return [
        f"{number} must be {words.strip()}, not {numbers[number]}"
        for words, (known, holds) in allowed.items()
        for number in known
        if number in numbers and not holds(numbers[number])
    ]


def update_problems(label: str, optimizer: Any) -> list[str]:
    """Why an optimiser cannot be run on every seed, in one line at most.

    `optimizer`: a pytree of numbers with a `build`. It is traced on a gradient alone.
    """
    return list(_update_problems(label, jax.tree.structure(optimizer)))


@functools.cache  # optimisers of one structure differ in traced numbers only
def _update_problems(label: str, structure: Any) -> tuple[str, ...]:
    def once(optimizer: Any, params: jax.Array) -> Any:
        transformation = optimizer.build()
        return transformation.update(params, transformation.init(params), params)

    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    numbers = jax.tree.unflatten(structure, [scalar] * structure.num_leaves)
    try:
        with quiet():
            program = str(jax.make_jaxpr(once)(numbers, EXAMPLE))
    except Exception as error:  # whatever optax or the user's own transformation raises
        line = re.sub(r"\S*<locals>\.", "", (str(error).splitlines() or [""])[0])[:150]
        return (f"optimizer {label} cannot step by a gradient alone, with traced numbers: {line}",)
    if "random_bits" in program or "threefry" in program:
        return (f"optimizer {label} draws random numbers by a key that all seeds would share",)
    return ()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Where optax does not warn, of noise that has no key; the one line that refuses it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Compensated(NamedTuple):
    """State of an optimiser whose parameters lose none of its updates to rounding."""

    inner: Any  # state of the optimiser itself
    residual: Any  # exact sum of all updates minus parameters: at most half a unit in last place


def compensated(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns `optimizer` with compensated summation of its updates.

    A float32 logit between 8 and 16 changes in steps of 1e-6: an update below half a step would be
    lost, however often it came. What the sum of parameter and update rounds away is added to the
    next update; a further update of 0 changes nothing.
    """

    def init(params: Any) -> Compensated:
        return Compensated(optimizer.init(params), jax.tree.map(jnp.zeros_like, params))

    def update(
        gradient: Any, state: Compensated, params: Any, **more: Any
    ) -> tuple[Any, Compensated]:
        updates, inner = optimizer.update(gradient, state.inner, params, **more)
        sums = jax.tree.map(rounding.compensated_sum, params, updates, state.residual)
        updates, residual = jax.tree.transpose(jax.tree.structure(params), None, sums)
        return updates, Compensated(inner, residual)

    return optax.GradientTransformationExtraArgs(init, update)
