"""The figure of the efficiency map: bits, FLOPs, samples and gradient noise of one token.

Learners see one sample per update at a common rate per sample. Points are measured, with 95 %
intervals; lines are closed forms of `efficiency_map_forms`, which hold where wrong answers are
alike, or join points. A point is a ratio of sums over its bin, so where a curve bends within a bin
it lies a little off the line.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from experiments import captions
from experiments import efficiency_map_forms as forms
from experiments.efficiency_map_forms import World
from simrl import plots

NAME = "figure"
ONE_TOKEN, EXACT, TOKEN, NOISY = "one token", "sequence, exact", "sequence, token", "noisy labels"
CLEAN = {ONE_TOKEN: World(1000), EXACT: World(8, 3), TOKEN: World(8, 3, "token")}
COMMON_RATE = 1.0
LABELS, PLAIN, CENTRED, GROUPED = "supervised", "none", "expected_reward", "leave_one_out"
LEARNERS = {
    LABELS: "supervised",
    PLAIN: "REINFORCE, no baseline",
    CENTRED: "REINFORCE, value baseline",
    "batch_mean": "REINFORCE, batch-mean baseline",
    GROUPED: "RLOO",
}
COLOURS = {learner: plots.COLOURS.get(learner, "#009E73") for learner in LEARNERS}
PASS_RATE = "pass rate p"
Look = dict[str, Any]
JOINED: Look = {"marker": "", "linestyle": "-", "linewidth": 0.8}
DOTS: Any = (0, (1, 1.2))
ODDS = np.linspace(-7.3, 4.75, 161)
PLACES = 1 / (1 + np.exp(-ODDS))  # pass rates of the lines
RATIO_MARKS = {1 / 16: ("v", "1/16"), 1 / 4: ("s", "1/4"), 1.0: ("o", "1")}  # of rates


def of(table: pd.DataFrame, **labels: object) -> pd.DataFrame:
    """Returns the rows with these labels."""
    for name, value in labels.items():
        table = table[table[name] == value]
    return table


def sure(table: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of enough seeds for an interval, and pass rates, which say where a bin is."""
    return table[~table["few_seeds"] | (table["quantity"] == "pass_rate")]


def draw(rows: pd.DataFrame, ax: Axes, quantity: str, x: str = "pass_rate", **look: Any) -> None:
    """Draws points of the phases that enough seeds visited, joined by a line if `joined`."""
    rows = sure(rows)
    if not (rows["quantity"] == quantity).any():
        return
    shared: Look = {"by": "learner", "legend": False, "colors": COLOURS}
    if look.pop("joined", False):
        plots.points(rows, ax, x, quantity, **shared, **JOINED)
    plots.points(rows, ax, x, quantity, **{**shared, **look})


def pass_rates(ax: Axes) -> None:
    """Makes x a pass rate that rises to the right, on a log-odds scale."""
    plots.log_odds_axis(ax, PLACES[0], PLACES[-1])
    ax.set_xlabel(PASS_RATE)


def log_values(ax: Axes) -> None:
    """Makes y logarithmic; only powers of ten are labelled."""
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(NullFormatter())


def bits(ax: Axes, table: pd.DataFrame, world: str) -> None:
    """Draws nominal, pointwise and learned bits per trajectory."""
    pass_rates(ax)
    log_values(ax)
    ax.plot(PLACES, forms.label_bits(PLACES), color=COLOURS[LABELS], linewidth=0.9)
    alike = CLEAN[world].reward == "exact"  # so wrong answers stay under these rewards
    if alike:
        ax.plot(PLACES, forms.reward_bits(PLACES), color="black", linewidth=0.9)
        tell = forms.pointwise_reward_bits(PLACES, CLEAN[world])
        ax.plot(PLACES, tell, color=COLOURS[PLAIN], linestyle=DOTS, linewidth=0.9)
    rows = of(table, world=world, rate=COMMON_RATE)
    for learner in (LABELS, PLAIN):
        look: Look = {"marker": "D", "filled": False, "markersize": 2.4}
        joined = not alike and learner == PLAIN
        draw(of(rows, learner=learner), ax, "realised_per_trajectory", joined=joined, **look)
    for learner in (LABELS, PLAIN, CENTRED):
        own = of(rows, learner=learner)
        draw(own, ax, "absorbed_per_trajectory", joined=True, marker="^", markersize=3.2)
    ax.set_ylabel("bits per trajectory")


def per_flop(ax: Axes, table: pd.DataFrame, world: str) -> None:
    """Draws learned bits per FLOP by both conventions."""
    pass_rates(ax)
    log_values(ax)
    rows = of(table, world=world, rate=COMMON_RATE)
    for quantity, filled in (("absorbed_per_flop", True), ("absorbed_per_flop_counted", False)):
        for learner in (LABELS, PLAIN, CENTRED):
            own = of(rows, learner=learner)
            draw(own, ax, quantity, joined=True, marker="o", markersize=2.8, filled=filled)
    ax.set_ylabel("learned bits per FLOP")


def ratios(table: pd.DataFrame, learner: str, world: str, rate: float) -> pd.DataFrame:
    """Returns learned bits per FLOP of labels over a learner's: pass_rate, mean, low, high.

    At the learner's mean pass rate of a bin; intervals as if the two were independent.
    """
    rows = of(table, world=world, rate=rate)
    rows = sure(rows)
    names = ["mean", "low", "high"]
    top, bottom, place = (
        of(rows, learner=who, quantity=quantity).set_index("phase")[names]
        for who, quantity in (
            (LABELS, "absorbed_per_flop"),
            (learner, "absorbed_per_flop"),
            (learner, "pass_rate"),
        )
    )
    mean = (top["mean"] / bottom["mean"]).dropna()
    parts = [(side["high"] - side["low"]) / 2 / side["mean"] for side in (top, bottom)]
    half = mean * np.hypot(*(part.reindex(mean.index) for part in parts))
    at = place["mean"].reindex(mean.index)
    return pd.DataFrame({"pass_rate": at, "mean": mean, "low": mean - half, "high": mean + half})


def bars(ax: Axes, rows: pd.DataFrame, x: str, colour: str, **look: Any) -> None:
    """Draws points of the columns mean, low and high with their intervals."""
    shown = {"color": colour, "linestyle": "none", "markersize": 3.2, "markerfacecolor": "white"}
    ax.plot(rows[x], rows["mean"], **{**shown, **look})
    ax.vlines(rows[x], rows["low"], rows["high"], color=colour, linewidth=0.8)


def ratio(ax: Axes, table: pd.DataFrame, world: str) -> None:
    """Draws learned bits per FLOP of labels over those of rewards, at several common rates."""
    pass_rates(ax)
    log_values(ax)
    if CLEAN[world].reward == "exact":
        ax.plot(PLACES, forms.FLOPS_RATIO / PLACES, color="black", linewidth=0.8)
    for rate, (marker, _) in RATIO_MARKS.items():
        rows = ratios(table, PLAIN, world, rate)
        bars(ax, rows, "pass_rate", COLOURS[PLAIN], marker=marker)
    rows = ratios(table, CENTRED, world, COMMON_RATE)
    colour = COLOURS[CENTRED]
    bars(ax, rows, "pass_rate", colour, marker="o", markerfacecolor=colour, markersize=2.4)
    ax.axhline(1, color="0.6", linewidth=0.6, zorder=0.5)
    ax.set_ylabel("supervised / REINFORCE")


def sample_ratios(hits: pd.DataFrame) -> pd.DataFrame:
    """Returns the samples to p = .9 of rewards over those of labels, by rate and learner."""
    rows = of(hits, world=ONE_TOKEN, pass_rate=0.9)
    rows = rows[rows["num_reached"] == rows["num_seeds"]]
    labelled = of(rows, learner=LABELS).set_index("rate")["trajectories_mean"]
    rows = rows[rows["learner"] != LABELS]
    base = rows["rate"].map(labelled)
    ends = {end: rows[f"trajectories_{end}"] / base for end in ("mean", "low", "high")}
    return rows[["learner", "rate"]].assign(**ends)


def samples(ax: Axes, hits: pd.DataFrame) -> None:
    """Draws the ratio of samples to p = .9 over the common rate."""
    ax.set(xscale="log", yscale="log")
    rates = np.geomspace(1 / 20, 20, 300)
    line = [forms.sample_ratio(rate, CLEAN[ONE_TOKEN].num_symbols, 0.9) for rate in rates]
    ax.plot(rates, line, color="black", linewidth=0.8)
    for learner, rows in sample_ratios(hits).groupby("learner"):
        colour = COLOURS[str(learner)]
        look: Look = {} if learner == PLAIN else {"markerfacecolor": colour, "markersize": 2.4}
        bars(ax, rows, "rate", colour, marker="o", **look)
    ax.set(xlabel="learning rate (nat/sample)", ylabel="REINFORCE / supervised")
    ax.set_ylim(40, 1500)
    numbers(ax.xaxis, {1 / 16: "1/16", 1 / 4: "1/4", 1: "1", 4: "4", 16: "16"})
    numbers(ax.yaxis, {50: "50", 100: "100", 200: "200", 500: "500", 1000: "1,000"})


def numbers(axis: Any, ticks: dict[float, str]) -> None:
    """Puts these ticks, and no others, on an axis."""
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FuncFormatter(lambda tick, _: ticks.get(tick, "")))
    axis.set_minor_locator(NullLocator())


def noise(ax: Axes, table: pd.DataFrame, world: str, lines: bool = True) -> None:
    """Draws the noise scale; where labels are clean a supervised gradient has none."""
    pass_rates(ax)
    log_values(ax)
    for learner in (PLAIN, CENTRED):
        own = of(table, world=world, learner=learner, rate=COMMON_RATE)
        if lines:
            values = forms.noise_scale(PLACES, CLEAN[world].num_symbols, learner == CENTRED)
            ax.plot(PLACES, values, color=COLOURS[learner], linewidth=0.8)
        look: Look = {"marker": "o", "markersize": 3.0, "filled": learner == CENTRED}
        draw(own, ax, "noise_scale", joined=not lines, **look)
    ax.set_ylabel("noise scale (trajectories)")


def figure(table: pd.DataFrame, hits: pd.DataFrame) -> Figure:
    """Draws the paper's figure, two columns wide, from the phase and the hitting table."""
    with plots.paper():
        made = Figure(figsize=(plots.TWO_COLUMNS, 5.4), layout="constrained")
        grid = made.add_gridspec(2, 1, height_ratios=(6, 5))
        upper, lower = grid[0].subgridspec(1, 2), grid[1].subgridspec(1, 3)
        axes = [made.add_subplot(row[0, i]) for row in (upper, lower) for i in range(row.ncols)]
        bits(axes[0], table, ONE_TOKEN)
        per_flop(axes[1], table, ONE_TOKEN)
        ratio(axes[2], table, ONE_TOKEN)
        samples(axes[3], hits)
        noise(axes[4], table, ONE_TOKEN)
        axes[0].text(0.004, 11, "−log₂ p", color=COLOURS[LABELS], fontsize=7)
        axes[0].text(0.9, 0.75, "h(p)", fontsize=7)
        axes[2].text(0.02, 130, "(8/6)/p", fontsize=7)
        titles = (
            "Information of a sample",
            "Learned bits per FLOP",
            "The ratio of learned bits/FLOP",
            "The ratio of samples to p = .9",
            "Gradient noise",
        )
        for ax, letter, title in zip(axes, "abcde", titles, strict=True):
            plots.panel_letter(ax, letter, title)
        made.legend(handles=handles(), ncols=4, loc="outside upper left", alignment="left")
    return made


def handles() -> list[Line2D]:
    """Returns the entries of the legend: methods, measures of information, marks."""
    entries = methods(LABELS, PLAIN, CENTRED)
    entries += [line("nominal bits"), mark("D", "pointwise information", pale=True)]
    entries += [mark("^", "learned bits"), mark("o", "b: 2N/4N convention")]
    entries += [mark("o", "b: counted operations", pale=True), line("c, d, e: closed forms")]
    for marker, rate in RATIO_MARKS.values():
        entries.append(mark(marker, f"c: {rate} nat/sample", pale=True))
    return entries


def methods(*learners: str) -> list[Line2D]:
    """Returns legend entries of the colours of learners."""
    look: Look = {"linewidth": 2.5}
    return [Line2D([], [], color=COLOURS[name], label=LEARNERS[name], **look) for name in learners]


def mark(marker: str, label: str, pale: bool = False, colour: str = "black") -> Line2D:
    """Returns a legend entry of a marker, open if `pale`."""
    look: Look = {"markerfacecolor": "white" if pale else colour, "linestyle": "none"}
    return Line2D([], [], marker=marker, color=colour, label=label, markersize=3.2, **look)


def line(label: str, **look: Any) -> Line2D:
    """Returns a legend entry of a line."""
    return Line2D([], [], label=label, **{"color": "black", "linewidth": 0.9, **look})


MEANING = """
Bits of a sample are per trajectory, a whole answer, for supervised and reinforcement learning
alike. Nominal bits: -log2 p of a label, the binary entropy h(p) of a right/wrong reward (Patel
2025). Pointwise information: the log ratio of posterior and prior probability of the actual correct
answer, for a Bayesian whose belief is the policy; for a label it equals the nominal bits. Learned
bits: the gain in log2 probability of the correct answer by the update, per sample. Noise scale: tr
Cov of the gradient of one trajectory over its squared mean. The value baseline is the exact pass
rate. Points are ratios of sums over seeds within a bin of the pass rate, bars 95 % intervals,
mostly smaller than the marker; bins that fewer than 200 seeds visited (noise scale: 1,000) are left
out. Lines
without a closed form join points.
"""
CAPTION = """
One token of 1,000 answers, right/wrong rewards, one sample per update for every learner, at a
common learning rate of 1 nat per sample. (a) Bits of a sample; the nominal curves cross at p = 1/2,
pointwise information never does. (b) Learned bits per FLOP, by the 2N/4N convention and as counted
from the programs. (c) Their ratio by the 2N/4N convention, at three common rates (value baseline:
filled, 1 nat). REINFORCE without a baseline makes the step of a label, on successes alone: (8/6)/p.
With a baseline failures move the policy too, which helps around p = 1/2 and costs late. (d) The
ratio of samples to p = .9 depends on the common rate; the line jumps where one update fewer is
enough. (e) Noise scale; of a supervised gradient it is 0, since labels are clean.
"""


def caption(table: pd.DataFrame, hits: pd.DataFrame) -> str:
    """Returns the whole caption, with the number of seeds and the samples each method takes."""
    rows = of(hits, world=ONE_TOKEN, pass_rate=0.9, rate=COMMON_RATE)
    samples = []
    for row in rows.itertuples():
        late = f" ({row.num_censored:,} seeds never reach it)" if row.num_censored else ""
        samples.append(f"{LEARNERS[str(row.learner)]} {row.trajectories_mean:,.0f}{late}")
    means = f"Mean samples to p = .9 at 1 nat: {'; '.join(samples)}."
    return f"{CAPTION} {means} {int(table['num_seeds'].max()):,} seeds. {MEANING}"


def write(results: dict[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Draws the figure and saves it with its caption in the folder."""
    table, hits = results["table"], results["hitting"]
    return captions.save(figure(table, hits), folder, caption(table, hits), NAME)


def is_drawn(folder: Path, names: Iterable[str]) -> bool:
    """Returns whether these figures are in the folder, drawn by the sources as they are now."""
    rooms = Path(__file__).parent, Path(plots.__file__).parent
    newest = max(file.stat().st_mtime for room in rooms for file in room.glob("*.py"))
    pictures = [folder / f"{name}.png" for name in names]
    return all(picture.exists() and picture.stat().st_mtime > newest for picture in pictures)
