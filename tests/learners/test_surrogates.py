"""What an update makes of its weighted guesses, against float64 NumPy."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.engine import observe
from simrl.learners import ppo
from simrl.learners.penalised import Penalties
from simrl.learners.surrogates import Score
from simrl.measures import gradients
from simrl.sweeps import identity
from simrl.sweeps import spec as specs
from tests.contracts.test_moments import assert_within, redraw
from tests.contracts.worlds import begun, build, some_logits, streams

G, B, L, V, M = 2, 3, 2, 3, 2
PENALTIES = {"entropy": {"entropy": 0.7}, "kl": {"kl_to_start": 0.4}}
PENALTIES["both"] = {**PENALTIES["entropy"], **PENALTIES["kl"]}
TABLE = simrl.Tabular().build(simrl.Shape(M, L, V))


@cache
def direction_of(surrogate):
    return jax.jit(surrogate.build().direction, static_argnums=0)


def log_softmax(logits):
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def probs_of(logits):
    return np.exp(log_softmax(np.float64(logits)))


@pytest.fixture(scope="module")
def drawn():
    """A batch: (policy that sampled, rollouts, weights of both signs)."""
    rng = np.random.default_rng(0)
    old = some_logits((M, L, V), seed=1)
    prompts, answers = np.array([1, 0], np.int32), rng.integers(V, size=(G, B, L), dtype=np.int32)
    over = jax.jit(jax.vmap(jax.vmap(TABLE.log_prob, (None, None, 0)), (None, 0, 0)))
    log_prob = np.asarray(over(old, prompts, answers))
    rollouts = simrl.Rollout(prompts, answers, None, None, log_prob)
    weights = np.float32(rng.normal(size=(G, B, L)))
    assert (weights > 0).any() and (weights < 0).any()  # noqa: PT018
    return old, rollouts, weights


def penalised_value(logits, start, prompts, entropy=0.0, kl_to_start=0.0):
    """The penalties' part of the objective, float64."""
    now, first = log_softmax(logits)[prompts], log_softmax(start)[prompts]
    probs = np.exp(now)
    bonus = -entropy * (probs * now).sum((1, 2)) - kl_to_start * (probs * (now - first)).sum((1, 2))
    return bonus.mean()


def finite_difference(function, logits):
    found = np.zeros_like(logits)
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        found[index] = (function(logits + step) - function(logits - step)) / 2e-5
    return found


def clipped_by_hand(old, new, rollouts, weights, clip):
    """Gradient of eq. 7 and how many terms are clipped, term by term in float64."""
    before, after = log_softmax(np.float64(old)), log_softmax(np.float64(new))
    found, clipped = np.zeros(new.shape), []
    for g, b, t in np.ndindex(weights.shape):
        m, y, w = rollouts.prompt[g], rollouts.answers[g, b, t], float(weights[g, b, t])
        ratio = np.exp(after[m, t, y] - before[m, t, y])
        bounded = np.clip(ratio, 1 - clip, 1 + clip)
        clipped.append(w * bounded < w * ratio)
        if not clipped[-1]:
            found[m, t] += w * ratio * (np.eye(V)[y] - np.exp(after[m, t]))
    return found / weights[..., 0].size, np.array(clipped).reshape(weights.shape)


def test_ppo_is_the_clipped_gradient_by_hand(drawn):
    old, rollouts, weights = drawn
    direction = direction_of(simrl.PPO(clip=0.2))
    new = old + some_logits(old.shape, 0.4, seed=2)
    wanted, clipped = clipped_by_hand(old, new, rollouts, weights, 0.2)
    for sign in (weights > 0, weights < 0):
        assert 0 < clipped[sign].sum() < sign.sum()  # each kind is met
    np.testing.assert_allclose(direction(TABLE, new, rollouts, weights, ()), wanted, atol=1e-6)
    # At the policy that sampled nothing is clipped, and it is the weighted score to the last bit.
    first = direction(TABLE, old, rollouts, weights, ())
    np.testing.assert_array_equal(first, direction_of(Score())(TABLE, old, rollouts, weights, ()))
    assert not clipped_by_hand(old, old, rollouts, weights, 0.2)[1].any()


def test_the_ratio_of_the_whole_answer_by_finite_differences(drawn):
    """Of outcome rewards, one weight for all positions of an answer; then of others, by hand."""
    old, rollouts, weights = drawn
    outcome, taken = weights[..., 0], rollouts.answers[..., None]

    def ratio_of(logits):  # [G, B], of whole answers
        change = log_softmax(logits) - log_softmax(np.float64(old))
        rows = change[rollouts.prompt][:, None]
        return np.exp(np.take_along_axis(rows, taken, axis=-1).sum(axis=(2, 3)))

    def value(logits):
        ratio = ratio_of(logits)
        return np.minimum(ratio * outcome, np.clip(ratio, 0.8, 1.2) * outcome).mean()

    direction = direction_of(simrl.PPO(0.2, ratio="answer"))
    new = old + some_logits(old.shape, 0.4, seed=2)
    ratios = ratio_of(np.float64(new))
    far = np.where(outcome > 0, ratios > 1.2, ratios < 0.8)
    assert 0 < far.sum() < far.size  # clipped ones and others
    alike = np.broadcast_to(outcome[..., None], weights.shape)
    found = np.asarray(direction(TABLE, new, rollouts, alike, ()))
    np.testing.assert_allclose(found, finite_difference(value, np.float64(new)), atol=1e-6)
    by_position = direction_of(simrl.PPO(clip=0.2))(TABLE, new, rollouts, alike, ())
    assert np.abs(found - by_position).max() > 0.01
    # Weights of their own: each position along its score, by the one ratio.
    after, wanted = log_softmax(np.float64(new)), np.zeros(new.shape)
    for g, b, t in np.ndindex(weights.shape):
        m, y, w = rollouts.prompt[g], rollouts.answers[g, b, t], float(weights[g, b, t])
        if w * np.clip(ratios[g, b], 0.8, 1.2) >= w * ratios[g, b]:
            wanted[m, t] += w * ratios[g, b] * (np.eye(V)[y] - np.exp(after[m, t]))
    found = direction(TABLE, new, rollouts, weights, ())
    np.testing.assert_allclose(found, wanted / outcome.size, atol=1e-6)
    # At the policy that sampled it is the weighted score to the last bit.
    first = direction(TABLE, old, rollouts, weights, ())
    np.testing.assert_array_equal(first, direction_of(Score())(TABLE, old, rollouts, weights, ()))


@pytest.mark.parametrize("ratio", ppo.RATIOS)
def test_ratios_beyond_all_floats(ratio, drawn):
    """Clipped they are constants, whatever they are; else the step is large, but a number."""
    logits, rollouts, weights = drawn
    far = rollouts._replace(log_prob=rollouts.log_prob - 100)
    direction = direction_of(simrl.PPO(0.2, ratio=ratio))
    clipped = direction(TABLE, logits, far, np.abs(weights), ())
    np.testing.assert_array_equal(clipped, 0)
    followed = np.asarray(direction(TABLE, logits, far, -np.abs(weights), ()))
    assert np.isfinite(followed).all()
    assert followed.any()


def test_an_answer_of_one_position_has_one_ratio(drawn):
    old, rollouts, weights = drawn
    table = simrl.Tabular().build(simrl.Shape(M, 1, V))
    short = rollouts._replace(
        answers=rollouts.answers[..., :1], log_prob=rollouts.log_prob[..., :1]
    )
    new, found = old[:, :1] + some_logits((M, 1, V), 0.4, seed=2), []
    for ratio in ("position", "answer"):
        direction = direction_of(simrl.PPO(0.2, ratio=ratio))
        found.append(np.asarray(direction(table, new, short, weights[..., :1], ())))
    np.testing.assert_array_equal(*found)
    assert np.abs(found[0]).max() > 0.01


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_are_their_gradients(name, drawn):
    old, rollouts, weights = drawn
    new, coefficients = old + some_logits(old.shape, 0.4, seed=2), PENALTIES[name]
    surrogate, prompts = simrl.Penalised(**coefficients), rollouts.prompt
    direction = direction_of(surrogate)
    found = np.asarray(direction(TABLE, new, rollouts, np.zeros_like(weights), old))
    value = lambda x: penalised_value(x, np.float64(old), prompts, **coefficients)  # noqa: E731
    np.testing.assert_allclose(found, finite_difference(value, np.float64(new)), atol=1e-6)
    penalty = surrogate.build().penalty
    of_logits = jax.jit(lambda *logits: penalty(*map(jax.nn.log_softmax, logits)))
    closed = np.asarray(of_logits(new[0], old[0]))
    np.testing.assert_allclose(closed / G, found[0], atol=1e-6)  # prompt 0 is one of G
    if name == "entropy":
        now = log_softmax(np.float64(new[0]))
        entropy = -(np.exp(now) * now).sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(closed, -0.7 * np.exp(now) * (now + entropy), atol=1e-6)
    score = direction_of(Score())(TABLE, new, rollouts, weights, ())
    whole = direction(TABLE, new, rollouts, weights, old)
    np.testing.assert_allclose(whole, np.asarray(score) + found, atol=1e-6)


def test_a_policy_that_reads_its_answer_is_followed_along_it(drawn):
    """The mean over the answers drawn of the entropy after what each began with."""
    _, rollouts, _ = drawn
    params = some_logits((V, V), seed=3)  # of the second symbol, given the first

    def log_probs(params, prompt, answer):
        return jax.nn.log_softmax(jnp.stack([jnp.zeros(V), params[answer[0]]]))

    policy = TABLE._replace(log_probs=log_probs, tabular=False)
    climb = jax.jit(jax.grad(Penalties(1.0, None).objective(policy, rollouts, ())))(params)
    first = rollouts.answers[..., 0].ravel()
    now = log_softmax(np.float64(params))
    entropy = -(np.exp(now) * now).sum(axis=-1, keepdims=True)
    share = np.bincount(first, minlength=V)[:, None] / len(first)
    np.testing.assert_allclose(climb, -share * np.exp(now) * (now + entropy), atol=1e-6)


SGD = simrl.Optimizer("sgd", {"learning_rate": 0.8})


def learner_of(surrogate, world=None, **changes):
    spec = simrl.PolicyGradient("leave_one_out", 2, 1, SGD, surrogate)
    spec = dataclasses.replace(spec, **changes)
    spec = specs.resolved(simrl.Spec(learner=spec)).learner
    return build(world or simrl.Sequence(V, L), spec)


def test_weights_are_followed_by_their_ratios_unless_clipped():
    """Also sums of weights of one sign, and whatever ratio there is where nothing was guessed."""
    made = simrl.PPO(clip=0.2).build()
    reweigh = jax.jit(lambda ratios, weights: made.reweigh(jnp.log(ratios), weights))
    ratios = np.array([0.5, 0.9, 1.1, 1.5, np.inf, np.nan])
    for weight, wanted in ((2.0, [1, 1.8, 2.2, 0]), (-2.0, [0, -1.8, -2.2, -3]), (0.0, [0] * 6)):
        num = len(wanted)
        found = reweigh(ratios[:num], np.full(num, weight))
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert float(reweigh(np.inf, np.ones(()))) == 0


def test_epochs_are_steps_over_the_same_guesses():
    """Two epochs by hand: the score, then the clipped gradient from where it led."""
    trial = learner_of(simrl.PPO(clip=0.02, num_epochs=2), group_size=8)
    learner, (task, start) = trial.learner, begun(trial)
    right = np.asarray(task.answers)
    logits = np.where(np.arange(V) == right[..., None], np.float32(1.0), np.float32(0.0))
    start = start._replace(params=logits)
    after, info = jax.device_get(jax.jit(learner.step)(streams(0), start, task))
    assert 0 < info.success.sum() < 8
    reward = np.asarray(info.success, np.float64)[..., None]
    weights = np.broadcast_to((reward - reward.mean()) * 8 / 7, (1, 8, L))
    once = simrl.Rollout(info.prompts, info.answers, None, None, None)
    by_hand, clipped = logits.astype(np.float64), []
    for _ in range(2):
        climb, cut = clipped_by_hand(logits, by_hand, once, weights, 0.02)
        by_hand, clipped = by_hand + 0.8 * climb, [*clipped, cut.any()]
    assert clipped == [False, True]
    np.testing.assert_allclose(after.params, by_hand, atol=1e-6)
    # Samples and decoding once, training twice: (2 + 2 x 6) N a token.
    assert info.num_samples.tolist() == [8]
    assert learner.ledger["training"] == 2 * 6 * V
    np.testing.assert_array_equal(info.flops, [[0, 14 * V * 8 * L]])


def test_one_epoch_is_the_step_of_the_score():
    """To 4 ulp of the parameters, whatever a compiler makes of a ratio of 1."""
    ends = []
    for surrogate in (simrl.PPO(num_epochs=1), Score()):
        trial = learner_of(surrogate, group_size=8)
        learner, (task, start) = trial.learner, begun(trial)
        start = start._replace(params=some_logits(start.params.shape, seed=8))
        step = jax.jit(jax.vmap(lambda i: learner.step(streams(i), start, task)[0].params))  # noqa: B023
        ends.append(np.asarray(step(jnp.arange(100))))
    assert np.abs(ends[0] - start.params).max() > 0.1
    assert np.all(np.abs(ends[0] - ends[1]) <= 4 * np.spacing(np.abs(ends[1])))


@pytest.mark.parametrize(
    ("surrogate", "per_token"),
    [
        (simrl.Penalised(entropy=0.1), 8),
        (simrl.Penalised(kl_to_start=0.0), 10),
        (simrl.PPO(num_epochs=3, kl_to_start=0.1), 2 + 18 + 2),
    ],
)
def test_what_reads_the_start_is_charged(surrogate, per_token):
    learner = learner_of(surrogate).learner
    assert sum(learner.ledger.values()) == per_token * V
    assert learner.ledger["reference"] == (2 * V if surrogate.kl_to_start is not None else 0)
    assert learner.jump is None
    charged = learner.fused.charge().flops
    np.testing.assert_array_equal(charged, [[0, per_token * V * 2 * L]])


MOMENTS = [simrl.PPO(0.1, 2), simrl.PPO(0.1, 2, 0.7, 0.4)]


@pytest.mark.parametrize("surrogate", MOMENTS)
def test_moments_are_exact_with_penalties(surrogate):
    """Away from the start, with two prompts: against redraws, and the bias by its definition."""
    world = simrl.Sequence(2, 2, "token", num_prompts=2)
    trial = learner_of(surrogate, world)
    learner, (task, state) = trial.learner, begun(trial)
    state = state._replace(params=jnp.asarray(some_logits(state.params.shape, seed=5)))
    told = jax.jit(lambda *given: (learner.moments(*given), learner.squared_bias(*given)))
    (trace, norm), bias = jax.device_get(told(state, task))
    assert_within(redraw(learner, state, task), trace, norm)
    if surrogate.entropy is None:
        assert bias < 1e-12
        return

    @jax.jit
    @jax.vmap
    def climb_of(*logits):
        return Penalties(0.7, 0.4).by_logits(*map(jax.nn.log_softmax, logits)) / 2

    climb = np.asarray(climb_of(state.params, state.start))
    np.testing.assert_allclose(bias, np.sum(climb**2), rtol=1e-5)

    @jax.jit
    @jax.vmap
    def mean_of(logits, answer):
        probs = jax.nn.softmax(logits)
        return gradients.batch_moments(probs, answer, 2, "leave_one_out", "token").mean

    means = np.asarray(mean_of(state.params, task.answers))
    np.testing.assert_allclose(norm, np.sum((means / 2 + climb) ** 2), rtol=1e-4)


def test_a_penalty_alone_leads_to_its_fixed_point():
    """Without reward: entropy to the uniform policy, KL back to where the learner started."""
    base = simrl.Tabular().build(simrl.Shape(1, 1, V))
    begun = jnp.asarray(some_logits((1, 1, V), seed=6))
    policy = base._replace(init=lambda key: begun)
    environment = simrl.Bandit(num_arms=V).build()
    nothing = environment._replace(
        reward=lambda *given: environment.reward(*given)._replace(credit=jnp.zeros(1))
    )

    def learner(surrogate):
        spec = simrl.PolicyGradient(group_size=2, optimizer=SGD)
        return dataclasses.replace(spec, surrogate=surrogate).build(nothing, policy)

    first = learner(simrl.Penalised(0.7, 0.0)).init(streams(0))
    away = first._replace(params=jnp.asarray(some_logits((1, 1, V), seed=7)))

    @jax.jit  # numbers are traced: one program
    def run(surrogate):
        def update(i, state):
            return learner(surrogate).step(streams(0, i), state, jnp.int32(0))[0]

        return jax.lax.fori_loop(0, 3000, update, away).params

    uniform, back = (run(simrl.Penalised(*pair)) for pair in ((0.7, 0.0), (0.0, 0.4)))
    np.testing.assert_allclose(probs_of(uniform), 1 / V, atol=1e-5)
    np.testing.assert_allclose(probs_of(back), probs_of(begun), atol=1e-5)
    step = jax.jit(learner(simrl.Penalised(0.7)).step)
    info = step(streams(0), away, jnp.int32(0))[1]
    assert info.dead is None  # there is a gradient without any reward


def own_surrogate():
    """Half the weighted score."""

    def direction(policy, params, drawn, weights, start):
        score = Score().build().direction
        return score(policy, params, drawn, 0.5 * weights, start)

    return simrl.Surrogate(direction)


def test_a_surrogate_of_ones_own():
    for given in (own_surrogate, own_surrogate()):
        spec = simrl.Spec(simrl.Bandit(num_arms=3), simrl.PolicyGradient(surrogate=given))
        learner = build(*specs.parts(specs.resolved(spec))[:3:2]).learner
        assert learner.moments is None  # unknown: redrawn
        plain = build(spec.environment, simrl.PolicyGradient()).learner
        state = plain.init(streams(0))
        mine, score = (
            jax.jit(each.estimate)(streams(0), state, jnp.int32(0)) for each in (learner, plain)
        )
        np.testing.assert_allclose(mine, 0.5 * score, rtol=1e-6)
    named = {"name": "tests.learners.test_surrogates:own_surrogate", "version": "1"}
    ready = specs.resolved(simrl.Spec(learner={"name": "policy_gradient", "surrogate": named}))
    assert identity.describe(ready)["learner"]["surrogate"] == named
    bad = simrl.Spec(learner=simrl.PolicyGradient(surrogate=lambda: 3))
    with pytest.raises(simrl.SpecError, match=r"simrl\.Surrogate or a function"):
        simrl.Sweep(bad).cells()


def test_specs_of_surrogates():
    def cell(**surrogate):
        spec = simrl.Spec(learner={"name": "policy_gradient", "surrogate": surrogate})
        return simrl.Sweep(spec).cells()[0].spec

    assert cell(name="ppo", clip=0.3).learner.surrogate == simrl.PPO(0.3)
    one, same, none = (cell(name="penalised", entropy=x) for x in (1, 1.0, None))
    assert identity.cell_hash(one) == identity.cell_hash(same) != identity.cell_hash(none)
    assert len(jax.tree.leaves(simrl.PPO(entropy=0.1))) == 2
    for surrogate, line in (
        ({"name": "ppo", "clip": -0.1}, "clip must not be negative"),
        ({"name": "ppo", "num_epochs": 0}, "num_epochs must be at least 1"),
        ({"name": "ppo", "ratio": "token"}, "ratio must be one of position, answer, not 'token'"),
        ({"name": "ppo", "kl_to_start": "x"}, "kl_to_start must be a number, not 'x'"),
        ({"name": "penalised", "entropy": -1}, "entropy must not be negative"),
        ({"name": "trust"}, "surrogate must be one of score, natural, penalised, ppo"),
    ):
        with pytest.raises(simrl.SpecError, match=line) as error:
            cell(**surrogate)
        assert "\n" not in str(error.value)
    stops = simrl.ActorCritic(
        features="prefix", stop_below=0.1, surrogate=simrl.PPO(ratio="answer")
    )
    with pytest.raises(simrl.SpecError, match="ratio answer needs whole answers"):
        simrl.Sweep(simrl.Spec(learner=stops)).cells()


def test_it_runs_and_is_measured():
    """The whole loop once, its redraws against its closed forms left to the tests above."""
    spec = simrl.Spec(
        simrl.Bandit(num_arms=3),
        simrl.PolicyGradient(group_size=4, optimizer=SGD, surrogate=simrl.PPO(kl_to_start=0.01)),
        max_steps=4,
        log_points=1,
    )
    data = simrl.run(spec, 2).isel(cell=0)
    assert np.isfinite(data["squared_norm"]).all()
    assert data["squared_norm"].attrs["exact"] == 1
    tokens = 4 * 4
    assert data["total_flops"].values.tolist() == [3 * (2 + 24 + 2) * tokens] * 2
    assert data["total_flops_reference"].values.tolist() == [3 * 2 * tokens] * 2
    assert "trace_covariance" in observe.quantities(learner_of(simrl.PPO()))
