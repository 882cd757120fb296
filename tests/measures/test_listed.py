"""What listed beliefs are told, against tables of every truth, guess and message."""

import math
from collections import defaultdict
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import listing
from simrl.measures import information, listed, messages
from simrl.measures.messages import World
from tests.oracles import feedback as reports
from tests.oracles.information import (
    EXTREME,
    TOLERANCE,
    belief,
    decimal_softmax,
    list_answers,
    message,
    mutual_information,
    pointwise_information,
    safe_log,
)

CHANNELS = ("exact", "fraction", "prefix", "token", "reward_to_go")
SHAPES = ((2, 3), (3, 2))
RATES = (0.15, 0.3)
TRUTH = 5


def joint_laws(count, seed, num=3):
    """Random laws over all answers; the last rules two of them out."""
    rng = np.random.default_rng(seed)
    for i in range(num):
        law = np.exp(rng.normal(size=count) * (1.0, 3.0, 1.0)[i])
        law[[1, 4]] *= i < 2
        yield law / law.sum()


def oracle(law, guess_law, shape, channel, rates=(0, 0)):
    """(expected, realised) bits of a guess drawn from its own law."""
    answers = list_answers(*shape)
    prior = dict(zip(answers, law, strict=True))
    found = np.zeros(2)
    for guess, weight in zip(answers, guess_law, strict=True):
        if weight > 0:
            table = reports.guess_table(prior, guess, channel, None, *rates)
            found += weight * np.array(reports.both(table, answers[TRUTH]))
    return found


@pytest.mark.parametrize(("x64", "shape"), [(False, SHAPES[0]), (True, SHAPES[1])])
def test_information_is_that_of_every_truth_and_guess(x64, shape):
    laws = list(joint_laws(shape[1] ** shape[0], 3))
    worlds = [World(*shape, channel) for channel in CHANNELS]
    worlds += [World(*shape, channel, RATES) for channel in ("exact", "token")]

    @jax.jit
    def told(log_law, guess):
        return [
            listed.listed_information(log_law, jnp.int32(TRUTH), world, given)
            for world in worlds
            for given in (None, guess)
        ]

    for law, guess in zip(laws, laws[::-1], strict=True):
        with jax.enable_x64(x64):
            found = told(safe_log(law), safe_log(guess))
        wanted = [
            oracle(law, given, shape, world.channel, world.rates or (0, 0))
            for world in worlds
            for given in (law, guess)
        ]
        np.testing.assert_allclose(found, wanted, rtol=TOLERANCE[x64])


@jax.jit
def of_positions(log_probs, answer):
    """Channel -> information of independent positions [2, 3], listed and not."""
    law, code = listing.joint(log_probs), listing.code(answer, 3)
    found = {"label": information.sequence_information(law[None], code[None], "label")}
    for channel in CHANNELS:
        found[channel] = listed.listed_information(law, code, World(2, 3, channel))
    closed = {
        channel: information.sequence_information(log_probs, answer, channel) for channel in found
    }
    return found, closed


def test_of_independent_positions_it_is_what_it_was(float64):
    logits = 2 * np.random.default_rng(1).normal(size=(2, 3))
    found, closed = of_positions(jax.nn.log_softmax(logits), jnp.array([2, 0]))
    for channel, wanted in closed.items():
        np.testing.assert_allclose(found[channel], wanted, rtol=1e-10, err_msg=channel)


@pytest.mark.parametrize("name", ["sure", "two sequences share all"])
def test_float32_keeps_its_digits_where_an_answer_is_nearly_sure(name):
    logits = np.float32(EXTREME[name])
    prior = belief(decimal_softmax(logits))
    for truth in ((0, 0), (1, 1)):
        found, _ = of_positions(jax.nn.log_softmax(logits), jnp.array(truth))
        for channel in CHANNELS:
            wanted = [float(x) for x in reports.on_policy(prior, truth, channel)]
            np.testing.assert_allclose(found[channel], wanted, rtol=1e-4, err_msg=channel)


def test_samples_agree_with_the_exact_figure():
    guess, _, law = joint_laws(9, 3)
    log_law, log_guess = jnp.log(jnp.float32(law)), jnp.log(jnp.float32(guess))
    worlds = [World(2, 3, channel) for channel in ("fraction", "prefix")]
    worlds += [World(2, 3, "token", RATES)]

    @jax.jit
    def both(key):
        given = log_law, jnp.int32(TRUTH)
        return [
            (
                listed.sampled_information(key, *given, world, 2000, log_guess),
                listed.listed_information(*given, world, log_guess),
            )
            for world in worlds
        ]

    for drawn, exact in both(jax.random.key(2)):
        for i in range(2):
            assert 0 < drawn[2 + i] < 0.1 * exact[i]
            assert abs(drawn[i] - exact[i]) < 4 * drawn[2 + i]
    assert listed.is_closed(World(3, 32, "token"))
    assert not listed.is_closed(World(3, 33, "token"))
    assert listed.is_closed(World(3, 99, "exact"))


@pytest.mark.parametrize("channel", CHANNELS)
def test_joint_information_of_a_group(float64, channel):
    """Twelve guesses do not fit one word of `token`, with 8 messages each (31 bits)."""
    shape, truth = (3, 2), 5
    rng = np.random.default_rng(4)
    answers = list_answers(*shape)
    mine = np.arange(12) % 4 < 3
    codes = np.where(mine, rng.integers(0, 3, size=12), 6)
    assert math.log2(8) * 12 > 31
    law = next(joint_laws(8, 6))
    world = World(*shape, channel)
    measure = jax.jit(partial(listed.joint_information, world=world))
    found = measure(np.log(law), np.int32(truth), codes, mine)
    table = defaultdict(float)
    for answer, p in zip(answers, law, strict=True):
        heard = tuple(message(channel, answers[code], answer) for code in codes[mine])
        table[answer, heard] += p
    wanted = mutual_information(table), pointwise_information(table, answers[truth])
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


@pytest.mark.parametrize("reward", CHANNELS)
def test_messages_are_read_off_the_rewards_of_the_world(reward):
    environment, shape = simrl.Sequence(3, 3, reward).build(), World(3, 3, reward)
    task = jax.jit(environment.init)(jax.random.key(1))
    codes, secret = np.arange(27), tuple(np.asarray(task.answers)[0].tolist())

    @jax.jit
    def told():
        guesses, words = listing.decode(codes, 3, 3), jnp.zeros(3, jnp.uint32)
        paid = jax.vmap(environment.reward, (None, None, None, 0))(words, task, 0, guesses)
        heard = jax.vmap(lambda credit: messages.heard(credit, shape))(paid.credit)
        return guesses, heard, messages.message(codes, listing.code(task.answers[0], 3), shape)

    guesses, heard, caused = told()
    np.testing.assert_array_equal(heard, caused)
    literal = [message(reward, tuple(guess), secret) for guess in guesses.tolist()]
    pairs = set(zip(heard.tolist(), literal, strict=True))
    assert len(pairs) == len(set(heard.tolist())) == len(set(literal)) > 1


def test_numbers_of_answers():
    answers = np.array(list_answers(3, 4))

    @jax.jit
    def there_and_back(answers):
        codes = listing.code(answers, 4)
        return codes, listing.decode(codes, 3, 4)

    codes, back = there_and_back(answers)
    np.testing.assert_array_equal(codes, np.arange(64))
    np.testing.assert_array_equal(back, answers)
    merge, right = jax.jit(listing.merged), np.array([2, 0])
    together = merge(np.log(np.float32([[0.1, 0.2, 0.3, 0.4]])), right)
    np.testing.assert_allclose(np.exp(together), [[0, 0.2, 0.4, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(merge(together, right), together, rtol=1e-6)


def test_what_is_unknown_is_refused():
    law = jnp.log(jnp.full(9, 1 / 9))
    for world, reason in (
        (World(2, 3, "colour"), "unknown channel"),
        (World(2, 3, "fraction", RATES), "no verdicts"),
    ):
        with pytest.raises(ValueError, match=reason):
            listed.listed_information(law, jnp.int32(0), world)
    with pytest.raises(ValueError, match="less than 2"):
        listed.sampled_information(jax.random.key(0), law, jnp.int32(0), World(2, 3, "token"), 1)
