"""How programs are compiled: the options of each platform, of those that its compiler knows."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

Options = dict[str, bool | int | str]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

CPU_OPTIONS: Options = {
    # One level of LLVM below the default: it does not unroll loops, whose main part and remainder
    # round differently, so that a seed's measures would depend on its place among the lanes.
    # Measured: as fast, and a third less time to compile.
    "xla_backend_optimization_level": 1,
    # A program for several devices has one more pass of the first kind than that for one; the two
    # then fuse, and round, differently. The second splits operations over threads, which would wait
    # for each other: every core has a device of its own (5 to 10 % of an update at V = 1,000).
    "xla_disable_hlo_passes": "cse,cpu-parallel-task-assigner",
    # Where the processor has them: four times the exponentials a second of the default, 256.
    "xla_cpu_prefer_vector_width": 512,
    # No library for sums: over a leading axis it takes 17 ns a number, and in jax 0.10.2 some sums
    # of programs with 500 lanes and more were wrong.
    "xla_cpu_experimental_ynn_fusion_type": "",
}

# For what runs once: two thirds of the time to compile, and as fast. (Unoptimised it would be a
# third, and a start three to six times as long: 2 us more a seed-run, of 6 where runs are short.)
START_OPTIONS = {**CPU_OPTIONS, "xla_cpu_use_fusion_emitters": False}

GPU_OPTIONS: Options = {
    # Loops and all as graphs, which the GPU goes through by itself: by default it asks the host
    # before each turn of a loop whose length is not known. Measured on an H200: the ten-armed
    # testbed takes .7 of the time (31 against 43 ms).
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,"
    "DYNAMIC_SLICE_FUSION,WHILE,CONDITIONAL",
    "xla_gpu_graph_min_graph_size": 1,
}


def promoting(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes a function, and the user's functions that it calls, promote as JAX does by default.

    Under JAX_NUMPY_DTYPE_PROMOTION=strict and JAX_NUMPY_RANK_PROMOTION=raise the broadcasts that
    simrl is written with would raise. Both settings are a thread's own.
    """

    @wraps(function)
    def call(*values: Arguments.args, **named: Arguments.kwargs) -> Result:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*values, **named)

    return call


def platform_of(mesh: Mesh) -> str:
    """What the devices are: "cpu", "gpu", ..."""
    return mesh.devices.flat[0].platform


@cache
def is_known(name: str, value: bool | int | str) -> bool:
    """Whether this XLA has an option: their names are not promised to stay."""
    try:
        jax.jit(jnp.negative, compiler_options={name: value})(0)
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _known(options: Options) -> Options:
    return {name: value for name, value in options.items() if is_known(name, value)}


def compiled(static_argnums: tuple[int, ...], **options_on: Options) -> Callable:
    """jit for a function of a Setup (static), with the options of the platform it is for."""

    def wrap(function: Callable) -> Callable:
        @cache
        def made(options: tuple[tuple[str, bool | int | str], ...]) -> Callable:
            given = dict(options) or None
            return jax.jit(function, static_argnums=static_argnums, compiler_options=given)

        @wraps(function)
        def call(setup: Any, *rest: Any) -> Any:
            options = _known(options_on.get(platform_of(setup.mesh), {}))
            return made(tuple(options.items()))(setup, *rest)

        return call

    return wrap
