"""What a user types: names of the field, slips of the pen, and what simrl says of them."""

import sys
import traceback

import jax
import numpy as np
import pytest

import simrl
from simrl import errors, records
from simrl.sweeps import aliases, identity
from simrl.sweeps import spec as specs

Spec, PolicyGradient = simrl.Spec, simrl.PolicyGradient


def cell(learner):
    """What a learner is stored as."""
    return identity.cell_hash(simrl.Sweep(Spec(learner=learner)).cells()[0].spec)


SAME = {
    "group_normalised": ["grpo", "GRPO", "group_normalized", "Group-Normalised"],
    "leave_one_out": ["rloo", "leave-one-out", "RLOO"],
    "none": ["reinforce", None, "REINFORCE", "None"],
    "batch_mean": ["dr_grpo", "dr-grpo", "Dr GRPO"],
    "maxrl_centred": ["maxrl_centered", "maxrl-centred"],
}


@pytest.mark.parametrize("name", SAME)
def test_names_of_the_field_are_the_same_cell(name):
    """As an advantage, and those that are learners as learners."""
    wanted = cell(PolicyGradient(name))
    for alias in SAME[name]:
        assert cell(PolicyGradient(alias)) == wanted
        assert cell({"name": "policy_gradient", "advantage": alias}) == wanted
        if isinstance(alias, str) and errors.spelling(alias) in aliases.ALIASES["learner"]:
            assert cell(alias) == wanted
    others = [cell(PolicyGradient(other)) for other in SAME if other != name]
    assert wanted not in others


def test_ppo_is_policy_gradient_with_its_surrogate():
    wanted = cell(PolicyGradient(surrogate=simrl.PPO()))
    assert cell("ppo") == cell("PPO") == cell(PolicyGradient(surrogate="ppo")) == wanted
    small = PolicyGradient("none", 8, surrogate=simrl.PPO())
    assert cell({"name": "ppo", "advantage": "none", "group_size": 8}) == cell(small)
    assert cell(PolicyGradient(surrogate="penalized")) == cell(
        PolicyGradient(surrogate="penalised")
    )


def test_every_alias_is_something_and_none_hides_a_name():
    for family, names in aliases.ALIASES.items():
        assert not set(names) & set(specs.FAMILIES[family])
        for name in names:
            assert specs.resolve(family, name) is not None
            assert name == errors.spelling(name)
    assert not set(aliases.NEAREST) & {n for names in aliases.ALIASES.values() for n in names}


def test_dr_grpo_is_the_mean_baseline_without_a_deviation():
    """Liu et al. 2025, eq. 3: r less the mean of the group, for rewards worked by hand."""
    rewards = np.float32([[1.0], [0.0], [0.0], [1.0], [0.0], [0.0], [0.0], [0.0]])
    advantage = specs.resolve("advantage", "dr_grpo").build(8, 1)
    rollout = simrl.Rollout(None, None, rewards, None, None)
    weights = advantage.weights(advantage.init(), rollout)[1]
    np.testing.assert_allclose(weights, rewards - 0.25, rtol=1e-6)


def test_names_out_of_a_fixed_set_have_many_spellings():
    loose = Spec(
        {"name": "Sequence", "reward": "Reward-to-go", "labels": "Fixed"},
        simrl.ActorCritic(features="Prefix"),
        simrl.Tabular("UNIFORM"),
        engine="Plain",
        phases=simrl.Phases("log-odds"),
    )
    strict = Spec(
        simrl.Sequence(reward="reward_to_go"), simrl.ActorCritic(features="prefix"), engine="plain"
    )
    assert specs.resolved(loose) == specs.resolved(strict)
    assert sweep(environment=simrl.Bandit("One Right")) == sweep(environment="bandit")


def test_labels_are_what_was_typed():
    sweep = simrl.Sweep(Spec(), {"learner.advantage": ["grpo", "RLOO", None]})
    assert [c.coordinates["advantage"] for c in sweep.cells()] == ["grpo", "RLOO", "None"]


def sweep(**fields):
    return simrl.Sweep(Spec(**fields)).cells()


SLIPS = {
    "advantage": (lambda: PolicyGradient("grop"), "did you mean grpo?"),
    "a field's field": (lambda: PolicyGradient(surrogate={"name": "ppo", "clp": 1}), "mean clip?"),
    "environment": (lambda: Spec("seq"), "did you mean sequence?"),
    "policy": (lambda: Spec(policy="tabuler"), "did you mean tabular?"),
    "learner": (lambda: Spec(learner="policy_gradients"), "did you mean policy_gradient"),
    "not the same": (lambda: Spec(learner=PolicyGradient("raft")), "nearest is advantage maxrl"),
    "nearest": (lambda: Spec(learner="DAPO"), "nearest is learner filtered_policy_gradient"),
    "no name": (lambda: Spec(learner={"group_size": 4}), "learner needs a name"),
    "rate": (
        lambda: PolicyGradient(learning_rate=0.1),
        "did you mean optimizer=Optimizer(learning_rate=...)?",
    ),
    "lr": (lambda: PolicyGradient(lr=0.1), "optimizer=Optimizer(learning_rate=...)"),
    "batch": (lambda: PolicyGradient(batch_size=64), "did you mean group_size?"),
    "group": (lambda: simrl.Supervised(group_size=64), "did you mean batch_size?"),
    "baseline": (lambda: PolicyGradient(baseline="rloo"), "did you mean advantage?"),
    "deep": (
        lambda: Spec(learning_rate=0.1),
        "learner=PolicyGradient(optimizer=Optimizer(learning_rate=...))",
    ),
    "world": (lambda: Spec(vocab_size=4), "environment=Sequence(vocab_size=...)"),
    "steps": (lambda: Spec(num_steps=4), "did you mean max_steps?"),
    "seeds": (lambda: Spec(seeds=4), "seeds are an argument of simrl.run"),
    "axis": (lambda: simrl.Sweep(Spec(), {"lr": [1.0]}).cells(), "learner.optimizer.learning_rate"),
    "surrogate": (
        lambda: Spec(learner=simrl.PPO()),
        "a surrogate: pass it as learner=simrl.PolicyGradient(surrogate=simrl.PPO(...))",
    ),
    "curriculum": (
        lambda: Spec(learner=simrl.Band()),
        "learner=simrl.PolicyGradient(curriculum=simrl.Band(...))",
    ),
    "an environment": (
        lambda: Spec(learner=simrl.Bandit()),
        "an environment: pass it as environment=simrl.Bandit(...)",
    ),
    "measured": (
        lambda: sweep(measures="noise_scale"),
        "is measured wherever it is",
    ),
    "stored": (lambda: sweep(measures=["log2_answer"]), "see the Dataset"),
    "measure": (lambda: sweep(measures="redraw"), "did you mean redraws?"),
    "many at once": (
        lambda: sweep(
            max_steps=0,
            log_points=0,
            observe_every=0,
            num_redraws=0,
            thresholds=(2,),
            base_seed=-1,
            engine="gpu",
        ),
        "; 2 more",
    ),
    "adam": (lambda: sweep(learner=PolicyGradient(optimizer="adam")), "adam needs a learning_rate"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_slips_are_answered_in_one_short_line(name):
    make, words = SLIPS[name]
    with pytest.raises(simrl.SpecError) as caught:
        make()
    line = str(caught.value)
    assert words in line
    assert "\n" not in line
    assert len(line) <= errors.LONGEST


@pytest.mark.parametrize(
    "make",
    [
        SLIPS["rate"][0],
        SLIPS["advantage"][0],
        SLIPS["adam"][0],
        lambda: simrl.run(Spec(max_steps=0)),
    ],
)
def test_a_refusal_shows_one_frame_of_simrl(make):
    with pytest.raises(simrl.SpecError) as caught:
        make()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert sum("/simrl/" in frame.filename.replace("\\", "/") for frame in frames) <= 1
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_record_prints_what_was_changed():
    assert repr(Spec()) == "Spec()"
    learner = PolicyGradient("grpo", group_size=8, optimizer=simrl.Optimizer("adam", 1e-3))
    wanted = (
        "Spec(environment=Bandit(num_arms=3), learner=PolicyGradient(advantage='grpo', "
        "group_size=8, optimizer=Optimizer('adam', learning_rate=0.001)), max_steps=50)"
    )
    spec = Spec(simrl.Bandit(num_arms=3), learner, max_steps=50)
    assert repr(spec) == wanted
    assert eval(repr(spec), vars(simrl)) == spec
    assert repr(simrl.Phases(num=3)) == "Phases(num=3)"


def test_what_has_a_name_prints_it():
    """REINFORCE was `Affine(centre=0.0, correction=0.0)`."""
    resolved = specs.resolved(Spec(learner=PolicyGradient("reinforce", surrogate="ppo")))
    assert repr(resolved) == "Spec(learner=PolicyGradient(advantage='none', surrogate='ppo'))"
    own = PolicyGradient(simrl.Affine(1.0, 0.5), surrogate=simrl.PPO(0.1))
    wanted = "PolicyGradient(advantage=Affine(centre=1.0, correction=0.5), surrogate=PPO(clip=0.1))"
    assert repr(own) == wanted


def test_a_record_prints_arrays_and_tracers():
    assert "num_arms=Array" in repr(simrl.Bandit(num_arms=jax.numpy.arange(2)))
    jax.eval_shape(lambda x: print(repr(simrl.Constant(x))), np.float32(0))
    assert records.changes(simrl.Constant(2.0)) == {"baseline": 2.0}


@pytest.mark.parametrize("kind", sorted(specs.LEARNERS))
def test_every_record_is_its_own_code(kind):
    made = specs.LEARNERS[kind]()
    assert repr(made) == f"{type(made).__name__}()"


def test_what_the_module_lacks_is_pointed_at():
    for name, words in {
        "GRPO": 'write simrl.PolicyGradient("grpo")',
        "PolicyGradients": "did you mean PolicyGradient",
        "phasetable": "did you mean phase_table?",
        "spec_": "did you mean Spec",
    }.items():
        with pytest.raises(AttributeError, match="has no attribute") as caught:
            getattr(simrl, name)
        assert words in str(caught.value)
        assert (caught.value.name, caught.value.obj) == (name, sys.modules["simrl"])
    assert simrl.Penalized is simrl.Penalised
    assert simrl.Optimiser is simrl.Optimizer


def test_the_module_lists_its_public_names():
    shown = {name for name in dir(simrl) if not name.startswith("__")}
    assert shown == set(simrl.__all__)
    assert all(hasattr(simrl, name) for name in shown)
