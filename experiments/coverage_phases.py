"""Coverage of the intervals by phase, over how many seeds visit a phase.

A few seeds that stay in a phase for long, or few rare gains, weigh most in its ratios: of few seeds
the interval is too short. Learned bits and noise scale of RLOO that looks for one arm out of 100
are measured with many seeds, whose ratio is the truth; then samples of n of those seeds are drawn
again and again, each with its interval.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

import simrl
from experiments.verdicts import ERRORS, verdict
from simrl import plots

SEEDS, QUICK = 16384, 2048
SIZES = (8, 32, 100, 200, 400, 1000)
ENOUGH = 200  # seeds from which a phase table does not mark its rows
RATIOS = {
    "learned bits": ("phase_absorbed", "phase_samples"),
    "noise scale": ("phase_trace_covariance", "phase_squared_norm"),
}
SPEC = simrl.Spec(
    simrl.Bandit("one_right", 100),
    simrl.PolicyGradient("rloo", 8, optimizer=simrl.Optimizer("sgd", learning_rate=8.0)),
    max_steps=2**16,
    stop_pass_rate=0.99,
    log_points=1,
    engine="auto",
)
PHASES = {5: "p = .12 to .27", 8: "p = .73 to .88"}  # bins of the log-odds from -2 and from 1
LEAST = 0.93


def table(seeds: int, repetitions: int, out: Path) -> pd.DataFrame:
    """Returns the coverage of each ratio in each phase at each number of seeds."""
    data = simrl.run(SPEC, seeds, out / "phases").isel(cell=0)
    rng, rows = np.random.default_rng(8), []
    for phase, place in PHASES.items():
        visited = data["phase_trajectories"].values[:, phase] > 0
        for name, pair in RATIOS.items():
            sums = [data[part].values[visited, phase].astype(float) for part in pair]
            truth = sums[0].sum() / sums[1].sum()
            for size in SIZES:
                drawn = rng.integers(visited.sum(), size=(repetitions, size))
                own = [simrl.pooled_ratio(sums[0][row], sums[1][row]) for row in drawn]
                covered = np.array([low <= truth <= high for _, low, high in own])
                rows.append(_row(name, place, size, covered))
    return pd.DataFrame(rows)


def _row(name: str, place: str, size: int, covered: np.ndarray) -> dict[str, Any]:
    """Coverage with its standard error; learned bits are claimed to be covered from ENOUGH on."""
    share = covered.mean()
    error = np.sqrt(share * (1 - share) / covered.size)
    claimed = size >= ENOUGH and name == "learned bits"
    row = {"quantity": name, "phase": place, "seeds": size, "coverage": share, "error": error}
    fails = share + ERRORS * error < LEAST
    said = verdict(not fails) if claimed else "marked" if size < ENOUGH else "reported"
    return row | {"predicted": f">= {LEAST}" if claimed else "–", "verdict": said}


def draw(rows: pd.DataFrame, ax: Axes) -> None:
    """Coverage over the number of seeds, a line for each ratio and phase."""
    for i, ((name, place), part) in enumerate(rows.groupby(["quantity", "phase"], sort=False)):
        look: dict[str, Any] = {"color": plots.CYCLE[i % 2], "marker": "os"[i // 2]}
        look |= {"linestyle": ("-", (0, (4, 2)))[i // 2], "label": f"{name}, {place}"}
        ax.errorbar(part["seeds"], part["coverage"], yerr=1.96 * part["error"], **look)
    ax.axhline(0.95, color="0.5", lw=0.8)
    ax.axvspan(ax.get_xlim()[0], ENOUGH, color="0.5", alpha=0.12, lw=0)
    ax.set(xscale="log", xlabel="seeds that visit the phase", ylabel="coverage", ylim=(None, 1.0))
    ax.legend(loc="lower right")
