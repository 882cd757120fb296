"""`simrl doctor`: versions, devices, precision and cache; warns of what slows simrl down."""

import argparse
import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import jax

import simrl
from simrl.cli import process
from simrl.engine import lanes
from simrl.sweeps import identity

PACKAGES = ("jax", "jaxlib", "optax", "numpy", "scipy", "xarray", "pandas", "matplotlib")
EXPORT = ("h5netcdf", "h5py", "pyarrow")


def execute(arguments: argparse.Namespace) -> None:
    """Prints what simrl runs on, then a line for each warning."""
    del arguments
    simrl.use_cpu_cores()
    devices = lanes.local_devices()
    rows = {
        "simrl": f"{simrl.__version__} in {Path(simrl.__file__).parent}",
        "python": f"{platform.python_version()} on {platform.platform(terse=True)}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "export": ", ".join(f"{name} {version(name)}" for name in EXPORT),
        "backend": jax.default_backend(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "cpu cores": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        "results of engine": identity.engine(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "program cache": cache(),
    }
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name.ljust(width)}  {text or '–'}")
    for line in warnings(jax.default_backend()):
        print(f"warning: {line}")


def version(name: str) -> str:
    """Returns the version of a package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def cache() -> str:
    """Returns where compiled programs are kept, and how much there is."""
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    folder = Path(chosen) if chosen else process.program_folder()
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return f"{folder} ({len(sizes)} files, {sum(sizes) / 2**20:.0f} MiB)"


def warnings(backend: str) -> list[str]:
    """Returns a line for each thing that makes results slow."""
    lines = []
    card = Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
    if card and backend == "cpu":
        lines.append("there is an NVIDIA GPU, and JAX does not use it: pip install 'jax[cuda13]'")
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        lines.append("JAX_DISABLE_JIT is set: everything is hundreds of times slower")
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        lines.append("JAX_ENABLE_X64 is set: float64, about twice as slow; stored results of both")
    return lines
