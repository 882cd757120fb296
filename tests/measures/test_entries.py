"""A belief by entries against the same belief written out, answer by answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures import batches, groups, lumps, scores, sequences
from simrl.measures.information import distinct_information, first_occurrences

NUM_ANSWERS, ENTRIES = 500, 12
COUNTS = np.append(np.ones(ENTRIES - 1), NUM_ANSWERS - ENTRIES + 1).astype(np.float32)
GUESSES = np.array([3, 0, 40, 3, 11, 40, 12, 2])  # from entry 11 up: answers of the lump


def logits_of(case):
    random = np.random.default_rng(7)
    logits = random.normal(0, 2, ENTRIES)
    if case != "random":
        entry, odds = {"rare": (0, -28.0), "sure": (0, 27.0), "wrong": (4, 20.0)}[case]
        rest = np.delete(COUNTS * np.exp(logits), entry)
        logits[entry] = odds + np.log(rest.sum())
    return logits


@pytest.fixture(params=["random", "rare", "sure", "wrong"])
def belief(request):
    """Log-probabilities of the entries [K] and of all answers [N], float32 of float64."""
    logits = logits_of(request.param)
    whole = logits[np.minimum(np.arange(NUM_ANSWERS), ENTRIES - 1)]
    total = np.logaddexp.reduce(whole)
    return jnp.float32(logits - total), jnp.float32(whole - total)


def assert_same(found, wanted, rtol=2e-5):
    for name, value in wanted._asdict().items():
        if value is not None:
            np.testing.assert_allclose(getattr(found, name), value, rtol=rtol, err_msg=name)


def test_information_of_a_guess(belief):
    few, many = belief
    found = lumps.information(few, COUNTS, 0)
    assert_same(found, sequences.sequence_information(many[None], jnp.array([0]), "exact"))


@pytest.mark.parametrize("hit", [True, False])
def test_joint_information_of_guesses(belief, hit):
    few, many = belief
    guesses = GUESSES if hit else np.where(GUESSES == 0, 1, GUESSES)

    @jax.jit
    def both(few, many, guesses):
        return lumps.joint_information(few, COUNTS, 0, guesses), distinct_information(
            sequences.group_log_odds(many[None], guesses[:, None]),
            first_occurrences(guesses[:, None]),
            sequences.log_odds(many, 0),
            hit,
        )

    assert_same(*both(few, many, jnp.asarray(guesses)))


def test_odds_and_masses(belief):
    few, many = belief
    masses = lumps.log_masses(few, COUNTS)
    np.testing.assert_allclose(jnp.sum(jnp.exp(masses)), 1, rtol=1e-5)
    odds = sequences.log_odds(masses, 0), sequences.log_odds(many, 0)
    np.testing.assert_allclose(*odds, rtol=1e-6, atol=2e-6)


def test_score_statistics_and_moments(belief):
    few, many = (jnp.exp(x) for x in belief)
    found = lumps.score_statistics(few, COUNTS, 0)
    wanted = scores.sequence_statistics(many[None], jnp.array([0]), "exact")
    np.testing.assert_allclose(found.mean[0], wanted.mean[0, :ENTRIES], rtol=2e-5)
    assert_same(found._replace(mean=None), wanted._replace(mean=None))
    for advantage in ("group_normalised", "leave_one_out"):
        moments = (groups.group_moments(s, 8, advantage)[1:] for s in (found, wanted))
        np.testing.assert_allclose(*moments, rtol=3e-5)
    moments = (batches.affine_moments(s, 1, 1.0, 0.0)[1:] for s in (found, wanted))
    np.testing.assert_allclose(*moments, rtol=3e-5)


def test_entries_of_one_answer_each_are_the_answers():
    many = jax.nn.log_softmax(jnp.float32(np.random.default_rng(1).normal(0, 3, 30)))
    ones = np.ones(30, np.float32)
    wanted = sequences.sequence_information(many[None], jnp.array([0]), "exact")
    assert_same(lumps.information(many, ones, 0), wanted, rtol=2e-6)
    for found, whole in zip(
        lumps.choice(many, ones), sequences.choice_from_log_probs(many), strict=True
    ):
        np.testing.assert_array_equal(found, whole)
