"""simrl itself, through its public names alone, as lean as a spec can ask for.

One phase, one stretch between two looks, the fewest redraws: what is left is measured always.
`beliefs` keeps the policies, from which the expected reward is had; timed runs do without.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import simrl
from experiments.peers.problems import HALF, Curves, Guessing, OneToken, TenArmed


def lean(environment: Any, learner: Any, problem: Any, **changes: Any) -> simrl.Spec:
    """A spec that looks when the peers do and measures as little as it can."""
    updates = problem.steps * problem.looks
    chosen = {
        "max_steps": updates,
        "stop_pass_rate": 1.0,
        "log_points": problem.looks,
        "log_spacing": "linear",
        "observe_every": problem.steps,
        "phases": simrl.Phases(num=1),
        "thresholds": (HALF,),
        "num_redraws": 3,
    }
    return simrl.Spec(environment, learner, **{**chosen, **changes})


def sgd(rate: float) -> simrl.Optimizer:
    """Plain SGD."""
    return simrl.Optimizer("sgd", {"learning_rate": rate})


def ten_armed_sweep(problem: TenArmed, seed: int, **changes: Any) -> simrl.Sweep:
    """The conditions, in the order of `TenArmed.conditions`."""
    world = simrl.Bandit("gaussian", problem.num_arms)
    learner = simrl.PolicyGradient("running_mean", group_size=1)
    spec = lean(world, learner, problem, base_seed=seed, **changes)
    axes = {
        "learner.advantage": ["running_mean" if b else "none" for b in problem.baselines],
        "learner.optimizer.learning_rate": list(problem.rates),
    }
    return simrl.Sweep(spec, axes)


def ten_armed(problem: TenArmed, seed: int, beliefs: bool = False) -> Curves:
    """Conditions share their runs' tasks and noise."""
    sweep = ten_armed_sweep(problem, seed, keep_beliefs=beliefs)
    data = simrl.run(sweep, problem.runs)
    axes = ("advantage", "learning_rate")
    pass_rate = data["pass_rate"].transpose(*axes, "seed", "log_point").values
    pass_rate = pass_rate.reshape(-1, *pass_rate.shape[2:])
    if not beliefs:
        return _looks(pass_rate)
    world = sweep.spec.environment.build()
    means = jax.vmap(world.init)(_task_keys(seed, problem.runs))
    belief = data["belief"].transpose(*axes, "seed", "log_point", ...).values
    probs = np.exp(belief[..., 0, 0, :]).reshape(*pass_rate.shape, -1)
    return _looks(pass_rate, np.einsum("cntk,nk->cnt", probs, means))


def guessing(problem: Guessing, seed: int, beliefs: bool = False) -> Curves:
    """One condition."""
    world = simrl.Sequence(problem.vocab_size, problem.length, "token")
    learner = simrl.PolicyGradient("batch_mean", problem.batch, 1, sgd(problem.rate))
    spec = lean(world, learner, problem, base_seed=seed, keep_beliefs=beliefs)
    data = simrl.run(spec, problem.seeds).isel(cell=0)
    pass_rate = data["pass_rate"].transpose("seed", "log_point").values[None]
    if not beliefs:
        return _looks(pass_rate)
    made = world.build()
    secrets = jax.vmap(made.init)(_task_keys(seed, problem.seeds))
    laws = jax.vmap(lambda task: made.target(task, jnp.int32(0)))(secrets)
    belief = data["belief"].transpose("seed", "log_point", ...).values[..., 0, :, :]
    right = np.einsum("ntlv,nlv->ntl", np.exp(belief), laws)
    return _looks(pass_rate, right.mean(axis=-1)[None])


def one_token(problem: OneToken, seed: int) -> Curves:
    """To a pass rate of 1/2, by the engine that simrl chooses: it jumps where success is rare."""
    world = simrl.Bandit("one_right", problem.vocab_size)
    advantage = "none" if problem.group == 1 else "group_normalised"
    learner = simrl.PolicyGradient(advantage, problem.group, 1, sgd(problem.rate))
    changes = {"stop_pass_rate": HALF, "max_steps": 2**30, "log_points": 1, "engine": "auto"}
    spec = lean(world, learner, problem._replace(looks=1), base_seed=seed, **changes)
    data = simrl.run(spec, problem.seeds).isel(cell=0)
    pass_rate = data["pass_rate"].transpose("seed", "log_point").values[None, :, 1:]
    return Curves(pass_rate, pass_rate, data["hit_samples"].values[:, 0])


def _looks(pass_rate: np.ndarray, reward: np.ndarray | None = None) -> Curves:
    """Curves without the look at the start, which the peers do not take."""
    missing = np.full(pass_rate.shape, np.nan)
    reward = missing if reward is None else reward
    return Curves(pass_rate[..., 1:], reward[..., 1:])


def _task_keys(seed: int, num: int) -> jax.Array:
    """The key that each seed draws its task from."""
    base = jax.random.key(seed)
    return jax.vmap(lambda i: simrl.keys.streams(base, i).task)(jnp.arange(num))
