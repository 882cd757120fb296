"""Gradient moments by phase where they have no closed form: sums over the log points in a phase."""

from typing import Any

import numpy as np

from simrl.measures import phases

MOMENTS = ("trace_covariance", "squared_norm")


def phase_sums(block: dict[str, np.ndarray], bins: Any) -> dict[str, np.ndarray]:
    """Returns `phase.<moment>` [seeds, phases] of a block that has them at log points alone.

    Each is the sum of the estimates at the log points whose pass rate (the mean over prompts) lies
    in the phase, each log point once, a seed that has stopped no more; NaN where there is none. The
    ratio of such sums over seeds is a ratio of means over the states that were visited there.
    `bins` has the fields of `simrl.Phases`.
    """
    estimated = [
        name for name in MOMENTS if f"look.{name}" in block and f"phase.{name}" not in block
    ]
    if not estimated or bins.coordinate != "log_odds":
        return {}
    edges = phases.edges(bins.low, bins.high, bins.num)
    odds = block["look.log_odds"]
    phase = np.where(np.isnan(odds), -1, np.searchsorted(edges[1:-1], odds, side="right"))
    fresh = np.diff(block["look.step"], axis=1, prepend=-1) > 0
    inside = fresh[..., None] & (phase[..., None] == np.arange(len(edges) - 1))
    sums = {}
    for name in estimated:
        total = np.sum(np.where(inside, block[f"look.{name}"][..., None], 0.0), axis=1)
        sums[f"phase.{name}"] = np.where(inside.any(axis=1), total, np.nan)
    return sums
