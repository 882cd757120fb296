"""Policies of a user's own whose positions depend on each other: measured as what they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.engine import observe
from simrl.policies import dependence
from simrl.sweeps import spec as specs
from simrl.types import TeacherForced
from tests.contracts.worlds import build, some_logits, streams
from tests.oracles import feedback as reports
from tests.oracles.information import list_answers

SHAPE = simrl.Shape(num_prompts=1, length=2, vocab_size=2)
FIRST, AFTER_0, AFTER_1 = [0.0, 0.0], [0.0, -6.0], [0.0, 0.0]
PASS_RATES = {(0, 0): 0.4988, (0, 1): 0.0012, (1, 0): 0.25, (1, 1): 0.25}  # by hand


def plain(shape):
    """The prefix tree as any network is given: it says nothing of what it is."""
    tree = simrl.Autoregressive().build(shape)
    return simrl.Policy(*tree[:4], num_active_params=tree.num_active_params)


def measured(world, learner, policy, logits, seed=3):
    """What is measured of a state and an update of it, and what was right."""
    trial = build(world, learner, policy)
    task = trial.environment.init(jax.random.key(seed))

    @jax.jit
    def measure(logits):
        state = trial.learner.init(streams(0))._replace(params=logits)
        known = observe.truth(trial, task)
        belief = observe.beliefs(trial, state, known)
        info = trial.learner.step(streams(0), state, task)[1]
        seen = observe.of_state(trial, state, task, known, jax.random.key(1))
        return {**seen, **observe.of_update(trial, belief, known, info)}

    return trial, task, measure(jnp.asarray(logits))


@pytest.mark.parametrize("enumerated", [True, False])
def test_the_pass_rate_is_that_of_the_whole_answer(enumerated, monkeypatch):
    if not enumerated:
        monkeypatch.setattr(dependence, "MAX_ENUMERATED", 3)
    policy = specs.resolve("policy", lambda shape: plain(shape))
    trial = build(simrl.Sequence(2, 2), simrl.PolicyGradient(group_size=2), policy)
    assert isinstance(trial.policy, TeacherForced) == (not enumerated)

    @jax.jit
    def pass_rate(answer):
        state = trial.learner.init(streams(0))
        state = state._replace(params=jnp.array([[FIRST, AFTER_0, AFTER_1]]))
        laws = jax.nn.one_hot(answer, 2)[None]
        truth = observe.Truth(answer[None], laws)
        if enumerated:
            truth = observe.Truth(answer[None] @ jnp.array([[2], [1]]), jnp.zeros((1, 1, 0)))
        return jax.nn.sigmoid(observe.log_odds(observe.beliefs(trial, state, truth), truth))[0]

    found = {answer: float(pass_rate(jnp.array(answer))) for answer in PASS_RATES}
    assert found == pytest.approx(PASS_RATES, abs=5e-5)


LEARNERS = {
    "guess": simrl.PolicyGradient(group_size=4),
    "label": simrl.Supervised(batch_size=2),
}


@pytest.mark.parametrize("kind", LEARNERS)
def test_all_is_measured_where_answers_can_be_enumerated(kind, monkeypatch):
    if kind == "label":
        monkeypatch.setattr(dependence, "MAX_AT_ONCE", 2)  # of 3 forward passes
    world, logits = simrl.Sequence(3, 2, "prefix"), some_logits((1, 4, 3), seed=2)
    own = specs.resolve("policy", plain)
    trial, _, found = measured(world, LEARNERS[kind], own, logits)
    _, task, wanted = measured(world, LEARNERS[kind], simrl.Autoregressive(), logits)
    assert {"expected", "realised", "expected_update", "realised_update"} <= set(found)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    # By another road: every answer and its probability, in float64.
    rows = np.exp(np.float64(logits[0]))
    rows /= rows.sum(axis=1, keepdims=True)
    prior = {(a, b): rows[0, a] * rows[1 + a, b] for a, b in list_answers(2, 3)}
    law = np.exp(trial.policy.listed(jnp.asarray(logits), 0))
    np.testing.assert_allclose(law, list(prior.values()), rtol=1e-5)
    channel = "prefix" if kind == "guess" else "label"
    bits = reports.on_policy(prior, tuple(task.answers[0].tolist()), channel)
    np.testing.assert_allclose([found["expected"][0], found["realised"][0]], bits, rtol=1e-4)


ERRS = {"verifier": "noisy", "false_positive": 0.1, "false_negative": 0.3}


def entropy(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


FORCED = {  # what is measured of a state, from the probability p of the right answer
    "guess": ({}, {"pass_rate": lambda p: p, "nominal": entropy}),
    "label": ({}, {"pass_rate": lambda p: p, "nominal": lambda p: -np.log2(p)}),
    "noisy": ({"labels": "zipf"}, {"pass_rate": lambda p: p}),
    "verdict": (
        ERRS,
        {
            "pass_rate": lambda p: p,
            "observed_pass_rate": lambda p: 0.7 * p + 0.1 * (1 - p),
            "nominal": lambda p: entropy(0.7 * p + 0.1 * (1 - p)),
        },
    ),
    "verdicts": ({"reward": "token", **ERRS}, {"pass_rate": lambda p: p}),
}


@pytest.mark.parametrize("kind", FORCED)
def test_only_what_is_known_is_measured_of_more_answers(kind, monkeypatch):
    fields, wanted = FORCED[kind]
    world, logits = simrl.Sequence(2, 2, **fields), some_logits((1, 3, 2), seed=2)
    monkeypatch.setattr(dependence, "MAX_ENUMERATED", 3)
    own = specs.resolve("policy", lambda shape: plain(shape))
    trial = build(world, LEARNERS.get(kind, LEARNERS["guess"]), own)
    assert set(observe.quantities(trial)) == {*wanted, "absorbed", "success"}
    task = trial.environment.init(jax.random.key(3))
    right = np.argmax(trial.environment.target(task, 0), axis=-1)

    @jax.jit
    def measure(logits):
        state = trial.learner.init(streams(0))._replace(params=logits)
        known = observe.truth(trial, task)
        return observe.of_state(trial, state, task, known, jax.random.key(1))

    rows = np.exp(np.float64(logits[0]))
    rows /= rows.sum(axis=1, keepdims=True)
    p = rows[0, right[0]] * rows[1 + right[0], right[1]]
    found = measure(jnp.asarray(logits))
    assert set(found) == set(wanted)
    for name, of_p in wanted.items():
        np.testing.assert_allclose(found[name], of_p(p), rtol=1e-5, err_msg=name)


def of_rows(rows):
    """A policy by its `log_probs` alone."""

    def log_probs(params, prompt, answer):
        return jax.nn.log_softmax(rows(params[prompt], answer))

    return simrl.Policy(
        lambda key: jnp.zeros(SHAPE), lambda *given: None, lambda *given: None, log_probs, 4
    )


READS = {
    "nothing": (lambda table, answer: table, False),
    "its shape": (lambda table, answer: table + jnp.zeros_like(answer)[:, None], False),
    "nothing, called": (jax.jit(lambda table, answer: 2 * table), False),
    "nothing, looped": (
        lambda table, answer: jax.lax.fori_loop(0, 2, lambda i, x: x + 1.0, table),
        False,
    ),
    "the first": (lambda table, answer: table.at[1].add(answer[0]), True),
    "the first, called": (jax.jit(lambda table, answer: table.at[1].add(answer[0])), True),
    "the first, looped": (
        lambda table, answer: jax.lax.fori_loop(0, 2, lambda i, x: x.at[1].add(answer[0]), table),
        True,
    ),
    "to no effect": (lambda table, answer: table + 0 * answer[0], True),
}


@pytest.mark.parametrize("name", READS)
def test_positions_are_independent_if_no_answer_is_read(name):
    rows, reads = READS[name]
    assert dependence.reads_answer(of_rows(rows), SHAPE) == reads


def test_the_only_position_reads_nothing_and_what_says_so_is_believed():
    policy = of_rows(READS["the first"][0])
    assert not dependence.reads_answer(policy, SHAPE._replace(length=1))
    assert dependence.is_dependent(policy, SHAPE)
    assert not dependence.is_dependent(policy._replace(tabular=True), SHAPE)
    for known in (simrl.Tabular(), simrl.Autoregressive()):
        assert not dependence.is_dependent(known.build(SHAPE), SHAPE)


NEED_ALL = {
    "keep_beliefs": {"keep_beliefs": True},
    "excess_loss": {
        "environment": simrl.Sequence(4, 7, labels="zipf"),
        "phases": {"coordinate": "excess_loss"},
    },
    "regret": {"environment": simrl.Sequence(4, 7, labels="zipf"), "measures": ["regret"]},
    "known_channel": {
        "environment": simrl.Sequence(4, 7, labels="zipf"),
        "measures": ["known_channel"],
    },
    "several right": {"environment": simrl.Sequence(4, 7, num_right=2)},
    "oracle_band": {"learner": simrl.PolicyGradient(curriculum="oracle_band")},
}


@pytest.mark.parametrize("name", NEED_ALL)
def test_what_needs_all_answers_is_refused(name):
    fields = {"environment": simrl.Sequence(4, 7), **NEED_ALL[name]}
    with pytest.raises(simrl.SpecError, match=name if name != "oracle_band" else "independent"):
        simrl.Sweep(simrl.Spec(policy=plain, **fields)).cells()


def test_a_run_knows_the_right_answer_alone(monkeypatch):
    monkeypatch.setattr(dependence, "MAX_ENUMERATED", 3)
    fields = {"max_steps": 3, "log_points": 1, "num_redraws": 3, "thresholds": (0.3,)}
    learner = simrl.Supervised(optimizer={"name": "sgd", "learning_rate": 1.0})
    data = simrl.run(simrl.Spec(simrl.Sequence(2, 2), learner, plain, **fields), 2).isel(cell=0)
    # Both rows that are read gain the same at every step: of two symbols by the softmax.
    logit = 0.0
    for _ in range(3):
        p = 1 / (1 + np.exp(-2 * logit))
        logit += 1 - p
    rates = [0.25, 1 / (1 + np.exp(-2 * logit)) ** 2]
    np.testing.assert_allclose(data.pass_rate, [rates] * 2, rtol=1e-5)
    np.testing.assert_allclose(data.nominal, -np.log2([rates] * 2), rtol=1e-5)
    gained = np.log2(rates[1] / rates[0])
    np.testing.assert_allclose(data.phase_absorbed.sum("phase"), [gained] * 2, rtol=1e-5)
    assert not {"expected", "phase_expected", "phase_realised_update"} & set(data)
