"""The essay's claims about bits, noise and FLOPs, each held against the map.

Learners are compared at equal batches and a common rate per sample: 1 of each unless a claim says
otherwise. What depends on the rate is predicted and measured at several.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments import efficiency_map_forms as forms
from experiments.verdicts import ERRORS, FEW, settled, told, verdict

ROUNDING = 1e-3  # relative: of float32 sums
LABELS, PLAIN, CENTRED = "supervised", "none", "expected_reward"  # learners
NOISY = "noisy labels"
ONE_TOKEN, NUM_SYMBOLS = "one token", 1000
CLEAN = (ONE_TOKEN, "sequence, exact", "sequence, token")
COMMON_RATE = 1.0  # nats a sample
SMALL_RATE, BATCH = 1 / 32, 32  # of the updates of a batch
THIRD, OVERLAP = 1 / 3, 0.13  # pass rates these start from
THRESHOLD = 0.9


class Entry(NamedTuple):
    """A quantity in a bin of the pass rate: its value, its standard error, the mean pass rate."""

    value: float
    error: float
    pass_rate: float


class Row(NamedTuple):
    """A claim, what is predicted and measured, and the verdict."""

    claim: str
    predicted: str
    measured: str
    verdict: str


class Tables(NamedTuple):
    """Phase table, hitting table, and the phase table of single updates by batch size."""

    phases: pd.DataFrame
    hits: pd.DataFrame
    batches: pd.DataFrame

    def entries(self, learner: str, quantity: str, world: str = ONE_TOKEN) -> dict[int, Entry]:
        """Returns a quantity in each bin where it is defined, at the common rate.

        On noisy labels a learner has one rate, its own.
        """
        own: dict[str, Any] = {"world": world, "learner": learner}
        own |= {} if world == NOISY else {"rate": COMMON_RATE}
        return _entries(_of(self.phases, **own), quantity)

    def update(self, learner: str, quantity: str, **of: float) -> Entry:
        """Returns a quantity of one update; `of`: its start, batch and rate."""
        [entry] = _entries(_of(self.batches, learner=learner, **of), quantity).values()
        return entry

    def samples(self, learner: str, rate: float) -> Entry:
        """Returns the mean samples to the threshold."""
        own = {"world": ONE_TOKEN, "learner": learner, "rate": rate, "pass_rate": THRESHOLD}
        [row] = _of(self.hits, **own).itertuples()
        if row.num_reached < row.num_seeds:
            raise LookupError("the mean is of the seeds that arrive")
        error = _error(row.trajectories_low, row.trajectories_high)
        return Entry(row.trajectories_mean, error, THRESHOLD)


def claims(tables: Tables) -> pd.DataFrame:
    """Returns a row for each claim: predicted, measured ± standard error, verdict.

    Tables without bins that too few seeds visited; a verdict that needs one is "too few runs".
    """
    rows = []
    for claim, test, arguments in listed(NOISY in set(tables.phases["world"])):
        try:
            row = Row(claim, *test(tables, *arguments))
        except (LookupError, ValueError):  # no bin that enough seeds visited
            row = Row(claim, "", "", FEW)
        rows.append(row._asdict())
    return pd.DataFrame(rows)


def listed(noisy: bool) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Yields each claim, its test and the arguments of the test; of noisy labels if `noisy`."""
    yield "A label tells −log2 p bits: at the start", label, ()
    yield "A right/wrong reward tells at most h(p) bits: its largest share of h(p)", reward, ()
    yield "The two nominal curves cross at p = 1/2: bins between which they do", crossing, ()
    text = "A reward never tells more than a label, per trajectory, in any task: largest ratio"
    yield text, violation, ()
    yield f"Rollouts overlap: share of its bits left to each of {BATCH}, at p = .13", overlap, ()
    yield "Without a baseline the noise scale is (1 − p)/p: at the start", noise_early, ()
    yield (
        "A baseline brings noise back late: noise in the last bin over the least before",
        noise_late,
        (),
    )
    if noisy:
        text = "On noisy labels supervised noise grows as the loss falls: last bin over first"
        yield text, noise_of_labels, ()
    text = "Learned bits per FLOP, labels over rewards, are (8/6)/p: at p ≈ "
    for place in (1e-3, THIRD, 0.98):
        yield f"{text}{short(place)}", per_flop, (place,)
    for rate, name in ((SMALL_RATE, "1/32"), (COMMON_RATE, "1")):
        yield f"The same with batches of {BATCH}, {name} nat a sample: p = .33", of_batch, (rate,)
    text = "By counted FLOPs labels lead in every bin: least ratio of learned bits per FLOP"
    yield text, counted, ()
    yield "Rewards teach most per sample near p = 1/3: bin with most learned bits", peak, ()
    for rate, name in ((1 / 16, "1/16"), (1.0, "1"), (16.0, "16")):
        text = f"Samples to p = .9, rewards over labels, at a rate of {name} nat"
        yield text, samples, (rate,)


Told = tuple[str, str, str]  # predicted, measured, verdict


def label(tables: Tables) -> Told:
    """Tests what a label tells where training starts."""
    first = _first(tables.entries(LABELS, "realised"))
    return _equal(-np.log2(first.pass_rate), first)


def reward(tables: Tables) -> Told:
    """Tests the largest share of h(p) that a reward tells in any bin."""
    shares = []
    for entry in tables.entries(PLAIN, "realised").values():
        most = float(forms.reward_bits(entry.pass_rate))
        shares.append(Entry(entry.value / most, entry.error / most, entry.pass_rate))
    return _at_most_one(shares)


def crossing(tables: Tables) -> Told:
    """Tests between which bins the nominal curves cross."""
    labels, rewards = (tables.entries(learner, "nominal") for learner in (LABELS, PLAIN))
    both = sorted(set(labels) & set(rewards))
    above = max(i for i in both if labels[i].value > rewards[i].value)
    below = min(i for i in both if labels[i].value < rewards[i].value)
    low = min(labels[above].pass_rate, rewards[above].pass_rate)
    high = max(labels[below].pass_rate, rewards[below].pass_rate)
    holds = above < below and low < 0.5 < high
    return "p = .5", f"{short(low)} … {short(high)}", verdict(holds)


def violation(tables: Tables) -> Told:
    """Tests the bits of a reward over those of a label at the same pass rate, per trajectory."""
    shares = []
    for world in CLEAN:
        for learner in (PLAIN, CENTRED):
            for entry in tables.entries(learner, "realised_per_trajectory", world).values():
                most = float(forms.label_bits(entry.pass_rate))
                shares.append(Entry(entry.value / most, entry.error / most, entry.pass_rate))
    return _at_most_one(shares)


def overlap(tables: Tables) -> Told:
    """Tests the bits of a rollout jointly with its batch over those of one alone."""
    of = {"start": OVERLAP, "batch": BATCH, "rate": SMALL_RATE}
    jointly, alone = (tables.update(PLAIN, name, **of) for name in ("realised_joint", "realised"))
    return _equal(forms.overlap(OVERLAP, NUM_SYMBOLS, BATCH), _ratio(jointly, alone))


def noise_early(tables: Tables) -> Told:
    """Tests the noise scale without a baseline where training starts."""
    first = _first(tables.entries(PLAIN, "noise_scale"))
    return _equal((1 - first.pass_rate) / first.pass_rate, first)


def noise_late(tables: Tables) -> Told:
    """Tests the noise scale with a baseline in the last bin over the least before it."""
    noise = tables.entries(CENTRED, "noise_scale")
    last = noise.pop(max(noise))
    if last.pass_rate < THRESHOLD:
        raise LookupError("too few seeds came that far")
    ratio = _ratio(last, min(noise.values(), key=lambda entry: entry.value))
    return _compared("> 1", ratio, ratio.value - 1)


def noise_of_labels(tables: Tables) -> Told:
    """Tests the noise scale of noisy labels in the last bin of the excess loss over the first."""
    noise = tables.entries(LABELS, "noise_scale", NOISY)
    ratio = _ratio(noise[min(noise)], noise[max(noise)])  # bins are of the excess loss
    return _compared("> 1", ratio, ratio.value - 1)


def per_flop(tables: Tables, place: float) -> Told:
    """Tests learned bits per FLOP, labels over rewards, in the bin nearest to a pass rate."""
    labels, rewards = (tables.entries(name, "absorbed_per_flop") for name in (LABELS, PLAIN))
    nearest = min(set(labels) & set(rewards), key=lambda i: _distance(rewards[i], place))
    if _distance(rewards[nearest], place) > 1:
        raise LookupError("no bin is near")
    # REINFORCE stays 1/p samples where a label stays one, so its mean p is the harmonic one of
    # the states in the bin, by which the ratio is exact.
    wanted = forms.FLOPS_RATIO / rewards[nearest].pass_rate
    return _equal(wanted, _ratio(labels[nearest], rewards[nearest]))


def of_batch(tables: Tables, rate: float) -> Told:
    """Tests learned bits per FLOP, labels over rewards, of one update with equal batches."""
    of = {"start": THIRD, "batch": BATCH, "rate": rate}
    ratio = _ratio(*(tables.update(name, "absorbed_per_flop", **of) for name in (LABELS, PLAIN)))
    return _equal(forms.bits_per_flop_ratio(THIRD, NUM_SYMBOLS, BATCH, rate), ratio)


def counted(tables: Tables) -> Told:
    """Tests learned bits per counted FLOP, labels over rewards, in the bin where they are least."""
    name = "absorbed_per_flop_counted"
    labels, rewards = (tables.entries(learner, name) for learner in (LABELS, PLAIN))
    ratios = [_ratio(labels[i], rewards[i]) for i in set(labels) & set(rewards)]
    least = min(ratios, key=lambda entry: entry.value)
    return _compared("> 1", least, least.value - 1)


def peak(tables: Tables) -> Told:
    """Tests whether the bin with the most learned bits of a reward has a p of 1/3."""
    phases = tables.phases
    bits = tables.entries(PLAIN, "absorbed")
    most, second = sorted(bits, key=lambda i: -bits[i].value)[:2]
    own = phases[(phases["world"] == ONE_TOKEN) & (phases["phase"] == most)].iloc[0]
    low, high = (1 / (1 + np.exp(-float(own[end]))) for end in ("phase_low", "phase_high"))
    apart = bits[most].value - bits[second].value
    clear = settled(apart, float(np.hypot(bits[most].error, bits[second].error)))
    within = f"{short(low)} … {short(high)}"
    return "p = .33", within, clear if clear == FEW else verdict(low <= THIRD <= high)


def samples(tables: Tables, rate: float) -> Told:
    """Tests samples to the threshold, rewards over labels, at a common rate per sample."""
    ratio = _ratio(tables.samples(PLAIN, rate), tables.samples(LABELS, rate))
    return _equal(forms.sample_ratio(rate, NUM_SYMBOLS, THRESHOLD), ratio)


def _of(table: pd.DataFrame, **labels: object) -> pd.DataFrame:
    """Returns the rows with these labels."""
    for name, value in labels.items():
        table = table[table[name] == value]
    return table


def _entries(rows: pd.DataFrame, quantity: str) -> dict[int, Entry]:
    """Returns a quantity in each bin where it is defined."""
    rates = rows[rows["quantity"] == "pass_rate"].set_index("phase")["mean"]
    rows = rows[(rows["quantity"] == quantity) & np.isfinite(rows["mean"])]
    ends = zip(rows["phase"], rows["mean"], rows["low"], rows["high"], strict=True)
    return {phase: Entry(mean, _error(low, high), rates[phase]) for phase, mean, low, high in ends}


def _error(low: float, high: float) -> float:
    """Returns the standard error of which this is the 95 % interval."""
    return (high - low) / 2 / 1.96


def _first(of_bins: dict[int, Entry]) -> Entry:
    """Returns the entry where training starts."""
    return of_bins[min(of_bins)]


def _distance(entry: Entry, place: float) -> float:
    """Returns how far apart two pass rates are, in log-odds."""
    odds = (np.log(p / (1 - p)) for p in (entry.pass_rate, place))
    return float(abs(next(odds) - next(odds)))


def _ratio(top: Entry, bottom: Entry) -> Entry:
    """Returns a ratio, its error as if both were independent."""
    value = top.value / bottom.value
    error = abs(value) * np.hypot(top.error / top.value, bottom.error / bottom.value)
    return Entry(value, float(error), bottom.pass_rate)


def _at_most_one(shares: list[Entry]) -> Told:
    largest = max(shares, key=lambda share: share.value)
    holds = all(share.value - 1 <= ERRORS * share.error + ROUNDING for share in shares)
    return "≤ 1", told(largest.value, largest.error, 3), verdict(holds)


def _equal(wanted: float, entry: Entry) -> Told:
    apart = abs(entry.value - wanted)
    holds = apart <= ERRORS * entry.error + ROUNDING * abs(wanted)
    digits = 3 if wanted < 100 else 1
    return f"{wanted:.{digits}f}", told(entry.value, entry.error, digits), verdict(holds)


def _compared(wanted: str, ratio: Entry, above: float) -> Told:
    measured = told(ratio.value, ratio.error, 3 if ratio.value < 10 else 1)
    return wanted, measured, settled(above, ratio.error)


def short(value: float) -> str:
    """Returns a pass rate with two digits, as .13."""
    return f"{value:.2g}".removeprefix("0")
