"""Regret and the information ratio of whole runs, against NumPy from beliefs and by simulation."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.engine import asked
from simrl.measures import regret
from tests.engine.bits import assert_same_bits

STEPS, SEEDS, ARMS = 12, 96, 3
BASE = simrl.Spec(
    simrl.Bandit("gaussian", ARMS),
    simrl.PolicyGradient("running_mean", group_size=2),
    max_steps=STEPS,
    log_points=STEPS,
    log_spacing="linear",
    observe_every=1,
    phases=simrl.Phases(num=3),
    keep_beliefs=True,
    measures=("regret",),
)


def tasks_of(spec):
    base = jax.random.key(spec.base_seed)
    init = spec.environment.build().init
    draw = jax.jit(jax.vmap(lambda i: init(keys.streams(base, i).task)))
    return np.float64(draw(np.arange(SEEDS)))


@pytest.fixture(scope="module")
def runs():
    """The same runs by both paths."""
    plain = dataclasses.replace(BASE, engine="plain")
    return [simrl.run(spec, SEEDS).isel(cell=0) for spec in (BASE, plain)]


def test_regret_of_arms_is_that_of_the_beliefs_on_both_paths(runs):
    means = tasks_of(BASE)
    for data in runs:
        probs = np.exp(np.float64(data["belief"].values))[:, :, 0, 0]
        wanted = means.max(axis=1)[:, None] - np.einsum("ntk,nk->nt", probs, means)
        np.testing.assert_allclose(data["regret"].values, wanted, rtol=1e-5, atol=1e-6)
        # Each update is measured: what is summed is the regret of its two pulls.
        total = data["phase_regret"].values.sum(axis=1)
        np.testing.assert_allclose(total, 2 * wanted[:, :-1].sum(axis=1), rtol=1e-5)
    attrs = runs[0]["regret"].attrs
    assert (attrs["units"], attrs["exact"]) == ("1", 1)
    table = simrl.phase_table(runs[0].expand_dims("cell")).set_index("quantity")
    assert (table.loc["regret", "mean"] > 0).any()


@pytest.mark.parametrize(
    ("world", "law"),
    [
        (simrl.Bandit(num_arms=3), [1.0, 0.0, 0.0]),
        (
            simrl.Bandit(num_arms=3, verifier="noisy", false_positive=0.1, false_negative=0.3),
            [0.7, 0.1, 0.1],
        ),
        (simrl.Sequence(3, 2, "exact", "zipf"), None),
        (simrl.Sequence(3, 1, "token", "zipf"), None),
    ],
)
def test_regret_where_answers_are_right_or_wrong(world, law):
    """By listing every answer and what it is paid on average."""
    environment = world.build()

    @jax.jit
    def draw(one, other):
        task = environment.init(one)
        log_probs = jax.nn.log_softmax(jax.random.normal(other, environment.shape))
        return task, log_probs, environment.target(task, jnp.int32(0))

    task, log_probs, laws = draw(jax.random.key(3), jax.random.key(1))
    laws, regret_of = np.float64(laws), jax.jit(partial(asked.regret_of, environment))
    probs = np.exp(np.float64(log_probs))[0]
    paid = np.array(law) if law else laws[0]
    chance = probs[0]
    for own, of_labels in zip(probs[1:], laws[1:], strict=True):
        paid, chance = np.outer(paid, of_labels).ravel(), np.outer(chance, own).ravel()
    odds = np.log(probs[0, 0] / (1 - probs[0, 0]))[None]
    found = regret_of(task, (log_probs, odds), np.float32(laws)[None])
    np.testing.assert_allclose(np.asarray(found)[0], paid.max() - paid @ chance, rtol=1e-5)


def test_sure_policies_keep_the_digits_of_their_regret():
    environment = simrl.Bandit(num_arms=3).build()
    log_probs = jnp.zeros((1, 1, 3))  # not read
    found = asked.regret_of(environment, jnp.int32(0), (log_probs, jnp.float32([30.0])), None)
    np.testing.assert_allclose(found[0], np.exp(-30.0), rtol=1e-5)


def simulated(runs, steps, rng):
    """Regret of textbook Thompson sampling: the best of one draw from each posterior."""
    means = rng.random((runs, ARMS))
    right, wrong, every = np.ones_like(means), np.ones_like(means), np.arange(runs)
    lost = np.zeros(runs)
    for _ in range(steps):
        arm = rng.beta(right, wrong).argmax(axis=1)
        paid = rng.random(runs) < means[every, arm]
        right[every, arm] += paid
        wrong[every, arm] += ~paid
        lost += means.max(axis=1) - means[every, arm]
    return lost


def simulated_bounds(runs, steps, noise, exploration, rng):
    """Regret of UCB1 in gaussian bandits: one pull of each arm, then of the largest bound."""
    means, every = rng.normal(size=(runs, ARMS)), np.arange(runs)
    counts, sums, lost = np.zeros_like(means), np.zeros_like(means), np.zeros(runs)
    for t in range(steps):
        arm = np.full(runs, t)
        if t >= ARMS:
            arm = (sums / counts + noise * np.sqrt(exploration * np.log(t) / counts)).argmax(axis=1)
        sums[every, arm] += means[every, arm] + noise * rng.normal(size=runs)
        counts[every, arm] += 1
        lost += means.max(axis=1) - means[every, arm]
    return lost


def test_ucb_is_the_textbooks():
    steps, seeds, noise, exploration = 200, 2048, 0.5, 0.7
    spec = simrl.Spec(
        simrl.Bandit("gaussian", ARMS, noise=noise),
        simrl.UCB1(exploration),
        max_steps=steps,
        log_points=2,
        observe_every=1,
        measures=("regret",),
    )
    mine = simrl.run(spec, seeds).isel(cell=0)["phase_regret"].values.sum(axis=1)
    other = simulated_bounds(20_000, steps, noise, exploration, np.random.default_rng(1))
    error = np.hypot(mine.std(ddof=1) / np.sqrt(seeds), other.std(ddof=1) / np.sqrt(len(other)))
    assert abs(mine.mean() - other.mean()) < 4 * error
    assert error < 0.03 * other.mean()


def pulls_of_ucb(means, steps):
    """Arms that UCB1 pulls where each always pays its mean, one by one."""
    counts, sums, arms = np.zeros(len(means)), np.zeros(len(means)), []
    for t in range(steps):
        arm = t
        if t >= len(means):
            arm = (sums / counts + np.sqrt(2 * np.log(t) / counts)).argmax()
        sums[arm] += means[arm]
        counts[arm] += 1
        arms.append(arm)
    return np.array(arms)


@pytest.mark.parametrize("engine", ["auto", "plain"])
def test_regret_of_a_certain_rule_does_not_depend_on_how_often_it_is_measured(engine):
    """Every tenth pull of ten arms is of one arm: what it costs is not what the others do."""
    means, steps, noise = np.roll(np.arange(10), 4) / 10, 120, 1e-6
    spec = dataclasses.replace(
        BASE,
        environment=simrl.Bandit("given", 10, rewards=tuple(means.tolist()), noise=noise),
        learner=simrl.UCB1(2 / noise**2),
        max_steps=steps,
        log_points=1,
        phases=simrl.Phases(num=1),
        keep_beliefs=False,
        engine=engine,
    )
    wanted = (0.9 - means[pulls_of_ucb(means, steps)]).sum()
    for every in (1, 10, steps):
        data = simrl.run(dataclasses.replace(spec, observe_every=every), 2)
        np.testing.assert_allclose(data["phase_regret"].values.sum(axis=(0, 2)), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("world", "learner"),
    [
        (simrl.Bandit("bernoulli", ARMS, rewards=(0.2, 0.8, 0.5)), simrl.Thompson()),
        (simrl.Bandit("gaussian", ARMS, num_contexts=2), simrl.PolicyGradient(group_size=2)),
        (simrl.Sequence(2, 2, "exact", "zipf"), simrl.PolicyGradient(group_size=2)),
    ],
)
def test_regret_is_summed_at_every_update_on_both_paths(world, learner):
    spec = dataclasses.replace(
        BASE, environment=world, learner=learner, log_points=1, keep_beliefs=False
    )
    runs = [
        simrl.run(dataclasses.replace(spec, observe_every=every, engine=engine), 8)
        for every, engine in ((1, "auto"), (10, "auto"), (10, "plain"))
    ]
    once, seldom, plain = (data["phase_regret"].values.sum(axis=2) for data in runs)
    assert (once > 0).all()
    np.testing.assert_allclose(seldom, once, rtol=1e-5)
    np.testing.assert_allclose(plain, once, rtol=1e-4)


def test_the_bound_of_lai_and_robbins_by_hand():
    """KL(1/4 || 1/2) = ln 3 (3/4) - ln 2, and gaussian arms: Delta^2 / 2 sigma^2."""
    wanted = 2 * 0.25 / (0.75 * np.log(3) - np.log(2))
    found = regret.lai_robbins_rate(np.array([0.5, 0.25, 0.5, 0.25]))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    found = regret.lai_robbins_rate(np.array([3.0, 2.0, -1.0]), noise=0.5)
    np.testing.assert_allclose(found, 2 * 0.25 * (1 + 1 / 4), rtol=1e-6)
    means = np.arange(1, 10) / 10
    p, best = means[:-1], means[-1]
    nats = p * np.log(p / best) + (1 - p) * np.log((1 - p) / (1 - best))
    found = regret.lai_robbins_rate(means)
    np.testing.assert_allclose(found, ((best - p) / nats).sum(), rtol=1e-5)
    np.testing.assert_array_equal(regret.lai_robbins_rate(np.array([1.0, 0.5, 0.0])), 0)


def test_arms_that_tie_are_all_right():
    world = simrl.Bandit("given", 4, rewards=(0.5, 2.0, 1.0, 2.0))
    assert (world.num_right, world.problems()) == (2, [])
    assert dataclasses.replace(world, rewards=(2.0, 2.0, 2.0, 1.0)).problems()
    spec = dataclasses.replace(BASE, environment=world, max_steps=4, log_points=4)
    for engine in ("auto", "plain"):
        data = simrl.run(dataclasses.replace(spec, engine=engine), 8).isel(cell=0)
        chances = np.exp(np.float64(data["belief"].values))[:, :, 0, 0]
        np.testing.assert_allclose(data["pass_rate"], chances[..., [1, 3]].sum(axis=-1), rtol=1e-5)
        gaps = chances @ np.array([1.5, 0, 1, 0])
        np.testing.assert_allclose(data["regret"], gaps, rtol=1e-5)


@pytest.mark.usefixtures("optimised")
def test_thompson_is_the_textbooks_and_keeps_to_the_bound():
    steps, seeds = 40, 512
    spec = dataclasses.replace(
        BASE,
        environment=simrl.Bandit("bernoulli", ARMS),
        learner=simrl.Thompson(),
        max_steps=steps,
        log_points=4,
        keep_beliefs=False,
        measures=("regret", "information_ratio"),
    )
    data = simrl.run(spec, seeds).isel(cell=0)
    mine = data["phase_regret"].values.sum(axis=1)
    other = simulated(20_000, steps, np.random.default_rng(1))
    error = np.hypot(mine.std(ddof=1) / np.sqrt(seeds), other.std(ddof=1) / np.sqrt(len(other)))
    assert abs(mine.mean() - other.mean()) < 4 * error
    # What it expects of itself is right on average: the prior is the world's.
    sums = {k: data[f"phase_{k}"].values.sum(axis=1) for k in asked.RATIO}
    gap = mine - sums["expected_regret"]
    assert abs(gap.mean()) < 4 * gap.std(ddof=1) / np.sqrt(seeds)
    hits = data["phase_success"].values - data["phase_pass_rate"].values
    hits = hits.sum(axis=1)
    assert abs(hits.mean()) < 4 * hits.std(ddof=1) / np.sqrt(seeds)
    # What is gained about the best arm, in bits: log2 K less what is not known at the end.
    gained = data["phase_absorbed"].values.sum(axis=1) - sums["information_gain"]
    assert abs(gained.mean()) < 4 * gained.std(ddof=1) / np.sqrt(seeds)
    ratio = sums["squared_expected_regret"].sum() / sums["information_gain"].sum()
    assert 0 < ratio < ARMS / 2 * np.log(2)
    assert data["information_gain"].attrs["units"] == "bit"
    assert "trace_covariance" not in data
    chosen = list(range(300, 310))
    assert_same_bits(simrl.run(spec, chosen).isel(cell=0), data.sel(seed=chosen))
