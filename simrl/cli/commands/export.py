"""`simrl export`: the values of every seed in one file."""

import argparse

import simrl
from simrl.errors import SpecError

SUFFIXES = {"netcdf": ".nc", "parquet": ".parquet", "csv": ".csv"}


def execute(arguments: argparse.Namespace) -> None:
    """Writes a result folder to one file."""
    suffix = SUFFIXES[arguments.to]
    file = arguments.file or arguments.folder / f"{arguments.folder.resolve().name}{suffix}"
    if file.suffix != suffix:
        raise SpecError(f"--file: must end in {suffix} for {arguments.to}, got {file}")
    try:
        print(f"wrote {simrl.export(simrl.open(arguments.folder), file)}")
    except ValueError as error:
        raise SpecError(str(error)) from None
