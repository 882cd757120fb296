"""The comparison of remedies, by runs that are made up."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import simrl
from experiments import difficulty, difficulty_duels, proxies, remedies
from experiments.remedies import PLAIN

SEEDS = 200


def made_up(costs, missing=0):
    """A Dataset of remedies by the answers that their seeds take, 9,000 to the end of the run.

    FLOPs are tenfold if every rollout is trained on, and twice as many if those without signal are
    only decoded: of the last remedy all have a signal, and it does not tell.
    The last remedy is taught by each of 4 tokens, which the Dataset counts as samples.
    """
    samples = np.stack(list(costs.values())).astype(np.float64)[..., None]
    samples[-1, :missing] = np.nan  # of the last remedy
    step = 0 * samples
    dims = ("cell", "seed", "threshold")
    whole = np.full(samples.shape[:2], 9000.0)
    told = np.where(np.arange(len(costs)) < len(costs) - 1, 2.0, np.nan)[:, None]
    return xr.Dataset(
        {
            "hit_step": (dims, step),
            "hit_samples": (dims, samples * np.repeat([1, 4], [len(costs) - 1, 1])[:, None, None]),
            "hit_trajectories": (dims, samples),
            "hit_flops_full": (dims, 10 * samples),
            "hit_flops_live": (dims, told[..., None] * samples),
            "total_trajectories": (dims[:2], whole),
            "total_flops_full": (dims[:2], 10 * whole),
            "total_flops_live": (dims[:2], told * whole),
        },
        {
            "task": ("cell", ["one"] * len(costs)),
            "remedy": ("cell", list(costs)),
            "rate": ("cell", [1.0] * len(costs)),
        },
    )


def test_verdicts_follow_the_ratio_to_the_plain_learner():
    plain = np.random.default_rng(3).integers(500, 1500, SEEDS)
    noise = np.random.default_rng(4).integers(-300, 301, SEEDS)
    costs = {PLAIN: plain, "half": plain // 2, "twice": 2 * plain, "same": plain + noise}
    rows = remedies.compare(made_up(costs)).set_index("remedy")
    assert rows["samples_verdict"].to_dict() == {
        PLAIN: "",
        "half": remedies.HELPS,
        "twice": remedies.DEARER,
        "same": remedies.SAME,
    }
    assert rows.loc["twice", "samples_ratio"] == 2
    assert rows.loc["twice", "flops_full"] == pytest.approx(20 * plain.mean())
    assert rows.loc["twice", "flops_live_ratio"] == 2
    assert np.isnan(rows.loc["same", "flops_live_ratio"])
    assert rows.loc["same", "flops_live_verdict"] == remedies.UNKNOWN
    assert rows.loc["same", "samples_ratio"] == pytest.approx((plain + noise).sum() / plain.sum())


def test_a_remedy_that_does_not_always_arrive_is_no_help():
    plain = np.full(SEEDS, 1000)
    rows = remedies.compare(made_up({PLAIN: plain, "lucky": plain // 4}, 3)).set_index("remedy")
    assert rows.loc["lucky", "samples_verdict"] == remedies.MISSING
    assert rows.loc["lucky", "missing"] == 3
    # What the others spent until the end of the run is a lower bound.
    assert rows.loc["lucky", "samples"] == pytest.approx((197 * 250 + 3 * 9000) / 200)
    assert rows.loc["lucky", "samples_ratio"] == pytest.approx((197 * 250 + 3 * 9000) / 200_000)


@pytest.mark.parametrize("listing", [proxies, difficulty])
def test_every_remedy_is_run_at_every_rate_and_setting(listing):
    cells, listed = listing.SWEEP.cells(), listing.listed()
    settings = [len(remedy.settings) for remedy in listed]
    assert len(cells) == sum(settings) * len(remedies.RATES)
    assert len({(remedy.task, remedy.name) for remedy in listed}) == len(listed)
    assert len({tuple(cell.coordinates.values()) for cell in cells}) == len(cells)


def test_the_rate_of_a_critic_is_chosen_as_that_of_its_actor():
    cells = [cell for cell in proxies.SWEEP.cells() if "value per" in cell.coordinates["remedy"]]
    kept = {
        (cell.coordinates["setting"], cell.spec.learner.critic_optimizer.numbers["learning_rate"])
        for cell in cells
    }
    assert kept == {("critic 1", 1.0), ("critic 0.2", 0.2), ("critic 0.05", 0.05)}


def test_no_seed_that_chose_a_rate_is_told_of(tmp_path, monkeypatch):
    asked = []

    def run(sweep, seeds, only=None, **options):
        asked.append((set(range(seeds) if isinstance(seeds, int) else seeds), only))
        return made_up({PLAIN: np.arange(9, 29), "half": np.arange(5, 25)})

    monkeypatch.setattr(simrl, "run", run)
    monkeypatch.setattr(simrl, "hitting_table", lambda data: pd.DataFrame({"rate": [1.0]}))
    monkeypatch.setattr(remedies, "best", lambda data: [1, 2])
    monkeypatch.setattr("sys.argv", ["proxies", "--out", str(tmp_path), "--seeds", "20"])
    remedies.run(proxies.SWEEP, proxies.__doc__)
    (rates, every), (told, chosen) = asked
    assert (len(rates), every) == (20, None)
    assert (told, chosen) == (set(range(20)), [1, 2])
    assert not rates & told
    assert (tmp_path / "figure.png").exists()
    assert len(pd.read_csv(tmp_path / "table.csv")) == 2


def test_a_figure_has_a_row_of_panels_for_each_task():
    figure = remedies.figure(
        remedies.compare(made_up({PLAIN: np.arange(9, 29), "half": np.arange(5, 25)}))
    )
    assert [ax.get_title("left") for ax in figure.axes] == list(remedies.SHORT.values())
    assert figure.axes[0].get_ylabel() == "one"


def duels_told(**changes):
    """Sums by hand: two seeds and three phases, of which the second begins at even odds."""
    sums = {
        "duels": [[10, 10, 0], [10, 10, 0]],
        "duel_wins": [[5, 6, 0], [5, 4, 0]],
        "trajectories": [[20, 20, 0], [20, 20, 0]],
        "duel_realised": [[1.0, 4.0, 0], [1.0, 8.0, 0]],
        "realised_update": [[1.0, 5.0, 0], [1.0, 3.0, 0]],
        "absorbed": [[1.0, 1.0, 0], [1.0, 3.0, 0]],
    }
    place = ("reward", "seed", "phase")
    variables = {f"phase_{name}": (place, np.array([rows] * 2)) for name, rows in sums.items()}
    variables["phase_high"] = ("phase", [0.0, 1.0, 2.0])
    start = [[difficulty_duels.listed(reward)] * 2 for reward in difficulty_duels.REWARDS]
    variables["duel_expected"] = (("reward", "seed", "log_point"), np.array(start)[..., None])
    return xr.Dataset(variables | changes, coords={"reward": list(difficulty_duels.REWARDS)})


def test_what_duels_tell_is_held_against_lists():
    # A verdict is sure if one guess is right, a coin else: 2/N bits of two guesses that differ.
    assert difficulty_duels.listed("exact") == pytest.approx(2 * 15 / 16**2, rel=1e-12)
    rows = difficulty_duels.compare(duels_told())
    assert rows["verdict"].tolist() == ["holds", "holds", "holds", "", ""] * 2
    assert rows["measured"].tolist()[2] == "0.3000 ± 0.1000"
    assert rows["measured"].tolist()[4] == "0.5000 ± 0.3750"
    uneven = duels_told(phase_duel_wins=(("reward", "seed", "phase"), np.full((2, 2, 3), 9)))
    wrong = duels_told(duel_expected=(("reward", "seed", "log_point"), np.ones((2, 2, 1))))
    assert difficulty_duels.compare(uneven)["verdict"].tolist()[0] == "FAILS"
    assert difficulty_duels.compare(wrong)["verdict"].tolist()[1] == "FAILS"
