"""Coverage of the intervals by phase, over how many seeds visit a phase.

A few seeds that stay in a phase for long, or few rare gains, weigh most in its ratios: of few seeds
the interval is too short. Learners that look for one arm out of 100 are measured with many seeds,
whose ratio is the truth; then samples of n of those seeds are drawn again and again, each with its
interval. From as many seeds on as tables do not mark, each quantity is claimed to be covered.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.special
from matplotlib.axes import Axes

import simrl
from experiments.verdicts import ERRORS, verdict
from simrl import plots
from simrl.cli import tables
from simrl.sweeps.quantities import OF_ONE, RATIOS, enough_seeds
from simrl.sweeps.statistics import pooled_ratios

SEEDS, QUICK = 16384, 2048
SIZES = (8, 32, 100, 200, 400, 1000)
QUANTITIES = {
    "pass_rate": "pass rate",
    "realised_joint": "told bits",
    "absorbed": "learned bits",
    "absorbed_per_flop": "learned bits per FLOP",
    "efficiency": "learned over told",
    "noise_scale": "noise scale",
}
RLOO, PLAIN = "RLOO, 8 answers", "REINFORCE, 1 answer"
SWEEP = simrl.Sweep(
    simrl.Spec(
        simrl.Bandit("one_right", 100),
        simrl.PolicyGradient("rloo", 8, optimizer=simrl.Optimizer("sgd", learning_rate=8.0)),
        max_steps=2**18,
        stop_pass_rate=0.99,
        log_points=1,
        engine="auto",
    ),
    {
        "update": {  # both step by 1 nat where an answer is correct
            RLOO: {},
            PLAIN: {
                "learner.advantage": "none",
                "learner.group_size": 1,
                "learner.optimizer.learning_rate": 1.0,
            },
        }
    },
    name="coverage_phases",
)
PHASES = (5, 8)  # bins of the log-odds: early and in the middle
DRAWN = {"absorbed": plots.CYCLE[0], "noise_scale": plots.CYCLE[1]}
LEAST = 0.93


def table(seeds: int, repetitions: int, out: Path) -> pd.DataFrame:
    """Returns the coverage of each ratio in each phase at each number of seeds."""
    data = simrl.run(SWEEP, seeds, out / "phases")
    rng, rows = np.random.default_rng(8), []
    for learner in (RLOO, PLAIN):
        cell = data.sel(update=learner)
        for phase in PHASES:
            visited = cell["phase_trajectories"].values[:, phase] > 0
            ends = (float(cell[f"phase_{end}"][phase]) for end in ("low", "high"))
            place = "p = {} to {}".format(*(f"{scipy.special.expit(end):.2f}"[1:] for end in ends))
            for quantity, name in QUANTITIES.items():
                parts = (f"phase_{OF_ONE.get(part, part)}" for part in RATIOS[quantity][:2])
                sums = [cell[part].values[visited, phase].astype(float) for part in parts]
                truth = sums[0].sum() / sums[1].sum()
                for size in SIZES:
                    drawn = rng.integers(visited.sum(), size=(size, repetitions))
                    every = np.ones(drawn.shape, bool)
                    _, low, high = pooled_ratios(sums[0][drawn], sums[1][drawn], every)
                    of = {"learner": learner, "phase": place, "quantity": name}
                    covered = (low <= truth) & (truth <= high)
                    rows.append(of | _row(size, covered, enough_seeds(quantity)))
    return pd.DataFrame(rows)


def _row(size: int, covered: np.ndarray, enough: int) -> dict[str, Any]:
    """Coverage with its standard error, claimed from as many seeds on as tables do not mark."""
    share = covered.mean()
    error = np.sqrt(share * (1 - share) / covered.size)
    row = {"seeds": size, "coverage": share, "error": error}
    if size < enough:
        return row | {"predicted": "–", "verdict": "marked"}
    return row | {"predicted": f">= {LEAST}", "verdict": verdict(share + ERRORS * error >= LEAST)}


def by_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each ratio and phase, with the coverage at each number of seeds."""
    keys = ["learner", "phase", "quantity"]
    shown = tables.marked(rows["coverage"], rows["verdict"] == "marked")
    wide = rows.assign(shown=shown).pivot(index=keys, columns="seeds", values="shown")
    said = rows[rows["verdict"] != "marked"].groupby(keys)["verdict"].min()  # FAILS before holds
    order = pd.MultiIndex.from_frame(rows[keys].drop_duplicates())
    return wide.join(said).loc[order].reset_index()


def draw(rows: pd.DataFrame, ax: Axes) -> None:
    """Coverage over the number of seeds, a line for each ratio and phase; hollow: marked."""
    rows = rows[rows["learner"] == RLOO]
    for quantity, colour in DRAWN.items():
        own = rows[rows["quantity"] == QUANTITIES[quantity]]
        for (place, part), marker in zip(own.groupby("phase", sort=False), "os", strict=True):
            label = f"{QUANTITIES[quantity]}, {place}"
            look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none"}
            ax.plot(part["seeds"], part["coverage"], color=colour, linewidth=0.8)
            for marked, some in part.groupby(part["verdict"] == "marked"):
                face = {"markerfacecolor": "white"} if marked else {"label": label}
                ax.errorbar(
                    some["seeds"], some["coverage"], yerr=1.96 * some["error"], **look, **face
                )
    ax.axhline(0.95, color="0.5", lw=0.8)
    ax.set(xscale="log", xlabel="seeds that visit the phase", ylabel="coverage", ylim=(None, 1.0))
    ax.legend(loc="lower right")
