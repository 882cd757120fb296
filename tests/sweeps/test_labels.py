"""Names of axes and labels of conditions: those that would hide a column or a value are refused."""

import numpy as np
import pytest

import simrl
from simrl.sweeps import dataset, labels

Spec, Sweep = simrl.Spec, simrl.Sweep
GAUSSIAN = Spec(simrl.Bandit("gaussian", num_arms=4))
ALIKE = {"tie": {"max_steps": 3}}


def coordinates(vary, spec=GAUSSIAN, mode="product"):
    return [cell.coordinates for cell in Sweep(spec, vary, mode=mode).unchecked()]


def assert_refused(vary, mode, *words):
    with pytest.raises(simrl.SpecError) as caught:
        Sweep(GAUSSIAN, vary, mode=mode).unchecked()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) <= 300
    for word in words:
        assert word in line


def test_an_axis_that_a_table_has_a_column_for_is_called_by_its_path():
    assert coordinates({"environment.mean": [0.0, 4.0]}) == [
        {"environment.mean": 0.0},
        {"environment.mean": 4.0},
    ]
    both = coordinates({"phases.low": [-7.0], "environment.num_arms": [4], "max_steps": [3]})
    assert both == [{"phases.low": -7.0, "num_arms": 4, "max_steps": 3}]
    ends = {"learner.group_size": [2], "environment.noise": [1.0]}
    assert list(coordinates(ends)[0]) == ["group_size", "noise"]


RATE, OTHER = "learner.optimizer.learning_rate", "learner.critic_optimizer.learning_rate"


def test_axes_that_end_alike_are_called_by_their_paths():
    spec = Spec(simrl.Sequence(4, 2), simrl.ActorCritic())
    found = coordinates({RATE: [0.1], OTHER: [0.2], "max_steps": [3]}, spec)
    assert found == [{RATE: 0.1, OTHER: 0.2, "max_steps": 3}]


NAMES = {
    "a dim": "log_point",
    "a column": "quantity",
    "an estimate": "mean",
    "a measure": "pass_rate",
    "a total": "total_samples",
    "an end of a phase": "phase_low",
    "an error": "cosine_error",
    "seed": "seed",
    "seeds": "seeds",
    "a slash": "lr/size",
    "a newline": "lr\nsize",
    "half a surrogate": "lr\ud800",
    "nothing": "",
    "spaces": " ",
    "a dot": ".",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_table_or_file_can_hold_are_refused(name):
    axis = NAMES[name]
    assert_refused({axis: ALIKE}, "product")
    assert_refused({axis: ALIKE}, "zip")
    assert_refused([({axis: 1}, {"max_steps": 3})], "list")


def test_seeds_are_an_argument_of_run():
    assert_refused({"seed": range(3)}, "product", "argument of simrl.run")


LABELS = {
    "a tuple": (1, 2),
    "a list": [1],
    "a dict": {},
    "None": None,
    "not a number": np.nan,
    "more than 64 bits": 2**63,
    "no text": "",
    "a zero byte": "a\0",
    "half a surrogate": "\udfff",
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_no_table_or_file_can_hold_are_refused(name):
    label = LABELS[name]
    words = ("labels of ", "must be text")
    if not isinstance(label, list | dict):
        assert_refused({"max_steps": {label: 3}}, "product", "max_steps", *words)
    pairs = [({"size": label}, {"max_steps": 3}), ({"size": 1}, {"max_steps": 4})]
    assert_refused(pairs, "list", "size", *words)


def test_two_conditions_of_the_same_labels_are_refused():
    pairs = [({"size": 1}, {"max_steps": 3}), ({"size": 1}, {"max_steps": 4})]
    assert_refused(pairs, "list", "two conditions", "{'size': 1}")
    assert_refused([({}, {"max_steps": 3}), ({}, {"max_steps": 4})], "list", "two conditions")
    rows = [({"a": a, "b": b}, {"max_steps": 2 * a + b + 1}) for a in (0, 1) for b in (0, 1)]
    assert coordinates(rows, mode="list") == [own for own, _ in rows]
    for pairs in ([(1, {})], [({"a": 1}, 3)], [({"a": 1}, {3: 3})]):
        assert_refused(pairs, "list", "(labels, changes)")


def test_labels_of_several_kinds_become_text():
    """As one array they would: 1 and "1" would then be one."""
    rows = [({"size": x}, {"max_steps": i + 1}) for i, x in enumerate([1, "a", True, 2.5])]
    assert [own["size"] for own in coordinates(rows, mode="list")] == ["1", "a", "True", "2.5"]
    assert_refused({"max_steps": {1: 3, "1": 4}}, "product", "twice")
    assert coordinates({"max_steps": {1: 3, 2.5: 4}}) == [{"max_steps": 1}, {"max_steps": 2.5}]


PG, Optimizer = simrl.PolicyGradient, simrl.Optimizer
OBJECTS = {
    "one field": (
        [PG("none"), PG("leave_one_out")],
        ["PolicyGradient(advantage=none)", "PolicyGradient(advantage=leave_one_out)"],
    ),
    "another type": (
        [simrl.Supervised(), PG(group_size=2), PG(group_size=4)],
        ["Supervised", "PolicyGradient(group_size=2)", "PolicyGradient(group_size=4)"],
    ),
    "two fields": (
        [PG("none", 2), PG("none", 4), PG("batch_mean", 2)],
        [
            f"PolicyGradient(advantage={advantage}, group_size={size})"
            for advantage, size in (("none", 2), ("none", 4), ("batch_mean", 2))
        ],
    ),
    "an object within": (
        [PG(simrl.Constant(0.5)), PG(simrl.Constant(0.25)), PG("none")],
        [
            "PolicyGradient(advantage=Constant(baseline=0.5))",
            "PolicyGradient(advantage=Constant(baseline=0.25))",
            "PolicyGradient(advantage=none)",
        ],
    ),
    "known by name": (
        [simrl.Affine(), simrl.Affine(1.0, 1.0), simrl.Affine(0.5, 0.0)],
        ["none", "leave_one_out", "Affine(centre=0.5, correction=0.0)"],
    ),
    "optimisers": (
        [Optimizer("sgd", {"learning_rate": x}) for x in (0.1, 0.2)]
        + [Optimizer("adam", {"learning_rate": 0.1})],
        ["sgd(learning_rate=0.1)", "sgd(learning_rate=0.2)", "adam"],
    ),
    "dicts": (
        [{"name": "sgd", "learning_rate": 0.1}, {"name": "sgd", "learning_rate": 0.2}],
        ["sgd(learning_rate=0.1)", "sgd(learning_rate=0.2)"],
    ),
    "plain": ([np.float64(0.5), 1, "a", None, [1, 2]], [0.5, 1, "a", "None", "[1, 2]"]),
    "functions": ([assert_refused, coordinates], ["assert_refused", "coordinates"]),
    "own": ([GAUSSIAN.environment.build(), print], ["Environment", "print"]),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_labelled_by_what_differs(name):
    values, expected = OBJECTS[name]
    assert labels.of_values(values) == expected


def test_objects_that_differ_in_nothing_are_refused():
    assert_refused({"learner": [PG("none"), PG("none")]}, "product", "twice", "give labels")
    assert_refused({"learner": [lambda: 1, lambda: 2]}, "product", "twice", "give labels")


def test_all_names_of_datasets_and_tables_are_reserved(severally):
    """`severally` has most variables; what else may be there is in the list of their meanings."""
    names = {str(name) for name in severally.variables} | set(dataset.MEANINGS)
    names |= {f"{start}step" for start in dataset.DRAWN} | set(severally.dims)
    tables = [
        simrl.phase_table(severally),
        simrl.curve_table(severally, "pass_rate"),
        simrl.hitting_table(severally, statistic="iqm"),
        simrl.long_table(severally, ["pass_rate", "phase_samples", "hit_step"]),
    ]
    names |= {column for table in tables for column in table.columns}
    assert sorted(name for name in names if not labels.is_reserved(name)) == []


def test_a_colliding_axis_keeps_its_labels_in_every_table(small):
    rate = "learner.optimizer.learning_rate"
    data = simrl.run(Sweep(small, {"phases.low": [-7.0, -5.0], rate: [0.5]}), 2)
    for table in (simrl.phase_table(data), simrl.curve_table(data, "pass_rate")):
        assert sorted(set(table["phases.low"])) == [-7.0, -5.0]
    assert set(simrl.hitting_table(data)["phases.low"]) == {-7.0, -5.0}
