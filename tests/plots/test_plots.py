"""Pictures hold the table's numbers, say what they are, and draw nothing that was not measured."""

from itertools import pairwise

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import simrl
from simrl import plots
from tests.plots.tables import curves, phases


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture
def current():
    """The figure that pyplot draws on."""
    with plots.paper():
        yield plt.figure()
    plt.close("all")


def bars_of(ax):
    """(x, low, high) of every vertical bar."""
    segments = [s for lines in ax.collections for s in lines.get_segments()]
    return [(s[0, 0], s[0, 1], s[1, 1]) for s in segments]


def title_of(ax):
    """The title of the legend on one line."""
    return " ".join(ax.get_legend().get_title().get_text().split())


def labels_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def ticks_of(ax):
    """The labels of the ticks of x that are drawn."""
    low, high = ax.get_xlim()
    ticks = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    return [label.get_text() for tick, label in ticks if low <= tick <= high]


def boxes_of(ax):
    """Bounding boxes of the panel and of what is written around it."""
    ax.figure.draw_without_rendering()
    parts = [ax.get_legend(), ax.xaxis.label, ax.yaxis.label]
    return ax.get_window_extent(), [part.get_window_extent() for part in parts]


def test_lines_are_the_table(ax):
    table = curves(0.5, 0.25)
    assert plots.line(table, ax, x="samples", by="learning_rate", xscale="linear") is ax
    for drawn, rate in zip(ax.lines, (0.5, 0.25), strict=True):
        part = table[table["learning_rate"] == rate]
        np.testing.assert_array_equal(drawn.get_xdata(), part["samples"])
        np.testing.assert_array_equal(drawn.get_ydata(), part["mean"])
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert {0.5 * 3 - 0.1, 0.5 * 3 + 0.2} <= set(heights)


def test_lines_are_labelled(ax):
    plots.line(curves(0.5, 0.25), ax, by="learning_rate", xscale="linear")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("samples", "pass rate")
    assert title_of(ax) == "learning rate; band: 95 % interval; n = 1,024 seeds"
    assert labels_of(ax) == ["0.5", "0.25"]


def test_what_is_no_mean_says_so(ax):
    plots.line(curves(0.5, statistic="median"), ax, xscale="linear")
    assert title_of(ax) == "band: 95 % interval of the median; n = 1,024 seeds"


@pytest.mark.parametrize("x", ["samples", "step", "flops"])
def test_counts_are_on_a_log_axis_that_says_what_it_leaves_out(ax, x):
    table = curves(0.5, 0.25)
    plots.line(table, ax, x=x)
    assert ax.get_xscale() == "log"
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), table[x][:4].iloc[1:])
    unit = {"samples": "samples", "step": "updates", "flops": "FLOPs"}[x]
    assert title_of(ax).endswith(f"0 {unit} not shown")
    assert not list(ax.texts)  # the start is no lost point


def test_a_symlog_axis_keeps_the_start(ax):
    table = curves(0.5)
    plots.line(table, ax, xscale="symlog")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), table["samples"])
    assert "not shown" not in title_of(ax)


@pytest.mark.parametrize("xscale", ["linear", "log", "symlog"])
def test_labels_of_counts_do_not_collide(xscale):
    with plots.paper(width=2.2):
        figure = plt.figure()
        table = curves(0.5, samples=[0.0, 30.0, 9000.0, 16000.0])
        ax = plots.line(table, xscale=xscale)
        figure.draw_without_rendering()
    plt.close(figure)
    low, high = ax.get_xlim()
    ticks = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    boxes = [label.get_window_extent() for tick, label in ticks if low <= tick <= high]
    space = max(box.height for box in boxes)
    for left, right in pairwise(boxes):
        assert left.x1 + space < right.x0


def test_an_axis_that_holds_data_keeps_its_scale(ax):
    ax.plot([0.0, 1.0], [0.0, 1.0])
    plots.line(curves(0.5), ax)
    assert ax.get_xscale() == "linear"


def test_what_varies_tells_the_series_apart(ax):
    named = [curves(rate, advantage=name) for rate in (0.5, 0.25) for name in ("none", "maxrl")]
    table = pd.concat(named).assign(world="one token")
    plots.line(table, ax)
    assert labels_of(ax) == ["0.5, none", "0.5, maxrl", "0.25, none", "0.25, maxrl"]
    looks = {(to_hex(drawn.get_color()), drawn.get_linestyle()) for drawn in ax.lines}
    assert len(looks) == 4
    assert len({colour for colour, _ in looks}) == 2  # of the first column


def test_an_axis_that_follows_from_another_is_not_named(ax):
    table = pd.concat([curves(0.5, setting="low"), curves(0.25, setting="high")])
    plots.line(table, ax)
    assert labels_of(ax) == ["0.5", "0.25"]


def test_seeds_that_diverged_are_counted_and_no_series_of_their_own(ax):
    table = pd.concat([curves(0.5, num_diverged=0), curves(0.25, num_diverged=[0, 1, 2, 2])])
    plots.line(table, ax)
    assert labels_of(ax) == ["0.5", "0.25"]
    assert "n = 1,024 seeds, 2 diverged" in title_of(ax)
    both = phases().assign(num_diverged=1)
    both.loc[both["quantity"] == "pass_rate", "num_diverged"] = 0
    plots.points(both, ax)  # are placed by the pass rate, whichever the counts
    np.testing.assert_array_equal(ax.lines[-1].get_xdata(), [0.005, 0.04, 0.2, 0.95])


@pytest.mark.parametrize("num", [2, 8])
@pytest.mark.parametrize("columns", [1, 2])
def test_a_legend_lies_outside_the_data_and_nothing_is_cut_off(num, columns, tmp_path):
    with plots.paper("icml", columns=columns, height=2.6):
        figure, axes = plt.subplots(1, columns, squeeze=False)
        for ax in axes.flat:
            plots.line(curves(*(0.5**k for k in range(num))), ax)
            ax.set_title("a title of the user's")
    plots.save(figure, tmp_path / "rates.png")
    plt.close(figure)
    everywhere = []
    for ax in axes.flat:
        panel, parts = boxes_of(ax)
        legend, label = parts[:2]
        assert legend.y1 <= label.y0
        assert panel.width > 0.6 * figure.bbox.width / columns
        assert panel.height > 0.3 * figure.bbox.height
        everywhere.append([panel, *parts, ax.title.get_window_extent()])
        for part in everywhere[-1]:
            assert figure.bbox.x0 <= part.x0 <= part.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= part.y0 <= part.y1 <= figure.bbox.y1
    for part in everywhere[0] if columns == 2 else []:
        assert not any(part.overlaps(other) for other in everywhere[1])


def test_a_layout_of_the_users_own_is_left_alone():
    figure = Figure()
    figure.subplots_adjust(bottom=0.5)
    plots.line(curves(0.5), figure.subplots())
    assert figure.get_layout_engine() is None


def test_one_line_needs_no_by(ax):
    plots.line(curves(0.5), ax, x="step", confidence=0.9, xscale="linear")
    assert ax.get_xlabel() == "updates"
    assert title_of(ax) == "band: 90 % interval; n = 1,024 seeds"


def test_without_axes_the_current_ones_are_drawn_on(current):
    assert plots.line(curves(0.5, 0.25)) is current.axes[0]
    assert plots.points(phases()) is current.axes[0]


@pytest.mark.parametrize(
    "colors", [{0.5: "#123456", 0.25: "#abcdef", 9: "red"}, ["#123456", "#abcdef"]]
)
def test_colours_of_the_users_own(ax, colors):
    plots.line(curves(0.5, 0.25), ax, colors=colors)
    assert [to_hex(drawn.get_color()) for drawn in ax.lines] == ["#123456", "#abcdef"]
    bands = [to_hex(band.get_facecolor()[0]) for band in ax.collections]
    assert bands == ["#123456", "#abcdef"]


def test_colours_by_label(ax):
    both = pd.concat([phases(learner="leave_one_out"), phases(learner="mine")])
    plots.points(both, ax, by="learner", colors={"leave one out": "red", "mine": "blue"})
    assert [drawn.get_color() for drawn in ax.lines] == ["red", "blue"]


def test_no_two_series_share_a_colour(ax):
    names = ("leave_one_out", "mine", "policy_gradient", "RLOO", "none")
    plots.points(pd.concat([phases(learner=name) for name in names]), ax, by="learner")
    colours = [drawn.get_color() for drawn in ax.lines]
    assert len(set(colours)) == len(names)
    assert colours[0] == plots.COLOURS["leave_one_out"]
    assert len({drawn.get_marker() for drawn in ax.lines}) == len(names)  # in grey, too


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


def test_an_open_ended_bin_is_at_its_mean_pass_rate(ax):
    table = phases()
    table.loc[table["phase"] == 0, "phase_low"] = -np.inf
    table.loc[table["phase"] == 4, "phase_high"] = np.inf
    plots.points(table, ax)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0.005, 0.04, 0.2, 0.95])
    plots.points(table, ax, x="phase_high")  # has no place for it, and says so
    assert [text.get_text() for text in ax.texts] == ["1 point outside the axes not drawn"]


def test_bits_have_one_name_whatever_they_are_counted_by():
    assert plots.label_of("absorbed", "bit/sample") == "learned bits (bit/sample)"
    label = plots.label_of("realised_joint_per_trajectory", "bit/trajectory")
    assert label == "pointwise information of the batch (bit/trajectory)"
    assert plots.label_of("absorbed_per_flop", "bit/FLOP") == "learned bits per FLOP (bit/FLOP)"
    assert plots.label_of("rate_per_token") == "rate per token"


def test_points_are_labelled_with_units_and_seeds(ax):
    both = pd.concat([phases(num_seeds=4096), phases(learner="supervised", num_seeds=30)])
    plots.points(both, ax, x="excess_loss", quantity="noise_scale")
    assert ax.get_xlabel() == "excess loss KL(labels‖policy) (bit)"
    assert " ".join(ax.get_ylabel().split()) == "gradient noise scale (trajectories)"
    assert title_of(ax) == "learner; bars: 95 % interval; n = 30–4,096 seeds"
    colours = [drawn.get_color() for drawn in ax.lines]
    assert colours == [plots.COLOURS["none"], plots.COLOURS["supervised"]]


def test_phases_of_few_seeds_are_left_out(ax):
    both = pd.concat([phases(num_seeds=29), phases(learner="supervised", num_seeds=30)])
    plots.points(both, ax, by="learner", min_seeds=30)
    assert [drawn.get_label() for drawn in ax.lines] == ["supervised"]


def test_points_of_few_seeds_have_no_bar_and_the_legend_says_so(ax):
    rows = phases(num_seeds=4096)
    rows["few_seeds"] = rows["phase"] == rows["phase"].min()
    plots.points(rows, ax, by="learner")
    (bars,) = ax.collections
    assert len(bars.get_segments()) == len(ax.lines[0].get_xdata()) - 1
    assert "no bar: fewer than 200 seeds" in title_of(ax)


def test_a_place_of_few_seeds_has_its_point(ax):
    """Pass rates need more seeds for an interval than learned bits, which they are drawn over."""
    rows = phases(num_seeds=256)
    rows["few_seeds"] = rows["quantity"] == "pass_rate"
    plots.points(rows, ax, by="learner")
    assert len(ax.lines[0].get_xdata()) == 4  # of five phases one was not reached


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
    assert [text.get_text() for text in ax.texts] == ["3 points outside the axes not drawn"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [3.0, 5.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ax: plots.points(phases(), ax, quantity="joy"), "quantity: must be .*'joy'"),
        (lambda ax: plots.points(phases(), ax, x="joy"), "x: must be a column or .*'joy'"),
        (lambda ax: plots.points(phases(), ax, by="joy"), "by: must be of .*'joy'"),
        (lambda ax: plots.points(pd.concat([phases()] * 2), ax), "by: must leave one row for each"),
        (lambda ax: plots.line(curves(0.5, 0.25), ax, by="step"), "by: must leave one row for"),
        (lambda ax: plots.line(phases(), ax, x="phase"), "quantity: must be one of .*, got None"),
        (lambda ax: plots.line(curves(1).to_xarray(), ax), "curve_table.*got Dataset"),
        (lambda ax: plots.points({}, ax), "phase_table.*got dict"),
        (lambda ax: plots.line(curves(1).drop(columns="low"), ax), "must have a column 'low'"),
        (lambda ax: plots.line(curves(1, 2), ax, colors={1: "red"}), "colour for 2"),
        (lambda ax: plots.line(curves(1, 2), ax, colors=["red"]), "at least 2 colours, got 1"),
        (lambda ax: plots.line(curves(1, 2), ax, colors="red"), "mapping or a sequence"),
        (lambda ax: plots.paper(lines_width=1).__enter__(), "lines_width: .* lines_linewidth"),
        (lambda ax: plots.paper("nature").__enter__(), "style: .* neurips, got 'nature'"),
        (lambda ax: plots.paper(columns=3).__enter__(), "columns: must be 1 or 2, got 3"),
        (lambda ax: plots.paper(width=0).__enter__(), "width: must be positive, got 0"),
    ],
)
def test_complaints(ax, call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(ax)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) <= 300


def test_log_odds_axis(ax):
    plots.log_odds_axis(ax, 6e-4, 0.995)
    assert ticks_of(ax) == [".001", ".01", ".1", ".5", ".9", ".99"]
    places = ax.transAxes.inverted().transform(
        [ax.transData.transform((p, 0.0)) for p in (0.1, 0.5, 0.9)]
    )
    assert places[2, 0] - places[1, 0] == pytest.approx(places[1, 0] - places[0, 0])


@pytest.mark.parametrize("before", [True, False])
def test_a_log_odds_axis_reaches_the_last_point(ax, before):
    if before:
        plots.log_odds_axis(ax)
    plots.points(phases(pass_rate=[1e-4, 0.04, 0.2, 0.6, 0.9995]), ax)
    if not before:
        plots.log_odds_axis(ax)
    low, high = ax.get_xlim()
    assert 0 < low < 1e-4 < 0.9995 < high < 1
    assert {".0001", ".999"} <= set(ticks_of(ax))
    plots.log_odds_axis(ax, high=0.9)  # unless another end is wished
    assert ax.get_xlim() == pytest.approx((low, 0.9))


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({}, (3.35, 2.4)),
        ({"columns": 2}, (7.0, 2.4)),
        ({"style": "neurips"}, (5.5, 2.4)),
        ({"style": "icml"}, (3.25, 2.4)),
        ({"style": "icml", "columns": 2, "height": 2.0}, (6.75, 2.0)),
        ({"width": 6.75}, (6.75, 2.4)),
        ({"style": "icml", "figure_figsize": (2.0, 1.0)}, (2.0, 1.0)),
    ],
)
def test_widths_by_name(arguments, size):
    with plots.paper(**arguments):
        figure = plt.figure()
    plt.close(figure)
    assert tuple(figure.get_size_inches()) == size


def test_paper_style_is_left_behind():
    before = dict(matplotlib.rcParams)
    with plots.paper(lines_linewidth=2.5):
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["lines.linewidth"] == 2.5
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("y", ["y.pdf", "y.png"]),
        ("y.pdf", ["y.pdf"]),
        ("y.PNG", ["y.PNG"]),
        ("y.svg", ["y.svg"]),
        ("rates.0.5", ["rates.0.5.pdf", "rates.0.5.png"]),
    ],
)
def test_the_ending_says_which_file_is_written(ax, name, files, tmp_path):
    paths = plots.save(ax.figure, tmp_path / "new" / name)
    assert [path.name for path in paths] == files
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == files


def test_a_run_becomes_a_labelled_figure(small, ax):
    sweep = simrl.Sweep(small, {"learner.optimizer.learning_rate": [0.1, 1.0]})
    table = simrl.curve_table(simrl.run(sweep, seeds=4), "pass_rate")
    plots.line(table, ax, x="samples")
    assert ax.get_xlabel() == "samples"
    assert "n = 4 seeds" in title_of(ax)
    assert labels_of(ax) == ["0.1", "1"]
