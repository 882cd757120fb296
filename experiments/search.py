"""Searching a secret: samples needed by policy gradient, a Bayesian and supervised learning.

Claim (THEORY.md, sections 2 and 3): of N equally likely answers policy gradient without a baseline
guesses N times in the mean before it is right once, since wrong guesses teach it nothing; a
Bayesian who crosses them off is right after (N + 1) / 2 and knows after (N + 1) / 2 - 1 / N; a
label says it at once. All find out log2 N bits. And what a group method makes of a pass rate p: the
fraction of zero-advantage groups, and the c of its mean update c times the gradient of p.

A pass rate is frozen by a learning rate of 1 and a single update, whose change of the log-odds
between right and wrong answers is the estimate itself.
"""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import simrl
from experiments import captions, command, search_figure
from experiments.search_runs import (
    ARMS,
    GROUP,
    GROUPS,
    METHODS,
    SEARCHERS,
    SIZES,
    SWEEP,
    TAKEN,
    Guesses,
    searches,
)
from experiments.verdicts import ERRORS, error_of, told, verdict
from simrl.cli import tables
from simrl.measures import gradients

SEEDS, QUICK = 10_000, 256


def slope(values: dict[int, float], errors: dict[int, float]) -> tuple[float, float]:
    """Slope of the logarithm against that of N, least squares, and its standard error."""
    x = np.log(list(values))
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    y, error = np.log(list(values.values())), np.array([errors[n] / values[n] for n in values])
    return float(weights @ y), float(np.sqrt(weights**2 @ error**2))


def search_table(found: dict[tuple[str, int], Guesses]) -> pd.DataFrame:
    """Mean samples and slopes, predicted and measured."""
    rows: list[dict[str, Any]] = []
    for name, what in SEARCHERS.items():
        means, errors, predicted = {}, {}, {}
        for size in SIZES:
            own = found[name, size]
            means[size], errors[size] = float(own.counts.mean()), error_of(own.counts)
            predicted[size] = own.predicted
            apart = abs(means[size] - own.predicted)
            rows.append(
                {
                    "searcher": name,
                    "N": f"{size}",
                    "what": what,
                    "predicted": f"{own.predicted:.4g}",
                    "measured": told(means[size], errors[size], 3),
                    "verdict": verdict(apart <= ERRORS * errors[size]),
                }
            )
        measured, error = slope(means, errors)
        wanted, _ = slope(predicted, errors)
        rows.append(
            {
                "searcher": name,
                "N": "slope",
                "what": "log-log, least squares over the three N",
                "predicted": f"{wanted:.4f}",
                "measured": told(measured, error),
                "verdict": verdict(abs(measured - wanted) <= ERRORS * error + 1e-12),
            }
        )
    return pd.DataFrame(rows)


def group_table(data: xr.Dataset) -> pd.DataFrame:
    """Zero-advantage groups and mean updates by method and pass rate, predicted and measured."""
    rows: list[dict[str, Any]] = []
    for labels, cell in simrl.each_cell(data):
        p, method = float(labels["p"]), METHODS[labels["method"]]
        law = cell["belief"].isel(prompt=0, position=0).values.astype(np.float64)
        odds = law[..., 0] - law[..., 1:].mean(axis=-1)
        # The gradient of p: p(1 - p) at the right answer, -p(1 - p)/(K - 1) at each other.
        scale = p * (1 - p) * ARMS / (ARMS - 1)
        weights = (odds[:, -1] - odds[:, 0]) / scale
        dead = (cell["total_dead"].values > 0).astype(np.float64)
        taken = TAKEN if "pass_at_k" in method else None
        wanted = float(gradients.group_weight(p, GROUP, method, taken))
        still = float(gradients.dead_group_probability(p, GROUP, method, taken))
        still_error = float(np.sqrt(still * (1 - still) / len(dead)))
        c, error = float(weights.mean()), error_of(weights)
        rows.append(
            {
                "method": labels["method"],
                "p": p,
                "num_seeds": len(dead),
                "dead_predicted": still,
                "dead": float(dead.mean()),
                "dead_error": still_error,
                "c_predicted": wanted,
                "c": c,
                "c_error": error,
                "holds": abs(c - wanted) <= ERRORS * error
                and abs(dead.mean() - still) <= ERRORS * still_error + 1e-6,
            }
        )
    return pd.DataFrame(rows)


def shown(groups: pd.DataFrame) -> pd.DataFrame:
    """The table of groups for the screen."""
    return pd.DataFrame(
        {
            "method": groups["method"].replace("none", "no baseline"),
            "p": groups["p"],
            "zero, predicted": [f"{x:.4f}" for x in groups["dead_predicted"]],
            "measured": [told(*x) for x in zip(groups["dead"], groups["dead_error"], strict=True)],
            "c, predicted": [f"{x:.4f}" for x in groups["c_predicted"]],
            "measured ": [told(*x, 3) for x in zip(groups["c"], groups["c_error"], strict=True)],
            "verdict": [verdict(bool(x)) for x in groups["holds"]],
        }
    )


def main() -> None:
    """Run what is missing, print the tables, draw the figure."""
    arguments = command.arguments("search", __doc__ or "", SEEDS, QUICK)
    console, clock = command.console(), command.Clock()

    def run(sweep: simrl.Sweep, name: str) -> xr.Dataset:
        options = {"progress": clock.bar(name), "devices": arguments.devices}
        return simrl.run(sweep, arguments.seeds, out=arguments.out / name, **options)

    data, one = run(SWEEP, "searches"), run(GROUPS, "groups")
    found, groups = searches(data), group_table(one)
    table = search_table(found)
    simrl.export(table, arguments.out / "searches.csv")
    simrl.export(groups, arguments.out / "groups.csv")
    tables.show(table, "samples until a secret of N is found", console, keys=2)
    title = f"groups of {GROUP}: fraction with zero advantage; mean update = c ∇p"
    tables.show(shown(groups), title, console, keys=2)
    caption = search_figure.caption(found, groups)
    captions.save(search_figure.figure(found, groups), arguments.out, caption)
    command.farewell(console, clock, arguments.out)


if __name__ == "__main__":
    command.guarded(main)
