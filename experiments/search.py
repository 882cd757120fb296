"""Searching a secret: what a right/wrong verdict is worth to those who forget and who remember.

Claim (THEORY.md, sections 2 and 3): of N equally likely answers policy gradient without a baseline
guesses N times in the mean before it is right once, since wrong guesses teach it nothing; a
Bayesian who crosses them off is right after (N + 1) / 2 and knows after (N + 1) / 2 - 1 / N; a
label says it at once. All find out log2 N bits. And what a group method makes of a pass rate p: the
share of its groups that is dead, and the c of its mean update c times the gradient of p.

A pass rate is frozen by a learning rate of 1 and a single update, whose change of the log-odds
between right and wrong answers is the estimate itself.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import simrl
from experiments import command
from experiments.verdicts import ERRORS, error_of, told, verdict
from simrl import plots
from simrl.measures import gradients

SEEDS, QUICK = 10_000, 256
SIZES = (10, 100, 500)
SEARCHERS = {
    "policy gradient": "guesses before the first hit",
    "Bayesian, hit": "guesses to the first hit",
    "Bayesian, known": "guesses to knowing",
    "supervised": "labels",
}
PASS_RATES, GROUP, ARMS, TAKEN = (0.01, 0.1, 0.5), 8, 10, 4
METHODS = {
    "none": "none",
    "leave_one_out": "leave_one_out",
    "batch_mean": "group_mean",
    "group_normalised": "group_normalised",
    "group_normalised_sample": "group_normalised_sample",
    "maxrl": "maxrl",
    "maxrl_centred": "maxrl_centred",
    "pass_at_k": "pass_at_k",
    "pass_at_k_leave_one_out": "pass_at_k_leave_one_out",
}  # name of the advantage -> its name in simrl.measures

DRAWN = {
    "leave_one_out": "none, leave one out",
    "batch_mean": "group mean",
    "group_normalised": "group normalised",
    "maxrl": "MaxRL",
    "pass_at_k": "pass@k",
}  # the others are on or near one of these curves

# One success makes all but certain, so that what is counted is the way to the first.
LEAP = simrl.Optimizer("sgd", {"learning_rate": 50.0})
LEARNERS: dict[str, dict[str, Any]] = {
    "policy gradient": {"learner": simrl.PolicyGradient("none", 1, optimizer=LEAP)},
    "Bayesian": {"learner": simrl.Bayesian(), "engine": "plain"},
    "supervised": {"learner": simrl.Supervised(optimizer=LEAP), "engine": "plain"},
}
SWEEP = simrl.Sweep(
    simrl.Spec(
        max_steps=2**20,
        stop_pass_rate=0.99,
        log_points=1,
        observe_every=2**20,
        phases=simrl.Phases(num=1),
        thresholds=(0.99,),
        engine="jump",
        num_redraws=3,
    ),
    [
        ({"learner": name, "N": size}, {"environment": simrl.Sequence(size, 1), **changes})
        for name, changes in LEARNERS.items()
        for size in SIZES
    ],
    name="search",
    mode="list",
)
GROUPS = simrl.Sweep(
    simrl.Spec(
        simrl.Bandit("one_right", ARMS),
        simrl.PolicyGradient("none", GROUP),
        max_steps=1,
        log_points=1,
        phases=simrl.Phases(num=1),
        thresholds=(0.999,),
        keep_beliefs=True,
        num_redraws=3,
    ),
    [
        (
            {"method": method, "p": p},
            {
                "learner.advantage": {"name": method, "k": TAKEN}
                if "pass_at_k" in method
                else method,
                "policy": simrl.Tabular("pretrained", pass_rate=p),
            },
        )
        for method in METHODS
        for p in PASS_RATES
    ],
    name="groups",
    mode="list",
)


class Guesses(NamedTuple):
    """Samples [S] of each seed, and what theory says of their mean."""

    counts: np.ndarray
    predicted: float


def searches(data: xr.Dataset) -> dict[tuple[str, int], Guesses]:
    """(searcher, N) -> samples of every seed."""
    found = {}
    for labels, cell in simrl.each_cell(data):
        size = int(labels["N"])
        counts = cell["hit_samples"].sel(threshold=0.99).values.astype(np.float64)
        if labels["learner"] == "Bayesian":
            right = cell["phase_success"].sum("phase").values > 0
            # Who knows without a hit guesses right the next time.
            found["Bayesian, hit", size] = Guesses(counts + ~right, (size + 1) / 2)
            found["Bayesian, known", size] = Guesses(counts, (size + 1) / 2 - 1 / size)
        else:
            mean = {"policy gradient": size, "supervised": 1}[labels["learner"]]
            found[labels["learner"], size] = Guesses(counts, mean)
    return found


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
    """Dead groups and mean updates by method and pass rate, predicted and measured."""
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
            "method": groups["method"],
            "p": groups["p"],
            "dead, predicted": [f"{x:.4f}" for x in groups["dead_predicted"]],
            "measured": [told(*x) for x in zip(groups["dead"], groups["dead_error"], strict=True)],
            "c, predicted": [f"{x:.4f}" for x in groups["c_predicted"]],
            "measured ": [told(*x, 3) for x in zip(groups["c"], groups["c_error"], strict=True)],
            "verdict": [verdict(bool(x)) for x in groups["holds"]],
        }
    )


def searched(found: dict[tuple[str, int], Guesses], ax: Axes) -> None:
    """Mean samples against N, with 95 % intervals and the law."""
    marks = dict(zip(SEARCHERS, "osD^", strict=True))
    for colour, (name, mark) in zip(plots.CYCLE, marks.items(), strict=False):
        own = [found[name, size] for size in SIZES]
        means = [guesses.counts.mean() for guesses in own]
        errors = [1.96 * error_of(guesses.counts) for guesses in own]
        empty = "white" if name == "Bayesian, known" else colour
        about: dict[str, Any] = {"marker": mark, "color": colour, "markerfacecolor": empty}
        ax.errorbar(SIZES, means, errors, linestyle="none", label=name, **about)
        ax.plot(SIZES, [guesses.predicted for guesses in own], color=colour, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="equally likely answers N", ylabel="samples in the mean")
    ax.set_xticks(SIZES, [str(size) for size in SIZES])
    ax.minorticks_off()
    ax.legend(frameon=False, loc="upper left")


def grouped(groups: pd.DataFrame, ax: Axes) -> None:
    """c against p for each method, with 95 % intervals and the law."""
    grid = np.geomspace(0.005, 0.6, 80)
    for colour, (method, label) in zip(plots.CYCLE, DRAWN.items(), strict=False):
        rows = groups[groups["method"] == method]
        taken = TAKEN if "pass_at_k" in method else None
        law = gradients.group_weight(jnp.asarray(grid), GROUP, METHODS[method], taken)
        ax.plot(grid, law, color=colour, linewidth=0.8)
        about: dict[str, Any] = {"color": colour, "markersize": 3.5}
        error = 1.96 * rows["c_error"]
        ax.errorbar(rows["p"], rows["c"], error, fmt="o", label=label, **about)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="pass rate p", ylabel="c in E[update] = c ∇p")
    ax.legend(frameon=False, loc="upper right", ncols=2, fontsize=6)


def figure(found: dict[tuple[str, int], Guesses], groups: pd.DataFrame) -> Figure:
    """The search, and what group methods make of a pass rate."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 2.9), layout="constrained")
        axes = made.subplots(1, 2)
        searched(found, axes[0])
        grouped(groups, axes[1])
        plots.panel_letter(axes[0], "a", "Searching a secret")
        plots.panel_letter(axes[1], "b", f"Groups of {GROUP}; pass@k with k = {TAKEN}")
        n, m = len(found["supervised", SIZES[0]].counts), int(groups["num_seeds"].max())
        note = f"Means over n = {n:,} (a) and {m:,} (b) seeds, 95 % intervals (mostly smaller than "
        note += "the marks); lines: closed forms."
        made.supxlabel(note, x=0.01, ha="left", fontsize=7)
    return made


def main() -> None:
    """Run what is missing, print the tables, draw the figure."""
    arguments = command.parser("search", (__doc__ or "").split("\n")[0], SEEDS).parse_args()
    seeds = arguments.seeds or (QUICK if arguments.quick else SEEDS)
    console, clock = command.console(), command.Clock()
    with command.Watch("searches", console, clock) as watch:
        options = {"progress": watch, "devices": arguments.devices}
        data = simrl.run(SWEEP, seeds, out=arguments.out / "searches", **options)
    with command.Watch("groups", console, clock) as watch:
        options = {"progress": watch, "devices": arguments.devices}
        one = simrl.run(GROUPS, seeds, out=arguments.out / "groups", **options)
    found, groups = searches(data), group_table(one)
    table = search_table(found)
    table.to_csv(arguments.out / "searches.csv", index=False)
    groups.to_csv(arguments.out / "groups.csv", index=False)
    command.show(table, "samples until a secret of N is found", console)
    title = (
        f"groups of {GROUP}: share that is dead, and c in: mean update = c times the gradient of p"
    )
    command.show(shown(groups), title, console)
    with plots.paper():
        plots.save(figure(found, groups), arguments.out / "figure")
    console.print(clock.summary(), highlight=False)
    console.print(f"tables (csv) and figure (pdf, png) are in {arguments.out}", highlight=False)


if __name__ == "__main__":
    command.guarded(main)
