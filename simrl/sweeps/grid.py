"""Sweeps: a base spec, what to vary, and the cells that come of it."""

import dataclasses
import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simrl.sweeps import checks, given, identity
from simrl.sweeps import spec as specs
from simrl.sweeps.errors import SpecError
from simrl.sweeps.spec import Spec

RESERVED = {
    "cell",
    "seed",
    "log_point",
    "phase",
    "threshold",
    "prompt",
    "position",
    "symbol",
    "leaf",
}


class Cell(NamedTuple):
    """One condition of a sweep."""

    coordinates: dict[str, Any]  # axis -> label
    spec: Any  # a Spec, resolved and valid (from a manifest: what reads like one)


@dataclass(frozen=True)
class Sweep:
    """A base spec and the axes to vary.

    `vary` maps a dotted path of the spec (`learner.optimizer.learning_rate`) to its values: a list,
    or a dict from labels to values. An axis that is not a path maps labels to dicts of paths that
    change together. `mode` "product" takes every combination, "zip" the values side by side;
    "list" takes `vary` as a list of (labels, changes), one pair of dicts per cell.
    """

    spec: Spec = field(default_factory=Spec)
    vary: Any = field(default_factory=dict)
    name: str = "sweep"
    mode: str = "product"

    def cells(self) -> list[Cell]:
        """The conditions in order, each resolved and checked."""
        if not isinstance(self.spec, Spec):
            raise SpecError(f"a sweep varies a simrl.Spec, not {self.spec!r}")
        if not isinstance(self.name, str):
            raise SpecError(f"name must be text, not {self.name!r}")
        if self.mode not in ("product", "zip", "list"):
            raise SpecError(f"mode must be product, zip or list, not {self.mode!r}")
        if self.mode == "list":
            return self._listed()
        if not isinstance(self.vary, Mapping):
            raise SpecError(f"mode {self.mode} needs vary to map paths to lists of values")
        if not all(isinstance(path, str) for path in self.vary):
            raise SpecError(f"vary must map paths, as text, to lists of values, not {self.vary!r}")
        axes = {path: _labelled(path, values) for path, values in self.vary.items()}
        lengths = {len(values) for values in axes.values()}
        if self.mode == "zip" and len(lengths) > 1:
            raise SpecError(f"zip needs axes of one length, not {sorted(lengths)}")
        names = [short_name(path) for path in axes]
        if len(set(names)) < len(names) or RESERVED.intersection(names):
            names = list(axes)
        if RESERVED.intersection(names):
            raise SpecError(f"an axis may not be called {', '.join(sorted(RESERVED))}")
        combine = itertools.product if self.mode == "product" else zip
        combinations = combine(*axes.values()) if axes else [()]
        base = specs.resolved(self.spec)
        return [_cell(base, list(axes), names, chosen) for chosen in combinations]

    def _listed(self) -> list[Cell]:
        pairs = self.vary if isinstance(self.vary, list | tuple) else []
        if not pairs or any(not isinstance(p, list | tuple) or len(p) != 2 for p in pairs):
            raise SpecError("mode list needs vary to be a list of (labels, changes)")
        if len({tuple(labels) for labels, _ in self.vary}) > 1:
            raise SpecError("mode list needs the same labels in every cell")
        base = specs.resolved(self.spec)
        return [_changed(base, dict(labels), changes) for labels, changes in self.vary]

    def describe(self) -> dict[str, Any]:
        """What the sweep is, as plain JSON values."""
        cells = self.cells()
        return {
            "name": self.name,
            "mode": self.mode,
            "engine": identity.engine(),
            "cells": [
                {
                    "coordinates": cell.coordinates,
                    "spec": identity.describe(cell.spec),
                    "hash": identity.cell_hash(cell.spec),
                    "path": checks.path(cell.spec),
                }
                for cell in cells
            ],
        }


def short_name(path: str) -> str:
    """The axis a path is known by: its last part."""
    return path.rpartition(".")[2]


def _labelled(path: str, values: Any) -> list[tuple[Any, Any]]:
    if isinstance(values, str | Iterator) or not isinstance(values, Iterable):
        raise SpecError(f"{path} needs a list of values to vary, not {values!r}")
    pairs = (
        list(values.items()) if isinstance(values, Mapping) else [(_label(v), v) for v in values]
    )
    if not pairs:
        raise SpecError(f"{path} has no values to vary")
    labels = [label for label, _ in pairs]
    if len(set(labels)) < len(labels):
        raise SpecError(f"{path} has a value twice: {labels}")
    return pairs


def _label(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return str(value.get("name", value))
    if dataclasses.is_dataclass(value):
        return type(value).__name__
    return value if isinstance(value, str | int | float | bool) else str(value)


def _cell(base: Spec, paths: list[str], names: list[str], chosen: tuple) -> Cell:
    coordinates = {}
    changes: dict[str, Any] = {}
    for path, name, (label, value) in zip(paths, names, chosen, strict=True):
        coordinates[name] = label
        grouped = isinstance(value, Mapping) and not hasattr(base, path.partition(".")[0])
        changes |= value if grouped else {path: value}
    return _changed(base, coordinates, changes)


def _changed(base: Spec, coordinates: dict[str, Any], changes: Mapping[str, Any]) -> Cell:
    for path, value in changes.items():
        base = specs.put(base, path, value)
    ready = specs.resolved(base)
    specs.validate(ready)
    return Cell(coordinates, ready)


def load(path: str | Path) -> Sweep:
    """A sweep from a TOML file: the fields of Spec at the top, then [vary], name and mode."""
    source = given.path(path, "path")
    try:
        with source.open("rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not even text
        raise SpecError(f"{path} is not valid TOML: {error}") from None
    vary = data.pop("vary", {})
    name = data.pop("name", source.stem)
    mode = data.pop("mode", "product")
    base = Spec()
    for key, value in data.items():
        base = specs.put(base, key, value)
    return Sweep(base, vary, name, mode)
