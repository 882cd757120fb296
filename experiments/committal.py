"""Commitment: baselines with which policy gradient converges to a wrong arm.

Claim (Chung et al. 2021): a baseline does more than reduce variance. On three arms that pay 1, 0.7
and 0, natural policy gradient with the baseline b* of least variance, and more so with less than
it, can commit to a wrong arm: a sampled arm that is paid more than the baseline is made likelier,
however bad it is. With the value of the policy as baseline, or with b* + 1/2, it keeps exploring.
Vanilla policy gradient takes smaller steps and does not commit at this learning rate.

b* depends on the estimator: sum (r / pi) / sum (1 / pi) for the natural gradient, E r|s|^2 / E|s|^2
for the score s. "b* of the score" is the second under the natural gradient, of which nothing is
claimed. The independent program (`committal_check`) has its own estimators, finds the baselines by
minimising their variance numerically, and draws its own numbers; the shares are compared.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
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
TITLES = {"natural": "Natural gradient", "score": "Score function"}
OF_SCORE = "b* of the score"
SURE = 0.99  # a run has committed to an arm that is likelier than this
BASELINES: dict[str, simrl.Oracle | str] = {
    "none": "none",
    "b* - 1/2": simrl.Oracle("minimum_variance", -0.5),
    "b*": simrl.Oracle("minimum_variance"),
    "b* + 1/2": simrl.Oracle("minimum_variance", 0.5),
    OF_SCORE: simrl.Oracle("score_minimum_variance"),
    "value": simrl.Oracle("expected_reward"),
}
CONDITIONS = [(u, name) for u in STEPS for name in BASELINES if (u, name) != ("score", OF_SCORE)]
# The claim: the share is above 0; of the others it is that they hardly ever do.
COMMITS = {("natural", name) for name in ("none", "b* - 1/2", "b*")}
RARE = 0.01
FAILS, GREY = plots.CYCLE[1], "0.45"  # colours: a claim that fails, the independent program
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
                "learner.advantage": BASELINES[name],
                "max_steps": STEPS[update],
            },
        )
        for update, name in CONDITIONS
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
        commits = claimed(row["update"], row["baseline"])
        rows.append(
            {
                "update": NAMES[row["update"]],
                "baseline": row["baseline"],
                "claimed": {True: "> 0", False: f"< {RARE}", None: "–"}[commits],
                "independent": told(other, np.sqrt(other * (1 - other) / m)),
                "measured": told(share, np.sqrt(share * (1 - share) / n)),
                "95 %": f"{low:.4f} … {high:.4f}",
                "apart": "0" if error == 0 else f"{(share - other) / error:+.1f} s.e.",
                "verdict": settled(commits, low, high, abs(share - other) <= ERRORS * error),
            }
        )
    return pd.DataFrame(rows)


def claimed(update: str, baseline: str) -> bool | None:
    """Returns whether runs are claimed to commit; None where nothing is claimed."""
    return None if baseline == OF_SCORE else (update, baseline) in COMMITS


def settled(commits: bool | None, low: float, high: float, agrees: bool) -> str:
    """Returns the verdict on a share by its interval: above 0, or below RARE, as claimed."""
    if not agrees:
        return verdict(False)
    if commits is None:
        return "agrees"
    holds, fails = (low > 0, False) if commits else (high < RARE, low > RARE)
    if fails:
        return verdict(False)
    return verdict(True) if holds else FEW


def points(table: pd.DataFrame, verdicts: pd.DataFrame, ax: Axes, update: str) -> None:
    """The shares that commit with each baseline by both programs, the claims and the verdicts."""
    rows = table[table["update"] == update].reset_index(drop=True)
    said = verdicts[verdicts["update"] == NAMES[update]].reset_index(drop=True)
    for place, row in rows.iterrows():
        share(ax, row["wrong"], row["num_seeds"], place - 0.15, plots.CYCLE[0], "o")
        share(ax, row["checked_wrong"], row["checked"], place + 0.15, GREY, "s")
        line = said.loc[place]
        fails = line["verdict"] == verdict(False)
        written(ax, place, line, color=FAILS if fails else "black", weight=700 if fails else 400)
    written(ax, -0.8, {"claimed": "claim", "verdict": "verdict"})
    ax.axvline(RARE, color=GREY, linewidth=0.6, linestyle=(0, (2, 2)))
    ax.set_xscale("log")
    ax.set(xlim=(1e-4, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="fraction of runs that commit")
    ax.set_yticks(np.arange(len(rows)), [name.replace("-", "−") for name in rows["baseline"]])
    ax.grid(axis="x", linewidth=0.3)


def written(ax: Axes, place: float, line: Mapping[str, Any], **look: Any) -> None:
    """Writes the claim and the verdict of a row to the right of the panel."""
    at: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    at |= {"va": "center", "fontsize": 6.5, "annotation_clip": False, **look}
    for points_right, column in ((4, "claimed"), (37, "verdict")):
        ax.annotate(line[column], (1, place), (points_right, 0), **at)


def share(ax: Axes, count: int, total: int, place: float, colour: str, marker: str) -> None:
    """A share with its exact interval; where it is 0, an open triangle at the upper end."""
    low, high = stats.binomtest(int(count), int(total)).proportion_ci(method="exact")
    if count == 0:
        ax.plot(high, place, marker="<", color=colour, markerfacecolor="white", markersize=4)
        return
    ax.plot([low, high], [place, place], color=colour, linewidth=1)
    ax.plot(count / total, place, marker=marker, color=colour, markersize=3.5)


def figure(table: pd.DataFrame, verdicts: pd.DataFrame) -> Figure:
    """How often runs commit with each baseline, by natural and by vanilla policy gradient."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 2.6), layout="constrained")
        axes = made.subplots(1, 2)
        for ax, letter, update in zip(axes, "ab", STEPS, strict=True):
            points(table, verdicts, ax, update)
            plots.panel_letter(ax, letter, f"{TITLES[update]}, {STEPS[update]:,} steps")
        axes[0].set_ylabel("baseline")
        look: dict[str, Any] = {"linestyle": "none", "markersize": 3.5}
        kinds = [
            Line2D([], [], marker="o", color=plots.CYCLE[0], label="simrl", **look),
            Line2D([], [], marker="s", color=GREY, label="independent program", **look),
            Line2D([], [], marker="<", color="black", label="no run commits", mfc="white", **look),
        ]
        made.legend(handles=kinds, loc="outside lower center", ncols=3)
    return made


def caption(table: pd.DataFrame) -> str:
    """Returns the caption of the figure."""
    num, checked = (int(table[name].max()) for name in ("num_seeds", "checked"))
    return f"""
Fraction of runs that commit to a suboptimal arm (end with a probability above {SURE} of it) with
each baseline, by natural policy gradient (a) and by the score function (b, vanilla policy
gradient). Circles: simrl, n = {num:,} runs; squares: the independent program, n = {checked:,};
bars: exact (Clopper-Pearson) 95 % intervals; open triangles: their upper end where no run commits;
dashed: {RARE}. b* is the baseline of least variance of the estimator in use, b* of the score that
of the score function; value is that of the policy. A claim fails as well where the two programs
differ by more than {ERRORS:g} standard errors. Three arms with rewards 1, 0.7 and 0, learning rate
{RATE}, uniform start, one sample an update.
"""


def main() -> None:
    """Run what is missing, print the table, draw the figure."""
    arguments = command.arguments("committal", __doc__ or "", SEEDS, QUICK)
    seeds, console, clock = arguments.seeds, command.console(), command.Clock()
    options = {"out": arguments.out, "devices": arguments.devices}
    data = simrl.run(SWEEP, seeds, progress=clock.bar("runs"), **options)
    table = shares(data, min(seeds, CHECKED))
    simrl.export(table, arguments.out / "table.csv")
    found = judged(table)
    simrl.export(found, arguments.out / "verdicts.csv")
    title = f"share of runs that commit to a wrong arm (probability above {SURE}); the independent "
    title += f"program makes {min(seeds, CHECKED):,} runs"
    tables.show(found, title, console, keys=2)
    captions.save(figure(table, found), arguments.out, caption(table))
    command.farewell(console, clock, arguments.out)


if __name__ == "__main__":
    command.guarded(main)
