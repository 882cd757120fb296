"""What `help` says of the public records: every field, by name."""

import dataclasses
import inspect
import re

import pytest
import xarray

import simrl
from simrl.sweeps import aliases
from simrl.sweeps import spec as specs


def fields_of(kind):
    """The fields that a user can set; none for what is not a record."""
    if dataclasses.is_dataclass(kind):
        return [f.name for f in dataclasses.fields(kind)]
    return list(getattr(kind, "_fields", ()))


RECORDS = {
    name: thing
    for name, thing in ((name, getattr(simrl, name)) for name in simrl.__all__)
    if inspect.isclass(thing) and fields_of(thing)
}


def documented(kind):
    """The names under "Attributes:" in a docstring."""
    _, _, section = inspect.getdoc(kind).partition("Attributes:")
    return re.findall(r"^    (\w+): \S", section, re.MULTILINE)


def test_records_are_looked_at():
    assert {"Spec", "Policy", "PolicyGradient", "Optimizer", "Sequence", "Progress"} <= set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_a_record_is_in_its_docstring(name):
    assert documented(RECORDS[name]) == fields_of(RECORDS[name])


def test_names_in_docstrings_are_those_that_are_taken():
    """The lists in the docstrings of Spec and PolicyGradient go with what is registered."""
    said = inspect.getdoc(simrl.PolicyGradient) + inspect.getdoc(simrl.Spec)
    for family in ("environment", "policy", "learner", "advantage", "surrogate", "curriculum"):
        for name in specs.FAMILIES[family]:
            assert re.search(rf"\b{name}\b", said), (family, name)
    for name in ("grpo", "rloo", "reinforce", "dr_grpo", "ppo"):
        assert name in aliases.ALIASES["learner"]
        assert name in said


def test_names_of_a_fixed_set_are_typed():
    for kind, name in (
        (simrl.Spec, "engine"),
        (simrl.Spec, "log_spacing"),
        (simrl.Sequence, "reward"),
        (simrl.Bandit, "kind"),
        (simrl.Tabular, "start"),
        (simrl.PPO, "ratio"),
    ):
        kinds = {f.name: f.type for f in dataclasses.fields(kind)}
        assert kind().__dict__[name] in kinds[name].__args__


def test_a_type_checker_knows_what_run_returns():
    for function in (simrl.run, simrl.open):
        assert inspect.signature(function).return_annotation is xarray.Dataset
