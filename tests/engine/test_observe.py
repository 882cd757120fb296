"""Joint information of an update, against a literal count of its distinct guesses in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.engine import observe
from simrl.sweeps import spec as specs

LENGTH = 2


def built(reward):
    environment = {"name": "sequence", "vocab_size": 3, "length": LENGTH, "reward": reward}
    learner = {"name": "policy_gradient", "group_size": 3, "num_groups": 4}
    spec = specs.resolved(simrl.Spec({**environment, "num_prompts": 2}, learner))
    return specs.build((spec.environment, spec.policy, spec.learner))


def literal(probs, answer, guesses):
    """Bits of the distinct guesses (tuples) about the answer, under independent positions."""
    chances = [np.prod([probs[t, a] for t, a in enumerate(guess)]) for guess in set(guesses)]
    rest = 1 - sum(chances)
    expected = -sum(p * np.log2(p) for p in [*chances, rest] if p > 0)
    own = np.prod([probs[t, a] for t, a in enumerate(answer)])
    realised = -np.log2(own) if answer in guesses else -np.log2(rest)
    return expected, realised if guesses else 0.0


def begun(trial, scale=1.0):
    """Streams, task, a state of random logits, and what is known and believed; one program."""

    @jax.jit
    def begin(key, of_logits):
        streams = keys.streams(key, jnp.uint32(5))
        task, state = trial.environment.init(streams.task), trial.learner.init(streams)
        logits = scale * jax.random.normal(of_logits, state.params.shape)
        state = state._replace(params=logits)
        return streams, task, state, observe.truth(trial, task), observe.beliefs(trial, state)

    return begin(jax.random.key(1), jax.random.key(7))


@pytest.mark.parametrize("reward", ["exact", "token"])
def test_joint_information_counts_distinct_guesses_of_all_groups(reward):
    trial = built(reward)
    streams, task, state, known, beliefs = begun(trial)
    probs, secrets = np.exp(np.asarray(beliefs, np.float64)), np.asarray(known.answers)

    @jax.jit
    def measure(step):
        info = trial.learner.step(keys.at_step(streams, step), state, task)[1]
        return info, observe.of_update(trial, beliefs, known, info)

    shared = 0
    for step in range(12):
        info, told = jax.device_get(measure(np.uint32(step)))
        prompts, answers = info.prompts, info.answers
        shared += len(set(prompts.tolist())) < len(prompts)
        for m in range(2):
            guesses = [tuple(a) for a in answers[prompts == m].reshape(-1, LENGTH).tolist()]
            right = tuple(secrets[m].tolist())
            if reward == "exact":
                want = literal(probs[m], right, guesses)
            else:
                parts = [
                    literal(probs[m, t : t + 1], right[t : t + 1], [g[t : t + 1] for g in guesses])
                    for t in range(LENGTH)
                ]
                want = np.sum(parts, axis=0)
            np.testing.assert_allclose(told["expected_update"][m], want[0], atol=2e-6)
            np.testing.assert_allclose(told["realised_update"][m], want[1], atol=2e-6)
            assert told["success"][m] == sum(guess == right for guess in guesses)
    assert shared > 0  # some updates drew a prompt twice, whose guesses must not count twice


@pytest.mark.parametrize(("vocab_size", "length"), [(16, 9), (7, 2), (40, 1)])
def test_joint_information_tells_close_guesses_apart(vocab_size, length):
    """16^9 answers do not fit a 32-bit code, in which the first of 9 symbols would be lost."""
    spec = simrl.Spec(simrl.Sequence(vocab_size, length), simrl.PolicyGradient(group_size=4))
    trial = specs.build((spec.environment, spec.policy, spec.learner))
    streams, task, state, known, beliefs = begun(trial, 2)
    believed = np.asarray(beliefs)
    likely = np.argmax(believed[0], axis=-1)
    other = likely.copy()
    other[0] = np.argsort(believed[0, 0], stable=True)[-2]
    answers = np.int32(np.stack([likely, other, likely, other])[None])
    info = jax.jit(trial.learner.step)(streams, state, task)[1]._replace(answers=answers)
    told = jax.device_get(jax.jit(partial(observe.of_update, trial))(beliefs, known, info))
    probs = np.exp(np.float64(believed))
    right = tuple(np.asarray(known.answers)[0].tolist())
    want = literal(probs[0], right, [tuple(likely.tolist()), tuple(other.tolist())])
    np.testing.assert_allclose(told["expected_update"][0], want[0], rtol=1e-4)
    np.testing.assert_allclose(told["realised_update"][0], want[1], rtol=1e-4)
