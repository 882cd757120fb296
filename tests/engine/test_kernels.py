"""The loop as a kernel: the updates of the loop that XLA is given. Interpreted, but on a GPU."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.engine import fused, kernels
from tests.engine.stretch import after, lanes_of

LANES, UPDATES, ULPS = 2 * kernels.WARP, 5, 4
RATE = simrl.Optimizer()  # of 1
WIDE = simrl.Phases(low=-1e6, high=1e6, num=1)  # no lane leaves it
SPECS = {
    "one pull": simrl.Spec(
        simrl.Bandit("gaussian", 5),
        simrl.PolicyGradient("running_mean", 1, optimizer=RATE),
        phases=WIDE,
        stop_pass_rate=0.6,
    ),
    "counted guesses": simrl.Spec(
        simrl.Sequence(3, 2, "token"),
        simrl.PolicyGradient("group_normalised", 4),
        phases=WIDE,
    ),
    "groups that may be dead": simrl.Spec(
        simrl.Bandit("one_right", 3),
        simrl.FilteredPolicyGradient("leave_one_out", 2, 1, 2),
        phases=WIDE,
    ),
    "guesses that may be stopped": simrl.Spec(
        simrl.Sequence(2, 2),
        simrl.ActorCritic(2, trace_decay=0.9, stop_below=0.1, stop_after=2.0),
        phases=WIDE,
    ),
    "lessons": simrl.Spec(
        simrl.Sequence(3, 2, "token", "zipf"),
        simrl.Distillation("reverse", 3),
        phases=WIDE,
    ),
    "labels": simrl.Spec(
        simrl.Bandit("one_right", 4),
        simrl.Supervised(2, optimizer=simrl.Optimizer("adam", learning_rate=0.5)),
        phases=WIDE,
    ),
}

ALSO = {  # of the same operations: they are not run
    "several right": simrl.Spec(
        simrl.Sequence(3, 2, num_right=2), simrl.PolicyGradient("leave_one_out", 2)
    ),
    "hints": simrl.Spec(simrl.Sequence(3, 2), simrl.PrefixReplay("leave_one_out", 0.5, 2)),
    "duels": simrl.Spec(simrl.Sequence(3, 2, "token"), simrl.SelfPlay(2), measures=("duel",)),
    "bounds": simrl.Spec(simrl.Bandit("gaussian", 5), simrl.UCB1(), measures=("regret",)),
}


@pytest.fixture(scope="module", params=SPECS)
def both(request):
    """What becomes of lanes in one stretch: by the loop, and by a kernel of two blocks."""
    setup, jobs = lanes_of(SPECS[request.param], LANES)
    paths = fused.path, fused.on_chip
    with pytest.MonkeyPatch.context() as patch:
        took, run = [], kernels.run

        def watched(*given):
            took.append(run(*given, interpret=jax.default_backend() != "gpu"))
            return took[-1]

        patch.setattr(kernels, "run", watched)
        patch.setattr(kernels, "PATIENCE", fused.PATIENCE)  # so that both pause alike
        pair = [jax.jit(partial(after, setup, UPDATES, path))(jobs) for path in paths]
    assert len(took) == 1
    assert took[0] is not None
    return pair


def test_a_kernel_makes_the_updates_of_the_loop(both):
    loop, kernel = both
    assert int(np.max(loop[0].step)) == UPDATES
    paths = jax.tree_util.tree_leaves_with_path(loop)
    for (path, theirs), mine in zip(paths, jax.tree.leaves(kernel), strict=True):
        about = jax.tree_util.keystr(path)
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype), about
        if jnp.issubdtype(mine.dtype, jnp.floating):
            scale = np.abs(theirs).max(initial=1, where=np.isfinite(theirs))
            np.testing.assert_allclose(
                mine, theirs, ULPS * 2.0**-23, ULPS * 2.0**-23 * scale, err_msg=about
            )
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=about)


def test_what_is_too_much_is_left_to_the_loop():
    def double(about, lanes, fence, patience):
        return lanes * about

    def rows(num, lanes=LANES, dtype=np.float32):
        return np.ones((num, lanes), dtype)

    one = np.ones(LANES, np.float32)
    assert kernels.run(double, one, rows(3), interpret=True).shape == (3, LANES)
    assert kernels.run(double, one, rows(kernels.MOST_ROWS)) is None
    assert kernels.run(double, one[:5], rows(3, 5)) is None  # not whole programs
    assert kernels.run(double, one, rows(3, dtype=np.float16)) is None
    assert kernels.run(lambda a, x, fence, patience: x[x[0].astype(int)], one, rows(3)) is None
    assert kernels.run(lambda a, x, fence, patience: jax.lax.lgamma(x), one, rows(3)) is None

    def dear(about, lanes, fence, patience):
        for _ in range(1 + kernels.MOST_COST // 3):
            lanes = lanes * about
        return lanes

    assert kernels.run(dear, one, rows(3)) is None


@pytest.mark.parametrize("name", ALSO)
def test_what_a_kernel_takes_too(name, monkeypatch):
    setup, jobs = lanes_of(ALSO[name], LANES)
    took, run = [], kernels.run
    monkeypatch.setattr(kernels, "run", lambda *given: took.append(run(*given, interpret=True)))
    jax.eval_shape(partial(after, setup, UPDATES, fused.on_chip), jobs)
    assert len(took) == 1
    assert took[0] is not None


@pytest.mark.parametrize(
    ("platform", "capability", "able"),
    [
        ("gpu", "9.0", True),
        ("gpu", "7.5", False),
        ("gpu", "gfx942", False),
        ("tpu", "", False),
        ("cpu", "", False),
    ],
)
def test_kernels_are_for_gpus_that_can_run_them(platform, capability, able):
    device = SimpleNamespace(platform=platform, compute_capability=capability)
    assert kernels.can_run(device) == able


def test_a_jax_without_the_compiler_has_no_kernels(monkeypatch):
    monkeypatch.setattr(kernels, "_modules", lambda: None)
    assert not kernels.can_run(SimpleNamespace(platform="gpu", compute_capability="9.0"))
