"""The claims and tables of the efficiency map, from tables that are made by hand."""

import os

import numpy as np
import pandas as pd
import pytest

from experiments import efficiency_map, efficiency_map_tables, efficiency_map_worlds
from experiments.efficiency_map_claims import CLAIMS, claims

RATES = (0.001, 0.13, 0.4, 0.7, 0.98)  # pass rates of the bins
ERROR = 0.01  # relative, of every interval


def entropy(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def truths(learner, p):
    """What theory says of a learner at a pass rate, and what the rest is set to here."""
    if learner == "supervised":
        return {"nominal": -np.log2(p), "realised": -np.log2(p), "absorbed_per_flop": 1e-4}
    noise = (1 - p) / p
    return {
        "nominal": entropy(p),
        "realised": 0.9 * entropy(p),
        "realised_joint": 0.3 * entropy(p),
        "noise_scale": noise if learner == "none" else noise + 1 / (1 - p),
        "absorbed_per_flop": 1e-7,
    }


def made_up(num_seeds=100, **changes):
    """A phase table; `changes`: a factor for each "learner.quantity"."""
    rows = []
    for learner in ("supervised", "none", "leave_one_out"):
        for phase, p in enumerate(RATES):
            values = truths(learner, p) | {"pass_rate": p}
            for quantity, value in values.items():
                value *= changes.get(f"{learner}__{quantity}", 1.0)
                rows.append((learner, phase, quantity, value, num_seeds))
    table = pd.DataFrame(rows, columns=["learner", "phase", "quantity", "mean", "num_seeds"])
    half = ERROR * table["mean"].abs()
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


def verdicts(table):
    return claims(table, 30)["verdict"].tolist()


def test_every_claim_holds_where_theory_is_measured():
    rows = claims(made_up(), 30)
    assert rows["verdict"].tolist() == ["holds"] * len(CLAIMS)
    assert rows["predicted"].tolist() == ["9.966", "≤ 1", "p = .5", "< 1", "999.0", "> 1", "> 1"]
    assert rows["measured"].tolist()[0] == "9.966 ± 0.051"  # half of the interval over 1.96
    assert rows["measured"].tolist()[2] == ".4 … .7"
    assert "p = .001" in rows["claim"].tolist()[0]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"supervised__realised": 1.1}, 0),
        ({"leave_one_out__realised": 1.2}, 1),
        ({"supervised__nominal": 0.2}, 2),
        ({"leave_one_out__realised_joint": 4.0}, 3),
        ({"none__noise_scale": 1.1}, 4),
        ({"leave_one_out__absorbed_per_flop": 1e4}, 6),
    ],
)
def test_a_claim_fails_where_something_else_is_measured(changes, place):
    assert verdicts(made_up(**changes))[place] == "FAILS"


def test_without_late_noise_the_claim_of_it_fails():
    table = made_up()
    late = (table["quantity"] == "noise_scale") & (table["phase"] == 4)
    table.loc[late, ["mean", "low", "high"]] = [0.5, 0.49, 0.51]
    assert verdicts(table)[5] in ("FAILS", "too few runs")


def test_bins_that_few_seeds_visited_make_no_verdict():
    assert set(verdicts(made_up(num_seeds=29))) == {"too few runs"}
    table = made_up()
    table.loc[table["phase"] > 1, "num_seeds"] = 3
    assert verdicts(table)[5] == "too few runs"


def test_rows_are_in_order_whatever_the_order_of_the_table():
    """Strays came after the last phase: of the bins that few seeds visit."""
    table = made_up().assign(world="one token", rate=1.0)
    edges = np.array([-np.inf, -3.0, -1.0, 0.0, 2.0, np.inf])
    table = table.assign(phase_low=edges[table["phase"]], phase_high=edges[table["phase"] + 1])
    shuffled = table.sample(frac=1, random_state=0)
    rows = efficiency_map_tables.phases(shuffled, noisy=False)
    assert rows["learner"].tolist() == [
        name for name in ("supervised", "RLOO", "REINFORCE, no baseline") for _ in RATES
    ]
    assert rows["pass_rate"].tolist() == [*RATES] * 3
    assert (rows["low"] <= rows["pass_rate"]).all()
    assert rows["low"].tolist()[:2] == [0.0, pytest.approx(1 / (1 + np.exp(3.0)))]


def test_files_name_learners_and_the_unit_of_a_rate(tmp_path):
    table = made_up().assign(rate=1.0)
    assert efficiency_map_tables.write({"table": table}, tmp_path)
    assert not efficiency_map_tables.write({"table": table}, tmp_path)  # as it was
    written = pd.read_csv(tmp_path / "table.csv")
    assert "none" not in set(written["learner"])
    assert "rate_per_sample" in written
    assert "rate" not in written


def test_a_quick_map_is_part_of_the_map():
    quick = efficiency_map.sweep(efficiency_map.QUICK_WORLDS).cells()
    whole = {tuple(cell.coordinates.values()): cell.spec for cell in efficiency_map.SWEEP.cells()}
    assert 0 < len(quick) < len(whole)
    assert all(whole[tuple(cell.coordinates.values())] == cell.spec for cell in quick)


def test_the_supplement_is_drawn_again_where_its_sources_are_newer(tmp_path):
    assert not efficiency_map_worlds.is_drawn(tmp_path)
    picture = tmp_path / "figure_worlds.png"
    picture.touch()
    assert efficiency_map_worlds.is_drawn(tmp_path)
    os.utime(picture, (0, 0))
    assert not efficiency_map_worlds.is_drawn(tmp_path)
