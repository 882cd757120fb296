"""Mean updates by listing every group: what is unbiased, and what is said of the bias of the rest.

The gradient of the expected reward is a sum over answers, in float64. Everything registered that
makes an update is here, or in the file that has its own objective.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.learners import updates
from simrl.sweeps import spec as specs
from tests.contracts.worlds import POLICIES, WORLDS, begun, learner_spec, some_logits, streams
from tests.oracles import enumeration

# Groups of three: of two, a normalised weight is that of leave-one-out.
WORLD, SIZE = simrl.Sequence(2, 2, "exact"), 3
UNBIASED = {
    "advantage none",
    "advantage leave_one_out",
    "advantage pass_at_k_leave_one_out",  # with a k of 1
    "advantage constant",
    "advantage minimum_variance",
    "advantage score_minimum_variance",
    "advantage expected_reward",
    "surrogate score",
    "surrogate natural",  # what is measured is the score that it is made from
    "surrogate ppo",  # the first of its directions
    "surrogate penalised",  # without coefficients; with them: test_surrogates
    "learner actor_critic",
    "learner prefix_replay",  # before a success
    "policy autoregressive",
}
ELSEWHERE = {
    "supervised": "contracts/test_moments.py",
    "distillation": "learners/test_distillation.py",
    "self_play": "learners/test_self_play.py",
    "filtered_policy_gradient": "learners/test_filtering.py",
    "exact_gradient": "below",
    "bayesian": "no gradient",
    "thompson": "no gradient",
    "ucb1": "no gradient",
}
HERE = [name for name in specs.LEARNERS if name not in (*ELSEWHERE, "policy_gradient")]
WITHOUT_CLAIM = {"learner actor_critic", "learner prefix_replay", "policy autoregressive"}
TABLE = POLICIES["tabular"]


def guessing(advantage, **changes):
    return learner_spec("policy_gradient", advantage, group_size=SIZE, **changes)


# Of one symbol alone: see learners/test_oracles.py.
MET = [name for name in specs.ADVANTAGES if name != "natural_minimum_variance"]
CASES = {f"advantage {name}": (guessing(name), TABLE) for name in MET}
CASES |= {
    f"surrogate {name}": (guessing("leave_one_out", surrogate=name), TABLE)
    for name in specs.SURROGATES
}
PASS_AT_2 = ("pass_at_k", "pass_at_k_leave_one_out")  # what they climb is not the pass rate
CASES |= {f"advantage {name} k=2": (guessing({"name": name, "k": 2}), TABLE) for name in PASS_AT_2}
CASES |= {f"learner {name}": (learner_spec(name, group_size=SIZE), TABLE) for name in HERE}
CASES |= {
    f"policy {name}": (guessing("leave_one_out"), policy)
    for name, policy in POLICIES.items()
    if policy != TABLE
}


@pytest.fixture(scope="module")
def listed():
    """name -> the estimate of every group, its scores by another road, and the claimed bias."""
    environment = WORLD.build()
    task = jax.jit(environment.init)(jax.random.key(3))
    answers = np.array(enumeration.answers(2, 2))
    index = np.stack(np.meshgrid(*[np.arange(4)] * SIZE, indexing="ij"), -1).reshape(-1, SIZE)
    made = {}
    for name, (spec, policy) in CASES.items():
        built = policy.build(environment.shape)
        told = built._replace(sample=lambda words, params, prompt: words.astype(jnp.int32))
        learner = spec.build(environment, told)
        state = learner.init(streams(0))
        made[name] = learner, state._replace(params=jnp.asarray(some_logits(state.params.shape)))

    @jax.jit
    def run(groups):
        nothing = jnp.zeros((1, SIZE, 2), jnp.uint32)

        def one(name, group):
            learner, state = made[name]
            keyed = SimpleNamespace(
                prompt=jnp.zeros(1, jnp.int32),
                sample=group[None],
                reward=nothing,
                label=streams(0).label,
            )
            return learner.estimate(keyed, state, task)

        found = {name: jax.vmap(lambda g: one(name, g))(groups) for name in made}  # noqa: B023
        claims = {
            name: learner.squared_bias(state, task)
            for name, (learner, state) in made.items()
            if learner.squared_bias is not None
        }
        return found, claims

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updates, "group_words", lambda stream, groups, size, length: stream)
        patch.setattr(updates, "draw_prompts", lambda stream, world, task, groups: stream)
        found, claims = run(answers[index].astype(np.uint32))
    return (
        {name: (found[name], claims.get(name), made[name][1].params) for name in made},
        task,
        index,
    )


def gradient(params, secret):
    """Chances [4] of the answers, and the gradient of the chance of the right one, in float64.

    Of a table, or of a row for each prefix: the row of the second position is that of the first
    symbol. The score of a row that an answer goes through is the one-hot of its symbol less its
    law.
    """
    powers = np.exp(np.float64(params[0]))
    rows = powers / powers.sum(axis=-1, keepdims=True)
    chances, climb = [], np.zeros_like(rows)
    for first, second in enumeration.answers(2, 2):
        after = 1 if len(rows) == 2 else 1 + first
        chances.append(rows[0, first] * rows[after, second])
        if (first, second) == secret:
            climb[0] += chances[-1] * (np.eye(2)[first] - rows[0])
            climb[after] += chances[-1] * (np.eye(2)[second] - rows[after])
    return np.array(chances), climb


@pytest.mark.parametrize("name", CASES)
def test_the_mean_of_every_group(listed, name):
    found, task, index = listed
    estimates, claim, params = found[name]
    chance, wanted = gradient(params, tuple(np.asarray(task.answers)[0].tolist()))
    mean = np.tensordot(chance[index].prod(axis=1), np.float64(estimates), 1)[0]
    bias = np.sum((mean - wanted) ** 2)
    if name.endswith("k=2"):  # 1 - (1 - p)^2, whose slope is 2 (1 - p)
        secret = tuple(np.asarray(task.answers)[0].tolist())
        wrong = 1 - chance[[tuple(answer) for answer in enumeration.answers(2, 2)].index(secret)]
        np.testing.assert_allclose(mean, 2 * wrong * wanted, atol=1e-6)
    if name in UNBIASED:
        np.testing.assert_allclose(mean, wanted, atol=1e-6)
    else:
        assert bias > 1e-6
    assert (claim is None) == (name in WITHOUT_CLAIM)
    if claim is not None:
        np.testing.assert_allclose(claim, bias, rtol=1e-4, atol=1e-9)


def test_exact_gradient():
    trial = specs.build((WORLDS["bandit-given"], TABLE, simrl.ExactGradient()))
    task, state = begun(trial)
    logits = some_logits(state.params.shape)
    probs = np.exp(np.float64(logits[0, 0]))
    probs /= probs.sum()
    samples = enumeration.bandit_samples(probs, np.asarray(task, np.float64), np.zeros(3))
    wanted = np.tensordot(samples.weight * samples.credit[:, 0], samples.score, 1)
    found = jax.jit(trial.learner.estimate)(None, state._replace(params=logits), task)
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)


def test_all_are_met():
    """Curricula change the objective: learners/test_curricula.py has each of them."""
    assert {*HERE, *ELSEWHERE, "policy_gradient"} == set(specs.LEARNERS)
    assert set(CASES) >= UNBIASED
    assert set(specs.CURRICULA) == {"uniform", "band", "oracle_band"}
