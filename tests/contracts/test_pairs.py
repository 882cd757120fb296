"""Every registered learner in every kind of world, by every policy: it runs, or one line says why.

What is accepted is traced, not compiled: a start, an update and the measures of a state. Its
numbers are traced too, so that nothing may ask for their values: specs that differ in numbers
alone share a program, because jit knows a spec by its structure and its leaves by their types.
"""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

import simrl
from simrl import keys
from simrl.engine import observe, train
from simrl.sweeps import pools
from simrl.sweeps import spec as specs

ERRS = {"verifier": "noisy", "false_positive": 0.1, "false_negative": 0.2}
WORLDS = {
    "one right": simrl.Bandit(num_arms=3),
    "several right arms": simrl.Bandit(num_arms=4, num_right=2),
    "gaussian": simrl.Bandit("gaussian", 3),
    "contexts": simrl.Bandit("bernoulli", 3, num_contexts=2),
    "given": simrl.Bandit("given", 3, rewards=(1.0, 0.5, 0.0)),
    "exact": simrl.Sequence(2, 2, num_prompts=2),
    "fraction": simrl.Sequence(2, 2, "fraction"),
    "labels": simrl.Sequence(2, 2, "token", "zipf"),
    "verifier": simrl.Sequence(2, 2, "exact", **ERRS),
    "several right": simrl.Sequence(2, 2, num_right=2),
    "graded": simrl.Sequence(3, 2, num_prompts=2, revealed=(1, 0), frequencies="zipf"),
}
RUNS = {
    # what some pairs are for: these are not refused
    ("policy_gradient", "tabular"): set(WORLDS),
    ("supervised", "tabular"): set(WORLDS) - {"several right arms", "several right"},
    ("bayesian", "tabular"): {"one right", "exact", "fraction", "labels", "verifier"},
    ("thompson", "tabular"): {"gaussian", "one right", "several right arms", "given"},
    ("ucb1", "tabular"): {"gaussian", "given"},
    ("exact_gradient", "tabular"): {"gaussian", "contexts", "given"},
    ("policy_gradient", "autoregressive"): set(WORLDS) - {"graded"},
    ("prefix_replay", "tabular"): set(WORLDS) - {"gaussian", "contexts", "given", "labels"},
}


def accepted_cell(spec):
    """Its one cell; None where it is refused, in one line."""
    told = None
    try:
        (cell,) = simrl.Sweep(spec).cells()
    except simrl.SpecError as error:
        told = str(error)
    assert told is None or (told and "\n" not in told)
    return cell if told is None else None


def started(spec):
    """The loop's start, an update and what is measured, traced for their shapes."""
    parts, rules = specs.traced(specs.parts(spec)), pools.rules_of(spec)
    streams = keys.streams(jax.random.key(0), 0)

    def run(parts):
        trial = specs.build(parts)
        begun = train.start(trial, rules, streams)
        state, info = trial.learner.step(streams, begun.state, begun.task)
        known = observe.truth(trial, begun.task)
        seen = observe.of_state(trial, state, begun.task, known, jax.random.key(1))
        told = observe.of_update(trial, observe.beliefs(trial, state), known, info)
        return begun, state, seen, told

    begun, state, seen, told = jax.eval_shape(run, parts)
    assert jax.tree.structure(begun.state) == jax.tree.structure(state)
    trial = specs.build(parts)
    prompts = trial.environment.shape.num_prompts
    assert {leaf.shape for leaf in (seen | told).values()} == {(prompts,)}
    assert set(seen | told) <= {*observe.quantities(trial), "pass_rate"} | {
        name for name in seen if name.endswith("_error")
    }


@pytest.mark.parametrize("policy", specs.POLICIES)
@pytest.mark.parametrize("learner", specs.LEARNERS)
def test_it_runs_or_one_line_says_why(learner, policy):
    accepted = set()
    for name, world in WORLDS.items():
        cell = accepted_cell(simrl.Spec(world, learner, policy, engine="plain"))
        if cell is not None:
            started(cell.spec)
            accepted.add(name)
    assert accepted == RUNS.get((learner, policy), accepted)


CHECKED = """
import jax
import simrl
from tests.contracts import test_pairs

for learner in test_pairs.specs.LEARNERS:
    for world in test_pairs.WORLDS.values():
        test_pairs.accepted_cell(simrl.Spec(world, learner))
jax.config.update("jax_num_cpu_devices", 3)  # refused once there are devices
assert len(jax.devices("cpu")) == 3
"""


def test_checks_leave_jax_untouched():
    """A sweep that was only looked at can still be run on every core."""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", CHECKED], cwd=root, check=True)


@pytest.mark.parametrize("policy", specs.POLICIES)
def test_duels_are_measured_or_one_line_says_why(policy):
    accepted = set()
    for name, world in WORLDS.items():
        spec = simrl.Spec(world, "self_play", policy, engine="plain", measures=("duel",))
        cell = accepted_cell(spec)
        if cell is not None:
            started(cell.spec)
            accepted.add(name)
    told = {"one right", "several right arms", "exact", "fraction", "several right"}
    assert accepted == told | ({"graded"} if policy == "tabular" else set())


@pytest.mark.parametrize(
    "option",
    [
        *(("surrogate", name) for name in specs.SURROGATES if name != "score"),
        *(("curriculum", name) for name in specs.CURRICULA if name != "uniform"),
    ],
)
def test_options_of_policy_gradient_run_or_one_line_says_why(option):
    refused = []
    for name in ("gaussian", "exact", "labels", "verifier", "graded"):
        learner = {"name": "policy_gradient", option[0]: option[1]}
        cell = accepted_cell(simrl.Spec(WORLDS[name], learner, engine="plain"))
        if cell is None:
            refused.append(name)
        else:
            started(cell.spec)
    why = {"natural": ["graded"], "band": ["gaussian", "labels"], "oracle_band": ["labels"]}
    assert refused == why.get(option[1], [])


@pytest.mark.parametrize(
    ("world", "learner", "policy", "line"),
    [
        ("gaussian", {"curriculum": "band"}, "tabular", "rewards that tell what is right"),
        ("exact", {"curriculum": "oracle_band"}, "autoregressive", "independent positions"),
        ("several right", {"curriculum": "oracle_band"}, "tabular", "one right answer"),
        ("gaussian", {"name": "prefix_replay"}, "tabular", "rewards that tell what is right"),
        ("graded", {"name": "supervised", "smoothing": 0.1}, "tabular", "smoothing teaches"),
        ("exact", {"advantage": "expected_reward"}, "autoregressive", "a tabular policy"),
    ],
)
def test_what_would_be_wrong_is_refused(world, learner, policy, line):
    spec = simrl.Spec(WORLDS[world], {"name": "policy_gradient", **learner}, policy)
    with pytest.raises(simrl.SpecError, match=line):
        simrl.Sweep(spec).cells()
