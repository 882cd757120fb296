"""How a user's records print, and what they say of a field that they do not have."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from simrl.errors import LONGEST, MEANT, SpecError, meant

Record = TypeVar("Record")
_NAMED: list[tuple[Any, str]] = []
_CHECKS: dict[str, Callable[[Any], Any]] = {}


def readable(record: type[Record]) -> type[Record]:
    """Makes a dataclass print the fields that were changed, and refuse unknown ones in one line."""
    kind: Any = record
    construct = kind.__init__

    @functools.wraps(construct)
    def checked(self: Any, *values: Any, **fields: Any) -> None:
        unknown = next((name for name in fields if name not in kind.__dataclass_fields__), None)
        if unknown is not None:
            raise SpecError(no_field(kind, unknown))
        try:
            construct(self, *values, **fields)
            for name, check in _CHECKS.items():
                if isinstance(getattr(self, name, None), str | dict):
                    check(getattr(self, name))
        except SpecError as error:  # one frame is enough for one line
            raise error.with_traceback(None) from None

    kind.__init__ = checked
    kind.__repr__ = _shown
    return record


def check_fields(checks: Mapping[str, Callable[[Any], Any]]) -> None:
    """Makes records check the fields of these names, where they are text or dicts, when made."""
    _CHECKS.update(checks)


def changes(record: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass whose values are not the defaults, by name."""
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.repr}
    defaults = {f.name: _default(f) for f in dataclasses.fields(record)}
    return {name: value for name, value in values.items() if not _same(value, defaults[name])}


def show_by_name(records: Mapping[str, Any]) -> None:
    """Makes records print, within others, as the names that stand for them (`leave_one_out`)."""
    _NAMED.extend((record, name) for name, record in records.items())


def _shown(record: Any) -> str:
    fields = ", ".join(f"{name}={_text(value)}" for name, value in changes(record).items())
    return f"{type(record).__name__}({fields})"


def _text(value: Any) -> str:
    names = (name for known, name in _NAMED if type(known) is type(value) and _same(value, known))
    return repr(next(names, value))


def no_field(kind: type, name: str) -> str:
    """Returns what to say of a keyword that is no field of a dataclass, and what was meant.

    A field of one of its fields is told as code: `optimizer=Optimizer(learning_rate=...)`.
    """
    defaults = {f.name: _default(f) for f in dataclasses.fields(kind)}
    hint = ""
    for known in () if MEANT.get(name) in defaults else (name, MEANT.get(name, name)):
        within = [path for part, value in defaults.items() for path in paths(value, known, part)]
        hint = hint or (_as_code(defaults, within[0]) if within else "")
    return no_field_line(kind.__name__, name, list(defaults), hint)


def _as_code(records: dict[str, Any], path: str) -> str:
    """Returns a dotted path as nested constructors."""
    code, opened, (head, *rest) = "", 0, path.split(".")
    record = records[head]
    for part in rest:
        code += f"{head}={type(record).__name__}("
        head, record, opened = part, getattr(record, part, None), opened + 1
    return f"; did you mean {code}{head}=...{')' * opened}?"


def no_field_line(kind: str, name: str, names: list[str], hint: str = "") -> str:
    """Returns the line about a field that is not among `names`; `hint`: what was surely meant."""
    if name in ("seed", "seeds", "num_seeds"):
        hint = "; seeds are an argument of simrl.run"
    hint = hint or meant(name, names)
    line = f"{kind} has no field {name!r}; it has {', '.join(names) or 'none'}{hint}"
    return line if len(line) <= LONGEST else f"{kind} has no field {name!r}{hint}"


def paths(record: Any, name: str, before: str = "") -> list[str]:
    """Returns the dotted paths to what is called `name` in a record, those in its fields last."""
    if not dataclasses.is_dataclass(record):
        return []
    inner = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    numbers = inner.get("numbers")
    inner |= numbers if isinstance(numbers, dict) else {}
    start = f"{before}." if before else ""
    deeper = [path for part, value in inner.items() for path in paths(value, name, start + part)]
    return [start + name, *deeper] if name in inner else deeper


def _default(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _same(value: Any, default: Any) -> bool:
    """Whether two values are equal; arrays and tracers are not the same as anything."""
    try:
        return bool(value is default or value == default)
    except Exception:  # an array of several numbers, a tracer
        return False
