"""Where results come from: versions, commits, devices and settings of the processes that ran."""

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import warnings
from pathlib import Path
from typing import Any

from simrl.errors import SpecError, brief
from simrl.sweeps import identity

ROOT = Path(__file__).resolve().parents[2]  # of a checkout, if simrl runs from one
NUMERICAL = ("simrl", "jax", "jaxlib", "optax")  # packages that may change a number's last bits


def session(mesh: Any) -> dict[str, Any]:
    """Returns versions, commits, devices and settings of this process, for the manifest."""
    device = mesh.devices.flat[0]
    versions = {name: _version(name) for name in (*NUMERICAL, "numpy")}
    return {
        "versions": {**versions, "python": platform.python_version()},
        "commit": own_commit(ROOT),
        "user_commit": commit(Path.cwd()),
        "settings": {**identity.settings(), "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")},
        "device_kind": f"{device.platform}: {device.device_kind}",
        "device_count": int(mesh.devices.size),
    }


def commit(folder: Path) -> str:
    """Returns the commit of the repository around a folder, with -dirty where tracked files differ.

    Empty where there is no repository, or no git.
    """
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


@functools.cache  # git takes 25 ms, and a process runs the code that it has imported
def own_commit(root: Path) -> str:
    """Returns simrl's commit if it runs from a checkout, whose top is `root`; empty if it does not.

    The repository of a user who has installed simrl within it is not simrl's.
    """
    project = root / "pyproject.toml"
    if not project.is_file() or 'name = "simrl"' not in project.read_text("utf-8", "replace"):
        return ""
    top = _git(root, "rev-parse", "--show-toplevel")
    own = bool(top) and Path(top).resolve() == root and bool(_git(root, "ls-files", "simrl"))
    return commit(root) if own else ""


def _git(folder: Path, *command: str) -> str:
    """What a git command prints in a folder; empty where it fails."""
    # Variables of a hook or a script of git's name another repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ("git", "-C", str(folder), *command)
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=5, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return "" if result.returncode else result.stdout.strip()


@functools.cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def warn_of_versions(sessions: list[dict[str, Any]], path: Path) -> None:
    """Warns, one line, where seeds of one folder come from several versions or kinds of device.

    Their last digits may then differ. What changes more, such as 64-bit floats, is refused: see
    `identity.engine`.
    """
    rows = [
        {**note.get("versions", {}), "device": note.get("device_kind")} for note in sessions if note
    ]
    several = {
        name: sorted({str(row.get(name)) for row in rows}) for name in (*NUMERICAL, "device")
    }
    lines = [f"{name} {' and '.join(own)}" for name, own in several.items() if len(own) > 1]
    if lines:
        warnings.warn(
            f"{path} mixes results of several versions or devices, whose last digits may differ: "
            f"{'; '.join(lines)}",
            stacklevel=5,
        )


def attributes(cells: list[dict[str, Any]], sessions: list[dict[str, Any]]) -> dict[str, str]:
    """Returns what a Dataset says of its origin, as text.

    Args:
      cells: the conditions, each with its `coordinates` and its described `spec`.
      sessions: of the processes that ran them.

    Returns:
      `simrl_spec`: JSON of the fields that all conditions share. `simrl_conditions`: JSON of a list
      with the coordinates of each condition and the fields that differ, by dotted path.
      `simrl_versions`: JSON of package -> version. `simrl_commit`, `simrl_user_commit` (of the
      repository of the working folder) and `simrl_device`; " or " joins what sessions differ in.
    """
    flat = [_flat(cell["spec"], "") for cell in cells]
    shared = {k: v for k, v in flat[0].items() if all(k in f and f[k] == v for f in flat)}
    differ = [{k: v for k, v in fields.items() if k not in shared} for fields in flat]
    conditions = [
        {"coordinates": cell["coordinates"], "spec": fields}
        for cell, fields in zip(cells, differ, strict=True)
    ]
    packages = dict.fromkeys(p for note in sessions for p in note.get("versions", {}))
    versions = {p: _either(n.get("versions", {}).get(p) for n in sessions) for p in packages}
    return {
        "simrl_spec": json.dumps(_nested(shared)),
        "simrl_conditions": json.dumps(conditions),
        "simrl_versions": json.dumps(versions),
        "simrl_commit": _either(note.get("commit") for note in sessions),
        "simrl_user_commit": _either(note.get("user_commit") for note in sessions),
        "simrl_device": _either(note.get("device_kind") for note in sessions),
    }


def described(cells: list[Any]) -> list[dict[str, Any]]:
    """Returns conditions as `attributes` takes them; an unnamed object's spec is a short text."""
    listed = []
    for cell in cells:
        try:
            spec = identity.describe(cell.spec)
        except SpecError:  # it has no name that could be stored
            spec = {"spec": brief(cell.spec)}
        listed.append({"coordinates": cell.coordinates, "spec": spec})
    return listed


def within(data: Any, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns those of a folder's conditions that a Dataset holds."""
    if "cell" not in data.dims:
        return cells
    axes = list(cells[0]["coordinates"])
    columns = [data[axis].values.tolist() for axis in axes]
    shown = set(zip(*columns, strict=True)) if axes else {()}
    return [cell for cell in cells if tuple(cell["coordinates"][axis] for axis in axes) in shown]


def _flat(value: Any, path: str) -> dict[str, Any]:
    """Leaves by dotted path."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    inner = [_flat(item, f"{path}.{key}" if path else key) for key, item in value.items()]
    return {name: leaf for fields in inner for name, leaf in fields.items()}


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    nested: dict[str, Any] = {}
    for path, leaf in flat.items():
        *heads, last = path.split(".")
        inner = nested
        for head in heads:
            inner = inner.setdefault(head, {})
        inner[last] = leaf
    return nested


def _either(values: Any) -> str:
    return " or ".join(sorted({str(value) for value in values if value}))
