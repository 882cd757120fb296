"""The Bayesian against a posterior kept by hand, and against what is known of searching."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.engine import observe
from simrl.environments import sequence
from simrl.learners import bayesian
from simrl.learners.updates import group_words
from simrl.measures import messages
from simrl.sweeps import spec as specs
from simrl.sweeps.spec import SpecError
from tests.contracts.worlds import begun, build, streams
from tests.oracles import enumeration
from tests.oracles import feedback as reports
from tests.oracles.information import list_answers, message, mutual_information

ALPHA, BETA = 0.1, 0.25
NOISY = {"verifier": "noisy", "false_positive": ALPHA, "false_negative": BETA}
TOLD = {  # name -> (world, learner)
    "fraction": (
        simrl.Sequence(3, 2, "fraction", num_prompts=2, frequencies="zipf"),
        simrl.Bayesian("best", 2, 3),
    ),
    "prefix": (simrl.Sequence(3, 2, "prefix"), simrl.Bayesian("posterior", 2)),
    "reward_to_go": (simrl.Sequence(3, 2, "reward_to_go"), simrl.Bayesian()),
    "exact, noisy": (simrl.Sequence(2, 2, **NOISY), simrl.Bayesian("best", 2)),
    "token, noisy": (simrl.Sequence(2, 2, "token", num_prompts=2, **NOISY), simrl.Bayesian()),
    "fraction, labels": (simrl.Sequence(3, 2, "fraction", "zipf"), simrl.Bayesian("best", 2)),
}
SEEDS, STEPS = 400, 4


def pass_chance(right):
    return 1 - BETA if right else ALPHA


def likelihood(environment, channel, guess, answers, secret, credit):
    """Chance [N] of what a guess was told, under each answer."""
    if environment.noisy:
        ranks = 1 / np.arange(1.0, environment.shape.vocab_size + 1)
        law = np.array([np.roll(ranks / ranks.sum(), symbol) for symbol in range(len(ranks))])
        return by_labels(np.broadcast_to(law, (len(guess), *law.shape)), channel, guess, credit)
    if environment.verifier is None:
        said = message(channel, guess, secret)
        return np.array([float(message(channel, guess, answer) == said) for answer in answers])
    found = np.ones(len(answers))
    for i, answer in enumerate(answers):
        hits = [a == b for a, b in zip(guess, answer, strict=True)]
        verdicts = [all(hits)] if channel == "exact" else hits
        for right, paid in zip(verdicts, credit, strict=False):
            found[i] *= pass_chance(right) if paid == 1 else 1 - pass_chance(right)
    return found


def by_labels(confusion, channel, guess, credit):
    """The same, by listing every label that the guess may have been compared with."""
    answers = list_answers(*confusion.shape[:2])
    found = np.zeros(len(answers))
    for label in answers:
        if np.allclose(enumeration.credit(guess, label, channel, 1.0), credit):
            at = range(len(guess)), np.array(answers), label  # [N, L]
            found += confusion[at].prod(axis=1)
    return found


@pytest.mark.parametrize("channel", sequence.REWARDS)
def test_what_a_fresh_label_tells(channel):
    """Every message of every guess, each position with a law of its own."""
    rng = np.random.default_rng(3)
    confusion, answers = rng.dirichlet(np.ones(3), size=(2, 3)), list_answers(2, 3)
    world = messages.World(2, 3, channel)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    @partial(jax.vmap, in_axes=(None, 0))
    def chances(guess, credit):
        told = messages.heard(credit, world), guess, world, 9, jnp.float32(confusion)
        return jnp.exp(messages.noisy_log_likelihood(*told))

    pays = [enumeration.credit(label, (0, 0), channel, 1.0) for label in answers]
    pays = np.unique(np.float32(pays), axis=0)
    found = np.asarray(chances(np.arange(9), pays))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)  # over messages
    for g, guess in enumerate(answers):
        wanted = [by_labels(confusion, channel, guess, paid) for paid in pays]
        np.testing.assert_allclose(found[g], wanted, rtol=1e-5)


def run(name, seeds):
    """Every step of some seeds: what was guessed and paid, the beliefs, and what is measured."""
    trial = build(*TOLD[name])
    environment, learner = trial.environment, trial.learner
    groups, size = TOLD[name][1].num_groups, TOLD[name][1].group_size

    def one(seed):
        own = keys.streams(jax.random.key(11), seed)
        task = environment.init(own.task)
        known = observe.truth(trial, task)

        def update(state, step):
            now = keys.at_step(own, step)
            before = observe.beliefs(trial, state)
            measured = observe.of_state(trial, state, task, known, own.probe)
            after, info = learner.step(now, state, task)
            words = group_words(now.reward, groups, size, environment.shape.length)
            reward = jax.vmap(environment.reward, (0, None, None, 0))
            paid = jax.vmap(reward, (0, None, 0, 0))(words, task, info.prompts, info.answers)
            told = observe.of_update(trial, before, known, info)
            odds = observe.log_odds(before, known)
            absorbed = observe.absorbed(
                odds, observe.log_odds(observe.beliefs(trial, after), known)
            )
            seen = {**measured, **told, "absorbed": absorbed}
            return after, (info, paid.credit, after.log_probs, seen)

        kept = jax.lax.scan(update, learner.init(own), jnp.arange(STEPS))[1]
        return observe.answers.symbols(trial, known), kept

    return trial, jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jnp.arange(seeds)))


@pytest.fixture(scope="module", params=TOLD)
def told(request):
    """Name, trial, and what was seen of it."""
    return request.param, *run(request.param, SEEDS)


def test_the_posterior_is_bayes_rule_for_every_channel(told):
    _, trial, (secrets, (info, credit, log_probs, _)) = told
    environment = trial.environment
    num_prompts, length, size = environment.shape
    answers, channel = list_answers(length, size), environment.channel
    met = set()
    for seed in range(12):
        posterior = np.full((num_prompts, len(answers)), 1 / len(answers))
        for step in range(STEPS):
            prompts = info.prompts[seed, step].tolist()
            met.add(len(set(prompts)) < len(prompts))
            for g, prompt in enumerate(prompts):
                secret = tuple(secrets[seed, prompt].tolist())
                for b, guess in enumerate(info.answers[seed, step, g].tolist()):
                    paid = credit[seed, step, g, b]
                    assert info.success[seed, step, g, b] == (tuple(guess) == secret)
                    given = tuple(guess), answers, secret, paid
                    posterior[prompt] *= likelihood(environment, channel, *given)
            posterior /= posterior.sum(axis=1, keepdims=True)
            found = np.exp(np.float64(log_probs[seed, step]))
            np.testing.assert_allclose(found, posterior, rtol=2e-5, atol=1e-7)
    assert info.prompts.shape[-1] == 1 or met == {True} or num_prompts == 2
    if environment.prompt_law is not None:  # the first of two is drawn twice as often
        num = info.prompts.size
        assert abs((info.prompts == 0).mean() - 2 / 3) < 4 * np.sqrt(2 / 9 / num)


def test_the_truth_is_as_likely_as_it_believes(told):
    """On average over secrets and luck, after the last update."""
    _, _, (_, (_, _, log_probs, seen)) = told
    probs = np.exp(np.float64(log_probs[:, -2]))  # seen before the last
    gap = (seen["pass_rate"][:, -1] - (probs**2).sum(axis=-1)).mean(axis=1)
    assert (probs**2).sum(axis=-1).mean() > 1.2 / probs.shape[-1]
    assert abs(gap.mean()) < 4 * gap.std(ddof=1) / np.sqrt(SEEDS) + 1e-5


def test_it_keeps_all_that_it_is_told(told):
    """Pathwise without noise; through a verifier that errs, on average over secrets and luck."""
    name, trial, (_, (_, _, _, seen)) = told
    if trial.environment.noisy:
        assert "realised" not in seen  # of labels whose law is known: not for whole answers
        return
    if trial.environment.verifier is None:
        total = seen["absorbed"].sum(axis=(1, 2))
        np.testing.assert_allclose(seen["realised_update"].sum(axis=(1, 2)), total, atol=3e-5)
        assert total.mean() > 1
    if TOLD[name][1].group_size * TOLD[name][1].num_groups > 1:
        return  # what one guess tells is not what several do
    # Which prompt is drawn is luck too: half of the time it is this one.
    share = seen["realised"] / trial.environment.shape.num_prompts
    gap = (seen["absorbed"] - share).sum(axis=(1, 2))
    assert gap.std() > 0.1
    assert abs(gap.mean()) < 4 * gap.std(ddof=1) / np.sqrt(SEEDS)
    # The truth is as likely as the belief says: what is expected is what is realised on average.
    luck = (seen["realised"] - seen["expected"]).sum(axis=(1, 2))
    assert abs(luck.mean()) < 4 * luck.std(ddof=1) / np.sqrt(SEEDS) + 1e-5


def test_information_is_that_of_the_guesses_it_makes(told):
    """The best answer, not a draw from the posterior: they differ where the verifier errs."""
    name, trial, (_, (_, _, log_probs, seen)) = told
    if trial.environment.verifier is None:
        return
    channel, others = trial.environment.channel, 0
    answers = list_answers(*trial.environment.shape[1:])
    for seed in range(6):
        posterior = np.exp(np.float64(log_probs[seed, 1, 0]))
        best = posterior > 0.999 * posterior.max()
        prior, bits = dict(zip(answers, posterior / posterior.sum(), strict=True)), []
        for guess in answers:
            table = reports.guess_table(prior, guess, channel, None, ALPHA, BETA)
            bits.append(mutual_information(table))
        wanted = np.mean(np.array(bits)[best])
        np.testing.assert_allclose(seen["expected"][seed, 2, 0], wanted, rtol=1e-4)
        others += abs(posterior @ bits - wanted) > 1e-3
    assert others > 0, name


def test_a_secret_of_n_is_hit_and_known_when_theory_says():
    num, seeds = 8, 4000
    trial = build(simrl.Bandit(num_arms=num), simrl.Bayesian())
    draw = jax.jit(lambda key: jax.random.permutation(key, jnp.arange(seeds) % num))
    order = draw(jax.random.key(5))

    # Arm 0 is right in the bandit: a secret of its own for each seed, by another world's reward.
    def one(seed, secret):
        def reward(words, task, prompt, answer):
            hit = (answer == secret).astype(jnp.float32)
            return simrl.Outcome(hit, hit[0])

        world = trial.environment._replace(reward=reward)
        learner = simrl.Bayesian().build(world, trial.policy)
        own = keys.streams(jax.random.key(3), seed)

        def update(state, step):
            after, info = learner.step(keys.at_step(own, step), state, jnp.int32(0))
            known = after.log_probs[0, secret] == 0
            gained = after.log_probs[0, secret] - state.log_probs[0, secret]
            return after, (info.success[0, 0], known, gained / jnp.log(2.0))

        return jax.lax.scan(update, learner.init(own), jnp.arange(num))[1]

    hit, known, gained = map(np.asarray, jax.jit(jax.vmap(one))(np.arange(seeds), order))
    hits, knows = hit.argmax(axis=1) + 1, known.argmax(axis=1) + 1
    assert hit.max(axis=1).min() == 1 == known.max(axis=1).min()
    for found, wanted in ((hits, (num + 1) / 2), (knows, (num + 1) / 2 - 1 / num)):
        assert abs(found.mean() - wanted) < 4 * found.std(ddof=1) / np.sqrt(seeds)
    np.testing.assert_array_equal(knows, np.minimum(hits, num - 1))
    np.testing.assert_allclose(gained.sum(axis=1), np.log2(num), rtol=1e-5)


def test_guesses_of_a_group():
    law = jnp.log(jnp.array([0.1, 0.3, 0.0, 0.3, 0.3]))
    words = keys.words(jax.random.key(2), (4000, 5))
    best = np.asarray(jax.jit(jax.vmap(bayesian._best, (0, None)))(words, law))
    # The likeliest three in any order, then the next, and then what is possible again.
    firsts, orders = np.unique(best[:, :3], axis=0, return_counts=True)
    assert {tuple(sorted(row)) for row in firsts.tolist()} == {(1, 3, 4)}
    assert len(orders) == 6
    assert np.all(np.abs(orders / 4000 - 1 / 6) < 4 * np.sqrt(5 / 36 / 4000))
    assert set(best[:, 3].tolist()) == {0}
    assert set(best[:, 4].tolist()) == {1, 3, 4}
    drawn = np.asarray(jax.jit(jax.vmap(bayesian._drawn, (0, None)))(words, law))
    shares = np.bincount(drawn.ravel(), minlength=5) / drawn.size
    probs = np.exp(law)
    assert np.all(np.abs(shares - probs) <= 4 * np.sqrt(probs * (1 - probs) / drawn.size))


def test_what_it_is_charged():
    trial = build(*TOLD["fraction"])
    task, start = begun(trial, jax.random.key(0))
    info = jax.jit(trial.learner.step)(streams(0), start, task)[1]
    assert info.flops.tolist() == [[0, 2 * 9 * 2]] * 3  # N = 9, two guesses a group
    assert info.num_samples.tolist() == [2, 2, 2]
    assert info.num_tokens.tolist() == [4, 4, 4]


def noisy_without_a_law():
    return simrl.Sequence(2, 1, labels="zipf").build()._replace(label_channel=None)


@pytest.fixture(scope="module")
def searched():
    """Runs through the engine, of which nothing is redrawn."""
    spec = simrl.Spec(simrl.Sequence(2, 2), simrl.Bayesian(), max_steps=6, log_points=2)
    return simrl.run(dataclasses.replace(spec, log_spacing="linear", keep_beliefs=True), 64)


def test_a_run_has_no_columns_of_gradients(searched):
    names = set(searched.data_vars)
    assert not any(word in name for name in names for word in ("trace", "norm", "leaf", "bias"))
    assert {"expected", "realised", "phase_realised_update"} <= names
    totals = [searched[f"phase_{name}"].sum().item() for name in ("absorbed", "realised_update")]
    np.testing.assert_allclose(totals, 64 * 2, rtol=1e-5)  # log2 N bits a seed, no more
    assert searched["belief"].shape[-3:] == (1, 1, 4)
    last = searched["total_step"].values
    assert set(last.ravel().tolist()) == {1, 2, 3}  # it stops when it knows
    assert np.all(searched["total_flops"].values == 2 * 4 * last)
    assert np.all(searched["total_flops_counted"].values >= searched["total_flops"].values)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment": simrl.Bandit("gaussian")}, "one right answer"),
        ({"environment": simrl.Bandit(num_right=2)}, "one right answer"),
        ({"environment": noisy_without_a_law}, "or their law given each answer"),
        (
            {"environment": simrl.Sequence(labels="zipf"), "measures": ("known_channel",)},
            "known_channel needs beliefs whose positions are independent",
        ),
        ({"environment": simrl.Sequence(10, 7)}, "at most 1000000, not 10000000"),
        ({"learner": simrl.Bayesian("worst")}, "guess must be one of best, posterior"),
        ({"learner": simrl.Bayesian(group_size=0)}, "at least 1"),
        ({"measures": ("redraws",)}, "follows a gradient"),
        ({"engine": "jump"}, "not exact here"),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(changes, reason):
    spec = dataclasses.replace(simrl.Spec(learner=simrl.Bayesian()), **changes)
    with pytest.raises(SpecError, match=reason) as error:
        specs.validate(specs.resolved(spec))
    assert "\n" not in str(error.value)
