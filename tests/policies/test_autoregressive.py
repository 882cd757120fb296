"""The prefix tree: learning with it against every answer and every batch, in float64."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import columns, listing, prefixes
from simrl.engine import observe
from simrl.learners import updates
from simrl.sweeps import spec as specs
from simrl.sweeps.spec import SpecError
from tests.contracts.worlds import build, some_logits, streams
from tests.oracles import enumeration as oracle
from tests.oracles import feedback as reports
from tests.oracles.information import list_answers

LENGTH, SIZE = 2, 3
ANSWERS = list_answers(LENGTH, SIZE)
ROWS = [(), (0,), (1,), (2,)]  # the prefixes, row by row
ADVANTAGES = {"none": "none", "leave_one_out": "leave_one_out"}


def law_of(logits):
    """{answer: probability} by the chain rule, and the score [R, V] of each answer."""
    rows = np.exp(np.float64(logits))
    rows /= rows.sum(axis=1, keepdims=True)
    law, scores = {}, []
    for answer in ANSWERS:
        score, p = np.zeros_like(rows), 1.0
        for t, symbol in enumerate(answer):
            row = ROWS.index(answer[:t])
            p *= rows[row, symbol]
            score[row] = np.eye(SIZE)[symbol] - rows[row]
        law[answer] = p
        scores.append(score)
    return law, np.array(scores)


@pytest.fixture(scope="module")
def logits():
    """[1, R, V]"""
    return some_logits((1, len(ROWS), SIZE), seed=2)


def test_the_law_over_whole_answers(logits):
    policy = simrl.Autoregressive().build(simrl.Shape(1, LENGTH, SIZE))
    law, _ = law_of(logits[0])
    found = np.exp(policy.listed(jnp.asarray(logits), jnp.int32(0)))
    np.testing.assert_allclose(found, list(law.values()), rtol=1e-5)
    answers = jnp.asarray(ANSWERS)
    each = jax.vmap(policy.log_prob, (None, None, 0))(jnp.asarray(logits), 0, answers)
    np.testing.assert_allclose(np.exp(each.sum(axis=1)), list(law.values()), rtol=1e-5)


def test_words_at_the_edges_of_a_law():
    """Of four equal chances a word is its own two first bits, for every prefix."""
    edges = [k * 2**30 + d for k in range(4) for d in (-1, 0, 1)]
    words = np.array([*itertools.product(np.uint32(np.array(edges) % 2**32), repeat=2)], np.uint32)
    law = np.full((1 + 4, 4, 1), 0.25, np.float32)
    fence = columns.Fence(jnp.ones(()))
    found = jax.jit(lambda *given: prefixes.choose(*given, 1, fence))(words.T[..., None], law)
    np.testing.assert_array_equal(found[..., 0], words.T >> 30)


@pytest.mark.parametrize("reward", ["exact", "token"])
def test_estimates_are_the_oracle_for_every_batch(logits, monkeypatch, reward):
    monkeypatch.setattr(updates, "group_words", lambda stream, groups, size, length: stream)
    monkeypatch.setattr(updates, "draw_prompts", lambda stream, world, task, groups: stream)
    environment = simrl.Sequence(SIZE, LENGTH, reward).build()
    task = environment.init(jax.random.key(3))
    secret = tuple(task.answers[0].tolist())
    law, scores = law_of(logits[0])
    credit = np.array([oracle.credit(answer, secret, reward) for answer in ANSWERS])
    by_row = credit[:, [len(prefix) for prefix in ROWS]]  # a row has the credit of its position
    samples = oracle.Samples(np.array(list(law.values())), scores, by_row)
    chance, index = oracle.batches(samples, 2)
    policy = simrl.Autoregressive().build(environment.shape)
    told = policy._replace(sample=lambda words, params, prompt: words.astype(jnp.int32))

    def estimates(spec, label=None):
        learner = spec.build(environment, told)
        state = learner.init(streams(0))._replace(params=jnp.asarray(logits))
        assert learner.listed
        assert learner.moments is None

        def one(answers):
            prompt, nothing = jnp.zeros(1, jnp.int32), jnp.zeros((1, 2, LENGTH), jnp.uint32)
            given = {"prompt": prompt, "sample": answers[None], "reward": nothing}
            return learner.estimate(SimpleNamespace(**given, label=nothing), state, task)[0]

        return jax.jit(jax.vmap(one))(jnp.asarray(ANSWERS, jnp.uint32)[index])

    climb = np.einsum("n,nr,nrv->rv", samples.weight, by_row, scores)
    for name, advantage in ADVANTAGES.items():
        found = estimates(simrl.PolicyGradient(specs.ADVANTAGES[name], 2))
        wanted = oracle.gradient(samples, index, advantage)
        np.testing.assert_allclose(found, wanted, atol=3e-6, rtol=1e-5, err_msg=name)
        mean = np.einsum("b,brv->rv", chance, np.float64(found))
        np.testing.assert_allclose(mean, climb, atol=1e-6, err_msg=name)
    supervised = estimates(simrl.Supervised(batch_size=2))
    score = scores[ANSWERS.index(secret)]
    np.testing.assert_allclose(supervised, np.broadcast_to(score, supervised.shape), atol=1e-6)


@pytest.mark.parametrize("reward", ["exact", "prefix"])
def test_what_is_measured_by_listing(logits, reward):
    world = simrl.Sequence(SIZE, LENGTH, reward)
    kinds = {"guess": simrl.PolicyGradient(group_size=4), "label": simrl.Supervised()}
    trials = {kind: build(world, spec, simrl.Autoregressive()) for kind, spec in kinds.items()}
    task = trials["guess"].environment.init(jax.random.key(3))

    @jax.jit
    def measure(logits):
        found = {}
        for kind, trial in trials.items():
            state = trial.learner.init(streams(0))._replace(params=logits)
            known = observe.truth(trial, task)
            info = trial.learner.step(streams(0), state, task)[1]
            told = observe.of_update(trial, observe.beliefs(trial, state), known, info)
            seen = observe.of_state(trial, state, task, known, jax.random.key(1))
            score = trial.learner.score(state, observe.answers.symbols(trial, known))
            found[kind] = {**seen, **told, "score": score, "made": info.answers}
        return found

    found = measure(jnp.asarray(logits))
    prior, scores = law_of(logits[0])
    secret = tuple(task.answers[0].tolist())
    for kind, channel in (("guess", reward), ("label", "label")):
        wanted = reports.on_policy(prior, secret, channel)
        np.testing.assert_allclose(found[kind]["expected"], wanted[0], rtol=1e-4)
        np.testing.assert_allclose(found[kind]["realised"], wanted[1], rtol=1e-4)
        np.testing.assert_allclose(found[kind]["pass_rate"], prior[secret], rtol=1e-5)
        score = found[kind]["score"][0]
        np.testing.assert_allclose(score, scores[ANSWERS.index(secret)], atol=1e-6)
        assert observe.quantities(trials[kind])[:3] == ("pass_rate", "nominal", "absorbed")
    guesses = {tuple(guess) for guess in found["guess"]["made"][0].tolist()}
    told = {
        guess: {answer: reports.message(reward, guess, answer) for answer in ANSWERS}
        for guess in guesses
    }
    alike = [a for a in ANSWERS if all(by[a] == by[secret] for by in told.values())]
    bits = -np.log2(sum(prior[answer] for answer in alike))
    np.testing.assert_allclose(found["guess"]["realised_update"], bits, rtol=1e-4)


def test_noisy_labels_and_noisy_verifiers(logits):
    zipf = simrl.Sequence(SIZE, LENGTH, labels="zipf")
    errs = {"verifier": "noisy", "false_positive": 0.1, "false_negative": 0.3}
    token = simrl.Sequence(SIZE, LENGTH, "token", **errs)
    labelled = build(zipf, simrl.Supervised(), simrl.Autoregressive())
    judged = build(token, simrl.PolicyGradient(group_size=2), simrl.Autoregressive())

    @jax.jit
    def measure(logits):
        found = []
        for trial in (labelled, judged):
            task = trial.environment.init(jax.random.key(3))
            state = trial.learner.init(streams(0))._replace(params=logits)
            known = observe.truth(trial, task)
            seen = observe.of_state(trial, state, task, known, jax.random.key(1))
            law = trial.environment.target(task, 0)
            found.append((seen, law))
            if trial is labelled:
                score = observe.label_score(observe.beliefs(trial, state), known)
        return *found, score

    (taught, law), (guessed, secret), score = measure(jnp.asarray(logits))
    prior, _ = law_of(logits[0])
    labels = {answer: oracle.probability(np.float64(law), answer) for answer in ANSWERS}
    gap = sum(q * np.log2(q / prior[answer]) for answer, q in labels.items())
    np.testing.assert_allclose(taught["gap"], gap, rtol=1e-5)
    wanted = sum(q * np.log(prior[answer]) for answer, q in labels.items())
    np.testing.assert_allclose(score, wanted, rtol=1e-5)
    agree = sum(q * prior[answer] for answer, q in labels.items())
    np.testing.assert_allclose(taught["observed_pass_rate"], agree, rtol=1e-5)
    assert not {"expected", "realised"} & set(taught)
    truth = tuple(np.asarray(secret).argmax(axis=1).tolist())
    bits = reports.on_policy(prior, truth, "token", None, 0.1, 0.3)
    np.testing.assert_allclose([guessed["expected"][0], guessed["realised"][0]], bits, rtol=1e-4)
    passes = sum(
        p * np.prod([0.7 if a == b else 0.1 for a, b in zip(answer, truth, strict=True)])
        for answer, p in prior.items()
    )
    np.testing.assert_allclose(guessed["observed_pass_rate"], passes, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment": simrl.Sequence(100, 3, num_prompts=2)}, "at most 1000000, not 2000000"),
        ({"learner": {"name": "policy_gradient", "surrogate": "natural"}}, "table of logits"),
        ({"engine": "jump"}, "the policy must be tabular"),
        (
            {"environment": simrl.Sequence(labels="zipf"), "measures": ("known_channel",)},
            "positions are independent",
        ),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(changes, reason):
    spec = simrl.Spec(**{"policy": "autoregressive", **changes})
    with pytest.raises(SpecError, match=reason) as error:
        specs.validate(specs.resolved(spec))
    assert "\n" not in str(error.value)
    assert listing.problems(simrl.Shape(1, 6, 10), "it") == []
