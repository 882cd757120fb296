"""Fields of a spec by themselves: those that are not of their type, and numbers out of range."""

import dataclasses
import importlib
import numbers
from typing import Any

import numpy as np

from simrl.engine import clock, observe
from simrl.errors import meant
from simrl.sweeps.given import told

ENGINES = ("fused", "plain", "jump", "auto")
MOST_PLACES = 2**20  # log points, phases, redraws: far more are a slip, and take all memory
LARGEST = float(np.finfo(np.float32).max)  # numbers are traced in float32


def type_problems(thing: Any, path: str = "") -> list[str]:
    """Fields that are not of the type that they say, and numbers that float32 does not hold."""
    found = []
    kinds = {} if isinstance(thing, dict) else {f.name: f.type for f in dataclasses.fields(thing)}
    for name, value in (thing if isinstance(thing, dict) else vars(thing)).items():
        kind = kinds.get(name, float)
        if isinstance(value, dict) or dataclasses.is_dataclass(value):
            found += type_problems(value, f"{path}{name}.")
        elif kind is bool and not isinstance(value, bool | np.bool_):
            found.append(f"{path}{name} must be true or false, not {value!r}")
        elif kind in (int, float) or (kind == float | None and value is not None):
            found += _number_problems(f"{path}{name}", value, whole=kind is int)
        elif kind in (tuple[int, ...], tuple[float, ...]):
            found += _row_problems(f"{path}{name}", value, whole=kind == tuple[int, ...])
    return found


def _number_problems(name: str, value: Any, *, whole: bool) -> list[str]:
    if not _is_number(value, whole=whole):
        return [f"{name} must be a {'whole ' * whole}number, not {value!r}"]
    if not whole and abs(value) > LARGEST:
        most = f"at most {LARGEST:.3g}"
        return [f"{name} must be a number that float32 holds, {most}, not {told(value)}"]
    return []


def _row_problems(name: str, value: Any, *, whole: bool) -> list[str]:
    row = isinstance(value, tuple | list) and all(_is_number(x, whole=whole) for x in value)
    return [] if row else [f"{name} must be a list of {'whole ' * whole}numbers, not {value!r}"]


def _is_number(value: Any, *, whole: bool) -> bool:
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
        f"log_points must be at least 1, at most {MOST_PLACES}, not {spec.log_points}": 1
        <= spec.log_points
        <= MOST_PLACES,
        f"observe_every must be in 1 ... {clock.NUM_EACH}, not {spec.observe_every}": 1
        <= spec.observe_every
        <= clock.NUM_EACH,
        f"num_redraws must be at least 3, at most {MOST_PLACES}, not {spec.num_redraws}": 3
        <= spec.num_redraws
        <= MOST_PLACES,
        f"log_spacing must be log or linear, not {spec.log_spacing!r}": spec.log_spacing
        in ("log", "linear"),
        f"stop_pass_rate must be in (0, 1], not {spec.stop_pass_rate}": 0
        < spec.stop_pass_rate
        <= 1,
        "thresholds must be at least one pass rate between 0 and 1, not none": (
            len(spec.thresholds) > 0
        ),
        f"thresholds must lie between 0 and 1, not {spec.thresholds}": all(
            0 < t < 1 for t in spec.thresholds
        ),
        f"phases.coordinate must be log_odds or excess_loss, not {phases.coordinate!r}": (
            phases.coordinate in ("log_odds", "excess_loss")
        ),
        f"phases need low < high and num >= 1, at most {MOST_PLACES}, not "
        f"{phases.low}, {phases.high}, {phases.num}": (
            phases.low < phases.high and 1 <= phases.num <= MOST_PLACES
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
