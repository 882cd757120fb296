"""Optimisers of optax: which are taken, how they are written, and what each other is refused for.

The list of them is optax's own, so that a new release is met as it comes.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import simrl
from simrl.learners import optimizers
from simrl.sweeps import identity
from simrl.sweeps import spec as specs

Optimizer = simrl.Optimizer
ALL = optimizers.optimisers()
# What moves by more than a gradient and numbers that may be traced, by a word of its reason.
REFUSED = {
    "lbfgs": "value_fn",
    "polyak_sgd": "'value'",
    "momo": "'value'",
    "momo_adam": "'value'",
    "sophia": "obj_fn",
    "noisy_sgd": "all seeds would share",
    "dpsgd": "missing 3 required",
    "schedule_free": "missing 1 required",
}
ARGUMENTS = {"noisy_sgd": {"eta": 1.0}}  # besides the learning rate


def problems(value):
    """Of an optimiser as a spec resolves it."""
    return specs.resolved(simrl.Spec(learner=simrl.Supervised(optimizer=value))).learner.problems()


def written(name):
    """An optimiser by its name, with the learning rate that it may need."""
    taken = inspect.signature(optimizers.public(name)).parameters
    rate = {"learning_rate": 0.1} if "learning_rate" in taken else {}
    return Optimizer(name, **rate, **ARGUMENTS.get(name, {}))


def test_the_list_has_both_rooms_of_optax():
    assert {"adam", "sgd", "lbfgs", "noisy_sgd", "muon", "prodigy", "schedule_free_adamw"} <= {*ALL}
    assert not {"scale_by_adam", "centralize", "clip", "sam", "cosine_decay_schedule"} & {*ALL}


@pytest.mark.parametrize("name", ALL)
def test_each_is_taken_or_refused_for_its_reason(name):
    found = problems(written(name))
    if name not in REFUSED:
        assert found == []
        return
    assert len(found) == 1
    assert name in found[0]
    assert REFUSED[name] in found[0]
    assert "\n" not in found[0]
    assert len(found[0]) < 300


def test_steps_with_traced_numbers_are_those_of_optax():
    """Three from (1, -2) down x^2 / 2; for one that looks at shapes and one that looks at sums."""

    def path(made):
        x = jnp.asarray([[[1.0, -2.0]]])
        state = made.init(x)
        for _ in range(3):
            change, state = made.update(x, state, x)
            x = x + change
        return x

    by_name = jax.jit(lambda optimizer: path(optimizer.build()))
    for name, direct in (("muon", contrib.muon(0.1)), ("prodigy", contrib.prodigy(0.1))):
        np.testing.assert_allclose(by_name(specs.traced(written(name))), path(direct), rtol=2e-6)


BAD = {
    "no rate": (Optimizer("adam"), "adam needs a learning_rate"),
    "another's name for it": (Optimizer("adam", {"lr": 0.1}), "did you mean learning_rate?"),
    "two rates": (Optimizer("adam", 0.1, lr=0.1), "did you mean learning_rate"),
    "misspelt": (Optimizer("adm", 0.1), "did you mean adam"),
    "not there": (Optimizer("", 0.1), "must name an optax optimiser"),
    "uphill": (Optimizer("adam", -1.0), "learning_rate must be at least 0, not -1.0"),
    "eps 0": (Optimizer("adam", 0.1, eps=0.0), "eps must be above 0, not 0.0"),
    "eps below 0": (Optimizer("rmsprop", 0.1, eps=-1e-8), "eps must be above 0"),
    "b1 1": (Optimizer("adam", 0.1, b1=1), "b1 must be in [0, 1), not 1"),
    "b2 1": (Optimizer("adam", 0.1, b2=1.0), "b2 must be in [0, 1), not 1.0"),
    "norm 0": (
        Optimizer("sgd", 0.1, clip="clip_by_global_norm", max_norm=0.0),
        "max_norm must be above 0, not 0.0",
    ),
    "norm -1": (
        Optimizer("sgd", 0.1, clip="clip_by_global_norm", max_norm=-1),
        "max_norm must be above 0, not -1",
    ),
    "clip": (Optimizer("sgd", 0.1, clip=1.0), 'such as clip="clip_by_global_norm", max_norm=1.0'),
    "clip 0": (Optimizer("sgd", 0.1, clip=0.0), "clip must name an optax transform"),
    "scaled alone": (Optimizer("scale_by_adam"), "not an optimiser"),
    "wraps": (Optimizer("sam", 0.1), "optax.sam is not an optimiser"),
    "object": (Optimizer(optax.adam(0.1), b1=0.5), "optax object takes no more arguments"),
    "line search": (optax.lbfgs(), "given as an object cannot step by a gradient alone"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_ones_are_refused_in_one_line(name):
    value, words = BAD[name]
    found = problems(value)
    assert len(found) == 1
    assert words in found[0]
    assert "\n" not in found[0]
    assert len(found[0]) < 300


def test_ends_that_do_not_fail_are_taken():
    assert problems(Optimizer("sgd", 0.0)) == []  # learns nothing, as asked
    assert problems(Optimizer("lars", 0.1, eps=0.0)) == []  # its own default
    assert problems(Optimizer("sgd", 0.1, momentum=1.0)) == []  # nothing is divided by 0
    assert problems(Optimizer("adam", 0.1, b1=0.0, b2=0.0)) == []


def test_one_optimiser_has_many_spellings():
    wanted = Optimizer("adam", {"learning_rate": 0.1, "b1": 0.8})
    for found in (
        Optimizer("adam", learning_rate=0.1, b1=0.8),
        Optimizer("adam", 0.1, b1=0.8),
        Optimizer("Adam", {"learning_rate": 0.1}, b1=0.8),
        specs.put(simrl.Supervised(), "optimizer", {"name": "adam", **wanted.numbers}).optimizer,
    ):
        assert found == wanted
        assert identity.describe(found) == {"name": "adam", "b1": 0.8, "learning_rate": 0.1}
    assert repr(wanted) == "Optimizer('adam', learning_rate=0.1, b1=0.8)"
    assert eval(repr(wanted)) == wanted
    assert Optimizer().numbers == {"learning_rate": 1.0}


def test_switches_are_static():
    plain, nesterov = (
        specs.put(simrl.Supervised(), "optimizer", Optimizer("sgd", 0.5, **more)).optimizer
        for more in ({"momentum": 0.9}, {"momentum": 0.9, "nesterov": True})
    )
    assert jax.tree.structure(plain) != jax.tree.structure(nesterov)
    assert identity.describe(nesterov)["nesterov"] is True
    made, x = nesterov.build(), jnp.ones(2)
    change, _ = made.update(x, made.init(x), x)
    np.testing.assert_allclose(change, -0.5 * (1 + 0.9), rtol=1e-6)  # g + 0.9 g at the first step


def test_an_optax_object_is_taken_and_not_stored():
    spec = simrl.Spec(learner=simrl.Supervised(optimizer=optax.adam(0.1)))
    found = specs.resolved(spec).learner.optimizer
    assert isinstance(found.build(), optax.GradientTransformation)
    assert jax.tree.leaves(found) == []
    with pytest.raises(simrl.SpecError, match="cannot be stored; name it"):
        identity.cell_hash(specs.resolved(spec))
