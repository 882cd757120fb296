"""Jumps against every update taken: the law of sample counts, and of each wait with what follows.

4,000 seeds of each, fixed beforehand; the two share no random number.
"""

import dataclasses

import numpy as np
import pytest
from scipy import stats

import simrl

NUM = 4000
RATE = simrl.Optimizer()  # of 1
WORLDS = {
    "none": (simrl.Bandit(num_arms=50), simrl.PolicyGradient("none", 1, optimizer=RATE)),
    "leave_one_out": (
        simrl.Bandit(num_arms=50),
        simrl.PolicyGradient("leave_one_out", 8, optimizer=RATE),
    ),
    "group_normalised": (
        simrl.Bandit(num_arms=50),
        simrl.PolicyGradient("group_normalised", 8, optimizer=RATE),
    ),
    "a verifier that errs": (
        simrl.Bandit(num_arms=20, verifier="noisy", false_positive=0.01, false_negative=0.2),
        simrl.PolicyGradient("leave_one_out", 4, optimizer=RATE),
    ),
    "two positions": (simrl.Sequence(7, 2), simrl.PolicyGradient("none", 4, optimizer=RATE)),
}


def run(name, engine, **changes):
    environment, learner = WORLDS[name]
    spec = simrl.Spec(environment, learner, engine=engine, thresholds=(0.5,))
    changes = {"stop_pass_rate": 0.5, "log_points": 1, **changes}
    spec = dataclasses.replace(spec, phases=simrl.Phases(num=1), **changes)
    first = 0 if engine == "jump" else 10_000
    return simrl.run(spec, range(first, first + NUM)).isel(cell=0)


@pytest.mark.parametrize("name", WORLDS)
def test_sample_counts_to_one_half_have_the_law_of_every_update_taken(name):
    jumped, taken = (run(name, engine, max_steps=20_000) for engine in ("jump", "fused"))
    one, other = (data["hit_samples"].values[:, 0] for data in (jumped, taken))
    assert (one > 0).all()
    assert (other > 0).all()
    for name in ("hit_samples", "total_dead", "phase_success"):
        pair = [np.float64(data[name].values).reshape(NUM, -1).sum(1) for data in (jumped, taken)]
        error = np.sqrt(sum(values.var() for values in pair) / NUM)
        assert abs(pair[0].mean() - pair[1].mean()) <= 4 * error, name
    assert stats.ks_2samp(one, other).pvalue > 0.01


def test_the_mean_count_is_the_sum_of_waits():
    """Without baseline every seed walks the same path, and only the waits are random."""
    samples = run("none", "jump", max_steps=20_000)["hit_samples"].values[:, 0]
    lead, waits, variance = 0.0, 0.0, 0.0
    while (p := 1 / (1 + 49 * np.exp(-lead))) < 0.5:
        waits, variance = waits + 1 / p, variance + (1 - p) / p**2
        lead += (1 - p) * (1 + 1 / 49)
    assert abs(samples.mean() - waits) < 3 * np.sqrt(variance / NUM)
    assert samples.var() == pytest.approx(variance, rel=0.15)


@pytest.mark.parametrize("name", ["leave_one_out", "group_normalised", "two positions"])
def test_a_wait_and_the_policy_after_it_have_one_joint_law(name):
    """The first update that changes anything: when it comes, and the log-odds it leaves."""
    steps = 16

    def first_change(data):
        odds = data["log_odds"].values  # [seed, log point]: every update
        changed = np.abs(odds - odds[:, :1]) > 1e-6
        when = np.where(changed.any(axis=1), changed.argmax(axis=1), steps + 1)
        after = np.take_along_axis(odds, np.minimum(when, steps)[:, None], axis=1)[:, 0]
        return when, np.round(after, 3)

    looks = {"max_steps": steps, "log_points": steps, "log_spacing": "linear"}
    found = []
    for engine in ("jump", "fused"):
        # Nobody gets there, but all may: the programs of the test above.
        data = run(name, engine, stop_pass_rate=1 - 1e-6, **looks)
        assert not data["stopped"].any()
        found.append(first_change(data.transpose("seed", "log_point", ...)))
    after = np.concatenate([pair[1] for pair in found])
    cuts = np.quantile(after, [0.25, 0.5, 0.75])
    tables = [
        np.histogram2d(when, np.searchsorted(cuts, left), bins=(range(steps + 3), range(5)))[0]
        for when, left in found
    ]
    both = np.stack([table.ravel() for table in tables])
    both = both[:, both.sum(axis=0) >= 20]
    assert both.shape[1] > 10
    assert stats.chi2_contingency(both).pvalue > 0.01
