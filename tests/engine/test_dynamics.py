"""Runs against the theory: flow, noise scale, and labels against verdicts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import simrl
from simrl import keys
from simrl.measures import gradients, information
from simrl.sweeps import spec as specs

NUM_ARMS, RATE = 100, 0.02


def flow_time(power):
    """Time from p = 1/K to 1/2 under dp/dt = p^power (1 - p)^2 K/(K - 1) (THEORY, section 4)."""

    def primitive(p):  # partial fractions of 1/(p^power (1 - p)^2)
        return power * math.log(p / (1 - p)) + 1 / (1 - p) - (1 / p if power == 2 else 0)

    return (primitive(0.5) - primitive(1 / NUM_ARMS)) * (NUM_ARMS - 1) / NUM_ARMS


def half_time(learner, seeds, max_steps):
    spec = simrl.Spec(
        environment=simrl.Bandit(num_arms=NUM_ARMS),
        learner=learner,
        max_steps=max_steps,
        stop_pass_rate=0.5,
        log_points=4,
        log_spacing="linear",
        observe_every=max_steps,
        thresholds=(0.5,),
    )
    data = simrl.run(spec, seeds)
    assert data["stopped"].values.all()
    return RATE * data["hit_time"].values.ravel()


SMALL_STEPS = simrl.Optimizer("sgd", {"learning_rate": RATE})


def test_labels_follow_the_flow():
    expected = flow_time(1)
    assert expected == pytest.approx(5.529, abs=5e-4)
    times = half_time(simrl.Supervised(optimizer=SMALL_STEPS), 4, 400)
    assert np.ptp(times) == 0
    assert times.mean() == pytest.approx(expected, rel=0.01)


@pytest.mark.usefixtures("optimised")
def test_guesses_follow_the_flow():
    expected = flow_time(2)
    assert expected == pytest.approx(107.1, abs=5e-3)
    learner = simrl.PolicyGradient(simrl.Affine(), group_size=16, optimizer=SMALL_STEPS)
    times = half_time(learner, 2048, 12_000)
    error = times.std() / math.sqrt(len(times))
    assert error < expected * 0.01 / 2  # the seeds suffice for the claim
    assert times.mean() == pytest.approx(expected, rel=0.01)


def test_nominal_curves_cross_at_one_half():
    def gap(odds):
        odds = jnp.float32(odds)
        label = information.nominal_information(odds, "supervised")
        return float(label - information.nominal_information(odds, "policy_gradient"))

    # p = 1/2 is where the log-odds are 0; both curves go to 0 at p = 1.
    assert scipy.optimize.brentq(gap, -3.0, 2.0) == pytest.approx(0.0, abs=1e-5)
    assert gap(-1.0) > 0.1
    assert gap(1.0) < -0.1


CHANNELS = ("exact", "fraction", "prefix", "token", "reward_to_go")


@pytest.mark.parametrize("name", ["guessed", "severally", "far"])
def test_labels_tell_at_least_what_verdicts_tell(name, request):
    """Of the same stored policy, in expectation over the truth and pointwise."""
    if name == "far":  # logits of +-20 and beyond, where a difference of logs would go wrong
        logits = 20 * jax.random.normal(jax.random.key(1), (200, 2, 3))
        beliefs = np.asarray(jax.nn.log_softmax(logits))
    else:
        stored = request.getfixturevalue(name)["belief"].values[::4, ::5]
        beliefs = stored.reshape(-1, *stored.shape[-2:])
    length = beliefs.shape[1]
    answers = np.zeros((len(beliefs), length), np.int32)

    def measure(channel):
        def one(belief, answer):
            return information.sequence_information(belief, answer, channel)

        found = jax.jit(jax.vmap(one))(beliefs, answers)
        return np.asarray(found.expected, np.float64), np.asarray(found.realised, np.float64)

    label = measure("label")
    for channel in CHANNELS if length > 1 else ("exact",):
        for told, heard, kind in zip(
            label, measure(channel), ("expected", "realised"), strict=True
        ):
            assert not np.isnan(heard).any()
            slack = 1e-5 * np.abs(told) + 1e-6
            assert np.all(told >= heard - slack), (channel, kind)
            assert (told > heard + 0.01).any()


@pytest.fixture(scope="module")
def trial(guessing):
    return specs.build(specs.traced((guessing.environment, guessing.policy, guessing.learner)))


def test_stored_noise_scale_is_one_minus_p_over_p(guessed):
    p = guessed["pass_rate"].values.astype(np.float64)
    odds = guessed["log_odds"].values.astype(np.float64)
    scale = 4 * guessed["trace_covariance"].values / guessed["squared_norm"].values
    np.testing.assert_allclose(scale, np.exp(-odds), rtol=1e-4)
    assert p.max() > 0.95
    sums = guessed["phase_trace_covariance"].sum("seed") / guessed["phase_squared_norm"].sum("seed")
    # A phase spans one nat of log-odds, and so must its noise scale.
    visited = guessed["phase_trajectories"].sum("seed").values > 0
    found = 4 * sums.values[visited]
    assert visited.sum() >= 6
    assert np.all(found >= 0.999 * np.exp(-guessed["phase_high"].values[visited]))
    assert np.all(found <= 1.001 * np.exp(-guessed["phase_low"].values[visited]))


def test_redrawn_noise_scale_is_one_minus_p_over_p(trial, guessed):
    """At stored policies of a run without baseline; numerators and denominators apart."""
    beliefs = guessed["belief"].isel(log_point=[0, 2, 5, 12]).values  # logits as good as any
    policies = beliefs.reshape(-1, 1, 1, 4)
    p = np.exp(policies[:, 0, 0, 0].astype(np.float64))
    start = trial.learner.init(keys.streams(jax.random.key(0), jnp.uint32(0)))

    def redraw(logits, key):
        state = start._replace(params=logits)

        def estimate(key):
            return trial.learner.estimate(keys.purposes(key), state, jnp.int32(0))

        return gradients.redraw_moments(estimate, key, 256, batch_size=4)

    found = jax.jit(jax.vmap(redraw))(policies, jax.random.split(jax.random.key(5), len(policies)))
    numerator = np.asarray(found.noise_numerator, np.float64)
    denominator = np.asarray(found.noise_denominator, np.float64)
    for low, high in ((0.0, 0.4), (0.4, 0.7), (0.7, 1.0)):
        chosen = (p > low) & (p <= high)
        assert chosen.sum() > 30
        scale = (1 - p[chosen]) / p[chosen]
        size = (scale * denominator[chosen]).mean()
        off = (numerator[chosen] - scale * denominator[chosen]) / size
        error = off.std(ddof=1) / math.sqrt(chosen.sum())
        assert error < 0.03  # it could tell a noise scale 12 % off
        assert abs(off.mean()) < 4 * error


def simulated_runs(num_runs, num_steps):
    """What `severally` does, in float64 NumPy: sums over a run [num_runs] by name.

    The secrets may be all zeros: symbols are exchangeable under every learner from a uniform start.
    """
    prompts, length, size, groups, batch = 2, 2, 3, 3, 4
    draw, runs = np.random.default_rng(8), np.arange(num_runs)[:, None]
    logits = np.zeros((num_runs, prompts, length, size))
    first, second = np.zeros_like(logits), np.zeros_like(logits)
    sums = {name: np.zeros(num_runs) for name in ("success", "dead", "expected", "realised")}
    for step in range(1, num_steps + 1):
        probs = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
        at = draw.integers(prompts, size=(num_runs, groups))
        edges = np.cumsum(probs[runs, at], axis=-1)[:, :, None, :, :-1]
        guesses = np.sum(draw.random((num_runs, groups, batch, length, 1)) > edges, axis=-1)
        right = np.all(guesses == 0, axis=-1)
        told = joint_bits(probs, at, guesses)
        dead = batch * np.all(right == right[..., :1], axis=-1)
        added = right.sum((1, 2)), dead.sum(1), *told
        sums = {name: sums[name] + more for name, more in zip(sums, added, strict=True)}
        weights = (right - right.mean(-1, keepdims=True)) / (batch - 1) / groups
        scores = (guesses[..., None] == np.arange(size)) - probs[runs, at][:, :, None]
        gradient = np.zeros_like(logits)
        np.add.at(gradient, (runs, at), np.einsum("ngb,ngblv->nglv", weights, scores))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        spread = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        logits = logits + 0.1 * first / (1 - 0.9**step) / spread
    probs = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    return sums | {"pass_rate": np.prod(probs[..., 0], axis=-1).mean(-1)}


def joint_bits(probs, at, guesses):
    """Expected and realised bits [n] of all guesses [n, G, B, L] at each prompt drawn [n, G]."""
    num_runs, prompts, _, size = probs.shape
    whole = (probs[:, :, 0, :, None] * probs[:, :, 1, None]).reshape(num_runs, prompts, -1)
    tried = np.zeros(whole.shape, bool)
    code = guesses[..., 0] * size + guesses[..., 1]
    tried[np.arange(num_runs)[:, None, None], at[..., None], code] = True
    left = np.sum(np.where(tried, 0, whole), axis=-1)
    unknown = np.where(left > 0, left, 1)
    expected = -np.sum(np.where(tried, whole * np.log2(whole), 0), axis=-1)
    realised = -np.log2(np.where(tried[..., 0], whole[..., 0], unknown))
    return (expected - left * np.log2(unknown)).sum(-1), realised.sum(-1)


def test_runs_over_prompts_and_groups_have_the_law_of_a_simulation(severally):
    truth = simulated_runs(4000, int(severally["total_step"].values.max()))
    names = {
        "success": "phase_success",
        "dead": "phase_dead",
        "expected": "phase_expected_update",
        "realised": "phase_realised_update",
    }
    found = {name: severally[of].values.sum(axis=-1) for name, of in names.items()}
    found["pass_rate"] = severally["pass_rate"].values[:, -1]
    for name, expected in truth.items():
        mine = np.float64(found[name])
        error = math.sqrt(mine.var() / len(mine) + expected.var() / len(expected))
        assert 0 < error < 0.05 * expected.mean(), name  # enough runs to tell
        assert abs(mine.mean() - expected.mean()) < 4 * error, name
        # The spread too: the standard error of a variance, from the fourth moment.
        parts = [(x - x.mean()) ** 2 for x in (mine, expected)]
        error = math.sqrt(sum(part.var() / len(part) for part in parts))
        assert abs(parts[0].mean() - parts[1].mean()) < 4 * error, name
