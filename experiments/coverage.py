"""Coverage of nominal 95 % confidence intervals, over thousands of repetitions.

Claim: every interval that simrl prints covers the truth between 93 and 97 times in a hundred. The
truth comes from a closed form, from listing every batch, or from the law that the values are drawn
from, never from the estimate. Monte Carlo figures (gradient moments by redraws, the cosine to the
right answer's score, the noise scale from two batch sizes, the information of a channel that is
sampled) are estimate +- t x standard error; intervals over seeds are those of `simrl.interval` and
`simrl.pooled_ratio`. Each interval is tried in a setting of the size that an experiment has: with
fewer draws the laws are skew and every interval falls short: `coverage_phases` shows how short the
intervals of a phase are that few seeds visit, which tables mark and figures do not draw.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import simrl
from experiments import captions, command, coverage_phases
from simrl import plots
from simrl.cli import tables
from simrl.measures import gradients, guesses, information

LEAST, MOST, NOMINAL = 0.93, 0.97, 0.95
REPETITIONS, QUICK = 4000, 500
REDRAWS = 512  # of the estimator for one figure
SEEDS = 100  # of one interval over seeds
ARMS, SIZE = 5, 4  # the gradient estimator: arms, and answers in a batch
PASS_RATE = 0.4
RIGHT: Any = np.int32(0)  # no JAX array: that would start JAX before the CPU's cores are counted


class Trial(NamedTuple):
    """Repetitions of one interval."""

    name: str
    truth: float
    low: np.ndarray  # [N]
    high: np.ndarray  # [N]


def probabilities() -> jax.Array:
    """The policy at which the gradient is estimated: one right arm, the others unequal."""
    others = jnp.arange(1.0, ARMS)
    return jnp.concatenate([jnp.array([PASS_RATE]), (1 - PASS_RATE) * others / others.sum()])


def scored(key: jax.Array, size: int, leave_one_out: bool) -> jax.Array:
    """One gradient estimate [K] from `size` answers, their rewards 1 for the right arm."""
    probs = probabilities()
    drawn = jax.random.categorical(key, jnp.log(probs), shape=(size,))
    reward = (drawn == RIGHT).astype(probs.dtype)
    others = (jnp.sum(reward) - reward) / max(size - 1, 1)
    weight = reward - others if leave_one_out else reward
    return jnp.mean(weight[:, None] * (jax.nn.one_hot(drawn, ARMS) - probs), axis=0)


def estimate(key: jax.Array) -> jax.Array:
    """Policy gradient with leave-one-out."""
    return scored(key, SIZE, leave_one_out=True)


def student(name: str, truth: float, value: Any, error: Any, draws: int) -> Trial:
    """Repetitions of estimate +- t x standard error."""
    value, error = np.asarray(value, np.float64), np.asarray(error, np.float64)
    half = scipy.stats.t.ppf(0.5 + NOMINAL / 2, draws - 1) * error
    return Trial(name, truth, value - half, value + half)


def repeat(one: Callable[[jax.Array], Any], seed: int, repetitions: int) -> Any:
    """`one(key)` for many keys, a batch of them at a time."""
    many = jax.random.split(jax.random.key(seed), repetitions)
    return jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=100))(many)


def redraws(repetitions: int) -> Iterator[Trial]:
    """Moments of the whole estimator, redrawn; the truth is its closed form."""
    exact = gradients.batch_moments(probabilities(), RIGHT, SIZE, "leave_one_out")
    found = repeat(
        lambda key: gradients.redraw_moments(estimate, key, REDRAWS, SIZE)._replace(mean=()),
        1,
        repetitions,
    )
    for name, error in (
        ("trace_covariance", "trace_standard_error"),
        ("squared_norm", "norm_standard_error"),
        ("snr", "snr_standard_error"),
        ("noise_scale", "noise_scale_standard_error"),
    ):
        truth = float(getattr(exact, name))
        values = getattr(found, name), getattr(found, error)
        yield student(f"redraws: {name}", truth, *values, REDRAWS)


def two_batches(repetitions: int) -> Iterator[Trial]:
    """Noise scale of independent samples from batches of 1 and 16; the truth is closed."""
    exact = gradients.sequence_moments(probabilities(), RIGHT, "exact")
    big = 16

    def one(key: jax.Array) -> gradients.TwoBatchMoments:
        small, large = (partial(scored, size=n, leave_one_out=False) for n in (1, big))
        return gradients.two_batch_moments(small, large, key, 1, big, REDRAWS)

    found = repeat(one, 2, repetitions)
    for name, error in (
        ("trace_covariance", found.trace_standard_error),
        ("squared_norm", found.norm_standard_error),
        ("noise_scale", found.noise_scale_standard_error),
    ):
        truth = float(getattr(exact, name))
        yield student(f"two batches: {name}", truth, getattr(found, name), error, REDRAWS)


def cosines(repetitions: int) -> Iterator[Trial]:
    """Cosine to the right answer's score and the share of zeros; the truth lists every batch."""
    probs = np.asarray(probabilities(), np.float64)
    answers = np.array(np.meshgrid(*[np.arange(ARMS)] * SIZE)).reshape(SIZE, -1).T
    chance = probs[answers].prod(axis=1)
    reward = (answers == 0).astype(float)
    weight = reward - (reward.sum(axis=1, keepdims=True) - reward) / (SIZE - 1)
    estimates = (weight[..., None] * (np.eye(ARMS)[answers] - probs)).mean(axis=1)
    live = np.abs(estimates).max(axis=1) > 1e-12
    score = np.eye(ARMS)[0] - probs
    norms = np.linalg.norm(estimates[live], axis=1) * np.linalg.norm(score)
    mean = float((chance[live] * (estimates[live] @ score) / norms).sum() / chance[live].sum())
    direction = jax.nn.one_hot(0, ARMS) - probabilities()
    found = repeat(
        lambda key: gradients.cosine_moments(estimate, direction, key, REDRAWS), 3, repetitions
    )
    yield student("redraws: cosine", mean, found.mean, found.standard_error, REDRAWS)
    share, error = found.zero_share, found.zero_standard_error
    yield student("redraws: zero share", float(chance[~live].sum()), share, error, REDRAWS)


def sampled(repetitions: int) -> Iterator[Trial]:
    """Bits told by the share of right positions, over sampled guesses; the truth lists them all."""
    logits = 1.5 * jax.random.normal(jax.random.key(7), (4, 4))
    log_probs, answer = jax.nn.log_softmax(logits), jnp.array([0, 1, 2, 3])
    exact = information.sequence_information(log_probs, answer, "fraction")
    found = repeat(
        lambda key: guesses.sampled_information(key, log_probs, answer, "fraction", REDRAWS),
        4,
        repetitions,
    )
    for name in ("expected", "realised"):
        values = getattr(found, name), getattr(found, f"{name}_standard_error")
        yield student(f"sampled: {name}", float(getattr(exact, name)), *values, REDRAWS)


def over_seeds(repetitions: int) -> Iterator[Trial]:
    """Intervals over seeds, on waiting times until the first right answer at a known pass rate.

    Geometric waits have mean 1/p. The median and the IQM are tried on exponential waits, the limit
    at small p, whose quantiles are not ties: -ln(1 - u), of which the IQM averages the middle half.
    """
    rng = np.random.default_rng(5)
    waits = rng.geometric(PASS_RATE, (repetitions, SEEDS)).astype(float)
    # int -ln(1 - u) du = (1 - u) ln(1 - u) - (1 - u)
    below, above = (v * np.log(v) - v for v in (0.75, 0.25))
    truths = {"mean": 1 / PASS_RATE, "median": np.log(2), "iqm": float(2 * (above - below))}
    for statistic, truth in truths.items():
        values = waits if statistic == "mean" else rng.exponential(size=(repetitions, SEEDS))
        found = np.array([simrl.interval(row, NOMINAL, statistic) for row in values])
        yield Trial(f"seeds: {statistic}", float(truth), found[:, 1], found[:, 2])
    successes = np.ones(SEEDS)
    rates = np.array([simrl.pooled_ratio(successes, row, NOMINAL) for row in waits])
    yield Trial("seeds: pooled ratio", PASS_RATE, rates[:, 1], rates[:, 2])


def ratios(repetitions: int) -> Iterator[Trial]:
    """Noise scales averaged over seeds, numerators and denominators apart."""
    exact = gradients.batch_moments(probabilities(), RIGHT, SIZE, "leave_one_out")

    def one(key: jax.Array) -> gradients.Ratio:
        def seed(own: jax.Array) -> tuple[jax.Array, jax.Array]:
            found = gradients.redraw_moments(estimate, own, 16, SIZE)
            return found.noise_numerator, found.noise_denominator

        return gradients.ratio_of_means(*jax.vmap(seed)(jax.random.split(key, 4 * SEEDS)))

    found = repeat(one, 6, repetitions)
    truth = float(exact.noise_scale)
    yield student("seeds: noise scale", truth, found.value, found.standard_error, 4 * SEEDS)


def table(trials: list[Trial]) -> pd.DataFrame:
    """One row per interval: coverage, its own binomial interval, and the verdict."""
    rows = []
    for trial in trials:
        covered = int(((trial.low <= trial.truth) & (trial.truth <= trial.high)).sum())
        total = len(trial.low)
        ends = scipy.stats.binomtest(covered, total).proportion_ci(0.95, method="wilson")
        row = {"interval": trial.name, "truth": trial.truth, "repetitions": total}
        row |= {"predicted": NOMINAL, "coverage": covered / total, "low": ends.low}
        rows.append({**row, "high": ends.high, "verdict": verdict(covered / total, *ends)})
    return pd.DataFrame(rows)


def verdict(coverage: float, low: float, high: float) -> str:
    """Whether the coverage lies where it is asked to; open if there are too few repetitions."""
    if LEAST <= coverage <= MOST:
        return "holds"
    return "open" if low <= MOST and high >= LEAST else "FAILS"


def draw(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Coverage of each interval with the binomial interval of its repetitions."""
    place = np.arange(len(rows))[::-1]
    ax.axvspan(LEAST, MOST, color="0.5", alpha=0.15, lw=0)
    ax.axvline(NOMINAL, color="0.5", lw=0.8)
    spread = np.abs(rows[["low", "high"]].to_numpy().T - rows["coverage"].to_numpy())
    ax.errorbar(rows["coverage"], place, xerr=spread, fmt="o", color=plots.CYCLE[0], lw=0.8)
    ax.set_yticks(place, [name.replace("_", " ") for name in rows["interval"]])
    ax.set_xlabel("coverage of nominal 95 % intervals")
    return ax


CAPTION = """
Coverage of nominal 95 % intervals. (a) Intervals of Monte Carlo figures and over seeds, in settings
of the size that an experiment has, with Wilson intervals of {number} repetitions; grey: accepted,
.93 to .97. (b) Intervals of a phase over the number of seeds that visit it, RLOO with 8 answers an
update looking for one arm out of 100; hollow: too few seeds, which tables mark and of which figures
draw no interval.
"""


def main() -> None:
    """Run the experiment; exit status 1 if an interval does not cover as it says."""
    parser = command.parser("coverage", __doc__ or "", "--repetitions 500")
    parser.add_argument("--repetitions", type=command.positive, help=f"default {REPETITIONS}")
    folder = "results/coverage"
    parser.add_argument("--out", type=Path, help=f"default {folder}, quick {folder}-quick")
    parser.add_argument("--quick", action="store_true", help="few, to see that it works")
    chosen = parser.parse_args()
    out = chosen.out or Path(f"{folder}-quick" if chosen.quick else folder)
    command.refuse_unwritable(out)
    repetitions = chosen.repetitions or (QUICK if chosen.quick else REPETITIONS)
    console = command.console()
    simrl.use_cpu_cores()
    trials: list[Trial] = []
    for part in (redraws, two_batches, cosines, sampled, ratios, over_seeds):
        trials += part(repetitions)
        console.print(f"{part.__name__}: {len(trials)} intervals done", highlight=False)
    thin = coverage_phases.table(repetitions // 2, out)
    rows = table(trials)
    title = "coverage of nominal 95 % intervals: predicted .95, asked .93 to .97"
    tables.show(rows, title, console)
    title = "coverage of the intervals of a phase by its visiting seeds: asked .93 or more; *: "
    title += "too few, and marked in tables"
    tables.show(coverage_phases.by_size(thin), title, console, keys=3)
    simrl.export(rows, out / "table.csv")
    simrl.export(thin, out / "phases.csv")
    with plots.paper():
        figure = Figure(figsize=(plots.TWO_COLUMNS, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw(rows, left)
        coverage_phases.draw(thin, right)
        for ax, letter in ((left, "a"), (right, "b")):
            plots.panel_letter(ax, letter)
    number = f"{int(rows['repetitions'].min()):,}"
    captions.save(figure, out, CAPTION.format(number=number))
    console.print(f"table (csv) and figure (pdf, png): {out}", highlight=False, soft_wrap=True)
    if (rows["verdict"] == "FAILS").any() or (thin["verdict"] == "FAILS").any():
        raise SystemExit(1)


if __name__ == "__main__":
    command.guarded(main)
