"""What a pool is made from."""

import jax
import numpy as np
import pytest

import simrl
from simrl.engine import lanes
from simrl.sweeps import pools
from simrl.sweeps import spec as specs


@pytest.mark.parametrize("base_seed", [0, 7, 2**31 + 5, 2**32 - 1])
def test_the_key_of_all_streams_is_that_of_jax(base_seed):
    with jax.default_prng_impl("rbg"):  # whatever the default is
        found = pools.streams_of(base_seed)
    wanted = jax.random.key(base_seed, impl="threefry2x32")
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(wanted))


def kind_of(reward, learner, **changes):
    world = simrl.Sequence(4, 2, reward, **changes.pop("world", {}))
    spec = simrl.Spec(world, learner, max_steps=4, log_points=1, **changes)
    return pools.kind_of(specs.resolved(spec), lanes.mesh_of(1))


def test_worlds_that_differ_in_rewards_alone_are_one_program_to_who_reads_labels():
    labels = simrl.Supervised()
    for labelled in ("fixed", "zipf"):
        world = {"labels": labelled}
        kinds = {kind_of(reward, labels, world=world) for reward in ("exact", "token", "prefix")}
        assert len(kinds) == 1
    rewards = "exact", "token"
    apart = [
        {"learner": simrl.PolicyGradient(group_size=2)},
        {"learner": labels, "measures": ("redraws",)},  # what is asked for may read rewards
        {"learner": labels, "world": {"verifier": "noisy", "false_positive": 0.1}},
    ]
    for changes in apart:
        assert len({kind_of(reward, **changes) for reward in rewards}) == 2


@pytest.mark.parametrize(
    ("world", "changes", "num"),
    [
        (simrl.Sequence(8, 5, "exact"), {}, 1),
        (simrl.Sequence(8, 5, "exact"), {"measures": ("redraws",)}, 2),
        (simrl.Sequence(8, 5, "fraction"), {}, 2),  # 8^5 answers are not listed
    ],
)
def test_how_often_is_sampled_enters_no_program_where_nothing_is(world, changes, num):
    guesses = simrl.PolicyGradient("leave_one_out", 2)
    specs_of_it = [simrl.Spec(world, guesses, num_redraws=n, **changes) for n in (32, 64)]
    kinds = {pools.kind_of(specs.resolved(spec), lanes.mesh_of(1)) for spec in specs_of_it}
    assert len(kinds) == num
