"""Seeds whose state or measures become NaN or infinite: flagged, counted, in no interval."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import cli

BAD = 7  # the update that goes wrong
LOOKS = {"max_steps": 20, "log_points": 4, "log_spacing": "linear"}  # at 0, 5, 10, 15, 20
LOOKS |= {"stop_pass_rate": 1.0}
BANDIT = simrl.Bandit(num_arms=4)


def spoiled(hidden, value):
    """An advantage without baseline whose state, or whose weights, are spoiled by update BAD."""

    def advantage(batch_size, length):
        def weights(state, rollout):
            count = state[0] + 1
            bad = count == BAD
            kept = state[1] + jnp.where(bad & hidden, value, 0.0)
            found = jnp.where(bad & (not hidden), value, rollout.credit)
            return (count, kept), found

        return simrl.Advantage(init=lambda: (jnp.int32(0), jnp.float32(0)), weights=weights)

    return advantage


def hurt(credit, success):
    """A bandit whose rewards are spoiled too rarely for the checks before a run to see it."""

    def world():
        def reward(words, task, prompt, answer):
            right = 1.0 * (answer[0] == task)
            bad = simrl.keys.uniform(words[0]) < 0.0005
            return simrl.Outcome(
                credit=jnp.where(bad, credit, right), success=jnp.where(bad, success, right)
            )

        return simrl.Environment(
            init=lambda key: jax.random.randint(key, (), 0, 4),
            prompt=lambda word, task: jnp.int32(0),
            label=lambda words, task, prompt: task[None],
            reward=reward,
            target=lambda task, prompt: jax.nn.one_hot(task[None], 4),
            shape=simrl.Shape(num_prompts=1, length=1, vocab_size=4),
        )

    return world


@pytest.mark.filterwarnings("ignore:.*diverged")
@pytest.mark.parametrize(
    ("hidden", "value", "step"),
    [(False, np.nan, BAD), (False, np.inf, BAD), (True, np.inf, 10)],
)
def test_the_first_bad_update_is_exact_where_the_policy_shows_it(hidden, value, step):
    """What the rest of the state alone shows is seen at the next log point."""
    spec = simrl.Spec(
        BANDIT, simrl.PolicyGradient(group_size=4, advantage=spoiled(hidden, value)), **LOOKS
    )
    data = simrl.run(spec, 4)
    assert data["diverged"].values.all()
    np.testing.assert_array_equal(data["diverged_step"], np.full((1, 4), step))
    curve = simrl.curve_table(data, "pass_rate")
    assert curve["num_diverged"].tolist() == [0, 0, 4, 4, 4]
    assert curve["num_seeds"].tolist() == [4, 4, 0, 0, 0]


RARE = {"nan reward": (np.nan, 0.0), "nan success": (1.0, np.nan)}


@pytest.mark.filterwarnings("ignore:.*diverged")
@pytest.mark.parametrize("name", RARE)
def test_rewards_that_are_not_numbers_are_flagged(name):
    """A measure alone suffices: no learner of rewards reads the success."""
    learner = simrl.PolicyGradient(group_size=4)
    data = simrl.run(simrl.Spec(hurt(*RARE[name]), learner, **LOOKS), 512)
    bad = data["diverged"].values[0]
    # Each of 80 rewards is spoiled with a chance of .0005: 3.9 % of the seeds, 20 +- 4.4.
    assert 2 < bad.sum() < 38
    assert np.isfinite(data["diverged_step"].values[0, bad]).all()
    assert np.isnan(data["diverged_step"].values[0, ~bad]).all()
    sums = simrl.phase_table(data, "pass_rate")
    assert np.isfinite(sums.loc[sums["num_seeds"] > 0, "mean"]).all()
    assert sums["num_diverged"].max() > 0


def overflowing(engine):
    """Steps of 3e38 towards several arms, of which a noisy verifier passes some, leave float32."""
    world = simrl.Bandit(num_arms=4, verifier="noisy", false_positive=0.4, false_negative=0.1)
    rate = simrl.Optimizer("sgd", learning_rate=3e38)
    learner = simrl.PolicyGradient(group_size=2, advantage="none", optimizer=rate)
    return simrl.Spec(world, learner, engine=engine, **LOOKS)


@pytest.mark.filterwarnings("ignore:.*diverged")
@pytest.mark.parametrize("engine", ["plain", "fused", "jump"])
def test_every_engine_flags_parameters_that_overflow(engine):
    data = simrl.run(dataclasses.replace(overflowing(engine), thresholds=(0.5,)), 16)
    bad = data["diverged"].values[0]
    assert bad.any()
    np.testing.assert_array_equal(bad, ~np.isnan(data["diverged_step"].values[0]))
    last = data["log_odds"].values[0, :, -1]
    assert (bad | np.isfinite(last)).all()
    hits = simrl.hitting_table(data).iloc[0]
    assert hits["num_reached"] + hits["num_censored"] + hits["num_diverged"] == 16
    late = data["hit_step"].values[0, :, 0] >= data["diverged_step"].values[0]
    assert not late.any()


def test_a_run_says_what_diverged_and_strict_stops(tmp_path, capsys):
    rate = "learner.optimizer.learning_rate"
    sweep = simrl.Sweep(overflowing("fused"), {"pace": {"calm": {rate: 0.1}, "wild": {rate: 3e38}}})
    line = r"\d+ seeds? diverged \(pace=wild\), the first at update \d"
    with pytest.raises(simrl.SpecError, match=f"^strict: {line}"):
        simrl.run(sweep, 16, tmp_path, strict=True)
    assert [cell.blocks for cell in simrl.status(tmp_path).cells] == [1, 1]  # stored all the same
    with pytest.warns(UserWarning, match=f"^sweep: {line}"):
        data = simrl.run(sweep, 16, tmp_path)
    with pytest.raises(simrl.SpecError, match="strict: "):  # stored blocks count as well
        simrl.run(sweep, 16, tmp_path, strict=True)
    with pytest.raises(simrl.SpecError, match="strict: must be True or False, got 1"):
        simrl.run(sweep, 16, tmp_path, strict=1)
    want = data["diverged"].sum("seed").values.tolist()
    first = int(np.nanmin(data["diverged_step"]))
    for verify in (False, True):
        cells = simrl.status(tmp_path, verify).cells
        assert [cell.diverged for cell in cells] == want
        assert [cell.bad_update for cell in cells] == [None, first]
    with pytest.raises(SystemExit):
        cli.main(["status", str(tmp_path)])
    assert (
        f"{want[1]} seed{'s' * (want[1] > 1)} diverged, the first at update {first}"
        in capsys.readouterr().out
    )
    kept = simrl.open(tmp_path, keep="moments")
    for table in (simrl.hitting_table, lambda data: simrl.curve_table(data, "pass_rate")):
        np.testing.assert_array_equal(table(kept)["num_diverged"], table(data)["num_diverged"])
