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
    return np.float32(logits - total), np.float32(whole - total)


def assert_same(found, wanted, rtol=2e-5):
    for name, value in wanted._asdict().items():
        if value is not None:
            np.testing.assert_allclose(getattr(found, name), value, rtol=rtol, err_msg=name)


@jax.jit
def told(few, many, guesses, hit):
    """Bits of one guess and of a group, each by entries and answer by answer."""
    alone = sequences.sequence_information(many[None], jnp.array([0]), "exact")
    joint = distinct_information(
        sequences.group_log_odds(many[None], guesses[:, None]),
        first_occurrences(guesses[:, None]),
        sequences.log_odds(many, 0),
        hit,
    )
    group = lumps.joint_information(few, COUNTS, 0, guesses)
    return (lumps.information(few, COUNTS, 0), alone), (group, joint)


def test_information_of_a_guess(belief):
    assert_same(*told(*belief, GUESSES, True)[0])


@pytest.mark.parametrize("hit", [True, False])
def test_joint_information_of_guesses(belief, hit):
    guesses = GUESSES if hit else np.where(GUESSES == 0, 1, GUESSES)
    assert_same(*told(*belief, guesses, hit)[1])


@jax.jit
def odds_of(few, many):
    masses = lumps.log_masses(few, COUNTS)
    return jnp.sum(jnp.exp(masses)), sequences.log_odds(masses, 0), sequences.log_odds(many, 0)


def test_odds_and_masses(belief):
    total, *odds = odds_of(*belief)
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    np.testing.assert_allclose(*odds, rtol=1e-6, atol=2e-6)


@jax.jit
def scored(few, many):
    """Statistics of a guess by entries and answer by answer, and pairs of moments of either."""
    few, many = jnp.exp(few), jnp.exp(many)
    found = lumps.score_statistics(few, COUNTS, 0)
    wanted = scores.sequence_statistics(many[None], jnp.array([0]), "exact")
    pairs = [
        [groups.group_moments(s, 8, advantage)[1:] for s in (found, wanted)]
        for advantage in ("group_normalised", "leave_one_out")
    ]
    pairs.append([batches.affine_moments(s, 1, 1.0, 0.0)[1:] for s in (found, wanted)])
    return found, wanted, pairs


def test_score_statistics_and_moments(belief):
    found, wanted, pairs = scored(*belief)
    mean = np.asarray(wanted.mean)[0, :ENTRIES]
    np.testing.assert_allclose(np.asarray(found.mean)[0], mean, rtol=2e-5)
    assert_same(found._replace(mean=None), wanted._replace(mean=None))
    for moments in pairs:
        np.testing.assert_allclose(*moments, rtol=3e-5)


def test_entries_of_one_answer_each_are_the_answers():
    ones = np.ones(30, np.float32)

    @jax.jit
    def both(many):
        wanted = sequences.sequence_information(many[None], jnp.array([0]), "exact")
        choices = lumps.choice(many, ones), sequences.choice_from_log_probs(many)
        return (lumps.information(many, ones, 0), wanted), choices

    many = jax.nn.log_softmax(np.float32(np.random.default_rng(1).normal(0, 3, 30)))
    bits, choices = both(many)
    assert_same(*bits, rtol=2e-6)
    for found, whole in zip(*choices, strict=True):
        np.testing.assert_array_equal(found, whole)
