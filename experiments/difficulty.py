"""Keeping success likely: curricula, dynamic sampling, hints, self-play, distillation.

Claim (Patel 2025): a right/wrong reward teaches nothing while the pass rate is small, so what helps
is to keep it near one half: prompts chosen by difficulty, dead groups drawn again, starts close to
the goal, opponents as good as oneself. Measured here by samples and FLOPs to a pass rate of .9
against plain policy gradient: where one long answer is asked for, told right or wrong or by its
right beginning, and where prompts are of graded difficulty. On-policy distillation, which is told
the teacher's law at every symbol of its own answers, says what a denser signal would do.
"""

from typing import Any

from experiments import command, difficulty_duels, remedies
from experiments.remedies import EXACT, LEAVE_ONE_OUT, PLAIN, PREFIX, Remedy

BATCH, GROUP = 32, 8  # guesses of an update; to each of 4 prompts where there are several
GRADED = "graded prompts"
# A prompt tells 3, 2, 1 or none of 4 symbols: pass rates from 1/6 to 1/1,296 at the start.
TASKS: dict[str, dict[str, Any]] = {
    EXACT: {"environment.reward": "exact"},
    PREFIX: {"environment.reward": "prefix"},
    GRADED: {"environment.num_prompts": 8, "environment.revealed": (3, 3, 2, 2, 1, 1, 0, 0)},
}
# By estimated or by exact pass rates; the share of prompts that are sampled uniformly.
BANDS = (
    ("estimated p, 10 % uniform", "band", 0.1),
    ("estimated p, 50 % uniform", "band", 0.5),
    ("exact p, 10 % uniform", "oracle_band", 0.1),
)


def drawn(task: str, most: int = 1) -> dict[str, int]:
    """Groups and guesses of an update; with `most` above 1 that many times the groups at most."""
    groups = BATCH // GROUP if task == GRADED else 1
    sizes = {"group_size": BATCH // groups, "num_groups": groups}
    return {**sizes, "max_groups": most * groups} if most > 1 else sizes


def learners(task: str) -> dict[str, dict[str, Any]]:
    """What is done instead of the plain thing, by name."""
    filtered = {"name": "filtered_policy_gradient", "advantage": "leave_one_out"}
    made: dict[str, dict[str, Any]] = {PLAIN: {**LEAVE_ONE_OUT, **drawn(task)}}
    if task == GRADED:
        for name, curriculum, floor in BANDS:
            chosen = {"name": curriculum, "floor": floor}
            made[f"curriculum p(1−p), {name}"] = {**made[PLAIN], "curriculum": chosen}
    made["dynamic sampling"] = {**filtered, **drawn(task, most=4)}
    if task != PREFIX:
        for hint in (0.5, 0.9):
            replay = {"name": "prefix_replay", "hint": hint, **drawn(task)}
            made[f"prefix hints, {100 * hint:.0f} % of answers"] = replay
    made["self-play (duels)"] = {"name": "self_play", **drawn(task)}
    return made


def listed() -> list[Remedy]:
    """Every remedy of every task."""
    made = []
    for task, world in TASKS.items():
        for name, learner in learners(task).items():
            made.append(Remedy(task, name, {**world, "learner": learner}, BATCH))
        # A second answer to a prompt is told what the first was.
        teacher = {"name": "distillation", "group_size": 1, "num_groups": 1}
        made.append(Remedy(task, "on-policy distillation", {**world, "learner": teacher}, 1))
    return made


SWEEP = remedies.sweep("difficulty", listed())


def main() -> None:
    """Run what is missing, print the tables, draw the figure."""
    remedies.run(SWEEP, __doc__ or "", difficulty_duels.show)


if __name__ == "__main__":
    command.guarded(main)
