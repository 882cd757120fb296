"""The seeds of a pool that are still going, and how what they carry comes to the host.

CPU devices share the host's memory: an array is there already. From an accelerator each array would
be a transfer of its own, all lanes of it, company included; there what is asked for is packed by a
small program, seed after seed, and comes at once.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl.engine import stretches, train
from simrl.engine.lanes import Jobs
from simrl.types import Array

LEAST_ROWS = 256  # in a transfer: sizes are powers of two, so that few programs serve all


class Batch(NamedTuple):
    """The seeds of a pool that are still going, and the lanes they are in.

    Leaves are [D C, ..., W]: C blocks of W lanes for each of D devices.
    """

    places: np.ndarray  # [n] in the pool
    rows: np.ndarray  # [n] among the D C W lanes; the rest of a block is company
    num_blocks: int  # of each device, that have a seed in them
    jobs: Jobs
    course: stretches.Course

    @property
    def run(self) -> train.Run:
        """What they carry."""
        return self.course.run

    def seen(self, tree: Any) -> Any:
        """The seeds' rows [n, ...] of every leaf, on the host."""
        return self.sent(tree)()

    def sent(self, tree: Any) -> Callable[[], Any]:
        """The same, on its way: called, it waits for the device."""
        leaves, structure = jax.tree.flatten(tree)
        if not leaves or not _is_far(leaves[0]):
            return lambda: jax.tree.unflatten(structure, list(map(self._taken, leaves)))
        num = len(self.rows)  # on one device these are the first
        words = _packed(max(1 << (num - 1).bit_length(), LEAST_ROWS), leaves)
        words.copy_to_host_async()
        forms = [(leaf.shape[1:-1], np.dtype(leaf.dtype)) for leaf in leaves]
        return lambda: jax.tree.unflatten(structure, _unpacked(np.asarray(words)[:num], forms))

    def _taken(self, leaf: Any) -> np.ndarray:
        whole = np.moveaxis(np.asarray(leaf), -1, 1)
        return whole[np.divmod(self.rows, whole.shape[1])]


def _is_far(leaf: Any) -> bool:
    """Whether a leaf lies on one accelerator."""
    devices = leaf.devices()
    return len(devices) == 1 and next(iter(devices)).platform != "cpu"


@partial(jax.jit, static_argnums=0)
def _packed(size: int, leaves: list[Array]) -> Array:
    """The first `size` lanes of leaves [C, ..., W] as words [size, R], one row a seed."""
    return jnp.concatenate([_words(leaf, size) for leaf in leaves], axis=1)


def _words(leaf: Array, size: int) -> Array:
    lanes = jnp.moveaxis(leaf, -1, 1)
    rows = lanes.reshape(lanes.shape[0] * lanes.shape[1], -1)[:size]
    if jnp.issubdtype(rows.dtype, bool):
        return rows.astype(jnp.uint32)
    words = jax.lax.bitcast_convert_type(rows, jnp.uint32)
    return words.reshape(len(rows), -1)


def _unpacked(words: np.ndarray, forms: list[tuple]) -> list[np.ndarray]:
    """Each leaf [n, ...] of words [n, R], by its axes and its dtype."""
    found, begin = [], 0
    for shape, kind in forms:
        num = math.prod(shape) * max(kind.itemsize // 4, 1)
        own = np.ascontiguousarray(words[:, begin : begin + num])
        own = own.astype(bool) if kind.kind == "b" else own.view(kind)
        found.append(own.reshape(len(words), *shape))
        begin += num
    return found
