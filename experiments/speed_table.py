"""The table of `experiments.speed`: medians, ratios, what was asked of them, roofline shares."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from experiments import speed_roofline as roofline
from experiments import speed_workloads as workloads

SPREAD = ("low", "median", "high")
SECONDS = {"ns/pull": 1e-9, "ns/token": 1e-9, "s/seed": 1.0}  # of a unit
NAN = float("nan")


class Asked(NamedTuple):
    """How many times faster than a side simrl is to be."""

    least: float
    goal: float  # more than is asked; NaN: none beyond the least


PLAIN, INVERSE = "plain JAX", "plain JAX + inverse CDF"
ASKED = {
    ("W1", PLAIN): Asked(6, 10),
    ("W1", INVERSE): Asked(1.5, NAN),
    ("W1", "NumPy"): Asked(4, NAN),
    ("W2", PLAIN): Asked(50, 120),
    ("W2", INVERSE): Asked(2, 4),
    # Dense sampling of every guess is plain JAX.
    ("W3 REINFORCE V=100", PLAIN): Asked(50, 100),
    ("W3 REINFORCE V=10000", PLAIN): Asked(5e3, 1e4),
    ("W3 REINFORCE V=100000", PLAIN): Asked(5e4, 1e5),
    ("W3 GRPO V=100", PLAIN): Asked(20, NAN),
    ("W3 GRPO V=10000", PLAIN): Asked(1e3, NAN),
    ("W3 GRPO V=100000", PLAIN): Asked(1e4, NAN),
}
TIMES = {  # of table.csv, as printed
    "workload": "workload",
    "side": "side",
    "on": "on",
    "median": "median",
    "low": "low",
    "high": "high",
    "over simrl": "/ simrl",
    "least": "at least",
    "goal": "goal",
    "verdict": "verdict",
    "how": "how",
    "load": "load",
}
USES = {
    "workload": "workload",
    "side": "side",
    "on": "on",
    "arithmetic": "arithmetic",
    "memory": "memory",
    "limit": "limit",
    "cores": "cores",
    "compile_s": "compile s",
    "peak_mb": "peak MB",
    "device_mb": "device MB",
}


def verdict(ratio: float, asked: Asked | None) -> str:
    """The ratio beside what was asked; nothing where nothing was."""
    if asked is None:
        return ""
    if ratio < asked.least:
        return "below"
    return "goal" if ratio >= asked.goal else "met"


def summary(measured: pd.DataFrame, backend: str) -> pd.DataFrame:
    """Median and range over rounds, the largest memory, ratios and verdicts."""
    rows = []
    for (name, side), part in measured.groupby(["workload", "side"], sort=False):
        workload = workloads.WORKLOADS[str(name)]
        spread = dict(zip(SPREAD, part["value"].quantile([0, 0.5, 1]), strict=True))
        row: dict[str, Any] = {"workload": name, "side": side, "on": backend_of(side, backend)}
        row |= {"unit": workload.unit, **spread}
        extrapolated = bool(part["extrapolated"].any())
        looks = int(part["looks"].iloc[0])
        cut = f"{looks} of {workload.problem.looks} looks"
        row["how"] = "extrapolated" if extrapolated else cut * (looks < workload.problem.looks)
        keys = ("seconds", "cores", "compile_s", "first_s", "late_s")
        row |= {key: float(part[key].median()) for key in keys}
        row |= {key: float(part[key].max()) for key in ("peak_mb", "above_mb", "device_mb", "load")}
        row |= {"last_pass_rate": float(part["last_pass_rate"].mean()), "rounds": len(part)}
        rows.append({**row, "extrapolated": extrapolated})
    return with_verdicts(pd.DataFrame(rows))


def backend_of(side: Any, backend: str) -> str:
    """Where a side is run: some know no GPU."""
    return "cpu" if side in workloads.ON_CPU else backend


def shown(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The columns to print, those left out that say nothing."""
    some = table[[key for key in names if key in table]]
    empty = (some.isna() | (some == "")).all()
    return some.loc[:, ~empty].rename(columns=dict(names))


def with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each side's time over simrl's, and what was asked of it."""
    ours = table[table["side"] == workloads.SIMRL].set_index("workload")["median"]
    ratio = table["median"] / table["workload"].map(ours)
    asked = [ASKED.get(pair) for pair in zip(table["workload"], table["side"], strict=True)]
    return table.assign(
        **{"over simrl": ratio},
        least=[one.least if one else NAN for one in asked],
        goal=[one.goal if one else NAN for one in asked],
        verdict=[verdict(*pair) for pair in zip(ratio, asked, strict=True)],
    )


def with_shares(table: pd.DataFrame, rates: Mapping[str, Any], backend: str) -> pd.DataFrame:
    """The table with the floors, in its own units, and each side's share of them.

    The rates are those of the backend: a side that ran elsewhere has no share, nor has W3.
    """
    found = []
    for _, row in table.iterrows():
        problem = workloads.WORKLOADS[row["workload"]].problem
        work = roofline.work_of(row["workload"], problem)
        floor = roofline.floor(work, rates) if work else roofline.Floor(NAN, NAN)
        floor = floor if row["on"] == backend else roofline.Floor(NAN, NAN)
        found.append([seconds / SECONDS[row["unit"]] for seconds in floor])
    floors = pd.DataFrame(found, table.index, ["arithmetic floor", "memory floor"])
    shares = floors.div(table["median"], axis=0).set_axis(["arithmetic", "memory"], axis=1)
    return pd.concat([table, floors, shares], axis=1)
