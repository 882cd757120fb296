"""The efficiency map: bits, gradient noise and FLOPs, from the first update to the last.

Claim (Patel 2025): a supervised sample is worth -log p bits and a right/wrong reward at most the
binary entropy of the pass rate p, so policy gradient learns next to nothing while p is small; its
gradient is noisy early, supervised learning's late. Measured here where all learners see equally
many samples per update and move by the same rate per sample; what depends on the batch size and on
the rate is measured by both.
"""

import argparse
from collections.abc import Iterable
from typing import Any

import pandas as pd
import xarray as xr

import simrl
from experiments import (
    command,
    efficiency_map_batches,
    efficiency_map_figure,
    efficiency_map_tables,
    efficiency_map_worlds,
)

SEEDS, RATE_SEEDS = 2048, 256
QUICK_SEEDS = 256
NOISY_BATCH = 32

# Learning rates per sample, common to both kinds of learner: the update of a batch of B uses B
# times it. At 1 nat a right sample moves the log-odds of the right answer by at most 1, so that no
# phase is jumped over. With one right answer no rate is best: one success tells all.
COMMON_RATE = 1.0
RATES = (1 / 16, 1 / 4, COMMON_RATE, 4.0, 16.0)
# Noise has a best rate, another for each learner, chosen on seeds that are not reported.
NOISY_RATES = tuple(2.0**-k for k in range(7, -1, -1))
LABEL_RATES = tuple(2.0**-k for k in range(10, 2, -1))  # lower: labels are followed at once

CLEAN = simrl.Phases("log_odds", low=-7.0, high=4.6, num=12)
NOISY = simrl.Phases("excess_loss", low=-12.0, high=3.0, num=15)

WORLDS = {
    "one token": {
        "environment": {"name": "bandit", "kind": "one_right", "num_arms": 1000},
        "phases": CLEAN,
    },
    "sequence, exact": {
        "environment": {"name": "sequence", "vocab_size": 8, "length": 3, "reward": "exact"},
        "phases": CLEAN,
    },
    "sequence, token": {
        "environment": {"name": "sequence", "vocab_size": 8, "length": 3, "reward": "token"},
        "phases": CLEAN,
    },
    "noisy labels": {
        "environment": {"name": "sequence", "vocab_size": 10, "length": 1, "labels": "zipf"},
        "phases": NOISY,
    },
}
ONE_TOKEN, NOISY_WORLD = "one token", "noisy labels"
LEARNERS = ("supervised", "none", "expected_reward")  # with batches of 1
NOISY_LEARNERS = ("supervised", "none", "leave_one_out")  # with batches of NOISY_BATCH

BATCHES = (1, 4, 16, 32)
THIRD = 1 / 3  # pass rate from which learners are compared by batch size
OVERLAP_STARTS = (0.13, 0.9)  # others, for the information of a batch of rollouts
BATCH_RATES = (1 / 32, COMMON_RATE)
BATCH_LEARNERS = ("supervised", "none", "batch_mean", "leave_one_out")

BASE = simrl.Spec(max_steps=2**20, stop_pass_rate=0.99, log_points=20, engine="auto")


def learners(world: str) -> tuple[str, ...]:
    """Returns the learners that are compared in a world."""
    return NOISY_LEARNERS if world == NOISY_WORLD else LEARNERS


def rates(world: str, learner: str) -> tuple[float, ...]:
    """Returns the learning rates per sample of a learner."""
    if world == NOISY_WORLD:
        return LABEL_RATES if learner == "supervised" else NOISY_RATES
    # A baseline changes the policy at every failure: slow rates would take minutes.
    return RATES if world == ONE_TOKEN and learner != "expected_reward" else (COMMON_RATE,)


def updates(learner: str, batch: int, rate: float) -> dict[str, object]:
    """Returns a learner with a batch size and a learning rate per sample."""
    if learner == "supervised":
        made = {"name": "supervised", "batch_size": batch}
    else:
        made = {"name": "policy_gradient", "advantage": learner, "group_size": batch}
    return {"learner": made, "learner.optimizer.learning_rate": rate * batch}


def changes(world: str, learner: str, rate: float) -> dict[str, object]:
    """Returns the condition of one world, learner and learning rate per sample."""
    batch = NOISY_BATCH if world == NOISY_WORLD else 1
    made = {**WORLDS[world], **updates(learner, batch, rate)}
    if world == NOISY_WORLD:
        # Supervised learning has a floor to sink to and no pass rate to stop at; policy gradient
        # at a high rate commits to a wrong answer and would never stop.
        made["max_steps"] = 2048
    return made


def conditions(worlds: Iterable[str]) -> list[dict[str, Any]]:
    """Returns the world, learner and rate of every cell."""
    return [
        {"world": world, "learner": learner, "rate": rate}
        for world in worlds
        for learner in learners(world)
        for rate in rates(world, learner)
    ]


def sweep(cells: Iterable[dict[str, Any]]) -> simrl.Sweep:
    """Returns the sweep of some conditions."""
    listed = [(labels, changes(**labels)) for labels in cells]
    return simrl.Sweep(BASE, listed, name="efficiency_map", mode="list")


def batch_changes(learner: str, start: float, batch: int, rate: float) -> dict[str, object]:
    """Returns the condition of one update from a pass rate `start`."""
    policy = {"name": "tabular", "start": "pretrained", "pass_rate": start}
    return {**WORLDS[ONE_TOKEN], **updates(learner, batch, rate), "policy": policy}


def batch_conditions() -> list[dict[str, Any]]:
    """Returns the learner, pass rate, batch size and rate per sample of every single update."""
    compared = [
        {"learner": learner, "start": THIRD, "batch": batch, "rate": rate}
        for batch in BATCHES
        for rate in BATCH_RATES
        for learner in (BATCH_LEARNERS if batch > 1 else BATCH_LEARNERS[:2])
    ]
    return compared + [
        {"learner": "none", "start": start, "batch": batch, "rate": BATCH_RATES[0]}
        for batch in BATCHES
        for start in OVERLAP_STARTS
    ]


SWEEP = sweep(conditions(WORLDS))
# Each world has programs of its own to compile, and so has a baseline, a third of the time.
QUICK = [i for i in conditions((ONE_TOKEN,)) if i["learner"] != "expected_reward"]
UPDATES = batch_conditions()
QUICK_UPDATES = [i for i, labels in enumerate(UPDATES) if labels["batch"] == BATCHES[-1]]
BATCH_SWEEP = simrl.Sweep(
    simrl.Spec(max_steps=1, log_points=1),
    [(labels, batch_changes(**labels)) for labels in UPDATES],
    name="efficiency_map_batches",
    mode="list",
)


def best(data: xr.Dataset) -> list[dict[str, Any]]:
    """Returns the condition of each learner's best rate on noisy labels.

    By samples to p >= .9, where ties and censoring count. Supervised learning never gets there: it
    is judged by the excess loss averaged over the samples it was given.
    """
    hits = simrl.hitting_table(data)
    hits = hits[(hits["pass_rate"] == 0.9) & (hits["world"] == NOISY_WORLD)]
    sums = data[["phase_gap", "phase_trajectories"]]
    cells = [cell for cell in simrl.each_cell(sums) if cell[0]["learner"] == "supervised"]
    excess = {labels["rate"]: _mean_excess(cell) for labels, cell in cells}
    guessing = hits["learner"] != "supervised"
    score = hits["samples_mean"].where(guessing, hits["rate"].map(excess))
    late = (hits["num_seeds"] - hits["num_reached"]).where(guessing, 0)
    order = hits.assign(score=score, late=late).sort_values(["late", "score"])
    chosen = order.groupby("learner", sort=False).head(1)
    return chosen[["world", "learner", "rate"]].to_dict("records")


def _mean_excess(cell: xr.Dataset) -> float:
    return float(cell["phase_gap"].sum() / cell["phase_trajectories"].sum())


def tables(arguments: argparse.Namespace, clock: command.Clock) -> dict[str, pd.DataFrame]:
    """Runs what is missing; returns the tables by the names of their files."""
    cells = QUICK if arguments.quick else conditions(WORLDS)
    made, out, seeds = sweep(cells), arguments.out, arguments.seeds
    noisy = [i for i, labels in enumerate(cells) if labels["world"] == NOISY_WORLD]
    reported, results = [i for i in range(len(cells)) if i not in noisy], {}
    if noisy:  # the best rate of some seeds is too good for them: it is reported on others
        others = range(seeds, seeds + min(seeds, RATE_SEEDS))
        options = {"out": out, "devices": arguments.devices}
        bar = clock.bar("learning rates")
        compared = simrl.run(made, others, only=noisy, progress=bar, **options)
        chosen = best(compared)
        reported += [i for i in noisy if cells[i] in chosen]
        results["rates"] = simrl.hitting_table(compared)
    options = {"out": out / "batches", "devices": arguments.devices}
    options |= {"only": QUICK_UPDATES} if arguments.quick else {}
    batches = simrl.run(BATCH_SWEEP, seeds, progress=clock.bar("one update"), **options)
    options |= {"out": out, "only": reported}
    data = simrl.run(made, seeds, progress=clock.bar("all seeds"), **options)
    results |= {"table": simrl.phase_table(data), "hitting": simrl.hitting_table(data)}
    return {**results, "batches": simrl.phase_table(batches)}


def main() -> None:
    """Run what is missing, print the claims, write the tables, draw the figures."""
    arguments = command.arguments("efficiency_map", __doc__ or "", SEEDS, QUICK_SEEDS)
    console, clock = command.console(), command.Clock()
    results = tables(arguments, clock)
    changed = efficiency_map_tables.write(results, arguments.out)
    others = [] if arguments.quick else [efficiency_map_batches, efficiency_map_worlds]
    figures = [efficiency_map_figure, *others]
    names = [figure.NAME for figure in figures]
    if changed or not efficiency_map_figure.is_drawn(arguments.out, names):
        for figure in figures:
            figure.write(results, arguments.out)
    efficiency_map_tables.show(results, console, arguments.verbose)
    command.farewell(console, clock, arguments.out)


if __name__ == "__main__":
    command.guarded(main)
