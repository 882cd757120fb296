"""Fields of a spec by themselves: those that are not of their type, and numbers out of range."""

import dataclasses
import importlib
import numbers
from typing import Any, Literal, get_origin

import numpy as np

from simrl.engine import clock, observe
from simrl.errors import brief, meant
from simrl.sweeps.owned import Own

ENGINES = ("fused", "plain", "jump", "auto")
MOST_LOG_POINTS = 2**16  # with 2^17 updates, a minute for 256 seeds
MOST_PHASES, MOST_THRESHOLDS = 2**12, 2**10
MOST_REDRAWS = 2**20
LARGEST = float(np.finfo(np.float32).max)  # numbers are traced in float32


def type_problems(record: Any, path: str = "") -> list[str]:
    """Returns lines on fields of a record that are not of the types that it declares.

    Everything that reads a field, to compare or to compute, comes after this.
    """
    fields = dataclasses.fields(record)
    lines = [_field_problems(f"{path}{f.name}", f.type, getattr(record, f.name)) for f in fields]
    return [line for some in lines for line in some]


def _field_problems(name: str, kind: Any, value: Any) -> list[str]:
    """What keeps a value from being of a declared type; numbers must be some that float32 holds."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        right = isinstance(value, kind)
        rule = f"must be simrl.{kind.__name__}, or its fields by name, not {brief(value)}"
        return type_problems(value, f"{name}.") if right else [f"{name} {rule}"]
    if kind is bool:
        right = isinstance(value, bool | np.bool_)
        return [] if right else [f"{name} must be true or false, not {brief(value)}"]
    if kind in (int, float) or (kind == float | None and value is not None):
        return _number_problems(name, value, whole=kind is int)
    if kind in (tuple[int, ...], tuple[float, ...]):
        return _row_problems(name, value, whole=kind == tuple[int, ...])
    if kind is str or get_origin(kind) is Literal:
        return [] if isinstance(value, str) else [f"{name} must be text, not {brief(value)}"]
    if kind == dict[str, float]:
        return _argument_problems(name.removesuffix("numbers"), value)
    if kind == tuple[tuple[str, float], ...]:
        numbers_alone = {key: x for key, x in value if not isinstance(x, bool)}
        return _argument_problems(name.removesuffix("fixed"), numbers_alone)
    if kind is Any and dataclasses.is_dataclass(value) and not isinstance(value, type | Own):
        return type_problems(value, f"{name}.")
    return []


def _argument_problems(path: str, arguments: dict[str, Any]) -> list[str]:
    """Arguments of an optimiser that are not numbers."""
    lines = [_number_problems(path + name, x, whole=False) for name, x in arguments.items()]
    return [line for some in lines for line in some]


def _number_problems(name: str, value: Any, *, whole: bool) -> list[str]:
    if not _is_number(value, whole=whole):
        return [f"{name} must be a {'whole ' * whole}number, not {brief(value)}"]
    if not whole and abs(value) > LARGEST:
        most = f"at most {LARGEST:.3g}"
        return [f"{name} must be a number that float32 holds, {most}, not {brief(value)}"]
    if whole and abs(value) > 2**64:
        return [f"{name} must be a whole number of at most 64 bits, not {brief(value)}"]
    return []


def _row_problems(name: str, value: Any, *, whole: bool) -> list[str]:
    row = isinstance(value, tuple | list) and all(_is_number(x, whole=whole) for x in value)
    if not row:
        return [f"{name} must be a list of {'whole ' * whole}numbers, not {brief(value)}"]
    lines = (_number_problems(f"{name}[{i}]", x, whole=whole) for i, x in enumerate(value))
    return next((line for line in lines if line), [])


def _is_number(value: Any, *, whole: bool) -> bool:
    """Whether a value is a finite real number of Python or NumPy."""
    wanted: Any = numbers.Integral if whole else numbers.Real
    real = isinstance(value, wanted) and not isinstance(value, bool)
    return real and value == value and value not in (np.inf, -np.inf)


def run_problems(spec: Any) -> list[str]:
    """Numbers of the run that are out of range."""
    phases = spec.phases
    checks = {
        f"max_steps must be in 1 ... {clock.NUM_JUMPED}, not {spec.max_steps}": 1
        <= spec.max_steps
        <= clock.NUM_JUMPED,
        f"log_points must be at least 1, at most {MOST_LOG_POINTS}, not {spec.log_points}": 1
        <= spec.log_points
        <= MOST_LOG_POINTS,
        f"observe_every must be in 1 ... {clock.NUM_EACH}, not {spec.observe_every}": 1
        <= spec.observe_every
        <= clock.NUM_EACH,
        f"num_redraws must be at least 3, at most {MOST_REDRAWS}, not {spec.num_redraws}": 3
        <= spec.num_redraws
        <= MOST_REDRAWS,
        f"log_spacing must be log or linear, not {spec.log_spacing!r}": spec.log_spacing
        in ("log", "linear"),
        f"stop_pass_rate must be in (0, 1], not {spec.stop_pass_rate}": 0
        < spec.stop_pass_rate
        <= 1,
        "thresholds must be at least one pass rate between 0 and 1, not none": (
            len(spec.thresholds) > 0
        ),
        f"thresholds must be at most {MOST_THRESHOLDS}, not {len(spec.thresholds)}": (
            len(spec.thresholds) <= MOST_THRESHOLDS
        ),
        f"thresholds must lie between 0 and 1, not {brief(spec.thresholds)}": all(
            0 < t < 1 for t in spec.thresholds
        ),
        f"phases.coordinate must be log_odds or excess_loss, not {phases.coordinate!r}": (
            phases.coordinate in ("log_odds", "excess_loss")
        ),
        f"phases need low < high and num >= 1, at most {MOST_PHASES}, not "
        f"{phases.low}, {phases.high}, {phases.num}": (
            phases.low < phases.high and 1 <= phases.num <= MOST_PHASES
        ),
        f"engine must be one of {', '.join(ENGINES)}, not {spec.engine!r}": spec.engine in ENGINES,
        f"base_seed must be in 0 ... 2^32 - 1, not {spec.base_seed}": 0 <= spec.base_seed < 2**32,
    }
    unknown = [name for name in spec.measures if name not in observe.ASKED]
    return [line for line, holds in checks.items() if not holds] + [*map(_no_measure, unknown)]


def _no_measure(name: str) -> str:
    """What to say of a measure that cannot be asked for: some need not be."""
    # Heavy rooms, opened for this line alone.
    ratios = importlib.import_module("simrl.sweeps.table").RATIOS
    meanings = importlib.import_module("simrl.sweeps.dataset").MEANINGS
    for measured, where in ((ratios, "phase_table"), (meanings, "the Dataset")):
        if name in measured:
            return f"measures: {name} is measured wherever it is defined; see {where}"
    names = ", ".join(observe.ASKED)
    return f"measures must be among {names}, not {name!r}{meant(name, observe.ASKED)}"
