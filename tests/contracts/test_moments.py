"""Estimators against the oracle: every batch that can be, one by one; then redraws."""

from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import simrl
from simrl import keys
from simrl.learners import grouped, oracles, updates
from simrl.learners.advantages import Running
from simrl.measures import gradients
from simrl.sweeps import spec as specs
from tests.contracts.worlds import (
    POLICIES,
    WORLDS,
    begun,
    build,
    laws_of,
    some_logits,
    streams,
    task_of,
)
from tests.oracles import enumeration as oracle

BASELINE = 0.3
ORACLE = {"none": "none", "batch_mean": "group_mean", "leave_one_out": "leave_one_out"}
BATCHES_OF_THREE = ("bandit-one_right", "bandit-bernoulli", "sequence-token-fixed")


class Every(NamedTuple):
    """Every sample of a world: for the oracle, and as what the learner's code draws."""

    samples: oracle.Samples
    answers: np.ndarray  # [N, L]
    words: np.ndarray  # [N, L] uint32 that make the world's noise come out so


@jax.jit
def picks(row, words):
    return jax.vmap(keys.choose, (0, None))(words, keys.cumulative(row))


def word_of_label(law):
    """[L, V]: a word that picks each symbol at each position."""
    words = np.linspace(0, 2**32 - 1, 4096).astype(np.uint32)
    picked = [np.asarray(picks(row, words)) for row in law]
    return np.array([[words[p == a][0] for a in range(law.shape[1])] for p in picked])


def every_sample(world, environment, task, probs, law):
    """The samples of one prompt, for a policy with probabilities [L, V] in float64."""
    length, size = probs.shape
    listed = oracle.answers(length, size)
    nothing = np.zeros(length, np.uint32)
    if environment.reward_law is None:
        reward = environment.channel
        if not environment.noisy:
            samples = oracle.sequence_samples(probs, law.argmax(axis=-1), reward)
            return Every(samples, np.array(listed), np.array([nothing] * len(listed)))
        samples = oracle.sequence_samples(probs, law, reward)
        words = word_of_label(np.float32(law))[np.arange(length), np.array(listed)]
        answers = np.repeat(np.array(listed), len(listed), axis=0)
        return Every(samples, answers, np.tile(words, (len(listed), 1)))
    means = np.asarray(task, np.float64)
    answers = np.repeat(np.arange(size), 2)[:, None]
    if WORLDS[world].kind in ("gaussian", "given"):  # two moments of the noise are all that matters
        samples = oracle.bandit_samples(probs[0], means, np.full(size, 1.0))
        coin = [norm_word(-1.0), norm_word(1.0)]
    else:
        chance = np.stack([means, 1 - means], axis=1).ravel() * np.repeat(probs[0], 2)
        scores = np.array([oracle.score(probs, answer) for answer in answers])
        samples = oracle.Samples(chance, scores, np.tile([1.0, 0.0], size)[:, None])
        coin = [0, 2**32 - 1]
    return Every(samples, answers, np.tile(coin, size).astype(np.uint32)[:, None])


def norm_word(x):
    """The word whose standard normal is x."""
    return int(scipy.stats.norm.cdf(x) * 2**32)


def setting(world, seed=1):
    """Environment, task, logits [M, L, V] and their probabilities in float64."""
    environment = WORLDS[world].build()
    task = task_of(world)
    logits = some_logits(environment.shape, seed=seed)
    probs = np.exp(np.float64(logits))
    return environment, task, logits, probs / probs.sum(axis=-1, keepdims=True)


@pytest.fixture
def given_words(monkeypatch):
    """Streams become the very words, and a policy answers with its words."""
    monkeypatch.setattr(updates, "group_words", lambda stream, groups, size, length: stream)
    monkeypatch.setattr(updates, "draw_prompts", lambda stream, world, task, groups: stream)


def learner_of(spec, environment):
    policy = POLICIES["tabular"].build(environment.shape)
    told = policy._replace(sample=lambda words, params, prompt: words.astype(jnp.int32))
    return spec.build(environment, told)


def earlier(environment):
    """Means of earlier rewards [L]; rewards of whole answers have the same at each position."""
    by_position = environment.channel in ("token", "reward_to_go")
    return np.linspace(0.4, 0.7, environment.shape.length) if by_position else np.full(
        environment.shape.length, 0.4
    )  # fmt: skip


def every_advantage(environment, logits, task, size):
    """Name -> (learner, state) of every registered advantage; numbers and memories are data."""
    affine = {name: spec for name, spec in specs.ADVANTAGES.items() if name in ORACLE}
    rest = {"constant": simrl.Constant(BASELINE), "running_mean": simrl.RunningMean()}
    others = {*grouped.NAMED, *oracles.NAMED}  # have tests of their own
    assert {*affine, *rest, *others} == set(specs.ADVANTAGES)

    def learner_and_state(advantage, memory=None):
        learner = learner_of(simrl.PolicyGradient(advantage, group_size=size), environment)
        state = learner.init(streams(0))._replace(params=jnp.asarray(logits))
        return learner, state if memory is None else state._replace(advantage=memory)

    def over_all(of_learner):
        """`of_learner(learner, state)` for every advantage."""
        stacked = jax.tree.map(lambda *x: jnp.array(x), *map(specs.traced, affine.values()))
        of_affine = jax.vmap(lambda advantage: of_learner(*learner_and_state(advantage)))(stacked)
        found = {
            name: jax.tree.map(lambda leaf: leaf[i], of_affine)  # noqa: B023
            for i, name in enumerate(affine)
        }
        found["constant"] = of_learner(*learner_and_state(rest["constant"]))
        mean = jnp.asarray(earlier(environment), jnp.float32)
        memories = Running(jnp.stack([mean, 0 * mean]), jnp.array([7.0, 0.0]))
        of_running = jax.vmap(
            lambda memory: of_learner(*learner_and_state(rest["running_mean"], memory))
        )(memories)
        for i, name in enumerate(("running_mean", "running_mean at its start")):
            found[name] = jax.tree.map(lambda leaf: leaf[i], of_running)  # noqa: B023
        return found

    return over_all


def told_to_oracle(samples, environment):
    """Name -> (samples with their credit less a constant baseline, the oracle's advantage)."""
    found = {name: (samples, told) for name, told in ORACLE.items()}
    for name, baseline in (("constant", BASELINE), ("running_mean", earlier(environment))):
        found[name] = (samples._replace(credit=samples.credit - baseline), "none")
    found["running_mean at its start"] = (samples, "group_mean")  # its own mean, having no other
    return found


@pytest.mark.usefixtures("given_words")
@pytest.mark.parametrize("world", WORLDS)
def test_policy_gradient_is_the_oracle_for_every_batch(world):
    environment, task, logits, probs = setting(world)
    every = every_sample(world, environment, task, probs[0], np.float64(laws_of(world)[0]))
    told = told_to_oracle(every.samples, environment)
    for size in (2, 3) if world in BATCHES_OF_THREE else (2,):
        over_all = every_advantage(environment, logits, task, size)
        chance, index = oracle.batches(every.samples, size)
        assert chance.sum() == pytest.approx(1)

        @jax.jit
        def run(answers, words):
            def estimate(learner, state):
                def one(answers, words):
                    given = SimpleNamespace(
                        prompt=jnp.zeros(1, jnp.int32), sample=answers[None], reward=words[None]
                    )
                    return learner.estimate(given, state, task)[0]

                return jax.vmap(one)(answers, words), learner.moments(state, task)

            return over_all(estimate)  # noqa: B023

        found = run(every.answers[index].astype(np.uint32), every.words[index])
        assert set(found) == set(told)
        for name, (samples, advantage) in told.items():
            estimates, (trace, squared_norm) = found[name]
            expected = oracle.gradient(samples, index, advantage)
            np.testing.assert_allclose(estimates, expected, atol=3e-6, rtol=1e-5, err_msg=name)
            truth = oracle.batch_truth(samples, size, advantage)
            np.testing.assert_allclose(trace, truth.trace_covariance, rtol=1e-4, err_msg=name)
            np.testing.assert_allclose(squared_norm, truth.squared_norm, rtol=1e-4, err_msg=name)


@pytest.mark.usefixtures("given_words")
@pytest.mark.parametrize(
    "world", ["bandit-one_right", "bandit-gaussian", "sequence-exact-fixed", "sequence-exact-zipf"]
)
def test_supervised_is_the_oracle_for_every_batch(world):
    environment, task, logits, probs = setting(world)
    law = np.float64(laws_of(world)[0])
    samples = oracle.label_samples(probs[0], law)
    kept = samples.weight > 0  # words of an impossible label do not exist
    samples = oracle.Samples(*(part[kept] for part in samples))
    listed = np.array(oracle.answers(*law.shape))[kept]
    words = np.zeros_like(listed, np.uint32)
    if environment.noisy:
        words = word_of_label(np.float32(law))[np.arange(law.shape[0]), listed]
    for size in (2, 3):
        learner = learner_of(simrl.Supervised(batch_size=size), environment)
        state = learner.init(streams(0))._replace(params=jnp.asarray(logits))
        _, index = oracle.batches(samples, size)

        @jax.jit
        @jax.vmap
        def estimates(words):
            given = SimpleNamespace(prompt=jnp.zeros(1, jnp.int32), label=words[None])
            return learner.estimate(given, state, task)[0]  # noqa: B023

        found = estimates(words[index])
        one = np.ones_like(samples.credit)
        expected = oracle.gradient(samples._replace(credit=one), index, "none")
        np.testing.assert_allclose(found, expected, atol=3e-6)
        truth = oracle.batch_truth(samples, size, "none")
        trace, squared_norm = jax.jit(learner.moments)(state, task)
        np.testing.assert_allclose(trace, truth.trace_covariance, rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(squared_norm, truth.squared_norm, rtol=1e-4)


def groups_truth(per_prompt, num_groups):
    """Trace and squared norm of a mean over groups, each of a prompt drawn uniformly, by listing.

    per_prompt: for each of M prompts, the chances [K] and estimates [K, L, V] of its batches.
    """
    rows, weights = [], []
    for prompt, (chance, values) in enumerate(per_prompt):
        padded = np.zeros((len(values), len(per_prompt), *values.shape[1:]))
        padded[:, prompt] = values
        rows.append(padded.reshape(len(values), -1))
        weights.append(chance / len(per_prompt))
    row, weight = np.concatenate(rows), np.concatenate(weights)
    total, joint = row, weight
    for _ in range(num_groups - 1):
        total = (total[:, None] + row).reshape(-1, row.shape[1])
        joint = (joint[:, None] * weight).ravel()
    total = total / num_groups
    mean = joint @ total
    return joint @ ((total - mean) ** 2).sum(axis=1), mean @ mean


SEVERAL = {
    "policy_gradient": (simrl.PolicyGradient(simrl.Affine(1.0, 1.0), 2, 2), "leave_one_out"),
    "constant": (simrl.PolicyGradient(simrl.Constant(BASELINE), 2, 2), BASELINE),
    "supervised": (simrl.Supervised(2, 2), None),
}


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("policy_gradient", "fixed"),
        ("constant", "zipf"),
        ("supervised", "fixed"),
        ("supervised", "zipf"),
    ],
)
def test_groups_of_several_prompts(name, labels):
    spec, told = SEVERAL[name]
    world = simrl.Sequence(vocab_size=2, length=1, num_prompts=3, labels=labels)
    trial = build(world, spec)
    environment, learner = trial.environment, trial.learner
    task, state = begun(trial, jax.random.key(0))
    laws = jax.jit(jax.vmap(environment.target, (None, 0)))(task, np.arange(3))
    logits = some_logits(environment.shape, seed=4)
    probs = np.exp(np.float64(logits))
    probs /= probs.sum(axis=-1, keepdims=True)
    assert len(set(np.asarray(task.answers).ravel().tolist())) == 2
    per_prompt = []
    for one, law in zip(probs, np.asarray(laws, np.float64), strict=True):
        if told is None:
            samples = oracle.label_samples(one, law)
        else:
            samples = every_sample(None, environment, task, one, law).samples
        chance, index = oracle.batches(samples, 2)
        per_prompt.append((chance, oracle.gradient(samples, index, told or "none")))
    trace, squared_norm = groups_truth(per_prompt, 2)
    state = state._replace(params=jnp.asarray(logits))
    found = jax.jit(learner.moments)(state, task)
    np.testing.assert_allclose(found, (trace, squared_norm), rtol=1e-4)
    found = redraw(learner, state, task)
    assert_within(found, trace, squared_norm)


NUM_REDRAWS = 1500


def redraw(learner, state, task):
    @jax.jit
    def run(key, state):
        def estimate(key):
            return learner.estimate(keys.purposes(key), state, task)

        return gradients.redraw_moments(estimate, key, NUM_REDRAWS, chunk_size=NUM_REDRAWS)

    return run(jax.random.key(9), state)


def assert_within(found, trace, squared_norm):
    """Four standard errors, and errors small enough to mean something."""
    found, trace, squared_norm = jax.device_get((found, trace, squared_norm))
    assert found.trace_standard_error < 0.2 * trace + 1e-9
    assert found.norm_standard_error < 0.3 * squared_norm + 0.1 * trace / np.sqrt(NUM_REDRAWS)
    assert abs(found.trace_covariance - trace) <= 4 * found.trace_standard_error + 1e-6
    assert abs(found.squared_norm - squared_norm) <= 4 * found.norm_standard_error + 1e-6


REDRAWN = [w for w in WORLDS if "zipf" not in w or "exact" in w or "token" in w]


@pytest.mark.parametrize("world", REDRAWN)
def test_redraws_agree_with_the_exact_moments(world):
    _, task, logits, _ = setting(world)

    @jax.jit
    def both(advantage, key):
        learner = build(WORLDS[world], simrl.PolicyGradient(advantage, group_size=2)).learner
        state = learner.init(streams(0))._replace(params=jnp.asarray(logits))

        def estimate(key):
            return learner.estimate(keys.purposes(key), state, task)

        found = gradients.redraw_moments(estimate, key, NUM_REDRAWS, chunk_size=NUM_REDRAWS)
        return found, learner.moments(state, task)

    for name in ORACLE:
        found, exact = both(specs.traced(specs.ADVANTAGES[name]), jax.random.key(8))
        assert_within(found, *exact)


def test_redraws_with_a_memory_and_a_number():
    environment, task, logits, _ = setting("sequence-token-fixed")
    memory = Running(np.float32(earlier(environment)), np.float32(7))
    for advantage, kept in ((simrl.Constant(BASELINE), ()), (simrl.RunningMean(), memory)):
        spec = simrl.PolicyGradient(advantage, group_size=2)
        learner = build(WORLDS["sequence-token-fixed"], spec).learner
        state = learner.init(streams(0))._replace(params=logits, advantage=kept)
        assert_within(redraw(learner, state, task), *jax.jit(learner.moments)(state, task))


def test_moments_are_withheld_where_they_are_not_known():
    gaussian = WORLDS["bandit-gaussian"]
    assert build(gaussian, simrl.PolicyGradient(simrl.RunningMean(), 2, 2)).learner.moments is None
    assert build(gaussian, simrl.PolicyGradient(simrl.RunningMean(), 2, 1)).learner.moments
    environment = gaussian.build()
    mute = environment._replace(reward_law=None)
    policy = POLICIES["tabular"].build(environment.shape)
    assert simrl.PolicyGradient().build(mute, policy).moments is None
    wide = policy._replace(tabular=False)
    assert simrl.PolicyGradient().build(environment, wide).moments is None
    assert simrl.Supervised().build(environment, wide).moments is None
