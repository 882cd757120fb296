"""What the tables of `search` make of runs that are known."""

import matplotlib
import numpy as np
import pandas as pd
import xarray as xr

matplotlib.use("Agg")

from matplotlib.figure import Figure

from experiments import search, search_figure, search_runs


def test_slopes_of_power_laws_and_their_errors():
    values = {10: 3 * 10**0.7, 100: 3 * 100**0.7, 500: 3 * 500**0.7}
    slope, error = search.slope(values, {n: 0.01 * v for n, v in values.items()})
    assert abs(slope - 0.7) < 1e-12
    rng = np.random.default_rng(0)
    drawn = [
        search.slope({n: v * (1 + 0.01 * rng.normal()) for n, v in values.items()}, values)[0]
        for _ in range(4000)
    ]
    assert abs(np.std(drawn) / error - 1) < 4 / np.sqrt(2 * 4000)


def test_a_bayesian_that_knows_without_a_hit_is_right_one_guess_later():
    cell = xr.Dataset(
        {
            "hit_samples": (("cell", "seed", "threshold"), [[[3.0], [9.0]]]),
            "phase_success": (("cell", "seed", "phase"), [[[1.0], [0.0]]]),
        },
        coords={
            "threshold": [0.99],
            "learner": ("cell", ["Bayesian"]),
            "N": ("cell", [10]),
        },
    )
    found = search_runs.searches(cell)
    assert found["Bayesian, known", 10].counts.tolist() == [3, 9]
    assert found["Bayesian, hit", 10].counts.tolist() == [3, 10]
    assert found["Bayesian, hit", 10].predicted == 5.5


def test_the_figure_shows_measured_and_predicted_values_of_every_method():
    pairs = [(m, p) for p in reversed(search_runs.PASS_RATES) for m in search_runs.METHODS]
    table = pd.DataFrame(pairs, columns=["method", "p"]).assign(dead_error=0.01)
    table["dead"] = np.linspace(0, 1, len(table))
    table["dead_predicted"] = table["dead"] + 0.001
    ax = Figure().subplots()
    search_figure.methods(table, ax, "dead")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [search_figure.METHOD_NAMES[method] for method in search_runs.METHODS]
    lines = [line for line in ax.lines if len(line.get_xdata())]
    data = [np.float64(line.get_xydata()) for line in lines]
    for predicted, measured in zip(data[::2], data[1::2], strict=True):
        np.testing.assert_allclose(predicted - measured, [[0.001, 0]] * len(measured), atol=1e-12)
    shown = {(round(y), x) for measured in data[1::2] for x, y in measured}
    order = list(search_runs.METHODS)
    assert shown == {(order.index(row.method), row.dead) for row in table.itertuples()}
