"""Moments over seeds: what they merge to, and the same tables without the seeds."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import simrl
from simrl.sweeps import memory, moments

SWEEP = simrl.Sweep(
    simrl.Spec(
        simrl.Bandit("one_right", 4),
        simrl.PolicyGradient("rloo", 4),
        max_steps=40,
        log_points=3,
        stop_pass_rate=0.9,
    ),
    {"learner.optimizer.learning_rate": [1.0, 64.0]},
)
NUM = 5000  # seeds: more than are reduced at once


def test_moments_of_two_sets_are_those_of_both():
    rng = np.random.default_rng(0)
    bottom = rng.exponential(size=(50, 3))
    top = 1e6 * bottom * (1 + rng.normal(size=(50, 3)) * [1e-9, 1e3, 1.0])  # ratios nearly equal
    kept = rng.random((50, 3)) < 0.7
    kept[:20, 2] = False  # of no seed of the first set
    parts = [moments.of_pair(top[a:b], bottom[a:b], kept[a:b]) for a, b in ((0, 20), (20, 50))]
    value, error, num = moments.ratio(moments.merged(*parts))
    for p in range(3):
        x, y = top[kept[:, p], p], bottom[kept[:, p], p]
        mean = x.sum() / y.sum()
        spread = np.std(x - mean * y, ddof=1) / np.sqrt(len(x)) / y.mean()
        assert num[p] == len(x)
        np.testing.assert_allclose([value[p], error[p]], [mean, spread], rtol=1e-6)


def test_a_mean_is_a_ratio_over_one():
    values = np.array([[2.0], [3.0], [7.0], [np.nan]])
    mean, error, num = moments.ratio(moments.of_pair(values, 1.0, np.isfinite(values)))
    assert (mean[0], num[0]) == (4.0, 3)
    assert error[0] == pytest.approx(scipy.stats.sem([2, 3, 7]))


def test_a_ratio_by_hand():
    """Half of the denominators 2, 4, 6, then 0, 3, 3 over them: residuals -1, 1, 0."""
    bottom = np.array([[2.0], [4.0], [6.0]])
    exact = moments.ratio(moments.of_pair(bottom / 2, bottom, bottom > 0))
    assert (exact[0][0], exact[1][0]) == (0.5, 0.0)
    value, error, _ = moments.ratio(
        moments.of_pair(np.array([[0.0], [3.0], [3.0]]), bottom, bottom > 0)
    )
    # sqrt(sum of squares 2 / (3 - 1) / 3) / mean of the denominators 4
    assert (value[0], error[0]) == (0.5, pytest.approx(np.sqrt(1 / 3) / 4))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("moments")
    return simrl.run(SWEEP, NUM), simrl.run(SWEEP, NUM, out, keep="moments"), out


def alike(moments_of, seeds_of):
    medians = [name for name in seeds_of if name.endswith("_median")]
    assert moments_of[[m for m in medians if m in moments_of]].isna().all(axis=None)
    pd.testing.assert_frame_equal(
        moments_of.drop(columns=medians),
        seeds_of.drop(columns=medians),
        check_dtype=False,
        rtol=1e-5,
    )


def test_tables_are_those_of_the_seeds(results):
    seeds, found, out = results
    assert "seed" not in found.dims
    assert found.nbytes < seeds.nbytes / 100
    for data in (found, simrl.open(out, keep="moments")):
        alike(simrl.phase_table(data), simrl.phase_table(seeds))
        alike(simrl.hitting_table(data), simrl.hitting_table(seeds))
        for quantity in ("pass_rate", "noise_scale", "log2_answer"):
            alike(simrl.curve_table(data, quantity), simrl.curve_table(seeds, quantity))
    few = simrl.open(out, 1000, keep="moments")
    alike(simrl.phase_table(few), simrl.phase_table(simrl.open(out, 1000)))


def test_what_needs_the_seeds_says_so(results):
    _, found, _ = results
    for refused in (
        lambda: simrl.last_values(found, "pass_rate"),
        lambda: simrl.long_table(found),
        lambda: simrl.hitting_table(found, statistic="median"),
        lambda: simrl.curve_table(found, "pass_rate", statistic="iqm"),
    ):
        with pytest.raises(ValueError, match="moments") as error:
            refused()
        assert "\n" not in str(error.value)
    with pytest.raises(simrl.SpecError, match="keep: must be 'seeds' or 'moments', got 'all'"):
        simrl.run(SWEEP, 8, keep="all")


def test_results_that_do_not_fit_are_opened_as_moments(results, monkeypatch):
    *_, out = results
    monkeypatch.setattr(memory, "machine_bytes", lambda: 2**20)
    with pytest.raises(simrl.SpecError, match="open with keep='moments'"):
        simrl.open(out)
    assert simrl.hitting_table(simrl.open(out, keep="moments"))["num_seeds"].eq(NUM).all()


def test_shares_add_up_without_their_seeds(tmp_path):
    with pytest.warns(UserWarning, match="fewer seeds"):
        simrl.run(SWEEP, 600, tmp_path, shard=(1, 2), keep="moments")
    both = simrl.run(SWEEP, 600, tmp_path, shard=(2, 2), keep="moments")
    alike(simrl.phase_table(both), simrl.phase_table(simrl.open(tmp_path)))
