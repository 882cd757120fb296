"""The registered things, small: what every contract runs over."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

import simrl
from simrl import keys
from simrl.environments import bandit, sequence
from simrl.sweeps import spec as specs


def a_bandit(kind, num_arms):
    """A bandit of any kind; the arms of a given one are some thirds, the last but one the best."""
    rewards = np.roll(np.arange(num_arms), -1) / 3 if kind == "given" else ()
    return simrl.Bandit(kind, num_arms, rewards=tuple(rewards.tolist() if len(rewards) else ()))


SMALL = {
    "bandit": [a_bandit(kind, 3) for kind in bandit.KINDS],
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
COUNTING = ("thompson", "ucb1")  # learners without a gradient, for bandits with means to learn
POLICIES = {name: kind() for name, kind in specs.POLICIES.items()}

words_of = jax.jit(keys.words, static_argnums=1)


@jax.jit
def streams(seed, step=0):
    return keys.at_step(keys.streams(jax.random.key(11), seed), step)


def begun(trial, key=None):
    """A trial's task, by its own stream or a key, and first state; one program for dozens."""
    now = streams(0)
    begin = jax.jit(lambda now, key: (trial.environment.init(key), trial.learner.init(now)))
    return begin(now, now.task if key is None else key)


def drawn(environment, key, told="target"):
    """A task, and what a function of the environment tells of each prompt [M, ...].

    One program, where step by step it is dozens.
    """

    @jax.jit
    def draw(key):
        task, prompts = environment.init(key), jnp.arange(environment.shape.num_prompts)
        return task, jax.vmap(getattr(environment, told), (None, 0))(task, prompts)

    return draw(key)


@cache
def _drawn(world):
    return drawn(WORLDS[world].build(), jax.random.key(3))


def task_of(world):
    """The task of a named world."""
    return _drawn(world)[0]


def laws_of(world):
    """[M, L, V]: the law of the label at each prompt of the task of a named world."""
    return np.asarray(_drawn(world)[1])


def learner_spec(name, advantage="none", **changes):
    """A registered learner with small batches, at a rate of 1: changes of params are gradients."""
    size = {"supervised": "batch_size", "exact_gradient": ""}.get(name, "group_size")
    value = {"name": name, **({size: 2} if size else {}), **changes}
    if "optimizer" in specs.LEARNERS[name].__dataclass_fields__:
        value.setdefault("optimizer", simrl.Optimizer())
    if name == "filtered_policy_gradient":
        value["max_groups"] = 1
    if name == "policy_gradient":
        one = advantage == "pass_at_k_leave_one_out"  # of a group of 2, k can only be 1
        value["advantage"] = {"name": advantage, "k": 1} if one else advantage
    return specs.resolve("learner", value)


def build(world, learner, policy=None):
    """(environment, policy, learner) from specs."""
    return specs.build((world, policy or POLICIES["tabular"], learner))


def some_logits(shape, scale=1.0, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=tuple(shape)) * scale)
