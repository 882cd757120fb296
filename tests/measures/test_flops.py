"""Counts against hand formulas, against the compiler, and the refusals."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from simrl import keys, primitives
from simrl.measures import flops
from simrl.measures.flops import LINES, FlopCount, count_flops, ledger, ledger_lines


def spec(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def test_matmul_is_2mnk():
    assert count_flops(jnp.matmul, spec(3, 5), spec(5, 7)) == FlopCount(matmul=2 * 3 * 5 * 7)


def test_batched_matmul_multiplies_by_the_batch():
    assert count_flops(jnp.matmul, spec(4, 3, 5), spec(4, 5, 7)).matmul == 4 * 2 * 3 * 5 * 7
    vmapped = jax.vmap(jnp.matmul, in_axes=(0, None))
    assert count_flops(vmapped, spec(4, 3, 5), spec(5, 7)).matmul == 4 * 2 * 3 * 5 * 7


def test_convolution_is_two_per_kernel_element_of_an_output():
    def convolve(x, kernel):
        return jax.lax.conv(x, kernel, (1, 1), "VALID")

    count = count_flops(convolve, spec(2, 3, 8, 8), spec(6, 3, 3, 3))
    assert count == FlopCount(matmul=2 * (2 * 6 * 6 * 6) * (3 * 3 * 3))


@pytest.mark.parametrize("num_steps", [0, 1, 13])
def test_loop_of_t_costs_t_bodies(num_steps):
    def scanned(x):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, None, length=num_steps)[0]

    def looped(x):
        return jax.lax.fori_loop(0, num_steps, lambda _, c: jnp.tanh(c @ c), x)

    expected = num_steps * FlopCount(matmul=2 * 4**3, transcendental=16)
    assert count_flops(scanned, spec(4, 4)) == expected
    assert count_flops(looped, spec(4, 4)) == expected


def test_nested_loops_multiply():
    def fn(x):
        def inner(c):
            return jax.lax.fori_loop(0, 3, lambda _, d: d * 2.0, c)

        return jax.lax.fori_loop(0, 5, lambda _, c: inner(c), x)

    assert count_flops(fn, spec(7)) == FlopCount(elementwise=3 * 5 * 7)


def test_while_needs_a_bound():
    def fn(x):
        return jax.lax.while_loop(lambda c: c[0] < 1.0, lambda c: c + 1.0, x)

    with pytest.raises(ValueError, match="while_bound"):
        count_flops(fn, spec(3))
    assert count_flops(fn, spec(3), while_bound=10).elementwise == 10 * 3 + 11
    with pytest.raises(ValueError, match="at least 0"):
        count_flops(fn, spec(3), while_bound=-1)


def test_traced_fori_bounds_need_a_bound():
    def fn(n, x):
        return jax.lax.fori_loop(0, n, lambda _, c: c * 2.0, x)

    with pytest.raises(ValueError, match="while_bound"):
        count_flops(fn, 3, spec(3))
    assert count_flops(fn, 3, spec(3), while_bound=6) == FlopCount(elementwise=18)


def test_cond_takes_the_dearest_branch():
    def cheap(x):
        return x + 1.0

    def dear(x):
        return x @ x

    def fn(which, x):
        return jax.lax.switch(which, [cheap, dear, cheap], x)

    assert count_flops(fn, 0, spec(4, 4)) == FlopCount(matmul=2 * 4**3)


def test_gradient_of_a_middle_layer_is_three_forwards():
    def layer(weights, x):
        return (x @ weights).sum()

    x, weights = spec(8, 16), spec(16, 32)
    forward = count_flops(layer, weights, x).matmul
    both = count_flops(jax.value_and_grad(layer, argnums=(0, 1)), weights, x).matmul
    assert forward == 2 * 8 * 16 * 32
    assert both == 3 * forward


@pytest.mark.parametrize(("depth", "times_params"), [(1, 4.0), (2, 5.0), (8, 5.75), (64, 5.96875)])
def test_dense_network_tends_to_6n_per_token(depth, times_params):
    def loss(layers, x):
        for weights in layers:
            x = x @ weights
        return jnp.sum(x**2)

    width, num_tokens = 16, 4
    layers = [spec(width, width)] * depth
    count = count_flops(jax.value_and_grad(loss), layers, spec(num_tokens, width))
    assert count.matmul == times_params * (depth * width**2) * num_tokens
    assert count.matmul < ledger(depth * width**2, num_tokens, "supervised")


def _perceptron(x, weights, bias):
    return jnp.maximum(x @ weights + bias, 0.0) * 3.0 - x[:, :1]


BODIES = {
    "matmul": lambda x, w, b: x @ w,
    "perceptron": _perceptron,
    "two layers": lambda x, w, b: (jnp.maximum(x @ w, 0.0) - b) @ w.T,
    "quotient": lambda x, w, b: (x[:, :1] - b) / (x @ w),
    "sum": lambda x, w, b: jnp.sum(x @ w, axis=1) * 2.0,
}


@pytest.mark.parametrize("name", BODIES)
def test_agrees_with_the_compiler_on_loop_free_bodies(name):
    args = (spec(8, 16), spec(16, 32), spec(32))
    compiled = jax.jit(BODIES[name]).lower(*args).compile().cost_analysis()
    assert count_flops(BODIES[name], *args).total == compiled["flops"]


def test_agrees_with_the_compiler_on_transcendentals():
    def fn(x):
        return jnp.exp(x) * jnp.tanh(x)

    compiled = jax.jit(fn).lower(spec(8, 16)).compile().cost_analysis()
    count = count_flops(fn, spec(8, 16))
    assert count.transcendental == compiled["transcendentals"] == 2 * 8 * 16
    assert count.elementwise == compiled["flops"] == 8 * 16


def test_softmax_by_hand():
    rows, columns = 3, 10
    count = count_flops(jax.nn.softmax, spec(rows, columns))
    size = rows * columns
    assert count.transcendental == size  # exp
    assert count.reduction == 2 * (size - rows)  # max, sum
    assert size * 2 <= count.elementwise <= size * 2 + 2 * rows  # minus the max, over the sum


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (jnp.sum, FlopCount(reduction=31)),
        (lambda x: jnp.max(x, axis=1), FlopCount(reduction=32 - 4)),
        (lambda x: jnp.argmax(x, axis=0), FlopCount(reduction=32 - 8)),
        (lambda x: jax.lax.cumsum(x), FlopCount(reduction=32)),
        (lambda x: jax.lax.cumlogsumexp(x), FlopCount(reduction=32, transcendental=64)),
        (lambda x: jax.lax.sort(x), FlopCount(reduction=32 * 3)),
        (lambda x: jax.lax.top_k(x, 2), FlopCount(reduction=32)),
        (lambda x: x.at[jnp.array([0, 1])].add(x[:2]), FlopCount(reduction=16)),
        (lambda x: jax.lax.integer_pow(x, 5), FlopCount(elementwise=3 * 32)),
        (lambda x: jax.lax.integer_pow(x, -2), FlopCount(elementwise=2 * 32)),
        (lambda x: x < 1.0, FlopCount(elementwise=32)),
        (lambda x: jax.lax.select(x < 1.0, x, -x), FlopCount(elementwise=3 * 32)),
    ],
)
def test_one_operation_by_hand(fn, expected):
    assert count_flops(fn, spec(4, 8)) == expected


def test_integers_and_movement_are_free():
    def fn(x, index):
        moved = jnp.concatenate([x.T.reshape(-1)[::-1], jnp.ravel(x[0:2, None])])
        stacked = jnp.stack([moved, jnp.tile(moved[:1], moved.size)]).astype(jnp.float16)
        return stacked, jnp.sum(index * 3 + index), jnp.sort(index), index @ index, index < 2

    assert count_flops(fn, spec(4, 8), spec(6, dtype=jnp.int32)) == FlopCount()


@pytest.mark.parametrize(
    "transform", [jax.jit, jax.checkpoint, jax.named_call, lambda f: jax.vmap(f, in_axes=0)]
)
def test_calls_are_entered(transform):
    assert count_flops(transform(lambda x: jnp.tanh(x) * 2.0), spec(4, 8)) == FlopCount(
        elementwise=32, transcendental=32
    )


def test_custom_derivatives_are_entered():
    @jax.custom_vjp
    def double(x):
        return x * 2.0

    double.defvjp(lambda x: (x * 2.0, None), lambda _, g: (g * 2.0 + 1.0,))
    assert count_flops(double, spec(5)).elementwise == 5
    pulled = count_flops(lambda x, g: (double(x), jax.vjp(double, x)[1](g)), spec(5), spec(5))
    assert pulled.elementwise == 5 + 10
    assert count_flops(jax.nn.relu, spec(5)).elementwise == 5  # custom_jvp


def test_what_is_expanded_late_is_entered():
    """Of jax 0.12: one operation when traced, with a function that says of what others it is."""

    def double_sine(x):
        return 2 * jnp.sin(x)

    own = SimpleNamespace(expand=double_sine)
    atom = SimpleNamespace(aval=jax.ShapeDtypeStruct((5,), np.float32))
    primitive = SimpleNamespace(name=primitives.EXPANDED)
    equation = SimpleNamespace(primitive=primitive, params={"_prim": own}, invars=[atom])
    found = flops._call(equation, None)
    assert found == count_flops(double_sine, atom.aval)
    assert (found.transcendental, found.elementwise) == (5, 5)


def test_shard_map_sums_over_devices():
    mesh = jax.make_mesh((1,), ("seeds",), axis_types=(AxisType.Auto,))
    fn = jax.shard_map(
        lambda x: jax.lax.psum(x * 2.0, "seeds"),
        mesh=mesh,
        in_specs=PartitionSpec("seeds"),
        out_specs=PartitionSpec(),
    )
    assert count_flops(fn, spec(4, 8)) == FlopCount(elementwise=32, reduction=32)


@pytest.mark.parametrize("shape", [(), (7,), (3, 5)])
def test_random_words_are_counted_and_are_not_flops(shape):
    key = jax.random.key(0)
    size = int(np.prod(shape, dtype=int))
    for draw in (keys.words, jax.random.bits):
        count = count_flops(lambda k, draw=draw: draw(k, shape), key)
        assert count == FlopCount(random_words=size)
    normal = count_flops(lambda k: keys.normal(keys.words(k, shape)), key)
    assert normal.random_words == size
    assert normal.transcendental == 2 * size  # a logarithm and a square root
    derived = count_flops(lambda k: keys.fold_in(jax.random.fold_in(k, 1), 2), key)
    assert derived == FlopCount()


def test_random_words_under_vmap_and_scan():
    def fn(k):
        def body(total, step):
            return total + keys.uniform(keys.words(keys.fold_in(k, step), (11,))), None

        return jax.lax.scan(body, jnp.zeros(11), jnp.arange(6))[0]

    seeds = jax.random.split(jax.random.key(0), 4)
    count = count_flops(jax.vmap(fn), seeds)
    assert count.random_words == 4 * 6 * 11
    assert count.elementwise == 4 * 6 * 11 * 2  # scale and add; the generator's integers are free


def test_short_words_round_up():
    def fn(k):
        return jax.random.bits(k, (5,), "uint8")

    assert count_flops(fn, jax.random.key(0)).random_words == 2


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (jnp.linalg.cholesky, "cholesky"),
        (lambda x: jnp.linalg.eigh(x)[0], "eigh"),
        (lambda x: jax.pure_callback(lambda y: y, spec(4, 4), x), "pure_callback"),
        (lambda x: jax.jit(lambda y: jax.lax.fori_loop(0, 2, _qr, y))(x), "qr"),
    ],
)
def test_unknown_primitive_is_refused_by_name(fn, name):
    with pytest.raises(ValueError, match=f"'.*{name}.*'"):
        count_flops(fn, spec(4, 4))


def _qr(_, x):
    return jnp.linalg.qr(x)[1]


def test_complex_numbers_are_refused():
    with pytest.raises(ValueError, match="complex"):
        count_flops(lambda x: x * 2.0, spec(3, dtype=jnp.complex64))


def test_flop_counts_add_subtract_and_scale():
    one = FlopCount(1, 2, 3, 4, 5)
    assert one.total == 10
    assert one + one == 2 * one == one * 2 == FlopCount(2, 4, 6, 8, 10)
    assert one - one == FlopCount()
    assert all(type(field) is int for field in count_flops(jnp.sum, spec(3)))


def test_a_practitioners_grpo_is_billed_by_hand():
    """8 answers of 1,000 tokens to a prompt of 200: 64,000 N by 8N a token, 115,200 N in all."""
    n, answers = 7_000_000_000, 8
    lines = ledger_lines(
        n,
        1000 * answers,
        "policy_gradient",
        prompt_tokens=200 * answers,
        recomputes_log_probs=True,
        reference_params=n,
    )
    wanted = {"prefill": 2 * 200, "decode": 2 * 1000, "training": 6 * 1200}
    wanted |= {"old_log_probs": 2 * 1200, "reference": 2 * 1200}
    by_hand = {name: wanted.get(name, 0) * answers * n for name in LINES}
    assert lines == by_hand
    assert sum(lines.values()) == 115_200 * n
    tuned = ledger_lines(n, 1000, "supervised", prompt_tokens=200)
    assert tuned == {**dict.fromkeys(LINES, 0), "training": 6 * 1200 * n}


def test_prompts_of_rollouts_not_trained_on_are_only_prefilled():
    """Three groups of 8 answers of 1,000 tokens to prompts of 200: one dead, one discarded."""
    n, answers = 7, 8
    counts = {"prompt_tokens": 400 * answers, "dead_prompt_tokens": 200 * answers}
    counts |= {"dead_tokens": 1000 * answers, "discarded_tokens": 1000 * answers}
    counts |= {"discarded_prompt_tokens": 200 * answers}
    skipped = ledger_lines(n, 2000 * answers, "policy_gradient", skips_dead=True, **counts)
    assert skipped["prefill"] == 3 * 2 * 200 * answers * n
    assert skipped["training"] == 6 * 1200 * answers * n
    assert skipped["dead"] == skipped["discarded"] == 2 * 1000 * answers * n
    full = ledger_lines(n, 2000 * answers, "policy_gradient", **counts)
    assert sum(full.values()) - sum(skipped.values()) == 6 * 1200 * answers * n
    with pytest.raises(ValueError, match="dead_prompt_tokens must be at most prompt_tokens"):
        ledger_lines(n, 10, "policy_gradient", prompt_tokens=1, dead_prompt_tokens=2)


def test_counts_of_many_seeds_are_billed_at_once():
    tokens = np.array([10.0, 20.0, np.nan])  # the last seed did not arrive
    found = ledger(5, tokens, "policy_gradient", prompt_tokens=tokens / 10)
    np.testing.assert_array_equal(found, [5 * (80 + 8), 5 * (160 + 16), np.nan])


def test_ledger_charges_6n_and_8n_exactly():
    num_params, num_tokens = 70_000_000_001, 15_000_000_000_003  # their product passes 2**53
    work = num_params * num_tokens
    assert ledger(num_params, num_tokens, "supervised") == 6 * work
    assert ledger(num_params, num_tokens, "policy_gradient") == 8 * work
    lines = ledger_lines(np.int64(num_params), num_tokens, "policy_gradient")
    assert lines == {**dict.fromkeys(LINES, 0), "decode": 2 * work, "training": 6 * work}
    assert ledger_lines(3, 5, "supervised") == {**dict.fromkeys(LINES, 0), "training": 90}


def test_every_line_of_the_bill_by_hand():
    # 10 tokens of which 4 are dead, 3 more thrown away; N = 5, a critic of 7, a reference of 11.
    others = {"critic_params": 7, "reference_params": 11, "discarded_tokens": 3, "dead_tokens": 4}
    lines = ledger_lines(5, 10, "policy_gradient", **others)
    assert lines == {
        "prefill": 0,
        "old_log_probs": 0,
        "decode": 2 * 5 * 6,
        "training": 6 * 5 * 6,
        "critic": 6 * 7 * 10,
        "reference": 2 * 11 * 10,
        "discarded": 2 * 5 * 3,
        "dead": 8 * 5 * 4,
    }
    assert ledger(5, 10, "policy_gradient", **others) == sum(lines.values())
    skipping = ledger_lines(5, 10, "policy_gradient", dead_tokens=4, skips_dead=True)
    assert skipping["dead"] == 2 * 5 * 4
    # Dead rollouts move their charge to another line: the sum stays unless they are skipped.
    assert ledger(5, 10, "policy_gradient", dead_tokens=4) == ledger(5, 10, "policy_gradient")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((1, 1, "sarsa", {}), "got 'sarsa'"),
        ((1.5, 1, "supervised", {}), "num_params"),
        ((1, 1, "policy_gradient", {"dead_tokens": 2}), "at most num_tokens, got 2 of 1"),
        ((1, 1, "supervised", {"discarded_tokens": 1}), "decodes nothing"),
        ((1, 1, "supervised", {"critic_params": -1}), "critic_params"),
    ],
)
def test_ledger_refuses_in_one_clear_line(args, message):
    *numbers, others = args
    with pytest.raises(ValueError, match=message) as error:
        ledger(*numbers, **others)
    assert "\n" not in str(error.value)
