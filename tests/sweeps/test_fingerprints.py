"""Results of code that has changed under its version are refused, not given back."""

import importlib
import json
import sys

import jax
import numpy as np
import pytest

import simrl
from simrl.sweeps import fingerprints
from simrl.sweeps import spec as specs

CODE = """
import jax
import jax.numpy as jnp
import numpy as np
import simrl

TABLE = np.array([0.0, 1.0, 2.0, 3.0], np.float32)


def env():
    def reward(words, task, prompt, answer):
        return simrl.Outcome(TABLE[3] * (answer == 3), 1.0 * (answer[0] == 3))

    return simrl.Bandit(num_arms=4).build()._replace(
        init=lambda key: (),
        prompt=lambda word, task: jnp.int32(0),
        label=lambda words, task, prompt: jnp.array([3]),
        reward=reward,
        target=lambda task, prompt: jax.nn.one_hot(jnp.array([3]), 4) * jnp.asarray(TABLE) / 3,
        channel=None,
        binary=False,
        trailing=False,
        matching=False,
        by_prompt=False,
    )


def advantage(batch_size, length):
    return simrl.Advantage(tuple, lambda state, rollout: (state, rollout.credit))


def policy(shape):
    return simrl.Tabular().build(shape)


def learner(environment, policy):
    return simrl.Supervised(optimizer=simrl.Optimizer("sgd", {"learning_rate": 1.0})).build(
        environment, policy
    )
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes the text of a module of the user's own and imports it anew."""
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def write(text):
        (folder / "my_code.py").write_text(text)
        sys.modules.pop("my_code", None)
        importlib.invalidate_caches()
        (folder / "__pycache__").exists() and [f.unlink() for f in folder.glob("__pycache__/*")]
        fingerprints._CACHE.clear()

    yield write
    sys.modules.pop("my_code", None)


def entries(version="1", **components):
    """What is stored of a spec with components of the module."""
    named = {name: simrl.own(f"my_code:{name}", version) for name in components}
    learner = simrl.PolicyGradient(named.get("advantage", "none"), group_size=4)
    fields = {
        "environment": named.get("env", simrl.Sequence(4, components.get("policy", 1))),
        "learner": named.get("learner", learner),
        "policy": named.get("policy", simrl.Tabular()),
    }
    return fingerprints.of_spec(specs.resolved(simrl.Spec(**fields)))


CHANGES = {  # component -> (what is written there, what instead)
    "env": ("TABLE[3] * (answer == 3)", "0 * (answer == 3)"),
    "advantage": ("rollout.credit)", "2 * rollout.credit)"),
    "policy": ("simrl.Tabular()", "simrl.Tabular('random')"),
    "learner": ('"sgd"', '"adam"'),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_fingerprint_is_of_what_is_computed(name, written):
    def fingerprint(text):
        written(text)
        (entry,) = entries(**{name: 1})
        assert entry["component"].endswith(f"my_code:{name}")
        return entry["fingerprint"]

    before = fingerprint(CODE)
    assert len(before) == 16
    assert fingerprint(f"# A remark.\n{CODE}") == before
    assert fingerprint(CODE.replace(*CHANGES[name])) != before


def test_numbers_that_a_program_holds_are_part_of_it(written):
    found = set()
    for table in ("0.0, 1.0, 2.0, 3.0", "0.5, 1.0, 2.0, 3.0"):  # read by target alone
        written(CODE.replace("0.0, 1.0, 2.0, 3.0", table))
        found.add(entries(env=1)[0]["fingerprint"])
    assert len(found) == 2


def test_sizes_are_no_change(written):
    written(CODE)
    one, two = (entries(policy=length)[0] for length in (1, 2))
    assert one["built_from"] != two["built_from"]
    assert one["fingerprint"] != two["fingerprint"]
    assert entries() == []


def stored(path, code):
    phases = {"coordinate": "log_odds", "low": 0, "high": 1, "num": 2}
    spec = {"phases": phases, "thresholds": [0.5]}
    return [{"coordinates": {}, "hash": "a", "path": "plain", "spec": spec, "code": code}]


def test_only_equal_names_and_versions_are_compared(monkeypatch, tmp_path):
    entry = {
        "component": "policy my_code:policy",
        "version": "1",
        "built_from": "(1, 1, 4)",
        "made_with": "jax 1",
        "fingerprint": "a",
    }
    (tmp_path / "manifest.json").write_text("")
    manifest = {"sweep": {"cells": stored(tmp_path, [entry])}}
    monkeypatch.setattr(fingerprints, "read_manifest", lambda path: manifest)

    def refuse(**changes):
        fingerprints.refuse_changes(tmp_path, stored(tmp_path, [{**entry, **changes}]))

    refuse()
    for field in ("component", "version", "built_from", "made_with"):
        refuse(fingerprint="b", **{field: "other"})
    with pytest.raises(simrl.SpecError, match=r"my_code:policy: has changed since version 1"):
        refuse(fingerprint="b")
    manifest["sweep"]["cells"][0]["code"][0]["fingerprint"] = ""  # it could not be traced
    refuse(fingerprint="b")


def test_a_changed_reward_does_not_return_old_results(written, tmp_path):
    def run(text, seeds):
        written(text)
        spec = simrl.Spec(simrl.own("my_code:env", "1"), simrl.Supervised(), max_steps=2)
        return simrl.run(spec, seeds, out)

    out = tmp_path / "out"
    kept = run(CODE, 2)
    code = json.loads((out / "manifest.json").read_text())["sweep"]["cells"][0]["code"]
    assert [entry["component"] for entry in code] == ["environment my_code:env"]
    assert jax.__version__ in code[0]["made_with"]
    np.testing.assert_array_equal(run(f"{CODE}\n", 2).pass_rate, kept.pass_rate)
    for seeds in (2, 3):  # a run that has all and one that resumes
        with pytest.raises(simrl.SpecError) as caught:
            run(CODE.replace(*CHANGES["env"]), seeds)
        line = str(caught.value)
        assert line.startswith("environment my_code:env: has changed since version 1 was stored")
        assert "another version" in line
        assert "\n" not in line
