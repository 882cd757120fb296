"""Phase and curve tables written by hand, in the columns of simrl's."""

import numpy as np
import pandas as pd

UNITS = {"pass_rate": "1", "excess_loss": "bit", "noise_scale": "trajectories"}
UNITS |= dict.fromkeys(("nominal", "expected", "realised", "realised_joint"), "bit/sample")
UNITS |= dict.fromkeys(("absorbed", "absorbed_label"), "bit/sample")
UNITS |= dict.fromkeys(("realised_per_trajectory", "absorbed_per_trajectory"), "bit/trajectory")
UNITS |= dict.fromkeys(("absorbed_per_flop", "absorbed_per_flop_counted"), "bit/FLOP")
EDGES = np.linspace(-6.0, 4.0, 6)
HELD = {"pass_rate": [0.005, 0.04, 0.2, 0.6, 0.95], "excess_loss": [1.0, 0.3, 0.1, 0.01, 0.001]}


def phases(world="one token", learner="none", rate=1.0, num_seeds=64, missing=3, **values):
    """A phase table of five phases, of which one was not reached."""
    rows = []
    for quantity, units in UNITS.items():
        for i in range(5):
            mean = values.get(quantity, HELD.get(quantity, [0.1, 0.2, 0.3, 0.4, 0.5]))[i]
            mean, seeds = (np.nan, 0) if i == missing else (mean, num_seeds)
            place = [world, learner, rate, i, EDGES[i], EDGES[i + 1]]
            rows.append([*place, quantity, units, mean, 0.9 * mean, 1.2 * mean, seeds])
    names = ["world", "learner", "rate", "phase", "phase_low", "phase_high", "quantity", "units"]
    return pd.DataFrame(rows, columns=[*names, "mean", "low", "high", "num_seeds"])


def curves(*rates, **columns):
    """A curve table of the pass rate, one curve per learning rate; `columns` are set besides."""
    step = np.array([0, 1, 8, 64])
    parts = [
        pd.DataFrame(
            {
                "learning_rate": rate,
                "step": step,
                "samples": 8.0 * step,
                "flops": 4000.0 * step,
                "quantity": "pass_rate",
                "units": "1",
                "statistic": "mean",
                "mean": rate * np.arange(4),
                "low": rate * np.arange(4) - 0.1,
                "high": rate * np.arange(4) + 0.2,
                "num_seeds": 1024,
            }
        )
        for rate in rates
    ]
    return pd.concat(parts).assign(**columns)
