"""Worlds where several answers are right: merged into one, by listing."""

import collections
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.engine import observe
from simrl.sweeps import spec as specs
from simrl.sweeps.spec import SpecError
from tests.contracts.worlds import build, drawn, some_logits, streams, words_of
from tests.oracles import enumeration as oracle
from tests.oracles import feedback as reports
from tests.oracles.information import belief, list_answers

ERRS = {"verifier": "noisy", "false_positive": 0.1, "false_negative": 0.3}
WORLDS = {
    "arms": simrl.Bandit(num_arms=4, num_right=2),
    "arms, noisy": simrl.Bandit(num_arms=4, num_right=2, **ERRS),
    "one token": simrl.Sequence(4, 1, num_right=2),
    "answers": simrl.Sequence(3, 2, num_prompts=2, num_right=3),
}
SETS = 6000


def test_every_set_of_right_answers_is_as_likely():
    environment = simrl.Sequence(2, 2, num_prompts=2, num_right=3).build()
    draw = jax.jit(lambda key: jax.vmap(environment.init)(jax.random.split(key, SETS // 2)))
    tasks = draw(jax.random.key(0))
    rights = np.asarray(tasks.right).reshape(SETS, 3, 2) @ [2, 1]
    counts = collections.Counter(tuple(sorted(row)) for row in rights.tolist())
    assert all(len(set(each)) == 3 for each in counts)
    assert len(counts) == 4
    error = np.sqrt(3 / 16 / SETS)
    assert all(abs(count / SETS - 1 / 4) < 4 * error for count in counts.values())


@cache
def setting(name):
    """A task, and the right answers to each prompt."""
    task, rights = drawn(WORLDS[name].build(), jax.random.key(1), "right")
    return task, [[tuple(a) for a in right] for right in rights.tolist()]


@pytest.mark.parametrize("name", WORLDS)
def test_any_of_them_is_paid(name):
    environment = WORLDS[name].build()
    task, rights = setting(name)
    _, length, size = environment.shape
    answers = list_answers(length, size)
    words, label = words_of(jax.random.key(2), (4000, length)), jax.jit(environment.label)
    over_answers = jax.vmap(environment.reward, (None, None, None, 0))
    over = jax.jit(jax.vmap(over_answers, (0, None, None, None)))
    for prompt, right in enumerate(rights):
        told = over(words, task, prompt, np.array(answers))
        hits = np.array([answer in right for answer in answers])
        assert 0 < hits.sum() == WORLDS[name].num_right
        np.testing.assert_array_equal(told.success, np.broadcast_to(hits, told.success.shape))
        chance = hits if environment.verifier is None else np.where(hits, 0.7, 0.1)
        paid = np.float64(told.credit)
        assert paid.shape == (4000, len(answers), length)
        error = np.sqrt(chance * (1 - chance) / 4000)[:, None]
        assert np.all(np.abs(paid.mean(axis=0) - chance[:, None]) <= 4 * error)
        assert tuple(label(np.asarray(words)[0], task, prompt).tolist()) in right


@pytest.mark.parametrize("name", ["arms, noisy", "one token", "answers"])
def test_measures_are_those_of_the_merged_policy(name):
    """Of a group of three guesses two are right, and not the first that is."""
    trial = build(WORLDS[name], simrl.PolicyGradient(group_size=3))
    environment, learner = trial.environment, trial.learner
    (task, rights), logits = setting(name), some_logits(environment.shape, seed=4)
    wrong = next(a for a in list_answers(*environment.shape[1:]) if a not in rights[0])
    guesses = [rights[0][1], wrong, rights[0][-1]]
    prompts = np.arange(environment.shape.num_prompts)

    @jax.jit
    def measure(logits):
        state = learner.init(streams(0))._replace(params=logits)
        known = observe.truth(trial, task)
        info = learner.step(streams(0), state, task)[1]
        info = info._replace(prompts=jnp.int32([0]), answers=jnp.asarray([guesses], jnp.int32))
        before = observe.beliefs(trial, state)
        odds = observe.log_odds(before, known)
        sure = observe.log_odds(observe.beliefs(trial, state._replace(params=40 * logits)), known)
        seen = observe.of_state(trial, state, task, known, jax.random.key(1))
        told = observe.of_update(trial, before, known, info)
        return {**seen, **told, "absorbed": observe.absorbed(odds, sure)}

    found = jax.tree.map(np.asarray, measure(logits))
    laws = [np.exp(np.float64(logits * scale)) for scale in (1, 40)]
    laws = [law / law.sum(axis=-1, keepdims=True) for law in laws]
    rates = (0.1, 0.3) if environment.verifier is not None else (0, 0)
    for m in prompts.tolist():
        masses = [reports.mass(law[m], rights[m]) for law in laws]
        first, *others = rights[m]
        prior = belief(laws[0][m])
        merged = {a: p for a, p in prior.items() if a not in others} | {first: masses[0]}
        wanted = reports.on_policy(merged, first, "exact", None, *rates)
        np.testing.assert_allclose(found["pass_rate"][m], masses[0], rtol=1e-5)
        np.testing.assert_allclose(found["expected"][m], wanted[0], rtol=1e-4)
        np.testing.assert_allclose(found["realised"][m], wanted[1], rtol=1e-4)
        gain = np.log2(masses[1] / masses[0])
        np.testing.assert_allclose(found["absorbed"][m], gain, rtol=1e-4)
    assert observe.quantities(trial)[:3] == ("pass_rate", "nominal", "absorbed")
    if environment.verifier is None:  # two right guesses are one, and tell all
        p, q = reports.mass(laws[0][0], rights[0]), oracle.probability(laws[0][0], wrong)
        parts = [p, q, 1 - p - q]
        np.testing.assert_allclose(found["realised_update"][0], -np.log2(p), rtol=1e-4)
        entropy = -sum(x * np.log2(x) for x in parts)
        np.testing.assert_allclose(found["expected_update"][0], entropy, rtol=1e-4)


@pytest.mark.parametrize("name", ["arms, noisy", "one token"])
def test_moments_of_arms_are_those_of_every_batch(name):
    environment = WORLDS[name].build()
    (task, (right,)), logits = setting(name), some_logits(environment.shape, seed=5)
    probs = np.exp(np.float64(logits[0, 0]))
    probs /= probs.sum()
    mean = np.array([float((arm,) in right) for arm in range(4)])
    if environment.verifier is not None:
        mean = np.where(mean > 0, 0.7, 0.1)
    rows = [
        (p * chance, oracle.score(probs[None], (arm,)), [paid])
        for arm, p in enumerate(probs)
        for paid, chance in ((1.0, mean[arm]), (0.0, 1 - mean[arm]))
    ]
    samples = oracle.Samples(*map(np.array, zip(*rows, strict=True)))
    for advantage in ("leave_one_out", "group_normalised"):
        learner = build(WORLDS[name], simrl.PolicyGradient(specs.ADVANTAGES[advantage], 3)).learner
        state = learner.init(streams(0))._replace(params=jnp.asarray(logits))
        truth = oracle.batch_truth(samples, 3, advantage)
        found = jax.jit(learner.moments)(state, task)
        np.testing.assert_allclose(found, (truth.trace_covariance, truth.squared_norm), rtol=1e-4)
    whole = build(WORLDS["answers"], simrl.PolicyGradient(group_size=2)).learner
    assert whole.moments is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment": simrl.Bandit(num_arms=3, num_right=3)}, "leave a wrong arm, not 3"),
        ({"environment": simrl.Bandit("gaussian", num_right=2)}, "needs the kind one_right"),
        ({"environment": simrl.Sequence(2, 2, num_right=4)}, "leave a wrong answer, not 4"),
        ({"environment": simrl.Sequence(num_right=0)}, "at least 1"),
        ({"environment": simrl.Sequence(num_right=2, reward="token")}, "the reward exact"),
        ({"environment": simrl.Sequence(num_right=2, labels="zipf")}, "fixed labels"),
        ({"environment": simrl.Sequence(10, 7, num_right=2)}, "at most 1000000"),
        ({"learner": simrl.Supervised()}, "one right answer"),
        ({"measures": ("cosine",)}, "one right answer"),
        ({"engine": "jump"}, "one answer must be right"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(changes, reason):
    spec = simrl.Spec(**{"environment": simrl.Bandit(num_right=2), **changes})
    with pytest.raises(SpecError, match=reason) as error:
        specs.validate(specs.resolved(spec))
    assert "\n" not in str(error.value)
