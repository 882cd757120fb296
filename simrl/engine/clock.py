"""The clock of a run: how many updates it has made, beyond 2^31 where it jumps.

A path that makes every update counts them in int32. One that jumps over those that change nothing,
where a wait of 1e12 is nothing special, counts in two uint32 words (high, low) on a last axis,
exact up to 2^53. What reads a clock and does not know the path does so here. All bits are set in
the clock of what never happened.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from simrl import keys
from simrl.measures import phases
from simrl.types import Array

NUM_EACH = 2**31 - 1  # updates of a run at most, if each is made
NUM_JUMPED = 2**53  # if those that change nothing are jumped over


def of(num_updates: int, path: str) -> np.ndarray:
    """A number of updates, -1 for never, on the clock of a path (`simrl.types.Trial.path`)."""
    if path != "jump":
        return np.asarray(num_updates, np.int32)
    return phases.words_of(num_updates % 2**64)


def _in_words(step: Array | np.ndarray) -> bool:
    return step.dtype == jnp.uint32


def chosen(which: Array, one: Array | np.ndarray, other: Array | np.ndarray) -> Array:
    """`one` where `which` [...] holds, else `other`: clocks of one kind."""
    return jnp.where(which[..., None] if one.dtype == jnp.uint32 else which, one, other)


def never(step: Array) -> Array:
    """Whether clocks [...] stand for what never happened."""
    return step[..., 0] == jnp.uint32(2**32 - 1) if _in_words(step) else step < 0


def earlier(one: Array, other: Array) -> Array:
    """Whether `one` [...] is before `other` [...]."""
    if not _in_words(one):
        return one < other
    high, low = one[..., 0], one[..., 1]
    return (high < other[..., 0]) | ((high == other[..., 0]) & (low < other[..., 1]))


def end_of_stretch(step: Array, longest: Array, until: Array) -> Array:
    """Where lanes [N] that are at `step` end their stretch, of at most `longest` [N] updates.

    A jump is a stretch of its own, however long: only `until` [] ends it.
    """
    if _in_words(step):
        return jnp.broadcast_to(until, step.shape)
    return step + jnp.minimum(longest, jnp.maximum(until - step, 0))


def interpolated(step: Array, fraction: Any) -> Array:
    """The update before `step` and a fraction more, as floats of the fraction's kind."""
    if not _in_words(step):
        return step - 1 + fraction
    last = phases.subtract_words(step, jnp.asarray(of(1, "jump")))
    return phases.float_of(last, fraction.dtype) + fraction


def fold_in(key: Array, step: Array) -> Array:
    """The stream of one update [] from that of its run."""
    return keys.fold_in_words(key, step) if _in_words(step) else keys.fold_in(key, step)


def counts(step: Array | np.ndarray) -> np.ndarray:
    """Clocks [...] as int64 [...], on the host; -1 for never."""
    if not _in_words(step):
        return np.asarray(step, np.int64)
    return phases.count_of(step).astype(np.int64)


def times(time: Any, step: Array | np.ndarray) -> np.ndarray:
    """Interpolated times [...] as float64, on the host.

    Beyond 2^31, where float32 passes over hundreds of updates, within the last before `step`.
    """
    found, last = np.asarray(time, np.float64), counts(step)
    return np.where(last >= 2**31, np.clip(found, last - 1, last), found)
