"""Intervals over seeds: Student t for a mean or a ratio, bootstrap for a median or an IQM."""

import math
import warnings
from numbers import Real
from typing import Any

import numpy as np
import scipy  # whose `stats` takes a second to import: SciPy does so at its first use
import scipy.special

from simrl.errors import brief
from simrl.sweeps import moments

STATISTICS = ("mean", "median", "iqm")
NUM_RESAMPLES = 9999
BATCH_VALUES = 2**22  # values of resamples held at once
NOTHING = (float("nan"), float("nan"), float("nan"))


@np.errstate(over="ignore", invalid="ignore")
def interval(
    values: np.ndarray, confidence: float = 0.95, statistic: str = "mean"
) -> tuple[float, float, float]:
    """Returns a statistic over seeds and its confidence interval: (estimate, low, high).

    "mean" has Student's t interval; of values that are all 0 or 1, successes, their share has that
    of Clopper and Pearson (1934), which has a width at 0 and at 1 too.

    "median" and "iqm", the interquartile mean (the mean of what is left without a quarter of the
    values at either end, `scipy.stats.trim_mean(values, 0.25)`; Agarwal et al. 2021), have the BCa
    bootstrap interval (Efron 1987; `scipy.stats.bootstrap`) of 9,999 resamples. The resamples are
    the same in every call and do not depend on the order of the values. Where the jackknife does
    not vary (many ties), BCa is undefined and the interval is the bootstrap's percentile interval.
    A bootstrap of a handful of values covers far less than it says, so below `fewest` values the
    ends are NaN.

    A censored seed may enter the median and the IQM as +inf, later than all: the interval is the
    limit in which it is very late, and its ends, like the estimate, may be inf.

    Args:
      values: [N], one per seed, in any units; those of the results are the same.
      confidence: the coverage asked for, between 0 and 1.
      statistic: "mean", "median" or "iqm".

    Returns:
      Floats. The ends are NaN for too few values (a mean needs two, of which a share needs one) and
      for a mean that is not finite; all three are NaN for no values, for values among which is NaN,
      or both +inf and -inf. Equal values that are not all 0 or 1 are their own interval.

    Raises:
      ValueError: an unknown statistic, or a confidence that is not between 0 and 1.
    """
    check(confidence, statistic)
    values = _row(values)
    if statistic == "mean" and len(values) and np.isin(values, (0, 1)).all():
        ends = success_ends(values.sum(), len(values), confidence)
        return float(values.mean()), float(ends[0]), float(ends[1])
    return spread(values, confidence, statistic)


@np.errstate(over="ignore", invalid="ignore")
def spread(
    values: np.ndarray, confidence: float = 0.95, statistic: str = "mean"
) -> tuple[float, float, float]:
    """Returns the `interval` of values that are no successes, whatever they are."""
    check(confidence, statistic)
    values = _row(values)
    endless = np.isposinf(values).any() and np.isneginf(values).any()
    if len(values) == 0 or np.isnan(values).any() or endless:
        return NOTHING
    estimate = float(_estimate(values, statistic))
    infinite = statistic == "mean" and not np.isfinite(values).all()
    if len(values) < fewest(confidence, statistic) or infinite:
        return estimate, float("nan"), float("nan")
    if (values == values[0]).all():
        return float(values[0]), float(values[0]), float(values[0])
    if statistic != "mean":
        return (estimate, *_bootstrapped(values, confidence, statistic))
    half = _half(values, confidence)
    return estimate, estimate - half, estimate + half


def fewest(confidence: float, statistic: str) -> int:
    """Returns the least number of values that an interval is given for.

    The ends of the median's interval lie among the values, so that n of them cover it with a
    probability of at most 1 - 2^(1-n), by order statistics: 95 % needs 6 values. The IQM needs two
    more: its 95 % covers .87 to .91 with 4 to 7 normal or exponential values (3,000 samples of
    each), .93 to .94 with 8.
    """
    if statistic == "mean":
        return 2
    of_median = max(2, math.ceil(1 - math.log2(1 - confidence)))
    return of_median if statistic == "median" else of_median + 2


def success_ends(successes: Any, trials: Any, confidence: float = 0.95) -> tuple[Any, Any]:
    """Returns Clopper and Pearson's interval of a probability, low and high, [...] each.

    `successes` of as many `trials` [...]; of none it is 0 ... 1. Covers at least as often as asked.
    """
    successes, trials = np.asarray(successes, float), np.asarray(trials, float)
    failures, tail = trials - successes, (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low = scipy.special.betaincinv(successes, failures + 1, tail)
        high = scipy.special.betaincinv(successes + 1, failures, 1 - tail)
    return np.where(successes == 0, 0.0, low), np.where(failures == 0, 1.0, high)


def pooled_ratio(
    top: np.ndarray, bottom: np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Sum of `top` over sum of `bottom`, both [N] over seeds, with a t interval.

    The interval is that of the ratio estimator (Cochran 1977, section 6.4): seeds are independent,
    the residuals are top - ratio * bottom. A mean of each seed's own ratio would be badly biased: a
    seed that leaves a phase by its first success has one success over however long it waited, and
    the mean of 1 / waiting time is far above 1 / mean waiting time. The units are those of `top`
    over those of `bottom`. Raises ValueError if the confidence is not between 0 and 1.
    """
    top, bottom = _row(top)[:, None], _row(bottom)[:, None]
    if len(top) != len(bottom):
        raise ValueError(f"a ratio needs as many of both, not {len(top)} and {len(bottom)}")
    ratio, low, high = pooled_ratios(top, bottom, np.ones(top.shape, bool), confidence)
    return float(ratio[0]), float(low[0]), float(high[0])


def pooled_ratios(
    top: np.ndarray, bottom: np.ndarray, kept: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`pooled_ratio` of P columns [N, P] at once, each over the seeds that are `kept` in it.

    Returns ratios, low and high ends, [P] each, NaN where undefined.
    """
    return ratio_ends(moments.of_pair(top, bottom, kept), confidence)


@np.errstate(all="ignore")
def ratio_ends(
    pairs: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ratios of moments [..., 7] of pairs and their t intervals: values, low, high."""
    check(confidence)
    value, error, num = moments.ratio(pairs)
    half = _quantile(num, confidence) * error
    return value, value - half, value + half


def check(confidence: float, statistic: str = "mean") -> None:
    """Raise ValueError, one line, on what no interval can be made of."""
    if statistic not in STATISTICS:
        raise ValueError(f"statistic must be mean, median or iqm, not {statistic!r}")
    if not isinstance(confidence, Real) or not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence!r}")


def _row(values: Any) -> np.ndarray:
    """Numbers [N], one per seed; ValueError, one line, for what is not."""
    try:
        row = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        row = np.empty(())
    if row.ndim != 1:
        raise ValueError(f"an interval needs a row of numbers, one per seed, not {brief(values)}")
    return row


def _half(values: np.ndarray, confidence: float) -> float:
    """Half of the t interval of a mean."""
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return float(_quantile(len(values), confidence) * error)


def _quantile(num_seeds: Any, confidence: float) -> Any:
    """Student's t. Tables ask for many: `scipy.stats.t.ppf` costs 10 times as much."""
    return scipy.special.stdtrit(num_seeds - 1, 0.5 + confidence / 2)


def _estimate(values: np.ndarray, statistic: str, axis: int = -1) -> Any:
    if statistic == "iqm":
        return scipy.stats.trim_mean(values, 0.25, axis=axis)
    return np.median(values, axis=axis) if statistic == "median" else np.mean(values, axis=axis)


def _bootstrapped(values: np.ndarray, confidence: float, statistic: str) -> tuple[float, float]:
    """Ends of the BCa interval; `values` [N], N > 1, not all equal, inf of at most one sign."""
    # BCa takes differences, which inf has none of. In its place stands a number so far out that
    # every statistic it enters, even with weight 1/N, lies beyond all finite values.
    reach = 1 + float(np.max(np.abs(values[np.isfinite(values)])))
    far = 1e6 * len(values) * reach
    options: dict[str, Any] = {
        "statistic": lambda sample, axis: _estimate(sample, statistic, axis),
        "vectorized": True,
        "confidence_level": confidence,
        "batch": max(1, BATCH_VALUES // len(values)),
        "rng": np.random.default_rng(0),
    }
    data = (np.sort(np.clip(values, -far, far)),)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # scipy's, that a jackknife does not vary
        found = scipy.stats.bootstrap(data, n_resamples=NUM_RESAMPLES, method="BCa", **options)
        if np.isnan([found.confidence_interval.low, found.confidence_interval.high]).any():
            again = {"n_resamples": 0, "bootstrap_result": found, "method": "percentile"}
            found = scipy.stats.bootstrap(data, **again, **options)
    low, high = (
        math.copysign(math.inf, end) if abs(end) > reach else float(end)
        for end in found.confidence_interval
    )
    return low, high
