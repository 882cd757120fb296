"""Arguments whose values are known when a function is called: what is out of range is refused."""

from typing import Any

import jax
import numpy as np


def check_index(what: str, index: Any, size: int) -> None:
    """Raise ValueError, one line, unless `index` [...] are integers in 0 ... size - 1.

    Inside `jit` or `vmap` values are not known, and nothing is checked.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(index)):
        return
    values = np.asarray(index)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{what} must be integers, not {values.dtype}")
    outside = values[(values < 0) | (values >= size)]
    if outside.size:
        raise ValueError(f"{what} must lie in 0 ... {size - 1}, not {outside.flat[0]}")
