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
from simrl.engine import asked, fused, observe, train
from simrl.environments import sequence
from simrl.learners.self_play import verdicts
from simrl.measures import duels, messages, together
from simrl.sweeps import checks
from simrl.sweeps import spec as specs
from simrl.types import Heard
from tests.contracts.worlds import begun, build, some_logits, streams
from tests.engine.stretch import after, lanes_of
from tests.oracles import enumeration

NUM = 6000
SEEDS, STEPS = 64, 8

verdicts_of = jax.jit(verdicts)
information_of = jax.jit(jax.vmap(duels.duel_information, (None, None, 0)))


def listed_of(world):
    """(law, answers) -> the information of each answer."""
    listed = jax.vmap(partial(duels.listed_information, world=world), (None, 0))
    return jax.jit(lambda probs, answers: listed(jnp.log(probs), answers))


def test_the_mean_is_the_gradient_of_the_chance_to_win():
    spec = simrl.SelfPlay(group_size=2, optimizer=simrl.Optimizer())
    trial = build(simrl.Sequence(2, 2, "fraction"), spec)
    task, state = begun(trial, jax.random.key(2))
    state = state._replace(params=jnp.asarray(some_logits(state.params.shape)))

    def one(seed):
        new, info = trial.learner.step(streams(seed), state, task)
        return new.params - state.params, info

    change, info = jax.device_get(jax.jit(jax.vmap(one))(np.arange(NUM)))
    powers = np.exp(np.asarray(state.params, np.float64)[0])
    answer = np.asarray(task.answers)[0]
    probs = powers / powers.sum(axis=-1, keepdims=True)
    samples = enumeration.sequence_samples(probs, answer, "fraction")
    pay, score = samples.credit[:, 0], samples.score
    wins = (pay[:, None] > pay) + (pay[:, None] == pay) / 2
    chance = samples.weight @ wins.T  # of each guess
    want = np.einsum("n,n,nlv->lv", samples.weight, chance, score)
    got = np.asarray(change, np.float64)[:, 0]
    error = got.std(axis=0) / np.sqrt(NUM)
    assert np.all(np.abs(got.mean(axis=0) - want) < 4 * error)
    assert np.abs(want).max() > 8 * error.max()
    np.testing.assert_array_equal(info.flops[:, 0, 1], 8 * 2 * 4)
    scores = listed_scores(2, 2, "fraction")[:, answer @ [2, 1]]
    first, second = scores[info.answers[:, 0] @ [2, 1]].T
    tied, won = first == second, info.wins[:, 0]
    np.testing.assert_array_equal(won[~tied], (first > second)[~tied])
    assert abs(won[tied].mean() - 0.5) < 4 * 0.5 / np.sqrt(tied.sum())

    @jax.jit
    def seen_of(state, task):
        known = observe.truth(trial, task)
        return observe.of_state(trial, state, task, known, jax.random.key(1))

    seen = seen_of(state, task)
    assert "expected" not in seen  # it is not told what the world pays
    np.testing.assert_array_equal(seen["nominal"], 0.5)  # an even coin for two guesses
    np.testing.assert_allclose(seen["pass_rate"], samples.weight @ (pay == 1), rtol=1e-5)


def test_verdicts_and_ties():
    credit = np.float32([[[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]])
    words = np.zeros((1, 2), np.uint32)
    np.testing.assert_array_equal(verdicts_of(credit, words), [[-0.5, 0.5, -0.5, 0.5]])
    tie, heads, tails = np.ones((1, 2, 2)), np.uint32([[0]]), np.uint32([[2**31]])
    np.testing.assert_array_equal(verdicts_of(tie, heads), [[0.5, -0.5]])
    np.testing.assert_array_equal(verdicts_of(tie, tails), [[-0.5, 0.5]])


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
        given, each, listed = (
            np.float32(probs),
            np.arange(4),
            listed_of(messages.World(2, 2, reward)),
        )
        for got in (information_of(given, scores, each), listed(given, each)):
            np.testing.assert_allclose(got.expected, want, rtol=1e-5)
            np.testing.assert_allclose(got.realised, realised, rtol=1e-5)
            np.testing.assert_allclose(got.win_rate, 0.5, rtol=1e-6)
            np.testing.assert_allclose(got.tie_rate, ties, rtol=1e-5)


@pytest.mark.parametrize("reward", ["exact", "fraction"])
def test_sure_beliefs_keep_the_digits_of_their_bits(reward):
    rest = np.array([2e-6, 3e-6, 1e-6])
    probs = np.array([1 - rest.sum(), *rest])
    want, realised, _ = bits_by_listing(probs, listed_scores(2, 2, reward))
    measure = listed_of(messages.World(2, 2, reward))
    got = jax.device_get(measure(np.float32(probs), np.arange(4)))
    assert want < 1e-9
    np.testing.assert_allclose(got.expected[0], want, rtol=1e-4)
    np.testing.assert_allclose(got.realised, realised, rtol=1e-4)
    none = jax.device_get(measure(np.float32([1, 0, 0, 0]), np.arange(4)))
    assert not none.expected.any()
    assert not none.realised.any()  # whatever is right: two guesses that are one are a tie
    half = jax.device_get(measure(np.float32([0.5, 0.5, 0, 0]), np.arange(2)))
    np.testing.assert_allclose([*half.expected, *half.realised], 0.5, rtol=1e-6)


def laws_of_verdicts(scores, duelling):
    """Laws [N, 2^D] of all verdicts of D duels between guesses [D, 2] by number, by the answer.

    And whether the first guess won, [2^D, D], in each of them.
    """
    won = np.array(list(itertools.product([True, False], repeat=len(duelling))))
    lead = np.sign(scores[duelling[:, 0]] - scores[duelling[:, 1]]).T[:, None]  # [N, 1, D]
    return np.prod((1 + np.where(won, lead, -lead)) / 2, axis=-1), won


@pytest.mark.parametrize("reward", sequence.REWARDS)
def test_what_duels_tell_together_is_what_the_posterior_gains(reward):
    draw, world = np.random.default_rng(3), messages.World(2, 3, reward)
    scores, probs = listed_scores(2, 3, reward), draw.dirichlet(np.ones(9))

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None, None))
    @partial(jax.vmap, in_axes=(None, 0, None))
    @partial(jax.vmap, in_axes=(None, None, 0))
    def gain(duelling, won, answer):
        pairs = jnp.stack([duelling // 3, duelling % 3], axis=-1)  # [D, 2, L]
        first, guesses = won[:, None], (pairs[:, 0], pairs[:, 1])
        beat = jnp.where(first, *guesses), jnp.where(first, *guesses[::-1])
        likely = jnp.sum(jax.vmap(partial(duels.log_likelihood, world=world))(*beat), axis=0)
        return duels.realised_jointly(jnp.log(jnp.float32(probs)), answer, likely)

    each, many = np.indices((9, 9)).reshape(2, -1).T, draw.integers(9, size=(20, 3, 2))
    many[:10, 2] = many[:10, 0]  # once more: a coin may say something else
    alone = np.stack([each, 0 * each, 0 * each], axis=1)  # one duel, and two of one guess
    for duelling in (many, alone):
        laws, won = zip(*(laws_of_verdicts(scores, guesses) for guesses in duelling), strict=True)
        laws = np.array(laws)  # [cases, N, 2^D]
        want = np.log2(np.where(laws > 0, laws, 1) / np.where(laws > 0, (probs @ laws)[:, None], 1))
        got = np.swapaxes(np.asarray(gain(duelling, won[0], np.arange(9))), 1, 2)
        np.testing.assert_allclose(np.where(laws > 0, got, 0), want, rtol=1e-5, atol=1e-6)
    assert want.max() > 0.5 > 0 > want.min()  # a coin may have misled
    told = np.sum(laws * np.where(laws > 0, got, 0), axis=-1)
    realised = bits_by_listing(probs, scores)[1]
    weight = probs[each[:, 0]] * probs[each[:, 1]]
    np.testing.assert_allclose(weight @ told, realised, rtol=1e-5)  # what one duel tells
    assert told.min() > -1e-6


def test_a_sure_belief_that_duels_bear_out_keeps_its_digits():
    probs = np.array([1 - 6e-6, 2e-6, 3e-6, 1e-6])
    likely = np.array([2.0, 3.0, -np.inf, 0.0])
    want = [-np.log2(probs @ 2 ** (likely - likely[y])) for y in (0, 1)]
    measure = jax.jit(duels.realised_jointly)
    for y, bits in enumerate(want):
        got = measure(jnp.log(jnp.float32(probs)), jnp.int32(y), jnp.float32(likely))
        np.testing.assert_allclose(got, bits, rtol=1e-4)
    assert 0 < abs(want[0]) < 1e-5


@pytest.mark.parametrize(
    "world",
    [
        simrl.Sequence(3, 2, "fraction", num_prompts=2),
        simrl.Sequence(3, 2, num_right=2),
    ],
)
def test_an_update_tells_of_its_prompts_apart(world):
    """Duels at one prompt in two groups add up; several right answers are one."""
    draw, trial = np.random.default_rng(5), build(world, simrl.SelfPlay(4, 3))
    trial, num = trial._replace(measures=("duel",)), world.num_prompts
    truth = jax.jit(lambda key: observe.truth(trial, trial.environment.init(key)))
    known = jax.device_get(truth(jax.random.key(2)))
    right = known.right if known.right is not None else known.answers @ np.array([[3], [1]])
    belief, prompts = draw.dirichlet(np.ones(3), size=(num, 2)), np.arange(3) % num
    made, coins = draw.integers(9, size=(3, 4)), draw.uniform(size=(3, 2)) < 0.5
    made[0, 0], made[1, 3] = right[0, 0], right[num - 1, -1]
    scores, won, want = listed_scores(2, 3, world.reward), coins.copy(), []
    for m in range(num):
        own, paid, law = right[m], scores, np.outer(*belief[m]).ravel()
        if len(own) > 1:  # an answer is the first of them
            law[own[0]] += law[own[1:]].sum()
            law[own[1:]] = 0
            paid = np.where(np.isin(np.arange(9), own)[:, None], scores[own[0]], scores)
        after = law.copy()
        for g, d in itertools.product(np.flatnonzero(prompts == m), range(2)):
            lead = np.sign(paid[made[g, 2 * d]] - paid[made[g, 2 * d + 1]])
            won[g, d] = lead[own[0]] > 0 or (lead[own[0]] == 0 and coins[g, d])
            after *= (1 + (1 if won[g, d] else -1) * lead) / 2
        want.append(np.log2(after[own[0]] / after.sum() / law[own[0]]))
    info = simrl.Info(*(np.zeros(()),) * 6)._replace(
        prompts=prompts,
        answers=np.stack([made // 3, made % 3], axis=-1),
        success=np.zeros((3, 4)),
        won=won,
    )

    @jax.jit
    def told_of(law, known, info):
        logs = jnp.log(law)
        given = observe.answers.beliefs(trial, logs) if observe.answers.are_listed(trial) else logs
        return observe.of_update(trial, given, known, info)

    told = told_of(np.float32(belief), known, info)
    np.testing.assert_allclose(told["realised_update"], want, rtol=1e-5)
    assert "expected_update" not in told
    assert min(np.abs(want)) > 0.01


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
    init = spec.environment.build().init
    tasks = jax.jit(jax.vmap(lambda i: init(keys.streams(base, i).task)))(np.arange(SEEDS))
    right = np.asarray(tasks.answers) @ [2, 1]
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
    rows = table.loc["efficiency"].query("num_seeds > 0")
    absorbed, joint = (
        data[f"phase_{k}"].values.sum(axis=0)[rows["phase"]]
        for k in ("absorbed", "realised_update")
    )
    np.testing.assert_allclose(rows["mean"], absorbed / joint, rtol=1e-5)
    assert 0.1 < absorbed.sum() / joint.sum() < 1
    assert "expected_joint" not in table.index


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
    known, mine = observe.Truth(jnp.zeros((1, 2), int), None), jnp.array([[True, False]])
    counted = asked.of_update(trial, jnp.zeros((1, 2, 2)), known, info, mine)
    assert counted["duels"].tolist() == [3]
    assert np.isnan(counted["duel_wins"]).all()
    assert np.isnan(counted["realised_update"]).all()
    heard = Heard(*(jnp.zeros((2, 5)),) * 5)
    of_draws = asked.of_lanes(trial, heard)
    np.testing.assert_array_equal(of_draws["duels"], 8)  # of two groups
    assert np.isnan(of_draws["duel_wins"]).all()
    assert np.isnan(
        together.of_duels(heard, jnp.zeros((4, 5)), None, messages.World(2, 2, "exact"), None)
    ).all()


@pytest.mark.parametrize(
    ("world", "learner", "line"),
    [
        (simrl.Sequence(2, 2), "policy_gradient", "measure duel needs self_play"),
        (simrl.Bandit("gaussian"), "self_play", "measure duel needs rewards that always tell"),
        (simrl.Sequence(17, 3), "self_play", r"vocab_size\^length must be at most 4096, not 4913"),
    ],
)
def test_bits_that_cannot_be_told_are_refused(world, learner, line):
    with pytest.raises(simrl.SpecError, match=line) as error:
        simrl.Sweep(simrl.Spec(world, learner, measures=("duel",))).cells()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("vocab_size", "reward", "listed"),
    [(4, "fraction", True), (5, "fraction", False), (8, "exact", True)],
)
def test_where_pairs_are_too_many_duels_still_tell_together(vocab_size, reward, listed):
    world = simrl.Sequence(vocab_size, 3, reward)
    spec = specs.resolved(simrl.Spec(world, "self_play", measures=("duel",)))
    specs.validate(spec)
    names = observe.quantities(build(world, simrl.SelfPlay())._replace(measures=spec.measures))
    assert {"duels", "duel_wins", "realised_update"} < set(names)
    assert ("duel_expected" in names) == ("duel_realised" in names) == listed


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="do not match"):
        duels.duel_information(jnp.ones(2) / 2, jnp.ones((3, 3)))
    odd = simrl.Spec(learner=simrl.SelfPlay(group_size=3))
    with pytest.raises(simrl.SpecError, match="group_size must be even"):
        specs.validate(specs.resolved(odd))
    noisy = simrl.Spec(simrl.Sequence(labels="zipf"), "self_play")
    with pytest.raises(simrl.SpecError, match="self_play needs fixed labels"):
        specs.validate(specs.resolved(noisy))


def test_several_right_answers_are_one_on_both_paths():
    spec = simrl.Spec(
        simrl.Sequence(3, 2, num_prompts=2, num_right=2),
        simrl.SelfPlay(4, 3, simrl.Optimizer("sgd", {"learning_rate": 2.0})),
        phases=simrl.Phases(num=1),
        measures=("duel",),
    )
    setup, jobs = lanes_of(spec, 64)

    @jax.jit
    def updates(jobs):
        return [after(setup, STEPS, path, jobs)[1] for path in (train.path, fused.path)]

    plain, heard = updates(jobs)
    assert set(plain) == set(heard)
    for name in plain:
        np.testing.assert_allclose(heard[name], plain[name], 1e-5, 1e-5, err_msg=name)
    assert np.ptp(plain["realised_update"]) > 0.1
