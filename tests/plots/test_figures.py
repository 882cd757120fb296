"""The figures of the experiments: every panel is drawn, labelled and free of overlaps."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from experiments import efficiency_map
from experiments import efficiency_map_figure as main_figure
from experiments import efficiency_map_worlds as worlds
from experiments.efficiency_map_forms import ADVANTAGES, GROUP, World, closed_forms
from simrl import plots
from tests.plots.tables import phases


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
