"""Plain JAX: one seed's code under vmap; scan, split, categorical, grad, optax."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, random

from experiments.peers.problems import HALF, Curves, Guessing, OneToken, TenArmed


class Sampler(NamedTuple):
    """How answers are drawn: `draw` once for a stretch of updates, `choose` at each of them."""

    draw: Callable[[Array, int], Array]  # key, steps -> what each step is given [steps, ...]
    choose: Callable[[Array, Array, int], Array]  # that, logits [..., V], B -> answers [B, ...]


def categorical(key: Array, logits: Array, size: int) -> Array:
    """`size` choices from each row of logits, by jax.random: one Gumbel for every symbol."""
    return random.categorical(key, logits, shape=(size, *logits.shape[:-1]))


PLAIN = Sampler(random.split, categorical)


def loss(logits: Array, answers: Array, weights: Array) -> Array:
    """Weighted negative log-likelihood: summed over positions, averaged over the batch."""
    log_probs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probs[None], answers[..., None], axis=-1)[..., 0]
    return -jnp.sum(weights * chosen) / answers.shape[0]


class Pulls(NamedTuple):
    """One run of the testbed."""

    logits: Array  # [K]
    opt_state: optax.OptState
    mean_reward: Array  # []
    num_rewards: Array  # []


@partial(jax.jit, static_argnames=("steps", "sampler"))
def pull(
    state: Pulls,
    means: Array,
    keys: Array,
    rates: Array,
    baselines: Array,
    steps: int,
    sampler: Sampler,
) -> tuple[Pulls, Array, Array]:
    """`steps` pulls of every run [N] in every condition [C]; then its pass rate and reward."""

    def one(state: Pulls, means: Array, key: Array, rate: Array, baseline: Array) -> tuple:
        key_arms, key_noise = random.split(key)
        drawn = sampler.draw(key_arms, steps), random.normal(key_noise, (steps, 1))

        def step(state: Pulls, drawn: tuple[Array, Array]) -> tuple[Pulls, None]:
            arm = sampler.choose(drawn[0], state.logits, 1)
            reward = means[arm] + drawn[1]
            earlier = jnp.where(state.num_rewards == 0, reward[0], state.mean_reward)
            grads = jax.grad(loss)(state.logits, arm, reward - baseline * earlier)
            updates, opt_state = optax.sgd(rate).update(grads, state.opt_state)
            logits = optax.apply_updates(state.logits, updates)
            count = state.num_rewards + 1
            mean = state.mean_reward + (reward[0] - state.mean_reward) / count
            return Pulls(logits, opt_state, mean, count), None

        state, _ = jax.lax.scan(step, state, drawn)
        probs = jax.nn.softmax(state.logits)
        return state, probs[jnp.argmax(means)], probs @ means

    over_runs = jax.vmap(one, (0, 0, 0, None, None))
    return jax.vmap(over_runs, (0, 0, 0, 0, 0))(state, means, keys, rates, baselines)


def ten_armed(problem: TenArmed, seed: int, sampler: Sampler = PLAIN) -> Curves:
    """Every condition has runs of its own."""
    rates, baselines = problem.conditions()
    size = (len(rates), problem.runs)
    key, key_means = random.split(random.key(seed))
    means = random.normal(key_means, (*size, problem.num_arms))
    logits = jnp.zeros_like(means)
    state = Pulls(logits, optax.sgd(1.0).init(logits), jnp.zeros(size), jnp.zeros(size))
    looks = []
    for key_look in random.split(key, problem.looks):
        keys = random.split(key_look, size)
        state, *look = pull(state, means, keys, rates, baselines, problem.steps, sampler)
        looks.append(look)
    return Curves(*(np.stack(values, axis=-1) for values in zip(*looks, strict=True)))


@partial(jax.jit, static_argnames=("batch", "steps", "sampler"))
def guess(
    logits: Array,
    secrets: Array,
    keys: Array,
    rate: float,
    batch: int,
    steps: int,
    sampler: Sampler,
) -> tuple[Array, Array, Array]:
    """`steps` updates of every seed; then its pass rate and reward."""
    optimizer = optax.sgd(rate)

    def one(logits: Array, secret: Array, key: Array) -> tuple[Array, Array, Array]:
        def step(carry: tuple, drawn: Array) -> tuple[tuple, None]:
            logits, opt_state = carry
            answers = sampler.choose(drawn, logits, batch)
            rewards = (answers == secret).astype(logits.dtype)
            grads = jax.grad(loss)(logits, answers, rewards - jnp.mean(rewards, axis=0))
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(logits, updates), opt_state), None

        carry = (logits, optimizer.init(logits))
        (logits, _), _ = jax.lax.scan(step, carry, sampler.draw(key, steps))
        right = jax.nn.softmax(logits)[jnp.arange(len(secret)), secret]
        return logits, jnp.prod(right), jnp.mean(right)

    return jax.vmap(one)(logits, secrets, keys)


def guessing(problem: Guessing, seed: int, sampler: Sampler = PLAIN) -> Curves:
    """Every seed has a secret of its own."""
    key, key_secret = random.split(random.key(seed))
    shape = (problem.seeds, problem.length)
    secrets = random.randint(key_secret, shape, 0, problem.vocab_size)
    logits, looks = jnp.zeros((*shape, problem.vocab_size)), []
    chosen = problem.rate, problem.batch, problem.steps, sampler
    for key_look in random.split(key, problem.looks):
        keys = random.split(key_look, problem.seeds)
        logits, *look = guess(logits, secrets, keys, *chosen)
        looks.append(look)
    return Curves(*(np.stack(values, axis=-1)[None] for values in zip(*looks, strict=True)))


def group_weights(rewards: Array) -> Array:
    """GRPO: (r - mean) / std; a group of equal rewards weighs nothing."""
    spread = jnp.std(rewards)
    return jnp.where(
        spread > 0, (rewards - jnp.mean(rewards)) / jnp.where(spread > 0, spread, 1), 0
    )


@partial(jax.jit, static_argnames=("group", "steps", "sampler"))
def try_token(
    logits: Array,
    guesses: Array,
    keys: Array,
    rate: float,
    group: int,
    steps: int,
    sampler: Sampler,
) -> tuple[Array, Array, Array]:
    """`steps` groups of guesses of every seed that is not there yet; then its pass rate."""
    optimizer = optax.sgd(rate)

    def one(logits: Array, guesses: Array, key: Array) -> tuple[Array, Array, Array]:
        def step(carry: tuple, drawn: Array) -> tuple[tuple, None]:
            logits, opt_state, guesses = carry
            there = jax.nn.softmax(logits)[0] >= HALF
            answers = sampler.choose(drawn, logits, group)
            rewards = (answers == 0).astype(logits.dtype)
            weights = rewards if group == 1 else group_weights(rewards)
            grads = jax.grad(loss)(logits, answers, weights)
            updates, opt_state = optimizer.update(grads, opt_state)
            moved = optax.apply_updates(logits, updates)
            guesses = guesses + jnp.where(there, 0, group)
            return (jnp.where(there, logits, moved), opt_state, guesses), None

        carry = (logits, optimizer.init(logits), guesses)
        (logits, _, guesses), _ = jax.lax.scan(step, carry, sampler.draw(key, steps))
        return logits, guesses, jax.nn.softmax(logits)[0]

    return jax.vmap(one)(logits, guesses, keys)


def one_token(problem: OneToken, seed: int, sampler: Sampler = PLAIN) -> Curves:
    """Every guess is sampled."""
    logits = jnp.zeros((problem.seeds, problem.vocab_size))
    guesses, looks = jnp.zeros(problem.seeds, jnp.int32), []
    chosen = problem.rate, problem.group, problem.steps, sampler
    for number in problem.stretches():
        keys = random.split(random.fold_in(random.key(seed), number), problem.seeds)
        logits, guesses, pass_rate = try_token(logits, guesses, keys, *chosen)
        looks.append(np.asarray(pass_rate))
        if looks[-1].min() >= HALF:
            break
    found = np.stack(looks, axis=-1)[None]
    return Curves(found, found, np.where(found[0, :, -1] >= HALF, guesses, np.nan))
