"""The description of a result folder, in immutable files that processes add and none rewrites.

`manifest.json` describes the first sweep of a folder, `manifest-1.json`, `manifest-2.json` and so
on sweeps that add conditions to it, `sessions/<digest>.json` the versions and devices that ran.
"""

import copy
import itertools
import re
from pathlib import Path
from typing import Any

from simrl.errors import SpecError, brief
from simrl.sweeps import files

FIELDS = {"name", "mode", "engine", "varied", "cells"}  # of a described sweep
_NAME = re.compile(r"manifest(?:-(\d+))?\.json")
_SESSION = re.compile(r"[0-9a-f]{16}\.json")
_ADVICE = "give the new sweep another name or out, or delete the old results"


def read_manifest(path: Path) -> dict[str, Any]:
    """Returns what a result folder holds: format, sweep and sessions.

    `sweep` has the name, mode, engine and `cells` (coordinates, spec, hash, path) of all conditions
    that sweeps have added: those of the newest sweep first, in its order. Raises SpecError, one
    line, where there is none or a file is damaged.
    """
    numbered = _numbered(Path(path))
    if not numbered:
        raise SpecError(f"no results at {path}: No such file or directory")
    sweeps = [_read_sweep(file) for file in numbered.values()]
    sessions = read_sessions(Path(path))
    return {"format": files.FORMAT, "sweep": _union(sweeps), "sessions": sessions}


def add_sweep(path: Path, asked: dict[str, Any]) -> None:
    """Adds a sweep's `describe()` to the folder, unless all of its conditions are there already.

    Raises SpecError, one line, where it does not fit what is there: another name, engine or axes,
    or a condition of the same labels that is another. Of processes that add at the same time each
    sees what the others added.
    """
    numbered: dict[int, Path] = {}
    while True:
        numbered |= _numbered(path)
        if numbered:
            sweeps = [_read_sweep(file) for file in numbered.values()]
            stored = _union(sweeps)
            _refuse(stored, asked, path)
            if {_label(cell) for cell in asked["cells"]} <= {_label(c) for c in stored["cells"]}:
                return
        number = max(numbered, default=-1) + 1
        name = f"manifest-{number}.json" if number else "manifest.json"
        if files.create_document(path / name, {"sweep": asked}):
            return
        numbered[number] = path / name  # another process's, which a listing may not show yet


def read_sessions(path: Path) -> list[dict[str, Any]]:
    """Returns the sessions noted in a result folder, the first first."""
    notes = [f for f in files.entries(path / "sessions") if _SESSION.fullmatch(f.name)]
    notes.sort(key=lambda file: (files.time_of(file), file.name))
    sessions = [files.read_document(file).get("session") for file in notes]
    return [session for session in sessions if isinstance(session, dict)]


def add_session(path: Path, session: dict[str, Any]) -> None:
    """Notes a session; equal ones share a file."""
    name = files.digest(session)[:16]
    files.create_document(path / "sessions" / f"{name}.json", {"session": session})


def _numbered(path: Path) -> dict[int, Path]:
    """The manifests of a folder by number, in order."""
    matches = [(_NAME.fullmatch(file.name), file) for file in files.entries(path)]
    return dict(sorted((int(match[1] or 0), file) for match, file in matches if match))


def _read_sweep(file: Path) -> dict[str, Any]:
    sweep: Any = files.read_document(file).get("sweep")
    if not isinstance(sweep, dict) or not set(sweep) >= FIELDS:
        raise SpecError(f"{file} is damaged: it describes no sweep")
    if not isinstance(sweep["cells"], list) or not all(map(_is_cell, sweep["cells"])):
        raise SpecError(f"{file} is damaged: its cells are not described")
    return sweep


def _is_cell(entry: Any) -> bool:
    """Whether an entry of a manifest has all fields that are read."""
    if not isinstance(entry, dict) or not isinstance(entry.get("hash"), str):
        return False
    spec: Any = entry.get("spec")
    if not isinstance(spec, dict) or not isinstance(entry.get("coordinates"), dict):
        return False
    phases = spec.get("phases")
    whole = isinstance(phases, dict) and {"coordinate", "low", "high", "num"} <= set(phases)
    return whole and isinstance(spec.get("thresholds"), list)


def _label(cell: dict[str, Any]) -> tuple:
    """What tells the conditions of one folder apart: their labels."""
    return tuple(sorted(cell["coordinates"].items()))


def _union(sweeps: list[dict[str, Any]]) -> dict[str, Any]:
    """One sweep of all conditions: those of the last in its order, then what only others have.

    Its mode is "product" where every combination of its labels is there, in the order of a product.
    """
    newest = sweeps[-1]
    if len(sweeps) == 1:
        return newest
    cells = {_label(cell): cell for sweep in reversed(sweeps) for cell in sweep["cells"]}
    varied = sorted({path for sweep in sweeps for path in sweep["varied"]})
    axes = list(newest["cells"][0]["coordinates"])
    values = [dict.fromkeys(c["coordinates"][axis] for c in cells.values()) for axis in axes]
    product = [tuple(sorted(zip(axes, row, strict=True))) for row in itertools.product(*values)]
    whole = all(sweep["mode"] == "product" for sweep in sweeps) and len(product) == len(cells)
    ordered = [cells[label] for label in product] if whole else list(cells.values())
    mode = "product" if whole else "list"
    return {**newest, "mode": mode, "varied": varied, "cells": ordered}


def _refuse(stored: dict[str, Any], asked: dict[str, Any], path: Path) -> None:
    """Raises SpecError naming the first thing that keeps two sweeps from sharing a folder."""
    for field in ("name", "engine"):
        _compare(stored[field], asked[field], field, path)
    there, here = (
        ", ".join(sorted(sweep["cells"][0]["coordinates"])) or "none" for sweep in (stored, asked)
    )
    _compare(there, here, "the list of axes", path)
    cells = {_label(cell): cell for cell in stored["cells"]}
    for cell in asked["cells"]:
        own = cells.get(_label(cell))
        if own is not None:
            _compare(own["spec"], cell["spec"], "", path)
            _compare(own.get("path"), cell.get("path"), "engine's path", path)
    varied = [*stored["varied"], *asked["varied"]]
    common = [_without(sweep["cells"][0]["spec"], varied) for sweep in (stored, asked)]
    _compare(common[0], common[1], "", path)


def _without(spec: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """A described spec without the fields at dotted paths."""
    rest = copy.deepcopy(spec)
    for path in paths:
        *heads, last = path.split(".")
        inner: Any = rest
        for head in heads:
            inner = inner.get(head) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(last, None)
    return rest


def _compare(stored: Any, asked: Any, field: str, path: Path) -> None:
    """Raises SpecError naming the first field in which two descriptions differ."""
    difference = _difference(stored, asked, field)
    if difference is not None:
        name, there, here = difference
        raise SpecError(
            f"{path} holds another sweep: {name} is {brief(there)} there and {brief(here)} here; "
            f"{_ADVICE}"
        )


def _difference(stored: Any, asked: Any, field: str) -> tuple[str, Any, Any] | None:
    if isinstance(stored, dict) and isinstance(asked, dict):
        pairs = [(key, stored.get(key), asked.get(key)) for key in {**stored, **asked}]
    elif isinstance(stored, list) and isinstance(asked, list) and len(stored) == len(asked):
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(stored, asked, strict=True))]
    elif isinstance(stored, list) and isinstance(asked, list):
        return f"number of {field}", len(stored), len(asked)
    else:
        return None if stored == asked else (field, stored, asked)
    for key, a, b in pairs:
        difference = _difference(a, b, f"{field}.{key}" if field else key)
        if difference is not None:
            return difference
    return None
