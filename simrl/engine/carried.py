"""What the updates of a stretch are given and carry from one to the next, of many seeds at once.

Leaves [..., N], the lanes on the last axis.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from simrl import keys
from simrl.columns import Fence, Law
from simrl.engine.train import Plan, Rules
from simrl.measures.right_answers import Right
from simrl.types import Array, State, Trial


class About(NamedTuple):
    """What the loop is given of N seeds: leaves [..., N]."""

    spec: Any
    rules: Rules
    halves: keys.Streams  # of the keys, two words each
    task: Any
    truth: Array  # [M, L, N]: the first of several right answers
    right: Array | None  # [M, A, L, N]: all of them; None: there is one
    laws: Array  # [M, L, V, N] of the labels
    at: Array  # [M, N] int32: the phases in which the stretch began
    end: Array  # [N] int32: where it ends at the latest


class Reached(NamedTuple):
    """When a lane first reached each threshold in this stretch."""

    step: Array  # [H, N] int32, -1: not yet
    time: Array  # [H, N]
    dead: Array  # [H, N] uint32: trajectories without gradient since the stretch began
    visits: Array  # [H, N] uint32: groups since then; [0, N] where updates are charged alike
    spared: Array  # [H, N] uint32: of what not all is charged, since then; [0, N] likewise


class Memo(NamedTuple):
    """What follows from the state, but is not computed twice: another program would round anew."""

    law: Law  # its logits, which are in the state, are empty
    mean: Array  # [N]: log-odds of the mean pass rate; [0] where there is one prompt, whose it is


class Lanes(NamedTuple):
    """What the loop carries of N seeds."""

    state: State  # leaves [..., N]
    memo: Memo
    step: Array  # [N] int32
    odds: Array  # [M, N]
    visits: Array  # [M, N] uint32: groups since the stretch began; [0, N] where that is known
    dead: Array  # [M, N] uint32: trajectories without gradient since then
    spared: Array  # [M, N] uint32: of what not all is charged; [0, N] where that is of nothing
    heard: dict[str, Array]  # [M, N] each: since the stretch began
    reached: Reached
    going: Array  # [N] bool: neither at the end nor at the stop, and in its phase


class Fixed(NamedTuple):
    """What the loop reads."""

    about: About
    trial: Trial  # its numbers are [N]
    plan: Plan
    streams: keys.Columns
    fence: Fence
    told: Callable  # what an update is told besides rewards: `Fused.told` of N lanes
    regret: Callable  # `asked.regret_at` of N lanes
    right: Right | None  # None: one answer is right

    @property
    def num_prompts(self) -> int:
        """M."""
        return self.about.truth.shape[0]

    @property
    def num_groups(self) -> int:
        """G."""
        learner = self.trial.learner.fused
        assert learner is not None
        # For its shape alone: a kernel would have to know all that is computed.
        return len(jax.eval_shape(learner.charge).prompts)

    @property
    def group_size(self) -> int:
        """B."""
        learner = self.trial.learner.fused
        assert learner is not None
        return jax.eval_shape(learner.charge).success.shape[1]
