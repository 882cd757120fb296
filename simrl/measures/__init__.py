"""What simrl measures, usable alone: arrays in, arrays out, under jit and vmap."""

from simrl.measures import (
    best_arm,
    duels,
    feedback,
    flops,
    gradients,
    guesses,
    information,
    listed,
    phases,
    regret,
)

__all__ = [
    "best_arm",
    "duels",
    "feedback",
    "flops",
    "gradients",
    "guesses",
    "information",
    "listed",
    "phases",
    "regret",
]
