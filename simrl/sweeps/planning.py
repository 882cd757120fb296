"""What a run would take, before anything is compiled."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from simrl.engine import compiling, lanes
from simrl.errors import shallow
from simrl.sweeps import given, pools, reducer, run, sizes, store
from simrl.sweeps import spec as specs
from simrl.sweeps.grid import Sweep
from simrl.sweeps.spec import Spec


class Plan(NamedTuple):
    """What a run would take; sums over the seeds that are not stored yet, upper bounds.

    Attributes:
        conditions: of the sweep.
        programs: that are compiled, if none of them is in the cache.
        blocks: of seeds, files that are written.
        seed_runs: seeds to train, summed over conditions.
        updates: if no seed stops early and none is skipped.
        samples: trajectories of these updates.
        flops: of these updates, counted from their programs.
        disk: bytes that are written.
        memory: bytes of the results that are held at once, stored ones too.
    """

    conditions: int
    programs: int
    blocks: int
    seed_runs: int
    updates: int
    samples: int
    flops: int
    disk: int
    memory: int


@shallow
@compiling.promoting
def plan(
    sweep: Sweep | Spec,
    seeds: Any = 256,
    out: str | Path | None = None,
    *,
    keep: Literal["seeds", "moments"] = "seeds",
) -> Plan:
    """Returns what `simrl.run` with these arguments would take; compiles and writes nothing.

    Traces one update of each program to count its FLOPs. Raises SpecError as `run` does.
    """
    sweep = Sweep(sweep) if isinstance(sweep, Spec) else sweep
    cells = sweep.cells()
    most = sizes.most_seeds((cell.spec for cell in cells), given.keep(keep))
    wanted = given.seeds(seeds, most)
    held = len(wanted) if keep == "seeds" else min(len(wanted), reducer.SEEDS)
    mesh = lanes.mesh_of(None)
    stored = store.Store(given.path(out, "out"), {}) if out is not None else None
    blocks = [run.missing_blocks(stored, cell, wanted) for cell in cells]
    own = [cell.spec for cell in cells]
    seed_runs = [sum(last - first + 1 for first, last in ends) for ends in blocks]
    ahead = [(num, spec) for num, spec in zip(seed_runs, own, strict=True) if num]
    updates = [num * spec.max_steps for num, spec in ahead]
    costs = [_of_update(spec) for _, spec in ahead]
    return Plan(
        conditions=len(own),
        programs=len({pools.kind_of(spec, mesh) for _, spec in ahead}),
        blocks=sum(map(len, blocks)),
        seed_runs=sum(seed_runs),
        updates=sum(updates),
        samples=sum(num * samples for num, (samples, _) in zip(updates, costs, strict=True)),
        flops=sum(num * flops for num, (_, flops) in zip(updates, costs, strict=True)),
        disk=sum(num * sizes.of_seed(spec) for num, spec in ahead),
        memory=sum(held * sizes.of_seed(spec) for spec in own),
    )


def _of_update(spec: Spec) -> tuple[int, int]:
    """Trajectories of one update, and its FLOPs, the environment's part left out."""
    trial = specs.build(specs.parts(spec))
    return trial.learner.batch_size, int(pools.plan_of(spec, trial).counted.total)
