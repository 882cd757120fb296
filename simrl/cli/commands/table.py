"""`simrl table`: tables of stored results."""

import argparse
from typing import Any

import pandas as pd
from rich.console import Console

import simrl
from simrl.cli import tables
from simrl.errors import SpecError
from simrl.sweeps.quantities import FEW_SEEDS, FEW_SEEDS_OF

# If none is named; by whole answers, since a supervised sample is one token.
BITS = ("realised_per_trajectory", "absorbed_per_trajectory")
PHASES = ("pass_rate", *BITS, "noise_scale", "absorbed_per_flop")
COUNTS = {"num_seeds": "seeds", "num_diverged": "diverged"}


def execute(arguments: argparse.Namespace) -> None:
    """Prints a table of a result folder, or writes it to a file."""
    if arguments.kind == "hitting" and arguments.quantity is not None:
        raise SpecError("--quantity cannot be combined with --kind hitting: it has all of them")
    medians = arguments.kind == "hitting" and arguments.keep == "seeds"
    data = simrl.open(arguments.folder, keep="seeds" if medians else "moments")
    whole = of_kind(data, arguments.kind, arguments.quantity)
    if arguments.to is not None:
        print(f"wrote {simrl.export(whole, arguments.to)}")
        return
    axes = list(simrl.each_cell(data)[0][0])
    show = {"curve": curve, "phase": phases, "hitting": hitting}[arguments.kind]
    frame, title = show(whole, axes)
    console = Console()
    ends = 2 * (arguments.kind == "phase")  # of the bin
    tables.show(frame, title, console, keys=max(1, len(axes) + ends))
    if arguments.kind == "phase" and simrl.left_out(whole):
        console.print(simrl.left_out(whole), highlight=False)


def of_kind(data: Any, kind: str, quantity: str | None) -> pd.DataFrame:
    """Returns a table of a Dataset; what it refuses is a SpecError."""
    try:
        if kind == "curve":
            return simrl.curve_table(data, quantity or "pass_rate")
        return simrl.phase_table(data, quantity) if kind == "phase" else simrl.hitting_table(data)
    except ValueError as error:
        raise SpecError(str(error)) from None


def curve(table: pd.DataFrame, axes: list[str]) -> tuple[pd.DataFrame, str]:
    """Returns what is printed of a curve table, and its title."""
    quantity, units = table["quantity"].iloc[0], table["units"].iloc[0]
    spent = [name for name in ("step", "samples", "flops") if name in table]
    frame = table[[*axes, *spent, "mean", "low", "high", *COUNTS]]
    return _named(frame), f"{quantity} ({units}) over training; low to high: 95 % interval"


def phases(table: pd.DataFrame, axes: list[str]) -> tuple[pd.DataFrame, str]:
    """Returns what is printed of a phase table, and its title: a column for each quantity."""
    keys = [*axes, "phase", "phase_low", "phase_high"]
    names = list(dict.fromkeys(table["quantity"]))
    rows = table[table["num_seeds"] > 0]
    few = rows["few_seeds"].any()
    rows = rows.assign(mean=tables.marked(rows["mean"], rows["few_seeds"]))
    if len(names) == 1:
        frame = rows[[*keys, "mean", "low", "high", *COUNTS]]
        title = f"{names[0]} ({table['units'].iloc[0]}) by phase; low to high: 95 % interval"
    else:
        chosen = [name for name in PHASES if name in names]
        rows = rows[rows["quantity"].isin(chosen)]
        frame = rows.set_index([*keys, "quantity"])["mean"].unstack("quantity")[chosen].fillna("–")
        visits = rows[rows["quantity"] == chosen[0]].set_index(keys)
        frame = frame.join(visits["num_seeds"]).reset_index()
        title = "means by phase; all quantities: --quantity NAME or --to FILE.csv"
    if few:
        more = ", ".join(f"{name} {enough:,}" for name, enough in FEW_SEEDS_OF.items())
        title += f"; *: interval too short, of fewer than {FEW_SEEDS} seeds ({more})"
    frame = frame.drop(columns="phase")
    return _named(frame.rename(columns={"phase_low": "from", "phase_high": "to"})), title


def hitting(table: pd.DataFrame, axes: list[str]) -> tuple[pd.DataFrame, str]:
    """Returns what is printed of a hitting table, and its title."""
    names = {"pass_rate": "to p", "num_reached": "reached", "num_seeds": "of"}
    names |= {"trajectories_mean": "trajectories", "trajectories_median": "median"}
    names |= {"flops_mean": "FLOPs"}
    medians = table["trajectories_median"].notna().any()  # of moments there are none
    if not medians:
        del names["trajectories_median"]
    frame = table[[*axes, *names]].rename(columns=names)
    what = (
        "trajectories (whole answers) and FLOPs to a pass rate: means of the seeds that reached it"
    )
    return frame, what + ", and median" * bool(medians)


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without a column of diverged seeds where there are none."""
    if "num_diverged" in frame and not frame["num_diverged"].any():
        frame = frame.drop(columns="num_diverged")
    return frame.rename(columns=COUNTS).reset_index(drop=True)
