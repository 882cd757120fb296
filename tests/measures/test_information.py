"""Bits per sample of one choice, limits and closed forms, against listing and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures import information
from simrl.measures.information import (
    CHANNELS,
    binary_entropy,
    channel_information,
    complement,
    distinct_information,
    entropy,
    expected_information,
    group_information,
    label_gap,
    log_odds,
    nominal_information,
    realised_information,
    samples_to_success,
    sequence_information,
    sequence_log_odds,
    surprisal,
)
from tests.oracles import information as oracle
from tests.oracles.information import TOLERANCE, laws, relative_error

sequence_bits = jax.jit(sequence_information, static_argnames="channel")
group_bits = jax.jit(distinct_information)
whole_odds = jax.jit(sequence_log_odds)
choice_expected = jax.jit(expected_information, static_argnames="feedback")
choice_realised = jax.jit(realised_information, static_argnames="feedback")
channel_bits = jax.jit(channel_information, static_argnames=("length", "feedback"))
every_channel = jax.jit(
    lambda size, length: {name: channel_information(size, length, name) for name in CHANNELS},
    static_argnums=1,
)
nominal_bits = jax.jit(nominal_information, static_argnames="kind")
entropy_of, binary_of, gap_of = jax.jit(entropy), jax.jit(binary_entropy), jax.jit(label_gap)
rest_of, one_odds = jax.jit(complement), jax.jit(log_odds)


@pytest.mark.parametrize("feedback", ["label", "outcome"])
def test_one_choice_by_listing(x64, feedback):
    for law in laws(3, (5,), 8):
        table = oracle.one_guess_table(oracle.belief(law[None]), feedback)
        got = choice_expected(law, feedback)
        np.testing.assert_allclose(got, oracle.mutual_information(table), rtol=TOLERANCE[x64])
        for truth in np.flatnonzero(law):
            want = oracle.pointwise_information(table, (truth,))
            got = choice_realised(law, truth, feedback)
            np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64])


def test_label_and_outcome_agree_exactly_when_two_answers_are_possible(x64):
    two, three = np.array([[0.0, 0.3, 0.7, 0.0], [0.1, 0.3, 0.6, 0.0]])
    for probs, gap in ((two, 0.0), (three, 0.05)):
        label, outcome = (choice_expected(probs, f) for f in ("label", "outcome"))
        assert label >= outcome + gap
        for truth in (1, 2):
            label_y, outcome_y = (choice_realised(probs, truth, f) for f in ("label", "outcome"))
            assert label_y >= outcome_y + gap - 1e-6
    for truth in (1, 2):
        label_y, outcome_y = (choice_realised(two, truth, f) for f in ("label", "outcome"))
        np.testing.assert_allclose(label_y, outcome_y, rtol=TOLERANCE[x64])
    label, outcome = (choice_expected(two, f) for f in ("label", "outcome"))
    np.testing.assert_allclose(label, outcome, rtol=TOLERANCE[x64])


def test_top_and_uniform_rest():
    probs = np.array([0.4, 0.2, 0.2, 0.2])
    want = binary_of(0.4) + 0.6 * np.log2(3.0)
    np.testing.assert_allclose(entropy_of(probs), want, rtol=1e-6)


def test_nominal_measures_cross_at_one_half():
    with jax.enable_x64(True):

        @jax.jit
        def gap(odds):
            return nominal_information(odds, "supervised") - nominal_information(
                odds, "policy_gradient"
            )

        low, high = -3.0, 2.0
        assert gap(low) > 0 > gap(high)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if gap(middle) > 0 else (low, middle)
        np.testing.assert_allclose(jax.nn.sigmoid(low), 0.5, rtol=1e-10)
        meeting = nominal_information(600.0, "supervised")
        assert 0 <= meeting < 1e-200


def test_nominal_at_both_ends(x64):
    tolerance = 1e-6 if not x64 else 1e-12
    for p in (1e-12, 1e-3, 0.5):
        odds = np.log(p) - np.log1p(-p)
        want_h = -(p * np.log2(p) + (1 - p) * np.log1p(-p) / np.log(2))
        cases = (
            (odds, "supervised", -np.log2(p)),
            (odds, "policy_gradient", want_h),
            (-odds, "policy_gradient", want_h),
            (-odds, "supervised", -np.log1p(-p) / np.log(2)),
        )
        for value, kind, want in cases:
            # float32 log-odds of 27 carry a rounding of 1e-6 into p
            got = nominal_bits(value, kind)
            np.testing.assert_allclose(got, want, rtol=4 * tolerance)
    assert nominal_bits(-np.inf, "supervised") == np.inf
    for odds in (-np.inf, np.inf):
        assert nominal_bits(odds, "policy_gradient") == 0
    assert nominal_bits(np.inf, "supervised") == 0


@pytest.mark.parametrize("feedback", ["label", "outcome"])
def test_one_choice_at_1e_12_in_float32(feedback):
    # probs in float32 whose top rounds to 1: the truth is carried by the small entries
    probs = np.array([1.0, 1e-12, 3e-13], np.float32)
    exact = [oracle.Decimal(float(p)) for p in probs]
    exact[0] = 1 - exact[1] - exact[2]
    table = oracle.one_guess_table(oracle.belief([exact]), feedback)
    want = oracle.mutual_information(table)
    assert relative_error(choice_expected(probs, feedback), want) < 1e-5
    for truth in range(3):
        want = oracle.pointwise_information(table, (truth,))
        assert relative_error(choice_realised(probs, truth, feedback), want) < 1e-5
    assert relative_error(np.asarray(rest_of(probs))[0], 1 - exact[0]) < 1e-6


def test_scalars_at_1e_12_in_float32():
    np.testing.assert_allclose(surprisal(1e-12), 12 * np.log2(10), rtol=1e-6)
    want = 1e-12 * (12 * np.log2(10) + 1 / np.log(2))
    np.testing.assert_allclose(binary_of(1e-12), want, rtol=1e-6)
    lp = np.array([0.0, -28.0, -29.0])
    np.testing.assert_allclose(one_odds(lp, 0), -np.log(np.exp(-28.0) + np.exp(-29.0)), rtol=1e-6)


def test_limits_are_infinite_or_zero_and_never_nan(x64):
    assert surprisal(0.0) == np.inf
    assert (np.asarray(binary_of(np.array([0.0, 1.0]))) == 0).all()
    certain = np.array([0.0, 1.0, 0.0])
    for feedback in ("label", "outcome"):
        assert choice_expected(certain, feedback) == 0
        assert choice_realised(certain, 1, feedback) == 0
        assert choice_realised(certain, 0, feedback) == np.inf
    half = np.array([0.5, 0.5, 0.0])
    np.testing.assert_allclose(choice_realised(half, 2, "outcome"), 1.0, rtol=1e-6)
    assert choice_realised(half, 2, "label") == np.inf

    sure = group_bits(np.array([np.inf, np.inf]), np.array([True, False]), np.inf, True)
    assert sure == (0.0, 0.0)
    lost = group_bits(np.array([np.inf, np.inf]), np.array([True, False]), -np.inf, False)
    assert lost == (0.0, np.inf)


def test_label_gap(x64):
    for q, p in zip(laws(7, (3, 4)), laws(8, (3, 4), 3), strict=False):
        np.testing.assert_allclose(
            gap_of(q, np.log(p)), oracle.divergence(q, p), rtol=TOLERANCE[x64]
        )
    assert gap_of([0.5, 0.5], np.array([0.0, -np.inf])) == np.inf
    np.testing.assert_allclose(gap_of([0.0, 1.0], np.log([0.75, 0.25])), 2, 1e-6)


def test_label_gap_near_zero_in_float32():
    q_logits = np.array([[0.25, 1.5, -0.75, 0.0]], np.float32)
    p_logits = q_logits + np.array([2.0**-12, -(2.0**-12), 0.0, 2.0**-11], np.float32)
    q, p = oracle.decimal_softmax(q_logits), oracle.decimal_softmax(p_logits)
    want = oracle.divergence(q, p)
    assert 0 < want < 1e-7

    @jax.jit
    def gap(q, p):
        return label_gap(jax.nn.softmax(q), jax.nn.log_softmax(p))

    got = gap(q_logits, p_logits)
    assert relative_error(got, want) < 2e-2
    naive = np.sum(np.float32(q) * (np.log(np.float32(q)) - np.log(np.float32(p)))) / np.log(2)
    assert relative_error(naive, want) > 2e-2
    assert gap(q_logits, q_logits) >= 0


@pytest.mark.parametrize("feedback", CHANNELS)
def test_channel_closed_forms_by_listing(x64, feedback):
    for length, vocab_size in ((1, 3), (2, 4), (4, 2), (2, 1)):
        law = np.full((length, vocab_size), 1.0 / vocab_size)
        table = oracle.one_guess_table(oracle.belief(law), feedback)
        got = every_channel(vocab_size, length)[feedback]
        want = oracle.mutual_information(table)
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64], atol=1e-12)


def test_channel_information_of_long_answers_in_float32():
    # h(V^-L) at V^L = 1e12: p (log2(1/p) + 1/ln 2)
    want = 1e-12 * (12 * np.log2(10) + 1 / np.log(2))
    np.testing.assert_allclose(channel_bits(10, 12, "exact"), want, rtol=2e-5)
    # Binomial(400, 1/2) is normal: (1/2) log2(2 pi e 100), to 1/n
    want = 0.5 * np.log2(2 * np.pi * np.e * 100)
    np.testing.assert_allclose(channel_bits(2, 400, "fraction"), want, rtol=2e-3)


def test_group_information_by_listing(x64):
    prior = {(i,): 1 / 6 for i in range(6)}
    for num_distinct in range(7):
        table = oracle.group_table(prior, [(i,) for i in range(num_distinct)])
        want = oracle.mutual_information(table)
        got = group_information(6, num_distinct)
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[x64], atol=1e-12)


def test_group_information_of_few_guesses_among_many_in_float32():
    for n, m in ((10**12, 32), (10**9, 1)):
        want = m / n * (np.log2(n) + 1 / np.log(2))  # to first order in m/n
        np.testing.assert_allclose(group_information(n, m), want, rtol=1e-6)


def test_samples_to_success(x64):
    for p in (0.001, 0.01, 0.3, 0.5, 1.0):
        np.testing.assert_allclose(samples_to_success(p), 1 / p, rtol=1e-6)
        for confidence in (0.5, 0.875, 0.95, 0.99):
            got = samples_to_success(p, confidence)
            assert got == oracle.fewest_guesses(p, confidence), (p, confidence)
    for count in (1, 2, 3):  # whole quotients
        assert samples_to_success(0.9, 1 - 0.1**count) == count
    assert samples_to_success(0.3, 0.0) == 0
    with pytest.raises(ValueError, match="confidence"):
        samples_to_success(0.5, 1.0)
    assert samples_to_success(0.0) == samples_to_success(0.0, 0.9) == np.inf
    np.testing.assert_allclose(samples_to_success(1e-12, 0.95), -np.log(0.05) * 1e12, rtol=1e-6)


def test_a_hundred_thousand_answers_in_float32():
    size = 100_000
    for probs in (np.full(size, 1 / size), np.r_[0.9, np.full(size - 1, 0.1 / (size - 1))]):
        probs32 = probs.astype(np.float32)
        with jax.enable_x64(True):
            want = [float(choice_expected(probs, f)) for f in ("label", "outcome")]
        got = [choice_expected(probs32, f) for f in ("label", "outcome")]
        np.testing.assert_allclose(got, want, rtol=1e-4)
        log_probs = np.log(probs32)[None]
        got = [sequence_bits(log_probs, np.array([7]), c).expected for c in ("label", "exact")]
        np.testing.assert_allclose(got, want, rtol=1e-4)
    long = np.full((200, 32), -np.log(32.0))  # V^L = 1e301
    bits = sequence_bits(long, np.zeros(200, int), "exact")
    assert np.isfinite(bits).all()
    np.testing.assert_allclose(
        sequence_bits(long, np.zeros(200, int), "label").expected, 1000, rtol=1e-5
    )
    np.testing.assert_allclose(whole_odds(long, np.zeros(200, int)), -200 * np.log(32.0), rtol=1e-5)


def test_unknown_names_are_refused_in_one_line():
    law = jnp.log(jnp.array([[0.5, 0.5]]))
    calls = (
        lambda: expected_information([0.5, 0.5], "exact"),
        lambda: realised_information([0.5, 0.5], 0, "reward"),
        lambda: nominal_information(0.0, "sl"),
        lambda: channel_information(2, 3, "outcome"),
        lambda: sequence_information(law, jnp.array([0]), "outcome"),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"^unknown .*; allowed: [^\n]*$"):
            call()
    assert set(information.__all__) <= set(vars(information))
