"""Commitment: baselines with which policy gradient converges to a wrong arm.

Claim (Chung et al. 2021): a baseline does more than reduce variance. On three arms that pay 1, 0.7
and 0, natural policy gradient with the baseline b* of least variance, and more so with less than
it, can commit to a wrong arm: a sampled arm that is paid more than the baseline is made likelier,
however bad it is. With the value of the policy as baseline, or with b* + 1/2, it keeps exploring.
Vanilla policy gradient takes smaller steps and does not commit at this learning rate.

The independent program (`committal_check`) draws its own numbers; the shares are compared.
"""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

import simrl
from experiments import captions, command, committal_check
from experiments.verdicts import ERRORS, FEW, told, verdict
from simrl import plots
from simrl.cli import tables

SEEDS, QUICK = 10_000, 500
CHECKED = 2000  # runs of the independent program for each condition
RATE = 0.5
STEPS = {"natural": 1000, "score": 5000}
NAMES = {"natural": "natural policy gradient", "score": "vanilla policy gradient"}
SURE = 0.99  # a run has committed to an arm that is likelier than this
BASELINES: dict[str, simrl.Oracle | str] = {
    "none": "none",
    "b* - 1/2": simrl.Oracle("minimum_variance", -0.5),
    "b*": simrl.Oracle("minimum_variance"),
    "b* + 1/2": simrl.Oracle("minimum_variance", 0.5),
    "value": simrl.Oracle("expected_reward"),
}
# The claim: the share is above 0; of the others it is that they hardly ever do.
COMMITS = {("natural", name) for name in ("none", "b* - 1/2", "b*")}
RARE = 0.01
ARMS = ("right arm (1)", "wrong arm (0.7)", "wrong arm (0)", "none yet")

SWEEP = simrl.Sweep(
    simrl.Spec(
        simrl.Bandit("given", 3, rewards=tuple(committal_check.REWARDS.tolist()), noise=0.0),
        simrl.PolicyGradient("none", 1, optimizer=simrl.Optimizer("sgd", {"learning_rate": RATE})),
        log_points=1,
        observe_every=1000,
        phases=simrl.Phases(num=1),
        thresholds=(0.5,),
        keep_beliefs=True,
        num_redraws=3,
    ),
    [
        (
            {"update": update, "baseline": name},
            {
                "learner.surrogate": update,
                "learner.advantage": advantage,
                "max_steps": STEPS[update],
            },
        )
        for update in STEPS
        for name, advantage in BASELINES.items()
    ],
    name="committal",
    mode="list",
)


def committed(beliefs: np.ndarray) -> np.ndarray:
    """Which arm each policy [N, 3] has committed to, or 3: none yet."""
    return np.where(beliefs.max(axis=1) > SURE, beliefs.argmax(axis=1), 3)


def shares(data: xr.Dataset, checked: int) -> pd.DataFrame:
    """The share of runs that end at each arm, by condition, and the independent program's."""
    rows: list[dict[str, Any]] = []
    for i, (labels, cell) in enumerate(simrl.each_cell(data)):
        update, name = labels["update"], labels["baseline"]
        last = cell["belief"].isel(log_point=-1, prompt=0, position=0).values
        arms = committed(np.exp(last.astype(np.float64)))
        other = committed(
            committal_check.ends(name, update == "natural", RATE, STEPS[update], checked, i)
        )
        counts = np.bincount(arms, minlength=4)
        rows.append(
            {
                "update": update,
                "baseline": name,
                "num_seeds": len(arms),
                "wrong": int(counts[1] + counts[2]),
                "checked": checked,
                "checked_wrong": int(np.isin(other, (1, 2)).sum()),
                **dict(zip(ARMS, counts / len(arms), strict=True)),
            }
        )
    return pd.DataFrame(rows)


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Predicted, measured and verdict for each condition."""
    rows = []
    for row in table.to_dict("records"):
        n, m = row["num_seeds"], row["checked"]
        share, other = row["wrong"] / n, row["checked_wrong"] / m
        low, high = stats.binomtest(row["wrong"], n).proportion_ci(method="exact")
        both = (row["wrong"] + row["checked_wrong"]) / (n + m)
        error = np.sqrt(both * (1 - both) * (1 / n + 1 / m))
        commits = (row["update"], row["baseline"]) in COMMITS
        rows.append(
            {
                "update": NAMES[row["update"]],
                "baseline": row["baseline"],
                "claimed": "> 0" if commits else f"< {RARE}",
                "independent": told(other, np.sqrt(other * (1 - other) / m)),
                "measured": told(share, np.sqrt(share * (1 - share) / n)),
                "95 %": f"{low:.4f} … {high:.4f}",
                "apart": "0" if error == 0 else f"{(share - other) / error:+.1f} s.e.",
                "verdict": settled(commits, low, high, abs(share - other) <= ERRORS * error),
            }
        )
    return pd.DataFrame(rows)


def settled(commits: bool, low: float, high: float, agrees: bool) -> str:
    """Returns the verdict on a share by its interval: above 0, or below RARE, as claimed."""
    holds, fails = (low > 0, False) if commits else (high < RARE, low > RARE)
    if not agrees or fails:
        return verdict(False)
    return verdict(True) if holds else FEW


def points(table: pd.DataFrame, ax: Axes, update: str) -> None:
    """The share that commits to a wrong arm with each baseline, and its exact interval."""
    rows = table[table["update"] == update].set_index("baseline").loc[list(BASELINES)]
    colour = plots.CYCLE[list(STEPS).index(update)]
    for place, (wrong, n) in enumerate(zip(rows["wrong"], rows["num_seeds"], strict=True)):
        low, high = stats.binomtest(int(wrong), int(n)).proportion_ci(method="exact")
        if wrong == 0:
            ax.plot(high, place, marker="<", color=colour, markerfacecolor="white")
            continue
        ax.plot([low, high], [place, place], color=colour, linewidth=1)
        ax.plot(wrong / n, place, marker="o", color=colour, markersize=4)
    ax.set_xscale("log")
    ax.set(xlim=(1e-4, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="fraction of runs that commit")
    ax.set_yticks(np.arange(len(rows)), [name.replace("-", "−") for name in rows.index])
    ax.grid(axis="x", linewidth=0.3)


def figure(table: pd.DataFrame) -> Figure:
    """How often runs commit with each baseline, by natural and by vanilla policy gradient."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 2.1), layout="constrained")
        axes = made.subplots(1, 2)
        for ax, letter, update in zip(axes, "ab", STEPS, strict=True):
            points(table, ax, update)
            plots.panel_letter(ax, letter, f"{NAMES[update].capitalize()}, {STEPS[update]:,} steps")
            ax.set_ylabel("baseline")
        text = (
            f"Runs of n = {int(table['num_seeds'].max()):,} that end with a probability above "
            f"{SURE} of a suboptimal arm, with exact 95 % intervals; open triangles: upper end of "
            "the interval where no run does."
        )
        captions.note(made, text)
    return made


CAPTION = f"""
Fraction of runs that commit to a suboptimal arm with each baseline, by natural (a) and vanilla (b)
policy gradient; b* is the baseline of least variance, value that of the policy. Three arms with
rewards 1, 0.7 and 0, learning rate {RATE}, uniform start, one sample an update. Bars: exact
(Clopper-Pearson) 95 % intervals.
"""


def main() -> None:
    """Run what is missing, print the table, draw the figure."""
    arguments = command.arguments("committal", __doc__ or "", SEEDS, QUICK)
    seeds, console, clock = arguments.seeds, command.console(), command.Clock()
    options = {"out": arguments.out, "devices": arguments.devices}
    data = simrl.run(SWEEP, seeds, progress=clock.bar("runs"), **options)
    table = shares(data, min(seeds, CHECKED))
    table.to_csv(arguments.out / "table.csv", index=False)
    found = judged(table)
    found.to_csv(arguments.out / "verdicts.csv", index=False)
    title = f"share of runs that commit to a wrong arm (probability above {SURE}); the independent "
    title += f"program makes {min(seeds, CHECKED):,} runs"
    tables.show(found, title, console, keys=2)
    captions.save(figure(table), arguments.out, CAPTION)
    command.farewell(console, clock, arguments.out)


if __name__ == "__main__":
    command.guarded(main)
