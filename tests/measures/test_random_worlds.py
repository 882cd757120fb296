"""Every closed form on worlds that hypothesis draws, against listing, in float64 and float32."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures import feedback, gradients, information
from tests.oracles import enumeration
from tests.oracles import feedback as told
from tests.oracles import information as bits

SHAPE = (2, 3)  # one shape: one program for all examples
SIZE = 2
AFFINE = ("none", "leave_one_out", "group_mean")
EACH = hypothesis.settings(
    deadline=None,
    max_examples=15,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
# Logits up to 6: pass rates from 1e-6 to 1 - 1e-5.
LOGITS = hnp.arrays(np.float32, SHAPE, elements=st.floats(-3, 3, width=32))
TRUTHS = hnp.arrays(np.int32, SHAPE[:1], elements=st.integers(0, SHAPE[1] - 1))


@pytest.fixture
def tolerance(x64):
    return bits.TOLERANCE[x64]


def law_of(logits):
    powers = np.exp(np.float64(logits))
    return powers / powers.sum(axis=-1, keepdims=True)


@jax.jit
def informations(log_probs, answer):
    return {
        channel: information.sequence_information(log_probs, answer, channel)
        for channel in information.CHANNELS
    }


@EACH
@hypothesis.given(logits=LOGITS, answer=TRUTHS)
def test_information_of_every_channel(tolerance, logits, answer):
    law = law_of(logits)
    prior = bits.belief(law)
    found = informations(jnp.asarray(np.log(law)), answer)
    for channel, (expected, realised) in found.items():
        table = bits.one_guess_table(prior, channel)
        np.testing.assert_allclose(expected, bits.mutual_information(table), rtol=tolerance)
        wanted = bits.pointwise_information(table, tuple(answer.tolist()))
        np.testing.assert_allclose(realised, wanted, rtol=tolerance)


@jax.jit
def verifier(probs, truth, alpha, beta):
    return feedback.verifier_information(probs, truth, alpha, beta)


RATES = st.floats(0.01, 0.45)


@EACH
@hypothesis.given(logits=LOGITS, answer=TRUTHS, alpha=RATES, beta=RATES)
def test_information_of_a_noisy_verifier(tolerance, logits, answer, alpha, beta):
    law = law_of(logits[:1])
    found = verifier(jnp.asarray(law[0]), answer[0], alpha, beta)
    wanted = told.on_policy(bits.belief(law), (int(answer[0]),), "exact", None, alpha, beta)
    # Rates are rounded to float32: what is told is a square of 1 - alpha - beta and of p.
    np.testing.assert_allclose(found, wanted, rtol=3 * tolerance)


@jax.jit
def moments(probs, answer):
    return {
        (reward, advantage): gradients.batch_moments(probs, answer, SIZE, advantage, reward)
        for reward in gradients.SEQUENCE_REWARDS
        for advantage in AFFINE
    }


@EACH
@hypothesis.given(logits=LOGITS, answer=TRUTHS)
def test_moments_of_every_reward(tolerance, logits, answer):
    law = law_of(logits)
    for (reward, advantage), found in moments(jnp.asarray(law), answer).items():
        samples = enumeration.sequence_samples(law, answer, reward)
        wanted = enumeration.batch_truth(samples, SIZE, advantage)
        for name in ("trace_covariance", "squared_norm"):
            value = getattr(found, name)
            np.testing.assert_allclose(value, getattr(wanted, name), rtol=tolerance, err_msg=reward)
        scale = np.sqrt(wanted.squared_norm)
        np.testing.assert_allclose(found.mean, wanted.mean, rtol=tolerance, atol=tolerance * scale)


@EACH
@hypothesis.given(logits=LOGITS, labels=LOGITS)
def test_moments_of_labels(tolerance, logits, labels):
    law, label_law = law_of(logits), law_of(labels)
    found = jax.jit(gradients.supervised_moments)(jnp.asarray(law), jnp.asarray(label_law))
    wanted = enumeration.batch_truth(enumeration.label_samples(law, label_law), 1, "none")
    np.testing.assert_allclose(found.trace_covariance, wanted.trace_covariance, rtol=tolerance)
    # q - pi may cancel: float32 holds it to the rounding of what is subtracted.
    slack = tolerance * 1e-2
    np.testing.assert_allclose(found.squared_norm, wanted.squared_norm, rtol=tolerance, atol=slack)
