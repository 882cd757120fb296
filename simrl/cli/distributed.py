"""`--distributed`: the processes of one program meet once, through JAX's distributed runtime.

There they learn which share of a sweep is theirs and which devices there are. Then the runtime is
shut down, since it ends every process when one dies, and each runs its share by itself.
"""

import os
import sys
import threading

import jax
import pandas as pd
from rich.console import Console

import simrl
from simrl.cli import tables
from simrl.errors import SpecError

PATIENCE = 120  # seconds in which all processes must start
MORE = 60  # seconds after which JAX would give up too: it aborts with a trace of its C++ stack
HINT = (
    "SLURM, Open MPI, Kubernetes or Cloud TPU starts them, or --coordinator HOST:PORT --shard i/n"
)


def meet(coordinator: str | None, share: tuple[int, int] | None) -> None:
    """Waits until all processes are there; the first of them prints a table of all devices.

    What is None is detected by JAX. Afterwards `jax.process_index()` and `jax.process_count()` are
    of the processes. Raises SpecError where JAX detects no cluster; ends this process with one line
    and status 2 where some have not started within PATIENCE seconds.
    """
    simrl.use_cpu_cores()
    number, count = share or (None, None)
    # The collectives of CPUs would use the runtime at the first operation, whatever it is.
    jax.config.update("jax_cpu_collectives_implementation", None)
    timer = threading.Timer(PATIENCE, _give_up)
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            None if number is None else number - 1,
            initialization_timeout=PATIENCE + MORE,
        )
        devices = jax.devices()  # which waits for the devices of all
        jax.distributed.shutdown()
    except Exception as error:  # what JAX raises depends on the cluster
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SpecError(f"--distributed: {reason} ({HINT})") from None
    finally:
        timer.cancel()
    if jax.process_index() == 0:
        title = f"{jax.process_count()} processes, {len(devices)} devices"
        tables.show(table(devices), title, Console())
        sys.stdout.flush()


def table(devices: list[jax.Device]) -> pd.DataFrame:
    """Returns a row for each process: its number from 1, its number of devices, their kind."""
    owners = pd.Series([device.process_index + 1 for device in devices])
    kinds = pd.Series([f"{device.platform}: {device.device_kind}" for device in devices])
    rows = kinds.groupby(owners).agg(devices="size", kind="first")
    return rows.rename_axis("process").reset_index()


def _give_up() -> None:
    text = f"--distributed: all processes must start within {PATIENCE} s, and some did not"
    print(f"error: {text}; --shard i/n waits for none", file=sys.stderr, flush=True)
    os._exit(2)  # the main thread waits in C++
