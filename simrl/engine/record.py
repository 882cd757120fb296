"""What is seen of a pool of seeds, on the host: measures at log points, sums by phase, ends."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from simrl.engine import clock, lanes, observe, probes, stretches, train
from simrl.engine.batch import Batch
from simrl.engine.lanes import Setup
from simrl.measures import phases
from simrl.types import Array, Trial

Observed = dict[str, np.ndarray]
# Seeds on the first axis: `look.*` [S, T] measures at log points; `phase.*` [S, P] sums, float64
# or uint64; `hit.*` [S, H]; `total.*` [S]; `stopped` [S]; `diverged.step` [S], -1 for never;
# `look.belief` [S, T, M, L, V] nats, if asked for; `full` [S], with lumps: throw these seeds away.


SPENT = ("samples", "flops", "flops_counted")  # counters that are kept at log points


class Schedule(NamedTuple):
    """When to look, and whether to keep the beliefs."""

    log_points: tuple[int, ...]
    keep_beliefs: bool = False


class Record:
    """What is seen of a pool [S], on the host."""

    def __init__(self, setup: Setup, trial: Trial, num: int, schedule: Schedule) -> None:
        self.setup, self.trial, self.schedule = setup, trial, schedule
        plan, names = setup.plan, observe.quantities(trial)
        self.num = num
        self.values = np.zeros((num, plan.num_phases, len(names)))
        self.counts = np.zeros((num, plan.num_phases, len(train.COUNTERS)), np.uint64)
        self.names: tuple[str, ...] = ()  # of what is measured at a look
        self.looks: list[Observed] = []  # launch after launch: [S, T, ...] each
        self.ends: Observed = {}
        self.waiting: list[Callable[[], None]] = []

    def later(self, method: Callable[..., None], *given: Any) -> None:
        """Call a method at the next `catch_up`, in turn: it waits for the device."""
        self.waiting.append(partial(method, *given))

    def catch_up(self) -> None:
        """Write down what was put off."""
        waiting, self.waiting = self.waiting, []
        for method in waiting:
            method()

    def copy_last(self, num: int) -> None:
        """Begin log points with the measures of the last; `num` 0: all seeds will be seen anew."""
        last = self.looks[-1] if self.looks else {}
        self.looks.append({k: np.repeat(value[:, -1:], num, axis=1) for k, value in last.items()})

    def add(self, batch: Batch, sums: stretches.Sums) -> None:
        """Add a chunk's accumulators, later."""
        self.later(self._add, batch.places, batch.sent(sums))

    def _add(self, places: np.ndarray, sent: Callable[[], stretches.Sums]) -> None:
        sums = sent()
        own = slice(None) if len(places) == self.num else places  # all of them, in order
        self.values[own] += sums.values
        self.counts[own] += phases.count_of(sums.counts)

    def look(self, key: Array, batch: Batch, seen: lanes.Seen, num: int) -> None:
        """Keep what was seen of a batch at the log points that were begun, and what is estimated.

        Where something is estimated there is one log point.
        """
        given = key, np.int32(batch.num_blocks), batch.jobs, batch.run
        estimates = lanes.probe(self.setup, *given) if probes.wanted(self.trial) else {}
        parts = {"values": seen.values, "step": seen.step, "belief": seen.belief}
        parts["spent"] = seen.spent
        self.names = seen.names
        self.later(self._keep, batch.places, batch.sent(parts, num), batch.sent(estimates))

    def _keep(
        self, places: np.ndarray, seen: Callable[[], Any], estimates: Callable[[], Any]
    ) -> None:
        """Write down what was measured of a batch."""
        found = {name: value for name, value in seen().items() if value is not None}
        found |= {name: value[:, None] for name, value in estimates().items()}
        found["step"] = clock.counts(found["step"])
        spent = found.pop("spent", None)
        if spent is not None:
            counts = phases.count_of(spent)
            found |= {name: counts[..., train.COUNTERS.index(name)] for name in SPENT}
        self._put(self.looks[-1], places, found)

    def end(self, batch: Batch) -> None:
        """Hitting times, totals and what became of each seed of a batch, later."""
        if batch.num_blocks == 0:
            return
        run = batch.run
        full = {}
        if self.trial.learner.lumps is not None:
            full["full"] = self.trial.learner.lumps.full(run.state)
        ends = run.hits, run.spent, run.step, run.done, batch.course.diverged, full
        self.later(self._end, batch.places, batch.sent(ends))

    def _end(self, places: np.ndarray, sent: Callable[[], Any]) -> None:
        hits, spent, step, done, diverged, full = sent()
        cost, total = phases.count_of(hits.cost), phases.count_of(spent)
        found = {
            "hit.step": clock.counts(hits.step),
            "hit.time": clock.times(hits.time, hits.step),
            "total.step": clock.counts(step),
            "stopped": done,
            "diverged.step": clock.counts(diverged),
            **full,
        }
        for c, name in enumerate(train.COUNTERS):
            found[f"hit.{name}"] = cost[..., c]
            found[f"total.{name}"] = total[..., c].sum(axis=1, dtype=np.uint64)
        self._put(self.ends, places, found)

    def _put(self, store: Observed, places: np.ndarray, found: Observed) -> None:
        """Write what was found of the seeds of a batch."""
        if len(places) == self.num:  # all of them, in order
            store.update(found)
            return
        for name, value in found.items():
            if name not in store:
                store[name] = np.zeros((self.num, *value.shape[1:]), value.dtype)
            store[name][places] = value

    def observed(self) -> Observed:
        """Everything, by name."""
        looks = {k: [look[k] for look in self.looks] for k in self.looks[0]}
        values = looks.pop("values")
        named = {k: [value[..., q] for value in values] for q, k in enumerate(self.names)}
        found = {f"look.{k}": _one_after_another(v) for k, v in (named | looks).items()}
        found |= _of_update(self.trial, self.setup.plan, self.num)
        quantities = enumerate(observe.quantities(self.trial))
        found |= {f"phase.{name}": self.values[..., q] for q, name in quantities}
        counters = enumerate(train.COUNTERS)
        found |= {f"phase.{name}": self.counts[..., c] for c, name in counters}
        found |= self.ends
        found = _by_update(self.trial, found) | found  # what was counted goes before
        found["diverged.step"] = _first_bad_update(self.trial, found)
        return found | _ledger_lines(self.trial, found)


def _one_after_another(parts: list[np.ndarray]) -> np.ndarray:
    """What launch after launch saw, [S, T, ...]; of one it is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _of_update(trial: Trial, plan: train.Plan, num_seeds: int) -> Observed:
    """Constants of one update: trajectories, and operations counted from its program."""
    constants = {"trajectories": trial.learner.batch_size}
    constants |= {f"learner_{name}": count for name, count in plan.counted._asdict().items()}
    constants |= {f"world_{name}": count for name, count in plan.counted_world._asdict().items()}
    return {
        f"update.{name}": np.broadcast_to(np.asarray(count), num_seeds)  # held once
        for name, count in constants.items()
    }


def _by_update(trial: Trial, found: Observed) -> Observed:
    """What is spent at log points and updates by phase, where every update costs the same."""
    updates = np.maximum(found["total.step"], 1).astype(np.uint64)
    steps = found["look.step"].astype(np.uint64)
    spent = {f"look.{k}": steps * (found[f"total.{k}"] // updates)[:, None] for k in SPENT}
    return {**spent, "phase.updates": found["phase.trajectories"] / trial.learner.batch_size}


def _first_bad_update(trial: Trial, found: Observed) -> np.ndarray:
    """The update [S] at which a value was first not finite, as far as it is known; -1 for never.

    What follows a policy that is NaN is in no phase: the updates of one prompt were counted up to
    the one that made it so. Other values are looked at once a log point.
    """
    seen = found["diverged.step"]
    if trial.environment.shape.num_prompts > 1 or trial.learner.discards:
        return seen
    counted = np.rint(found["phase.updates"].sum(axis=1)).astype(seen.dtype)
    return np.where(seen >= 0, np.minimum(seen, counted), seen)


def _ledger_lines(trial: Trial, found: Observed) -> Observed:
    """The lines of the 2N/4N bill of each phase and of the run, for learners that tell them."""
    if trial.learner.ledger is None:
        return {}
    length = np.uint64(trial.environment.shape.length)
    rates = {name: np.uint64(rate) for name, rate in trial.learner.ledger.items() if rate > 0}
    bills = _by_skipping(trial, found, rates.get("training", np.uint64(0)))
    if trial.learner.partial == "begun":  # which symbols were given is not known
        return bills
    lines = {}
    for place in ("phase", "total"):
        tokens = found[f"{place}.tokens"]
        # How many tokens of dead guesses were decoded is not known where some are stopped midway:
        # they stay on the lines of the others.
        dead = found[f"{place}.dead"] * (np.uint64(0) if trial.learner.partial else length)
        for line, rate in rates.items():
            charged = tokens if line in ("critic", "reference") else tokens - dead
            lines[f"{place}.flops_{line}"] = charged * rate
        if trial.learner.discards:
            lines[f"{place}.flops_discarded"] = dead * rates["decode"]
        elif "decode" in rates:
            lines[f"{place}.flops_dead"] = dead * (rates["decode"] + rates["training"])
    return lines | bills


def _by_skipping(trial: Trial, found: Observed, training: np.uint64) -> Observed:
    """FLOPs by the same right for all: every rollout is trained on, or none without signal.

    `training`: of a token. One learner is charged for training on groups whose gradient is 0,
    and another that discards them is not: what it would cost if both did, and if neither did.
    """
    if trial.learner.partial == "stopped":  # how many tokens of them were decoded is not known
        return {}
    bills = {}
    for place in ("phase", "total", "hit"):
        flops = found[f"{place}.flops"]
        dead = found[f"{place}.dead"] * np.uint64(trial.environment.shape.length) * training
        discards = np.uint64(bool(trial.learner.discards))
        bills[f"{place}.flops_full"] = flops + dead * discards
        bills[f"{place}.flops_live"] = flops - dead * (np.uint64(1) - discards)
    return bills
