"""Optimisers whose learning rate follows an optax schedule, or whose gradients are clipped first.

All by their optax names, and numbers by the names of their arguments: a schedule's go to it, then
the optimiser takes its own, then the clipping. `learning_rate` is the schedule's `init_value`
(`value` of a constant one); a warm-up is given `init_value` and `peak_value` themselves.

A schedule counts the steps of the optimiser: several an update where there are several epochs.
"""

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import optax

from simrl.learners.optimizers import parameters, public

HORIZONS = ("decay_steps", "warmup_steps", "transition_steps", "transition_begin")
# What optax looks at when it makes a schedule, and so cannot be traced.
SHAPES = ("staircase", "decay_rate", "pct_start", "pct_final", "div_factor", "final_div_factor")
FIXED = (*HORIZONS, *SHAPES)
ENDINGS = ("schedule", "decay")  # of the names of optax's schedules
STARTS = ("init_value", "value")  # what a learning rate may stand for
LEVELS = ("init_value", "end_value")  # besides the peak


def arguments(name: str) -> set[str]:
    """The names of the arguments of what optax calls `name`."""
    return set(parameters(public(name)))


def parted(
    numbers: Mapping[str, Any], schedule: str
) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
    """The numbers that may be traced, and those that cannot be, sorted: switches and `FIXED`."""

    def is_fixed(name: str, number: Any) -> bool:
        scheduled = isinstance(schedule, str) and schedule != ""
        return isinstance(number, bool) or (scheduled and name in FIXED)

    fixed = sorted((name, x) for name, x in numbers.items() if is_fixed(name, x))
    return {name: x for name, x in numbers.items() if not is_fixed(name, x)}, tuple(fixed)


def problems(schedule: str, clip: str, numbers: Mapping[str, Any]) -> list[str]:
    """What is wrong with the names, or with the numbers that a schedule needs, one line each."""
    found = []
    if schedule != "" and not (callable(public(schedule)) and schedule.endswith(ENDINGS)):
        found.append(f"schedule must name an optax schedule, not {schedule!r}")
    if clip != "" and not (callable(public(clip)) and "clip" in clip):
        example = 'clip="clip_by_global_norm", max_norm=1.0'
        found.append(f"clip must name an optax transform, such as {example}; not {clip!r}")
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


def build(
    name: str, schedule: str, clip: str, numbers: Mapping[str, Any]
) -> optax.GradientTransformation:
    """The optimiser; TypeError or ValueError where optax refuses a number or misses one."""
    left, make = dict(numbers), public(name)
    if schedule:
        taken = arguments(schedule)
        start = next((s for s in STARTS if s in taken and s not in left), None)
        if start and "learning_rate" in left:
            left[start] = left.pop("learning_rate")
        of_schedule = {n: left.pop(n) for n in list(left) if n in taken}
        left["learning_rate"] = _rate(schedule, of_schedule)
    if not clip:
        return make(**left)
    taken = arguments(clip) - arguments(name)
    first = public(clip)(**{n: left.pop(n) for n in list(left) if n in taken})
    return optax.chain(first, make(**left))


def _rate(schedule: str, numbers: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The learning rate by the number of steps so far.

    optax compares a peak with 0, and so it would have to be static. A schedule that has one is
    linear in its values: it is made with a peak of 1 and multiplied by the peak.
    """
    values = {n: int(x) if n in HORIZONS else x for n, x in numbers.items()}
    peak = values.get("peak_value")
    if peak is not None:
        values |= {n: values[n] / peak for n in LEVELS if n in values} | {"peak_value": 1.0}
    shape: Any = public(schedule)(**values)
    if not callable(shape) or isinstance(shape, tuple):
        raise ValueError(f"optax.{schedule} is not a schedule")
    return shape if peak is None else lambda count: peak * shape(count)
