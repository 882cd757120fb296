"""Baselines of an oracle, the natural and the exact gradient, against listing every sample."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import simrl
from simrl import keys
from simrl.learners import oracles
from simrl.sweeps import spec as specs
from tests.contracts.worlds import build, some_logits, streams
from tests.oracles import enumeration as oracle

OFFSET = 0.25
WORLDS = {
    "given": simrl.Bandit("given", 3, rewards=(1.0, 0.7, 0.0), noise=0.5),
    "token": simrl.Sequence(3, 2, "token"),
    "prefix": simrl.Sequence(2, 2, "prefix"),
}


@cache
def setting(name):
    """Environment, task, logits [1, L, V], their probabilities in float64, and every sample."""
    environment = WORLDS[name].build()
    task = jax.jit(environment.init)(jax.random.key(3))
    logits = some_logits(environment.shape)
    probs = np.exp(np.float64(logits[0]))
    probs /= probs.sum(axis=-1, keepdims=True)
    if name == "given":
        samples = oracle.bandit_samples(probs[0], np.array([1.0, 0.7, 0.0]), np.full(3, 0.25))
    else:
        samples = oracle.sequence_samples(probs, np.asarray(task.answers)[0], name)
    return environment, task, logits, probs, samples


def baselines(samples, rule, by_position):
    """[L], by listing: E r |s|^2 / E |s|^2 or E r, of each position or of the whole answer.

    Of the natural gradient s is by the pseudo-inverse of the Fisher information.
    """
    score = samples.score
    if rule == oracles.NATURAL:
        fisher = np.einsum("n,nlv,nlw->lvw", samples.weight, score, score)
        score = np.einsum("lvw,nlw->nlv", np.linalg.pinv(fisher, rcond=1e-9), score)
    squares = (score**2).sum(axis=2)  # [N, L]
    credit = samples.credit
    if not by_position:
        squares = np.repeat(squares.sum(axis=1, keepdims=True), squares.shape[1], axis=1)
    if rule == "expected_reward":
        squares = np.ones_like(squares)
    weighted = samples.weight[:, None] * squares
    return (weighted * credit).sum(axis=0) / weighted.sum(axis=0)


MET = [(n, r) for n in WORLDS for r in oracles.RULES if (n, r) != ("prefix", oracles.NATURAL)]


@pytest.mark.parametrize(("name", "rule"), MET)
def test_weights_and_moments_are_those_of_every_sample(name, rule):
    _, task, logits, probs, samples = setting(name)
    spec = simrl.PolicyGradient(simrl.Oracle(rule, OFFSET), group_size=4)
    learner = build(WORLDS[name], spec).learner

    @jax.jit
    def update(logits, task):
        state, now = learner.init(streams(0))._replace(params=logits), streams(1)
        info, noise = learner.step(now, state, task)[1], keys.words(now.reward, (4, 1))
        moments = learner.moments(state, task)
        return moments, info.answers[0], learner.estimate(now, state, task)[0], keys.normal(noise)

    (trace, squared_norm), answers, found, noise = jax.device_get(update(logits, task))
    baseline = baselines(samples, rule, name == "token")
    centred = samples._replace(credit=samples.credit - baseline - OFFSET)
    truth = oracle.batch_truth(centred, 1, "none")
    np.testing.assert_allclose(4 * trace, truth.trace_covariance, rtol=1e-5)
    np.testing.assert_allclose(squared_norm, truth.squared_norm, rtol=1e-5)
    if name == "given":  # its noise is drawn from the stream of rewards
        credit = np.array([1.0, 0.7, 0.0])[answers] + 0.5 * noise
    else:
        target = np.asarray(task.answers)[0]
        credit = np.array([oracle.credit(answer, target, name) for answer in answers])
    weights = credit - baseline - OFFSET
    scores = np.array([oracle.score(probs, answer) for answer in answers])
    wanted = (weights[..., None] * scores).mean(axis=0)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_no_other_baseline_has_less_variance():
    _, task, logits, _, _ = setting("given")

    def trace(advantage):
        learner = build(WORLDS["given"], simrl.PolicyGradient(advantage, group_size=1)).learner
        state = learner.init(streams(0))._replace(params=jnp.asarray(logits))
        return learner.moments(state, task)[0]

    @jax.jit
    def both(offsets):
        least = jax.vmap(lambda x: trace(simrl.Oracle("minimum_variance", x)))
        return least(offsets), trace(simrl.Oracle("expected_reward"))

    traces, other = jax.device_get(both(jnp.linspace(-0.2, 0.2, 41)))
    assert np.argmin(traces) == 20
    assert other > traces[20]


@pytest.mark.parametrize(
    ("surrogate", "rule", "digits"),
    [
        ("score", "minimum_variance", 0.8996),
        ("natural", "minimum_variance", 0.7434),
        ("natural", "score_minimum_variance", 0.8996),
        ("score", "natural_minimum_variance", 0.7434),
    ],
)
def test_the_least_variance_is_of_the_estimator_in_use(surrogate, rule, digits):
    """Against the variance of every arm's direction, minimised numerically."""
    probs, rewards = np.array([0.05, 0.01, 0.94]), np.array([1.0, 0.7, 0.0])
    directions = {
        "score": np.eye(3) - probs,
        "natural": (np.eye(3) - 1 / 3) / probs[:, None],
    }
    of = (
        "natural"
        if rule == oracles.NATURAL
        else surrogate
        if rule == "minimum_variance"
        else "score"
    )

    def trace(baseline):
        moves = (rewards - baseline)[:, None] * directions[of]
        return probs @ (moves**2).sum(1) - ((probs @ moves) ** 2).sum()

    wanted = optimize.minimize_scalar(trace, bracket=(0, 1)).x
    world = simrl.Bandit("given", 3, rewards=(1.0, 0.7, 0.0), noise=0.0)
    spec = simrl.PolicyGradient(
        simrl.Oracle(rule), 1, surrogate=surrogate, optimizer=simrl.Optimizer("sgd")
    )
    learner = build(world, specs.resolved(simrl.Spec(world, spec)).learner).learner
    params = np.log(probs)[None, None].astype(np.float32)

    @jax.jit
    def update(now):
        state, task = learner.init(now)._replace(params=params), world.build().init(now.task)
        after, info = learner.step(now, state, task)
        return after.params, info.answers

    after, answers = jax.device_get(update(streams(1)))
    arm = answers.item()
    move = np.float64(after - params).ravel()
    push = move[arm] / directions[surrogate][arm, arm]
    assert np.isclose(rewards[arm] - push, wanted, atol=1e-4)
    assert abs(wanted - digits) < 1e-4


def test_a_policy_that_is_sure_has_a_baseline():
    world = WORLDS["given"]
    for rule in oracles.RULES:
        learner = build(world, simrl.PolicyGradient(simrl.Oracle(rule), group_size=2)).learner
        sure = np.float32([[[400.0, 0.0, 0.0]]])

        @jax.jit
        def update(now, params, learner=learner):
            state, task = learner.init(now)._replace(params=params), world.build().init(now.task)
            return learner.step(now, state, task)[0].params, learner.moments(state, task)

        after, moments = update(streams(0), sure)
        np.testing.assert_array_equal(after, sure)
        assert np.isfinite(moments).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"learner": {"name": "policy_gradient", "advantage": "minimum_variance"}},
        {"learner": "exact_gradient"},
    ],
)
def test_worlds_without_a_law_of_rewards_are_refused(changes):
    environment = simrl.Bandit("gaussian", 3).build()._replace(reward_law=None)
    spec = specs.resolved(simrl.Spec(environment=environment, **changes))
    with pytest.raises(simrl.SpecError, match="a tabular policy"):
        specs.validate(spec)


def pseudo_inverse(probs):
    """Of the Fisher information of each row of logits [L, V], block by block."""
    return [np.linalg.pinv(np.diag(row) - np.outer(row, row)) for row in probs]


def test_natural_gradient_is_the_inverse_fisher_information_times_the_gradient():
    """Two prompts, of which each is drawn half of the time: 1/M of the gradient and of Fisher."""
    world = simrl.Sequence(3, 2, "token", num_prompts=2)
    environment = world.build()
    spec = simrl.PolicyGradient("leave_one_out", 8, 3, simrl.Optimizer())
    spec = specs.put(specs.put(spec, "advantage", spec.advantage), "surrogate", "natural")
    learner = build(world, spec).learner
    logits = some_logits(environment.shape, seed=2)

    @jax.jit
    def update(now, key, logits):
        task, state = environment.init(key), learner.init(now)._replace(params=logits)
        after, info = learner.step(now, state, task)
        return after.params, info.prompts, learner.estimate(now, state, task)

    after, prompts, gradient = jax.device_get(update(streams(4), jax.random.key(3), logits))
    assert len(set(prompts.tolist())) == 2
    probs = np.exp(np.float64(logits))
    probs /= probs.sum(axis=-1, keepdims=True)
    for prompt in range(2):
        inverse = pseudo_inverse(probs[prompt])
        # Of a prompt that is drawn with chance 1/2 the Fisher information is half as large.
        rows = np.float64(gradient[prompt])
        wanted = [2 * inv @ row for inv, row in zip(inverse, rows, strict=True)]
        moved = np.float64(after[prompt]) - logits[prompt]
        np.testing.assert_allclose(moved, wanted, rtol=2e-4, atol=2e-5)


def test_exact_gradient_is_its_recurrence():
    """Against float64 NumPy, context by context, over 200 updates."""
    world = simrl.Bandit("bernoulli", 3, num_contexts=2)
    spec = simrl.Spec(
        world,
        {"name": "exact_gradient", "optimizer": {"name": "sgd", "learning_rate": 0.8}},
        max_steps=200,
        log_points=4,
        keep_beliefs=True,
    )
    data = simrl.run(spec, 3).isel(cell=0)
    base = jax.random.key(0, impl="threefry2x32")
    draw = jax.jit(lambda seed: world.build().init(keys.streams(base, seed).task))
    for seed in range(3):
        means = np.float64(draw(np.uint32(seed)))
        logits, beliefs = np.zeros((2, 3)), []
        for _ in range(200):
            probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            value = (probs * means).sum(axis=1, keepdims=True)
            logits += 0.8 * probs * (means - value) / 2
        beliefs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        found = data["belief"].values[seed, -1, :, 0]
        np.testing.assert_allclose(found, beliefs, atol=2e-5)
    assert (data["total_samples"].values == 200 * 2 * 3).all()
    assert (data["trace_covariance"].values == 0).all()
