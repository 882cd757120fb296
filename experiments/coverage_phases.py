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
import xarray as xr
from matplotlib.axes import Axes

import simrl
from experiments.verdicts import ERRORS, verdict
from simrl import plots
from simrl.cli import tables

SEEDS = 16384  # in quick runs too: of fewer, one seed may be a third of all updates in a phase
SIZES = (8, 32, 100, 200, 400, 1000)
QUANTITIES = {  # of phase tables: (name, numerator, denominator), of sums over a phase
    "pass_rate": ("pass rate", "pass_rate", "trajectories"),
    "realised_joint": ("told bits", "realised_update", "samples"),
    "absorbed": ("learned bits", "absorbed", "samples"),
    "absorbed_per_flop": ("learned bits per FLOP", "absorbed", "flops"),
    "efficiency": ("learned over told", "absorbed", "realised_update"),
    "noise_scale": ("noise scale", "trace_covariance", "squared_norm"),
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


def table(repetitions: int, out: Path) -> pd.DataFrame:
    """Returns the coverage of each ratio in each phase at each number of seeds."""
    data = simrl.run(SWEEP, SEEDS, out / "phases")
    rng = np.random.default_rng(8)
    parts = [
        of_phase(data.sel(update=[learner]), phase, repetitions, rng)
        for learner in (RLOO, PLAIN)
        for phase in PHASES
    ]
    return pd.concat(parts, ignore_index=True)


def of_phase(
    data: xr.Dataset, phase: int, repetitions: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Returns the rows of the learner of a Dataset, of one phase."""
    cell = data.isel(update=0)
    visitors = np.flatnonzero(cell["phase_trajectories"].values[:, phase] > 0)
    edges = (float(cell[f"phase_{end}"][phase]) for end in ("low", "high"))
    place = "p = {} to {}".format(*(f"{scipy.special.expit(edge):.2f}"[1:] for edge in edges))
    marks = {size: marked(data.isel(seed=visitors[:size]), phase) for size in SIZES}
    rows = []
    for quantity, (name, *parts) in QUANTITIES.items():
        sums = (cell[f"phase_{part}"].values[visitors, phase] for part in parts)
        top, bottom = (values.astype(float) for values in sums)
        truth = top.sum() / bottom.sum()
        for size in SIZES:
            drawn = rng.integers(visitors.size, size=(repetitions, size))
            ends = [simrl.pooled_ratio(top[own], bottom[own])[1:] for own in drawn]
            covered = np.array([low <= truth <= high for low, high in ends])
            of = {"learner": cell["update"].item(), "phase": place, "quantity": name}
            rows.append(of | _row(size, covered, marks[size][quantity]))
    return pd.DataFrame(rows)


def marked(data: xr.Dataset, phase: int) -> dict[str, bool]:
    """Returns whether tables mark each quantity of a phase as one of few seeds."""
    rows = simrl.phase_table(data)
    return rows[rows["phase"] == phase].set_index("quantity")["few_seeds"].to_dict()


def _row(size: int, covered: np.ndarray, few: bool) -> dict[str, Any]:
    """Coverage with its standard error, which is claimed where tables do not mark it."""
    share = covered.mean()
    error = np.sqrt(share * (1 - share) / covered.size)
    row = {"seeds": size, "coverage": share, "error": error}
    if few:
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
        name = QUANTITIES[quantity][0]
        own = rows[rows["quantity"] == name]
        for (place, part), marker in zip(own.groupby("phase", sort=False), "os", strict=True):
            look: dict[str, Any] = {"color": colour, "marker": marker, "label": f"{name}, {place}"}
            error = 1.96 * part["error"]
            ax.errorbar(part["seeds"], part["coverage"], yerr=error, linewidth=0.8, **look)
            few = part[part["verdict"] == "marked"]
            look |= {"linestyle": "none", "markerfacecolor": "white", "label": None}
            ax.plot(few["seeds"], few["coverage"], zorder=3, **look)
    ax.axhline(0.95, color="0.5", lw=0.8)
    ax.set(xscale="log", xlabel="seeds that visit the phase", ylabel="coverage", ylim=(None, 1.0))
    ax.legend(loc="lower right")
