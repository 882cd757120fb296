"""The tables of the efficiency map: claims on the screen, the rest in files and by --verbose."""

from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

import simrl
from experiments.efficiency_map_claims import Tables, claims
from experiments.efficiency_map_figure import COMMON_RATE, LEARNERS, NOISY, sure
from simrl.cli import tables

PHASES = {
    "learner": "learner",
    "rate": "rate per sample",
    "low": "from",
    "high": "to",
    "num_seeds": "seeds",
    "pass_rate": "pass rate",
    "excess_loss": "excess loss",
    "nominal_per_trajectory": "nominal",
    "expected_per_trajectory": "mutual",
    "realised_per_trajectory": "pointwise",
    "realised_joint_per_trajectory": "joint",
    "absorbed_per_trajectory": "learned",
    "noise_scale": "noise",
    "absorbed_per_flop": "bit/FLOP",
    "absorbed_per_flop_counted": "counted",
}
HITTING = {
    "world": "world",
    "learner": "learner",
    "rate": "rate per sample",
    "pass_rate": "to p",
    "num_seeds": "seeds",
    "num_censored": "not reached",
    "num_stuck": "stuck",
    "trajectories_mean": "trajectories",
    "trajectories_median": "median",
    "flops_mean": "FLOPs",
    "flops_counted_mean": "counted",
}
BATCHES = {
    "learner": "learner",
    "start": "at p",
    "batch": "batch",
    "rate": "rate per sample",
    "realised": "pointwise",
    "realised_joint": "joint",
    "absorbed": "learned",
    "absorbed_per_flop": "bit/FLOP",
    "absorbed_per_flop_counted": "counted",
}
CLAIMS = (
    "The essay's claims in the map of one token out of 1,000; ± one standard error; one sample per "
    "update and a rate of 1 nat a sample for all learners, unless stated"
)


def write(results: dict[str, pd.DataFrame], folder: Path) -> bool:
    """Writes <name>.csv for each table; returns whether one is new or another than before.

    The rate is called what it is, a rate per sample.
    """
    changed = False
    for name, table in results.items():
        named = table.replace({"learner": LEARNERS}).rename(columns={"rate": "rate_per_sample"})
        file, text = folder / f"{name}.csv", named.to_csv(index=False)
        if not file.exists() or file.read_text("utf-8") != text:
            simrl.export(named, file)
            changed = True
    return changed


def show(results: dict[str, pd.DataFrame], console: Console, verbose: bool) -> None:
    """Prints the verdicts on the claims; all tables if `verbose`."""
    table, hits, batches = (results[name] for name in ("table", "hitting", "batches"))
    if verbose:
        for world, part in table.groupby("world", sort=False):
            show_phases(str(world), part, console)
        console.print(simrl.left_out(table), highlight=False)
        named = hits.replace({"learner": LEARNERS})[list(HITTING)].rename(columns=HITTING)
        title = (
            "mean trajectories and FLOPs (2N/4N, counted) to a pass rate, of seeds that reach it"
        )
        tables.show(named, title, console, keys=4)
        title = "one update from a pass rate, by batch size: bits per sample, learned bits per FLOP"
        named = updates(batches).replace({"learner": LEARNERS})
        tables.show(named.rename(columns=BATCHES), title, console, keys=4)
    visited = [sure(part) for part in (table, batches)]
    tables.show(claims(Tables(visited[0], hits, visited[1])), CLAIMS, console)


def show_phases(world: str, part: pd.DataFrame, console: Console) -> None:
    """Prints what is measured of each learner in each bin, on clean labels at the common rate."""
    noisy = world == NOISY
    frame = phases(part if noisy else part[part["rate"] == COMMON_RATE], noisy)
    bins = "excess loss in bits" if noisy else "pass rate"
    title = f"{world}: bins of the {bins}; bits per trajectory; noise scale in trajectories; "
    title += (
        "learned bits per FLOP by the 2N/4N convention and counted; *: too few seeds for intervals"
    )
    tables.show(frame.rename(columns=PHASES), title, console, keys=4)


def phases(part: pd.DataFrame, noisy: bool) -> pd.DataFrame:
    """Returns a row for each learner, rate and visited bin, in order, a column for each quantity.

    `part`: the phase table of one world; the ends of bins become pass rates, or bits if `noisy`.
    """
    own = ["learner", "rate", "phase"]
    keys = [*own, "phase_low", "phase_high"]
    part = part[part["num_seeds"] > 0]
    part = part.assign(mean=tables.marked(part["mean"], part["few_seeds"]))
    wide = part.set_index([*keys, "quantity"])["mean"].unstack("quantity").fillna("–").reset_index()
    visits = part[part["quantity"] == "pass_rate"].set_index(own)["num_seeds"]
    wide = wide.merge(visits, left_on=own, right_index=True)
    places = {learner: place for place, learner in enumerate(LEARNERS)}
    wide = wide.assign(place=wide["learner"].map(places)).sort_values(["place", "rate", "phase"])
    with np.errstate(over="ignore"):
        for end in ("low", "high"):
            value = wide[f"phase_{end}"].astype(float)
            wide[end] = 2.0**value if noisy else 1 / (1 + np.exp(-value))
    wide = wide.replace({"learner": LEARNERS})
    return wide[[name for name in PHASES if name in wide]].reset_index(drop=True)


def updates(batches: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each single update of a table by batch size."""
    visited = batches[batches["num_seeds"] > 0]
    keys = ["learner", "start", "batch", "rate"]
    wide = visited.set_index([*keys, "quantity"])["mean"].unstack("quantity").reset_index()
    return wide[list(BATCHES)]
