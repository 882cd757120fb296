"""Specs and grids: what is refused, in one line, and what the cells of a sweep are."""

import dataclasses

import jax
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.sweeps import identity
from simrl.sweeps import spec as specs

Spec, Sweep = simrl.Spec, simrl.Sweep


def assert_refused(make, *words):
    """One line that names what is allowed."""
    with pytest.raises(simrl.SpecError) as caught:
        make()
    line = str(caught.value)
    assert line == line.strip() != ""
    assert "\n" not in line
    for word in words:
        assert word in line


def supervised(**fields):
    return {"name": "supervised", **fields}


def sgd(**numbers):
    return supervised(optimizer={"name": "sgd", "learning_rate": 0.1, **numbers})


BAD_SPECS = {
    "no environment": ({"environment": "maze"}, ["environment", "bandit, sequence", "'maze'"]),
    "not a name": ({"environment": 3}, ["bandit, sequence", "3"]),
    "a class": ({"environment": simrl.Bandit}, ["bandit, sequence"]),
    "no name": ({"environment": {"num_arms": 3}}, ["bandit, sequence"]),
    "no field": ({"environment": {"name": "bandit", "arms": 3}}, ["'arms'", "num_arms"]),
    "kind": ({"environment": simrl.Bandit("slot")}, ["one_right, gaussian, bernoulli"]),
    "one arm": ({"environment": simrl.Bandit(num_arms=1)}, ["num_arms", "at least 2"]),
    "spread": ({"environment": simrl.Bandit("gaussian", spread=-1.0)}, ["not be negative"]),
    "no number": ({"environment": simrl.Bandit("gaussian", noise=np.nan)}, ["noise", "number"]),
    "reward": ({"environment": simrl.Sequence(reward="bleu")}, ["exact, fraction, prefix"]),
    "labels": ({"environment": simrl.Sequence(labels="soft")}, ["fixed, zipf"]),
    "one symbol": ({"environment": simrl.Sequence(vocab_size=1)}, ["vocab_size", "at least 2"]),
    "no length": ({"environment": simrl.Sequence(length=0)}, ["length", "at least 1"]),
    "no policy": ({"policy": "oracle"}, ["policy", "tabular"]),
    "no learner": ({"learner": "q"}, ["supervised, policy_gradient"]),
    "no advantage": (
        {"learner": {"name": "policy_gradient", "advantage": "gae"}},
        ["none, batch_mean, leave_one_out, constant, running_mean"],
    ),
    "no optimiser": ({"learner": supervised(optimizer="sgdd")}, ["sgd or adam", "'sgdd'"]),
    "hidden": ({"learner": supervised(optimizer="_src")}, ["sgd or adam"]),
    "optimiser None": ({"learner": simrl.Supervised(optimizer=None)}, ["optimizer", "None"]),
    "no optimiser either": (
        {
            "learner": supervised(
                optimizer={"name": "cosine_decay_schedule", "init_value": 1.0, "decay_steps": 9}
            )
        },
        ["cosine_decay_schedule", "not an optimiser"],
    ),
    "optimiser's field": ({"learner": sgd(speed=1.0)}, ["optax.sgd", "speed"]),
    "rate missing": ({"learner": supervised(optimizer={"name": "sgd"})}, ["learning_rate"]),
    "rate in words": ({"learner": sgd(learning_rate="x")}, ["learning_rate", "number"]),
    "a rate missing": ({"learner": supervised(optimizer="adam")}, ["adam needs a learning_rate"]),
    "no labels": ({"learner": simrl.Supervised(batch_size=0)}, ["at least 1"]),
    "no group": ({"learner": simrl.PolicyGradient(group_size=0)}, ["at least 1"]),
    "half a group": ({"learner": simrl.PolicyGradient(group_size=2.5)}, ["whole", "2.5"]),
    "group in words": ({"learner": simrl.PolicyGradient(group_size="8")}, ["whole", "'8'"]),
    "alone": (
        {"learner": simrl.PolicyGradient(simrl.Affine(1.0, 1.0), group_size=1)},
        ["leave_one_out", "at least 2"],
    ),
    "no steps": ({"max_steps": 0}, ["max_steps", "9007199254740992"]),
    "too many": ({"max_steps": 2**31}, ["max_steps", "2147483647"]),
    "steps in words": ({"max_steps": "many"}, ["max_steps", "whole number"]),
    "never looks": ({"log_points": 0}, ["log_points", "at least 1"]),
    "never observes": ({"observe_every": 0}, ["observe_every", "in 1 ..."]),
    "observes too late": ({"observe_every": 2**31}, ["observe_every", "2147483647"]),
    "redraws": ({"num_redraws": 2}, ["num_redraws", "at least 3"]),
    "spacing": ({"log_spacing": "cubic"}, ["log or linear"]),
    "stop": ({"stop_pass_rate": 0.0}, ["stop_pass_rate", "(0, 1]"]),
    "stop past one": ({"stop_pass_rate": 1.5}, ["stop_pass_rate", "(0, 1]"]),
    "no thresholds": ({"thresholds": ()}, ["thresholds", "between 0 and 1"]),
    "certainty": ({"thresholds": (0.5, 1.0)}, ["thresholds", "between 0 and 1"]),
    "coordinate": ({"phases": simrl.Phases("loss")}, ["log_odds or excess_loss"]),
    "no bins": ({"phases": simrl.Phases(num=0)}, ["num >= 1"]),
    "backwards": ({"phases": simrl.Phases(low=1.0, high=0.0)}, ["low < high"]),
    "no noise": ({"phases": simrl.Phases("excess_loss")}, ["noisy labels"]),
    "base seed": ({"base_seed": "a"}, ["base_seed", "whole number"]),
}


@pytest.mark.parametrize("name", BAD_SPECS)
def test_bad_spec_is_refused_in_one_line(name):
    fields, words = BAD_SPECS[name]
    assert_refused(lambda: Sweep(Spec(**fields)).cells(), *words)


BAD_SWEEPS = {
    "path": ({"learner.speed": [1]}, "product", ["'speed'", "group_size"]),
    "a path's end": ({"learning_rate": [1]}, "product", ["mean learner.optimizer.learning_rate?"]),
    "first of path": ({"lerner": [1]}, "product", ["'lerner'", "learner"]),
    "past a number": ({"max_steps.x": [1]}, "product", ["'x'"]),
    "nothing": ({"max_steps": []}, "product", ["max_steps", "no values"]),
    "twice": ({"max_steps": [1, 1]}, "product", ["max_steps", "twice"]),
    "one value": ({"max_steps": 5}, "product", ["max_steps", "list"]),
    "one name": ({"environment": "bandit"}, "product", ["environment", "list"]),
    "lengths": ({"max_steps": [1, 2], "base_seed": [3]}, "zip", ["one length"]),
    "mode": ({}, "grid", ["product, zip or list"]),
    "no mapping": ([1], "product", ["map paths to lists"]),
    "no pairs": ({"max_steps": [1]}, "list", ["(labels, changes)"]),
    "empty": ([], "list", ["(labels, changes)"]),
    "labels": ([({"a": 1}, {}), ({"b": 1}, {})], "list", ["same labels"]),
    "bad value": ({"max_steps": [5, 0]}, "product", ["max_steps", "not 0"]),
}


@pytest.mark.parametrize("name", BAD_SWEEPS)
def test_bad_sweep_is_refused_in_one_line(name):
    vary, mode, words = BAD_SWEEPS[name]
    assert_refused(lambda: Sweep(Spec(), vary, mode=mode).cells(), *words)


@pytest.mark.parametrize("seeds", [0, -1, 1.5, [], [0.5], [-1], [2**32], "ab"])
def test_bad_seeds_are_refused(seeds, small):
    assert_refused(lambda: simrl.run(small, seeds), "seeds", "2^32")


def test_bad_choices_of_cells_and_devices_are_refused(small):
    for only in ([], [1], [-1]):
        assert_refused(lambda only=only: simrl.run(small, 2, only=only), "only", "0 ... 0")
    for devices in (0, -1):
        assert_refused(
            lambda devices=devices: simrl.run(small, 2, devices=devices), "devices must be in 1"
        )


def paths(sweep, *fields):
    """(coordinates, value of each field) of every cell."""
    found = []
    for cell in sweep.cells():
        values = []
        for field in fields:
            value = cell.spec
            for part in field.split("."):
                value = value[part] if isinstance(value, dict) else getattr(value, part)
            values.append(value)
        found.append((cell.coordinates, *values))
    return found


RATE = "learner.optimizer.learning_rate"
NUMBER = "learner.optimizer.numbers.learning_rate"


def test_product_zip_and_list():
    vary = {"max_steps": [10, 20], RATE: [0.1, 0.2]}
    product = paths(Sweep(Spec(), vary), "max_steps", NUMBER)
    assert [row[1:] for row in product] == [(10, 0.1), (10, 0.2), (20, 0.1), (20, 0.2)]
    assert product[1][0] == {"max_steps": 10, "learning_rate": 0.2}
    zipped = paths(Sweep(Spec(), vary, mode="zip"), "max_steps", NUMBER)
    assert zipped == [
        ({"max_steps": 10, "learning_rate": 0.1}, 10, 0.1),
        ({"max_steps": 20, "learning_rate": 0.2}, 20, 0.2),
    ]
    pairs = [({"size": "small"}, {"max_steps": 5}), ({"size": "large"}, {"max_steps": 9, RATE: 3})]
    listed = paths(Sweep(Spec(), pairs, mode="list"), "max_steps", NUMBER)
    assert listed == [({"size": "small"}, 5, 8.0), ({"size": "large"}, 9, 3)]
    assert paths(Sweep(Spec(max_steps=7)), "max_steps") == [({}, 7)]


def test_axes_with_labels_and_axes_that_change_together():
    vary = {
        "learner": {"SL": simrl.Supervised(), "RL": {"name": "policy_gradient", "group_size": 4}},
        "pace": {"slow": {RATE: 0.1, "max_steps": 90}, "fast": {RATE: 1.0, "max_steps": 9}},
    }
    found = paths(Sweep(Spec(), vary), "learner", "max_steps", NUMBER)
    assert [row[0] for row in found] == [
        {"learner": learner, "pace": pace} for learner in ("SL", "RL") for pace in ("slow", "fast")
    ]
    assert [type(row[1]) for row in found] == [simrl.Supervised] * 2 + [simrl.PolicyGradient] * 2
    assert [row[2:] for row in found] == [(90, 0.1), (9, 1.0)] * 2
    assert found[2][1].group_size == 4


def test_names_become_things_and_short_names_stay_apart():
    spec = Spec(environment="bandit", learner="policy_gradient", policy="tabular")
    ready = specs.resolved(spec)
    assert ready.environment == simrl.Bandit()
    assert ready.learner == simrl.PolicyGradient()
    named = specs.resolve("learner", {"name": "policy_gradient", "advantage": "leave_one_out"})
    assert named.advantage == simrl.Affine(1.0, 1.0)
    vary = {"environment.noise": [1.0], "phases.num": [3]}
    assert Sweep(Spec(environment="bandit"), vary).cells()[0].coordinates == {"noise": 1, "num": 3}
    clash = {"environment.reward": ["exact"], "learner.reward": ["exact"]}
    with pytest.raises(simrl.SpecError, match="reward"):
        Sweep(Spec(), clash).cells()


def test_numpy_values_are_plain_labels():
    cells = Sweep(Spec(), {"max_steps": np.array([4, 8])}).cells()
    assert [cell.coordinates["max_steps"] for cell in cells] == [4, 8]
    assert {type(cell.coordinates["max_steps"]) for cell in cells} == {int}


GOOD_TOML = """
name = "try"
max_steps = 50
thresholds = [0.5]
phases = { num = 3, low = -1 }
[environment]
name = "sequence"
vocab_size = 4
[learner]
name = "policy_gradient"
advantage = { name = "constant", baseline = 0.25 }
optimizer = { name = "adam", learning_rate = 0.01 }
[vary]
"environment.length" = [1, 2]
learner.group_size = [4]
"""


def test_toml_round_trip(tmp_path):
    file = tmp_path / "given.toml"
    file.write_text(GOOD_TOML.replace("learner.group_size", '"learner.group_size"'))
    sweep = simrl.load(file)
    by_hand = Sweep(
        Spec(
            environment=simrl.Sequence(vocab_size=4),
            learner=simrl.PolicyGradient(
                simrl.Constant(0.25), optimizer=simrl.Optimizer("adam", {"learning_rate": 0.01})
            ),
            max_steps=50,
            thresholds=(0.5,),
            phases=simrl.Phases(num=3, low=-1.0),
        ),
        {"environment.length": [1, 2], "learner.group_size": [4]},
        name="try",
    )
    assert sweep.describe() == by_hand.describe()
    assert [identity.cell_hash(c.spec) for c in sweep.cells()] == [
        identity.cell_hash(c.spec) for c in by_hand.cells()
    ]
    file.write_text("max_steps = 3")
    assert simrl.load(file).name == "given"


BAD_TOML = {
    "syntax": ("max_steps = = 3", ["not valid TOML"]),
    "field": ("max_step = 3", ["'max_step'", "max_steps"]),
    "nested": ("[environment]\nname = 'bandit'\narms = 3", ["'arms'", "num_arms"]),
    "name": ("environment = 'maze'", ["bandit, sequence"]),
    "own": ("environment = 'math:pi'", ["allow=['math']"]),
    "vary": ("vary = 3", ["vary"]),
}


@pytest.mark.parametrize("name", BAD_TOML)
def test_bad_toml_is_refused_in_one_line(name, tmp_path):
    text, words = BAD_TOML[name]
    file = tmp_path / "bad.toml"
    file.write_text(text)
    assert_refused(lambda: simrl.load(file).cells(), *words)


def test_missing_toml_is_refused_in_one_line(tmp_path):
    assert_refused(lambda: simrl.load(tmp_path / "none.toml"), "none.toml", "No such file")


def test_hashes_know_what_a_cell_is_and_not_how_it_was_written():
    def name(**fields):
        return identity.cell_hash(specs.resolved(dataclasses.replace(Spec(), **fields)))

    assert (
        name()
        == name(environment="sequence")
        == name(stop_pass_rate=1, thresholds=[0.5, 0.9, 0.99])
    )
    assert name(phases=simrl.Phases(low=-7)) == name()
    rates = [simrl.Optimizer("sgd", {"learning_rate": rate}) for rate in (1, 1.0, np.float32(1))]
    assert len({name(learner=simrl.Supervised(optimizer=rate)) for rate in rates}) == 1
    others = [
        name(max_steps=7),
        name(base_seed=1),
        name(keep_beliefs=True),
        name(environment=simrl.Sequence(zipf_exponent=2.0)),
        name(learner=simrl.PolicyGradient(simrl.Affine(0.0, 0.0))),
        name(learner=simrl.PolicyGradient(simrl.Constant())),
        name(learner=simrl.PolicyGradient(optimizer=simrl.Optimizer("adam", learning_rate=1.0))),
    ]
    assert len({name(), *others}) == len(others) + 1


def test_the_default_learns_in_about_twice_the_samples_of_one_success():
    """A guess is right with 8^-3: 16 updates of 32 for one success. In 80, nearly all have it."""
    spec = specs.resolved(Spec())
    assert spec.learner.advantage == specs.ADVANTAGES["leave_one_out"]
    trial = specs.build(specs.parts(spec))

    @jax.jit
    @jax.vmap
    def final(seed):
        streams = keys.streams(jax.random.key(0), seed)
        task = trial.environment.init(streams.task)
        state = trial.learner.init(keys.at_step(streams, 0))

        def step(state, i):
            return trial.learner.step(keys.at_step(streams, i), state, task)[0], None

        state, _ = jax.lax.scan(step, state, np.arange(80))
        right = np.arange(3), task.answers[0]
        return trial.learner.belief(state, np.int32(0))[right].sum()

    assert np.mean(np.exp(final(np.arange(64))) > 0.5) > 0.8


def test_numbers_are_leaves_and_structure_is_not():
    leaves = jax.tree.leaves(simrl.Bandit("gaussian", num_arms=7, mean=4.0))
    assert sorted(leaves) == [0.0, 0.0, 1.0, 1.0, 4.0]  # the rates of a verifier, too
    learner = simrl.PolicyGradient(simrl.Constant(0.5), group_size=9)
    assert sorted(jax.tree.leaves(learner)) == [0.5, 8.0]
