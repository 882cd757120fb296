"""Optimisers whose learning rate follows an optax schedule, or whose gradients are clipped first.

All by their optax names, and numbers by the names of their arguments: a schedule's go to it, then
the optimiser takes its own, then the clipping. `learning_rate` is the schedule's `init_value`
(`value` of a constant one); a warm-up is given `init_value` and `peak_value` themselves.

A schedule counts the steps of the optimiser: several an update where there are several epochs.
"""

import inspect
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import optax

HORIZONS = ("decay_steps", "warmup_steps", "transition_steps", "transition_begin")
# What optax looks at when it makes a schedule, and so cannot be traced.
SHAPES = ("staircase", "decay_rate", "pct_start", "pct_final", "div_factor", "final_div_factor")
FIXED = (*HORIZONS, "peak_value", *SHAPES)
STARTS = ("init_value", "value")  # what a learning rate may stand for
MEMORIES = ("b1", "b2", "b3", "decay", "momentum")  # shares of what was kept so far


def arguments(name: str) -> set[str]:
    """The names of the arguments of what optax calls `name`."""
    return set(inspect.signature(getattr(optax, name)).parameters)


def parted(numbers: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
    """The numbers that may be traced, and those that a schedule needs to know, sorted."""
    free = {name: number for name, number in numbers.items() if name not in FIXED}
    return free, tuple(sorted((n, x) for n, x in numbers.items() if n in FIXED))


def problems(schedule: str, clip: str, numbers: Mapping[str, Any]) -> list[str]:
    """What is wrong with the names, or with the numbers that a schedule needs, one line each."""
    found = []
    if schedule and not callable(_public(schedule)):
        found.append(f"schedule must name an optax schedule, not {schedule!r}")
    if clip and not ("clip" in clip and callable(_public(clip))):
        found.append(f"clip must name an optax transform such as clip_by_global_norm, not {clip!r}")
    for name in FIXED if schedule else ():
        number: Any = numbers.get(name, 1)
        real: bool = isinstance(number, Real)
        if not real or not np.isfinite(float(number)):
            found.append(f"{name} must be a number, not {number!r}")
        elif name in HORIZONS and not (number >= 0 and float(number).is_integer()):
            found.append(f"{name} must be a whole number, at least 0, not {number!r}")
    if found or not schedule:
        return found
    taken = arguments(schedule)
    if "learning_rate" in numbers and "peak_value" in taken:
        found.append(f"{schedule} takes init_value and peak_value in place of a learning_rate")
    if "learning_rate" not in numbers and not taken & set(numbers):
        found.append(f"{schedule} needs a learning_rate to begin with")
    return found


def range_problems(numbers: Mapping[str, Any]) -> list[str]:
    """Numbers with which any optimiser would blow up; a rate below 0 unlearns, and may be meant."""
    return [
        f"{name} must lie in [0, 1], not {numbers[name]}"
        for name in MEMORIES
        if not 0 <= numbers.get(name, 0) <= 1
    ]


def _public(name: str) -> Any:
    return None if name.startswith("_") else getattr(optax, name, None)


def build(
    name: str, schedule: str, clip: str, numbers: Mapping[str, Any]
) -> optax.GradientTransformation:
    """The optimiser; TypeError or ValueError where optax refuses a number or misses one."""
    left = dict(numbers)
    if schedule:
        taken = arguments(schedule)
        start = next((s for s in STARTS if s in taken and s not in left), None)
        if start and "learning_rate" in left:
            left[start] = left.pop("learning_rate")
        mine = {n: left.pop(n) for n in list(left) if n in taken}
        mine = {n: int(x) if n in HORIZONS else x for n, x in mine.items()}
        left["learning_rate"] = getattr(optax, schedule)(**mine)
        if not callable(left["learning_rate"]) or isinstance(left["learning_rate"], tuple):
            raise ValueError(f"optax.{schedule} is not a schedule")
    if not clip:
        return getattr(optax, name)(**left)
    taken = arguments(clip) - arguments(name)
    first = getattr(optax, clip)(**{n: left.pop(n) for n in list(left) if n in taken})
    return optax.chain(first, getattr(optax, name)(**left))
