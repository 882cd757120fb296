"""Pictures hold the table's numbers, say what they are, and draw nothing that was not measured."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from matplotlib.figure import Figure

import simrl
from experiments import efficiency_map
from experiments import efficiency_map_figure as main_figure
from experiments import efficiency_map_worlds as worlds
from experiments.efficiency_map_forms import ADVANTAGES, GROUP, World, closed_forms
from simrl import plots

UNITS = {"pass_rate": "1", "excess_loss": "bit", "noise_scale": "trajectories"}
UNITS |= dict.fromkeys(("nominal", "expected", "realised", "realised_joint"), "bit/sample")
UNITS |= dict.fromkeys(("absorbed", "absorbed_label"), "bit/sample")
UNITS |= dict.fromkeys(("absorbed_per_flop", "absorbed_per_flop_counted"), "bit/FLOP")
EDGES = np.linspace(-6.0, 4.0, 6)
HELD = {"pass_rate": [0.005, 0.04, 0.2, 0.6, 0.95], "excess_loss": [1.0, 0.3, 0.1, 0.01, 0.001]}


def phases(world="one token", learner="none", rate=1.0, num_seeds=64, missing=3, **values):
    """A phase table of five phases, of which one was not reached."""
    rows = []
    for quantity, units in UNITS.items():
        for i in range(5):
            mean = values.get(quantity, HELD.get(quantity, [0.1, 0.2, 0.3, 0.4, 0.5]))[i]
            mean, seeds = (np.nan, 0) if i == missing else (mean, num_seeds)
            place = [world, learner, rate, i, EDGES[i], EDGES[i + 1]]
            rows.append([*place, quantity, units, mean, 0.9 * mean, 1.2 * mean, seeds])
    names = ["world", "learner", "rate", "phase", "phase_low", "phase_high", "quantity", "units"]
    return pd.DataFrame(rows, columns=[*names, "mean", "low", "high", "num_seeds"])


def curves(*rates):
    """A curve table of the pass rate, one curve per learning rate."""
    step = np.arange(4)
    parts = [
        pd.DataFrame(
            {"learning_rate": rate, "step": step, "samples": 8.0 * step, "quantity": "pass_rate"}
        ).assign(units="1", mean=rate * step, low=rate * step - 0.1, high=rate * step + 0.2)
        for rate in rates
    ]
    return pd.concat(parts).assign(num_seeds=1024)


def everything(num_seeds=64, **values):
    return pd.concat(
        phases(world, learner, rate, num_seeds, **values)
        for world in (*main_figure.CLEAN, main_figure.NOISY)
        for learner in main_figure.LEARNERS
        for rate in (0.5, 1.0)
    )


HITS = pd.DataFrame(
    [["one token", learner, 1.0, 0.9, 1234.5, 3] for learner in main_figure.LEARNERS],
    columns=["world", "learner", "rate", "pass_rate", "samples_mean", "num_censored"],
)


@pytest.fixture
def ax():
    return Figure().subplots()


def bars_of(ax):
    """(x, low, high) of every vertical bar."""
    segments = [s for lines in ax.collections for s in lines.get_segments()]
    return [(s[0, 0], s[0, 1], s[1, 1]) for s in segments]


def title_of(ax):
    return ax.get_legend().get_title().get_text()


def test_lines_are_the_table(ax):
    table = curves(0.5, 0.25)
    assert plots.line(table, ax, x="samples", by="learning_rate") is ax
    for drawn, rate in zip(ax.lines, (0.5, 0.25), strict=True):
        part = table[table["learning_rate"] == rate]
        np.testing.assert_array_equal(drawn.get_xdata(), part["samples"])
        np.testing.assert_array_equal(drawn.get_ydata(), part["mean"])
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert {0.5 * 3 - 0.1, 0.5 * 3 + 0.2} <= set(heights)


def test_lines_are_labelled(ax):
    plots.line(curves(0.5, 0.25), ax, by="learning_rate")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("samples", "pass rate")
    assert title_of(ax) == "learning rate\nband: 95 % interval over n = 1,024 seeds"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0.5", "0.25"]


@pytest.mark.parametrize("num", [4, 5])
def test_a_long_legend_stands_above_the_panel_and_nothing_is_cut_off(num, tmp_path):
    with plots.paper():
        figure = plt.figure()
        ax = plots.line(curves(*(0.5**k for k in range(num))), figure.gca(), by="learning_rate")
        plots.save(figure, tmp_path / "rates")
        figure.draw_without_rendering()
    plt.close(figure)
    legend, panel = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert (legend.y0 >= panel.y1) == (num > 4)
    whole, parts = figure.bbox, [legend, ax.xaxis.label.get_window_extent()]
    for part in [*parts, ax.yaxis.label.get_window_extent()]:
        assert whole.x0 <= part.x0 <= part.x1 <= whole.x1
        assert whole.y0 <= part.y0 <= part.y1 <= whole.y1


def test_one_line_needs_no_by(ax):
    plots.line(curves(0.5), ax, x="step", confidence=0.9)
    assert ax.get_xlabel() == "updates"
    assert title_of(ax) == "band: 90 % interval over n = 1,024 seeds"


def test_points_and_bars_are_the_table(ax):
    table = phases(absorbed=[-1.0, 2.0, 3.0, 4.0, 5.0])
    assert plots.points(table, ax, quantity="absorbed") is ax
    [drawn] = ax.lines
    reached = [0.005, 0.04, 0.2, 0.95]
    np.testing.assert_array_equal(drawn.get_xdata(), reached)
    np.testing.assert_array_equal(drawn.get_ydata(), [-1.0, 2.0, 3.0, 5.0])
    rows = table[(table["quantity"] == "absorbed") & table["mean"].notna()]
    expected = list(zip(reached, rows["low"], rows["high"], strict=True))
    np.testing.assert_array_equal(bars_of(ax), expected)


def test_points_are_labelled_with_units_and_seeds(ax):
    both = pd.concat([phases(num_seeds=4096), phases(learner="supervised", num_seeds=30)])
    plots.points(both, ax, x="excess_loss", quantity="noise_scale")
    assert ax.get_xlabel() == "excess loss KL(labels‖policy) (bit)"
    assert ax.get_ylabel() == "gradient noise scale (trajectories)"
    assert title_of(ax) == "learner\nbars: 95 % interval over n = 30–4,096 seeds"
    colours = [drawn.get_color() for drawn in ax.lines]
    assert colours == [plots.COLOURS["none"], plots.COLOURS["supervised"]]


def test_phases_of_few_seeds_are_left_out(ax):
    both = pd.concat([phases(num_seeds=29), phases(learner="supervised", num_seeds=30)])
    plots.points(both, ax, min_seeds=30)
    assert [drawn.get_label() for drawn in ax.lines] == ["supervised"]


def test_faint_lines_have_no_bars_and_no_legend(ax):
    both = pd.concat([phases(rate=0.5), phases(rate=1.0)])
    plots.points(both, ax, by=["learner", "rate"], faint=True)
    assert len(ax.lines) == 2
    assert len(ax.collections) == 0
    assert ax.get_legend() is None
    assert len({drawn.get_color() for drawn in ax.lines}) == 1
    assert ax.lines[0].get_alpha() < 0.5


def test_what_a_logarithmic_axis_cannot_show_is_said(ax):
    ax.set_yscale("log")
    plots.points(phases(absorbed=[-1.0, 0.0, 3.0, 4.0, 5.0]), ax)
    plots.points(phases(absorbed=[-1.0, 2.0, 3.0, 4.0, 5.0], learner="supervised"), ax)
    assert [text.get_text() for text in ax.texts] == ["3 points ≤ 0 not drawn"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [3.0, 5.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ax: plots.points(phases(), ax, quantity="joy"), "no quantity 'joy'"),
        (lambda ax: plots.points(phases(), ax, x="joy"), "neither a column nor a quantity"),
        (lambda ax: plots.points(phases(), ax, by="joy"), "no column 'joy'"),
        (lambda ax: plots.points(pd.concat([phases()] * 2), ax), "several rows share one phase"),
        (lambda ax: plots.line(curves(0.5, 0.25), ax), "say by which column"),
        (lambda ax: plots.line(phases(), ax, x="phase"), "say which"),
        (lambda ax: plots.paper(lines_width=1).__enter__(), "no such rcParam: lines_width"),
    ],
)
def test_complaints(ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax)


def test_log_odds_axis(ax):
    plots.log_odds_axis(ax)
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    assert labels == [".001", ".01", ".1", ".5", ".9", ".99"]
    places = ax.transAxes.inverted().transform(
        [ax.transData.transform((p, 0.0)) for p in (0.1, 0.5, 0.9)]
    )
    assert places[2, 0] - places[1, 0] == pytest.approx(places[1, 0] - places[0, 0])


def test_paper_style_is_left_behind():
    before = dict(matplotlib.rcParams)
    with plots.paper(lines_linewidth=2.5):
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["lines.linewidth"] == 2.5
    assert dict(matplotlib.rcParams) == before


def test_a_run_becomes_a_labelled_figure(small, ax):
    sweep = simrl.Sweep(small, {"learner.optimizer.learning_rate": [0.1, 1.0]})
    table = simrl.curve_table(simrl.run(sweep, seeds=4), "pass_rate")
    plots.line(table, ax, x="samples", by="learning_rate")
    assert ax.get_xlabel() == "samples"
    assert title_of(ax).endswith("n = 4 seeds")


@pytest.fixture(scope="module")
def tables():
    """The tables of the figure, which are short: (best, faint)."""
    all_rates = everything()
    return all_rates[all_rates["rate"] == 1.0], all_rates


def texts_of(made):
    return " ".join(text.get_text() for text in made.findobj(matplotlib.text.Text))


def overlapping(made):
    """Pairs of legends and panel texts that lie upon each other."""
    made.draw_without_rendering()
    boxes = [
        (str(artist), artist.get_window_extent())
        for ax in made.axes
        for artist in [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label, ax.get_legend()]
        if artist is not None and (not hasattr(artist, "get_text") or artist.get_text())
    ]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    return [(a[0], b[0]) for a, b in pairs if a[1].overlaps(b[1])]


def test_the_figure_draws_all_panels_and_says_what_they_are(tables, tmp_path):
    made = main_figure.figure(*tables, HITS)
    assert len(made.axes) == 5
    assert all(len(ax.lines) > 3 for ax in made.axes)
    assert made.get_size_inches()[0] == plots.TWO_COLUMNS
    told = " ".join(texts_of(made).split())
    for words in (
        "n ≤ 64",
        "95 % t interval",
        "1,234; 3 never",
        "bit/sample",
        "bit/FLOP",
        "trajectories",
    ):
        assert words in told
    assert "not drawn" not in told
    assert overlapping(made) == []
    engine = made.get_layout_engine()
    for path in main_figure.save(made, tmp_path / "new"):
        assert path.stat().st_size > 10_000
    assert made.get_layout_engine() is engine  # what is drawn on it later is laid out again
    assert b"/Type3" not in (tmp_path / "new" / "figure.pdf").read_bytes()


def test_the_supplement_draws_means_below_zero(tables):
    table = everything(absorbed=[1.0, 0.1, 0.01, 1.0, -1e-3])
    made = worlds.supplement(table[table["rate"] == 1.0], tables[1])
    assert len(made.axes) == 9
    assert overlapping(made) == []
    noisy = made.axes[6]
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
