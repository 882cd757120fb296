"""Noisy labels, verifiers that err, several right answers and given guesses, against listing."""

import functools
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures.feedback import (
    merge_right_answers,
    noisy_label_information,
    noisy_token_information,
    observed_pass_rate,
    right_answers_log_odds,
    verifier_information,
)
from simrl.measures.guesses import guess_information, sampled_information
from simrl.measures.information import expected_information, realised_information
from simrl.measures.sequences import sequence_information, sequence_log_odds
from tests.oracles import feedback as oracle
from tests.oracles.information import (
    EXTREME,
    TOLERANCE,
    belief,
    decimal_softmax,
    laws,
    list_answers,
    log2,
    marginals,
    relative_error,
    safe_log,
)

RATES = ((0.0, 0.0), (0.1, 0.3), (0.0, 0.4), (0.2, 0.0), (0.9, 0.8))
ROWS = np.array([[0.75, 0.125, 0.125], [0.25, 0.5, 0.25], [0.0, 0.0625, 0.9375]])  # exact floats
MIXED = np.stack([ROWS, ROWS[::-1]])
MIXED_EXACT = [[[Decimal(float(p)) for p in row] for row in rows] for rows in MIXED]

label_bits = jax.jit(noisy_label_information)
token_bits = jax.jit(noisy_token_information)
verifier_bits = jax.jit(verifier_information)
pass_rate_of = jax.jit(observed_pass_rate)
merge = jax.jit(merge_right_answers)
right_odds = jax.jit(right_answers_log_odds)
guess_bits = jax.jit(guess_information, static_argnames="channel")
sequence_bits = jax.jit(sequence_information, static_argnames="channel")
choice_expected = jax.jit(expected_information, static_argnames="feedback")
choice_realised = jax.jit(realised_information, static_argnames="feedback")
sampled_bits = jax.jit(sampled_information, static_argnames=("channel", "num_guesses"))


@functools.cache
def noisy_world(shape, index):
    """A belief, a confusion, its possible truths, and what labels and verdicts tell under each."""
    law = list(laws(10, shape))[index]
    confusion, prior = oracle.confusions(index, shape), belief(law)
    truths = [y for y, p in prior.items() if p > 0][:: max(1, shape[0] * 2 - 1)]
    labels = [oracle.both(oracle.label_table(prior, confusion), y) for y in truths]
    verdicts = [oracle.on_policy(prior, y, "token", confusion) for y in truths[:1]]
    return law, confusion, truths, labels, verdicts


@pytest.mark.parametrize("shape", [(1, 4), (2, 3)])
def test_noisy_labels_and_verdicts_by_listing(x64, shape):
    for index in range(4):
        law, confusion, truths, labels, verdicts = noisy_world(shape, index)
        for bits, wants in ((label_bits, labels), (token_bits, verdicts)):
            for truth, want in zip(truths, wants, strict=False):
                got = bits(safe_log(law), np.array(truth), confusion)
                np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64], atol=1e-12)


def test_a_noisy_label_tells_at_least_as_much_as_a_verdict_on_it():
    rng = np.random.default_rng(0)
    size = 200
    log_laws = np.log(rng.dirichlet([0.3] * 5, (size, 2)))
    confusion = rng.dirichlet([0.3] * 5, (size, 2, 5))
    answers = rng.integers(0, 5, (size, 2))
    with jax.enable_x64(True):
        label, token = (
            jax.jit(jax.vmap(bits))(log_laws, answers, confusion)
            for bits in (label_bits, token_bits)
        )
    for more, less in zip(label, token, strict=True):
        assert (np.asarray(more) >= np.asarray(less) - 1e-12).all()
        assert (np.asarray(less) >= 0).all()


@pytest.mark.parametrize("name", EXTREME)
def test_noisy_labels_of_extreme_beliefs_in_float32(name):
    logits = np.array(EXTREME[name], np.float32)
    log_law, prior = jax.nn.log_softmax(jnp.asarray(logits)), belief(decimal_softmax(logits))
    table = oracle.label_table(prior, MIXED_EXACT)
    for truth in ((0, 1), (0, 0), (2, 2)):
        answer = np.array(truth)
        pairs = [(label_bits, oracle.both(table, truth))]
        if truth == (0, 1):
            pairs.append((token_bits, oracle.on_policy(prior, truth, "token", MIXED_EXACT)))
        for bits, wants in pairs:
            for got, want in zip(bits(log_law, answer, MIXED), wants, strict=True):
                assert want < 1e-36 or relative_error(got, want) < 2e-5
        for bits, channel in ((label_bits, "label"), (token_bits, "token")):
            got = bits(log_law, answer, np.stack([np.eye(3)] * 2))
            want = sequence_bits(log_law, answer, channel)
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-36)


def test_labels_that_say_nothing_tell_nothing(x64):
    law = next(laws(1, (2, 3)))
    blind = np.broadcast_to(ROWS[0], (3, 3))  # one for all positions
    for bits in (label_bits, token_bits):
        assert bits(np.log(law), np.array([0, 1]), blind) == (0.0, 0.0)
        impossible = bits(safe_log(np.eye(3)[:2]), np.array([1, 1]), np.eye(3))
        assert impossible == (0.0, np.inf)


@pytest.mark.parametrize(("alpha", "beta"), RATES)
def test_verifier_by_listing(x64, alpha, beta):
    for law in laws(3, (4,)):
        prior = belief(law[None])
        for truth in np.flatnonzero(law)[:2]:
            got = verifier_bits(law, truth, alpha, beta)
            want = oracle.on_policy(prior, (truth,), "exact", None, alpha, beta)
            np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64], atol=1e-14)
        table = oracle.guess_table(prior, (1,), "exact", None, alpha, beta)
        passed = marginals(table)[1][True]
        got = np.asarray(pass_rate_of(law, alpha, beta))[1]
        np.testing.assert_allclose(got, passed, rtol=TOLERANCE[x64])


def test_verifiers_without_errors_or_without_gain(x64):
    beliefs = [*laws(4, (5,)), np.array([1.0, 1e-12, 3e-13, 0.0, 0.0])]
    for law in beliefs:
        for truth in (0, 1, 4):
            got = verifier_bits(law, truth, 0.0, 0.0)
            want = choice_expected(law, "outcome"), choice_realised(law, truth, "outcome")
            np.testing.assert_allclose(got, want, rtol=2e-6 if not x64 else 1e-12)
            np.testing.assert_allclose(verifier_bits(law, truth, 0.3, 0.7), 0, atol=1e-12)
    stack = np.stack(beliefs[:4])
    many = verifier_bits(stack, np.arange(4), np.full(4, 0.1), 0.2)
    one = verifier_bits(stack[2], 2, 0.1, 0.2)
    np.testing.assert_allclose([np.asarray(x)[2] for x in many], one, rtol=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(0.25, 0.125), (0.5, 0.5 - 2.0**-10), (0.0, 0.5)])
def test_verifier_of_sure_beliefs_in_float32(alpha, beta):
    probs = np.array([1.0, 1e-12, 3e-13], np.float32)
    exact = [Decimal(float(p)) for p in probs]
    exact[0] = 1 - exact[1] - exact[2]
    rates = Decimal(alpha), Decimal(beta)
    for truth in range(3):
        want = oracle.on_policy(belief([exact]), (truth,), "exact", None, *rates)
        got = verifier_bits(probs, truth, alpha, beta)
        assert max(map(relative_error, got, want)) < 1e-5


def test_merging_right_answers(x64):
    right = np.array([False, True, False, True, True])
    for law in laws(5, (5,)):
        merged, answer = merge(law, right)
        mass = law[right].sum()
        np.testing.assert_allclose(merged, [law[0], mass, law[2], 0, 0], rtol=1e-6)
        assert answer == 1
        prior = {(0,): law[0], (1,): mass, (2,): law[2]}
        want = oracle.on_policy(prior, (1,), "exact")
        got = (
            choice_expected(merged, "outcome"),
            choice_realised(merged, answer, "outcome"),
        )
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64])
    many, answers = merge(np.stack([law, law]), np.stack([right, ~right]))
    np.testing.assert_allclose(np.asarray(many)[0], merged)
    assert answers.tolist() == [1, 0]
    assert answers.dtype == np.int32
    unchanged, none = merge(law, np.zeros(5, bool))
    np.testing.assert_array_equal(unchanged, law.astype(np.float64 if x64 else np.float32))
    assert none == -1


def test_right_answers_by_listing(x64):
    rng = np.random.default_rng(6)
    for law in laws(6, (3, 3), 8):
        every = list_answers(3, 3)
        answers = [every[i] for i in rng.integers(0, 27, 5)]  # some twice
        p = oracle.mass(law, answers)
        got = right_odds(safe_log(law), np.array(answers))
        want = np.log(p / (1 - p)) if p else -np.inf
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64], atol=TOLERANCE[x64])
    assert right_odds(safe_log(law), np.array(every)) == np.inf


@pytest.mark.parametrize("name", EXTREME)
def test_right_answers_of_extreme_beliefs_in_float32(name):
    logits = np.array(EXTREME[name], np.float32)
    law, log_law = decimal_softmax(logits), jax.nn.log_softmax(jnp.asarray(logits))
    for answers in ([(0, 1), (0, 0), (1, 1)], [(2, 2), (1, 0), (1, 2)], [(0, 1), (0, 2), (0, 0)]):
        p = oracle.mass(law, answers)
        got = right_odds(log_law, np.array(answers))
        np.testing.assert_allclose(got, float((p / (1 - p)).ln()), rtol=2e-6, atol=2e-6)


@functools.cache
def told_of_guesses(channel, index, noisy, alpha=0.0, beta=0.0):
    """A belief, its confusion, its possible answers, a truth, bits of every guess."""
    law = list(laws(11, (2, 3)))[index]
    prior = {y: p for y, p in belief(law).items() if p > 0}
    confusion = oracle.confusions(20 + index, (2, 3)) if noisy else None
    truth = max(prior) if index % 2 else min(prior)
    tables = [oracle.guess_table(prior, g, channel, confusion, alpha, beta) for g in prior]
    return law, confusion, prior, truth, [oracle.both(table, truth) for table in tables]


MESSAGES = (
    ("exact", 0.0, 0.0),
    ("exact", 0.1, 0.3),
    ("fraction", 0.0, 0.0),
    ("prefix", 0.0, 0.0),
    ("token", 0.0, 0.0),
    ("token", 0.1, 0.3),
)


@pytest.mark.parametrize(("channel", "alpha", "beta"), MESSAGES)
def test_every_guess_by_listing(x64, channel, alpha, beta):
    rates = {"false_positive": alpha, "false_negative": beta}
    for index in range(4):
        law, _, prior, truth, want = told_of_guesses(channel, index, False, alpha, beta)
        guesses = np.resize(np.array(list(prior)), (9, 2))  # one shape, one compilation
        got = guess_bits(safe_log(law), np.array(truth), guesses, channel=channel, **rates)
        assert got.expected.dtype == got.realised.dtype == (np.float64 if x64 else np.float32)
        got = np.stack(got, -1)[: len(prior)]
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64], atol=1e-14 if x64 else 1e-12)


@pytest.mark.parametrize(("channel", "alpha", "beta"), MESSAGES)
def test_guesses_at_noisy_labels_by_listing(x64, channel, alpha, beta):
    rates = {"false_positive": alpha, "false_negative": beta}
    for index in range(4):
        law, confusion, prior, truth, want = told_of_guesses(channel, index, True, alpha, beta)
        answers, size = np.array(list(prior)), len(prior)
        guesses = np.resize(np.repeat(answers, size, 0), (81, 2))  # every guess with every truth
        noise = {"confusion": confusion, "truths": np.resize(answers, (81, 2)), **rates}
        bits = guess_bits(safe_log(law), np.array(truth), guesses, channel=channel, **noise)
        by_guess = [np.asarray(x)[: size**2].reshape(size, size) for x in bits]
        got = np.stack([x @ list(prior.values()) for x in by_guess], -1)
        # a difference of entropies is known to a rounding of the entropies
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64], atol=1e-14 if x64 else 2e-7)


def test_expected_bits_of_one_truth_are_a_difference_of_entropies():
    law, confusion, prior, truth, _ = told_of_guesses("fraction", 1, True)
    guess, drawn = list(prior)[4], list(prior)[7]
    table = oracle.guess_table(prior, guess, "fraction", confusion)
    alone = oracle.guess_table({drawn: 1.0}, guess, "fraction", confusion)
    message, given = (
        -sum(p * log2(p) for p in marginals(t)[1].values() if p) for t in (table, alone)
    )
    guesses, truths = (np.resize(np.array(x), (81, 2)) for x in (guess, drawn))
    noise = {"confusion": confusion, "truths": truths, "false_positive": 0.0, "false_negative": 0.0}
    with jax.enable_x64(True):
        got = guess_bits(np.log(law), np.array(truth), guesses, channel="fraction", **noise)
    np.testing.assert_allclose(got.expected, message - given, rtol=1e-10)


def test_guesses_at_a_sure_belief_in_float32():
    logits = np.array(EXTREME["sure"], np.float32)
    prior, log_law = belief(decimal_softmax(logits)), jax.nn.log_softmax(jnp.asarray(logits))
    guesses, truth = [(0, 1), (0, 0), (2, 2)], np.array([0, 1])
    few, many = (np.resize(np.array(guesses), (size, 2)) for size in (9, 81))
    for channel in ("exact", "prefix", "token", "fraction"):
        rates = {"false_positive": 0.0, "false_negative": 0.0}
        clean = guess_bits(log_law, truth, few, channel=channel, **rates)
        noise = {"confusion": MIXED, "truths": many, **rates}
        noisy = guess_bits(log_law, truth, many, channel=channel, **noise)
        for n, guess in enumerate(guesses):
            want = oracle.both(oracle.guess_table(prior, guess, channel), (0, 1))
            assert max(map(relative_error, (x[n] for x in clean), want)) < 2e-5
            table = oracle.guess_table(prior, guess, channel, MIXED_EXACT)
            want = oracle.pointwise_information(table, (0, 1))
            # two laws of counts that differ by 1e-12 are the same in logs: 0 to a rounding squared
            limit = 1e-13 if channel == "fraction" else 1e-4 * float(want)
            assert abs(float(noisy.realised[n]) - float(want)) < limit


@pytest.mark.parametrize(("shape", "precise"), [((2, 3), False), ((6, 4), True)])
def test_weighted_guesses_are_the_closed_fraction_channel(shape, precise):
    law = list(laws(12, shape))[1]
    guesses, truth = np.array(list_answers(*shape)), law.argmax(-1)
    weights = np.prod(law[np.arange(shape[0]), guesses], -1)
    rates = {"false_positive": 0.0, "false_negative": 0.0}
    with jax.enable_x64(precise):
        each = guess_bits(np.log(law), truth, guesses, channel="fraction", **rates)
        want = sequence_bits(np.log(law), truth, "fraction")
    got = [weights @ np.asarray(x) for x in each]
    np.testing.assert_allclose(got, want, rtol=TOLERANCE[precise])


def test_long_answers_in_float32():
    log_law = np.full((1000, 2), -np.log(2.0))
    answer = np.zeros(1000, int)
    guesses = np.stack([answer, np.arange(1000) % 2, answer + 1])
    for channel in ("exact", "fraction"):
        bits = guess_bits(log_law, answer, guesses, channel=channel)
        assert np.isfinite(bits).all()
        np.testing.assert_allclose(np.asarray(bits.realised)[0], 1000, rtol=1e-5)
        if channel == "fraction":  # Binomial(1000, 1/2) is normal, to 1/n
            want = 0.5 * np.log2(2 * np.pi * np.e * 250)
            np.testing.assert_allclose(bits.expected, want, rtol=2e-4)
    confusion = np.array([[0.9, 0.1], [0.2, 0.8]])
    noise = {"confusion": confusion, "truths": guesses}
    noisy = guess_bits(log_law, answer, guesses, channel="fraction", **noise)
    assert np.isfinite(noisy).all()
    assert (np.asarray(noisy.realised) >= 0).all()
    for bits in (label_bits, token_bits):
        assert np.isfinite(bits(log_law, answer, confusion)).all()
    odds = right_odds(log_law, guesses)
    np.testing.assert_allclose(odds, np.log(3) - 1000 * np.log(2), rtol=1e-5)


def test_a_hundred_thousand_answers_in_float32():
    size = 100_000
    probs = np.r_[0.9, np.full(size - 1, 0.1 / (size - 1))].astype(np.float32)
    log_law = np.log(probs)[None]
    want = choice_expected(probs, "outcome"), choice_realised(probs, 7, "outcome")
    np.testing.assert_allclose(verifier_bits(probs, 7, 0.0, 0.0), want, rtol=1e-4)
    merged, answer = merge(probs, np.arange(size) >= 99_000)
    np.testing.assert_allclose(np.asarray(merged)[answer], 1e-3, rtol=1e-4)
    np.testing.assert_allclose(right_odds(log_law, [[0], [1]]), np.log(0.9 / 0.1), rtol=1e-4)
    got = sampled_bits(jax.random.key(0), log_law, np.array([7]), "exact", num_guesses=512)
    assert np.isfinite(got).all()
    assert abs(got.expected - want[0]) < 4 * got.expected_standard_error


def test_sampled_bits_within_four_standard_errors():
    law, confusion = list(laws(13, (2, 3)))[1], oracle.confusions(13, (2, 3))
    log_law, answer = np.log(law), np.array([2, 0])
    draws = jax.random.split(jax.random.key(3), 3)
    cases = (
        ("fraction", {}, sequence_bits(log_law, answer, "fraction")),
        ("token", {"confusion": confusion}, token_bits(log_law, answer, confusion)),
    )
    for channel, noise, want in cases:
        call = functools.partial(sampled_information, channel=channel, num_guesses=400, **noise)
        got = jax.jit(jax.vmap(lambda k, call=call: call(k, log_law, answer)))(draws)
        got = jax.tree.map(np.asarray, got)
        for mean, error, exact in zip(got[:2], got[2:], want, strict=True):
            assert (np.abs(mean - exact) < 4 * error).all()
            assert ((error > 0) & (error < 0.2)).all()
    assert len(set(got.expected.tolist())) == 3


def test_sampled_standard_errors_are_those_of_the_mean():
    # one sure guess; every draw alike; then a belief that rules the truth out
    sure = safe_log(np.array([[1.0, 0.0]]))
    assert sampled_bits(jax.random.key(0), sure, np.array([0]), "exact", 64) == (0, 0, 0, 0)
    assert sampled_bits(jax.random.key(0), sure, np.array([1]), "exact", 64) == (
        0,
        np.inf,
        0,
        np.inf,
    )
    half = sampled_bits(jax.random.key(1), np.log([[0.2, 0.8]]), np.array([0]), "exact", 64)
    # guess 0 is right, guess 1 wrong: both say -log2 0.2; only the wrong ones are left to chance
    told = -np.log2(0.2)
    wrong = half.realised / told - 0.2
    assert 64 * wrong == pytest.approx(round(64 * float(wrong)), abs=1e-3)
    error = told * np.sqrt(wrong * (1 - wrong) * 64 / 63) / 8
    np.testing.assert_allclose(half.realised_standard_error, error, rtol=1e-4)
    assert 0 < abs(half.realised - told) < 4 * error


def test_one_position_is_the_outcome():
    law, answer = list(laws(14, (1, 4)))[1], np.array([2])
    bits = guess_bits(np.log(law), answer, np.arange(4)[:, None], channel="fraction")
    got = [law[0] @ np.asarray(x) for x in bits]
    np.testing.assert_allclose(got, sequence_bits(np.log(law), answer, "exact"), rtol=1e-5)
    odds = right_odds(np.log(law), answer[None])
    np.testing.assert_allclose(odds, jax.jit(sequence_log_odds)(np.log(law), answer), rtol=1e-5)


def test_what_cannot_be_told_is_refused():
    law, answer = jnp.log(jnp.full((2, 2), 0.5)), jnp.array([0, 1])
    guess = answer[None]
    with pytest.raises(ValueError, match=r"^unknown channel 'label'; allowed: "):
        guess_information(law, answer, guess, "label")
    with pytest.raises(ValueError, match="truths"):
        guess_information(law, answer, guess, "exact", confusion=np.eye(2))
    same = [guess_bits(law, answer, guess, channel=name) for name in ("token", "reward_to_go")]
    np.testing.assert_array_equal(*same)
    for channel in ("fraction", "prefix"):
        with pytest.raises(ValueError, match="no verdicts"):
            guess_information(law, answer, guess, channel, false_negative=0.1)
        traced = guess_bits(law, answer, guess, channel, false_positive=0.1)
        assert np.isnan(traced).all()
    with pytest.raises(ValueError, match="less than 2"):
        sampled_information(jax.random.key(0), law, answer, "exact", 1)
