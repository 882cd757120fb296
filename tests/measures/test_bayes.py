"""What a Bayesian learns over a whole run, and from a critic: by listing, in exact fractions."""

import itertools
import math
from collections import defaultdict
from fractions import Fraction

import jax
import numpy as np
import pytest

from simrl.measures.information import (
    binary_entropy,
    distinct_information,
    entropy,
    nominal_information,
    surprisal,
)
from tests.oracles.information import mutual_information

entropy_of, binary_of = jax.jit(entropy), jax.jit(binary_entropy)
nominal_bits = jax.jit(nominal_information, static_argnames="kind")

SECRETS, ACTIONS, STEPS = range(3), range(2), 3
DISCOUNT = Fraction(9, 10)
PRIOR = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)]


def random_fraction(rng):
    return Fraction(int(rng.integers(1, 9)), 10)


def world(seed):
    """What rewards each (secret, history of actions) pays, and how a policy acts on what it saw."""
    rng = np.random.default_rng(seed)
    pays = defaultdict(lambda: Fraction(int(rng.integers(0, 3)), 2))
    acts = defaultdict(lambda: random_fraction(rng))
    noise = random_fraction(rng)
    return pays, acts, noise


def runs(pays, acts, noise):
    """(probability, secret, actions, rewards) of every run; the policy sees its past rewards."""
    live = [(PRIOR[secret], secret, (), ()) for secret in SECRETS]
    for _ in range(STEPS):
        live = [
            (p * chance * odds, secret, (*actions, action), (*rewards, reward))
            for p, secret, actions, rewards in live
            for action in ACTIONS
            for chance in [abs(action - acts[actions, rewards])]
            for reward, odds in ((pays[secret, *actions, action], 1 - noise), (Fraction(1), noise))
        ]
    return live


def td_errors(actions, rewards, critic):
    """r_t + gamma V(s_{t+1}) - V(s_t); the state is the actions so far, the end is worth 0."""
    errors = []
    for t, reward in enumerate(rewards):
        after = critic[actions[: t + 1]] if t + 1 < len(rewards) else 0
        errors.append(reward + DISCOUNT * after - critic[actions[:t]])
    return tuple(errors)


def information(cells):
    """I(target; heard | known), bits, of (probability, target, heard, known) cells."""
    tables = defaultdict(lambda: defaultdict(Fraction))
    for p, target, heard, known in cells:
        tables[known][target, heard] += p
    total = 0.0
    for table in tables.values():
        whole = sum(table.values())
        total += float(whole) * mutual_information({k: v / whole for k, v in table.items()})
    return total


@pytest.mark.parametrize("seed", range(4))
def test_a_critic_adds_no_information(seed):
    everything = runs(*world(seed))
    assert sum(run[0] for run in everything) == 1
    rng = np.random.default_rng(seed)
    random = defaultdict(lambda: 5 * random_fraction(rng))
    critics = (random, defaultdict(Fraction), defaultdict(lambda: Fraction(1)))
    for t in range(STEPS):  # one step, given the history; all steps, given the actions
        step = [(p, y, r[t], (a[: t + 1], r[:t])) for p, y, a, r in everything]
        told = information(step)
        assert told > 0.01
        for critic in critics:
            known = [
                (p, y, errors[t], (a[: t + 1], errors[:t]))
                for p, y, a, r in everything
                for errors in [td_errors(a, r, critic)]
            ]
            assert math.isclose(information(known), told, rel_tol=1e-12)
    whole = information([(p, y, r, a) for p, y, a, r in everything])
    for critic in critics:
        heard = [(p, y, td_errors(a, r, critic), a) for p, y, a, r in everything]
        assert math.isclose(information(heard), whole, rel_tol=1e-12)


def one_step_runs(values):
    """A secret bit, a fair guess paid 1 if right, a critic of the state that the guess leads to.

    (probability, secret, action, reward, TD error).
    """
    for secret, action in itertools.product(range(2), repeat=2):
        reward = int(secret == action)
        yield Fraction(1, 4), secret, action, reward, reward + values[action]


def test_without_the_actions_td_errors_and_rewards_tell_different_things():
    # The reward alone says nothing of the secret: it is 1 half of the time whatever it is. A critic
    # that tells the actions apart lets the TD error give the action away too: one whole bit.
    told_apart = list(one_step_runs((Fraction(0), Fraction(3))))
    assert information([(p, y, r, ()) for p, y, _, r, _ in told_apart]) == 0
    assert information([(p, y, error, ()) for p, y, *_, error in told_apart]) == 1
    for given in (3, 4):  # reward, TD error: the same bit once the action is known
        assert information([(run[0], run[1], run[given], run[2]) for run in told_apart]) == 1


def bayesian_steps(prior, order):
    """(probability, [posterior odds of being right, p], hit) of the steps of every secret's run.

    Guesses in this order; ends when the secret is known, by a hit or with one answer left.
    """
    for secret, chance in enumerate(prior):
        steps, left = [], Fraction(1)
        for guess in order[:-1]:
            steps.append((prior[guess] / left, guess == secret))
            left -= prior[guess]
            if guess == secret:
                break
        yield chance, steps


@pytest.mark.parametrize(
    "prior",
    [[Fraction(1, 5)] * 5, [Fraction(k, 16) for k in (7, 4, 3, 1, 1)]],
    ids=["uniform", "peaked"],
)
def test_a_run_of_single_guesses_tells_the_secret(prior):
    law = np.array(prior, float)
    with jax.enable_x64(True):
        want = float(entropy_of(law))
        if len(set(prior)) == 1:
            assert math.isclose(want, math.log2(5))
        runs_of = [list(bayesian_steps(prior, o)) for o in itertools.permutations(range(5))]
        sizes = np.array([[len(steps) for _, steps in per_run] for per_run in runs_of])
        steps = [[step for _, steps in per_run for step in steps] for per_run in runs_of]
        p, hit = np.moveaxis(np.array(steps, float), -1, 0)  # [orders, steps of all secrets]
        weight = np.stack([np.repeat(law, size) for size in sizes])
        for told in (
            binary_of(p),
            nominal_bits(np.log(p) - np.log1p(-p), "policy_gradient"),
        ):
            np.testing.assert_allclose(np.sum(weight * told, -1), want, rtol=1e-12)
        # run by run, what was realised is all there was to know of this secret
        realised = np.asarray(surprisal(np.where(hit, p, 1 - p)))
        for size, bits in zip(sizes, realised, strict=True):
            by_run = np.add.reduceat(bits, np.cumsum([0, *size[:-1]]))
            np.testing.assert_allclose(by_run, -np.log2(law), rtol=1e-12)


@pytest.mark.parametrize("weights", [(1,) * 6, (9, 6, 4, 3, 1, 1)], ids=["uniform", "peaked"])
def test_a_run_of_groups_tells_the_secret(weights):
    # pairs of guesses at a time, from the posterior of the moment, until the pair that holds it
    prior = np.array(weights) / sum(weights)
    order = np.random.default_rng(0).permutation(6).reshape(3, 2)
    with jax.enable_x64(True):
        bits, first = jax.jit(distinct_information), np.ones(2, bool)
        expected = 0.0
        for secret in range(6):
            realised = 0.0
            for step, pair in enumerate(order):
                p = prior[pair] / prior[order[step:].ravel()].sum()
                hit = secret in pair
                own = prior[secret] / prior[order[step:].ravel()].sum()
                odds = np.log(p) - np.log1p(-p)
                told = bits(odds, first, np.log(own) - np.log1p(-own), hit)
                expected += prior[secret] * float(told.expected)
                realised += float(told.realised)
                if hit:
                    break
            np.testing.assert_allclose(realised, surprisal(prior[secret]), rtol=1e-12)
        np.testing.assert_allclose(expected, entropy_of(prior), rtol=1e-12)
