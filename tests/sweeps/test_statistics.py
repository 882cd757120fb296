"""Intervals over seeds against SciPy's, worked out by hand, and at their degenerate ends."""

import numpy as np
import pytest
import scipy.stats

import simrl

NAN, INF = float("nan"), float("inf")
LATE = [3.0, 5.0, 6.0, 8.0, 9.0, 13.0, 21.0, 40.0, 55.0, INF, INF]


def skewed(num, seed=0):
    return np.random.default_rng(seed).gamma(1.5, size=num)


def assert_same(found, expected):
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("statistic", ["median", "iqm"])
@pytest.mark.parametrize("num", [7, 10, 41])
def test_bootstrap_is_bca(statistic, num):
    """The formula of Efron (1987) on the resamples that the docstring promises."""
    values = np.sort(skewed(num))

    def of(sample, axis=-1):
        if statistic == "median":
            return np.median(sample, axis=axis)
        return scipy.stats.trim_mean(sample, 0.25, axis=axis)

    rng = np.random.default_rng(0)
    resampled = of(values[rng.integers(0, num, (9999, num))])
    estimate = of(values)
    below = ((resampled < estimate).mean() + (resampled <= estimate).mean()) / 2
    bias = scipy.stats.norm.ppf(below)
    without = np.array([of(np.delete(values, i)) for i in range(num)])
    moved = without.mean() - without
    pace = (moved**3).sum() / (6 * (moved**2).sum() ** 1.5)
    z = bias + scipy.stats.norm.ppf([0.05, 0.95])
    ends = np.quantile(resampled, scipy.stats.norm.cdf(bias + z / (1 - pace * z)))
    found = simrl.interval(skewed(num), 0.9, statistic)
    np.testing.assert_allclose(found, (estimate, *ends), rtol=1e-9)
    assert_same(found, simrl.interval(skewed(num)[::-1], 0.9, statistic))  # and every time


def test_iqm_leaves_a_quarter_at_either_end():
    assert simrl.interval(np.array([0.0, 1.0, 2.0, 900.0]), statistic="iqm")[0] == 1.5
    assert simrl.interval(np.array([-5.0, 1.0, 2.0, 3.0, 9.0]), statistic="iqm")[0] == 2.0
    assert simrl.interval(np.array([0, 0, 1, 1], dtype=np.uint64), statistic="iqm")[0] == 0.5


def test_wider_where_more_is_asked():
    for statistic in ("mean", "median", "iqm"):
        inner, outer = (simrl.interval(skewed(50), c, statistic)[1:] for c in (0.5, 0.99))
        assert outer[0] < inner[0] < inner[1] < outer[1]


@pytest.mark.parametrize("statistic", ["median", "iqm"])
def test_infinite_is_later_than_all(statistic):
    """What is so late that its value does not matter gives the same ends as inf."""
    values = np.array(LATE)
    found = simrl.interval(values, 0.3, statistic)
    finite = np.where(np.isinf(values), 1e15, values)
    expected = np.array(simrl.interval(finite, 0.3, statistic))
    np.testing.assert_allclose(found, np.where(expected > 1e9, INF, expected), rtol=1e-6)
    assert 3 < found[1] < found[0] < found[2] < INF  # 2 of 11 do not reach this far
    assert simrl.interval(values, 0.99, statistic)[2] == INF
    mirrored = simrl.interval(-values, 0.3, statistic)
    np.testing.assert_allclose(mirrored[0], -found[0])
    assert simrl.interval(-values, 0.99, statistic)[1] == -INF


def test_infinite_medians():
    half = np.array([1.0, 2.0, INF, INF])
    assert simrl.interval(half, statistic="median")[0] == INF
    assert simrl.interval(half, 0.8, "median")[1] < 2
    assert simrl.interval(half, 0.8, "median")[2] == INF
    assert simrl.interval(np.array([1.0, 2.0, INF]), 0.5, "median")[0] == 2.0
    assert_same(simrl.interval(np.full(6, INF), statistic="median"), (INF, INF, INF))


def test_degenerate_values_neither_raise_nor_warn():
    for statistic in ("mean", "median", "iqm"):
        assert_same(simrl.interval(np.array([]), 0.9, statistic), (NAN, NAN, NAN))
        assert_same(simrl.interval(np.array([3.0]), 0.9, statistic), (3, NAN, NAN))
        assert_same(simrl.interval(np.array([INF]), 0.9, statistic), (INF, NAN, NAN))
        assert_same(simrl.interval(np.full(7, 0.1), 0.9, statistic), (0.1, 0.1, 0.1))
        assert_same(simrl.interval(np.array([1, NAN, INF]), 0.9, statistic), (NAN, NAN, NAN))
        assert_same(simrl.interval(np.array([1, INF, -INF]), 0.9, statistic), (NAN, NAN, NAN))
        _, low, high = simrl.interval(np.array([1e300, 1e308, -1e308]), 0.9, statistic)
        assert not low > high
    assert_same(simrl.interval(np.array([1.0, 2.0, INF])), (INF, NAN, NAN))


def test_ties_give_a_percentile_interval():
    """The jackknife of this median does not vary, and its bootstrap hardly."""
    values = np.array([4.0] * 9 + [5.0] * 2)
    assert_same(simrl.interval(values, 0.9, "median"), (4, 4, 4))
    resamples = np.random.default_rng(0).integers(0, 11, (9999, 11))
    expected = np.quantile(np.median(values[resamples], axis=1), [0.0005, 0.9995])
    assert expected[1] > 4
    np.testing.assert_allclose(simrl.interval(values, 0.999, "median")[1:], expected)


@pytest.mark.parametrize("statistic", ["median", "iqm"])
def test_no_interval_of_a_handful(statistic):
    """The best that n values can promise of a median, by order statistics, is 1 - 2^(1-n)."""
    for confidence in (0.8, 0.9, 0.95, 0.99):
        given = [
            np.isfinite(simrl.interval(skewed(n), confidence, statistic)[1]) for n in range(2, 12)
        ]
        first = 2 + given.index(True)
        assert all(given[first - 2 :])
        assert 1 - 0.5 ** (first - 1) >= confidence
        most = 1 - 0.5 ** (first - 2)
        assert statistic == "iqm" or most < confidence
    assert_same(simrl.interval(np.full(3, 4.0), statistic=statistic), (4, NAN, NAN))


@pytest.mark.parametrize(("hits", "num"), [(0, 30), (1, 30), (30, 30), (7, 9), (0, 1), (1, 1)])
def test_shares_have_the_interval_of_clopper_and_pearson(hits, num):
    values = np.arange(num) < hits
    for confidence in (0.5, 0.95):
        exact = scipy.stats.binomtest(hits, num).proportion_ci(confidence, "exact")
        found = simrl.interval(values, confidence)
        np.testing.assert_allclose(found, (hits / num, exact.low, exact.high), rtol=1e-9)
    assert simrl.interval(np.zeros(30))[2] == pytest.approx(1 - 0.025 ** (1 / 30))


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 95, NAN])
def test_impossible_confidence(confidence):
    for ask in (
        lambda: simrl.interval(skewed(4), confidence),
        lambda: simrl.pooled_ratio(skewed(4), skewed(4), confidence),
    ):
        with pytest.raises(ValueError, match=r"^confidence must lie between 0 and 1, not \S+$"):
            ask()


def test_unknown_statistic():
    with pytest.raises(ValueError, match=r"^statistic must be mean, median or iqm, not 'mode'$"):
        simrl.interval(skewed(4), statistic="mode")
