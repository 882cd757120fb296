"""Learners that count pulls: what they keep, whom they choose, and where they are refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.engine import observe, probes
from simrl.sweeps import spec as specs
from tests.contracts.worlds import COUNTING, WORLDS, build, learner_spec, streams
from tests.oracles import posteriors

SIZE = 2
KINDS = ("bandit-gaussian", "bandit-bernoulli")
LANES = 5


@pytest.fixture(scope="module")
def updates():
    """(world, learner) -> trial, task, states before and after 4 updates of LANES lanes, infos."""
    return {(w, n): updated(WORLDS[w], learner_spec(n)) for w in KINDS for n in COUNTING}


def updated(world, learner, steps=4):
    trial = build(world, learner)
    task = jax.jit(trial.environment.init)(jax.random.key(3))

    @jax.jit
    @jax.vmap
    def run(seed):
        def update(state, step):
            after, info = trial.learner.step(streams(seed, step), state, task)
            return after, (state, after, info)

        return jax.lax.scan(update, trial.learner.init(streams(seed)), jnp.arange(steps))[1]

    return trial, *jax.device_get((task, *run(np.arange(LANES))))


@pytest.mark.parametrize("world", KINDS)
@pytest.mark.parametrize("name", COUNTING)
def test_an_update_counts_its_pulls(updates, world, name):
    trial, task, before, after, info = updates[world, name]
    learner, environment = trial.learner, trial.environment
    assert (learner.kind, learner.batch_size) == ("policy_gradient", SIZE)
    assert not learner.has_gradient
    assert not probes.wanted(trial)
    assert learner.moments is None
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    chex.assert_tree_all_finite(after)
    chex.assert_shape(info.answers, (LANES, 4, 1, SIZE, 1))
    chex.assert_type([info.prompts, info.answers], jnp.int32)
    assert set(info.num_samples.ravel().tolist()) == {SIZE}
    assert not info.flops.any()  # by the convention, which charges networks
    pulled = info.answers[..., 0, :, 0, None] == np.arange(3)
    np.testing.assert_array_equal(after.counts - before.counts, pulled.sum(axis=2))
    np.testing.assert_array_equal(info.success, pulled[:, :, None, :, np.argmax(task)])
    gained = np.asarray(after.sums - before.sums)
    assert not gained[pulled.sum(axis=2) == 0].any()
    if environment.binary:
        assert set(np.unique(gained)) == {0, 1, 2}
    believed = jax.jit(jax.vmap(learner.belief, (0, None)))
    laws = np.exp(believed(jax.tree.map(lambda x: x[0], after), 0))
    np.testing.assert_allclose(laws.sum(axis=-1), 1, rtol=1e-5)
    names = observe.quantities(trial)
    assert ("absorbed" in names) == ("nominal" in names) == learner.has_belief == (name != "ucb1")


def test_rewards_are_remembered_with_their_arms():
    world = simrl.Bandit("gaussian", num_arms=3, noise=1e-3)
    _, task, _, after, _ = updated(world, learner_spec("ucb1"))
    counts, sums = np.asarray(after.counts)[:, -1], np.asarray(after.sums)[:, -1]
    assert np.all(counts > 0)  # 4 updates of 2: the first three go round
    np.testing.assert_allclose(sums / counts, np.tile(task, (LANES, 1)), atol=4e-3)


@pytest.mark.parametrize(
    ("world", "noise", "exploration"),
    [
        (WORLDS["bandit-bernoulli"], 1.0, 2.0),
        (simrl.Bandit("gaussian", num_arms=3, noise=0.3), 0.3, 0.5),
    ],
)
def test_ucb_goes_round_and_then_takes_the_largest_bound(world, noise, exploration):
    _, _, before, _, info = updated(world, simrl.UCB1(exploration, SIZE), steps=60)
    arms = np.asarray(info.answers)[..., 0, :, 0]
    np.testing.assert_array_equal(arms[..., 0], arms[..., 1])
    np.testing.assert_array_equal(arms[:, :3, 0], np.tile(np.arange(3), (LANES, 1)))
    counts, sums = (np.float64(x)[:, 3:] for x in (before.counts, before.sums))
    time = np.log(counts.sum(axis=-1, keepdims=True))
    bound = sums / counts + noise * np.sqrt(exploration * time / counts)
    np.testing.assert_array_equal(arms[:, 3:, 0], bound.argmax(axis=-1))


def test_beta_posteriors_in_fractions(updates):
    _, _, _, after, _ = updates["bandit-bernoulli", "thompson"]
    for lane in range(LANES):
        counts, sums = (np.asarray(x)[lane, -1].astype(int) for x in (after.counts, after.sums))
        arms = [(1 + s, 1 + n - s) for n, s in zip(counts.tolist(), sums.tolist(), strict=True)]
        wanted = np.float64(posteriors.best(arms)[0])
        np.testing.assert_allclose(np.exp(after.logits)[lane, -1], wanted, rtol=2e-5)


def test_thompson_begins_with_the_worlds_own_prior(updates):
    for world in KINDS:
        trial, _, before, _, _ = updates[world, "thompson"]
        first = jax.tree.map(lambda x: x[0, 0], before)
        law = np.exp(jax.jit(trial.learner.belief)(first, 0))
        np.testing.assert_allclose(law, 1 / 3, rtol=1e-5)


def test_normal_posteriors_by_hand():
    """Prior N(1, 2^2), noise 1/2: two pulls of 3 in all, one of 0.5, none of the third."""
    world = simrl.Bandit("gaussian", num_arms=3, mean=1.0, spread=2.0, noise=0.5)
    _, _, _, after, _ = updated(world, learner_spec("thompson"))
    precision = 1 / 4 + np.float64(after.counts)[:, -1] / 0.25
    mean = (1 / 4 + np.float64(after.sums)[:, -1] / 0.25) / precision
    rng = np.random.default_rng(0)
    num = 40_000
    for lane in range(LANES):
        draws = rng.normal(mean[lane], precision[lane] ** -0.5, (num, 3))
        shares = np.bincount(draws.argmax(axis=1), minlength=3) / num
        chances = np.exp(np.float64(after.logits)[lane, -1])
        error = np.sqrt(chances * (1 - chances) / num)
        assert np.all(np.abs(shares - chances) <= 4 * error + 1e-6)


def test_traced_numbers_do_not_compile_anew():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(parts):
        trial = specs.build(parts)
        task = trial.environment.init(streams(0).task)
        state = trial.learner.init(streams(0))._replace(counts=jnp.ones(3))
        return trial.learner.step(streams(0), state, task)[0].logits

    for exploration, spread in ((2.0, 1), (1, 0.5), (np.float32(0.1), 3.0)):
        world = simrl.Bandit("gaussian", num_arms=3, spread=spread)
        parts = world, simrl.Tabular(), simrl.UCB1(exploration)
        assert np.isfinite(update(specs.traced(parts))).all()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            simrl.Spec(simrl.Bandit("gaussian", num_contexts=2), simrl.Thompson()),
            "thompson needs a bandit of one context",
        ),
        (simrl.Spec(simrl.Sequence(), simrl.UCB1()), "ucb1 needs a bandit of one context"),
        (simrl.Spec(simrl.Bandit(), simrl.UCB1()), "ucb1 takes the first of equal arms"),
        (simrl.Spec(simrl.Bandit("gaussian", noise=0.0), simrl.Thompson()), "noise above 0"),
        (simrl.Spec(simrl.Bandit("bernoulli"), simrl.Thompson(0)), "group_size must be at least"),
        (simrl.Spec(simrl.Bandit("bernoulli"), simrl.UCB1(-1.0)), "must not be negative"),
        (simrl.Spec(simrl.Sequence(reward="prefix"), measures=("regret",)), "measure regret needs"),
        (simrl.Spec(simrl.Bandit(), measures=("information_ratio",)), "needs thompson"),
        (
            simrl.Spec(simrl.Bandit("bernoulli"), simrl.UCB1(), engine="jump"),
            "engine jump is not exact here",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(spec, reason):
    with pytest.raises(simrl.SpecError, match=reason) as error:
        specs.validate(specs.resolved(spec))
    assert "\n" not in str(error.value)
