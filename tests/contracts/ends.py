"""States of every learner at the ends: nearly sure, and sure in float32, of right and of wrong."""

import jax
import jax.numpy as jnp
import numpy as np

from simrl.engine import observe
from simrl.learners.arms import Pulls
from simrl.learners.bayesian import Posterior

TINY = 1e-12
# Log-odds, nats, of the whole answer that a state favours; 1 - p of the last is 0 in float32.
NEARLY, SURE = -np.log(TINY), 400.0
INFINITE = ("realised", "realised_update")
PULLS = 1e6  # of each arm
# name -> log-odds of the right answer, and whether a wrong one has all that it has not
ENDS = {
    "pass rate 1e-12": (-NEARLY, False),
    "pass rate 1 - 1e-12": (NEARLY, False),
    "pass rate 0": (-SURE, False),
    "pass rate 1": (SURE, False),
    "nearly sure of a wrong answer": (-NEARLY, True),
    "sure of a wrong answer": (-SURE, True),
}


def position_odds(odds, length):
    """Log-odds at each of L equal positions of answers whose log-odds are given."""
    log_p = -np.logaddexp(0, -odds) / length
    return log_p - np.log(-np.expm1(log_p))


def toward(answers, odds, vocab_size):
    """Logits [M, L, V] with these log-odds of the whole answers [M, L], the other symbols alike."""
    each = position_odds(odds, answers.shape[1]) + np.log(vocab_size - 1)
    return np.float32(each * (answers[..., None] == np.arange(vocab_size)))


def logits_at(end, answers, vocab_size):
    """Logits [M, L, V] of a factorised law at an end."""
    odds, of_wrong = ENDS[end]
    if of_wrong:  # one step beside the right answer at every position
        return toward((answers + 1) % vocab_size, -odds, vocab_size)
    return toward(answers, odds, vocab_size)


def in_rows(logits, rows):
    """The same law [M, R, V] for a policy with a row for every prefix, if it has those."""
    length, size = logits.shape[1:]
    if rows == length:
        return logits
    position = np.repeat(np.arange(length), size ** np.arange(length))
    assert len(position) == rows, "no law at the ends is known for such a policy"
    return logits[:, position]


def whole_answers(logits):
    """Log-probabilities [M, V^L] of whole answers by their numbers, in float64."""
    law = np.zeros((len(logits), 1))
    for row in np.moveaxis(np.asarray(jax.nn.log_softmax(np.float32(logits))), 1, 0):
        law = (law[:, :, None] + row[:, None]).reshape(len(law), -1)
    return law


def state_at(end, start, answers, vocab_size):
    """A learner's state at an end, from the one that it starts with."""
    logits = logits_at(end, answers, vocab_size)
    if hasattr(start, "params"):
        return start._replace(params=jnp.asarray(in_rows(logits, start.params.shape[1])))
    if isinstance(start, Posterior):
        law = whole_answers(logits)
        if ENDS[end] == (SURE, False):  # what is refuted is so for good; the truth never is
            law = np.where(law < -SURE / 2, -np.inf, law)
        return Posterior(jnp.asarray(law, jnp.float32))
    assert isinstance(start, Pulls), "a learner whose state at the ends is not known: say it here"
    counts = np.full(vocab_size, PULLS, np.float32)
    means = np.where(logits[0, 0] > 0, 1.0, 0.0)
    return Pulls(jnp.asarray(counts), jnp.asarray(counts * means), jnp.asarray(logits[0, 0]))


def states(trial, start, task, *others):
    """The start, any others, and a state at every end, stacked."""
    environment = trial.environment
    prompts = jnp.arange(environment.shape.num_prompts)
    laws = jax.vmap(environment.target, (None, 0))(task, prompts)
    answers = np.asarray(jnp.argmax(laws, axis=-1))
    every = [start, *others]
    every += [state_at(end, start, answers, environment.shape.vocab_size) for end in ENDS]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *every)


def look(trial, state, task, streams):
    """The state after an update, what it tells, and all that is measured of both; of one lane."""
    known = observe.truth(trial, task)
    seen = observe.of_state(trial, state, task, known, jax.random.key(1))
    odds = observe.log_odds(observe.beliefs(trial, state), known)
    new, info = trial.learner.step(streams, state, task)
    after = observe.log_odds(observe.beliefs(trial, new), known)
    told = observe.of_update(trial, observe.beliefs(trial, state), known, info)
    return new, info, odds, seen | told | {"absorbed": observe.absorbed(odds, after)}


def assert_numbers(odds, seen):
    """Lanes at the ends [6, M]: log-odds as asked for, and no NaN; inf where a limit is infinite.

    Realised bits are infinite where float32 has given all the mass to a wrong answer (THEORY,
    section 2): at a pass rate of 0, and nowhere else. What no rounding allows is negative.
    """
    assert {len(values) for values in seen.values()} == {len(ENDS)}
    for (end, (asked, of_wrong)), found in zip(ENDS.items(), odds, strict=True):
        if not of_wrong:
            # A posterior that has refuted all else is surer than any logits.
            np.testing.assert_allclose(np.minimum(found, SURE), asked, rtol=1e-5, err_msg=end)
        assert np.all(np.sign(found) == np.sign(asked)), end
    lost = np.asarray(seen["pass_rate"]) == 0
    assert lost.any()
    for name, values in seen.items():
        assert not np.isnan(values).any(), name
        infinite = np.isinf(values)
        assert not np.any(infinite & ~lost), name
        assert not infinite.any() or name in INFINITE, name
        assert np.all(np.asarray(values) >= -1e-6) or name.startswith("absorbed"), name
