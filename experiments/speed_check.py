"""Do the peers learn as simrl does? Means of pass rate and reward, in standard errors."""

from typing import Any

import numpy as np
import pandas as pd

from experiments.peers import problems, with_simrl
from experiments.speed_workloads import SIMRL, peer

MOST = 4.0  # standard errors
TEN_ARMED = problems.TenArmed(runs=2000, steps=20)
GUESSING = problems.Guessing(seeds=256, steps=10)
TOKENS = (
    problems.OneToken(seeds=1024, steps=160),
    problems.OneToken(group=8, rate=3.0, seeds=1024, steps=20),
)
DENSE = ("plain JAX", "plain JAX + inverse CDF", "NumPy")


def curve_rows(solve: str, problem: Any, sides: list[str], seed: int = 0) -> list[dict[str, Any]]:
    """Pass rate and reward at the last look, condition by condition, against simrl's."""
    ours = getattr(with_simrl, solve)(problem, seed, beliefs=True)
    found = []
    for number, side in enumerate(sides):
        theirs = getattr(peer(side), solve)(problem, seed + 1 + number)
        for quantity in ("pass_rate", "reward"):
            pairs = zip(getattr(ours, quantity), getattr(theirs, quantity), strict=True)
            for condition, (mine, other) in enumerate(pairs):
                what = f"{solve} {condition}: {quantity}"
                found.append(_row(side, what, mine[:, -1], other[:, -1]))
    return found


def token_rows(problem: problems.OneToken, sides: list[str], seed: int = 0) -> list[dict[str, Any]]:
    """Guesses to pass rate 1/2, against the closed form (REINFORCE) or simrl's (GRPO)."""
    if problem.group == 1:
        predicted = np.array([problem.expected_guesses()])
    else:
        predicted = np.asarray(with_simrl.one_token(problem, seed).guesses)
    measured = {side: peer(side).one_token(problem, seed + 1).guesses for side in sides}
    what = f"one token, {problem.group} guesses: to 1/2"
    return [_row(side, what, predicted, guesses) for side, guesses in measured.items()]


def _row(side: str, what: str, predicted: np.ndarray, measured: np.ndarray) -> dict[str, Any]:
    error = np.hypot(_standard_error(predicted), _standard_error(measured))
    off = float((measured.mean() - predicted.mean()) / error)
    row = {"side": side, "quantity": what, "predicted": float(predicted.mean())}
    row |= {"measured": float(measured.mean()), "standard error": float(error), "off by": off}
    return {**row, "verdict": "holds" if abs(off) <= MOST else "FAILS"}


def _standard_error(values: np.ndarray) -> float:
    return 0.0 if len(values) == 1 else float(values.std(ddof=1) / np.sqrt(len(values)))


def table(torch: bool) -> pd.DataFrame:
    """One row per side and quantity; "predicted" is simrl's mean, or a closed form."""
    dense = [*DENSE, *(["PyTorch"] if torch else [])]
    found = curve_rows("ten_armed", TEN_ARMED, dense) + curve_rows("guessing", GUESSING, dense)
    for problem in TOKENS:
        ours = [SIMRL] if problem.group == 1 else []  # it is what the others are held to in GRPO
        found += token_rows(problem, [*ours, *dense, "cached pass rate"])
    return pd.DataFrame(found)
