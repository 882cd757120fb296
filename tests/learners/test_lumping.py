"""Answers carried as one: every draw against enumeration, every state against all V logits."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import simrl
from simrl import keys
from simrl.learners import lumping
from simrl.measures import lumps, phases
from simrl.sweeps import spec as specs
from simrl.types import Entries
from tests.oracles.groups import advantage as weights_of

MOST = jnp.asarray(phases.words_of(2**40))
spread_of = jax.jit(lumping._spread, static_argnums=1)
ADVANTAGES = ("none", "leave_one_out", "group_normalised", "maxrl_centred")


def build(entries, num_arms, advantage="group_normalised", size=4, rate=1.0, world=None):
    """(task, learner) with `entries` entries."""
    optimizer = simrl.Optimizer("sgd", {"learning_rate": rate})
    learner = simrl.PolicyGradient(specs.resolve("advantage", advantage), size, 1, optimizer)
    world = world or simrl.Bandit(num_arms=num_arms)
    wanted = specs.Asked(path="jump", entries=entries)
    return specs.build((world, simrl.Tabular(), learner, wanted))


@jax.jit
def streams(seed):
    return keys.streams(jax.random.key(5), seed)


def start(trial, seed=0):
    now = streams(seed)
    return trial.environment.init(now.task), trial.learner.init(now)


def jumps_of(trial, num, seed=0):
    """`num` jumps of one seed: the states before and after each, and the jumps."""
    task, state = start(trial, seed)
    step = jax.jit(
        lambda state, i: trial.learner.jump(keys.at_step(streams(seed), i), state, task, MOST)
    )
    found, states = [], [state]
    for i in range(num):
        found.append(step(states[-1], jnp.int32(i)))
        states.append(found[-1].state)
    return states, found


@pytest.mark.parametrize("advantage", ADVANTAGES)
def test_states_are_those_of_all_the_answers(advantage):
    """The same groups told to V float64 logits, by definition; entries count in order of touch."""
    size, num_arms, entries, rate = 4, 1000, 128, 2.0
    trial = build(entries, num_arms, advantage, size, rate)
    states, found = jumps_of(trial, 25)
    logits, touched, log_probs = np.zeros(num_arms), 0, jax.jit(trial.learner.lumps.log_probs)
    for jump, after in zip(found, states[1:], strict=True):
        guesses = np.asarray(jump.live.answers).ravel()
        weights = np.array(weights_of((guesses == 0).astype(float).tolist(), advantage, None))
        probs = np.exp(logits - np.logaddexp.reduce(logits))
        scores = np.eye(num_arms)[guesses] - probs
        logits = logits + rate * np.mean(weights[:, None] * scores, axis=0)
        new = np.setdiff1d(guesses[(weights != 0) & (guesses > 0)], np.arange(touched + 1))
        assert new.tolist() == list(range(touched + 1, touched + 1 + len(new)))
        touched += len(new)
        assert after.touched == touched
        wanted = logits - np.logaddexp.reduce(logits)
        entry = np.minimum(np.arange(num_arms), entries - 1)
        np.testing.assert_allclose(np.asarray(log_probs(after))[entry], wanted, atol=2e-5)
    assert (touched > 0) == (advantage != "none")
    assert np.ptp(logits) > 3


def test_repeats_are_drawn_as_often_as_they_happen():
    """Patterns of failures by listing every group: 2 touched answers, 4 not, of unlike chances."""
    num_arms, touched, size = 7, 2, 4
    logits = np.array([0.3, 1.0, -0.5, 0.1, 0.1, 0.1, 0.1])
    law = np.exp(logits[1:]) / np.exp(logits[1:]).sum()
    wanted = collections.Counter()
    for group in itertools.product(range(1, num_arms), repeat=size):
        seen = list(dict.fromkeys(a for a in group if a > touched))
        names = [a if a <= touched else touched + 1 + seen.index(a) for a in group]
        wanted[tuple(names)] += np.prod(law[np.array(group) - 1])
    entries, num = 5, 40_000
    masses = lumps.log_masses(jnp.float32(logits[:entries]), Entries(entries, num_arms).counts)

    def one(words):
        table = lumping.wrong_table(masses, touched)
        wrong = jnp.zeros(size, bool)
        return lumping.draw_group(words, wrong, table, jnp.int32(touched), num_arms)

    words = keys.words(jax.random.key(3), (num, 2, size))
    labels, new = jax.jit(jax.vmap(one))(words)
    labels = np.asarray(labels)
    np.testing.assert_array_equal(new, np.maximum(labels.max(axis=1) - touched, 0))
    counts = collections.Counter(map(tuple, labels.tolist()))
    assert set(counts) <= set(wanted)
    expected = np.array(list(wanted.values())) * num
    observed = np.array([counts[names] for names in wanted])
    kept = expected > 5
    observed = np.append(observed[kept], observed[~kept].sum())
    expected = np.append(expected[kept], expected[~kept].sum())
    assert stats.chisquare(observed, expected, sum_check=False).pvalue > 0.01


def test_right_guesses_keep_their_place():
    right = np.array([True, False, False, True, False, True])

    @jax.jit
    def draw(key, right):
        table = lumping.wrong_table(jnp.log(jnp.ones(4) / 4), 0)
        return lumping.draw_group(keys.words(key, (2, 6)), right, table, jnp.int32(0), 10**6)

    labels, new = draw(jax.random.key(1), right)
    assert labels.tolist() == [0, 1, 2, 0, 3, 0]
    assert new == 3


@pytest.mark.parametrize("size", [1, 8])
def test_one_update_from_equal_states_is_that_of_the_dense_jump(size):
    """Waits, successes and the state after: the same law, 4,000 seeds, from a state underway."""
    advantage = "none" if size == 1 else "group_normalised"
    dense, few = build(0, 200, advantage, size), build(64, 200, advantage, size)
    states, _ = jumps_of(few, 3)
    state = states[-1]
    whole = spread_of(state, 200)  # all logits of the same state
    start_of_dense = start(dense)[1]
    dense_state = state.learning._replace(params=whole, optimizer=start_of_dense.optimizer)
    found = []
    for trial, before, seeds in ((dense, dense_state, 0), (few, state, 10_000)):
        task, _ = start(trial)

        def one(seed, trial=trial, before=before, task=task):
            jump = trial.learner.jump(streams(seed), before, task, MOST)
            probs = jnp.exp(trial.learner.belief(jump.state, jnp.int32(0))[0])
            right = jnp.sum(jump.live.success), probs[0], jnp.sum(probs**2)
            return (phases.float_of(jump.num_dead), *right)

        found.append(jax.jit(jax.vmap(one))(seeds + jnp.arange(4000)))
    for a, b in zip(*found, strict=True):
        a, b = (np.round(np.float64(x), 6) for x in (a, b))
        assert stats.ks_2samp(a, b, method="asymp").pvalue > 0.01


def test_names_are_uniform_and_lasting():
    """Which symbols are touched: all wrong ones alike, over seeds; and the right one is right."""
    world = simrl.Sequence(9, 1, "token")
    trial = build(9, 9, size=3, rate=0.5, world=world)

    def one(seed):
        now = streams(seed)
        task, state = trial.environment.init(now.task), trial.learner.init(now)
        after = trial.learner.jump(now, state, task, MOST).state
        later = trial.learner.jump(keys.at_step(now, 1), after, task, MOST).state
        believed = [trial.learner.belief(s, jnp.int32(0))[0] for s in (state, after, later)]
        return task.answers[0, 0], after.touched, *believed

    answers, touched, first, second, third = map(
        np.asarray, jax.jit(jax.vmap(one))(np.arange(6000))
    )
    np.testing.assert_allclose(first, np.log(1 / 9), rtol=1e-6)
    assert (second.argmax(axis=1) == answers).all()
    lower = second < np.median(second, axis=1, keepdims=True) - 1e-4
    assert (lower.sum(axis=1) == touched).mean() > 0.99  # the median is an untouched answer's
    counts = np.bincount(((np.nonzero(lower)[1] - answers[np.nonzero(lower)[0]]) % 9), minlength=9)
    assert counts[0] == 0
    # Names within one seed exclude each other, which only brings the counts closer together.
    assert stats.chisquare(counts[1:]).pvalue > 0.01
    # An answer once set apart from the untouched stays apart, under its name.
    kept = third[lower] < np.median(third, axis=1)[np.nonzero(lower)[0]]
    assert kept.mean() > 0.9


def test_a_longer_run_begins_with_the_shorter_one():
    """Draws mean the same whatever K is: runs differ by rounding until the shorter is full."""
    runs = {entries: jumps_of(build(entries, 4000, size=8), 12) for entries in (16, 64, 4000)}
    few, some = runs[16], runs[64]
    full = build(16, 4000, size=8).learner.lumps.full
    until = next(i for i, state in enumerate(few[0]) if full(state))
    assert 1 < until < 12
    for one, other, upto in ((few, some, until), (some, runs[4000], 8)):
        for a, b in zip(one[1][:upto], other[1][:upto], strict=True):
            np.testing.assert_array_equal(a.live.answers, b.live.answers)
            np.testing.assert_array_equal(a.num_dead, b.num_dead)
    assert some[0][-1].touched > 16
    states = build(64, 4000, size=8).learner.lumps.full, some[0]
    assert not any(states[0](state) for state in states[1][:8])


def test_as_many_entries_as_answers_never_run_out():
    trial = build(12, 12, "leave_one_out", size=8, rate=0.1)
    states, found = jumps_of(trial, 60)
    assert states[-1].touched == 11
    assert not any(trial.learner.lumps.full(state) for state in states)
    assert max(int(jump.live.answers.max()) for jump in found) == 11


def test_sizes_follow_from_the_weights_of_failures():
    none = np.zeros(9)
    some = np.append(-np.ones(8), 0.0)
    assert lumping.sizes(100_000, none) == (2,)
    assert lumping.sizes(7, none) == ()
    assert lumping.sizes(100_000, np.append(none[:8], 1.0)) == (2,)  # no failure with B successes
    assert lumping.sizes(100_000, some) == (256, 2048, 16384, 100_000)
    assert lumping.sizes(1024, some) == (256, 1024)
    assert lumping.sizes(1023, some) == ()
    for size in (256, 1024):
        counts = Entries(size, 1024).counts
        assert counts.sum() == 1024
        assert len(counts) == size


def test_charges_are_those_of_the_whole_policy():
    _, (jump,) = jumps_of(build(64, 200), 1)
    _, (plain,) = jumps_of(build(0, 200), 1)
    for a, b in ((jump.live, plain.live), (jump.dead, plain.dead)):
        np.testing.assert_array_equal(phases.count_of(a.flops), phases.count_of(b.flops))
        for name in ("num_samples", "num_tokens", "dead"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
