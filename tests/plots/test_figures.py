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
)
from experiments import efficiency_map_figure as main_figure
from experiments import efficiency_map_worlds as worlds
from experiments.efficiency_map_forms import ADVANTAGES, GROUP, World, closed_forms
from experiments.search_runs import PASS_RATES, SEARCHERS, SIZES, Guesses
from simrl import plots
from tests.plots.tables import phases


def everything(num_seeds=64, **values):
    return pd.concat(
        phases(world, learner, rate, num_seeds, **values)
        for world in (*main_figure.CLEAN, main_figure.NOISY)
        for learner in main_figure.LEARNERS
        for rate in (0.5, 1.0)
    )


def best(table):
    return table[table["rate"] == 1.0]


def compared():
    """Rows of every method of `difficulty`, with all verdicts, and one that no seed ends."""
    verdicts = itertools.cycle(remedies.MARKERS)
    rows = []
    for remedy in difficulty.listed():
        ratio = np.nan if remedy.name == "self-play (duels)" else 0.03 + len(rows)
        row = {"task": remedy.task, "remedy": remedy.name, "seeds": 1024}
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
    groups = [
        {"method": method, "p": p, "c": 1.0, "c_error": 0.1, "num_seeds": 10_000}
        for method in search_figure.DRAWN
        for p in PASS_RATES
    ]
    return search_figure.figure(found, pd.DataFrame(groups))


def committed():
    rows = itertools.product(committal.STEPS, committal.BASELINES)
    table = pd.DataFrame(rows, columns=["update", "baseline"])
    return committal.figure(table.assign(num_seeds=10_000, wrong=[0, 5] * 5))


def plateaued():
    step = np.geomspace(1, 2000, 8)
    made = {"step": step, "best": 0.5, "best_by_hand": 0.5, "lost": 0.5, "lost_by_hand": 0.5}
    parts = [pd.DataFrame({"start": start, **made}) for start in plateaus.STARTS]
    return plateaus.figure(pd.concat(parts))


def bandits():
    rows = itertools.product(testbed.MEANS, testbed.BASELINES, testbed.RATES, (1, 1000))
    table = pd.DataFrame(rows, columns=["arms", "advantage", "learning_rate", "choice"])
    made = {"quantity": "pass_rate", "units": "1", "mean": 0.5, "low": 0.4, "high": 0.6}
    return testbed.figure(table.assign(num_seeds=2000, **made))


FIGURES = {
    "efficiency map": lambda: main_figure.figure(best(everything()), everything()),
    "other worlds": lambda: worlds.supplement(best(everything()), everything()),
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
    assert [text.get_text() for ax in made.axes for text in ax.texts].count("no seed arrives") == 6


def test_worlds_share_their_axes():
    made = drawn("other worlds")
    for above, below in zip(made.axes[:3], made.axes[3:6], strict=True):
        assert above.get_xlim() == below.get_xlim()
        assert above.get_ylim() == below.get_ylim()


def test_a_method_has_one_colour_in_all_panels():
    made = drawn("efficiency map")
    marked = [line for ax in made.axes for line in ax.lines if len(line.get_xdata()) == 4]
    known = {plots.COLOURS[learner] for learner in main_figure.LEARNERS}
    assert {line.get_color() for line in marked} == known
    noise = [line.get_color() for line in made.axes[2].lines if line.get_marker() != "None"]
    assert noise == [plots.COLOURS[advantage] for advantage in ADVANTAGES]


def test_the_points_of_every_bin_are_within_the_panels():
    rates = {"pass_rate": [1e-4, 0.04, 0.2, 0.6, 0.9995], "excess_loss": [20.0, 1, 0.1, 0.1, 1e-5]}
    made = main_figure.figure(best(everything(**rates)), everything(**rates))
    for ax in made.axes[1:]:
        ends = sorted(ax.get_xlim())
        for line in ax.lines:
            x = np.asarray(line.get_xdata(), float)
            assert np.all((x >= ends[0]) & (x <= ends[1])) or len(x) == 2  # the start's line


def test_a_figure_is_saved_with_its_caption(tmp_path):
    hits = pd.DataFrame(
        [["one token", learner, 1.0, 0.9, 1234.5, 3] for learner in main_figure.LEARNERS],
        columns=["world", "learner", "rate", "pass_rate", "samples_mean", "num_censored"],
    )
    made = drawn("efficiency map")
    assert made.get_size_inches()[0] == plots.TWO_COLUMNS
    engine = made.get_layout_engine()
    paths = captions.save(made, tmp_path / "new", main_figure.caption(hits))
    assert [path.name for path in paths] == ["figure.pdf", "figure.png", "figure.txt"]
    assert all(path.stat().st_size > 10_000 for path in paths[:2])
    assert "RLOO 1,234 (3 seeds never reach it)" in " ".join(paths[2].read_text("utf-8").split())
    assert made.get_layout_engine() is engine  # what is drawn on it later is laid out again
    assert b"/Type3" not in (tmp_path / "new" / "figure.pdf").read_bytes()


def test_the_supplement_draws_means_below_zero():
    table = best(everything(absorbed=[1.0, 0.1, 0.01, 1.0, -1e-3]))
    noisy = worlds.supplement(table, everything()).axes[6]
    assert min(min(drawn.get_ydata(), default=0.0) for drawn in noisy.lines) < 0


def test_closed_forms_meet_known_values():
    forms = closed_forms(World(1000, 1, "exact"))
    p = forms.pass_rates
    np.testing.assert_allclose(forms.noise["none"], (1 - p) / p, rtol=1e-4)
    np.testing.assert_allclose(forms.noise["batch_mean"], forms.noise["leave_one_out"], rtol=1e-4)
    bits = forms.bits
    np.testing.assert_allclose(
        bits["supervised", "realised"], bits["supervised", "nominal"], rtol=1e-5
    )
    assert np.all(bits["supervised", "expected"] > bits["leave_one_out", "expected"])
    assert np.all(bits["supervised", "realised"] > bits["leave_one_out", "realised"])


def test_the_figure_is_of_the_worlds_that_were_run():
    worlds_run = {name: world["environment"] for name, world in efficiency_map.WORLDS.items()}
    noisy = worlds_run.pop(main_figure.NOISY)
    assert (noisy["vocab_size"], noisy["length"]) == (main_figure.NOISY_SYMBOLS, 1)
    told = {
        name: World(
            run.get("num_arms", run.get("vocab_size")),
            run.get("length", 1),
            run.get("reward", "exact"),
        )
        for name, run in worlds_run.items()
    }
    assert told == main_figure.CLEAN
    assert set(main_figure.LEARNERS) == set(efficiency_map.LEARNERS) == {"supervised", *ADVANTAGES}
    assert efficiency_map.GROUP == GROUP
