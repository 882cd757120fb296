"""Duels: the mean update and what a verdict tells, by listing every pair of guesses."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.engine import asked, observe, train
from simrl.environments import sequence
from simrl.learners.self_play import verdicts
from simrl.measures import duels, messages
from simrl.sweeps import checks
from simrl.sweeps import spec as specs
from simrl.types import Heard
from tests.contracts.worlds import build, some_logits, streams
from tests.oracles import enumeration

NUM = 6000
SEEDS, STEPS = 64, 8


def test_the_mean_is_the_gradient_of_the_chance_to_win():
    trial = build(simrl.Sequence(2, 2, "fraction"), simrl.SelfPlay(group_size=2))
    task = trial.environment.init(jax.random.key(2))
    state = trial.learner.init(streams(0))
    state = state._replace(params=jnp.asarray(some_logits(state.params.shape)))

    def one(seed):
        new, info = trial.learner.step(streams(seed), state, task)
        return new.params - state.params, info

    change, info = jax.jit(jax.vmap(one))(jnp.arange(NUM))
    powers = np.exp(np.asarray(state.params[0], np.float64))
    probs = powers / powers.sum(axis=-1, keepdims=True)
    samples = enumeration.sequence_samples(probs, np.asarray(task.answers[0]), "fraction")
    pay, score = samples.credit[:, 0], samples.score
    wins = (pay[:, None] > pay) + (pay[:, None] == pay) / 2
    chance = samples.weight @ wins.T  # of each guess
    want = np.einsum("n,n,nlv->lv", samples.weight, chance, score)
    got = np.asarray(change, np.float64)[:, 0]
    error = got.std(axis=0) / np.sqrt(NUM)
    assert np.all(np.abs(got.mean(axis=0) - want) < 4 * error)
    assert np.abs(want).max() > 8 * error.max()
    np.testing.assert_array_equal(info.flops[:, 0, 1], 8 * 2 * 4)
    scores = listed_scores(2, 2, "fraction")[:, np.asarray(task.answers[0]) @ [2, 1]]
    first, second = scores[np.asarray(info.answers[:, 0]) @ [2, 1]].T
    tied, won = first == second, np.asarray(info.wins[:, 0])
    np.testing.assert_array_equal(won[~tied], (first > second)[~tied])
    assert abs(won[tied].mean() - 0.5) < 4 * 0.5 / np.sqrt(tied.sum())
    seen = observe.of_state(trial, state, task, observe.truth(trial, task), jax.random.key(1))
    assert "expected" not in seen  # it is not told what the world pays
    np.testing.assert_array_equal(seen["nominal"], 0.5)  # an even coin for two guesses
    np.testing.assert_allclose(seen["pass_rate"], samples.weight @ (pay == 1), rtol=1e-5)


def test_verdicts_and_ties():
    credit = jnp.array([[[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]])
    words = jnp.zeros((1, 2), jnp.uint32)
    np.testing.assert_array_equal(verdicts(credit, words), [[-0.5, 0.5, -0.5, 0.5]])
    tie, heads, tails = jnp.ones((1, 2, 2)), jnp.uint32([[0]]), jnp.uint32([[2**31]])
    np.testing.assert_array_equal(verdicts(tie, heads), [[0.5, -0.5]])
    np.testing.assert_array_equal(verdicts(tie, tails), [[-0.5, 0.5]])


def listed_scores(length, vocab_size, reward):
    """Mean credit of each guess (row) if the answer is that of the column."""
    answers = enumeration.answers(length, vocab_size)
    paid = [[enumeration.credit(g, y, reward, 1.0) for y in answers] for g in answers]
    return np.mean(paid, axis=-1).round(9)


def bits_by_listing(probs, scores):
    """Expected bits of a duel, the realised ones [N] under each answer, and how often it is a tie.

    Off the table of answer and verdict for every two guesses, float64.
    """
    expected, realised, ties = 0.0, np.zeros(len(probs)), 0.0
    for a, b in itertools.product(range(len(probs)), repeat=2):
        same = scores[a] == scores[b]
        first = np.where(same, 0.5, scores[a] > scores[b])
        laws = np.stack([first, 1 - first], axis=1)  # of the verdict, under each answer
        mixed, pair = probs @ laws, probs[a] * probs[b]
        bits = np.where(laws > 0, laws * np.log2(np.where(laws > 0, laws / mixed, 1)), 0).sum(1)
        expected, realised = expected + pair * probs @ bits, realised + pair * bits
        ties += pair * probs @ same
    return expected, realised, ties


def test_information_is_that_of_the_listed_table():
    probs = np.random.default_rng(4).dirichlet(np.ones(4))
    for reward in sequence.REWARDS:
        scores = listed_scores(2, 2, reward)
        want, realised, ties = bits_by_listing(probs, scores)
        assert 0 < want < 1
        given, world = jnp.float32(probs), messages.World(2, 2, reward)
        measure = jax.jit(jax.vmap(partial(duels.duel_information, given, scores)))
        listed = partial(duels.listed_information, jnp.log(given), world=world)
        for got in (measure(jnp.arange(4)), jax.jit(jax.vmap(listed))(jnp.arange(4))):
            np.testing.assert_allclose(got.expected, want, rtol=1e-5)
            np.testing.assert_allclose(got.realised, realised, rtol=1e-5)
            np.testing.assert_allclose(got.win_rate, 0.5, rtol=1e-6)
            np.testing.assert_allclose(got.tie_rate, ties, rtol=1e-5)


@pytest.mark.parametrize("reward", ["exact", "fraction"])
def test_sure_beliefs_keep_the_digits_of_their_bits(reward):
    rest = np.array([2e-6, 3e-6, 1e-6])
    probs = np.array([1 - rest.sum(), *rest])
    want, realised, _ = bits_by_listing(probs, listed_scores(2, 2, reward))
    listed = partial(duels.listed_information, world=messages.World(2, 2, reward))
    measure = jax.jit(jax.vmap(listed, (None, 0)))
    got = measure(jnp.log(jnp.float32(probs)), jnp.arange(4))
    assert want < 1e-9
    np.testing.assert_allclose(got.expected[0], want, rtol=1e-4)
    np.testing.assert_allclose(got.realised, realised, rtol=1e-4)
    none = measure(jnp.log(jnp.float32([1, 0, 0, 0])), jnp.arange(4))
    assert not none.expected.any()
    assert not none.realised.any()  # whatever is right: two guesses that are one are a tie
    half = measure(jnp.log(jnp.float32([0.5, 0.5, 0, 0])), jnp.arange(2))
    np.testing.assert_allclose([*half.expected, *half.realised], 0.5, rtol=1e-6)


@pytest.fixture(scope="module")
def measured():
    """Two prompts, six duels an update, everything looked at."""
    spec = simrl.Spec(
        simrl.Sequence(2, 2, "fraction", num_prompts=2),
        simrl.SelfPlay(4, 3, simrl.Optimizer("sgd", {"learning_rate": 2.0})),
        max_steps=STEPS,
        log_points=STEPS,
        log_spacing="linear",
        observe_every=1,
        keep_beliefs=True,
        measures=("duel",),
    )
    return spec, simrl.run(spec, SEEDS).isel(cell=0)


def test_duels_are_columns(measured):
    spec, data = measured
    base, scores = jax.random.key(spec.base_seed), listed_scores(2, 2, "fraction")
    own = jax.vmap(lambda i: keys.streams(base, i).task)(jnp.arange(SEEDS))
    right = np.asarray(jax.vmap(spec.environment.build().init)(own).answers) @ [2, 1]
    for seed, point in itertools.product(range(6), (0, 3, STEPS)):
        want = []
        for prompt, law in enumerate(np.exp(np.float64(data["belief"].values[seed, point]))):
            probs = np.outer(*law).ravel()
            expected, realised, _ = bits_by_listing(probs / probs.sum(), scores)
            want.append((expected, realised[right[seed, prompt]]))
        got = [data[f"duel_{name}"].values[seed, point] for name in ("expected", "realised")]
        np.testing.assert_allclose(got, np.mean(want, axis=0), rtol=1e-4)  # over prompts
    assert np.ptp(data["duel_realised"].values) > 0.1
    attrs = data["duel_expected"].attrs
    assert (attrs["units"], attrs["exact"]) == ("bit", 1)


def test_the_first_guess_wins_every_second_duel(measured):
    _, data = measured
    counts, wins = (data[f"phase_{name}"].values for name in ("duels", "duel_wins"))
    np.testing.assert_array_equal(2 * counts, data["phase_trajectories"].values)
    assert counts.sum() == SEEDS * STEPS * 6
    # Whatever has been learned, the next duel is even: their errors add up in squares.
    error = 0.5 / np.sqrt(counts.sum())
    assert abs(wins.sum() / counts.sum() - 0.5) < 4 * error < 0.05
    table = simrl.phase_table(data.expand_dims("cell")).set_index("quantity")
    rate, bits = (table.loc[f"duel_{k}"].query("num_seeds > 0") for k in ("win_rate", "expected"))
    pooled = wins.sum(axis=0) / counts.sum(axis=0).clip(1)
    np.testing.assert_allclose(rate["mean"], pooled[rate["phase"]])
    assert set(bits["units"]) == {"bit/duel"}
    assert bits["mean"].between(0.1, 0.9).all()


def test_a_whole_run_is_that_of_the_plain_path(measured):
    """The same counts, and so the same duels won; what is not counted to rounding."""
    spec, data = measured
    assert checks.path(specs.resolved(spec)) == "fused"
    plain = simrl.run(dataclasses.replace(spec, engine="plain"), SEEDS).isel(cell=0)
    counts = {"success", "duels", "duel_wins", *(name.lower() for name in train.COUNTERS)}
    counts = {f"phase_{name}" for name in counts}
    assert set(plain) == set(data) > counts
    for name in plain:
        mine, theirs = data[name].values, plain[name].values
        whole = name in counts or not np.issubdtype(theirs.dtype, np.floating)
        tolerances = (0, 0) if whole else (1e-5, 1e-5)
        np.testing.assert_allclose(mine, theirs, *tolerances, err_msg=name)


def test_an_own_learner_may_not_tell_who_won():
    trial = build(simrl.Sequence(2, 2), simrl.SelfPlay())._replace(measures=("duel",))
    info = simrl.Info(*(jnp.zeros(()),) * 6)._replace(success=jnp.zeros((2, 6)))
    counted = asked.of_update(trial, info, jnp.array([[True, False]]))
    assert counted["duels"].tolist() == [3]
    assert np.isnan(counted["duel_wins"]).all()
    heard = Heard(*(jnp.zeros((2, 5)),) * 5)
    of_draws = asked.of_lanes(trial, heard)
    np.testing.assert_array_equal(of_draws["duels"], 8)  # of two groups
    assert np.isnan(of_draws["duel_wins"]).all()


@pytest.mark.parametrize(
    ("world", "learner", "line"),
    [
        (simrl.Sequence(2, 2), "policy_gradient", "measure duel needs self_play"),
        (simrl.Bandit("gaussian"), "self_play", "measure duel needs rewards that always tell"),
        (simrl.Sequence(9, 2, "prefix"), "self_play", "at most 262144, not 531441"),
        (simrl.Sequence(8, 4), "self_play", r"vocab_size\^\(2 length\) must be at most 262144"),
    ],
)
def test_bits_that_cannot_be_told_are_refused(world, learner, line):
    with pytest.raises(simrl.SpecError, match=line) as error:
        simrl.Sweep(simrl.Spec(world, learner, measures=("duel",))).cells()
    assert "\n" not in str(error.value)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="do not match"):
        duels.duel_information(jnp.ones(2) / 2, jnp.ones((3, 3)))
    odd = simrl.Spec(learner=simrl.SelfPlay(group_size=3))
    with pytest.raises(simrl.SpecError, match="group_size must be even"):
        specs.validate(specs.resolved(odd))
    noisy = simrl.Spec(simrl.Sequence(labels="zipf"), "self_play")
    with pytest.raises(simrl.SpecError, match="self_play needs fixed labels"):
        specs.validate(specs.resolved(noisy))
