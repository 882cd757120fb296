"""How much of a run a GPU computes, and what it is sent, from a trace by JAX.

A graph of kernels that is sent as one is traced as one: what is in it is launched by the GPU.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

NANO = 1e-9


class Traced(NamedTuple):
    """One run; NaN and 0 where no GPU was traced."""

    wall_s: float
    busy_s: float  # of one device, on average: at least one of its streams is at work
    kernels: int  # sent to all devices, copies included; a graph of many is one


def traced(run: Callable[[], Any]) -> Traced:
    """Trace a run that is compiled already."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with jax.profiler.trace(folder):
            run()
            wall = time.perf_counter() - began
        files = sorted(Path(folder).rglob("*.xplane.pb"))
        planes = [jax.profiler.ProfileData.from_file(str(file)).planes for file in files]
        return summary(wall, (plane for some in planes for plane in some))


def summary(wall: float, planes: Iterable[Any]) -> Traced:
    """Busy time and kernels of the GPUs among the planes of a trace."""
    devices = [events(plane) for plane in planes if plane.name.startswith("/device:GPU")]
    devices = [spans for spans in devices if len(spans)]
    if not devices:
        return Traced(wall, float("nan"), 0)
    busy = float(np.mean([union(spans) for spans in devices]))
    return Traced(wall, NANO * busy, sum(map(len, devices)))


def events(plane: Any) -> np.ndarray:
    """Begin and end [E, 2], ns, of what ran on the streams of a device."""
    streams = [line for line in plane.lines if line.name.lower().startswith("stream")]
    spans = [(e.start_ns, e.start_ns + e.duration_ns) for line in streams for e in line.events]
    return np.array(spans, np.float64).reshape(-1, 2)


def union(spans: np.ndarray) -> float:
    """The time that at least one of the spans [E, 2] covers."""
    begin, end = spans[np.argsort(spans[:, 0])].T
    before = np.concatenate([begin[:1], np.maximum.accumulate(end)[:-1]])
    return float(np.maximum(end - np.maximum(begin, before), 0).sum())
