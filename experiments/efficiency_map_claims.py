"""The essay's claims about bits and noise, each held against the map of one token.

Only what one table can tell: every learner in its own setting, supervised learning with batches of
1 and policy gradient with batches of 32. Samples and FLOPs to a pass rate depend on batch sizes, so
that no claim is made of them.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.verdicts import ERRORS, FEW, settled, told, verdict

ROUNDING = 1e-3  # relative: of float32 sums
LABELS, REWARDS, PLAIN = "supervised", "leave_one_out", "none"  # learners
REDUNDANT = 0.13  # pass rate near which rollouts of a batch repeat each other most


class Entry(NamedTuple):
    """A quantity in a bin of the pass rate: its value, its standard error, the mean pass rate."""

    value: float
    error: float
    pass_rate: float


class Row(NamedTuple):
    """What is predicted and measured, the verdict, and the pass rate that was looked at."""

    predicted: str
    measured: str
    verdict: str
    place: str = ""


Entries = dict[int, Entry]  # by bin


def claims(table: pd.DataFrame, min_seeds: int) -> pd.DataFrame:
    """Returns a row for each claim: predicted, measured ± standard error, verdict.

    `table`: the phase table of one token, each learner at one rate. A verdict is "too few runs"
    where fewer than `min_seeds` seeds visited a bin that it needs.
    """
    rows = []
    for claim, test in CLAIMS.items():
        try:
            predicted, measured, outcome, place = test(table[table["num_seeds"] >= min_seeds])
        except (LookupError, ValueError):  # no bin that enough seeds visited
            predicted, measured, outcome, place = "", "", FEW, ""
        text = f"{claim}, at p = {place}" if place else claim
        row = {"claim": text, "predicted": predicted, "measured": measured, "verdict": outcome}
        rows.append(row)
    return pd.DataFrame(rows)


def entries(table: pd.DataFrame, learner: str, quantity: str) -> Entries:
    """Returns a quantity of a learner in each bin where it is defined."""
    own = table[table["learner"] == learner]
    rates = own[own["quantity"] == "pass_rate"].set_index("phase")["mean"]
    rows = own[(own["quantity"] == quantity) & np.isfinite(own["mean"])]
    ends = zip(rows["phase"], rows["mean"], (rows["high"] - rows["low"]) / 2 / 1.96, strict=True)
    return {phase: Entry(mean, error, rates[phase]) for phase, mean, error in ends}


def label(table: pd.DataFrame) -> Row:
    """Tests what a label is worth where training starts."""
    first = _first(entries(table, LABELS, "realised"))
    return _equal(-np.log2(first.pass_rate), first)


def reward(table: pd.DataFrame) -> Row:
    """Tests the largest share of h(p) that a reward is worth in any bin."""
    shares = []
    for entry in entries(table, REWARDS, "realised").values():
        most = _entropy(entry.pass_rate)
        shares.append(Entry(entry.value / most, entry.error / most, entry.pass_rate))
    largest = max(shares, key=lambda share: share.value)
    holds = largest.value - 1 <= ERRORS * largest.error + ROUNDING
    return Row("≤ 1", told(largest.value, largest.error, 3), verdict(holds))


def crossing(table: pd.DataFrame) -> Row:
    """Tests between which bins the nominal curves cross."""
    labels, rewards = (entries(table, learner, "nominal") for learner in (LABELS, REWARDS))
    both = sorted(set(labels) & set(rewards))
    above = max(i for i in both if labels[i].value > rewards[i].value)
    below = min(i for i in both if labels[i].value < rewards[i].value)
    low = min(labels[above].pass_rate, rewards[above].pass_rate)
    high = max(labels[below].pass_rate, rewards[below].pass_rate)
    holds = above < below and low < 0.5 < high
    return Row("p = .5", f"{_short(low)} … {_short(high)}", verdict(holds))


def redundant(table: pd.DataFrame) -> Row:
    """Tests the bits of a rollout jointly with its batch over those of one alone."""
    alone, jointly = (entries(table, REWARDS, name) for name in ("realised", "realised_joint"))
    bin_of_it = min(alone, key=lambda i: abs(alone[i].pass_rate - REDUNDANT))
    ratio = _ratio(jointly[bin_of_it], alone[bin_of_it])
    return _compared("< 1", ratio, 1 - ratio.value)


def noise_early(table: pd.DataFrame) -> Row:
    """Tests the noise scale without a baseline where training starts."""
    first = _first(entries(table, PLAIN, "noise_scale"))
    return _equal((1 - first.pass_rate) / first.pass_rate, first)


def noise_late(table: pd.DataFrame) -> Row:
    """Tests the noise scale with a baseline in the last bin over that in the least noisy bin."""
    noise = entries(table, REWARDS, "noise_scale")
    last = noise[max(noise)]
    if last.pass_rate < 0.9:
        raise LookupError("too few seeds came that far")
    ratio = _ratio(last, min(noise.values(), key=lambda entry: entry.value))
    return _compared("> 1", ratio, ratio.value - 1)


def per_flop(table: pd.DataFrame) -> Row:
    """Tests the learned bits per FLOP of labels over those of rewards where training starts."""
    both = (_first(entries(table, learner, "absorbed_per_flop")) for learner in (LABELS, REWARDS))
    ratio = _ratio(*both)
    return _compared("> 1", ratio, ratio.value - 1)


CLAIMS = {
    "A label is worth −log2 p bits": label,
    "A right/wrong reward is worth at most h(p) bits: share of them": reward,
    "The two nominal curves cross at p = 1/2": crossing,
    "Rollouts of a batch overlap: bits of one jointly over alone": redundant,
    "Without a baseline the noise scale is (1 − p)/p": noise_early,
    "A baseline brings noise back late: noise over its least": noise_late,
    "Labels lead in learned bits per FLOP (2N/4N) at small p: ratio": per_flop,
}


def _entropy(p: float) -> float:
    return float(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


def _first(of_bins: Entries) -> Entry:
    """Returns the entry where training starts."""
    return of_bins[min(of_bins)]


def _ratio(top: Entry, bottom: Entry) -> Entry:
    """Returns a ratio, its error as if both were independent."""
    value = top.value / bottom.value
    error = abs(value) * np.hypot(top.error / top.value, bottom.error / bottom.value)
    return Entry(value, float(error), top.pass_rate)


def _equal(wanted: float, entry: Entry) -> Row:
    apart = abs(entry.value - wanted)
    holds = apart <= ERRORS * entry.error + ROUNDING * abs(wanted)
    digits = 3 if wanted < 100 else 1
    measured = told(entry.value, entry.error, digits)
    return Row(f"{wanted:.{digits}f}", measured, verdict(holds), _short(entry.pass_rate))


def _compared(wanted: str, ratio: Entry, above: float) -> Row:
    measured = told(ratio.value, ratio.error, 3 if ratio.value < 10 else 1)
    return Row(wanted, measured, settled(above, ratio.error), _short(ratio.pass_rate))


def _short(value: float) -> str:
    """Returns a pass rate with two digits, as .13."""
    return f"{value:.2g}".removeprefix("0")
