"""The loop of many seeds as a kernel of a GPU, which keeps a few of them on the chip throughout.

XLA sends a GPU about fifteen kernels for an update of a ten-armed bandit, and asks it after each
whether to go on: microseconds that thousands of seeds do not fill. Here every 32 seeds are a
program of their own, one warp, their numbers in its registers from the first update of a stretch to
the last.
"""

import math
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from simrl import primitives, rowwise
from simrl.columns import Fence
from simrl.types import Array

LEAST = 8.0  # compute capability
WARP = 32  # lanes of a program
PATIENCE = 64  # updates in the time of a measure, about
AT_ONCE = 64  # answers added up in one expression, which is one kernel
MOST_COST = 8000  # operations in an update: more take long to compile, and leave the registers
MOST_ROWS = 256  # numbers of a lane in and out

HAVE = primitives.names(
    """
    abs acos acosh add add_any and argmax asin asinh atan atan2 atanh cbrt ceil clamp clz
    convert_element_type cos cosh div eq erf_inv exp exp2 expm1 floor ge gt integer_pow is_finite le
    log log1p logistic lt max min mul ne neg not or population_count pow reduce_and reduce_max
    reduce_min reduce_or reduce_prod reduce_sum rem round rsqrt select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh sqrt square sub tan tanh xor
    """
)
"""Operations that the compiler has, or rowwise makes of others that it has."""


def can_run(device: jax.Device) -> bool:
    """Whether there are kernels for a device: NVIDIA's, of a capability that the compiler takes."""
    capability = str(getattr(device, "compute_capability", ""))
    known = device.platform == "gpu" and capability.replace(".", "").isdigit()
    return known and float(capability) >= LEAST and _modules() is not None


@cache
def _modules() -> tuple[Any, Any] | None:
    """What makes kernels; None in a jax that has it no more: it is to go some day."""
    try:
        from jax.experimental import pallas  # noqa: PLC0415
        from jax.experimental.pallas import triton  # noqa: PLC0415
    except ImportError:
        return None
    # Said of every kernel since jax 0.11. What is to come in its stead has no square root yet.
    warnings.filterwarnings("ignore", "The Pallas Triton backend", DeprecationWarning)
    return pallas, triton


def run(train: Callable, about: Any, lanes: Any, interpret: bool = False) -> Any | None:
    """`train(about, lanes, fence, patience)` in a kernel; None where there can be none.

    Leaves [..., N] in and out, whatever `train` does with a lane must not depend on its company.
    """
    leaves = jax.tree.leaves((about, lanes))
    num = leaves[0].shape[-1]
    one_word = all(leaf.dtype.itemsize in (1, 4) for leaf in leaves)
    if num % WARP or not one_word or sum(leaf.size for leaf in leaves) > MOST_ROWS * num:
        return None
    of_block = partial(train, fence=Fence(None, AT_ONCE), patience=PATIENCE)
    try:
        program = rowwise.Program(of_block, about, lanes)
    except rowwise.Unsupported:
        return None
    if program.cost > MOST_COST or not HAVE.issuperset(program.operations):
        return None
    made = _call(program, leaves, num, interpret)
    leaves, begin = [], 0
    for shape, kind in program.outputs:
        own = _typed(made[:, begin : begin + math.prod(shape)].T, kind)
        leaves.append(own.reshape(*shape, num))
        begin += math.prod(shape)
    return program.result(leaves)


def _num_rows(leaves: list[tuple[tuple[int, ...], Any]]) -> int:
    return sum(math.prod(shape) for shape, _ in leaves)


def _call(program: rowwise.Program, leaves: list[Array], num: int, interpret: bool) -> Array:
    """The kernel: words [N, R] of the results, a row for each lane.

    Rows are taken from memory all at once and put there all at once, as powers of two: of an access
    for each, the compiler looks at all that hangs together with it (10 s where this takes 2.7).
    """
    modules = _modules()
    assert modules is not None  # see `can_run`
    pallas, triton = modules
    num_in, num_out = _num_rows(program.inputs), _num_rows(program.outputs)
    room_in, room_out = (1 << (size - 1).bit_length() for size in (num_in, num_out))
    kinds = [kind for shape, kind in program.inputs for _ in range(math.prod(shape))]

    def kernel(given: Any, made: Any) -> None:
        mine = pallas.ds(pallas.program_id(0) * WARP, WARP)
        words = jax.lax.split(given[:, mine], [1] * room_in, 0)[:num_in]
        pairs = zip(words, kinds, strict=True)
        found = program.on_rows([_typed(word.reshape(WARP), kind) for word, kind in pairs])
        nothing = [jnp.zeros((WARP,), jnp.uint32)] * (room_out - num_out)
        made[mine, :] = _stacked([*map(_word, found), *nothing])

    rows = [_word(leaf).reshape(-1, num) for leaf in leaves]
    nothing = jnp.zeros((room_in - num_in, num), jnp.uint32)
    return pallas.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((num, room_out), jnp.uint32),
        grid=(num // WARP,),
        compiler_params=triton.CompilerParams(num_warps=1, num_stages=1),
        interpret=interpret,
    )(jnp.concatenate([*rows, nothing]))


def _stacked(rows: list[Array]) -> Array:
    """2^k rows [n] as one array [n, 2^k]: two at a time, which is all that the compiler knows."""
    while len(rows) > 1:
        half = len(rows) // 2
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [jnp.concatenate([a[..., None], b[..., None]], axis=-1) for a, b in pairs]
    return rows[0].reshape(rows[0].shape[0], -1)


def _word(x: Array) -> Array:
    """Any number as 32 bits."""
    if jnp.issubdtype(x.dtype, bool):
        return x.astype(jnp.uint32)
    return x if x.dtype == jnp.uint32 else jax.lax.bitcast_convert_type(x, jnp.uint32)


def _typed(word: Array, kind: Any) -> Array:
    """The number that 32 bits stand for."""
    if jnp.issubdtype(kind, bool):
        return word != 0
    return word if kind == jnp.uint32 else jax.lax.bitcast_convert_type(word, kind)
