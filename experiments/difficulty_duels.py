"""What a duel tells: won every second time by construction, so an entropy of 1 bit, but about what?

The better of two guesses wins, by its right answer or its right beginning, and ties are coins. What
the verdict tells about the answer, given both guesses, is held against a list of all answers and
pairs at the uniform policy, and against 1 bit where the pass rate is one half.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Console

import simrl
from experiments.verdicts import ERRORS, error_of, settled, told, verdict
from simrl.cli import tables

SIZE, LENGTH, GUESSES = 4, 2, 32
RATE = {"name": "sgd", "learning_rate": 4.0}
REWARDS = {"exact": "the right answer", "prefix": "the right beginning"}
SWEEP = simrl.Sweep(
    simrl.Spec(
        simrl.Sequence(SIZE, LENGTH),
        {"name": "self_play", "group_size": GUESSES, "optimizer": RATE},
        max_steps=256,
        measures=("duel",),
    ),
    {"environment.reward": list(REWARDS)},
    name="duels",
)
SUMS = ("duel_realised", "realised_update", "absorbed")
TOGETHER = "bits of a guess there, all duels of an update together"
KEPT = "share of these that is absorbed"
UNIFORM, HALF = "bits of a duel, uniform policy", "bits of a duel, p from .5 to .73"


def listed(reward: str) -> float:
    """Bits of a duel at the uniform policy, by listing all answers and pairs of guesses."""
    answers = np.array(list(product(range(SIZE), repeat=LENGTH)))
    same = answers[:, None] == answers[None]  # [truth, guess, position]
    credit = same.all(axis=2) if reward == "exact" else np.cumprod(same, axis=2).sum(axis=2)
    first, second = credit[:, :, None].astype(int), credit[:, None, :].astype(int)
    win = (1 + np.sign(first - second)) / 2  # [truth, guess, other guess]
    return float(np.mean(entropy(win.mean(axis=0)) - entropy(win).mean(axis=0)))


def entropy(p: np.ndarray) -> np.ndarray:
    """Of a coin, bits."""
    one, other = (np.where(side > 0, side, 1.0) for side in (p, 1 - p))
    return -p * np.log2(one) - (1 - p) * np.log2(other)


def pooled(top: np.ndarray, bottom: np.ndarray) -> tuple[float, float]:
    """A ratio of sums over seeds and its standard error."""
    ratio = float(top.sum() / bottom.sum())
    return ratio, error_of(top - ratio * bottom) / float(bottom.mean())


def compare(data: xr.Dataset) -> pd.DataFrame:
    """A row for each reward and claim: what is predicted, what measured, whether it holds."""
    rows: list[dict[str, Any]] = []
    for reward, decided in REWARDS.items():
        cell = data.sel(reward=reward)
        wins, duels = (cell[f"phase_{name}"].sum("phase").values for name in ("duel_wins", "duels"))
        won, error = pooled(wins, duels)

        def row(claim: str, *rest: str, decided: str = decided) -> None:
            names = ("predicted", "measured", "verdict")
            rows.append({"decided by": decided, "of": claim, **dict(zip(names, rest, strict=True))})

        even = abs(won - 0.5) <= ERRORS * error
        row("share won by the first guess", ".5", told(won, error), verdict(even))
        start = cell["duel_expected"].values[:, 0]
        law = listed(reward)
        holds = bool(np.all(np.abs(start - law) <= 1e-5 * law))
        row(UNIFORM, f"{law:.4f}", f"{start.mean():.4f} (exact)", verdict(holds))
        half = int(np.sum(cell["phase_high"].values <= 0))  # the phase from log-odds 0 to 1
        sums = {name: cell[f"phase_{name}"].values[:, half] for name in (*SUMS, "trajectories")}
        bits, error = pooled(sums["duel_realised"], sums["trajectories"])
        row(HALF, "< 1", told(bits, error), settled(1 - bits, error))
        row(TOGETHER, "", told(*pooled(sums["realised_update"], sums["trajectories"])), "")
        row(KEPT, "", told(*pooled(sums["absorbed"], sums["realised_update"])), "")
    return pd.DataFrame(rows)


def show(console: Console, seeds: int, out: Path, devices: int | None) -> None:
    """Run the duels, print and keep what they told."""
    data = simrl.run(SWEEP, seeds, out=out / "duels", devices=devices)
    rows = compare(data)
    title = f"Duels in {SIZE}^{LENGTH} answers: {seeds:,} seeds, means ± standard errors"
    tables.show(rows, title, console, keys=2)
    simrl.export(rows, out / "duels.csv")
