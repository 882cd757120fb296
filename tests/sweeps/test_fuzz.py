"""Mutated files and specs are refused in one line; what a mutation led to once is listed here."""

import itertools

import numpy as np
import pytest

import simrl
from simrl.errors import SpecError
from simrl.sweeps import memory, sizes
from tests.sweeps import fuzz


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_a_mutated_input_is_refused_in_one_line(kind):
    tally, failures = fuzz.fuzz(fuzz.KINDS[kind], 60)
    assert failures == []
    assert tally["accepted"] + tally["refused"] == 60


@pytest.mark.parametrize("base", [fuzz.BASE, *fuzz.OTHERS])
def test_what_is_mutated_is_valid(base):
    fuzz.check_toml(fuzz.toml_of(base).encode())


def spec(**fields):
    return lambda: simrl.Sweep(simrl.Spec(**fields)).cells()


def vary(axes, **fields):
    return lambda: simrl.Sweep(simrl.Spec(), axes, **fields).cells()


def optimizer(**fields):
    return spec(learner={"name": "supervised", "optimizer": {"name": "sgd", **fields}})


def seeds(value):
    return lambda: simrl.run(simrl.Spec("bandit", max_steps=2), value)


RATE = "learner.optimizer.learning_rate"
INPUTS = {
    "a dict for a number": (spec(max_steps={"a": 1}), "max_steps must be a whole number"),
    "a list for a name": (spec(environment={"name": []}), "environment needs a name"),
    "a number for a name": (vary({"learner.optimizer.name": [1]}), "must name an optax optimiser"),
    "a number for labels": (vary([[1, {}]], mode="list"), "list of (labels, changes)"),
    "a dict for a rate": (optimizer(learning_rate={"a": 1}), "learning_rate must be a number"),
    "a list for numbers": (lambda: simrl.Optimizer("sgd", [1]), "Optimizer.numbers: must be"),
    "a number for a clip": (optimizer(clip=2), "clip must be text, not 2"),
    "a list for a schedule": (optimizer(schedule=[1]), "schedule must be text, not [1]"),
    "400 digits": (spec(learner={"name": "supervised", "batch_size": 10**400}), "64 bits"),
    "5,000 digits": (spec(max_steps=10**5000), "max_steps must be a whole number"),
    "digits in a list": (vary({"max_steps": [[10**5000]]}), "max_steps must be a whole number"),
    "digits for a name": (optimizer(name=10**5000), "must name an optax optimiser"),
    "brackets for a name": (optimizer(name=fuzz.nested(3000)), "must name an optax optimiser"),
    "an optimiser": (spec(learner=simrl.Optimizer()), "learner must be one of"),
    "an array": (
        lambda: simrl.Sweep(simrl.Spec(simrl.Bandit(rewards=np.zeros(9)))).cells(),
        "list",
    ),
    "many rewards": (spec(environment={"name": "bandit", "rewards": [1] * 10**5}), "environment: "),
    "deep": (vary({"max_steps": [fuzz.nested(3000)]}), "levels of lists"),
    "a dict without text": (spec(environment={"name": "bandit", 1: 2}), "named by text"),
    "a dict for a kind": (spec(environment={"name": "bandit", "kind": {}}), "kind must be text"),
    "seeds without end": (seeds(itertools.count()), "up to 10^7 distinct integers"),
    "10^9 seeds": (seeds(10**9), "fit in this machine's memory"),
    "a long list of seeds": (seeds(range(10**9)), "up to 10^7 distinct integers"),
    "log points": (spec(log_points=2**20), "log_points must be at least 1, at most 65536"),
    "phases": (spec(phases={"num": 2**20}), "at most 4096"),
    "thresholds": (spec(thresholds=[i / 1e5 for i in range(1, 10**5)]), "at most 1024, not 99999"),
    "conditions": (vary({RATE: range(1, 10**4)}), "at most 4096 values"),
    "combinations": (vary({RATE: range(99), "max_steps": range(99)}), "not 99 x 99"),
    "half a character": (vary({}, name="\ud800"), "without control characters, got '\\ud800'"),
    "a zero byte": (vary({}, name="a\0b"), "without control characters, got 'a\\x00b'"),
    "a folder above": (vary({}, name="../a"), "must be without /"),
    "a zero byte in a version": (lambda: simrl.own("math:pi", "\0"), "version must be text"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_what_cannot_be_is_refused_before_it_is_read(name):
    make, words = INPUTS[name]
    with pytest.raises(SpecError) as caught:
        make()
    line = str(caught.value)
    assert words in line
    assert len(line) <= 300
    assert line.isprintable()


def test_a_message_is_one_line_of_printable_characters():
    line = str(SpecError("a\n\0" + "x" * 10**6 + "\ud800; did you mean y?"))
    assert len(line) <= 300
    assert line.isprintable()
    assert line.startswith("a\\n\\x00xxx")
    assert line.endswith("\\ud800; did you mean y?")
    assert str(SpecError("as it is")) == "as it is"


def test_results_that_do_not_fit_are_refused_to_the_seed(monkeypatch):
    sweep = simrl.Sweep(simrl.Spec("bandit", max_steps=2), {"max_steps": [2, 3]})
    size = sum(sizes.of_seed(cell.spec) for cell in sweep.cells())
    monkeypatch.setattr(memory, "machine_bytes", lambda: 2 * 1000 * size)
    assert simrl.plan(sweep, 1000).seed_runs == 2000
    with pytest.raises(SpecError, match=r"at most 1000 here, not 1001"):
        simrl.plan(sweep, 1001)
