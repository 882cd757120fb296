"""Sweeps: a base spec, what to vary, and the conditions that follow."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from simrl.engine import compiling
from simrl.errors import SpecError, brief, shallow
from simrl.records import readable
from simrl.sweeps import checks, fingerprints, given, identity, labels
from simrl.sweeps import spec as specs
from simrl.sweeps.spec import Spec

MOST_CONDITIONS = 4096  # to check one takes 4 ms
FIELDS = {own.name for own in dataclasses.fields(Spec)}


class Cell(NamedTuple):
    """One condition of a sweep."""

    coordinates: dict[str, Any]  # axis -> label
    spec: Any  # a Spec, resolved and valid (from a manifest: what reads like one)


@readable
@dataclass(frozen=True)
class Sweep:
    """A base spec and the axes to vary.

        Sweep(spec, {"learner.optimizer.learning_rate": [1.0, 2.0], "learner.advantage": ["grpo"]})

    An axis is called by the last part of its path; by the whole path where a Dataset or a table has
    that name itself (`environment.mean`) or two axes end alike. Labels are text, numbers or
    booleans; objects in a list are labelled by their type and by what differs.

    Attributes:
        spec: the `Spec` that is varied.
        vary: a dict from dotted paths of the spec to their values: a list, or a dict from labels
            to values. An axis that is not a path maps labels to dicts of paths that change
            together. In mode "list" a list of (labels, changes), a pair of dicts a condition.
        name: of the sweep, in the folder of its results.
        mode: "product" takes every combination, "zip" the values side by side, "list" `vary`
            as it stands.
    """

    spec: Spec = field(default_factory=Spec)
    vary: Any = field(default_factory=dict)
    name: str = "sweep"
    mode: str = "product"

    @shallow
    @compiling.promoting
    def cells(self) -> list[Cell]:
        """Returns the conditions in order, each resolved and checked."""
        cells = self.unchecked()
        for cell in cells:
            specs.validate(cell.spec)
        return cells

    def unchecked(self) -> list[Cell]:
        """Returns the conditions with resolved specs that nothing has validated yet."""
        pairs = self._conditions()
        base = specs.resolved(self.spec)
        cells = []
        for coordinates, changes in pairs:
            changed = base
            for path, value in changes.items():
                changed = specs.put(changed, path, value)
            cells.append(Cell(coordinates, specs.resolved(changed)))
        return cells

    @compiling.promoting
    def describe(self, cells: list[Cell] | None = None) -> dict[str, Any]:
        """Returns what the sweep is, as plain JSON values; `cells`: those of `cells()` if known."""
        cells = self.cells() if cells is None else cells
        return {
            "name": self.name,
            "mode": self.mode,
            "engine": identity.engine(),
            "varied": sorted({path for _, changes in self._conditions() for path in changes}),
            "cells": [_described(cell) for cell in cells],
        }

    def _conditions(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Labels and changes, path -> value, of each condition; no two have the same labels."""
        if not isinstance(self.spec, Spec):
            raise SpecError(f"a sweep varies a simrl.Spec, not {brief(self.spec)}")
        given.name(self.name, "name")
        if not isinstance(self.mode, str) or self.mode not in ("product", "zip", "list"):
            raise SpecError(f"mode must be product, zip or list, not {brief(self.mode)}")
        given.refuse_deep(self.vary, "vary")
        return self._listed() if self.mode == "list" else self._combined()

    def _combined(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        if not isinstance(self.vary, Mapping):
            raise SpecError(f"mode {self.mode} needs vary to map paths to lists of values")
        if not all(isinstance(path, str) for path in self.vary):
            rule = "vary must map paths, as text, to lists of values"
            raise SpecError(f"{rule}, not {brief(dict(self.vary))}")
        names = labels.axis_names(self.vary)
        axes = [_values(path, values) for path, values in self.vary.items()]
        lengths = {len(values) for values in axes}
        if self.mode == "zip" and len(lengths) > 1:
            raise SpecError(f"zip needs axes of one length, not {sorted(lengths)}")
        combine = itertools.product if self.mode == "product" else zip
        count = math.prod(map(len, axes)) if self.mode == "product" else 1
        if count > MOST_CONDITIONS:
            sizes = " x ".join(str(len(values)) for values in axes)
            raise SpecError(f"vary must give at most {MOST_CONDITIONS} conditions, not {sizes}")
        combinations = combine(*axes) if axes else [()]
        pairs = []
        for chosen in combinations:
            changes: dict[str, Any] = {}
            for path, (_, value) in zip(names, chosen, strict=True):
                grouped = isinstance(value, Mapping) and path.partition(".")[0] not in FIELDS
                changes |= value if grouped else {path: value}
            coordinates = {name: x for name, (x, _) in zip(names.values(), chosen, strict=True)}
            pairs.append((coordinates, changes))
        return pairs

    def _listed(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        pairs = self.vary if isinstance(self.vary, list | tuple) else []
        if not pairs or not all(map(_is_pair, pairs)):
            raise SpecError("mode list needs vary to be a list of (labels, changes)")
        axes = list(pairs[0][0])
        if any(set(own) != set(axes) for own, _ in pairs):
            raise SpecError("mode list needs the same labels in every condition")
        for axis in axes:
            labels.check_name(axis)
        columns = [labels.checked(axis, [own[axis] for own, _ in pairs]) for axis in axes]
        rows = list(zip(*columns, strict=True)) if axes else [()] * len(pairs)
        twice = next((row for row in rows if rows.count(row) > 1), None)
        if twice is not None:
            own = dict(zip(axes, twice, strict=True))
            raise SpecError(f"mode list has two conditions with the labels {brief(own)}")
        return [
            (dict(zip(axes, row, strict=True)), dict(changes))
            for row, (_, changes) in zip(rows, pairs, strict=True)
        ]


def _described(cell: Cell) -> dict[str, Any]:
    """An entry of a manifest; `code` where a component is a user's own."""
    entry = {
        "coordinates": cell.coordinates,
        "spec": identity.describe(cell.spec),
        "hash": identity.cell_hash(cell.spec),
        "path": checks.path(cell.spec),
    }
    code = fingerprints.of_spec(cell.spec)
    return {**entry, "code": code} if code else entry


def _is_pair(pair: Any) -> bool:
    """Whether this is a pair of mappings, the second from paths."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    return all(isinstance(part, Mapping) for part in pair) and all(
        isinstance(path, str) for path in pair[1]
    )


def _values(path: str, values: Any) -> list[tuple[Any, Any]]:
    """Label and value of each place on an axis."""
    scalar = isinstance(values, np.ndarray) and values.ndim == 0
    if scalar or isinstance(values, str | Iterator) or not isinstance(values, Iterable):
        raise SpecError(f"{path} needs a list of values to vary, not {brief(values)}")
    along = values.values() if isinstance(values, Mapping) else values
    listed = list(itertools.islice(along, MOST_CONDITIONS + 1))
    if len(listed) > MOST_CONDITIONS:
        raise SpecError(f"{path} must have at most {MOST_CONDITIONS} values to vary")
    if not listed:
        raise SpecError(f"{path} has no values to vary")
    names = list(values) if isinstance(values, Mapping) else labels.of_values(listed)
    names = labels.checked(path, names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        advice = f"give labels: {{{path!r}: {{'a': …, 'b': …}}}}"
        raise SpecError(f"{path} has a value twice: {brief(twice)}; if they differ, {advice}")
    return list(zip(names, listed, strict=True))
