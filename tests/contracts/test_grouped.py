"""Advantages of a whole group against the rules by their definition, and their closed moments."""

from functools import partial

import jax
import numpy as np
import pytest

import simrl
from simrl.learners import grouped
from simrl.measures import gradients, scores
from simrl.sweeps import spec as specs
from tests.contracts.worlds import WORLDS, build, some_logits, streams, task_of
from tests.oracles import enumeration
from tests.oracles import groups as oracle

RULES = (*grouped.RULES, *grouped.COUNTING)
K = 2


@partial(jax.jit, static_argnums=0)
def weigh(rule, credit):
    rollout = simrl.Rollout(0, None, credit, None, None)
    return simrl.Grouped(rule, K).build(*credit.shape).weights((), rollout)[1]


def weights_of(rule, credit):
    """Weights [B, L] of one group."""
    return np.asarray(weigh(rule, np.float32(credit)))


def test_every_rule_is_registered():
    assert {name for name in specs.ADVANTAGES if name in RULES} == set(RULES)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_weights_of_every_group_of_verdicts(rule, size):
    if rule == "pass_at_k_leave_one_out" and size <= K:
        pytest.skip("needs more guesses than k")
    for number in range(2**size):
        rewards = np.array([number >> i & 1 for i in range(size)], float)
        wanted = oracle.advantage(list(rewards), rule, K)
        found = weights_of(rule, np.stack([rewards, rewards], axis=1))
        np.testing.assert_allclose(found, np.stack([wanted, wanted], axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", grouped.RULES)
def test_weights_of_real_rewards(rule):
    rng = np.random.default_rng(2)
    credit = rng.uniform(0.1, 2, (4, 3))
    mean = credit.mean(axis=0)
    wanted = {
        "group_normalised": (credit - mean) / credit.std(axis=0),
        "group_normalised_sample": (credit - mean) / credit.std(axis=0, ddof=1),
        "maxrl": credit / mean,
        "maxrl_centred": credit / mean - 1,
    }[rule]
    np.testing.assert_allclose(weights_of(rule, credit), wanted, rtol=1e-4, atol=1e-6)
    # The mean of three thirds is not a third in float32: the group is dead all the same.
    equal = weights_of(rule, np.full((3, 1), 1 / 3))
    np.testing.assert_allclose(equal, 1.0 if rule == "maxrl" else 0.0)


ULP = np.spacing(np.float32(0.3), dtype=np.float32)
HARD = {  # scales whose squares leave float32, offsets of which a mean is rounded, neighbours
    "small": np.float32([0, 1e-20, 0, 0]),
    "large": np.float32([0, 1e20, 0, 0]),
    "offset": np.float32([1e8, 1e8 + 8, 1e8, 1e8]),
    "negative offset": np.float32([-1e8, 8 - 1e8, -1e8, -1e8]),
    "few ulp": np.float32(0.3) + ULP * np.float32([0, 1, 2, 5]),
    "plain": np.float32([0.3, 2, -1, 0.5]),
}


@pytest.mark.parametrize(
    "name", ["batch_mean", "leave_one_out", "running_mean", *grouped.COMPARING]
)
def test_weights_keep_the_digits_of_hard_rewards(name):
    """Of float32 rewards as they are, by float64 NumPy: one by one, counted, and in lanes."""
    rewards = np.stack(list(HARD.values()), axis=1)  # [B, L]
    exact = np.float64(rewards)
    excess = exact - exact.mean(axis=0)
    wanted = {
        "batch_mean": excess,
        "leave_one_out": excess * 4 / 3,
        "running_mean": excess,
        "group_normalised": excess / exact.std(axis=0),
        "group_normalised_sample": excess / exact.std(axis=0, ddof=1),
        "maxrl_centred": excess / exact.mean(axis=0),
    }[name]
    advantage = specs.ADVANTAGES[name].build(*rewards.shape)

    @jax.jit
    def weigh(rewards, twice, times):
        counted = advantage.tally(advantage.init(), twice, times)[1]
        lanes = simrl.Rollout(0, None, rewards[..., None], None, None)
        state = jax.tree.map(lambda x: x[..., None], advantage.init())
        return (
            advantage.tally(advantage.init(), rewards, None)[1],
            counted,
            (advantage.weights(state, lanes)[1][..., 0]),
        )

    # A reward that nobody was paid takes no part.
    twice = np.concatenate([rewards, np.full_like(rewards[:1], -3e8)])
    times = np.float32([1, 1, 1, 1, 0])[:, None] * np.ones_like(rewards[:1])
    one, counted, lanes = jax.device_get(weigh(rewards, twice, times))
    for found in (one, counted[:4], lanes):
        tolerance = 1e-6 * np.abs(wanted).max(axis=0)
        assert (np.abs(found - wanted) <= tolerance).all()
    if name == "group_normalised":
        np.testing.assert_allclose(one[:, 0], np.array([-1, 3, -1, -1]) / np.sqrt(3), rtol=1e-6)


@pytest.mark.parametrize(
    ("world", "channel"),
    [
        ("bandit-one_right", "exact"),
        ("sequence-token-fixed", "token"),
    ],
)
@pytest.mark.parametrize("rule", ["group_normalised", "pass_at_k"])
def test_moments_are_those_of_the_measures(world, channel, rule):
    environment = WORLDS[world].build()
    learner = build(
        WORLDS[world], simrl.PolicyGradient(simrl.Grouped(rule, K), group_size=4)
    ).learner
    task = task_of(world)
    exact = partial(gradients.batch_moments, batch_size=4, advantage=rule, reward=channel, k=K)

    @jax.jit
    def both(logits, task):
        state = learner.init(streams(0))._replace(params=logits)
        wanted = exact(jax.nn.softmax(logits[0]), environment.target(task, 0))
        return learner.moments(state, task), wanted

    found, wanted = both(some_logits(environment.shape), task)
    np.testing.assert_allclose(found, (wanted.trace_covariance, wanted.squared_norm), rtol=1e-4)


def test_moments_of_bernoulli_arms_by_every_batch():
    probs, chances = np.array([0.2, 0.5, 0.3]), np.array([0.9, 0.4, 0.8])  # not on the simplex

    @jax.jit
    def of_rules(probs, chances):
        statistics = scores.verdict_statistics(probs, chances)
        return {rule: gradients.group_moments(statistics, 3, rule, K) for rule in RULES}

    of_rule = of_rules(probs, chances)
    arms, pays = np.repeat(np.arange(3), 2), np.tile([1.0, 0.0], 3)
    chance = probs[arms] * np.where(pays > 0, chances[arms], 1 - chances[arms])
    scored = np.array([enumeration.score(probs[None], (arm,)) for arm in arms])
    samples = enumeration.Samples(chance, scored, pays[:, None])
    for rule in RULES:
        wanted = oracle.batch_truth(samples, 3, rule, K)
        found = of_rule[rule]
        np.testing.assert_allclose(found.trace_covariance, wanted.trace_covariance, rtol=1e-5)
        np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-5, atol=1e-7)


def test_what_needs_verdicts_is_refused_elsewhere():
    spec = simrl.Spec(simrl.Bandit("gaussian"), simrl.PolicyGradient("pass_at_k"))
    with pytest.raises(simrl.SpecError, match="pass_at_k needs rewards that are 0 or 1"):
        simrl.run(spec, 2)
    for rule, size, message in (
        ("pass_at_k", 1, "k from 1 to 1"),
        ("group_normalised_sample", 1, "group_size of at least 2"),
        ("best", 4, "rule must be one of"),
    ):
        learner = simrl.PolicyGradient(simrl.Grouped(rule, K), group_size=size)
        with pytest.raises(simrl.SpecError, match=message) as error:
            simrl.run(simrl.Spec(simrl.Bandit(), learner), 2)
        assert "\n" not in str(error.value)


def test_real_rewards_are_redrawn():
    """No closed form is claimed for a normalised real reward."""
    learner = simrl.PolicyGradient("group_normalised", group_size=4)
    for world in ("bandit-gaussian", "sequence-fraction-fixed"):
        assert (
            build(
                WORLDS[world], specs.resolved(simrl.Spec(learner=learner)).learner
            ).learner.moments
            is None
        )


@pytest.mark.parametrize("size", [3, 41, 47, 55, 128])
def test_a_group_of_equal_verdicts_is_dead_to_the_last_bit(size):
    """With traced numbers a compiler multiplies by a rounded 1/B: a mean of ones need not be 1."""

    @jax.jit
    def by_affine(advantage, credit):
        rollout = simrl.Rollout(0, None, credit, None, None)
        success, failure = advantage.tables(size)
        weights = advantage.build(size, 1).weights((), rollout)[1]
        return weights, success[-1], failure[0]

    for rule in set(RULES) - {"maxrl", "pass_at_k"}:  # to those a group of successes is not dead
        found = weigh(rule, np.ones((size, 1), np.float32))
        np.testing.assert_array_equal(found, 0.0, err_msg=rule)
    for name in ("batch_mean", "leave_one_out"):
        advantage = specs.traced(specs.ADVANTAGES[name])
        for found in by_affine(advantage, np.ones((size, 1), np.float32)):
            np.testing.assert_array_equal(found, 0.0)
