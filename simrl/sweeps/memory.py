"""Whether a condition fits in memory: an estimate from its sizes, made before anything is compiled.

What is counted is the least that every path holds at once: the logits of a stored block of seeds,
and, of those that are trained together, the logits before and after an update and a word for each
symbol that is drawn. Runs take up to twice as much (256 seeds of 40,000 symbols: 1.5 and 1.9 times
that on the plain and the fused path). More than the machine has cannot be run, and trying would end
the process.
"""

import os
from typing import Any

from simrl.engine import lanes, pool
from simrl.sweeps.owned import Own
from simrl.types import Shape

COPIES = 2  # of the logits: before and after an update
MOST_SYMBOLS = 2**31 - 1  # their numbers are int32
UNKNOWN = 2**40  # bytes, where the system does not say how much memory there is


def problems(spec: Any, path: str | None = None) -> list[str]:
    """One line if a block of seeds cannot fit in memory.

    `path`: how the loop goes, if it is known (`checks.path`); without it, of unchecked fields, only
    what no path could do is refused.
    """
    num_prompts, length, vocab_size = _shape_of(spec.environment, path)
    if vocab_size > MOST_SYMBOLS:
        return [
            f"environment: there may be at most {MOST_SYMBOLS} symbols or arms, not {vocab_size}"
        ]
    lumped = spec.engine in ("jump", "auto") if path is None else path == "jump, lumped"
    symbols = 1 if lumped and length == 1 else vocab_size
    words = _guesses(spec.learner) * length
    width = lanes.FUSED_WIDTHS[0] if path == "fused" else lanes.WIDTHS[0]
    logits = num_prompts * length * symbols
    needed = 4 * ((pool.MIN_SEEDS + COPIES * width) * logits + width * words)
    there = machine_bytes()
    if needed <= there:
        return []
    sizes = f"{num_prompts} prompts x {length} positions x {symbols} symbols, {words} symbols drawn"
    return [
        f"a block of {pool.MIN_SEEDS} seeds needs at least {in_words(needed)} ({sizes}), and this "
        f"machine has {in_words(there)}: make the world or the update smaller"
    ]


def machine_bytes() -> int:
    """Memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on every system
        return UNKNOWN


def _shape_of(environment: Any, path: str | None) -> Shape:
    if path is not None:
        return environment.build().shape
    if isinstance(environment, Own):
        return Shape(1, 1, 2)  # known once it is made
    prompts = getattr(environment, "num_prompts", getattr(environment, "num_contexts", 1))
    symbols = getattr(environment, "vocab_size", getattr(environment, "num_arms", 2))
    return Shape(prompts, getattr(environment, "length", 1), symbols)


def _guesses(learner: Any) -> int:
    """Answers or labels drawn in one update."""
    size = getattr(learner, "group_size", getattr(learner, "batch_size", 1))
    return size * getattr(learner, "max_groups", getattr(learner, "num_groups", 1))


def in_words(num_bytes: int) -> str:
    """Returns a number of bytes, of any size, in GiB."""
    return f"{min(num_bytes, 2**1000) / 2**30:.3g} GiB"
