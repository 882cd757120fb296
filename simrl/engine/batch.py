"""The seeds of a pool that are still going, and how what they carry comes to the host.

CPU devices share the host's memory: an array is there already. From an accelerator each array would
be a transfer of its own, all lanes of it, company included; there what is asked for is packed by a
small program, leaf after leaf, and comes at once.
"""

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl.engine import stretches, train
from simrl.engine.lanes import Jobs
from simrl.types import Array

PAUSE = 2e-4  # seconds between two looks at an array that is not there yet
LEAST_ROWS = 256  # in a transfer: sizes are powers of two, so that few programs serve all


class Batch(NamedTuple):
    """The seeds of a pool that are still going, and the lanes they are in.

    Leaves are [D C, ..., W]: C blocks of W lanes for each of D devices.
    """

    places: np.ndarray  # [n] in the pool
    num_blocks: int  # of each device, that have a seed in them; the rest of the last is company
    jobs: Jobs
    course: stretches.Course

    @property
    def run(self) -> train.Run:
        """What they carry."""
        return self.course.run

    def seen(self, tree: Any) -> Any:
        """The seeds' rows [n, ...] of every leaf, on the host."""
        return self.sent(tree)()

    def sent(self, tree: Any, num_looks: int | None = None) -> Callable[[], Any]:
        """The same, on its way: called, it waits for the device.

        `num_looks`: leaves are of log points, [D C, T, ..., W], and no more of them are wanted.
        """
        leaves, structure = jax.tree.flatten(tree)
        if not leaves or not _is_far(leaves[0]):
            took = partial(self._taken, num_looks=num_looks)
            return lambda: jax.tree.unflatten(structure, list(map(took, leaves)))
        num = len(self.places)  # on one device these are the first
        size = max(1 << (num - 1).bit_length(), LEAST_ROWS)
        words = _packed(size, num_looks, leaves)
        words.copy_to_host_async()
        forms = [(_of_seed(leaf, num_looks), np.dtype(leaf.dtype)) for leaf in leaves]

        def fetched() -> Any:
            wait_for(words)
            return jax.tree.unflatten(structure, _unpacked(np.asarray(words), num, size, forms))

        return fetched

    def _taken(self, leaf: Any, num_looks: int | None) -> np.ndarray:
        """Block after block of each device in turn, as `pool` lays seeds out: copied once."""
        wait_for(leaf)
        shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        used = [np.asarray(shard.data)[: self.num_blocks] for shard in shards]
        shape, width = _of_seed(leaf, num_looks), leaf.shape[-1]
        whole = np.empty((self.num_blocks, len(used), width, *shape), used[0].dtype)
        for device, blocks in enumerate(used):
            asked = blocks if num_looks is None else blocks[:, :num_looks]
            whole[:, device] = np.moveaxis(asked, -1, 1)
        return whole.reshape(-1, *shape)[: len(self.places)]


def wait_for(array: Any) -> None:
    """Waits until an array is computed, in Python.

    numpy.asarray waits in C++: no Ctrl-C is noticed there, and a thread that waits there aborts the
    process if the array arrives while the interpreter shuts down. After Ctrl-C another thread holds
    the array, without which JAX would not let the process end before the device is done.
    """
    try:
        while not array.is_ready():
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        threading.Thread(target=wait_for, args=(array,), daemon=True).start()
        raise


def _of_seed(leaf: Any, num_looks: int | None) -> tuple[int, ...]:
    """The shape of a seed's part of a leaf, of so many log points if it has them."""
    shape = leaf.shape[1:-1]
    return shape if num_looks is None else (num_looks, *shape[1:])


def _is_far(leaf: Any) -> bool:
    """Whether a leaf lies on one accelerator."""
    devices = leaf.devices()
    return len(devices) == 1 and next(iter(devices)).platform != "cpu"


@partial(jax.jit, static_argnums=(0, 1))
def _packed(size: int, num_looks: int | None, leaves: list[Array]) -> Array:
    """The first `size` lanes of leaves [C, ..., W] as words [size R], leaf after leaf."""
    asked = leaves if num_looks is None else [leaf[:, :num_looks] for leaf in leaves]
    return jnp.concatenate([_words(leaf, size) for leaf in asked])


def _words(leaf: Array, size: int) -> Array:
    lanes = jnp.moveaxis(leaf, -1, 1)
    rows = lanes.reshape(lanes.shape[0] * lanes.shape[1], -1)[:size].reshape(-1)
    if jnp.issubdtype(rows.dtype, bool):
        return rows.astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(rows, jnp.uint32).reshape(-1)


def _unpacked(words: np.ndarray, num: int, size: int, forms: list[tuple]) -> list[np.ndarray]:
    """The first `num` rows of each leaf, where they lie, by its axes and its dtype."""
    found, begin = [], 0
    for shape, kind in forms:
        end = begin + size * math.prod(shape) * max(kind.itemsize // 4, 1)
        own = words[begin:end]
        own = own.astype(bool) if kind.kind == "b" else own.view(kind)
        found.append(own.reshape(size, *shape)[:num])
        begin = end
    return found
