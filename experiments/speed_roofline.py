"""The roofline of W1 and W2: the work that a unit needs, over the peak rates of this machine.

Counted is what the task itself needs, by the best way known to us, and no measures: no answer is
formed where counts of answers do, no word is drawn twice, and between two looks the state of a few
seeds stays in a cache, so that memory is asked once a look. Rates are measured on the same machine
(`experiments.speed_peaks`): a share of 1 is a program that does only this, every operation at the
pace of a kernel that does nothing else. Kinds of operations are added up as if none overlapped.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.peers.problems import Guessing, TenArmed

FLOAT = 4  # bytes
BYTES = "bytes"
HALF = 0.5  # the share from which something is called the limit


class Work(NamedTuple):
    """One kind of operation in one unit."""

    kind: str  # as in `speed_peaks`
    number: float  # per unit
    why: str


def ten_armed(problem: TenArmed) -> tuple[Work, ...]:
    """W1, one pull among K arms."""
    arms = problem.num_arms
    return (
        Work("threefry blocks", 1, "two words, for the arm and for the noise"),
        Work("normals", 1, "the noise, by the inverse error function"),
        Work("exponentials", arms, "every logit has moved"),
        Work(
            "comparisons",
            4 * arms - 2,
            "K-1 largest logit, K-1 edges below the word, K mean of the arm, K its push",
        ),
        Work(
            "multiply-adds",
            3 * arms + 6,
            "K less the largest, K running sum, K pushes times law, 6 word, baseline, push",
        ),
        Work(
            BYTES,
            FLOAT * (3 * arms + 4) / problem.steps,
            "once a look: logits, baseline, count read and written, means read",
        ),
    )


def guessing(problem: Guessing) -> tuple[Work, ...]:
    """W2, one token of V symbols in a batch of B at its position."""
    size, batch = problem.vocab_size, problem.batch
    return (
        Work("threefry blocks", 1 / 2, "one word; a block gives two"),
        Work("exponentials", size / batch, "V a batch"),
        Work(
            "comparisons",
            size - 1 + (size - 1) / batch,
            "V-1 edges, each with a count of the words above; V-1 largest logit a batch",
        ),
        Work(
            "multiply-adds",
            6 * size / batch,
            "a batch: V less the largest, V sums, V over the whole, V differences, 2V pushes",
        ),
        Work(
            BYTES,
            FLOAT * 2 * size / batch / problem.steps,
            "once a look: logits read and written",
        ),
    )


COUNTS: dict[str, Callable[[Any], tuple[Work, ...]]] = {"W1": ten_armed, "W2": guessing}


class Floor(NamedTuple):
    """The least seconds of one unit."""

    arithmetic: float
    memory: float


def floor(work: tuple[Work, ...], rates: Mapping[str, Any]) -> Floor:
    """Counts over rates [1/s]: arithmetic added up, memory apart."""
    seconds = {item.kind: item.number / rates[item.kind] for item in work}
    memory = seconds.pop(BYTES)
    return Floor(sum(seconds.values()), memory)


def work_of(workload: str, problem: Any) -> tuple[Work, ...]:
    """The counts of W1 or W2, at any size; none for others."""
    kind = workload.split()[0]
    return COUNTS[kind](problem) if kind in COUNTS else ()


def work_table(problems: Mapping[str, Any], rates: Mapping[str, Any]) -> pd.DataFrame:
    """What is counted, how fast this machine does it, and the nanoseconds that makes a unit."""
    rows = []
    for name, problem in problems.items():
        work = work_of(name, problem)
        for item in work:
            row = {"workload": name, "kind": item.kind, "a unit": item.number}
            row |= {"G/s here": rates[item.kind] / 1e9}
            rows.append({**row, "ns": 1e9 * item.number / rates[item.kind], "what for": item.why})
    return pd.DataFrame(rows)


def limit(busy: float, launching: float, arithmetic: float, memory: float) -> str:
    """What a program is limited by, in words, from shares of its wall time.

    `busy`: its device computes. `launching`: launches x the time of an empty one; NaN: not counted.
    `arithmetic`, `memory`: of the roofline. A busy device far below both rooflines does more work
    than is counted, or has too few lanes at a time to fill its units.
    """
    if np.isnan(busy):
        return "not traced"
    if busy < HALF:
        return "launches" if launching >= HALF * (1 - busy) else "host, idle cores"
    share = np.nan_to_num([arithmetic, memory]) / min(busy, 1)
    if share.max() < HALF:
        return "work beyond the count"
    return ("arithmetic", "memory")[int(share.argmax())]
