"""Remedies for sparse rewards, each compared with plain learning from outcomes on the same task.

A remedy is a name and what it changes. All are run over the same learning rates; each is judged at
its best one by samples and by FLOPs to a pass rate of .9, against the plain learner of its task and
with the same seeds, none of which has had a part in choosing the rate. `experiments.proxies` and
`experiments.difficulty` are lists of them.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

import simrl
from experiments import captions, command
from simrl import plots
from simrl.cli import tables

PLAIN = "RLOO"  # what the others are compared with
PASS_RATE = 0.9
ONLY = "default"  # the setting of a remedy that has no other
# FLOPs by the 2N/4N convention, and by the same right for all: whether groups whose advantages are
# all zero are trained on or only decoded is no merit of a method.
COSTS = {
    "samples": "samples",
    "flops_full": "FLOPs, all trained on",
    "flops_live": "FLOPs, zero-advantage skipped",
}
TICKS = (0.01, 0.1, 1, 10, 100)  # of a ratio
# By the interval of the ratio; where more seeds fail than without it, it is a lower bound.
SHORT = {
    "samples": "samples",
    "flops_full": "FLOPs, all trained on",
    "flops_live": "FLOPs, skipping",
}
HELPS, DEARER, SAME, MISSING = "cheaper", "costlier", "no difference", "more seeds fail"
UNKNOWN = "not known"
MARKERS = {HELPS: "o", DEARER: "s", SAME: "D", MISSING: "X"}
EXACT, PREFIX = "exact-match reward", "prefix reward"  # tasks of more than one list
LEAVE_ONE_OUT = {"name": "policy_gradient", "advantage": "leave_one_out"}  # the plain learner
SEEDS, RATE_SEEDS = 1024, 128
QUICK_SEEDS, QUICK_RATE_SEEDS = 32, 16
# Per guess, as in the efficiency map: in a world without luck in its rewards no rate is too high,
# since one success tells all; at 1 the right symbols gain at most 1 nat of it.
RATES = tuple(round(2.0 ** (-k / 2), 4) for k in range(7, -1, -1))
BASE = simrl.Spec(
    environment=simrl.Sequence(vocab_size=6, length=4),
    max_steps=4096,
    stop_pass_rate=PASS_RATE,
    thresholds=(PASS_RATE,),
    log_points=1,
    observe_every=64,
)


class Remedy(NamedTuple):
    """What is done on a task instead of the plain thing."""

    task: str
    name: str
    changes: dict[str, Any]  # of the spec, by dotted path
    batch: int = 32  # guesses of one update, by which a learning rate per guess is multiplied
    # What else the best is chosen of, with the learning rate: a name and what it changes.
    settings: tuple[tuple[str, dict[str, Any]], ...] = ((ONLY, {}),)


def sweep(name: str, remedies: list[Remedy]) -> simrl.Sweep:
    """Every remedy at every learning rate per guess and in every setting."""
    cells: list[Any] = []
    for task, remedy, changes, batch, settings in remedies:
        for (setting, more), rate in itertools.product(settings, RATES):
            labels = {"task": task, "remedy": remedy, "rate": rate, "setting": setting}
            made = {**changes, "learner.optimizer.learning_rate": rate * batch, **more}
            cells.append((labels, made))
    return simrl.Sweep(BASE, cells, name=name, mode="list")


def best(data: xr.Dataset) -> list[int]:
    """Positions of each remedy's best rate and setting: fewest seeds missing, then samples."""
    hits = simrl.hitting_table(data).reset_index(drop=True)
    hits = hits.assign(missing=hits["num_seeds"] - hits["num_reached"])
    order = hits.sort_values(["missing", "samples_mean"])
    chosen = order.groupby(["task", "remedy"], sort=False).head(1)
    return sorted(int(i) for i in chosen.index)


def compare(data: xr.Dataset) -> pd.DataFrame:
    """One row for each remedy: costs to the pass rate, their ratios to the plain ones, verdicts.

    Of seeds that do not arrive what they spent is counted: means and ratios are lower bounds then.
    """
    cells = {(labels["task"], labels["remedy"]): (labels, c) for labels, c in simrl.each_cell(data)}
    rows = []
    for (task, remedy), (labels, cell) in cells.items():
        plain = cells[task, PLAIN][1]
        reached, both = arrived(cell), arrived(plain)
        row: dict[str, Any] = {"task": task, "remedy": remedy, "rate": labels["rate"]}
        row["setting"] = labels.get("setting", ONLY)
        row |= {"seeds": len(reached), "missing": int((~reached).sum())}
        for cost in COSTS:
            own, base = spent(cell, cost), spent(plain, cost)
            ends = ("", "_low", "_high")
            mean = simrl.interval(own)
            row |= {f"{cost}{end}": x for end, x in zip(ends, mean, strict=True)}
            ratio = simrl.pooled_ratio(own[both], base[both])
            row |= {f"{cost}_ratio{end}": x for end, x in zip(ends, ratio, strict=True)}
            told = verdict(*ratio[1:], int((~reached).sum()), int((~arrived(plain)).sum()))
            row[f"{cost}_verdict"] = "" if remedy == PLAIN else told
        rows.append(row)
    return pd.DataFrame(rows)


def arrived(cell: xr.Dataset) -> np.ndarray:
    """Which seeds [N] reached the pass rate."""
    return np.isfinite(cell["hit_step"].values[:, 0])


def spent(cell: xr.Dataset, cost: str) -> np.ndarray:
    """Samples or FLOPs [N] until then, of seeds that do not arrive until the end of the run.

    A sample is a whole answer, whatever the learner: one that learns from every token has as many
    samples in the Dataset. NaN where a learner does not tell what skipping would save.
    """
    name = "trajectories" if cost == "samples" else cost
    if name == "flops_full" and np.isnan(cell["total_flops_full"].values).all():
        name = "flops"  # charged in full, and what part is of groups without signal is not told
    there, end = (cell[f"{place}_{name}"].values.astype(np.float64) for place in ("hit", "total"))
    return np.where(arrived(cell), there[:, 0], end)


def verdict(low: float, high: float, missing: int, missing_plain: int) -> str:
    """What an interval of the ratio to the plain cost says."""
    if np.isnan(low):
        return UNKNOWN
    if missing > missing_plain:
        return MISSING
    if high < 1:
        return HELPS
    return DEARER if low > 1 else SAME


def show(rows: pd.DataFrame, console: Console) -> None:
    """Print the comparison, a table for each task."""
    for task, part in rows.groupby("task", sort=False):
        chosen = ["rate", "setting"] if part["setting"].ne(ONLY).any() else ["rate"]
        shown = part[["remedy", *chosen, "missing"]].copy()
        shown["predicted"] = np.where(part["remedy"] == PLAIN, "1", "< 1")
        sign = np.where(part["missing"] > 0, "≥ ", "")
        for cost, name in COSTS.items():
            half = (part[f"{cost}_ratio_high"] - part[f"{cost}_ratio_low"]) / 2
            ratios = zip(sign, part[f"{cost}_ratio"], half, strict=True)
            told = [f"{bound}{x:.3f} ± {h:.3f}" if x == x else "–" for bound, x, h in ratios]
            shown[f"{name} / plain"] = np.where(part["remedy"] == PLAIN, "1", told)
            shown[f"in {name}"] = part[f"{cost}_verdict"]
        plain = part[part["remedy"] == PLAIN].iloc[0]
        title = (
            f"{task}: costs to a pass rate of {PASS_RATE} over those of {PLAIN} "
            f"({plain['samples']:,.0f} samples), each at its best rate, "
            f"{int(part['seeds'].min()):,} seeds, 95 % intervals; ≥: some seeds do not arrive"
        )
        tables.show(shown.rename(columns={"rate": "rate per sample"}), title, console)


def draw(rows: pd.DataFrame, cost: str, ax: Axes) -> Axes:
    """Ratios to the plain cost of one task's remedies, from top to bottom; lower bounds hollow."""
    rows = rows[rows["remedy"] != PLAIN]
    place = np.arange(len(rows))[::-1]
    value = rows[f"{cost}_ratio"].to_numpy()
    spread = np.abs(rows[[f"{cost}_ratio_low", f"{cost}_ratio_high"]].to_numpy().T - value)
    ax.axvline(1, color="0.5", lw=0.8)
    for (verdict, marker), colour in zip(MARKERS.items(), plots.CYCLE, strict=False):
        for bound in (False, True):
            mine = rows[f"{cost}_verdict"].eq(verdict) & rows["missing"].gt(0).eq(bound)
            chosen = mine.to_numpy() & ~np.isnan(value)
            if not chosen.any():
                continue
            look: dict[str, Any] = {"fmt": marker, "ms": 4, "lw": 0.9, "color": colour}
            look |= {"mfc": "white"} if bound else {}
            name = f"{verdict} (lower bound)" if bound else verdict
            ax.errorbar(value[chosen], place[chosen], xerr=spread[:, chosen], label=name, **look)
            for x, y in zip(value[chosen], place[chosen], strict=True) if bound else ():
                arrow = {"arrowstyle": "->", "color": colour, "lw": 0.9}
                ax.annotate("", (x * 2.8, y), (x * 1.2, y), arrowprops=arrow)
    for empty in place[np.isnan(value)]:
        where: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": 7}
        ax.text(0.98, empty, "not known", ha="right", va="center", **where)
    ax.set_xscale("log")
    ax.set_yticks(place, rows["remedy"])
    ax.set_ylim(-0.7, len(rows) - 0.3)
    return ax


def figure(rows: pd.DataFrame) -> Figure:
    """One row of panels for each task, all on one axis: samples and FLOPs relative to PLAIN's."""
    tasks = list(dict.fromkeys(rows["task"]))
    parts = [rows[rows["task"] == task] for task in tasks]
    heights = [max(len(part), 3) for part in parts]
    with plots.paper():
        size = (plots.TWO_COLUMNS, 0.9 + 0.18 * sum(heights) + 0.4 * len(tasks))
        made = Figure(figsize=size, layout="constrained")
        axes = made.subplots(len(tasks), 3, squeeze=False, sharex="all", height_ratios=heights)
        letters = iter("abcdefghijklmnop")
        for task, part, line in zip(tasks, parts, axes, strict=True):
            for cost, ax in zip(COSTS, line, strict=True):
                draw(part, cost, ax)
                plots.panel_letter(ax, next(letters), SHORT[cost])
                ax.tick_params(labelbottom=True)
            line[0].set_ylabel(task)
            for ax in line[1:]:
                ax.set_yticklabels([])
        low, high = axes[0, 0].get_xlim()
        high = axes[0, 0].set_xlim(low, 4 * high if rows["missing"].any() else high)[1]  # arrows
        ticks = [tick for tick in TICKS if low <= tick <= high]
        axes[0, 0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        handles: dict[str, Any] = {}
        for ax in axes.flat:
            marks, names = ax.get_legend_handles_labels()
            handles |= dict(zip(names, marks, strict=True))
        names = [name for verdict in MARKERS for name in handles if name.startswith(verdict)]
        made.legend([handles[name] for name in names], names, loc="outside upper center", ncols=4)
        about = f"cost to a pass rate of {PASS_RATE} / that of {PLAIN}"
        made.supxlabel(
            f"{about} (n = {int(rows['seeds'].min()):,} seeds, 95 % intervals)", fontsize=8
        )
    return made


TERMS = {  # how the name of a method begins, and what it is
    "dynamic sampling": "zero-advantage groups are replaced by new ones and paid for",
    "prefix hints": "that share of the answers starts from a prefix of an earlier correct one",
    "self-play": "the reward is the comparison with a second answer, ties broken at random",
    "on-policy distillation": "the teacher's distribution at every symbol of an own answer; a "
    "sample is the whole answer",
    "curriculum": "prompts in proportion to p(1−p) of their pass rate p, the rest uniformly",
    "actor-critic": "a learned value of the prompt, the position or the prefix as baseline",
    "process rewards": "a reward for every correct symbol",
}


def caption(rows: pd.DataFrame) -> str:
    """Return what the figure shows, in words."""
    names = [name for name in TERMS if rows["remedy"].str.startswith(name).any()]
    terms = "; ".join(f"{name}: {TERMS[name]}" for name in names)
    return (
        f"Samples and FLOPs (2N/4N convention) until a pass rate of {PASS_RATE}, each divided by "
        f"those of {PLAIN} (policy gradient with the leave-one-out baseline) on the same task. "
        "FLOPs either with every rollout trained on, by all methods, or with zero-advantage groups "
        "decoded only (skipping), by all. "
        f"Every method is at its best of {len(RATES)} learning rates, chosen on other seeds; bars "
        f"are 95 % intervals over {int(rows['seeds'].min()):,} seeds. Cheaper and costlier: the "
        f"interval lies below or above 1. Hollow, with an arrow: some seeds never reach "
        f"{PASS_RATE}, and what they spent by the end of the run makes a lower bound; more seeds "
        f"fail: more than with {PLAIN}. {terms[:1].upper()}{terms[1:]}."
    )


def run(made: Any, about: str, more: Callable[..., None] | None = None) -> None:
    """The command of a list of remedies; `about` is what its file says of itself.

    Find the best rates, run them over all seeds, print, draw and keep the comparison, and `more`.
    """
    claim = about.split("\n\n")[1]
    arguments = command.arguments(made.name, about, SEEDS, QUICK_SEEDS)
    seeds, console, clock = arguments.seeds, command.console(), command.Clock()
    rate_seeds = min(seeds, QUICK_RATE_SEEDS if arguments.quick else RATE_SEEDS)
    options = {"out": arguments.out, "devices": arguments.devices}
    others = range(seeds, seeds + rate_seeds)  # else the best would be the luckiest
    compared = simrl.run(made, others, progress=clock.bar("learning rates"), **options)
    chosen = best(compared)
    data = simrl.run(made, seeds, only=chosen, progress=clock.bar("all seeds"), **options)
    rows = compare(data)
    console.print(claim, highlight=False)
    show(rows, console)
    out: Path = arguments.out
    simrl.export(rows, out / "table.csv")
    simrl.export(simrl.hitting_table(compared), out / "rates.csv")
    if more is not None:
        more(console, seeds, out, arguments.devices)
    captions.save(figure(rows), out, caption(rows))
    command.farewell(console, clock, out)
