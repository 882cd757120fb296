"""States of every learner at the ends: nearly sure, and sure in float32, of right and of wrong."""

import jax
import numpy as np

from simrl.engine import observe
from simrl.learners import updates
from simrl.learners.arms import Pulls
from simrl.learners.bayesian import Posterior
from tests.contracts.worlds import streams

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


def toward(favoured, odds, allowed):
    """Logits [M, L, V] with these log-odds of the favoured answers, the other symbols alike.

    `favoured` [M, L, V] bool: symbols that are so alike, several where L = 1. `allowed` [M, L, V]:
    what its prompt does not rule out; a position with one such symbol is sure.
    """
    free = allowed.sum(axis=-1) > 1
    logits = np.where(allowed, 0.0, updates.RULED_OUT)
    for prompt, place in zip(*np.nonzero(free), strict=True):
        mine = favoured[prompt, place]
        others = np.log((allowed[prompt, place] & ~mine).sum() / mine.sum())
        logits[prompt, place, mine] = position_odds(odds, free[prompt].sum()) + others
    return np.float32(logits)


def logits_at(end, right, allowed):
    """Logits [M, L, V] of a factorised law at an end."""
    odds, of_wrong = ENDS[end]
    if not of_wrong:
        return toward(right, odds, allowed)
    wrong = np.zeros_like(right)  # of every position, the first symbol that is not right
    first = np.argmax(allowed & ~right, axis=-1)
    np.put_along_axis(wrong, first[..., None], True, axis=-1)
    return toward(wrong & allowed, -odds, allowed)


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


def state_at(end, start, right, allowed):
    """A learner's state at an end, from the one that it starts with."""
    logits, vocab_size = logits_at(end, right, allowed), right.shape[-1]
    if hasattr(start, "params"):
        return start._replace(params=in_rows(logits, start.params.shape[1]))
    if isinstance(start, Posterior):
        law = whole_answers(logits)
        if ENDS[end] == (SURE, False):  # what is refuted is so for good; the truth never is
            law = np.where(law < -SURE / 2, -np.inf, law)
        return Posterior(np.float32(law))
    assert isinstance(start, Pulls), "a learner whose state at the ends is not known: say it here"
    counts = np.full(vocab_size, PULLS, np.float32)
    means = np.where(logits[0, 0] > 0, 1.0, 0.0)
    return Pulls(counts, np.float32(counts * means), logits[0, 0])


def begin(trial, task):
    """The state that a learner starts with; of each prompt its label's law, right answers, symbols.

    One program, where each by itself is one.
    """
    environment = trial.environment
    prompts = np.arange(environment.shape.num_prompts, dtype=np.int32)

    @jax.jit
    def found(now, task):
        ways = environment.target, environment.right, environment.allowed
        told = [way and jax.vmap(way, (None, 0))(task, prompts) for way in ways]
        return trial.learner.init(now), told

    return jax.device_get(found(streams(0), task))


def states(start, told, *others):
    """The start, any others, and a state at every end, stacked."""
    laws, several, allowed = told
    symbols = np.arange(laws.shape[-1])
    right = np.argmax(laws, axis=-1)[..., None] == symbols
    if several is not None:  # of one position
        right = (several[..., None] == symbols).any(axis=1)
    allowed = np.ones_like(right) if allowed is None else allowed
    every = [start, *others]
    every += [state_at(end, start, right, allowed) for end in ENDS]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *every)


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
