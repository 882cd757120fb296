"""The gradient bandit with and without a baseline: Sutton & Barto (2018), Fig. 2.5.

Claim (section 2.8): on ten arms with values q* ~ N(4, 1) and rewards N(q*, 1) the gradient bandit
with the mean of earlier rewards as baseline finds the best arm (the book's curve for alpha = 0.1
ends above 80 % of the runs); without a baseline it does far worse. Adding 4 to all rewards changes
nothing with the baseline, which takes it off again, and everything without.

The book draws the share of runs that CHOSE the best arm. Measured here is the probability with
which each run chooses it, the pass rate: the exact expectation of that 0 or 1 given the run so far,
so the same mean, with less noise. The book prints no other number: what is predicted is measured
by an independent program (`testbed_check`), which counts choices.
"""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import simrl
from experiments import captions, command, testbed_check
from experiments.verdicts import ERRORS, error_of, settled, told, verdict
from simrl import plots
from simrl.cli import tables

SEEDS, QUICK = 20_000, 500
CHECKED = 4000  # runs of the independent program for each condition
STEPS = 1000
UPDATES, LOOKS = STEPS - 1, 111  # the 1,000th choice comes after 999 updates; 999 = 9 x 111
RATES = (0.1, 0.4)
BASELINES = {"running_mean": "with baseline", "none": "without baseline"}
MEANS = (0.0, 4.0)
Independents = dict[tuple[str, float], testbed_check.Pulled]  # by baseline and learning rate

SWEEP = simrl.Sweep(
    simrl.Spec(
        simrl.Bandit("gaussian", 10),
        simrl.PolicyGradient("running_mean", group_size=1),
        max_steps=UPDATES,
        log_points=LOOKS,
        log_spacing="linear",
        observe_every=UPDATES // LOOKS,
        phases=simrl.Phases(num=1),
        thresholds=(0.5,),
        num_redraws=3,
    ),
    {
        "arms": {mean: {"environment.mean": mean} for mean in MEANS},
        "learner.advantage": list(BASELINES),
        "learner.optimizer.learning_rate": list(RATES),
    },
    name="testbed",
)


def last(data: xr.Dataset, mean: float, baseline: str, rate: float) -> np.ndarray:
    """The pass rates [N] of a condition at the last choice."""
    cell = data["pass_rate"].sel(arms=mean, advantage=baseline, learning_rate=rate)
    return cell.isel(log_point=-1).values.astype(np.float64)


def independents(checked: int) -> Independents:
    """Returns the last choices of the independent program, arm values around 4."""
    conditions = list(itertools.product(BASELINES, RATES))
    return {
        (baseline, rate): testbed_check.pulled(
            checked, STEPS, MEANS[1], rate, baseline != "none", seed
        )
        for seed, (baseline, rate) in enumerate(conditions)
    }


def choices(data: xr.Dataset, others: Independents) -> pd.DataFrame:
    """The best arm at step 1,000, arm values around 4: each curve's end, and their order."""
    rows: list[dict[str, Any]] = []
    ends = []
    for baseline, name in BASELINES.items():
        for rate in RATES:
            other = others[baseline, rate]
            measured = last(data, MEANS[1], baseline, rate)
            low, high = simrl.interval(measured)[1:]
            gap = measured.mean() - other.chosen.mean()
            error = np.hypot(error_of(measured), error_of(other.chosen))
            rows.append(
                {
                    "alpha": rate,
                    "baseline": name,
                    "predicted: chosen": told(other.chosen.mean(), error_of(other.chosen)),
                    "its chance": told(other.chance.mean(), error_of(other.chance)),
                    "measured": told(measured.mean(), error_of(measured)),
                    "95 %": f"{low:.4f} … {high:.4f}",
                    "apart": f"{gap / error:+.1f} s.e.",
                    "verdict": verdict(abs(gap) < ERRORS * error),
                }
            )
            ends.append(measured)
    over = ends[0].mean() - 0.8
    book = {"alpha": RATES[0], "baseline": BASELINES["running_mean"], "predicted: chosen": "> 0.8"}
    book |= {"its chance": "–", "measured": rows[0]["measured"], "95 %": rows[0]["95 %"]}
    error = error_of(ends[0])
    book |= {"apart": f"{over / error:+.1f} s.e.", "verdict": settled(over, error)}
    return pd.DataFrame([*rows, book])


def rounding(rate: float) -> float:
    """How far pass rates may drift apart by the rounding of rewards that are 4 higher.

    Rewards and their mean below 16 are off by at most 2**-21 together in an update, and so is a
    logit by `rate` times that; a probability moves by at most half the largest move of a logit.
    """
    return UPDATES * rate * 2.0**-21 / 2


def flips(apart: np.ndarray, same: np.ndarray) -> float:
    """At most about how many runs part: a Poisson number, by how far the same runs are apart.

    A draw goes another way if its uniform number falls between two roundings of one of the nine
    edges between arms. `apart` [N, T] are the differences of the best arm's probability.
    """
    return float(UPDATES * 9 * apart[same].mean() * len(apart)) if same.any() else 0.0


def shifts(data: xr.Dataset) -> pd.DataFrame:
    """What adding 4 to every reward does to the same runs: same arms, same random numbers."""
    rows = []
    for baseline, name in BASELINES.items():
        for rate in RATES:
            every = data["pass_rate"].sel(advantage=baseline, learning_rate=rate)
            at = [every.sel(arms=mean).values.astype(np.float64) for mean in MEANS]
            apart = np.abs(at[1] - at[0])
            largest = apart.max(axis=-1)
            same = largest <= rounding(rate)
            change, parted = at[1][:, -1] - at[0][:, -1], int((~same).sum())
            row = {"alpha": rate, "baseline": name}
            row["predicted"] = "falls" if baseline == "none" else "0"
            row["change"] = f"{change.mean():+.0e} ± {error_of(change):.0e}"
            row |= {f"at {MEANS[i]:g}": f"{at[i][:, -1].mean():.4f}" for i in range(2)}
            row["parted"] = f"{parted:,}"
            outcome = settled(-float(change.mean()), error_of(change))
            if baseline != "none":
                most = flips(apart, same)
                row["predicted parted"] = f"≤ {most:.1f} ± {np.sqrt(most):.1f}"
                rest = largest[same] if same.any() else np.array([np.nan])
                row["rest within"] = f"{rest.max():.1e}"
                row["median"] = f"{np.median(rest):.1e}"
                outcome = verdict(bool(parted <= most + ERRORS * np.sqrt(most)))
            rows.append({**row, "verdict": outcome})
    return pd.DataFrame(rows).fillna("–")


def curves(table: pd.DataFrame, ax: Axes, mean: float) -> None:
    """Draws the four curves of one mean of the arms."""
    for baseline, name in BASELINES.items():
        for rate in RATES:
            rows = table[(table["arms"] == mean) & (table["advantage"] == baseline)]
            rows = rows[rows["learning_rate"] == rate]
            style: dict[str, Any] = {
                "color": plots.COLOURS["none"] if baseline == "none" else plots.CYCLE[0],
                "linestyle": "-" if rate < 0.2 else (0, (4, 1.5)),
                "marker": "",
                "label": f"{name}, α = {rate:g}",
            }
            plots.line(rows, ax, "choice", legend=False, **style)
    ax.set(xlim=(0, STEPS), ylim=(0, 0.9), xlabel="step")
    ax.set_xticks([1, 250, 500, 750, 1000])


def ends(others: Independents, ax: Axes) -> None:
    """Draws the independent program's shares at the last step, with 95 % intervals."""
    shares = [other.chosen.mean() for other in others.values()]
    errors = [1.96 * error_of(other.chosen) for other in others.values()]
    look: dict[str, Any] = {"color": "black", "markersize": 3, "markerfacecolor": "white"}
    bars = ax.errorbar([STEPS] * len(shares), shares, errors, fmt="s", **look)
    bars.set_label("independent program")
    for part in (bars[0], *bars[2]):
        part.set_clip_on(False)  # the last step is the edge of the panel


def figure(table: pd.DataFrame, others: Independents) -> Figure:
    """The book's figure with the independent program's ends, and every reward 4 lower."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 2.7), layout="constrained")
        axes = made.subplots(1, 2, sharey=True)
        for ax, letter, mean in zip(axes, "ab", reversed(MEANS), strict=True):
            curves(table, ax, mean)
            more = "" if mean else ": all rewards 4 lower"
            plots.panel_letter(ax, letter, f"Arm means from N({mean:g}, 1){more}")
        ends(others, axes[0])
        axes[0].set_ylabel("probability of the best arm")
        axes[1].set_ylabel("")
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return made


def caption(table: pd.DataFrame, others: Independents) -> str:
    """Returns the caption of the figure."""
    checked = max(len(other.chosen) for other in others.values())
    return f"""
Gradient bandit on the 10-armed testbed with and without a baseline (mean of earlier rewards), after
Sutton and Barto (2018), figure 2.5, whose share of optimal actions is here its expectation: the
probability of the best arm. Lines: means over n = {int(table["num_seeds"].max()):,} runs, with 95 %
t intervals (narrower than most lines). Squares: fraction of {checked:,} runs of an independent
program that chose the best arm at step {STEPS:,}, with 95 % intervals. b: the same arms and random
numbers, every reward 4 lower.
"""


def main() -> None:
    """Run what is missing, print the tables, draw the figure."""
    arguments = command.arguments("testbed", __doc__ or "", SEEDS, QUICK)
    seeds, console, clock = arguments.seeds, command.console(), command.Clock()
    options = {"out": arguments.out, "devices": arguments.devices}
    data = simrl.run(SWEEP, seeds, progress=clock.bar("runs"), **options)
    others = independents(min(seeds, CHECKED))
    results = {"choices": choices(data, others), "shifts": shifts(data)}
    titles = {
        "choices": "the best arm at step 1,000, arm values around 4: share that chose it in "
        f"{min(seeds, CHECKED):,} runs of an independent program, and its probability",
        "shifts": "the same runs with every reward 4 higher: change of the probability at step "
        "1,000, and the largest difference at any look",
    }
    for name, table in results.items():
        tables.show(table, titles[name], console, keys=2)
        simrl.export(table, arguments.out / f"{name}.csv")
    table = simrl.curve_table(data, "pass_rate")
    table = table.assign(choice=table["step"] + 1)
    simrl.export(table, arguments.out / "table.csv")
    captions.save(figure(table, others), arguments.out, caption(table, others))
    command.farewell(console, clock, arguments.out)


if __name__ == "__main__":
    command.guarded(main)
