"""Plateaus: how long the exact gradient of a softmax policy takes depends on where it starts.

Claim (Mei et al. 2020, "On the global convergence rates of softmax policy gradient methods"; Li et
al. 2021): even without any noise, on arms that pay 1, 0.9 and 0.1, a start that favours a worse arm
keeps policy gradient on a plateau, the longer the less likely the best arm is. In the end what is
lost falls as 1 / t from every start: eta t (pi* - pi_t) . r goes to (K - 1) / K for any rewards
with one best arm (THEORY.md, section 4).
"""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import simrl
from experiments import captions, command, plateaus_check
from experiments.verdicts import verdict
from simrl import plots
from simrl.cli import tables

REWARDS = (1.0, 0.9, 0.1)
RATE, STEPS, QUICK = 0.4, 2_000_000, 2000
STARTS = {
    "uniform": (1 / 3, 1 / 3, 1 / 3),
    "(.05, .01, .94)": (0.05, 0.01, 0.94),
    "(.01, .05, .94)": (0.01, 0.05, 0.94),
    "(.001, .05, .949)": (0.001, 0.05, 0.949),
}
TAIL = (len(REWARDS) - 1) / len(REWARDS)


def sweep(steps: int) -> simrl.Sweep:
    """A condition for each start."""
    return simrl.Sweep(
        simrl.Spec(
            simrl.Bandit("given", len(REWARDS), rewards=REWARDS, noise=0.0),
            simrl.ExactGradient(simrl.Optimizer("sgd", {"learning_rate": RATE})),
            max_steps=steps,
            log_points=120,
            observe_every=steps,
            phases=simrl.Phases(num=1),
            thresholds=(0.5,),
            keep_beliefs=True,
        ),
        {
            "start": {
                name: {"policy": {"name": "tabular", "start": "given", "probs": probs}}
                for name, probs in STARTS.items()
            }
        },
        name="plateaus",
    )


SWEEP = sweep(STEPS)


def curves(data: xr.Dataset) -> pd.DataFrame:
    """Probability of the best arm and what is lost, by start and step; beside it by hand."""
    rows = []
    for labels, cell in simrl.each_cell(data):
        steps = cell["step"].values.reshape(-1, cell.sizes["log_point"])[0].astype(int)
        log_law = cell["belief"].isel(seed=0, prompt=0, position=0).values.astype(np.float64)
        by_hand = plateaus_check.followed(STARTS[labels["start"]], REWARDS, RATE, steps)
        # The sum over the other arms keeps the digits that 1 - pi* would lose.
        gaps = REWARDS[0] - np.array(REWARDS)
        rows.append(
            pd.DataFrame(
                {
                    "start": labels["start"],
                    "step": steps,
                    "best": np.exp(log_law[:, 0]),
                    "best_by_hand": by_hand.policies[:, 0],
                    "half_by_hand": by_hand.half,
                    "lost": np.exp(log_law) @ gaps,
                    "lost_by_hand": by_hand.policies @ gaps,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def judged(data: xr.Dataset, table: pd.DataFrame) -> pd.DataFrame:
    """Steps to one half and the tail constant of each start."""
    rows = []
    for labels, cell in simrl.each_cell(data):
        own = table[table["start"] == labels["start"]]
        last = own.iloc[-1]
        half = last["half_by_hand"]
        measured = float(cell["hit_step"].sel(threshold=0.5).values.reshape(-1)[0])
        same = np.isclose(np.nan_to_num(measured, nan=np.inf), half, rtol=1e-5, atol=0)
        scale, at = RATE * last["step"], f"η t loss at t = {int(last['step']):,}"
        rows.append(
            {
                "start": labels["start"],
                "steps to 1/2, by hand": steps(half),
                "measured": steps(measured),
                "verdict": verdict(bool(same)),
                f"{at}, by hand": f"{scale * last['lost_by_hand']:.5f}",
                "measured ": f"{scale * last['lost']:.5f}",
                "limit": f"{TAIL:.5f}",
                "of the limit": f"{scale * last['lost'] / TAIL:.3f}",
                "verdict ": verdict(bool(abs(last["lost"] / last["lost_by_hand"] - 1) < 1e-3)),
            }
        )
    return pd.DataFrame(rows)


def steps(number: float) -> str:
    """Returns a number of steps for the table; inf or NaN was not reached."""
    return f"{number:,.0f}" if np.isfinite(number) else "not reached"


def best(table: pd.DataFrame, ax: Axes) -> None:
    """The probability of the best arm, one curve a start."""
    for colour, (name, rows) in zip(plots.CYCLE, table.groupby("start", sort=False), strict=False):
        rows = rows[rows["step"] > 0]
        ax.plot(rows["step"], rows["best"], color=colour, label=name, linewidth=1.2)
        ax.plot(rows["step"], rows["best_by_hand"], color="black", linestyle=":", linewidth=0.8)
    ax.axhline(0.5, color="grey", linewidth=0.5)
    ax.set_xscale("log")
    ax.set(ylim=(0, 1), xlabel="step t", ylabel="probability of the best arm")
    ax.legend(title="start π₀", loc="center", bbox_to_anchor=(0.78, 0.27), handlelength=1)


def tail(table: pd.DataFrame, ax: Axes) -> None:
    """What is lost times eta t, which goes to (K - 1) / K."""
    for colour, (_, rows) in zip(plots.CYCLE, table.groupby("start", sort=False), strict=False):
        rows = rows[rows["step"] > 0]
        ax.plot(rows["step"], RATE * rows["step"] * rows["lost"], color=colour)
        by_hand = RATE * rows["step"] * rows["lost_by_hand"]
        ax.plot(rows["step"], by_hand, color="black", linestyle=":", linewidth=0.8)
    ax.axhline(TAIL, color="grey", linewidth=0.5)
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    ax.annotate("(K − 1) / K", (1, TAIL), (-2, -9), fontsize=7, ha="right", va="top", **place)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="step t", ylabel="η t (π* − π) · r")


def figure(table: pd.DataFrame) -> Figure:
    """The plateaus, and the tails."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 2.6), layout="constrained")
        for ax, letter, draw in zip(made.subplots(1, 2), "ab", (best, tail), strict=True):
            draw(table, ax)
            what = "Probability of the best arm" if draw is best else "Suboptimality times η t"
            plots.panel_letter(ax, letter, what)
    return made


CAPTION = f"""
a, probability of the best arm under the exact policy gradient from four starts (one run each); a
start that favours a worse arm stays on a plateau. b, expected loss against the best arm times
learning rate and step, which goes to (K - 1) / K from every start that has left its plateau.
Rewards 1, 0.9 and 0.1, learning rate {RATE}; dotted: an independent recursion in float64.
"""


def main() -> None:
    """Run what is missing, print the table, draw the figure."""
    arguments = command.arguments("plateaus", __doc__ or "", 1, 1)
    console, clock = command.console(), command.Clock()
    chosen = sweep(QUICK) if arguments.quick else SWEEP
    options = {"out": arguments.out, "devices": arguments.devices}
    data = simrl.run(chosen, arguments.seeds, progress=clock.bar("runs"), **options)
    table = curves(data)
    simrl.export(table, arguments.out / "table.csv")
    found = judged(data, table)
    simrl.export(found, arguments.out / "verdicts.csv")
    tables.show(found, "steps to a probability of 1/2 of the best arm, and the tail", console)
    captions.save(figure(table), arguments.out, CAPTION)
    command.farewell(console, clock, arguments.out)


if __name__ == "__main__":
    command.guarded(main)
