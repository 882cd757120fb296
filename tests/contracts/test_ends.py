"""Pass rates of 1e-12, of 1 - 1e-12, and of 0 and 1 in float32: finite where THEORY says a number.

What test_contracts does not bring there: learners without a gradient, policies that are no table,
curricula, verifiers that err, and measures that are asked for.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.policies import tabular
from simrl.sweeps import spec as specs
from tests.contracts import ends
from tests.contracts.worlds import COUNTING, POLICIES, WORLDS, learner_spec, streams, words_of

ERRS = {"verifier": "noisy", "false_positive": 0.1, "false_negative": 0.2}
SEVERAL = simrl.Sequence(2, 2, num_prompts=3)
GUESSING = learner_spec("policy_gradient", "leave_one_out")
LISTED = [name for name, policy in POLICIES.items() if policy != simrl.Tabular()]
CASES = {
    # name -> world, learner, policy, measures that are asked for
    **{
        f"{learner} {kind}": (WORLDS[f"bandit-{kind}"], learner_spec(learner), None, ("regret",))
        for learner in COUNTING
        for kind in ("gaussian", "bernoulli")
    },
    **{
        f"bayesian {told}": (WORLDS[f"sequence-{told}-fixed"], simrl.Bayesian(guess, 2), None, ())
        for told, guess in {"exact": "best", "token": "posterior", "prefix": "best"}.items()
    },
    **{
        f"{policy} {world}": (WORLDS[f"sequence-{world}"], GUESSING, POLICIES[policy], ())
        for policy in LISTED
        for world in ("exact-fixed", "fraction-fixed", "token-zipf")
    },
    **{
        f"{policy} supervised": (WORLDS["sequence-exact-fixed"], simrl.Supervised(2), own, ())
        for policy, own in POLICIES.items()
        if policy in LISTED
    },
    **{
        f"curriculum {name}": (
            SEVERAL,
            learner_spec("policy_gradient", "leave_one_out", curriculum=name),
            None,
            ("bias", "regret"),
        )
        for name in specs.CURRICULA
    },
    **{
        f"graded {name}": (
            simrl.Sequence(3, 2, name, num_prompts=3, revealed=(0, 1, 0), vocab_sizes=(3, 3, 2)),
            GUESSING,
            None,
            ("bias", "regret") if name == "exact" else (),
        )
        for name in ("exact", "token", "fraction")
    },
    "graded supervised": (
        simrl.Sequence(3, 2, num_prompts=2, revealed=(1, 0)),
        simrl.Supervised(2),
        None,
        (),
    ),
    "several right": (simrl.Sequence(5, 1, num_prompts=2, num_right=2), GUESSING, None, ()),
    "verifier exact": (simrl.Sequence(3, 2, **ERRS), GUESSING, None, ("regret",)),
    "verifier token": (simrl.Sequence(3, 2, "token", **ERRS), GUESSING, None, ()),
    "labels known": (WORLDS["sequence-token-zipf"], simrl.Supervised(2), None, ("known_channel",)),
}
CASES["thompson bernoulli"] = (*CASES["thompson bernoulli"][:3], ("information_ratio", "regret"))


@pytest.mark.parametrize("name", CASES)
def test_from_the_ends(name):
    world, learner, policy, asked = CASES[name]
    spec = specs.resolved(simrl.Spec(world, learner, policy or simrl.Tabular(), measures=asked))
    specs.validate(spec)
    trial = specs.build((spec.environment, spec.policy, spec.learner, specs.Asked(asked)))
    task = jax.jit(trial.environment.init)(jax.random.key(3))
    company = ends.states(*ends.begin(trial, task))
    company = jax.tree.map(lambda leaf: leaf[1:], company)
    look = jax.vmap(lambda seed, state: ends.look(trial, state, task, streams(seed)))
    new, _, odds, seen = jax.device_get(jax.jit(look)(np.arange(len(ends.ENDS)), company))
    chex.assert_trees_all_equal_shapes_and_dtypes(new, company)
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(new))
    if not hasattr(new, "log_probs"):  # a posterior refutes: -inf
        chex.assert_tree_all_finite(new)
    ends.assert_numbers(odds, seen)


def test_all_are_met():
    """With test_contracts: every policy, curriculum, and learner without a gradient."""
    met = [case[1] for case in CASES.values()]
    free = {
        name
        for name, kind in specs.LEARNERS.items()
        if name in COUNTING or not hasattr(kind(), "optimizer")
    }
    assert free == {
        name for name, kind in specs.LEARNERS.items() if any(type(m) is kind for m in met)
    } - {"policy_gradient", "supervised"}
    assert {m.curriculum for m in met if hasattr(m, "curriculum")} == set(specs.CURRICULA.values())
    assert set(LISTED) | {"tabular"} == set(specs.POLICIES)


@pytest.mark.parametrize("start", tabular.STARTS)
def test_starts_at_the_ends(start):
    """Starts of extreme numbers are finite, and certain answers have their pass rates."""
    shape = simrl.Shape(num_prompts=2, length=2, vocab_size=3)
    tiny = float(np.finfo(np.float32).tiny)
    for rare in (ends.TINY, tiny):
        probs = (rare, rare, 1 - 2 * rare) if start == "given" else ()
        policy = simrl.Tabular(start, spread=1 / ends.TINY, probs=probs, pass_rate=rare)
        assert policy.problems(shape) == []
        built = policy.build(shape)

        @jax.jit
        def begin(key, built=built):
            params = built.init(key)
            if built.pretrain is not None:
                params = built.pretrain(params, jnp.ones((2, 2), jnp.int32))
            return params

        @jax.jit
        def look(words, params, prompt, built=built):
            laws = built.log_probs(params, prompt, None)
            return laws, built.sample(words, params, prompt)

        words, params = words_of(jax.random.key(1), (2,)), begin(jax.random.key(0))
        laws, drawn = jax.device_get(look(words, params, np.int32(1)))
        chex.assert_tree_all_finite((params, laws))
        if start == "given":
            np.testing.assert_allclose(laws[:, 0], np.log(rare), rtol=1e-6)
            assert drawn.tolist() == [2, 2]
        if start == "pretrained":
            np.testing.assert_allclose(laws[:, 1].sum(), np.log(rare), rtol=1e-5)
