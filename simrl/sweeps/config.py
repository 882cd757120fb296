"""Sweeps from TOML files."""

import dataclasses
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from simrl.errors import SpecError, brief, shallow
from simrl.learners.updates import Optimizer
from simrl.sweeps import given, ranges
from simrl.sweeps import spec as specs
from simrl.sweeps.grid import Sweep
from simrl.sweeps.spec import Spec

OF_RUN = ("seeds", "seed", "out", "devices", "only", "progress")  # arguments of simrl.run
OF_SWEEP = ("name", "mode")  # the other fields of a Sweep


@shallow
def load(path: str | Path, allow: Iterable[str] = ()) -> Sweep:
    """Reads a sweep from a TOML file.

    At the top stand `name` and `mode` of the Sweep and fields of Spec (`max_steps = 500`), then
    tables for parts of it (`[learner]` with a `name`), last `[vary]` with a list of values for each
    path: `learner.optimizer.learning_rate = [0.5, 1.0]`. In TOML all that follows `[vary]` belongs
    to it. `simrl init` writes an example.

    A component "module:attribute" runs code of that module. `allow`: the modules that the file may
    name, or packages that they are in; by default none. Raises SpecError, one line, on a mistake.
    """
    source = given.path(path, "path")
    data = _read(source)
    _refuse_modules(source, data, given.words(allow, "allow"))
    vary, name = data.pop("vary", {}), data.pop("name", source.stem)
    mode = data.pop("mode", "product")
    base = Spec()
    for key, value in data.items():
        if key in OF_RUN:
            raise SpecError(f"{path}: {key} is an argument of simrl.run, not a field of a sweep")
        _require_names(key, value)
        base = specs.put(base, key, value)
    base = _typed(specs.resolved(base))
    if isinstance(vary, dict):
        vary = dict(pair for key, value in vary.items() for pair in _axes(base, key, value))
    sweep = Sweep(base, vary, name, mode)
    for cell in sweep.unchecked():
        _typed(cell.spec)
    return sweep


def _read(source: Path) -> dict[str, Any]:
    if source.is_dir():
        raise SpecError(f"{source} is a folder, and no TOML file: simrl.open reads results")
    try:
        with source.open("rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        raise SpecError(f"cannot read {source}: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not even text
        raise SpecError(f"{source} is not valid TOML: {error}") from None
    except RecursionError:
        raise SpecError(f"{source} is not valid TOML: brackets in brackets without end") from None
    given.refuse_deep(data, str(source))
    return data


def _refuse_modules(source: Path, data: dict[str, Any], allow: tuple[str, ...]) -> None:
    """Raises SpecError where a file names a module that its user does not allow."""
    vary = data.get("vary")
    if data.get("mode") == "list" and isinstance(vary, list):  # pairs of labels and changes
        vary = [pair[1:] if isinstance(pair, list) else pair for pair in vary]
    for text in _texts([*(data[key] for key in data if key not in (*OF_SWEEP, "vary")), vary]):
        module, colon, _ = text.partition(":")
        if colon and not any(f"{module}.".startswith(f"{name}.") for name in allow):
            advice = f"if you trust it, simrl.load(path, allow=[{module!r}]), --allow {module}"
            rule = "may only name modules that you allow"
            raise SpecError(f"{source}: {rule}, got {brief(text)}; {advice}")


def _texts(value: Any) -> Iterator[str]:
    """Returns every text in tables and lists, keys left out: one of them may name a component."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _typed(spec: Spec) -> Spec:
    """The spec, whose fields are of their types."""
    problems = ranges.type_problems(spec)
    if problems:
        raise SpecError(problems[0])
    return spec


def _require_names(path: str, value: Any) -> None:
    """Raises SpecError where a table lacks the name of what it describes."""
    if not isinstance(value, dict):
        return
    family = specs.FAMILIES.get(path.rpartition(".")[2])
    if family is not None and "name" not in value:
        word = next((key for key in ("_target_", "type", "class", "kind") if key in value), None)
        instead = f", not {word}" if word and word != "kind" else ""
        raise SpecError(f"[{path}] needs a name{instead}: one of {', '.join(family)}")
    for key, inner in value.items():
        _require_names(f"{path}.{key}", inner)


def _axes(base: Spec, path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Axes, path and values, of an entry of [vary]: an unquoted dotted key is a nested table."""
    thing = _part(base, path)
    if isinstance(value, dict) and dataclasses.is_dataclass(thing) and _is_nested(thing, value):
        for key, inner in value.items():
            yield from _axes(base, f"{path}.{key}", inner)
        return
    if path in OF_SWEEP and not isinstance(value, dict):
        raise SpecError(f"{path} stands in [vary]: it belongs above [vary], at the top of the file")
    if not isinstance(value, dict | list):
        above = "a field that does not vary belongs above [vary]"
        raise SpecError(f"[vary] {path} must be a list of values, got {brief(value)}; {above}")
    if isinstance(thing, tuple) and isinstance(value, list):
        _require_lists(path, value)
    yield path, value


def _require_lists(path: str, value: list[Any]) -> None:
    """Raises SpecError where the values of a field that is a list are not lists."""
    if not all(isinstance(item, list) for item in value):
        above = "a field that does not vary belongs above [vary]"
        raise SpecError(f"[vary] {path} must be a list of lists, got {brief(value)}; {above}")


def _part(base: Spec, path: str) -> Any:
    """What stands at a dotted path of a spec; None where nothing does."""
    thing: Any = base
    for head in path.split("."):
        thing = getattr(thing, head, None)
    return thing


def _is_nested(thing: Any, value: dict[str, Any]) -> bool:
    """Whether a table holds fields of a part of the spec, rather than labels of its values."""
    names = {field.name for field in dataclasses.fields(thing)}
    names |= set(thing.numbers) if isinstance(thing, Optimizer) else set()
    return bool(value) and (set(value) <= names or all(map(_holds_lists, value.values())))


def _holds_lists(value: Any) -> bool:
    """Whether all leaves of a table are lists."""
    if isinstance(value, dict):
        return bool(value) and all(map(_holds_lists, value.values()))
    return isinstance(value, list)
