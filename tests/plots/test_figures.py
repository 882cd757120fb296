"""The figures of the experiments: every panel is drawn, labelled and free of overlaps."""

import functools
import itertools
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from matplotlib.figure import Figure

from experiments import (
    captions,
    committal,
    difficulty,
    efficiency_map,
    plateaus,
    remedies,
    search_figure,
    testbed,
    testbed_check,
)
from experiments import efficiency_map_batches as batches
from experiments import efficiency_map_claims as claims
from experiments import efficiency_map_figure as main_figure
from experiments import efficiency_map_worlds as worlds
from experiments.efficiency_map_forms import World
from experiments.search_runs import METHODS, PASS_RATES, SEARCHERS, SIZES, Guesses
from simrl import plots
from tests.plots.tables import phases


def everything(num_seeds=256, **values):
    """A phase table of all worlds, each with its learners."""
    table = pd.concat(
        phases(world, learner, rate, num_seeds, **values)
        for world in efficiency_map.WORLDS
        for learner in efficiency_map.learners(world)
        for rate in (1 / 16, 1.0)
    )
    return table.assign(few_seeds=num_seeds < 200)


def arrivals(num_censored=0):
    """A hitting table of one token at two rates."""
    rows = itertools.product(efficiency_map.LEARNERS, (1.0, 16.0))
    table = pd.DataFrame(rows, columns=["learner", "rate"]).assign(world="one token", pass_rate=0.9)
    table = table.assign(num_seeds=256, num_reached=256 - num_censored, num_censored=num_censored)
    mean = np.where(table["learner"] == "supervised", 10.0, 1234.5)
    ends = {"mean": mean, "low": 0.9 * mean, "high": 1.1 * mean}
    return table.assign(**{f"trajectories_{end}": value for end, value in ends.items()})


def updated():
    """A phase table of single updates, as the map runs them."""
    rows = [
        {**labels, "quantity": quantity, "mean": mean, "low": 0.9 * mean, "high": 1.1 * mean}
        for labels in efficiency_map.batch_conditions()
        for quantity, mean in (
            ("absorbed_per_flop", 4e-5 if labels["learner"] == "supervised" else 1e-5),
            ("samples_per_flop_counted", 1e-4 * labels["batch"]),
            ("realised", 0.5),
            ("realised_joint", 0.4),
        )
    ]
    return pd.DataFrame(rows).assign(num_seeds=256, few_seeds=False)


def chosen(table):
    """The table with one rate of each learner."""
    return table[table["rate"] == 1.0]


def compared():
    """Rows of every method of `difficulty`, with all verdicts, and one that no seed ends."""
    verdicts = itertools.cycle(remedies.MARKERS)
    rows = []
    for remedy in difficulty.listed():
        ratio = np.nan if remedy.name == "self-play (duels)" else 0.03 + len(rows)
        row = {"task": remedy.task, "remedy": remedy.name, "seeds": 1024, "missing": 0}
        for cost in remedies.COSTS:
            row |= {f"{cost}_ratio": ratio, f"{cost}_ratio_low": ratio * 0.9}
            row |= {f"{cost}_ratio_high": ratio * 1.1, f"{cost}_verdict": next(verdicts)}
        rows.append(row)
    return pd.DataFrame(rows)


def searched():
    found = {
        (name, size): Guesses(np.array([size - 1.0, size + 1.0]), float(size))
        for name in SEARCHERS
        for size in SIZES
    }
    groups = pd.DataFrame(itertools.product(METHODS, PASS_RATES), columns=["method", "p"])
    made = {"c": 1.0, "c_error": 0.1, "c_predicted": 1.1, "num_seeds": 10_000}
    made |= {"dead": 0.5, "dead_error": 0.01, "dead_predicted": 0.51}
    return search_figure.figure(found, groups.assign(**made))


def committed():
    table = pd.DataFrame(committal.CONDITIONS, columns=["update", "baseline"])
    counts = {"num_seeds": 10_000, "wrong": np.resize([0, 50], len(table))}
    counts |= {"checked": 2000, "checked_wrong": np.resize([0, 10], len(table))}
    table = table.assign(**counts)
    return committal.figure(table, committal.judged(table))


def plateaued():
    step = np.geomspace(1, 2000, 8)
    made = {"step": step, "best": 0.5, "best_by_hand": 0.5, "lost": 0.5, "lost_by_hand": 0.5}
    parts = [pd.DataFrame({"start": start, **made}) for start in plateaus.STARTS]
    return plateaus.figure(pd.concat(parts))


def bandits():
    rows = itertools.product(testbed.MEANS, testbed.BASELINES, testbed.RATES, (1, 1000))
    table = pd.DataFrame(rows, columns=["arms", "advantage", "learning_rate", "choice"])
    made = {"quantity": "pass_rate", "units": "1", "mean": 0.5, "low": 0.4, "high": 0.6}
    other = testbed_check.Pulled(np.arange(50) % 2, np.full(50, 0.5))
    others = dict.fromkeys(itertools.product(testbed.BASELINES, testbed.RATES), other)
    return testbed.figure(table.assign(num_seeds=2000, **made), others)


FIGURES = {
    "efficiency map": lambda: main_figure.figure(everything(), arrivals()),
    "batch sizes": lambda: batches.figure(updated()),
    "other worlds": lambda: worlds.figure(chosen(everything())),
    "difficulty": lambda: remedies.figure(compared()),
    "search": searched,
    "committal": committed,
    "plateaus": plateaued,
    "testbed": bandits,
}
# Private words; the field has others for what they mean.
PRIVATE = ("absorbed", "band", "dead", "dearer", "expected", "floor", "guess", "guesses", "law")
PRIVATE += ("phase", "phases", "realised", "redrawn", "told", "truth", "by hand")


@functools.cache
def drawn(name):
    """A bundled figure of a table by hand, laid out."""
    with plots.paper():
        made = FIGURES[name]()
        made.draw_without_rendering()
    return made


@pytest.fixture(params=FIGURES)
def figure(request):
    return drawn(request.param)


def texts_of(made):
    """What is written outside the axes' ticks, which matplotlib thins out itself."""
    ticks = {tick for ax in made.axes for tick in (*ax.get_xticklabels(), *ax.get_yticklabels())}
    texts = made.findobj(matplotlib.text.Text)
    return [text for text in texts if text not in ticks and text.get_text().strip()]


def test_nothing_is_cut_off(figure):
    for text in texts_of(figure):
        box = text.get_window_extent()
        place = f"{text.get_text()!r} at {box}"
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, place
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, place


def test_no_text_lies_upon_another(figure):
    # The two parts of a caption or a legend touch; what overlaps by a point or more is read badly.
    boxes = [(text.get_text(), text.get_window_extent().padded(-1)) for text in texts_of(figure)]
    pairs = itertools.combinations([(name, box) for name, box in boxes if box.width > 0], 2)
    assert [(a, b) for (a, one), (b, other) in pairs if one.overlaps(other)] == []


def test_the_words_are_the_fields(figure):
    words = " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))
    words = " ".join(words.lower().replace("\n", " ").split())
    assert [word for word in PRIVATE if re.search(rf"\b{word}\b", words)] == []


def test_the_note_below_has_two_lines_at_most(figure):
    assert figure.get_supxlabel().count("\n") <= 1


def test_a_note_of_three_lines_is_refused():
    with pytest.raises(ValueError, match="two lines"):
        captions.note(Figure(), "word " * 100)


def test_costs_share_an_axis():
    made = drawn("difficulty")
    assert len({ax.get_xlim() for ax in made.axes}) == 1
    low, high = made.axes[0].get_xlim()
    rows = compared()
    ratios = rows.loc[rows["remedy"] != remedies.PLAIN, "samples_ratio"].dropna()
    assert low < ratios.min() < ratios.max() < high
    assert [text.get_text() for ax in made.axes for text in ax.texts].count("not known") == 9


def test_a_method_has_one_colour_in_all_panels():
    made = drawn("efficiency map")
    marked = [line for ax in made.axes for line in ax.lines if line.get_marker() != "None"]
    known = {main_figure.COLOURS[learner] for learner in efficiency_map.LEARNERS}
    assert {line.get_color() for line in marked} == known
    assert len(set(main_figure.COLOURS.values())) == len(main_figure.LEARNERS)


def bars_of(ax):
    """How many intervals are drawn."""
    return sum(len(bars.get_paths()) for bars in ax.collections)


@pytest.mark.parametrize("name", ["efficiency map", "batch sizes", "other worlds"])
def test_every_panel_has_a_letter_of_its_own_and_error_bars(name):
    made = drawn(name)
    letters = [[t.get_text() for t in ax.texts if t.get_fontweight() == "bold"] for ax in made.axes]
    assert letters == [[letter] for letter in "abcdefghi"[: len(made.axes)]]
    counted = made.axes[1] if name == "batch sizes" else None  # FLOPs of a program, no estimate
    assert all(bars_of(ax) for ax in made.axes if ax is not counted)


@pytest.mark.parametrize("name", ["efficiency map", "other worlds"])
def test_pass_rates_rise_to_the_right_and_training_goes_there(name):
    made = drawn(name)
    for ax in made.axes:
        low, high = ax.get_xlim()
        assert (low > high) == ("excess loss" in ax.get_xlabel())


def test_the_points_of_every_bin_are_within_the_panels():
    rates = {"pass_rate": [1e-3, 0.04, 0.2, 0.6, 0.985], "excess_loss": [10.0, 1, 0.1, 0.1, 1e-5]}
    table = everything(**rates)
    for ax in (*main_figure.figure(table, arrivals()).axes, *worlds.figure(chosen(table)).axes):
        ends = sorted(ax.get_xlim())
        for line in ax.lines:
            x = np.asarray(line.get_xdata(), float)
            assert np.all((x >= ends[0]) & (x <= ends[1])) or len(x) == 2  # the start's line


def test_bins_that_few_seeds_visited_are_not_drawn():
    made = main_figure.figure(everything(num_seeds=100), arrivals())
    assert [bars_of(ax) for i, ax in enumerate(made.axes) if i != 3] == [0] * 4
    assert all(bars_of(ax) for ax in drawn("efficiency map").axes)


def test_the_ratio_of_learned_bits_is_that_of_the_table():
    table = everything()
    rows = table["learner"].eq("none") & table["quantity"].eq("absorbed_per_flop")
    table.loc[rows, ["mean", "low", "high"]] /= 4
    ratios = main_figure.ratios(table, "none", "one token", 1.0)
    np.testing.assert_allclose(ratios["mean"], 4)
    half = np.hypot(0.15, 0.15)  # of intervals from .9 to 1.2
    np.testing.assert_allclose((ratios["high"] - ratios["low"]) / 8, half)


def test_samples_are_compared_where_all_seeds_arrive():
    shares = main_figure.sample_ratios(arrivals())
    np.testing.assert_allclose(shares["mean"], 123.45)
    assert set(shares["learner"]) == {"none", "expected_reward"}
    assert main_figure.sample_ratios(arrivals(num_censored=1)).empty


def test_batches_are_compared_with_equal_ones():
    table = updated()
    labelled = table["learner"].eq("supervised") & table["quantity"].eq("absorbed_per_flop")
    table.loc[labelled, "mean"] /= table["batch"]
    equal = batches.ratios(table, "none", 1.0)
    np.testing.assert_allclose(equal["mean"], 4 / equal["batch"])
    fixed = batches.ratios(table, "leave_one_out", 1.0, fixed=1)
    np.testing.assert_allclose(fixed["mean"], 4)


def test_a_figure_is_saved_with_its_caption(tmp_path):
    made = drawn("efficiency map")
    assert made.get_size_inches()[0] == plots.TWO_COLUMNS
    engine = made.get_layout_engine()
    paths = captions.save(made, tmp_path / "new", main_figure.caption(everything(), arrivals(3)))
    assert [path.name for path in paths] == ["figure.pdf", "figure.png", "figure.txt"]
    assert all(path.stat().st_size > 10_000 for path in paths[:2])
    assert "value baseline 1,234 (3 seeds never reach it)" in " ".join(
        paths[2].read_text("utf-8").split()
    )
    assert made.get_layout_engine() is engine  # what is drawn on it later is laid out again
    assert b"/Type3" not in (tmp_path / "new" / "figure.pdf").read_bytes()


def test_the_worlds_draw_means_below_zero():
    table = chosen(everything(absorbed_per_trajectory=[1.0, 0.1, 0.01, 1.0, -1e-3]))
    noisy = worlds.figure(table).axes[6]
    assert min(min(drawn.get_ydata(), default=0.0) for drawn in noisy.lines) < 0


def test_the_figure_is_of_the_worlds_that_were_run():
    worlds_run = {name: world["environment"] for name, world in efficiency_map.WORLDS.items()}
    noisy = worlds_run.pop(main_figure.NOISY)
    assert (noisy["vocab_size"], noisy["length"]) == (worlds.NOISY_SYMBOLS, 1)
    told = {
        name: World(
            run.get("num_arms", run.get("vocab_size")),
            run.get("length", 1),
            run.get("reward", "exact"),
        )
        for name, run in worlds_run.items()
    }
    assert told == main_figure.CLEAN
    assert claims.NUM_SYMBOLS == batches.NUM_SYMBOLS == told[main_figure.ONE_TOKEN].num_symbols
    learners = {*efficiency_map.LEARNERS, *efficiency_map.NOISY_LEARNERS}
    assert set(main_figure.LEARNERS) == learners | set(efficiency_map.BATCH_LEARNERS)
    assert set(main_figure.RATIO_MARKS) <= set(efficiency_map.RATES)
    labels = {"start": claims.THIRD, "batch": claims.BATCH, "learner": "none"}
    for rate in (claims.SMALL_RATE, claims.COMMON_RATE):
        assert {**labels, "rate": rate} in efficiency_map.batch_conditions()
