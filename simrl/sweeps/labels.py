"""Names of axes and labels of conditions: what is allowed, and which one is chosen."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from simrl.errors import SpecError, brief
from simrl.learners.updates import Optimizer
from simrl.sweeps import spec as specs
from simrl.sweeps.given import has_control
from simrl.sweeps.owned import Own

# Names that a Dataset or a table has itself: dims, variables and columns.
DIMS = {"cell", "seed", "log_point", "phase", "threshold", "prompt", "position", "symbol", "leaf"}
COLUMNS = {"quantity", "units", "statistic", "variable", "value", "mean", "low", "high", "exact"}
COLUMNS |= {"num_seeds", "num_reached", "num_censored", "num_stuck", "num_missing", "num_diverged"}
COLUMNS |= {"few_seeds"}
MEASURES = {"step", "time", "pass_rate", "success", "log_odds", "log2_answer", "gap", "belief"}
MEASURES |= {"nominal", "expected", "realised", "absorbed", "absorbed_label", "excess_loss"}
MEASURES |= {"expected_update", "realised_update", "trace_covariance", "squared_norm", "cosine"}
MEASURES |= {"squared_bias", "regret", "expected_regret", "squared_expected_regret", "zero_share"}
MEASURES |= {"information_gain", "duel_expected", "duel_realised", "duels", "duel_wins", "updates"}
MEASURES |= {"samples", "tokens", "trajectories", "dead", "flops", "flops_counted", "stopped"}
MEASURES |= {"observed_pass_rate", "steps_done", "reached", "diverged", "present"}
MEASURES |= {"diverged_step"}
RESERVED = DIMS | COLUMNS | MEASURES
STARTS: tuple[str, ...] = (
    "phase_",
    "hit_",
    "total_",
    "update_",
    "redrawn_",
    "two_batch_",
    "leaf_",
    "flops_",
)
STARTS += ("learner_", "world_", "step_", "samples_", "tokens_", "trajectories_")
ENDS = ("_error",)


def is_reserved(name: str) -> bool:
    """Returns whether a Dataset or a table may have a variable, dim or column of this name."""
    return name in RESERVED or name.startswith(STARTS) or name.endswith(ENDS)


def axis_names(paths: Iterable[str]) -> dict[str, str]:
    """Returns the axis of each dotted path: its last part, or the path where that is not free.

    A last part is not free where another path has it too or where a Dataset or a table has a name
    like it. Raises SpecError where the path itself cannot be a name.
    """
    short = {path: path.rpartition(".")[2] for path in paths}
    ends = list(short.values())
    names = {
        path: path if ends.count(name) > 1 or is_reserved(name) else name
        for path, name in short.items()
    }
    for name in names.values():
        check_name(name)
    return names


def check_name(name: Any) -> None:
    """Raises SpecError unless an axis can have this name."""
    if name in ("seed", "seeds"):
        raise SpecError(f"vary: {name!r} cannot be an axis: seeds are an argument of simrl.run")
    if not isinstance(name, str) or not name.strip() or name != name.strip() or name == ".":
        raise SpecError(f"an axis must have a name of letters and digits, got {brief(name)}")
    if "/" in name or has_control(name):
        rule = "an axis must have a name without '/' and control characters"
        raise SpecError(f"{rule}, got {brief(name)}")
    if is_reserved(name):
        raise SpecError(f"an axis cannot be called {name!r}: a Dataset or a table has that name")


def checked(axis: str, labels: list[Any]) -> list[Any]:
    """Returns the labels of one axis, of one kind: booleans, numbers or text.

    Where kinds are mixed all become text. Raises SpecError for what no table or file can hold.
    """
    plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
    for label in plain:
        text = isinstance(label, str) and (not label or has_control(label))
        number = isinstance(label, int | float) and not -(2.0**63) <= label < 2.0**63
        infinite = isinstance(label, float) and abs(label) == np.inf
        if not isinstance(label, str | int | float) or text or (number and not infinite):
            allowed = "text without control characters, numbers, true or false"
            raise SpecError(f"labels of {axis} must be {allowed}, got {brief(label)}")
    kinds = {bool if isinstance(x, bool) else str if isinstance(x, str) else float for x in plain}
    return plain if len(kinds) < 2 else [str(label) for label in plain]


def of_values(values: list[Any]) -> list[Any]:
    """Returns a label for each value: a plain value itself, an object its name.

    Objects of one name are told apart by their registered names (`leave_one_out`) or by the fields
    that differ: `PolicyGradient(advantage=none)`.
    """
    labels = [_name(value) for value in values]
    for name in {label for label in labels if isinstance(label, str) and labels.count(label) > 1}:
        places = [i for i, label in enumerate(labels) if label == name]
        for i, label in zip(places, _apart(name, [values[i] for i in places]), strict=True):
            labels[i] = label
    return labels


def _apart(name: str, values: list[Any]) -> list[str]:
    """Labels of values that share a name."""
    fields = [_fields(value) for value in values]
    paths = dict.fromkeys(path for row in fields for path in row)
    differing = [path for path in paths if len({repr(row.get(path)) for row in fields}) > 1]
    columns = [of_values([row.get(path) for row in fields]) for path in differing]
    labels = []
    for value, *row in zip(values, *columns, strict=True):
        inside = ", ".join(f"{path}={x}" for path, x in zip(differing, row, strict=True))
        labels.append(_registered(value) or (f"{name}({inside})" if inside else name))
    return labels


def _registered(value: Any) -> str:
    """The name under which simrl knows this very value; empty if it does not."""
    if not dataclasses.is_dataclass(value):
        return ""
    families = specs.FAMILIES.values()
    named = ((n, known) for family in families for n, known in family.items())
    return next((n for n, known in named if type(known) is type(value) and known == value), "")


def _name(value: Any) -> Any:
    """A plain value, or the short name of another."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return str(value.get("name", _line(dict(value))))
    if isinstance(value, Own):
        return value.source or _name(value.thing)
    if isinstance(value, Optimizer):
        return _name(value.name)  # or an optax.GradientTransformation
    if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
        return type(value).__name__
    return getattr(value, "__name__", None) or _line(value)


def _line(value: Any) -> str:
    """A list, an array or None on one line; of other objects, whose text has an address, the type.

    An address would differ from run to run.
    """
    plain = value is None or isinstance(value, list | tuple | dict | set | range | np.ndarray)
    try:
        return " ".join(str(value).split()) if plain else type(value).__name__
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return brief(value)


def _fields(value: Any) -> dict[str, Any]:
    """What two values of one name can differ in."""
    if isinstance(value, Own):
        return {"version": value.version} if value.source else {}
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items() if key != "name"}
    if isinstance(value, Optimizer):
        own = {"schedule": value.schedule, "clip": value.clip}
        return {**value.numbers, **dict(value.fixed), **own}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {}
