"""What sequences and groups tell, against listing every answer, guess and message."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures import sequences
from simrl.measures.information import (
    distinct_information,
    expected_information,
    first_occurrences,
    occurring,
    realised_information,
)
from simrl.measures.sequences import (
    CHANNELS,
    group_log_odds,
    log_odds,
    sequence_information,
    sequence_log_odds,
)
from tests.oracles import information as oracle
from tests.oracles.information import EXTREME, TOLERANCE, laws, relative_error, safe_log

SHAPES = ((1, 4), (2, 3), (3, 2))
TRUTHS = ((0, 1), (0, 0), (1, 1), (2, 0), (2, 2))

sequence_bits = jax.jit(sequence_information, static_argnames="channel")
whole_odds = jax.jit(sequence_log_odds)
every_odds = jax.jit(group_log_odds)
one_odds = jax.jit(log_odds)
set_of = jax.jit(occurring, static_argnums=1)
first_of = jax.jit(first_occurrences)
choice_expected = jax.jit(expected_information, static_argnames="feedback")
choice_realised = jax.jit(realised_information, static_argnames="feedback")


@jax.jit
def told_right_or_wrong(log_law, guesses, truth):
    """Joint bits of a group, from one factorised belief."""
    hit = jnp.any(jnp.all(guesses == truth, axis=-1))
    odds, own = group_log_odds(log_law, guesses), sequence_log_odds(log_law, truth)
    return distinct_information(odds, first_occurrences(guesses), own, hit)


@functools.cache
def listed(shape, index, channel):
    law = list(laws(0, shape))[index]
    return law, oracle.one_guess_table(oracle.belief(law), channel)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_channels_by_listing(x64, shape, channel):
    for index in range(4):
        law, table = listed(shape, index, channel)
        truths = [x for x, p in oracle.marginals(table)[0].items() if p > 0]
        for truth in truths[:: max(1, len(truths) // 4)]:
            got = sequence_bits(safe_log(law), np.array(truth), channel)
            want = oracle.mutual_information(table), oracle.pointwise_information(table, truth)
            np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64], atol=1e-12)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_realised_averages_to_expected(x64, shape, channel):
    for law in laws(1, shape, 3):
        log_law, average = np.log(law), 0.0
        for truth, p in oracle.belief(law).items():
            bits = sequence_bits(log_law, np.array(truth), channel)
            average += p * bits.realised
        np.testing.assert_allclose(average, bits.expected, rtol=TOLERANCE[x64], atol=1e-12)


@pytest.mark.parametrize("channel", [name for name in CHANNELS if name != "label"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_label_tells_at_least_as_much(x64, shape, channel):
    for law in laws(2, shape):
        truth = law.argmin(-1) if law.min() > 0 else law.argmax(-1)
        log_law = safe_log(law)
        label, other = (sequence_bits(log_law, truth, name) for name in ("label", channel))
        slack = 1.0 + TOLERANCE[x64]
        assert other.expected <= label.expected * slack
        assert other.realised <= label.realised * slack


def guess_groups(seed, prior, count, size):
    rng = np.random.default_rng(seed)
    answers, weights = list(prior), np.array(list(prior.values()))
    for _ in range(count):
        yield [answers[i] for i in rng.choice(len(answers), size, p=weights / weights.sum())]


@pytest.mark.parametrize("shape", [(1, 4), (3, 2)])
@pytest.mark.parametrize("size", [1, 6])
def test_groups_by_listing(x64, shape, size):
    seen = set()
    for law in laws(4, shape):
        log_law, prior = safe_log(law), oracle.belief(law)
        for guesses in guess_groups(5, prior, 4, size):
            table = oracle.group_table(prior, guesses)
            for truth in [x for x, p in prior.items() if p > 0]:
                got = told_right_or_wrong(log_law, np.array(guesses), np.array(truth))
                want = oracle.mutual_information(table), oracle.pointwise_information(table, truth)
                # what the guesses leave over is known to a rounding of 1
                unsure = 0.0 if x64 else 2.0**-22 * 2.0 ** want[1]
                np.testing.assert_allclose(got[0], want[0], rtol=TOLERANCE[x64], atol=1e-12)
                np.testing.assert_allclose(got[1], want[1], rtol=TOLERANCE[x64], atol=unsure)
                seen.add(truth in guesses)
    assert seen == {True, False}


@pytest.mark.parametrize("vocab_size", [2, 32, 33, 100])
def test_occurring_is_the_set_of_what_occurs(vocab_size):
    symbols = np.random.default_rng(vocab_size).integers(-2, vocab_size + 2, 40)
    wanted = [symbol in symbols.tolist() for symbol in range(vocab_size)]
    assert set_of(symbols, vocab_size).tolist() == wanted


def test_first_occurrences():
    answers = np.array([[0, 1], [1, 0], [0, 1], [1, 1], [1, 0]])
    assert first_of(answers).tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("name", ["sure", "one position sure", "two sequences share all"])
def test_extreme_groups_in_float32(name):
    logits = np.array(EXTREME[name], np.float32)
    prior = oracle.belief(oracle.decimal_softmax(logits))
    log_law = jax.nn.log_softmax(jnp.asarray(logits))
    for guesses in ([(0, 1)] * 3, [(0, 1), (1, 1), (0, 1)], [(2, 2), (2, 0)]):
        table = oracle.group_table(prior, guesses)
        for truth in ((0, 1), (1, 1), (2, 1), (0, 0)):
            got = told_right_or_wrong(log_law, np.array(guesses), np.array(truth))
            assert relative_error(got.expected, oracle.mutual_information(table)) < 1e-4
            # what is left beside two shared sequences is known to one rounding of 1: bits, not ulps
            limit = 1e-4 if not name.startswith("two") else 1.0
            want = oracle.pointwise_information(table, truth)
            assert relative_error(got.realised, want) < limit


@pytest.mark.parametrize("name", EXTREME)
@pytest.mark.parametrize("channel", CHANNELS)
def test_extreme_beliefs_in_float32(name, channel):
    logits = np.array(EXTREME[name], np.float32)
    log_law = jax.nn.log_softmax(jnp.asarray(logits))
    prior = oracle.belief(oracle.decimal_softmax(logits))
    table = oracle.one_guess_table(prior, channel)
    for truth in TRUTHS:
        got = sequence_bits(log_law, jnp.asarray(truth), channel)
        if float(oracle.mutual_information(table)) > 1e-36:
            assert relative_error(got.expected, oracle.mutual_information(table)) < 2e-5
        want = oracle.pointwise_information(table, truth)
        if float(want) > 1e-36:
            assert relative_error(got.realised, want) < 2e-5
        assert not np.isnan(got.expected + got.realised)


@pytest.mark.parametrize("name", EXTREME)
def test_log_odds_of_extreme_beliefs_in_float32(name):
    logits = np.array(EXTREME[name], np.float32)
    prior = oracle.belief(oracle.decimal_softmax(logits))
    log_law = jax.nn.log_softmax(jnp.asarray(logits))
    grouped = np.asarray(every_odds(log_law, np.array(TRUTHS)))
    for i, truth in enumerate(TRUTHS):
        p = prior[truth]
        want = float((p / (1 - p)).ln())
        for got in (grouped[i], *(whole_odds(x, np.array(truth)) for x in (log_law, logits + 3))):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(13, 2), (4, 9), (6, 5)])
def test_exact_series_against_one_choice_among_many(x64, shape):
    for law in laws(6, shape):
        joint = functools.reduce(np.multiply.outer, law)
        assert joint.size > sequences.MAX_LISTED_GUESSES
        for truth in (law.argmax(-1), law.argmin(-1), np.argsort(law, -1)[:, -2]):
            got = sequence_bits(safe_log(law), np.array(truth), "exact")
            index = np.ravel_multi_index(truth, joint.shape)
            want = (
                choice_expected(joint.ravel(), "outcome"),
                choice_realised(joint.ravel(), index, "outcome"),
            )
            np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64], atol=1e-30)


def test_exact_series_where_it_converges_slowest():
    # the two likeliest sequences have nearly 1/2 each
    law = np.array([[0.5, 0.5 - 1e-9, 1e-9], [1 - 1e-9, 1e-9, 0.0]])
    with jax.enable_x64(True):
        for truth in ((0, 0), (1, 0), (2, 0)):
            table = oracle.one_guess_table(oracle.belief(law), "exact")
            got = sequence_bits(safe_log(law), np.array(truth), "exact")
            want = oracle.mutual_information(table), oracle.pointwise_information(table, truth)
            np.testing.assert_allclose(got, want, rtol=1e-12)


def test_fraction_beyond_listing_is_nan():
    assert np.isnan(
        sequence_bits(np.full((13, 2), -np.log(2.0)), np.zeros(13, int), "fraction")
    ).all()


@pytest.mark.parametrize("channel", [name for name in CHANNELS if name != "label"])
def test_one_position_is_the_outcome(x64, channel):
    law = np.array([[0.2, 0.5, 0.3]])
    got = sequence_bits(np.log(law), np.array([2]), channel)
    want = (
        choice_expected(law[0], "outcome"),
        choice_realised(law[0], 2, "outcome"),
    )
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("channel", CHANNELS)
def test_channels_batch(channel):
    stack = np.log(np.stack(list(laws(9, (2, 3), 3))))
    truths = np.array([[0, 1], [2, 2], [1, 0]])
    bits = jax.jit(jax.vmap(functools.partial(sequence_information, channel=channel)))
    batched = bits(stack, truths)
    for i in range(3):
        one = sequence_bits(stack[i], truths[i], channel)
        np.testing.assert_allclose([np.asarray(x)[i] for x in batched], one, rtol=1e-6)


def test_types_and_leading_axes(x64):
    dtype = np.float64 if x64 else np.float32
    stack, truths = np.stack(list(laws(9, (2, 3), 3))), np.array([[0, 1]] * 3)
    for channel in CHANNELS:
        bits = sequence_bits(np.log(stack[0]), truths[0], channel)
        assert bits.expected.dtype == bits.realised.dtype == dtype
        assert bits.expected.shape == bits.realised.shape == ()
    for feedback in ("label", "outcome"):
        leading = choice_realised(stack, truths, feedback)
        one = choice_realised(stack[1, 1], truths[1, 1], feedback)
        np.testing.assert_allclose(np.asarray(leading)[1, 1], one, rtol=1e-6)
        assert leading.shape == choice_expected(stack, feedback).shape == (3, 2)
        assert leading.dtype == dtype
    odds = one_odds(np.log(stack), truths)
    assert odds.shape == (3, 2)
    assert odds.dtype == dtype


def test_limits_of_certainty(x64):
    certain = [0.0, 1.0, 0.0]
    log_certain = safe_log(np.array([certain, certain]))
    for channel in CHANNELS:
        assert sequence_bits(log_certain, np.array([1, 1]), channel) == (0.0, 0.0)
        assert sequence_bits(log_certain, np.array([1, 0]), channel) == (0.0, np.inf)
    assert one_odds(np.zeros(1), 0) == np.inf
    assert one_odds(log_certain, np.array([1, 0])).tolist() == [np.inf, -np.inf]
    for last, want in ((1, np.inf), (0, -np.inf)):
        assert whole_odds(log_certain, np.array([1, last])) == want


@pytest.mark.parametrize("channel", CHANNELS)
def test_an_alphabet_of_one_tells_nothing(channel):
    assert sequence_bits(np.zeros((2, 1)), np.zeros(2, int), channel) == (0.0, 0.0)
