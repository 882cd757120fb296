"""Every number of every registered thing is traced: specs that differ in numbers share a program.

jit knows a spec by its structure and its leaves by their types. So a number may not be static; that
no code asks for its value is seen where all are traced, which is cheap (test_pairs), and where
things that no pair meets are built: the rest of this file. Nothing is compiled.
"""

import dataclasses
import typing

import jax
import pytest

import simrl
from simrl.environments import bandit
from simrl.learners.updates import KEEPING, Optimizer
from simrl.policies import tabular
from simrl.sweeps import spec as specs
from tests.contracts.worlds import WORLDS, a_bandit, learner_spec, streams

NUMBERS = {float, float | None, tuple[float, ...]}
# Numbers that are off unless they are given: they are met here as given.
GIVEN = {
    "surrogate-penalised": simrl.Penalised(0.1, 0.2),
    "surrogate-ppo": simrl.PPO(entropy=0.1, kl_to_start=0.2),
    "learner-actor_critic": simrl.ActorCritic(stop_below=0.1),
    "learner-supervised": simrl.Supervised(smoothing=0.1),
    "environment-bandit": a_bandit("given", 3),
    "policy-tabular": simrl.Tabular("given", probs=(0.2, 0.3, 0.5)),
}
THINGS = {
    f"{family}-{name}": specs.resolve(family, name)
    for family, known in specs.FAMILIES.items()
    for name in known
} | GIVEN
STARTS = {
    start: simrl.Tabular(start, probs=(0.2, 0.3, 0.5) if start == "given" else ())
    for start in tabular.STARTS
}


def numbers_of(thing):
    """The values of the fields that are numbers by their types, of the parts of the thing too."""
    kinds = typing.get_type_hints(type(thing))
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if kinds[field.name] in NUMBERS:
            yield field.name, value
        elif dataclasses.is_dataclass(value):
            yield from numbers_of(value)


def with_numbers(thing, first):
    """The same with other numbers, all different."""
    leaves, tree = jax.tree.flatten(thing)
    return jax.tree.unflatten(tree, [first + i for i in range(len(leaves))])


@pytest.mark.parametrize("name", THINGS)
def test_numbers_are_leaves_and_the_rest_is_structure(name):
    thing = THINGS[name]
    found = [value for _, value in numbers_of(thing)]
    assert None not in found, "a number that is not given: put the thing with it into GIVEN"
    optimizers = [value for value in vars(thing).values() if isinstance(value, Optimizer)]
    found += [list(one.numbers.values()) for one in optimizers]
    leaves = jax.tree.leaves(thing)
    assert sorted(leaves) == sorted(jax.tree.leaves(found))
    one, other = (with_numbers(thing, first) for first in (0.25, 0.5))
    assert one != other or not leaves
    assert hash(jax.tree.structure(one)) == hash(jax.tree.structure(other))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    kinds = [jax.tree.map(lambda x: (x.dtype, x.shape), specs.traced(x)) for x in (one, thing)]
    assert jax.tree.leaves(kinds[0]) == jax.tree.leaves(kinds[1])  # float, int: one program


def forms(world, learner, policy):
    """Of a state at the start and after an update, by numbers of which nothing is known."""

    def run(parts):
        trial = specs.build(parts)
        state, task = trial.learner.init(streams(0)), trial.environment.init(streams(0).task)
        return state, trial.learner.step(streams(0), state, task)[0]

    states = jax.eval_shape(run, specs.traced((world, policy, learner)))
    return [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) for state in states]


@pytest.mark.parametrize("start", STARTS)
def test_starts(start):
    before, after = forms(WORLDS["bandit-gaussian"], simrl.PolicyGradient(), STARTS[start])
    assert before == after


@pytest.mark.parametrize("name", specs.ADVANTAGES)
def test_advantages(name):
    learner = learner_spec("policy_gradient", name)
    before, after = forms(WORLDS["sequence-exact-fixed"], learner, simrl.Tabular())
    assert before == after


@pytest.mark.parametrize("name", [name for name in GIVEN if name.startswith(("surr", "learn"))])
def test_numbers_that_are_off_unless_given(name):
    family, _, _ = name.partition("-")
    own = simrl.PolicyGradient(surrogate=GIVEN[name]) if family == "surrogate" else GIVEN[name]
    before, after = forms(WORLDS["sequence-exact-fixed"], own, simrl.Tabular())
    assert before == after


@pytest.mark.parametrize("kind", bandit.KINDS)
def test_bandits(kind):
    before, after = forms(a_bandit(kind, 3), simrl.PolicyGradient(), simrl.Tabular())
    assert before == after


@pytest.mark.parametrize("name", KEEPING)
def test_optimisers(name):
    """Those that every world may be learned by; the numbers of the others are optax's own."""
    optimizer = simrl.Optimizer(name, {"learning_rate": 0.1})
    learner = learner_spec("policy_gradient", optimizer=optimizer)
    before, after = forms(WORLDS["bandit-one_right"], learner, simrl.Tabular())
    assert before == after
