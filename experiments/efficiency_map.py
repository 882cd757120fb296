"""The efficiency map: bits, gradient noise and FLOPs, from the first update to the last.

Claim (Patel 2025): a supervised sample is worth -log p bits and a right/wrong reward at most the
binary entropy of the pass rate p, so policy gradient learns next to nothing while p is small; its
gradient is noisy early, supervised learning's late. Measured here in four worlds for supervised
learning and three policy gradients, each at its best of 8 learning rates.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xarray as xr

import simrl
from experiments import (
    captions,
    command,
    efficiency_map_figure,
    efficiency_map_tables,
    efficiency_map_worlds,
)
from experiments.efficiency_map_forms import closed_forms

SEEDS, RATE_SEEDS = 4096, 256
QUICK_SEEDS, QUICK_RATE_SEEDS = 128, 32
GROUP = 32

# Learning rates per sample, for both kinds of learner: the update of a batch of B uses B times it.
# At 1 the logit of the right answer moves by at most 1 nat per right sample, so no phase is jumped
# over while successes are rare. In a world with one right answer there is no best rate below
# infinity (one success tells all), hence a cap.
CLEAN_RATES = tuple(round(2.0 ** (-k / 2), 4) for k in range(7, -1, -1))
NOISY_RATES = tuple(2.0**-k for k in range(7, -1, -1))  # noise has a best rate below the cap
LABEL_RATES = tuple(2.0**-k for k in range(10, 2, -1))  # lower still: labels are followed at once

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
NOISY_WORLD = "noisy labels"
LEARNERS = ("supervised", "none", "batch_mean", "leave_one_out")

BASE = simrl.Spec(max_steps=16384, stop_pass_rate=0.99, log_points=20)


def rates(world: str, learner: str) -> tuple[float, ...]:
    """The 8 learning rates per sample that a learner is compared at."""
    if world != NOISY_WORLD:
        return CLEAN_RATES
    return LABEL_RATES if learner == "supervised" else NOISY_RATES


def changes(world: str, learner: str, rate: float) -> dict[str, object]:
    """The condition of one world, learner and learning rate per sample."""
    supervised = learner == "supervised"
    # Repeats of a fixed label teach nothing and would make supervised learning look poor.
    batch = 1 if supervised and world != NOISY_WORLD else GROUP
    made: dict[str, object] = dict(WORLDS[world])
    if supervised:
        made["learner"] = {"name": "supervised", "batch_size": batch}
    else:
        made["learner"] = {"name": "policy_gradient", "advantage": learner, "group_size": batch}
    made["learner.optimizer.learning_rate"] = rate * batch
    # A stretch is measured once: long enough to be cheap, short enough to stay in its phase.
    made["observe_every"] = max(1, round(0.5 / rate))
    if world == NOISY_WORLD:
        # Supervised learning has a floor to sink to and no pass rate to stop at; policy gradient
        # at a high rate commits to a wrong answer and would never stop.
        made["max_steps"] = 2048
    return made


def sweep(worlds: Iterable[str]) -> simrl.Sweep:
    """Returns every learner at every rate in some worlds."""
    cells = [
        ({"world": world, "learner": learner, "rate": rate}, changes(world, learner, rate))
        for world in worlds
        for learner in LEARNERS
        for rate in rates(world, learner)
    ]
    return simrl.Sweep(BASE, cells, name="efficiency_map", mode="list")


SWEEP = sweep(WORLDS)
QUICK_WORLDS = (efficiency_map_figure.ONE_TOKEN,)  # each world has programs of its own to compile


def best(data: xr.Dataset) -> list[int]:
    """Positions of each learner's best rate, by samples to p >= .9; ties and censoring count.

    Supervised learning on noisy labels never gets there: it is judged by the excess loss averaged
    over the samples it was given.
    """
    hits = simrl.hitting_table(data)
    hits = hits[hits["pass_rate"] == 0.9].reset_index(drop=True)
    noisy = (hits["world"] == NOISY_WORLD) & (hits["learner"] == "supervised")
    excess = np.zeros(len(hits))
    if noisy.any():
        sums = data[["phase_gap", "phase_trajectories"]]
        excess = np.array([_mean_excess(cell) for _, cell in simrl.each_cell(sums)])
    score = np.where(noisy, excess, hits["samples_mean"])
    order = hits.assign(
        score=score, late=np.where(noisy, 0, hits["num_seeds"] - hits["num_reached"])
    )
    chosen = order.sort_values(["late", "score"]).groupby(["world", "learner"], sort=False).head(1)
    return sorted(int(i) for i in chosen.index)


def _mean_excess(cell: xr.Dataset) -> float:
    return float(cell["phase_gap"].sum() / cell["phase_trajectories"].sum())


def main() -> None:
    """Run what is missing, print the claims, write the tables, draw the figures."""
    arguments = command.arguments("efficiency_map", __doc__ or "", SEEDS, QUICK_SEEDS)
    seeds, console, clock = arguments.seeds, command.console(), command.Clock()
    rate_seeds = min(seeds, QUICK_RATE_SEEDS if arguments.quick else RATE_SEEDS)
    chosen_sweep = sweep(QUICK_WORLDS) if arguments.quick else SWEEP
    options = {"out": arguments.out, "devices": arguments.devices}
    with command.beside() as other:
        forms = other.submit(closed_forms, efficiency_map_figure.CLEAN[QUICK_WORLDS[0]])
        bar = clock.bar("learning rates")
        compared = simrl.run(chosen_sweep, rate_seeds, progress=bar, **options)
        chosen = best(compared)
        with ThreadPoolExecutor(1) as meanwhile:
            faint = meanwhile.submit(simrl.phase_table, compared)
            bar = clock.bar("all seeds")
            data = simrl.run(chosen_sweep, seeds, only=chosen, progress=bar, **options)
        table, rates_table = simrl.phase_table(data), faint.result()
        hits, supplement = simrl.hitting_table(data), None
        results = {"table": table, "hitting": hits, "rates": rates_table}
        changed = efficiency_map_tables.write(results, arguments.out)
        stale = changed or not efficiency_map_worlds.is_drawn(arguments.out)
        if stale and not arguments.quick:
            writing = table, rates_table, arguments.out
            supplement = other.submit(efficiency_map_worlds.write, *writing)
        draw = efficiency_map_figure.figure(table, rates_table, forms.result())
        captions.save(draw, arguments.out, efficiency_map_figure.caption(hits))
        if supplement is not None:
            supplement.result()
    efficiency_map_tables.show(table, hits, console, arguments.verbose)
    command.farewell(console, clock, arguments.out)


if __name__ == "__main__":
    command.guarded(main)
