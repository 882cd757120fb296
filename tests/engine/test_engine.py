"""The loop: what it sums, charges, records and stops, against runs that look at every step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.engine import lanes, observe
from simrl.sweeps import spec as specs

EPS = np.finfo(np.float32).eps
COUNTS = ("samples", "tokens", "trajectories", "flops", "flops_counted")
RUNS = ("guessed", "severally", "taught")
# fixture -> (spec fixture, per update: samples, tokens, trajectories, FLOPs by the 2N/4N ledger)
CHARGES = {
    "guessed": ("guessing", 4, 4, 4, 8 * 4 * 1 * 4),  # 8 V L B
    "severally": ("several", 12, 24, 12, 8 * 3 * 2 * 12),
    "taught": ("labelled", 12, 12, 6, 6 * 3 * 2 * 6),  # 6 V L B; a sample is a labelled token
}


def counted(spec):
    """Counted FLOPs of one update, each group's share rounded up."""
    parts = (spec.environment, spec.policy, spec.learner)
    groups = spec.learner.num_groups
    return -(-lanes.count_update(specs.build(parts))[0].total // groups) * groups


def change(spec, **changes):
    return dataclasses.replace(spec, **changes)


@pytest.mark.parametrize("name", RUNS)
def test_absorbed_telescopes(name, request):
    data = request.getfixturevalue(name)
    prompts = 2 if name != "guessed" else 1
    at = data["log2_answer"].values.astype(np.float64) * prompts  # stored: the mean over prompts
    gained = at[:, -1] - at[:, 0]
    assert gained.max() > 1.0
    # A step rounds two logs of size |log2 pi| and their difference.
    tolerance = data.sizes["log_point"] * EPS * np.abs(at).max(axis=1)
    error = np.abs(data["phase_absorbed"].sum("phase").values - gained)
    np.testing.assert_array_less(error, tolerance)


@pytest.mark.parametrize("name", RUNS)
def test_totals_are_steps_times_the_hand_formula(name, request):
    data, (spec, *charges) = request.getfixturevalue(name), CHARGES[name]
    steps = data["total_step"].values.astype(np.uint64)
    charges.append(counted(request.getfixturevalue(spec)))
    assert charges[-1] > charges[0]
    for counter, charge in zip(COUNTS, charges, strict=True):
        total = data[f"total_{counter}"].values
        assert total.dtype == np.uint64
        np.testing.assert_array_equal(total, steps * np.uint64(charge))
        np.testing.assert_array_equal(data[f"phase_{counter}"].sum("phase").values, total)


def bins(odds):
    """Phase of a coordinate: 12 bins of width one from -7, between two that are open-ended."""
    return np.clip(np.floor(odds.astype(np.float64) + 8), 0, 13).astype(int)


def phase_sums(index, values):
    """Sums [N, 14] of values [N, T] that fall into the bins index [N, T]."""
    return np.stack([np.where(index == p, values, 0).sum(axis=1) for p in range(14)], axis=1)


@jax.jit
def successes(beliefs, steps):
    """Right answers (arm 0) among the four drawn from beliefs [N, T, V] at `steps` [T]."""

    def one(seed, step, belief):
        stream = keys.at_step(keys.streams(jax.random.key(0), seed), step).sample
        table = keys.cumulative(jnp.exp(belief))
        return jnp.sum(jax.vmap(keys.choose, (0, None))(keys.words(stream, (4,)), table) == 0)

    over_steps = jax.vmap(one, (None, 0, 0))
    return jax.vmap(over_steps, (0, None, 0))(jnp.arange(beliefs.shape[0]), steps, beliefs)


STATE_SUMS = (
    "pass_rate",
    "nominal",
    "expected",
    "realised",
    "trace_covariance",
    "squared_norm",
)


def stretches(index, every):
    """[N, 60] the update at which the stretch of each update began, by the rule itself."""
    begins = np.zeros((len(index), 60), int)
    for seed, row in enumerate(index):
        begin = 0
        for t in range(60):
            over = t - begin == every or t == 30 or row[t] != row[begin]  # 30 is a log point
            begin = t if over else begin
            begins[seed, t] = begin
    return begins


@pytest.mark.parametrize("every", [1, 7])
def test_phase_sums_take_the_state_at_the_start_of_each_stretch(every, guessing, guessed):
    spec = change(guessing, observe_every=every, log_spacing="linear", log_points=2)
    data = simrl.run(spec, guessed.sizes["seed"]).isel(cell=0)
    assert data["step"].values.tolist() == [0, 30, 60]
    index = bins(guessed["log_odds"].values)[:, :60]
    assert len(np.unique(index)) >= 5
    begins = stretches(index, every)
    for name in STATE_SUMS:
        values = guessed[name].values[:, :60].astype(np.float64)
        expected = phase_sums(index, np.take_along_axis(values, begins, axis=1) * 4)
        found = data[f"phase_{name}"].values
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6, err_msg=name)
    # What is spent, told and absorbed is that of every update, in the phase before it.
    trajectories = phase_sums(index, np.full(index.shape, 4.0))
    np.testing.assert_array_equal(data["phase_trajectories"].values, trajectories)
    drawn = successes(guessed["belief"].values[:, :60, 0, 0], np.arange(60))
    np.testing.assert_array_equal(data["phase_success"].values, phase_sums(index, drawn))
    at = guessed["log2_answer"].values.astype(np.float64)
    absorbed = phase_sums(index, at[:, 1:61] - at[:, :60])
    np.testing.assert_allclose(data["phase_absorbed"].values, absorbed, atol=1e-4)


@pytest.mark.parametrize("learner", ["supervised", "policy_gradient"])
def test_phase_averages_are_those_before_every_update(learner):
    """Noisy labels, by excess loss: from the beliefs at every step, in float64."""
    steps, num = 120, 64
    spec = simrl.Spec(
        simrl.Sequence(10, 1, labels="zipf"),
        {"name": learner, "optimizer": {"name": "sgd", "learning_rate": 1.0}},
        max_steps=steps,
        log_points=1,
        phases=simrl.Phases("excess_loss", -8.0, 2.0, 10),
    )
    data = simrl.run(spec, num).isel(cell=0)
    seen = change(spec, log_points=steps, log_spacing="linear", keep_beliefs=True)
    at_steps = simrl.run(seen, num).isel(cell=0)
    environment, base = spec.environment.build(), jax.random.key(0)
    law_of = jax.jit(
        jax.vmap(
            lambda seed: environment.target(environment.init(keys.streams(base, seed).task), 0)
        )
    )
    laws = np.float64(law_of(np.arange(num)))  # [N, 1, V]
    zipf = 1 / np.arange(1, 11)
    np.testing.assert_allclose(-np.sort(-laws[:, 0]), [zipf / zipf.sum()] * num, rtol=1e-6)
    beliefs = np.float64(at_steps["belief"].values[:, :steps, 0, 0])  # [N, T, V] nats
    gap = (laws * (np.log(laws) - beliefs)).sum(axis=-1) / np.log(2)  # [N, T] bits
    place = np.log2(gap) + 8
    clear = (np.abs(place - np.round(place)) > 1e-4).all(axis=1)  # not a rounding away from a bin
    assert clear.sum() > num / 2
    index = np.clip(np.floor(place).astype(int) + 1, 0, 11)
    assert len(np.unique(index)) >= 5
    size = data["update_trajectories"].values[0]
    for phase in range(12):
        wanted = size * np.where(index == phase, gap, 0).sum(axis=1)[clear]
        found = data["phase_gap"].values[clear, phase]
        np.testing.assert_allclose(found, wanted, rtol=5e-4, atol=1e-5)


def test_each_prompt_is_binned_by_its_own_pass_rate(severally):
    laws = np.exp(severally["belief"].values.astype(np.float64))  # [N, T, M, L, V]
    answers = np.argmax(laws[:, -1], axis=-1)  # learnt by now, for nearly every seed
    knows = severally["pass_rate"].values[:, -1] > 0.8
    assert knows.sum() > 100
    own = np.take_along_axis(laws, answers[:, None, ..., None], -1)[..., 0].prod(axis=-1)
    odds = np.log(own) - np.log1p(-own)
    np.testing.assert_allclose(
        severally["pass_rate"].values[knows], own.mean(axis=-1)[knows], rtol=1e-5
    )
    # Which prompts an update drew is in the streams alone, so it can be drawn again.
    base = jax.random.key(0)
    step = jax.vmap(
        lambda seed, step: keys.below(
            keys.words(keys.at_step(keys.streams(base, seed), step).prompt, (3,)), 2
        ),
        (0, None),
    )
    prompts = jax.jit(jax.vmap(step, (None, 0), 1))(np.arange(len(own)), np.arange(40))
    share = (np.asarray(prompts)[..., None] == np.arange(2)).sum(axis=2)  # [N, T, M] groups
    edge = np.abs(odds - np.round(odds)).min(axis=(1, 2)) < 1e-4  # a rounding away from a bin
    kept = knows & ~edge
    index = bins(odds[:, :-1])
    trajectories = sum(phase_sums(index[..., m], share[..., m] * 4) for m in range(2))
    np.testing.assert_array_equal(severally["phase_trajectories"].values[kept], trajectories[kept])
    passes = sum(phase_sums(index[..., m], own[:, :-1, m] * share[..., m] * 4) for m in range(2))
    np.testing.assert_allclose(severally["phase_pass_rate"].values[kept], passes[kept], rtol=1e-4)


def test_first_update_tells_its_group_what_its_distinct_guesses_tell(guessing):
    spec = change(guessing, max_steps=1, log_points=1)
    data = simrl.run(spec, 64).isel(cell=0)
    trial = specs.build(specs.traced((spec.environment, spec.policy, spec.learner)))

    @jax.jit
    @jax.vmap
    def guesses(seed):
        streams = keys.streams(jax.random.key(0), seed)
        state = trial.learner.init(streams)
        return trial.learner.step(keys.at_step(streams, 0), state, np.int32(0))[1].answers

    told = {"expected": [], "realised": [], "success": []}
    for answers in np.asarray(guesses(np.arange(64)))[:, 0, :, 0]:
        distinct = len(set(answers.tolist()))
        rest = 4 - distinct
        told["expected"].append(2 - rest / 4 * np.log2(rest) if rest else 2.0)
        told["realised"].append(2.0 if 0 in answers else 2 - np.log2(rest))
        told["success"].append((answers == 0).sum())
    for name, joint in (("expected", "_update"), ("realised", "_update"), ("success", "")):
        found = data[f"phase_{name}{joint}"].sum("phase").values
        np.testing.assert_allclose(found, told[name], rtol=1e-5, err_msg=name)
    assert len(set(told["expected"])) >= 3


@pytest.mark.parametrize("name", RUNS)
def test_hits_are_the_first_steps_at_the_threshold(name, request):
    data = request.getfixturevalue(name)
    odds = data["log_odds"].values.astype(np.float64)
    samples = np.uint64(CHARGES[name][1])
    for h, threshold in enumerate(data["threshold"].values):
        level = np.log(threshold / (1 - threshold))
        over = odds >= np.float32(level)
        first = np.where(over.any(axis=1), over.argmax(axis=1), -1)
        never = np.where(first < 0, np.nan, 0)
        np.testing.assert_array_equal(data["hit_step"].values[:, h], first + never)
        np.testing.assert_array_equal(data["reached"].values[:, h], first >= 0)
        reached = first > 0
        before = np.take_along_axis(odds, first[:, None] - 1, 1)[:, 0]
        after = np.take_along_axis(odds, first[:, None], 1)[:, 0]
        time = (first - 1 + (level - before) / (after - before))[reached]
        np.testing.assert_allclose(data["hit_time"].values[reached, h], time, rtol=1e-5)
        assert np.all(np.isnan(data["hit_time"].values[first < 0, h]))
        expected = first.astype(float) * samples + never
        np.testing.assert_array_equal(data["hit_samples"].values[:, h], expected)
    assert (data["hit_step"].values[:, 0] > 0).sum() > 100
    if name == "guessed":
        assert np.isnan(data["hit_step"].values).any()  # some censored


def test_stop_freezes_each_seed_at_its_first_step_at_the_stop(guessing, guessed):
    spec = change(guessing, stop_pass_rate=0.965)
    data = simrl.run(spec, guessed.sizes["seed"]).isel(cell=0)
    odds = guessed["log_odds"].values
    over = odds >= np.float32(np.log(0.965 / 0.035))
    last = np.where(over.any(axis=1), over.argmax(axis=1), 60)
    np.testing.assert_array_equal(data["total_step"].values, last)
    np.testing.assert_array_equal(data["stopped"].values, over.any(axis=1))
    assert data["stopped"].values.any()
    assert not data["stopped"].values.all()
    np.testing.assert_array_equal(data["total_samples"].values, last * 4)
    np.testing.assert_array_equal(data["phase_samples"].sum("phase").values, last * 4)
    frozen = np.minimum(np.arange(61), last[:, None])
    np.testing.assert_array_equal(data["steps_done"].values, frozen)
    np.testing.assert_array_equal(data["step"].values, np.arange(61))
    for name in ("log_odds", "belief"):  # bit for bit
        expected = guessed[name].values[np.arange(len(last))[:, None], frozen]
        np.testing.assert_array_equal(data[name].values, expected)


def test_a_seed_that_begins_past_its_marks_never_trains(guessing):
    spec = change(guessing, stop_pass_rate=0.2, thresholds=(0.1, 0.2, 0.5))
    data = simrl.run(spec, 4).isel(cell=0)  # p begins at 1/4
    assert data["stopped"].values.all()
    np.testing.assert_array_equal(data["total_step"].values, 0)
    np.testing.assert_array_equal(data["hit_step"].values, [[0, 0, np.nan]] * 4)
    np.testing.assert_array_equal(data["hit_time"].values, [[0, 0, np.nan]] * 4)
    np.testing.assert_array_equal(data["phase_samples"].values, 0)


def test_log_points_are_where_they_are_said_to_be(guessing):
    spec = change(guessing, log_points=3)
    data = simrl.run(spec, 2).isel(cell=0)
    assert data["step"].values.tolist() == [0, 20, 40, 60]
    np.testing.assert_array_equal(data["steps_done"].values, [[0, 20, 40, 60]] * 2)
    np.testing.assert_array_equal(data.sel(step=40)["pass_rate"], data["pass_rate"][:, 2])


def test_mean_log_odds_is_that_of_the_mean_pass_rate(severally):
    odds = severally["log_odds"].values.astype(np.float64)
    pass_rate = severally["pass_rate"].values
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), pass_rate, rtol=1e-5)


def test_quantities_follow_the_world(guessing, labelled):
    def names(spec):
        return set(observe.quantities(specs.build((spec.environment, spec.policy, spec.learner))))

    always = {"pass_rate", "success", "nominal", "absorbed", "trace_covariance", "squared_norm"}
    told = {"expected", "realised"}
    joint = {"expected_update", "realised_update"}
    assert names(guessing) == names(labelled) == always | told | joint
    zipf = change(labelled, environment=simrl.Sequence(labels="zipf"))
    assert names(zipf) == always | {"gap", "absorbed_label", "observed_pass_rate"}
    prefix = change(guessing, environment=simrl.Sequence(reward="prefix"))
    assert names(prefix) == always | told
    gaussian = change(guessing, environment=simrl.Bandit("gaussian"))
    assert names(gaussian) == always
