"""The claims, closed forms and tables of the efficiency map, from tables that are made by hand."""

import os

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from experiments import efficiency_map, efficiency_map_figure, efficiency_map_tables
from experiments import efficiency_map_claims as checked
from experiments import efficiency_map_forms as forms
from simrl.measures import information

RATES = (0.001, 0.13, 0.33, 0.7, 0.98)  # pass rates of the bins
EDGES = (-np.inf, -3.0, -1.0, 0.0, 2.0, np.inf)  # log-odds
ERROR = 0.01  # relative, of every interval
PHASES = ["world", "learner", "rate", "phase", "quantity", "mean"]
CLAIMS = [claim for claim, _, _ in checked.listed(True)]


def entropy(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def truths(learner, p):
    """What theory says of a learner at a pass rate, and what the rest is set to here."""
    if learner == "supervised":
        told = {"nominal": -np.log2(p), "realised": -np.log2(p), "absorbed": (1 - p) ** 2}
        return told | {"absorbed_per_flop": 8e-4 / 6, "absorbed_per_flop_counted": 1e-4}
    noise = (1 - p) / p
    told = {"nominal": entropy(p), "realised": 0.9 * entropy(p), "absorbed": p * (1 - p) ** 2}
    told |= {"realised_per_trajectory": 0.9 * -np.log2(p), "absorbed_per_flop": 1e-4 * p}
    told["absorbed_per_flop_counted"] = 5e-5 * p
    return told | {"noise_scale": noise if learner == "none" else noise + 1 / (1 - p)}


def with_ends(table, num_seeds):
    half = ERROR * table["mean"].abs()
    ends = {"low": table["mean"] - half, "high": table["mean"] + half}
    return table.assign(**ends, num_seeds=num_seeds, few_seeds=num_seeds < 200)


def phase_rows(num_seeds):
    rows = []
    for world in checked.CLEAN:
        for learner in ("supervised", "none", "expected_reward"):
            for phase, p in enumerate(RATES):
                values = truths(learner, p) | {"pass_rate": p}
                rows += [(world, learner, 1.0, phase, *item) for item in values.items()]
    for phase in range(3):  # of the excess loss, so that training ends in the first
        values = {"pass_rate": 0.3, "noise_scale": 10.0 ** (3 - phase)}
        rows += [("noisy labels", "supervised", 0.01, phase, *item) for item in values.items()]
    table = pd.DataFrame(rows, columns=PHASES)
    ends = {
        f"phase_{end}": np.take(EDGES, table["phase"] + i) for i, end in enumerate(("low", "high"))
    }
    return with_ends(table.assign(**ends), num_seeds)


def batch_rows(num_seeds):
    rows = []
    for rate in (1 / 32, 1.0):
        ratio = forms.bits_per_flop_ratio(1 / 3, 1000, 32, rate)
        values = {"supervised": 1e-4, "none": 1e-4 / ratio}
        rows += [(who, 1 / 3, 32, rate, "absorbed_per_flop", x) for who, x in values.items()]
        rows += [(who, 1 / 3, 32, rate, "pass_rate", 1 / 3) for who in values]
    values = {"pass_rate": 0.13, "realised": 1.0, "realised_joint": forms.overlap(0.13, 1000, 32)}
    rows += [("none", 0.13, 32, 1 / 32, *item) for item in values.items()]
    columns = ["learner", "start", "batch", "rate", "quantity", "mean"]
    return with_ends(pd.DataFrame(rows, columns=columns).assign(phase=3), num_seeds)


def hit_rows():
    rows = []
    for rate in (1 / 16, 1.0, 16.0):
        values = {"supervised": 10.0, "none": 10.0 * forms.sample_ratio(rate, 1000, 0.9)}
        rows += [("one token", who, rate, 0.9, 100, 100, mean) for who, mean in values.items()]
    names = ["world", "learner", "rate", "pass_rate", "num_seeds", "num_reached", "mean"]
    table = with_ends(pd.DataFrame(rows, columns=names), 100)
    return table.rename(columns={end: f"trajectories_{end}" for end in ("mean", "low", "high")})


def made_up(num_seeds=300):
    """Tables in which every claim holds."""
    return checked.Tables(phase_rows(num_seeds), hit_rows(), batch_rows(num_seeds))


def scaled(tables, name, factor, **where):
    """The tables with a column or quantity of the rows `where` multiplied."""
    table = getattr(tables, name).copy()
    chosen = np.logical_and.reduce([table[column] == value for column, value in where.items()])
    assert chosen.any()
    ends = [column for column in table if column.endswith(("mean", "low", "high"))]
    ends = [column for column in ends if not column.startswith("phase_")]
    table.loc[chosen, ends] *= factor
    return tables._replace(**{name: table})


def verdicts(tables):
    return dict(zip(CLAIMS, checked.claims(tables)["verdict"], strict=True))


def failing(tables):
    return [CLAIMS.index(claim) for claim, told in verdicts(tables).items() if told != "holds"]


def test_every_claim_holds_where_theory_is_measured():
    rows = checked.claims(made_up())
    assert rows["verdict"].tolist() == ["holds"] * len(CLAIMS)
    assert rows["measured"].tolist()[0] == "9.966 ± 0.051"  # half of the interval over 1.96
    predicted = rows["predicted"].tolist()
    assert predicted[:4] == ["9.966", "≤ 1", "p = .5", "≤ 1"]
    assert predicted[8:11] == ["1333.3", f"{8 / 6 / 0.33:.3f}", f"{8 / 6 / 0.98:.3f}"]


ONE = {"world": "one token"}
DOCTORED = {  # claim -> what is measured otherwise
    0: ("phases", 1.1, {**ONE, "learner": "supervised", "quantity": "realised"}),
    1: ("phases", 1.2, {**ONE, "learner": "none", "quantity": "realised", "phase": 2}),
    2: ("phases", 0.2, {**ONE, "learner": "supervised", "quantity": "nominal"}),
    # bits of a label per token, against those of a reward per trajectory, as three times as many
    3: ("phases", 3.0, {"world": "sequence, token", "quantity": "realised_per_trajectory"}),
    4: ("batches", 1.1, {"quantity": "realised_joint"}),
    5: ("phases", 1.1, {**ONE, "learner": "none", "quantity": "noise_scale", "phase": 0}),
    6: ("phases", 0.02, {"learner": "expected_reward", "quantity": "noise_scale", "phase": 4}),
    7: ("phases", 1e-3, {"world": "noisy labels", "quantity": "noise_scale", "phase": 0}),
    8: ("phases", 1.2, {**ONE, "learner": "none", "quantity": "absorbed_per_flop", "phase": 0}),
    # of batches of 32 against supervised batches of 1: 13 where equal batches have 4
    9: ("phases", 0.3, {**ONE, "learner": "none", "quantity": "absorbed_per_flop", "phase": 2}),
    10: ("phases", 1.2, {**ONE, "learner": "none", "quantity": "absorbed_per_flop", "phase": 4}),
    11: ("batches", 1.2, {"learner": "none", "rate": 1 / 32, "quantity": "absorbed_per_flop"}),
    12: ("batches", 1.2, {"learner": "none", "rate": 1.0, "quantity": "absorbed_per_flop"}),
    13: ("phases", 9.0, {**ONE, "learner": "none", "quantity": "absorbed_per_flop_counted"}),
    # the peak of batches of 32 at a rate of 1 nat
    14: ("phases", 3.0, {**ONE, "learner": "none", "quantity": "absorbed", "phase": 1}),
    15: ("hits", 1.2, {"learner": "none", "rate": 1 / 16}),
    16: ("hits", 1.2, {"learner": "none", "rate": 1.0}),
    17: ("hits", 1.2, {"learner": "none", "rate": 16.0}),
}


def test_every_claim_is_doctored():
    assert list(DOCTORED) == list(range(len(CLAIMS)))


@pytest.mark.parametrize("place", DOCTORED)
def test_a_claim_and_no_other_fails_where_something_else_is_measured(place):
    name, factor, where = DOCTORED[place]
    tables = scaled(made_up(), name, factor, **where)
    assert failing(tables) == [place]
    assert verdicts(tables)[CLAIMS[place]] == "FAILS"


def test_bins_that_few_seeds_visited_make_no_verdict():
    none = checked.claims(checked.Tables(*(table.iloc[:0] for table in made_up())))
    assert set(none["verdict"]) == {"too few runs"}
    assert len(none) == len(CLAIMS) - 1  # nothing is claimed of noisy labels that were not run
    early = made_up()
    early = early._replace(phases=early.phases[early.phases["phase"] < 2])
    assert verdicts(early)[CLAIMS[6]] == "too few runs"
    assert verdicts(early)[CLAIMS[10]] == "too few runs"


def test_means_of_those_that_arrive_make_no_verdict():
    tables = made_up()
    late = tables._replace(hits=tables.hits.assign(num_reached=99))
    assert failing(late) == [15, 16, 17]
    assert set(verdicts(late).values()) == {"holds", "too few runs"}


def test_a_peak_within_the_error_is_no_peak():
    tables = scaled(made_up(), "phases", 0.66, learner="none", quantity="absorbed", phase=2)
    assert verdicts(tables)[CLAIMS[14]] == "too few runs"


# Closed forms.


@pytest.mark.parametrize("world", [*efficiency_map_figure.CLEAN.values()])
@pytest.mark.parametrize("p", [0.004, 0.3, 0.97])
def test_bits_are_those_of_the_measures(world, p):
    right = p ** (1 / world.length)
    row = np.full(world.num_symbols, (1 - right) / (world.num_symbols - 1))
    row[0] = right
    log_probs, answer = np.log(np.tile(row, (world.length, 1))), np.zeros(world.length, int)
    labels = information.sequence_information(log_probs, answer, "label")
    rewards = information.sequence_information(log_probs, answer, world.reward)
    np.testing.assert_allclose(forms.label_bits(p), labels.realised, rtol=1e-5)
    expected = forms.pointwise_reward_bits(p, world)
    np.testing.assert_allclose(expected, rewards.realised, rtol=1e-4)
    assert expected < labels.realised
    np.testing.assert_allclose(forms.reward_bits(p), entropy(p))


@pytest.mark.parametrize("baseline", [False, True])
def test_noise_is_that_of_a_list_of_all_answers(baseline):
    p, num_symbols = 0.3, 5
    probs = np.array([p, *np.full(num_symbols - 1, (1 - p) / (num_symbols - 1))])
    reward = np.eye(num_symbols)[0] - (p if baseline else 0.0)
    gradient = reward[:, None] * (np.eye(num_symbols) - probs)
    mean = probs @ gradient
    second = probs @ (gradient**2).sum(axis=1)
    wanted = second / (mean @ mean) - 1
    np.testing.assert_allclose(forms.noise_scale(p, num_symbols, baseline), wanted)
    if not baseline:
        np.testing.assert_allclose(wanted, (1 - p) / p)


def simulated(p, num_symbols, batch, rate, rng, runs=20_000):
    """Mean log2 p'/p [2] of a supervised learner and of REINFORCE, by softmax updates."""
    logits = np.log([p, *np.full(num_symbols - 1, (1 - p) / (num_symbols - 1))])
    probs = np.exp(logits)
    right = rng.binomial(batch, p, size=runs)
    gains = []
    for count in (np.full(1, batch), right):
        moved = logits + rate * count[:, None] * (np.eye(num_symbols)[0] - probs)
        after = np.exp(moved - moved.max(axis=1, keepdims=True))
        gains.append(np.log2(after[:, 0] / after.sum(axis=1) / p))
    return gains


@pytest.mark.parametrize(("batch", "rate"), [(1, 1.0), (32, 1 / 32), (32, 1.0)])
def test_the_ratio_of_learned_bits_is_that_of_updates(batch, rate):
    [labelled], guessed = simulated(1 / 3, 50, batch, rate, np.random.default_rng(0))
    wanted = forms.bits_per_flop_ratio(1 / 3, 50, batch, rate)
    error = guessed.std() / np.sqrt(len(guessed))
    assert abs(8 / 6 * labelled / wanted - guessed.mean()) < 4 * error
    if batch == 1:
        np.testing.assert_allclose(wanted, 8 / 6 * 3)


def test_samples_to_a_pass_rate_are_those_of_softmax_updates():
    logits, waits = np.zeros(1000), []
    while (probs := np.exp(logits) / np.exp(logits).sum())[0] < 0.9:
        waits.append(1 / probs[0])
        logits = logits + np.eye(1000)[0] - probs
    assert len(waits) == 17
    np.testing.assert_allclose(forms.sample_ratio(1.0, 1000, 0.9), np.mean(waits))
    assert forms.sample_ratio(16.0, 1000, 0.9) == pytest.approx(1000)  # the first success does it


def test_rollouts_overlap_as_in_a_simulation():
    p, num_symbols, batch, runs = 0.13, 100, 8, 20_000
    rng = np.random.default_rng(1)
    wrong = (1 - p) / (num_symbols - 1)
    probs = np.array([p, *np.full(num_symbols - 1, wrong)])
    answers = rng.choice(num_symbols, size=(runs, batch), p=probs / probs.sum())
    found = (answers == 0).any(axis=1)
    distinct = np.array([len(set(row)) for row in answers])
    bits = np.where(found, -np.log2(p), -np.log2(1 - distinct * wrong)) / batch
    alone = forms.pointwise_reward_bits(p, forms.World(num_symbols))
    error = bits.std() / np.sqrt(runs) / alone
    assert abs(forms.overlap(p, num_symbols, batch) - bits.mean() / alone) < 4 * error


def test_a_uniform_policy_is_away_from_zipf_by_its_entropy():
    weights = np.array([1, 1 / 2, 1 / 3]) / (11 / 6)
    assert forms.zipf_gap(3) == pytest.approx(np.log2(3) - -(weights * np.log2(weights)).sum())


# Tables and runs.


def test_rows_are_in_order_whatever_the_order_of_the_table():
    """Strays came after the last phase: of the bins that few seeds visit."""
    table = made_up().phases
    table = table[table["world"] == "one token"]
    shuffled = table.sample(frac=1, random_state=0)
    rows = efficiency_map_tables.phases(shuffled, noisy=False)
    names = ("supervised", "REINFORCE, no baseline", "REINFORCE, value baseline")
    assert rows["learner"].tolist() == [name for name in names for _ in RATES]
    assert rows["pass_rate"].tolist() == [f"{p:.3g}" for p in RATES] * 3
    assert set(rows["num_seeds"]) == {300}
    assert rows["low"].tolist()[:2] == [0.0, pytest.approx(1 / (1 + np.exp(3.0)))]


def test_rows_of_few_seeds_are_marked_and_make_no_verdict(monkeypatch):
    tables = made_up(num_seeds=199)
    rows = efficiency_map_tables.phases(tables.phases[tables.phases["world"] == "one token"], False)
    assert set(rows["num_seeds"]) == {199}
    assert rows["pass_rate"].str.endswith("*").all()
    shown = []
    monkeypatch.setattr(efficiency_map_tables.tables, "show", lambda rows, *_: shown.append(rows))
    results = dict(zip(("table", "hitting", "batches"), tables, strict=True))
    efficiency_map_tables.show(results, None, verbose=False)
    assert set(shown[0]["verdict"][:-3]) == {"too few runs"}  # samples are counted in all runs


def test_files_name_learners_and_the_unit_of_a_rate(tmp_path):
    table = made_up().phases
    assert efficiency_map_tables.write({"table": table}, tmp_path)
    assert not efficiency_map_tables.write({"table": table}, tmp_path)  # as it was
    written = pd.read_csv(tmp_path / "table.csv")
    assert "none" not in set(written["learner"])
    assert "rate_per_sample" in written
    assert "rate" not in written


def test_no_printed_comparison_counts_bits_or_samples_by_token():
    names = [*efficiency_map_tables.PHASES, *efficiency_map_tables.HITTING]
    bits = ("nominal", "expected", "realised", "realised_joint", "absorbed")
    assert not {*bits, "samples_mean", "samples_median"} & set(names)


def test_learners_of_a_world_see_equal_batches():
    for cells in (efficiency_map.SWEEP.cells(), efficiency_map.BATCH_SWEEP.cells()):
        for cell in cells:
            learner, labels = cell.spec.learner, cell.coordinates
            size = getattr(learner, "batch_size", None) or learner.group_size
            noisy = labels.get("world") == "noisy labels"
            assert size == labels.get("batch", 32 if noisy else 1), labels
            rate = learner.optimizer.numbers["learning_rate"]
            assert rate == pytest.approx(labels["rate"] * size), labels


def test_a_quick_map_is_part_of_the_map():
    quick = efficiency_map.sweep(efficiency_map.QUICK).cells()
    whole = {tuple(cell.coordinates.values()): cell.spec for cell in efficiency_map.SWEEP.cells()}
    assert 0 < len(quick) < len(whole)
    assert all(whole[tuple(cell.coordinates.values())] == cell.spec for cell in quick)
    assert [labels for labels in efficiency_map.batch_conditions() if labels["batch"] == 32] == [
        efficiency_map.batch_conditions()[i] for i in efficiency_map.QUICK_UPDATES
    ]


def test_rates_are_chosen_on_seeds_that_are_not_reported(tmp_path, monkeypatch):
    runs = []

    def run(sweep, seeds, only=(), **options):
        runs.append((sweep.name, set(range(seeds) if isinstance(seeds, int) else seeds), only))
        return f"run {len(runs)}"

    monkeypatch.setattr(efficiency_map.simrl, "run", run)
    for name in ("hitting_table", "phase_table"):
        monkeypatch.setattr(efficiency_map.simrl, name, lambda data: data)
    cells = efficiency_map.conditions(efficiency_map.WORLDS)
    noisy = [cell for cell in cells if cell["world"] == "noisy labels"]
    chosen = [noisy[2], noisy[9], noisy[20]]
    monkeypatch.setattr(efficiency_map, "best", lambda data: chosen)
    results = efficiency_map.tables(Arguments(tmp_path), efficiency_map.command.Clock())
    [(_, others, compared)] = runs[:1]
    [(_, seeds, reported)] = runs[-1:]
    assert len(seeds) == 64
    assert not others & seeds
    assert [cells[i] for i in compared] == noisy
    assert [cells[i] for i in reported if cells[i] in noisy] == chosen
    assert results["rates"] == "run 1"
    assert results["table"] == f"run {len(runs)}"


def test_a_rate_is_best_by_excess_loss_or_by_samples_of_runs_that_all_arrive():
    cells = [("supervised", 0.25, 2.0), ("supervised", 0.125, 1.0), ("supervised", 0.0625, 3.0)]
    cells += [("none", 0.5, 1.0), ("none", 0.25, 1.0), ("none", 0.125, 1.0)]
    samples = np.array([[np.nan, np.nan]] * 3 + [[10.0, np.nan], [400.0, 600.0], [800.0, 800.0]])
    place, hit = ("cell", "seed", "phase"), ("cell", "seed", "threshold")
    counts = ("step", "samples", "tokens", "trajectories", "flops", "flops_counted")
    gap = np.array([[[excess]] * 2 for _, _, excess in cells])
    data = xr.Dataset(
        {
            "phase_gap": (place, gap),
            "phase_trajectories": (place, np.ones((6, 2, 1))),
            "log_odds": (("cell", "seed", "log_point"), np.zeros((6, 2, 1))),
            **{f"hit_{name}": (hit, samples[..., None]) for name in counts},
        },
        {
            "threshold": [0.9],
            "world": ("cell", ["noisy labels"] * 6),
            "learner": ("cell", [learner for learner, _, _ in cells]),
            "rate": ("cell", [rate for _, rate, _ in cells]),
        },
    )
    chosen = {row["learner"]: row["rate"] for row in efficiency_map.best(data)}
    assert chosen == {"supervised": 0.125, "none": 0.25}


class Arguments:
    quick, seeds, devices = False, 64, None

    def __init__(self, out):
        self.out = out


def test_figures_are_drawn_again_where_their_sources_are_newer(tmp_path):
    names = ["figure", "figure_worlds"]
    assert not efficiency_map_figure.is_drawn(tmp_path, names)
    pictures = [tmp_path / f"{name}.png" for name in names]
    for picture in pictures:
        picture.touch()
    assert efficiency_map_figure.is_drawn(tmp_path, names)
    os.utime(pictures[1], (0, 0))
    assert not efficiency_map_figure.is_drawn(tmp_path, names)
    assert efficiency_map_figure.is_drawn(tmp_path, names[:1])
