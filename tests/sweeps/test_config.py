"""Sweeps from TOML files: what a file says, and what is said of its mistakes."""

from pathlib import Path

import pytest

import simrl
from simrl.sweeps import owned

EXAMPLE = Path(__file__).resolve().parents[2] / "simrl" / "cli" / "template.toml"
RATE = "learner.optimizer.learning_rate"


@pytest.fixture
def load(tmp_path):
    def of_text(text, **options):
        file = tmp_path / "sweep.toml"
        file.write_text(text)
        return simrl.load(file, **options)

    return of_text


def test_the_example_is_a_valid_sweep():
    by_hand = simrl.Sweep(
        simrl.Spec(
            simrl.Sequence(8, 3, "fraction"), simrl.PolicyGradient(group_size=16), max_steps=500
        ),
        {RATE: [4, 16], "learner.advantage": {"REINFORCE": "none", "RLOO": "leave_one_out"}},
        name="NAME",
    )
    assert simrl.load(EXAMPLE).describe() == by_hand.describe()


NESTED = {
    "a dotted key": (f"[vary]\n{RATE} = [0.5, 1]", {RATE: [0.5, 1]}),
    "a quoted key": (f'[vary]\n"{RATE}" = [0.5, 1]', {RATE: [0.5, 1]}),
    "two levels": (
        f"[vary]\n{RATE} = [0.5]\nlearner.group_size = [2, 4]\nmax_steps = [3]",
        {RATE: [0.5], "learner.group_size": [2, 4], "max_steps": [3]},
    ),
    "a table": ("[vary.learner]\ngroup_size = [2, 4]", {"learner.group_size": [2, 4]}),
    "labels of a learner": (
        '[vary.learner]\nSL = "supervised"\nRL = { name = "policy_gradient", group_size = 4 }',
        {"learner": {"SL": "supervised", "RL": {"name": "policy_gradient", "group_size": 4}}},
    ),
    "labels of an advantage": (
        '[vary]\nlearner.advantage = { none = "none", RLOO = "leave_one_out" }',
        {"learner.advantage": {"none": "none", "RLOO": "leave_one_out"}},
    ),
    "labels of numbers": ("[vary]\nmax_steps = { a = 5 }", {"max_steps": {"a": 5}}),
    "labels of lists": ("[vary.thresholds]\nlow = [0.1]", {"thresholds": {"low": [0.1]}}),
    "paths that change together": (
        '[vary.pace]\nslow = { max_steps = 9 }\nfast = { max_steps = 3, "phases.num" = 4 }',
        {"pace": {"slow": {"max_steps": 9}, "fast": {"max_steps": 3, "phases.num": 4}}},
    ),
    "a list of lists": ("[vary]\nthresholds = [[0.5], [0.9]]", {"thresholds": [[0.5], [0.9]]}),
}


@pytest.mark.parametrize("name", NESTED)
def test_nested_tables_become_paths(name, load):
    text, vary = NESTED[name]
    assert load(text).vary == vary


MISTAKES = {
    "name in [vary]": ("[vary]\nmax_steps = [3]\nname = 'a'", ["name", "above [vary]"]),
    "mode in [vary]": ("[vary]\nmax_steps = [3]\nmode = 'zip'", ["mode", "above [vary]"]),
    "a field in [vary]": ("[vary]\nmax_steps = 3", ["max_steps", "list of values", "above [vary]"]),
    "a list in [vary]": (
        "[vary]\nthresholds = [0.5, 0.9]",
        ["thresholds", "list of lists", "above [vary]"],
    ),
    "no such field": ("[vary]\nlearner.group_sise = [3]", ["'group_sise'", "group_size"]),
    "nothing in it": ("[vary.learner]", ["no values"]),
    "_target_": (
        "[learner]\n_target_ = 'simrl.Supervised'",
        ["[learner] needs a name, not _target_", "supervised, policy_gradient"],
    ),
    "type": ("[environment]\ntype = 'bandit'", ["[environment] needs a name, not type", "bandit"]),
    "no name": ("[learner]\ngroup_size = 3", ["[learner] needs a name", "policy_gradient"]),
    "no name within": (
        "[learner]\nname = 'policy_gradient'\nadvantage = { baseline = 0.5 }",
        ["[learner.advantage] needs a name", "leave_one_out"],
    ),
    "seeds": ("seeds = 2000", ["seeds", "argument of simrl.run"]),
    "out": ("out = 'results'", ["out", "argument of simrl.run"]),
    "text for a number": ("max_steps = '3'", ["max_steps", "whole number", "'3'"]),
    "a fraction": ("log_points = 2.5", ["log_points", "whole number"]),
    "text in a part": (
        "[environment]\nname = 'bandit'\nnum_arms = '3'",
        ["environment.num_arms", "whole number"],
    ),
    "text in [vary]": ("[vary]\nmax_steps = ['3']", ["max_steps", "whole number"]),
    "a number for a name": ("name = 3", ["name must be text"]),
    "a mode": ("mode = 'grid'", ["product, zip or list"]),
    "a number for vary": ("vary = 3", ["vary", "lists of values"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_when_a_file_is_loaded(name, load):
    text, words = MISTAKES[name]
    with pytest.raises(simrl.SpecError) as caught:
        load(text)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) <= 300
    for word in words:
        assert word in line


def test_a_file_and_a_folder_are_told_apart(load, tmp_path):
    load("max_steps = 3")
    with pytest.raises(simrl.SpecError, match=r"simrl\.load reads a sweep from a file$"):
        simrl.run(str(tmp_path / "sweep.toml"), 2)
    with pytest.raises(simrl.SpecError, match=r"is a folder.*simrl\.open reads results$"):
        simrl.load(tmp_path)


def names(source):
    return f'{{ name = "{source}", version = "1" }}'


STRANGE = {
    "a component": f"environment = {names('os:abort')}",
    "text": "environment = 'os:abort'",
    "a part": f"[learner]\nname = 'policy_gradient'\nadvantage = {names('os:abort')}",
    "a value": f"[vary]\nenvironment = ['bandit', {names('os:abort')}]",
    "a labelled value": f"[vary.environment]\na = 'bandit'\nb = {names('os:abort')}",
    "a path": f"[vary.pace]\na = {{ environment = {names('os:abort')} }}",
    "a pair": f"mode = 'list'\nvary = [[{{ a = 1 }}, {{ environment = {names('os:abort')} }}]]",
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_file_names_no_module_that_its_user_does_not_allow(name, load, monkeypatch):
    monkeypatch.setattr(owned.importlib, "import_module", lambda name: pytest.fail(name))
    for options in ({}, {"allow": ["osx", "o", "simrl"]}):
        with pytest.raises(simrl.SpecError) as caught:
            load(STRANGE[name], **options)
        line = str(caught.value)
        for word in ("'os:abort'", "simrl.load(path, allow=['os'])", "--allow os"):
            assert word in line


def test_colons_elsewhere_name_no_module(load):
    text = "name = 'a:b'\nmode = 'list'\nvary = [[{ a = 'x:y' }, { max_steps = 3 }]]"
    assert load(text).cells()[0].coordinates == {"a": "x:y"}


@pytest.mark.parametrize("allow", ["my_code", [1], [""], 3, None])
def test_modules_are_allowed_by_a_list_of_names(allow, load):
    with pytest.raises(simrl.SpecError, match=r"^allow: must be a list of names, got"):
        load("max_steps = 3", allow=allow)


@pytest.fixture
def code(tmp_path, monkeypatch):
    """Writes a module of the user's and returns its name, another one each time."""

    def write(text):
        name = f"users_code_{len(list(tmp_path.glob('*.py')))}_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    return write


def test_a_file_names_modules_that_its_user_allows(load, code):
    module = code("from simrl import Bandit\n\n\ndef env():\n    return Bandit().build()\n")
    (cell,) = load(f"environment = {names(f'{module}:env')}", allow=[module]).cells()
    assert cell.spec.environment.source == f"{module}:env"
    text = f"environment = {names('xml.dom:Node')}"
    with pytest.raises(simrl.SpecError, match=r"environment: must be a simrl\.Environment"):
        load(text, allow=["xml"]).cells()  # the package that it is in


RAISED = {
    "SystemExit": ("import sys\n\nsys.exit(3)\n", "SystemExit: 3", 3),
    "ZeroDivisionError": ("x = 1\ny = 1 / 0\n", "ZeroDivisionError: division by zero", 2),
    "SyntaxError": ("x = 1\ndef\n", "SyntaxError: invalid syntax", 2),
    "ModuleNotFoundError": ("import no_such_module\n", "No module named 'no_such_module'", 1),
    "a call": ("def env():\n    raise SystemExit(3)\n", "env fails: SystemExit: 3", 2),
}


@pytest.mark.parametrize("name", RAISED)
def test_what_an_allowed_module_raises_is_one_line(name, load, code):
    text, words, line = RAISED[name]
    module = code(text)
    with pytest.raises(simrl.SpecError) as caught:
        load(f"environment = {names(f'{module}:env')}", allow=[module]).cells()
    assert words in str(caught.value)
    assert f"({module}.py, line {line})" in str(caught.value)


def test_ctrl_c_in_a_users_module_stops_the_process(load, code):
    module = code("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load(f"environment = {names(f'{module}:env')}", allow=[module])


DEEP = {
    "brackets": f"x = {'[' * 3000}{']' * 3000}",
    "tables": f"x = {'{a = ' * 3000}1{'}' * 3000}",
    "a dotted name": f"[{'a.' * 3000}a]",
}


@pytest.mark.parametrize("name", DEEP)
def test_brackets_in_brackets_are_refused(name, load):
    with pytest.raises(simrl.SpecError, match=r"brackets in brackets|levels of lists and tables"):
        load(DEEP[name])
