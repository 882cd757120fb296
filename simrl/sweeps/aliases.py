"""Names that the field uses for what simrl has under another name, and what is nearest to others.

An alias is the same thing, so that it enters the hash of what is stored as that; Dr. GRPO (Liu et
al. 2025) drops the division by the standard deviation of GRPO and leaves `batch_mean`.
"""

from collections.abc import Iterable
from typing import Any

from simrl.errors import meant

ALIASES: dict[str, dict[str, Any]] = {
    "advantage": {
        "grpo": "group_normalised",
        "rloo": "leave_one_out",
        "reinforce": "none",
        "dr_grpo": "batch_mean",
    },
    "learner": {
        "ppo": {"name": "policy_gradient", "surrogate": "ppo"},
        "grpo": {"name": "policy_gradient", "advantage": "group_normalised"},
        "rloo": {"name": "policy_gradient", "advantage": "leave_one_out"},
        "reinforce": {"name": "policy_gradient", "advantage": "none"},
        "dr_grpo": {"name": "policy_gradient", "advantage": "batch_mean"},
        "a2c": "actor_critic",
        "sft": "supervised",
        "thompson_sampling": "thompson",
        "ucb": "ucb1",
    },
    "surrogate": {"reinforce": "score", "natural_gradient": "natural"},
}  # by family: a name, or a dict as `resolve` takes it
_SUCCESSES = "advantage maxrl, the mean score of a group's right answers, not of its best alone"
NEAREST = {
    "best_of_n": _SUCCESSES,
    "expert_iteration": _SUCCESSES,
    "raft": _SUCCESSES,
    "rejection_sampling": _SUCCESSES,
    "dapo": "learner filtered_policy_gradient, which draws groups without signal again",
    "dpo": "learner self_play, which learns from comparisons of its own answers",
    "gae": "learner actor_critic, with its trace_decay",
    "reinforce++": "advantage running_mean, which normalises nothing",
}  # what is not simrl's under any name -> what is the most like it


def without_alias(family: str, value: dict[str, Any]) -> dict[str, Any]:
    """Returns a dict with a `name` with simrl's name, and what else the alias stands for."""
    known = ALIASES.get(family, {}).get(value["name"])
    if known is None:
        return value
    rest = {key: item for key, item in value.items() if key != "name"}
    return {**({"name": known} if isinstance(known, str) else known), **rest}


def hint(family: str, name: str, known: Iterable[str]) -> str:
    """Returns what is nearest to a name that a family does not have, or nothing."""
    near = NEAREST.get(name)
    names = dict.fromkeys([*known, *ALIASES.get(family, ())])
    return f"; nearest is {near}" if near else meant(name, names)
