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
UPDATES, LOOKS = STEPS - 1, 37  # the 1,000th choice comes after 999 updates; 999 = 27 x 37
RATES = (0.1, 0.4)
BASELINES = {"running_mean": "with baseline", "none": "without baseline"}
MEANS = (0.0, 4.0)

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


def choices(data: xr.Dataset, checked: int) -> pd.DataFrame:
    """The best arm at step 1,000, arm values around 4: each curve's end, and their order."""
    rows: list[dict[str, Any]] = []
    ends = []
    for baseline, name in BASELINES.items():
        for rate in RATES:
            other = testbed_check.pulled(
                checked, STEPS, MEANS[1], rate, baseline != "none", len(rows)
            )
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
    """The four curves of one mean of the arms, labelled at their ends."""
    ends = {}
    for baseline, name in BASELINES.items():
        for rate in RATES:
            rows = table[(table["arms"] == mean) & (table["advantage"] == baseline)]
            rows = rows[rows["learning_rate"] == rate]
            colour = plots.COLOURS["none"] if baseline == "none" else plots.CYCLE[0]
            style: dict[str, Any] = {
                "color": colour,
                "linestyle": "-" if rate < 0.2 else (0, (4, 1.5)),
                "marker": "",
            }
            plots.line(rows, ax, "choice", legend=False, **style)
            ends[f"α = {rate:g}, {name}"] = float(rows["mean"].iloc[-1]), colour
    place_labels(ax, ends)
    ax.set(xlim=(0, STEPS), ylim=(0, 1), xlabel="step")
    ax.set_xticks([1, 250, 500, 750, 1000])


def place_labels(ax: Axes, ends: dict[str, tuple[float, str]], apart: float = 0.055) -> None:
    """Names right of the curves' ends, pushed apart where these meet."""
    lowest = np.inf
    for label, (end, colour) in sorted(ends.items(), key=lambda item: -item[1][0]):
        lowest = min(end, lowest - apart)
        about: dict[str, Any] = {"fontsize": 7, "va": "center", "color": colour}
        ax.text(STEPS * 1.02, lowest, label, clip_on=False, **about)


def figure(table: pd.DataFrame) -> Figure:
    """The book's figure, and the same arms with 4 taken off every reward."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 2.5), layout="constrained")
        axes = made.subplots(1, 2, sharey=True)
        for ax, letter, mean in zip(axes, "ab", reversed(MEANS), strict=True):
            curves(table, ax, mean)
            more = "" if mean else ": all rewards 4 lower"
            plots.panel_letter(ax, letter, f"Arm means from N({mean:g}, 1){more}")
        axes[0].set_ylabel("probability of the best arm")
        axes[1].set_ylabel("")
        runs = int(table["num_seeds"].max())
        captions.note(made, f"Mean over n = {runs:,} runs; bands: 95 % t interval over runs.")
    return made


CAPTION = """
Gradient bandit on the 10-armed testbed with and without a baseline (mean of earlier rewards), after
Sutton and Barto (2018), figure 2.5, whose share of optimal actions is here its expectation: the
probability of the best arm. b: the same arms and random numbers, every reward 4 lower.
"""


def main() -> None:
    """Run what is missing, print the tables, draw the figure."""
    arguments = command.arguments("testbed", __doc__ or "", SEEDS, QUICK)
    seeds, console, clock = arguments.seeds, command.console(), command.Clock()
    options = {"out": arguments.out, "devices": arguments.devices}
    data = simrl.run(SWEEP, seeds, progress=clock.bar("runs"), **options)
    results = {"choices": choices(data, min(seeds, CHECKED)), "shifts": shifts(data)}
    titles = {
        "choices": "the best arm at step 1,000, arm values around 4: share that chose it in "
        f"{min(seeds, CHECKED):,} runs of an independent program, and its probability",
        "shifts": "the same runs with every reward 4 higher: change of the probability at step "
        "1,000, and the largest difference at any look",
    }
    for name, table in results.items():
        tables.show(table, titles[name], console, keys=2)
        table.to_csv(arguments.out / f"{name}.csv", index=False)
    table = simrl.curve_table(data, "pass_rate")
    table = table.assign(choice=table["step"] + 1)
    table.to_csv(arguments.out / "table.csv", index=False)
    captions.save(figure(table), arguments.out, CAPTION)
    command.farewell(console, clock, arguments.out)


if __name__ == "__main__":
    command.guarded(main)
