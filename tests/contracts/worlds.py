"""The registered things, small: what every contract runs over."""

import jax
import numpy as np

from simrl import keys
from simrl.environments import bandit, sequence
from simrl.sweeps import spec as specs

SMALL = {
    "bandit": [specs.resolve("environment", {"name": "bandit", "kind": kind, "num_arms": 3})
               for kind in bandit.KINDS],
    "sequence": [
        specs.resolve(
            "environment",
            {
                "name": "sequence",
                "vocab_size": 3 if labels == "fixed" else 2,
                "length": 2,
                "reward": reward,
                "labels": labels,
            },
        )
        for labels in sequence.LABELS
        for reward in sequence.REWARDS
    ],
}  # fmt: skip
NOT_NAMED = ("verifier", "frequencies")
# A world that is registered and not listed above is met as it comes; verifiers that err are met in
# test_verifiers.
WORLDS = {
    "-".join(
        [name, *(v for k, v in vars(world).items() if isinstance(v, str) and k not in NOT_NAMED)]
    ): world
    for name, kind in specs.ENVIRONMENTS.items()
    for world in SMALL.get(name, [kind()])
}
POLICIES = {name: kind() for name, kind in specs.POLICIES.items()}


def streams(seed, step=0):
    return keys.at_step(keys.streams(jax.random.key(11), seed), step)


def learner_spec(name, advantage="none", **changes):
    """A registered learner with small batches."""
    sizes = {"supervised": {"batch_size": 2}, "policy_gradient": {"group_size": 2}}
    sizes["filtered_policy_gradient"] = {"group_size": 2, "max_groups": 1}
    sizes |= {"prefix_replay": {"group_size": 2}, "self_play": {"group_size": 2}}
    value = {"name": name, **sizes.get(name, {}), **changes}
    if name == "policy_gradient":
        one = advantage == "pass_at_k_leave_one_out"  # of a group of 2, k can only be 1
        value["advantage"] = {"name": advantage, "k": 1} if one else advantage
    return specs.resolve("learner", value)


def build(world, learner, policy=None):
    """(environment, policy, learner) from specs."""
    return specs.build((world, policy or POLICIES["tabular"], learner))


def some_logits(shape, scale=1.0, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=tuple(shape)) * scale)
