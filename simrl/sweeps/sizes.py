"""How much memory and disk the results of a sweep take, from its conditions alone."""

import os
from collections.abc import Iterable
from pathlib import Path

from simrl.engine import observe, pool, train
from simrl.errors import SpecError
from simrl.sweeps import memory, pools
from simrl.sweeps import spec as specs
from simrl.sweeps.spec import Spec

NUMBER = 8  # bytes: most of what is stored are 64-bit numbers
COPIES = 2  # of the results at once: a run of 10^6 seeds of 2.4 kB took 4.7 GB
LOOKS = 13  # measures at a log point, of a seed without measures on request


def of_seed(spec: Spec) -> int:
    """Returns about how many bytes the results of one seed of a condition take."""
    trial = specs.build(specs.parts(spec))
    shape, num_looks = trial.environment.shape, len(pools.log_points(spec))
    num_phases = spec.phases.num + 2
    numbers = num_phases * (len(observe.quantities(trial)) + len(train.COUNTERS))
    numbers += num_looks * LOOKS + (len(spec.thresholds) + 1) * len(train.COUNTERS)
    if spec.keep_beliefs:
        numbers += num_looks * shape.num_prompts * shape.length * shape.vocab_size // 2  # float32
    return NUMBER * numbers


def of_folder(path: Path) -> int:
    """Returns how many bytes the stored blocks of a result folder take."""
    folders = os.walk(path)
    files = (Path(root) / name for root, _, names in folders for name in names)
    return sum(file.stat().st_size for file in files if file.suffix == ".npz")


def refuse_large(path: Path) -> None:
    """Raises SpecError where the stored results of all seeds do not fit in memory."""
    needed, machine = COPIES * of_folder(path), memory.machine_bytes()
    if needed > machine:
        sizes = f"{memory.in_words(needed)}, and this machine has {memory.in_words(machine)}"
        raise SpecError(f"{path}: results of all seeds take {sizes}; open with keep='moments'")


def most_seeds(conditions: Iterable[Spec], keep: str = "seeds") -> int:
    """Returns of how many seeds the results of all conditions fit in this machine's memory.

    Of moments only the numbers of the seeds that are still to come are held.

    Raises SpecError where not even a block of one condition does.
    """
    sizes = [of_seed(spec) for spec in conditions]
    machine = memory.machine_bytes()
    block = pool.MIN_SEEDS * max(sizes)
    if block > machine:
        needed, there = memory.in_words(block), memory.in_words(machine)
        rule = "fewer log_points, thresholds or phases, or no keep_beliefs"
        raise SpecError(
            f"a block of {pool.MIN_SEEDS} seeds has results of {needed}, and this machine has "
            f"{there}: needs {rule}"
        )
    return machine // (COPIES * (sum(sizes) if keep == "seeds" else NUMBER * len(sizes)))
