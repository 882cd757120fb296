"""What a spec asks for besides, and the lines of the bill, against NumPy from stored beliefs."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.measures import information
from simrl.sweeps.spec import SpecError
from tests.oracles import enumeration as oracle

ARMS, SIZE = 4, 3


def change(spec, **changes):
    return dataclasses.replace(spec, **changes)


def assert_within(drawn, wanted, num_errors=4):
    """The mean over seeds of an unbiased estimate is what is wanted, to its standard error."""
    error = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
    np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - wanted), num_errors * error + 1e-7)


@pytest.fixture(scope="module")
def asked(guessing):
    """Own group mean, which is biased, with every measure of the gradient."""
    learner = simrl.PolicyGradient("batch_mean", SIZE, optimizer=simrl.Optimizer())
    measures = ("two_batch", "bias", "redraws", "cosine")
    spec = change(guessing, learner=learner, log_points=2, num_redraws=32, measures=measures)
    return simrl.run(spec, 512).isel(cell=0)


@pytest.fixture(scope="module")
def batches():
    """Every batch at the uniform policy: its chance, and its gradient by the oracle."""
    probs = np.full((1, ARMS), 1 / ARMS)
    samples = oracle.sequence_samples(probs, [0], "exact")
    chance, index = oracle.batches(samples, SIZE)
    return chance, oracle.gradient(samples, index, "group_mean")[:, 0], probs[0]


def test_bias_of_the_own_mean(asked):
    probs = np.exp(np.float64(asked["belief"].values))[:, :, 0, 0]
    right = np.eye(ARMS)[0]
    gradient = probs[..., :1] * (right - probs)
    wanted = (gradient**2).sum(axis=-1) / SIZE**2
    np.testing.assert_allclose(asked["squared_bias"].values, wanted, rtol=1e-4)
    total = asked["phase_squared_bias"].values.sum(axis=1)
    assert np.all((total > 0) == (asked["total_step"].values > 0))


def test_redraws_and_two_batches_agree_with_the_closed_form(asked):
    exact = {name: asked[name].values[:, 0] for name in ("trace_covariance", "squared_norm")}
    for name, wanted in exact.items():
        assert np.ptp(wanted) == 0  # every seed starts from the same policy
        for way in ("redrawn", "two_batch"):
            assert_within(asked[f"{way}_{name}"].values[:, 0], wanted[0])
            said = asked[f"{way}_{name}_error"].values[:, 0]
            seen = asked[f"{way}_{name}"].values[:, 0].std(ddof=1)
            assert 0.8 < np.sqrt((said**2).mean()) / seen < 1.5  # jackknives err on the safe side
            assert asked[f"{way}_{name}"].attrs["exact"] == 0
    leaf = asked["leaf_trace_covariance"]
    assert leaf.dims == ("seed", "log_point", "leaf")
    redrawn = asked["redrawn_trace_covariance"].values
    np.testing.assert_allclose(leaf.values[..., 0], redrawn, rtol=1e-5)


def test_cosine_and_zero_share_at_the_start(asked, batches):
    chance, gradient, probs = batches
    live = (gradient**2).sum(axis=1) > 1e-12
    score = np.eye(ARMS)[0] - probs
    norms = np.linalg.norm(gradient[live], axis=1) * np.linalg.norm(score)
    cosine = gradient[live] @ score / norms
    assert_within(asked["zero_share"].values[:, 0], 1 - chance[live].sum())
    # A mean over the live draws of each seed, whose number varies: weigh by it.
    shares = 1 - asked["zero_share"].values[:, 0]
    mean = (chance[live] * cosine).sum() / chance[live].sum()
    assert_within(shares * (asked["cosine"].values[:, 0] - mean), 0.0)
    assert asked["cosine"].attrs["units"] == "1"


@pytest.mark.parametrize("advantage", ["none", "leave_one_out"])
def test_dead_groups_and_the_lines_of_the_bill(guessing, advantage):
    learner = simrl.PolicyGradient(advantage, group_size=SIZE)
    spec = change(guessing, learner=learner, max_steps=1, log_points=1)
    data = simrl.run(spec, 128).isel(cell=0)
    hits = data["phase_success"].values.sum(axis=1)
    dead = hits == 0 if advantage == "none" else (hits == 0) | (hits == SIZE)
    assert 0 < dead.sum() < len(dead)
    np.testing.assert_array_equal(data["total_dead"].values, SIZE * dead)
    token = {"decode": 2 * ARMS, "training": 6 * ARMS}
    for line, rate in token.items():
        np.testing.assert_array_equal(
            data[f"total_flops_{line}"].values, rate * SIZE * ~dead, err_msg=line
        )
    np.testing.assert_array_equal(data["total_flops_dead"].values, 8 * ARMS * SIZE * dead)
    for place in ("phase", "total"):
        lines = sum(data[f"{place}_flops_{line}"].values for line in (*token, "dead"))
        np.testing.assert_array_equal(lines, data[f"{place}_flops"].values)


def test_world_and_learner_are_counted_apart(guessed, guessing):
    learner = sum(
        int(guessed[f"update_learner_{kind}"].values[0])
        for kind in ("matmul", "elementwise", "transcendental", "reduction")
    )
    charged = guessed["total_flops_counted"].values
    np.testing.assert_array_equal(charged, learner * guessed["total_step"].values)
    assert guessed["update_world_elementwise"].values[0] >= 0
    assert guessed["update_learner_random_words"].values[0] >= guessing.learner.group_size


def poisson_binomial(chances):
    """Law of the number of hits, one position after the other."""
    law = np.ones(1)
    for chance in chances:
        law = np.convolve(law, [1 - chance, chance])
    return law


def fraction_bits(probs, answer, guess):
    """Entropy of the message, and surprise at the one that the truth gives."""
    law = poisson_binomial([row[symbol] for row, symbol in zip(probs, guess, strict=True)])
    heard = int(np.sum(np.array(guess) == answer))
    kept = law[law > 0]
    return -(kept * np.log2(kept)).sum(), -np.log2(law[heard])


def test_fraction_beyond_the_list_is_sampled(guessing):
    world = simrl.Sequence(vocab_size=5, length=6, reward="fraction")
    learner = simrl.PolicyGradient("none", 8, optimizer=simrl.Optimizer())
    spec = change(guessing, environment=world, learner=learner, log_points=2, num_redraws=256)
    data = simrl.run(spec, 4).isel(cell=0)
    closed = float(jax.jit(partial(information.channel_information, 5, 6, "fraction"))())
    np.testing.assert_allclose(data["expected"].values[:, 0], closed, rtol=1e-5)
    rng = np.random.default_rng(5)
    probs = np.exp(np.float64(data["belief"].values[0, -1, 0]))
    probs /= probs.sum(axis=-1, keepdims=True)
    assert probs.max() > 0.4  # it has learned something
    draw = jax.jit(lambda key: world.build().init(keys.streams(key, jnp.uint32(0)).task))
    answer = np.asarray(draw(jax.random.key(spec.base_seed)).answers)[0]
    draws = [[rng.choice(5, p=row) for row in probs] for _ in range(4000)]
    bits = np.array([fraction_bits(probs, answer, guess) for guess in draws])
    for name, column in zip(("expected", "realised"), bits.T, strict=True):
        said = data[f"{name}_error"].values[0, -1]
        error = np.hypot(said, column.std() / np.sqrt(len(column)))
        assert abs(data[name].values[0, -1] - column.mean()) < 4 * error
        assert data[name].attrs["exact"] == data[f"phase_{name}"].attrs["exact"] == 0
    assert np.isfinite(data["phase_expected"].values).all()


def test_noisy_labels_of_a_known_law(labelled):
    world = simrl.Sequence(vocab_size=3, length=2, reward="token", labels="zipf")
    ranks = 1 / (1.0 + np.arange(3))
    ranks /= ranks.sum()
    confusion = np.array([np.roll(ranks, y) for y in range(3)])  # row y: law of a label
    for learner in (simrl.Supervised(2), simrl.PolicyGradient(group_size=2)):
        spec = change(labelled, environment=world, learner=learner, keep_beliefs=True)
        spec = change(spec, max_steps=6, log_points=2, measures=("known_channel",))
        data = simrl.run(spec, 4).isel(cell=0)
        probs = np.exp(np.float64(data["belief"].values[:, -1, 0]))
        for seed in range(4):
            wanted = sum(noisy_bits(row, confusion, learner) for row in probs[seed])
            np.testing.assert_allclose(data["expected"].values[seed, -1], wanted, rtol=1e-4)
    assert "expected" not in simrl.run(change(spec, measures=()), 2)


def noisy_bits(row, confusion, learner):
    """Mutual information of the truth and what is shown, off a joint table."""
    size = len(row)
    table = np.zeros((size, size, 2))  # truth, symbol, shown or not
    for y, a in itertools.product(range(size), range(size)):
        if isinstance(learner, simrl.Supervised):
            table[y, a, 1] = row[y] * confusion[y, a]
        else:  # the guess a is compared with a fresh label
            table[y, a] = row[y] * row[a] * np.array([1 - confusion[y, a], confusion[y, a]])
    given = table.sum(axis=0)
    table = table.reshape(size, -1)
    ratio = table / (row[:, None] * given.reshape(-1) + (table == 0))
    return float((table * np.log2(np.where(table > 0, ratio, 1))).sum())


def test_unknown_measures_are_refused(guessing):
    for measures in (("entropy",), "entropy", 3):
        with pytest.raises(SpecError, match="measures must be") as error:
            simrl.run(change(guessing, measures=measures), 2)
        assert "\n" not in str(error.value)
