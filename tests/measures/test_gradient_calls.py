"""How the moments are called: under jit and vmap, with traced numbers, and wrongly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simrl.measures.gradients import (
    affine_moments,
    batch_moments,
    constant_moments,
    dead_group_probability,
    group_weight,
    redraw_moments,
    sequence_moments,
    sequence_statistics,
    supervised_moments,
    two_batch_noise_scale,
)


def test_a_batch_of_one():

    @jax.jit
    def found(probs):
        one, own = (batch_moments(probs, 1, 1, name) for name in ("none", "group_mean"))
        return one, sequence_moments(probs, 1, "exact"), own

    one, single, own = found(np.array([0.2, 0.3, 0.5]))
    np.testing.assert_allclose(one.trace_covariance, single.trace_covariance, rtol=1e-6)
    np.testing.assert_allclose(one.mean, single.mean, rtol=1e-6)
    assert own.trace_covariance == 0
    assert np.all(np.asarray(own.mean) == 0)


def test_many_policies_at_once_in_one_program():
    rng = np.random.default_rng(13)
    probs = rng.dirichlet(np.ones(3), size=(4, 2)).astype(np.float32)
    targets = rng.integers(3, size=(4, 2))

    def moments(probs, target):
        return batch_moments(probs, target, 4, "leave_one_out", "prefix")

    together = jax.tree.map(np.asarray, jax.jit(jax.vmap(moments))(probs, targets))
    alone = jax.jit(moments)(probs[2], targets[2])
    for field, value in alone._asdict().items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(getattr(together, field)[2], value, rtol=1e-5, atol=1e-7)


def test_scale_centre_and_baseline_are_numbers_not_structure():
    statistics = jax.jit(lambda probs: sequence_statistics(probs, jnp.array([0, 1]), "token"))(
        np.full((2, 3), 1 / 3)
    )
    traces = []

    @jax.jit
    def both(statistics, size, scale, centre, baseline):
        traces.append(1)
        return (
            affine_moments(statistics, size, scale, centre),
            constant_moments(statistics, size, baseline),
        )

    for size, scale, centre, baseline in [(2.0, 1.0, 0.0, 0.1), (4.0, 4 / 3, 1.0, 0.9)]:
        both(statistics, *(np.float32(x) for x in (size, scale, centre, baseline)))
    assert len(traces) == 1


PROBS = np.array([0.2, 0.3, 0.5])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sequence_moments(PROBS, 0, "half"), "reward must be one of exact, fraction"),
        (lambda: sequence_moments(PROBS, np.array([0, 1]), "exact"), "target must be integers"),
        (lambda: sequence_moments(PROBS, 0.5, "exact"), "target must be integers"),
        (lambda: batch_moments(PROBS, 0, 4, "best"), "advantage must be one of none, leave_one"),
        (
            lambda: batch_moments(np.tile(PROBS, (2, 1)), np.array([0, 1]), 4, "maxrl", "fraction"),
            "for rewards 'exact' and 'token' only",
        ),
        (lambda: batch_moments(PROBS, 0, 1, "leave_one_out"), "at least 2, got 1"),
        (lambda: batch_moments(PROBS, 0, 0, "none"), "at least 1, got 0"),
        (lambda: group_weight(0.5, 4, "best"), "advantage must be one of"),
        (lambda: dead_group_probability(0.5, 4, "best"), "advantage must be one of"),
        (lambda: supervised_moments(PROBS, np.ones(2)), "label_probs must have the shape"),
        (lambda: two_batch_noise_scale(1.0, 2.0, 4, 4), "must differ"),
        (lambda: redraw_moments(jax.random.normal, jax.random.key(0), 2), "at least 3"),
    ],
)
def test_wrong_calls_say_what_is_allowed(call, says):
    with pytest.raises(ValueError, match=says):
        call()
