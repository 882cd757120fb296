"""The efficiency map: bits, gradient noise and FLOPs through the phases of training.

Claim (Patel 2025): a supervised sample is worth -log p bits and a right/wrong reward at most the
binary entropy of the pass rate p, so policy gradient learns next to nothing while p is small; its
gradient is noisy early, supervised learning's late. Measured here in four worlds for supervised
learning and three policy gradients, each at its best of 8 learning rates.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Console

import simrl
from experiments import captions, command, efficiency_map_figure, efficiency_map_worlds
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


SWEEP = simrl.Sweep(
    BASE,
    [
        ({"world": world, "learner": learner, "rate": rate}, changes(world, learner, rate))
        for world in WORLDS
        for learner in LEARNERS
        for rate in rates(world, learner)
    ],
    name="efficiency_map",
    mode="list",
)


def best(data: xr.Dataset) -> list[int]:
    """Positions of each learner's best rate, by samples to p >= .9; ties and censoring count.

    Supervised learning on noisy labels never gets there: it is judged by the excess loss averaged
    over the samples it was given.
    """
    hits = simrl.hitting_table(data)
    hits = hits[hits["pass_rate"] == 0.9].reset_index(drop=True)
    sums = data[["phase_gap", "phase_trajectories"]]
    excess = [_mean_excess(cell) for _, cell in simrl.each_cell(sums)]
    noisy = (hits["world"] == NOISY_WORLD) & (hits["learner"] == "supervised")
    score = np.where(noisy, excess, hits["samples_mean"])
    order = hits.assign(score=score, late=np.where(noisy, 0, hits["num_censored"]))
    chosen = order.sort_values(["late", "score"]).groupby(["world", "learner"], sort=False).head(1)
    return sorted(int(i) for i in chosen.index)


def _mean_excess(cell: xr.Dataset) -> float:
    return float(cell["phase_gap"].sum() / cell["phase_trajectories"].sum())


def main() -> None:
    """Run what is missing, print the tables, draw the figure."""
    arguments = command.parser("efficiency_map", (__doc__ or "").split("\n")[0], SEEDS).parse_args()
    seeds = arguments.seeds or (QUICK_SEEDS if arguments.quick else SEEDS)
    rate_seeds = min(seeds, QUICK_RATE_SEEDS if arguments.quick else RATE_SEEDS)
    console, clock = command.console(), command.Clock()
    options = {"out": arguments.out, "devices": arguments.devices}
    with command.beside() as other:
        worlds = efficiency_map_figure.CLEAN.items()
        lines = {name: other.submit(closed_forms, world) for name, world in worlds}
        with command.Watch("learning rates", console, clock) as watch:
            compared = simrl.run(SWEEP, rate_seeds, progress=watch, **options)
        chosen = best(compared)
        with (
            command.Watch("all seeds", console, clock) as watch,
            ThreadPoolExecutor(1) as meanwhile,
        ):
            faint = meanwhile.submit(simrl.phase_table, compared)
            data = simrl.run(SWEEP, seeds, only=chosen, progress=watch, **options)
        table, rates_table = simrl.phase_table(data), faint.result()
        rest = other.submit(efficiency_map_worlds.write, table, rates_table, arguments.out)
        hits = simrl.hitting_table(data)
        show(table, hits, console)
        for name, frame in (("table", table), ("hitting", hits), ("rates", rates_table)):
            frame.to_csv(arguments.out / f"{name}.csv", index=False)
        forms = lines[efficiency_map_figure.ONE_TOKEN].result()
        draw = efficiency_map_figure.figure(table, rates_table, forms)
        captions.save(draw, arguments.out, efficiency_map_figure.caption(hits))
        rest.result()
    command.farewell(console, clock, arguments.out)


COLUMNS = {
    "learner": "learner",
    "phase_low": "from",
    "phase_high": "to",
    "num_seeds": "seeds",
    "pass_rate": "pass rate",
    "excess_loss": "excess loss",
    "nominal": "nominal",
    "expected": "expected",
    "realised": "realised",
    "realised_joint": "joint",
    "absorbed": "absorbed",
    "noise_scale": "noise",
    "absorbed_per_flop": "bit/FLOP",
    "absorbed_per_flop_counted": "counted",
}


HITTING = {
    "world": "world",
    "learner": "learner",
    "rate": "rate",
    "pass_rate": "to p",
    "num_seeds": "seeds",
    "num_censored": "censored",
    "num_stuck": "stuck",
    "samples_mean": "samples",
    "samples_median": "median",
    "flops_mean": "FLOPs",
    "flops_counted_mean": "counted",
}


def show(table: pd.DataFrame, hits: pd.DataFrame, console: Console) -> None:
    """Print the map, one table per world, and the hitting table."""
    keys = ["learner", "rate", "phase", "phase_low", "phase_high"]
    for world, part in table.groupby("world", sort=False):
        part = part.assign(learner=pd.Categorical(part["learner"], LEARNERS, ordered=True))
        wide = part.pivot_table(index=keys, columns="quantity", values="mean", observed=True)
        visits = part[part["quantity"] == "pass_rate"].set_index(keys)["num_seeds"]
        wide = wide.assign(num_seeds=visits).reset_index().dropna(subset=["pass_rate"])
        missed = visits[visits == 0].reset_index()
        frame = wide[[c for c in COLUMNS if c in wide]].rename(columns=COLUMNS)
        edges = "log2 of the excess loss in bits" if world == NOISY_WORLD else "log-odds in nats"
        title = f"{world}: phases {edges}; bits per sample; noise scale in trajectories; absorbed "
        title += "bits per FLOP by the 2N/4N convention and counted"
        command.show(frame, title, console)
        for learner, rest in missed.groupby("learner", observed=True):
            places = ", ".join(f"{low:.3g}" for low in rest["phase_low"])
            console.print(f"{learner}: phases not reached, from: {places}", highlight=False)
    short = hits[(hits["pass_rate"] == 0.99) & (hits["num_censored"] > 0)]
    for row in short.itertuples():
        left = f"{row.num_censored} of {row.num_seeds} seeds ended below a pass rate of .99"
        console.print(f"{row.world}, {row.learner}: {left}", highlight=False)
    title = (
        "mean samples and FLOPs (2N/4N and counted) to a pass rate, over the seeds that reached it"
    )
    command.show(hits[list(HITTING)].rename(columns=HITTING), title, console)


if __name__ == "__main__":
    command.guarded(main)
