"""Cumulative regret of UCB1 and Thompson sampling on nine Bernoulli arms, .1 to .9.

Claims: by Lai & Robbins (1985) no rule that does well on all Bernoulli bandits has less regret
than sum_a Delta_a / KL_a times ln t for large t; UCB1 grows faster than that and stays below the
bound of Auer et al. (2002), Theorem 1, 8 sum_a ln t / Delta_a + (1 + pi^2 / 3) sum_a Delta_a;
Thompson sampling has less regret than UCB1, and its slope tends to that of Lai & Robbins (Kaufmann
et al. 2012). What the regret of either is, an independent program (`regret_check`) predicts.

Regret is the pseudo-regret, the mean by the rule's choice, summed at every pull.
"""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

import simrl
from experiments import captions, command, regret_check
from experiments.verdicts import ERRORS, error_of, settled, told, verdict
from simrl import plots
from simrl.cli import tables
from simrl.measures.regret import lai_robbins_rate

SEEDS, QUICK = 1000, 100
CHECKED = 1000  # runs of the independent program
MEANS = np.arange(1, 10) / 10
HORIZONS = tuple(4**k for k in range(2, 7))  # 16 ... 4,096 pulls
RULES = {"UCB1": simrl.UCB1(), "Thompson": simrl.Thompson()}

SWEEP = simrl.Sweep(
    simrl.Spec(
        simrl.Bandit("bernoulli", len(MEANS), rewards=tuple(MEANS.tolist())),
        simrl.UCB1(),
        log_points=1,
        observe_every=1000,
        phases=simrl.Phases(num=1),
        measures=("regret",),
    ),
    {
        "rule": {name: {"learner": learner} for name, learner in RULES.items()},
        "max_steps": list(HORIZONS),
    },
    name="regret",
)


def cumulative(data: xr.Dataset, rule: str) -> np.ndarray:
    """Regret [T, N] of the runs of a rule up to each of `HORIZONS`."""
    values = data["phase_regret"].sel(rule=rule).sum("phase")
    return values.transpose("max_steps", "seed").values.astype(np.float64)


def agreement(data: xr.Dataset, checked: int) -> pd.DataFrame:
    """Regret up to each horizon, against the independent program."""
    rows = []
    for seed, rule in enumerate(RULES):
        wanted = regret_check.pulled(rule, MEANS, checked, HORIZONS, seed)
        for pulls, mine, other in zip(HORIZONS, cumulative(data, rule), wanted, strict=True):
            error = np.hypot(error_of(mine), error_of(other))
            gap = mine.mean() - other.mean()
            rows.append(
                {
                    "rule": rule,
                    "pulls": f"{pulls:,}",
                    "predicted": told(other.mean(), error_of(other), 2),
                    "measured": told(mine.mean(), error_of(mine), 2),
                    "verdict": verdict(abs(gap) <= ERRORS * error),
                }
            )
    return pd.DataFrame(rows)


def bounds(data: xr.Dataset) -> pd.DataFrame:
    """What the theorems say of regret and of its growth over the last two factors of 4."""
    of_rule = {rule: cumulative(data, rule) for rule in RULES}
    rate, gaps = float(lai_robbins_rate(MEANS)), MEANS[-1] - MEANS[:-1]
    most = 8 * np.log(HORIZONS[-1]) * (1 / gaps).sum() + (1 + np.pi**2 / 3) * gaps.sum()
    rows: list[dict[str, Any]] = []
    for rule, regret in of_rule.items():
        slope = (regret[-1] - regret[-3]) / np.log(HORIZONS[-1] / HORIZONS[-3])
        row = {"quantity": f"{rule}: regret per unit of ln t", "predicted": f"> {rate:.2f}"}
        row |= {"measured": told(slope.mean(), error_of(slope), 2)}
        row["verdict"] = settled(slope.mean() - rate, error_of(slope))
        if rule == "Thompson":  # a limit, of which no theorem says how near it is by now
            row |= {"predicted": f"towards {rate:.2f}", "verdict": "–"}
        rows.append(row)
    ucb, thompson = (of_rule[rule][-1] for rule in ("UCB1", "Thompson"))
    less = (ucb - thompson).mean(), np.hypot(error_of(ucb), error_of(thompson))
    for quantity, predicted, values, above in (
        ("UCB1: regret", f"< {most:.0f}", ucb, (most - ucb.mean(), error_of(ucb))),
        ("Thompson: regret", f"< {ucb.mean():.2f}, that of UCB1", thompson, less),
    ):
        row = {"quantity": quantity, "predicted": predicted}
        row["measured"] = told(values.mean(), error_of(values), 2)
        rows.append({**row, "verdict": settled(*above)})
    return pd.DataFrame(rows)


def curves(data: xr.Dataset) -> pd.DataFrame:
    """Mean regret and its 95 % interval by rule and number of pulls."""
    rows = []
    for rule in RULES:
        for pulls, values in zip(HORIZONS, cumulative(data, rule), strict=True):
            mean, low, high = simrl.interval(values)
            row = {"rule": rule, "pulls": pulls, "mean": mean, "low": low, "high": high}
            rows.append({**row, "num_seeds": len(values)})
    return pd.DataFrame(rows)


def figure(table: pd.DataFrame) -> Figure:
    """Regret against the number of pulls, with the line of Lai and Robbins."""
    with plots.paper():
        made = Figure(figsize=(plots.ONE_COLUMN, 2.6), layout="constrained")
        ax = made.subplots()
        for colour, (rule, rows) in zip(
            plots.CYCLE, table.groupby("rule", sort=False), strict=False
        ):
            ax.plot(rows["pulls"], rows["mean"], "o-", color=colour, label=str(rule), markersize=3)
            ax.fill_between(rows["pulls"], rows["low"], rows["high"], color=colour, alpha=0.2)
        pulls = np.geomspace(1, HORIZONS[-1])
        line = float(lai_robbins_rate(MEANS)) * np.log(pulls)
        ax.plot(pulls, line, "--", color="0.3", label="Lai–Robbins slope")
        ax.set(
            xscale="log", xlabel="pulls", ylabel="cumulative regret", xlim=(0.8 * HORIZONS[0], None)
        )
        ax.set_ylim(0)
        ax.legend()
        runs = int(table["num_seeds"].max())
        captions.note(made, f"Mean over n = {runs:,} runs; bands: 95 % t interval.", 60)
    return made


CAPTION = """
Cumulative pseudo-regret of UCB1 (Auer et al. 2002) and of Thompson sampling with uniform priors on
nine Bernoulli arms of means .1 to .9. Dashed: ln t times the sum over arms of Delta / KL, the slope
that no rule beats for large t (Lai and Robbins 1985).
"""


def main() -> None:
    """Run what is missing, print the tables, draw the figure."""
    arguments = command.arguments("regret", __doc__ or "", SEEDS, QUICK)
    seeds, console, clock = arguments.seeds, command.console(), command.Clock()
    options = {"out": arguments.out, "devices": arguments.devices}
    data = simrl.run(SWEEP, seeds, progress=clock.bar("runs"), **options)
    results = {"agreement": agreement(data, min(seeds, CHECKED)), "bounds": bounds(data)}
    titles = {
        "agreement": f"regret, and that of {min(seeds, CHECKED):,} runs of an independent program",
        "bounds": f"regret up to {HORIZONS[-1]:,} pulls, and its growth over the last factor of 16",
    }
    for name, table in results.items():
        tables.show(table, titles[name], console, keys=2)
        simrl.export(table, arguments.out / f"{name}.csv")
    table = curves(data)
    simrl.export(table, arguments.out / "table.csv")
    captions.save(figure(table), arguments.out, CAPTION)
    command.farewell(console, clock, arguments.out)


if __name__ == "__main__":
    command.guarded(main)
