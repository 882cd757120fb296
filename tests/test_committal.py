"""The independent programs of `committal` and `plateaus`, and what their tables make of them."""

import numpy as np
import pandas as pd
import pytest

import simrl
from experiments import committal, committal_check, plateaus, plateaus_check
from simrl.measures import gradients


def test_baselines_by_search_are_those_of_the_measures():
    probs = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], 20)
    rewards, rows = committal_check.REWARDS, np.float32(probs)
    score = [gradients.minimum_variance_baseline(row, rewards) for row in rows]
    natural = [gradients.natural_baseline(row, rewards) for row in rows]
    for name, offset in (("b* - 1/2", -0.5), ("b*", 0.0), ("b* + 1/2", 0.5)):
        for of, wanted in ((False, score), (True, natural)):
            found = committal_check.baseline_of(name, of, probs)
            np.testing.assert_allclose(found, np.array(wanted) + offset, rtol=2e-5)
    found = committal_check.baseline_of("b* of the score", True, probs)
    np.testing.assert_allclose(found, score, rtol=2e-5)
    np.testing.assert_allclose(committal_check.baseline_of("value", True, probs), probs @ rewards)
    sure = np.array([[1.0, 0.0, 0.0]])
    assert np.isfinite(committal_check.baseline_of("b*", False, sure)).all()


def test_one_step_by_hand():
    """From the uniform policy: natural moves one logit by .5 r / (1/3)."""
    found = committal_check.ends("none", True, 0.5, 1, 3000, seed=0)
    odds = np.exp(1.5 * committal_check.REWARDS)
    wanted = {round(x / (x + 2), 6) for x in odds}
    assert {round(x, 6) for x in found.max(axis=1)} == wanted
    found = committal_check.ends("none", False, 0.5, 1, 3000, seed=0)
    push = 0.5 * committal_check.REWARDS
    tops = np.exp(push * 2 / 3) / (np.exp(push * 2 / 3) + 2 * np.exp(-push / 3))
    assert {round(x, 6) for x in found.max(axis=1)} == {round(x, 6) for x in tops}


def test_runs_commit_to_the_arm_that_is_sure():
    beliefs = np.array([[0.995, 0.005, 0], [0, 0.992, 0.008], [0.5, 0.5, 0], [0, 0, 1.0]])
    assert committal.committed(beliefs).tolist() == [0, 1, 3, 2]


@pytest.mark.parametrize(
    ("wrong", "other", "said"), [(300, 60, "holds"), (0, 0, "too few runs"), (300, 120, "FAILS")]
)
def test_a_verdict_needs_the_claim_and_the_independent_program(wrong, other, said):
    row = {"update": "natural", "baseline": "none", "num_seeds": 1000, "wrong": wrong}
    row |= {"checked": 200, "checked_wrong": other}
    assert committal.judged(pd.DataFrame([row]))["verdict"].item() == said


def test_what_is_not_claimed_is_compared_alone():
    row = {"update": "natural", "baseline": committal.OF_SCORE, "num_seeds": 1000, "wrong": 300}
    said = [
        committal.judged(pd.DataFrame([row | {"checked": 200, "checked_wrong": other}]))
        for other in (60, 120)
    ]
    assert [table["verdict"].item() for table in said] == ["agrees", "FAILS"]
    assert said[0]["claimed"].item() == "–"


def test_a_run_of_a_hundred_steps_is_the_one_by_hand():
    chosen = plateaus.sweep(100)
    data = simrl.run(chosen, 1)
    table = plateaus.curves(data)
    np.testing.assert_allclose(table["best"], table["best_by_hand"], rtol=1e-4)
    np.testing.assert_allclose(table["lost"], table["lost_by_hand"], rtol=1e-4)
    found = plateaus.judged(data, table)
    wanted = ["16", "35", "not reached", "not reached"]
    assert found["measured"].tolist() == found["steps to 1/2, by hand"].tolist() == wanted


def test_the_flow_by_hand_keeps_its_invariant():
    """Gradient ascent on pi . r keeps the sum of the logits."""
    policies = plateaus_check.followed((0.2, 0.3, 0.5), plateaus.REWARDS, 0.4, range(51)).policies
    np.testing.assert_allclose(policies[0], (0.2, 0.3, 0.5))
    logits = np.log(policies)
    centred = logits - logits.mean(axis=1, keepdims=True)
    r = np.array(plateaus.REWARDS)
    step = 0.4 * policies * (r - policies @ r[:, None])
    np.testing.assert_allclose(np.diff(centred, axis=0), step[:-1], atol=1e-12)
