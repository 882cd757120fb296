"""Small updates of large logits: none is lost to rounding, however the engine makes them."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import simrl
from experiments import plateaus_check
from simrl import rounding
from simrl.measures import flops

SGD = simrl.Optimizer("sgd", learning_rate=4e-4)


def log_odds(data):
    """Log-odds [2, seed] of the likeliest answer at the first and the last look, nats."""
    laws = data["belief"].isel(cell=0, prompt=0, position=0, log_point=[0, -1])
    laws = np.sort(laws.transpose("log_point", "seed", ...).values.astype(np.float64), axis=-1)
    return laws[..., -1] - np.logaddexp.reduce(laws[..., :-1], axis=-1)


def test_the_rounding_error_is_exact():
    rng = np.random.default_rng(0)
    x, y = (
        (rng.normal(size=500) * 10 ** rng.uniform(-6, 4, 500)).astype(np.float32) for _ in range(2)
    )
    errors = np.asarray(jax.jit(rounding.rounding_error)(x, y))
    for one, other, error in zip(x, y, errors, strict=True):
        rounded = Fraction(float(one + other))
        assert Fraction(float(error)) == Fraction(float(one)) + Fraction(float(other)) - rounded
    assert (errors != 0).any()
    endless = jnp.array([-jnp.inf, jnp.nan, 1.0])
    np.testing.assert_array_equal(rounding.rounding_error(endless, jnp.array([1.0, 1, 1])), 0)


def test_compensation_is_no_cost_of_a_learner():
    params = jnp.zeros((3, 5))

    def counted(made):
        state = made.init(params)
        return flops.count_flops(lambda x: made.update(x, state, x)[0], params)

    assert counted(SGD.build()) == counted(SGD.transformation())
    assert counted(SGD.build()).elementwise == params.size  # by the rate


@pytest.mark.parametrize("optimizer", [SGD, simrl.Optimizer(optax.adam(4e-7))])
def test_steps_below_half_a_unit_add_up(optimizer):
    """10,000 steps of 4e-7 move a 12 by .004; a float32 of 12 changes in units of 9.5e-7."""
    made, size = optimizer.build(), 1e-3 if optimizer is SGD else 1.0

    def step(carry, _):
        params, state = carry
        updates, state = made.update(jax.tree.map(lambda x: 0 * x - size, params), state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def path(params):
        return jax.lax.scan(step, (params, made.init(params)), None, 10_000)[0]

    (after, state) = path({"a": jnp.float32(12.0), "b": jnp.zeros(2)})
    np.testing.assert_allclose(after["a"], 12.004, rtol=1e-7)
    np.testing.assert_allclose(after["b"], 0.004, rtol=1e-5)
    still = made.update(jax.tree.map(jnp.zeros_like, after), state, after)[0]
    if optimizer is SGD:  # an update of 0 changes nothing
        jax.tree.map(np.testing.assert_array_equal, optax.apply_updates(after, still), after)


@pytest.mark.parametrize("engine", ["fused", "plain"])
def test_a_policy_that_is_nearly_sure_goes_on_at_the_expected_pace(engine):
    """At a pass rate of .999 the right logit is 8.0, and an update moves it by 4e-7."""
    spec = simrl.Spec(
        simrl.Bandit("one_right", 4),
        simrl.PolicyGradient("none", group_size=32, optimizer=SGD),
        policy=simrl.Tabular("pretrained", pass_rate=0.999),
        max_steps=5000,
        stop_pass_rate=1.0,
        log_points=2,
        phases=simrl.Phases(num=1),
        keep_beliefs=True,
        engine=engine,
    )
    odds = log_odds(simrl.run(spec, 8))
    expected, rate = np.log(999.0), SGD.numbers["learning_rate"]
    for _ in range(spec.max_steps):
        # The exact gradient: pi (1 - pi) of the right logit, -pi (1 - pi) / 3 of the others.
        expected += rate * np.exp(-expected) / (1 + np.exp(-expected)) ** 2 * (1 + 1 / 3)
    np.testing.assert_allclose(np.diff(odds, axis=0)[0], expected - np.log(999.0), rtol=5e-3)


def test_the_exact_gradient_leaves_a_deep_plateau_as_in_float64():
    rewards, probs = (1.0, 0.9, 0.1), (1e-5, 0.05, 0.94999)
    spec = simrl.Spec(
        simrl.Bandit("given", 3, rewards=rewards, noise=0.0),
        simrl.ExactGradient(simrl.Optimizer("sgd", learning_rate=0.4)),
        policy=simrl.Tabular("given", probs=probs),
        max_steps=5000,
        log_points=2,
        phases=simrl.Phases(num=1),
        keep_beliefs=True,
    )
    data = simrl.run(spec, 1)
    best = data["belief"].isel(cell=0, seed=0, prompt=0, position=0, log_point=-1).values[0]
    by_hand = plateaus_check.followed(probs, rewards, 0.4, [spec.max_steps]).policies[0, 0]
    # 12 % off where what rounding takes is lost.
    np.testing.assert_allclose(np.exp(best), by_hand, rtol=1e-4)
