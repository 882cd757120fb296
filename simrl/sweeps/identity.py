"""What a spec is, as plain values and as a name for what is stored."""

import dataclasses
import hashlib
import json
import os
from typing import Any

import jax
import numpy as np

from simrl.learners.updates import Optimizer
from simrl.sweeps.errors import SpecError
from simrl.sweeps.owned import Own
from simrl.sweeps.spec import FAMILIES

ENGINE = 15  # raised when a change of the code alters stored numbers: old results are then refused


def describe(thing: Any) -> Any:
    """A spec as plain JSON values."""
    if isinstance(thing, Own):
        if not thing.source:
            raise SpecError(
                "a thing given as an object cannot be stored; name it with "
                'simrl.own("module:attribute", version="1"), or run with out=None'
            )
        return {"name": thing.source, "version": thing.version}
    if isinstance(thing, Optimizer):
        return _described(thing)
    if dataclasses.is_dataclass(thing):
        # None is what is not there, and is not told: a cell keeps its name when more may be there.
        values = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
        fields = {name: describe(value) for name, value in values.items() if value is not None}
        # 1 and 1.0 are one number, and must not be two hashes.
        real = [f.name for f in dataclasses.fields(thing) if f.type in (float, float | None)]
        fields |= {name: float(fields[name]) for name in real if name in fields}
        rows = [f.name for f in dataclasses.fields(thing) if f.type == tuple[float, ...]]
        fields |= {name: [float(x) for x in fields[name]] for name in rows}
        names = [
            name
            for kinds in FAMILIES.values()
            for name, kind in kinds.items()
            if kind is type(thing)
        ]
        return {"name": names[0], **fields} if names else {"kind": type(thing).__name__, **fields}
    if isinstance(thing, tuple | list):
        return [describe(item) for item in thing]
    return thing.item() if isinstance(thing, np.generic) else thing


def _described(optimizer: Optimizer) -> dict[str, Any]:
    """An optimiser as plain JSON values."""
    if not isinstance(optimizer.name, str):
        raise SpecError(
            "an optimizer given as an object cannot be stored; name it, as in "
            'simrl.Optimizer("adam", learning_rate=0.001), or run with out=None'
        )
    numbers = {name: float(x) for name, x in optimizer.numbers.items()}
    numbers |= {name: x if isinstance(x, bool) else float(x) for name, x in optimizer.fixed}
    added = {"schedule": optimizer.schedule, "clip": optimizer.clip}
    names = {name: text for name, text in added.items() if text}
    return {"name": optimizer.name, **dict(sorted(numbers.items())), **names}


def hash_of(description: Any) -> str:
    """A short name for what a cell is: 16 hex digits of the SHA-256 of its canonical JSON."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settings() -> dict[str, Any]:
    """Returns JAX's settings of this process that change numbers, by name."""
    defaults: dict[str, Any] = {"jax_enable_x64": False, "jax_disable_jit": False}
    defaults |= {"jax_threefry_partitionable": True, "jax_default_matmul_precision": None}
    return {name: getattr(jax.config, name, default) for name, default in defaults.items()}


def engine() -> str:
    """Returns what decides the stored numbers besides the spec, as text.

    The engine's version and its floats; settings that change numbers (other random words without
    jax_threefry_partitionable, other roundings with the others) where they are not the default.
    """
    own = settings()
    parts = [str(ENGINE), f"float{64 if own['jax_enable_x64'] else 32}"]
    parts += ["jit disabled"] * bool(own["jax_disable_jit"])
    parts += ["threefry not partitionable"] * (not own["jax_threefry_partitionable"])
    precision = own["jax_default_matmul_precision"]
    parts += [f"matmul precision {precision}"] * (precision is not None)
    return ", ".join(parts + _inexact_flags(os.environ.get("XLA_FLAGS", "")))


def _inexact_flags(flags: str) -> list[str]:
    """The XLA flags that trade digits for speed."""
    chosen = []
    for flag in flags.split():
        name, _, value = flag.lstrip("-").partition("=")
        off = name.endswith("fast_math") and value.lower() in ("false", "0")
        if not off and any(word in name for word in ("fast_m", "excess_precision")):
            chosen.append(f"{name}={value or 'true'}")
    return sorted(set(chosen))


def cell_hash(spec: Any) -> str:
    """The name of a cell's folder."""
    return hash_of({"engine": engine(), "spec": describe(spec)})
