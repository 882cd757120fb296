"""Jumps over dead groups: each law against its definition, whole chains against a dense one."""

import collections
import itertools
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from simrl import keys
from simrl.learners import failures
from simrl.learners import leap as leaps
from simrl.measures import groups, phases
from simrl.policies.tabular import Tabular
from simrl.types import Shape, Verifier
from tests.contracts.worlds import words_of
from tests.oracles import enumeration
from tests.oracles.groups import advantage

MOST = 2**64 - 1
BLOCK = 8000  # seeds
NAMES = ("none", "leave_one_out", "group_mean", "group_normalised", "group_normalised_sample")
NAMES += ("maxrl", "maxrl_centred", "pass_at_k", "pass_at_k_leave_one_out")

draw_waits = jax.jit(jax.vmap(leaps.wait, (0, None)))
draw_counts = jax.jit(jax.vmap(leaps.draw_count, (0, None, None, None)))
live_probability = jax.jit(leaps.log_live_probability)
reports_of = jax.jit(leaps.reports)


@jax.jit
def draw_failures(words, log_probs, answer):
    given = failures.chances(log_probs, answer)
    return jax.vmap(failures.draw_failure, (0, None))(words, given)


@jax.jit
def leap_of_seeds(seeds, *arguments):
    def one(seed, *arguments):
        return leaps.leap(keys.streams(jax.random.key(7), seed), *arguments)

    return jax.vmap(one, (0, *(None,) * len(arguments)))(seeds, *arguments)


def leap_many(num, log_probs, answer, tables, most=MOST, verifier=None):
    """The leaps of seeds 0 ... num - 1, in blocks of one size: one compiled program a shape."""
    words = jnp.asarray(phases.words_of(most))
    tables = [jnp.asarray(table, jnp.float32) for table in tables]
    arguments = jnp.asarray(log_probs, jnp.float32), jnp.asarray(answer), *tables, words, verifier
    starts = range(0, num, BLOCK)
    blocks = [leap_of_seeds(start + np.arange(BLOCK), *arguments) for start in starts]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:num], *blocks)


def waits(p_live, num, seed=0):
    """Waits [num], Python-sized, and the generator's p_live after float32."""
    words = words_of(jax.random.key(seed), (num, leaps.WAIT_WORDS))
    log_dead = jnp.float32(np.log1p(-p_live))
    return phases.count_of(draw_waits(words, log_dead)), -np.expm1(float(log_dead))


def k_of(name, size):
    return size - 1 if name == "pass_at_k_leave_one_out" else min(2, size)


def assert_law(counts, law, least=5.0):
    """Chi-square of counts [N] against probabilities [N]; cells that expect too little are one."""
    expected = np.asarray(law) * np.sum(counts)
    rare = expected < least
    assert np.sum(counts[expected == 0]) == 0
    observed = np.append(counts[~rare], np.sum(counts[rare]))
    expected = np.append(expected[~rare], np.sum(expected[rare]))
    kept = expected > 0
    if np.sum(kept) > 1:
        assert stats.chisquare(observed[kept], expected[kept], sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize("p_live", [0.9, 0.5, 0.1, 1e-3, 1e-6, 1e-12])
def test_waits_are_geometric(p_live):
    num = 40_000
    found, p = waits(p_live, num)
    mean, variance = (1 - p) / p, (1 - p) / p**2
    kurtosis = 9 + p**2 / (1 - p)
    values = found.astype(float)
    assert abs(values.mean() - mean) < 4 * np.sqrt(variance / num)
    assert abs(values.var() - variance) < 4 * variance * np.sqrt((kurtosis - 1) / num)
    edges = np.unique(np.floor(np.log1p(-np.linspace(0, 1, 40)[1:-1]) / np.log1p(-p)))
    cells = np.searchsorted(edges, values, side="left")  # cell j: up to edges[j]
    reach = np.concatenate([[0], -np.expm1((edges + 1) * np.log1p(-p)), [1]])
    observed = np.bincount(cells, minlength=len(edges) + 1)
    assert stats.chisquare(observed, np.diff(reach) * num).pvalue > 0.01
    if p_live < 1e-5:
        assert stats.kstest(values * p, "expon").pvalue > 0.01


def test_the_last_digit_of_a_long_wait_is_fair():
    found, _ = waits(1e-12, 40_000, seed=1)
    for digit in (0, 1, 8, 16):
        byte = (found >> np.uint64(digit)) & np.uint64(255)
        assert_law(np.bincount(byte.astype(int), minlength=256), np.full(256, 1 / 256))
    even = (found[:, None] >> np.arange(34, dtype=np.uint64)) & np.uint64(1)
    shares = np.corrcoef(even.T.astype(float))[np.triu_indices(34, 1)]
    assert np.max(np.abs(shares)) < 4.5 / np.sqrt(len(found))


def test_waits_pass_every_word_boundary():
    for power in range(15, 60):
        found, p = waits(2.0**-power, 1000, seed=power)
        assert abs(found.astype(float).mean() * p - 1) < 4.5 / np.sqrt(1000)


def test_waits_end_at_the_largest_count():
    for log_dead in (0.0, -0.0, -1e-45, -1e-30, np.nan):
        words = words_of(jax.random.key(2), (50, leaps.WAIT_WORDS))
        assert np.all(phases.count_of(draw_waits(words, jnp.float32(log_dead))) == MOST)
    for log_dead in (-np.inf, -1e30, -100.0):
        assert np.all(phases.count_of(draw_waits(words, jnp.float32(log_dead))) == 0)
    found, _ = waits(1e-30, 10)
    assert np.all(found == MOST)
    words = words_of(jax.random.key(3), (20_000, leaps.WAIT_WORDS))
    ended = phases.count_of(draw_waits(words, jnp.float32(-1e-19))) == MOST
    share = np.exp(-1e-19 * 2.0**64)
    assert abs(ended.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(ended))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_live_counts_are_those_with_a_weight(name, size):
    if size == 1 and name.endswith("leave_one_out"):
        return
    k = k_of(name, size)
    found = leaps.live_counts(*groups.group_weights(name, size, k))
    for count in range(size + 1):
        weights = advantage([1.0] * count + [0.0] * (size - count), name, k)
        assert found[count] == any(abs(weight) > 1e-12 for weight in weights)


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_live_probability_at_both_ends(size):
    count = np.arange(size + 1)
    sets = [count > 0, (count > 0) & (count < size), (count > 0) & (count <= size // 2)]
    for odds, live in itertools.product((-69.0, -27.6, -5.0, 0.3, 8.0, 30.0, 69.0), sets):
        log_p, log_fail = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
        law = np.exp(stats.binom(size, 0.5).logpmf(count) + size * np.log(2))
        law = law * np.exp(count * log_p) * np.exp((size - count) * log_fail)
        one, other = law[live].sum(), law[~live].sum()
        log_live, log_dead = live_probability(
            jnp.float32(log_p), jnp.float32(log_fail), jnp.asarray(live)
        )
        # What float32 holds of log p times B: the digits that p^B can have at all.
        tolerance = 3e-6 * max(1, size * abs(odds) / 30)
        if not live.any():
            assert (log_live, log_dead) == (-np.inf, 0)
        elif min(one, other) > 1e-38:
            rate = -np.log1p(-one) if one < other else -np.log(other)
            assert abs(float(log_dead) / -rate - 1) < tolerance
            assert abs(np.expm1(float(log_live) - np.log(one))) < tolerance


def test_counts_given_live_keep_their_digits():
    words = words_of(jax.random.key(4), (40_000,))
    size, odds = 4, -28.0
    logs = jnp.float32(-np.logaddexp(0, -odds)), jnp.float32(-np.logaddexp(0, odds))
    count = np.arange(size + 1)
    assert np.all(draw_counts(words, *logs, count > 0) == 1)
    assert np.all(draw_counts(words, *logs[::-1], count < size) == size - 1)
    for odds, allowed in itertools.product((-2.0, 0.5, 3.0), (count > 0, count % 2 == 0)):
        logs = jnp.float32(-np.logaddexp(0, -odds)), jnp.float32(-np.logaddexp(0, odds))
        law = stats.binom(size, 1 / (1 + np.exp(-odds))).pmf(count) * allowed
        found = np.bincount(draw_counts(words, *logs, allowed), minlength=size + 1)
        assert_law(found, law / law.sum())


def log_softmax(logits):
    logits = np.asarray(logits, float)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


@pytest.mark.parametrize(
    "logits",
    [
        [[0.0, 0.5, -1.0], [0.3, 0.0, 1.0]],
        [[16.0, 0.5, -1.0], [15.5, 0.0, 1.0]],
        [[-9.0, 0.0, 1.0], [8.0, 2.0, 0.0]],
        [[1.0, 0.0, -1.0]],
        [[28.0, 0.0, 1.0]],
    ],
)
def test_failures_follow_the_policy_given_failure(logits):
    logs = log_softmax(logits)
    length, vocab_size = logs.shape
    answer = [0] * length
    every = enumeration.answers(length, vocab_size)
    law = np.array([np.exp(sum(logs[t, a] for t, a in enumerate(guess))) for guess in every])
    law[every.index(tuple(answer))] = 0
    words = words_of(jax.random.key(5), (30_000, 3, length))
    found = draw_failures(words, jnp.asarray(logs, jnp.float32), jnp.asarray(answer))
    number = np.ravel_multi_index(np.asarray(found).T, (vocab_size,) * length)
    assert_law(np.bincount(number, minlength=len(every)), law / law.sum())


def test_failures_among_many_symbols():
    """More symbols than a block, of all sizes, the answer in the midst."""
    size, answer = 103, 41
    logs = log_softmax([np.random.default_rng(0).normal(0, 2, size)])
    law = np.exp(logs[0]) * (np.arange(size) != answer)
    words = words_of(jax.random.key(6), (100_000, 3, 1))
    found = draw_failures(words, jnp.asarray(logs, jnp.float32), jnp.asarray([answer]))
    assert_law(np.bincount(found[:, 0], minlength=size), law / law.sum())


WORLDS = {
    "V3 L1": (np.log([[0.2, 0.5, 0.3]]), [1]),
    "V2 L2": (np.log([[0.3, 0.7], [0.6, 0.4]]), [1, 0]),
}


def group_laws(logs, answer, size, name, k):
    """Probability of every multiset of B answers, given that it is live and that it is dead."""
    every = enumeration.answers(*logs.shape)
    probs = [enumeration.probability(np.exp(logs), guess) for guess in every]
    laws = {True: collections.Counter(), False: collections.Counter()}
    for group in itertools.product(range(len(every)), repeat=size):
        rewards = [float(every[i] == tuple(answer)) for i in group]
        weights = advantage(rewards, name, k)
        live = any(abs(weight) > 1e-12 for weight in weights)
        laws[live][tuple(sorted(group))] += np.prod([probs[i] for i in group])
    return laws


def assert_groups(answers, law, vocab_size):
    places = vocab_size ** np.arange(answers.shape[-1])[::-1]
    found = collections.Counter(map(tuple, np.sort(answers @ places, axis=1).tolist()))
    assert set(found) <= set(law)
    counts = np.array([found[group] for group in law], float)
    assert_law(counts, np.array(list(law.values())) / sum(law.values()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("world", WORLDS)
def test_groups_follow_their_conditional_laws(world, size, name):
    logs, answer = WORLDS[world]
    k = k_of(name, size)
    tables = groups.group_weights(name, size, k)
    found = leap_many(BLOCK, logs, answer, tables)
    laws = group_laws(logs, answer, size, name, k)
    assert np.all(found.live)
    assert_groups(found.answers, laws[True], logs.shape[1])
    assert_groups(found.dead_answers, laws[False], logs.shape[1])

    p = sum(laws[True].values())
    dead = phases.count_of(found.num_dead)
    assert abs(dead.mean() - (1 - p) / p) < 4 * np.sqrt((1 - p) / p**2 / len(dead))
    right = np.all(found.answers == np.array(answer), axis=-1)
    np.testing.assert_array_equal(found.success, right)
    np.testing.assert_array_equal(found.num_success, right.sum(axis=1))
    for i in range(50):
        expected = advantage(right[i].astype(float).tolist(), name, k)
        np.testing.assert_allclose(found.weights[i], expected, rtol=1e-5, atol=1e-6)


ALPHA, BETA = 0.2, 0.3  # of a verifier that errs


def told_laws(logs, answer, size, name):
    """As `group_laws`, of pairs (answer, what a verifier says of it): what it says gives life."""
    every = enumeration.answers(*logs.shape)
    chances = {}
    for i, guess in enumerate(every):
        passes = 1 - BETA if guess == tuple(answer) else ALPHA
        p = enumeration.probability(np.exp(logs), guess)
        chances |= {(i, True): p * passes, (i, False): p * (1 - passes)}
    laws = {True: collections.Counter(), False: collections.Counter()}
    for group in itertools.product(chances, repeat=size):
        weights = advantage([float(passed) for _, passed in group], name, None)
        live = any(abs(weight) > 1e-12 for weight in weights)
        laws[live][tuple(sorted(group))] += np.prod([chances[pair] for pair in group])
    return laws


@pytest.mark.parametrize("name", ["none", "leave_one_out", "maxrl"])
def test_groups_told_of_by_a_verifier_that_errs(name):
    logs, answer = WORLDS["V2 L2"]
    size = 3
    tables = groups.group_weights(name, size)
    verifier = Verifier(jnp.float32(ALPHA), jnp.float32(BETA))
    found = leap_many(2 * BLOCK, logs, answer, tables, verifier=verifier)
    laws = told_laws(logs, answer, size, name)
    p = sum(laws[True].values())
    dead = phases.count_of(found.num_dead)
    assert abs(dead.mean() - (1 - p) / p) < 4 * np.sqrt((1 - p) / p**2 / len(dead))
    right = np.all(found.answers == np.array(answer), axis=-1)
    np.testing.assert_array_equal(found.success, right)  # the truth, not what was said
    passed = np.arange(size) < found.num_success[:, None]
    places = logs.shape[1] ** np.arange(len(answer))[::-1]
    coded = np.sort(2 * (found.answers @ places) + passed, axis=1)  # in the order of the pairs
    counts = collections.Counter(tuple((c // 2, c % 2 == 1) for c in row) for row in coded.tolist())
    assert set(counts) <= set(laws[True])
    drawn = np.array([counts[group] for group in laws[True]], float)
    assert_law(drawn, np.array(list(laws[True].values())) / p)
    bare = collections.Counter()  # of the dead group only the answers are known
    for group, chance in laws[False].items():
        bare[tuple(i for i, _ in group)] += chance
    assert_groups(found.dead_answers, bare, logs.shape[1])
    for i in range(50):
        expected = advantage(passed[i].astype(float).tolist(), name, None)
        np.testing.assert_allclose(found.weights[i], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (1e-9, 0.3), (0.2, 0.0), (1e-12, 1e-6)])
def test_reports_at_both_ends(alpha, beta):
    for odds in np.float32([-69, -28, -3, 0.5, 9, 28, 69]):
        logs = jnp.float32(-np.logaddexp(0, -odds)), jnp.float32(-np.logaddexp(0, odds))
        found = reports_of(*logs, Verifier(*map(jnp.float32, (alpha, beta))))
        for got, wanted in zip(
            jax.tree.leaves(found), exact_reports(odds, alpha, beta), strict=True
        ):
            np.testing.assert_allclose(got, wanted, rtol=3e-6, atol=3e-6 * (abs(wanted) > 1e-3))


def exact_reports(odds, alpha, beta):
    """log of passing and of failing, log-odds of right given either; 60 digits."""
    with localcontext(prec=60):
        alpha, beta = (Decimal(float(np.float32(rate))) for rate in (alpha, beta))
        right = 1 / (1 + Decimal(float(-odds)).exp())
        passed = right * (1 - beta), (1 - right) * alpha
        failed = right * beta, (1 - right) * (1 - alpha)
        logs = [float(sum(pair).ln()) for pair in (passed, failed)]
        return [
            *logs,
            *(
                float((a / b).ln()) if a and b else np.inf * (1 if a else -1)
                for a, b in (passed, failed)
            ),
        ]


def test_leaps_at_both_ends():
    """Odds of e^-28 and e^28: the live group has one success, or one failure; or none is live."""
    for odds, name, count in ((-28.0, "none", 1), (28.0, "leave_one_out", 2)):
        logs = log_softmax([[odds, 0.0, 0.0]])
        found = leap_many(4000, logs, [0], groups.group_weights(name, 3))
        assert np.all(found.num_success == count)
        assert np.all(np.isfinite(found.weights))
        rate = 3 * np.exp(logs[0, 0] if odds < 0 else np.log(2) + logs[0, 1])
        assert stats.kstest(phases.count_of(found.num_dead) * rate, "expon").pvalue > 0.01
        assert np.all(found.dead_answers == 0) == (odds > 0)
    found = leap_many(10, logs, [0], np.zeros((2, 4)))
    assert not np.any(found.live)
    assert np.all(phases.count_of(found.num_dead) == MOST)


def test_a_budget_cut_in_pieces_changes_no_law():
    logs, answer = WORLDS["V3 L1"]
    tables = groups.group_weights("group_normalised", 3)
    p = sum(group_laws(logs, answer, 3, "group_normalised", None)[True].values())
    piece, num = 2, 10_000
    found = leap_many(8 * num, logs, answer, tables, most=piece)
    dead = phases.count_of(found.num_dead).astype(int)
    assert np.all(dead[found.live] < piece)
    assert np.all(dead[~found.live] == piece)
    assert not np.any(found.weights[~found.live])
    assert not np.any(found.success[~found.live])
    assert not np.any(found.num_success[~found.live])
    # Pieces one after the other: the next live group of each of `num` learners.
    dead, live = dead.reshape(num, 8), found.live.reshape(num, 8)
    first = np.where(live.any(axis=1), live.argmax(axis=1), 7)
    total = np.where(np.arange(8) <= first[:, None], dead, 0).sum(axis=1)
    most = 8 * piece
    law = np.append(p * (1 - p) ** np.arange(most), (1 - p) ** most)
    assert_law(np.bincount(total, minlength=most + 1), law)
    found = leap_many(10, logs, answer, tables, most=0)
    assert not np.any(found.live)
    assert not np.any(found.num_dead)


def chain(num, start, answer, tables, rate, num_live):
    """Dead groups before each of `num_live` updates, and the logits after: by leaps."""
    policy = Tabular().build(Shape(1, *start.shape))
    tables = [jnp.asarray(table, jnp.float32) for table in tables]
    answer, most = jnp.asarray(answer), jnp.asarray(phases.words_of(MOST))

    def one(seed):
        def update(params, step):
            streams = keys.at_step(keys.streams(jax.random.key(8), seed), step)
            logs = policy.log_probs(params, jnp.int32(0), answer)
            found = leaps.leap(streams, logs, answer, *tables, most)
            return params + rate * leaps.leap_gradient(policy, params, found), found.num_dead

        return jax.lax.scan(update, jnp.asarray(start, jnp.float32)[None], jnp.arange(num_live))

    params, dead = jax.jit(jax.vmap(one))(jnp.arange(num))
    return phases.count_of(dead).astype(int), np.asarray(params)[:, 0]


def dense_chain(num, start, answer, name, size, rate, num_live):
    """The same, every group simulated: NumPy, all learners at once, scores by definition."""
    random = np.random.default_rng(0)
    length, vocab_size = start.shape
    logits = np.tile(start, (num, 1, 1))
    dead = np.zeros((num, num_live), int)
    done = np.zeros(num, int)
    while np.any(done < num_live):
        probs = np.exp(log_softmax(logits))
        draw = random.random((num, size, length, 1))
        guess = np.sum(draw > np.cumsum(probs, axis=-1)[:, None], axis=-1)
        rewards = np.all(guess == np.array(answer), axis=-1).astype(float)
        by_count = [advantage([1.0] * k + [0.0] * (size - k), name, None) for k in range(size + 1)]
        right = np.array([weights[0] for weights in by_count])
        wrong = np.array([weights[-1] for weights in by_count])
        total = rewards.sum(axis=1).astype(int)
        weights = np.where(rewards > 0, right[total][:, None], wrong[total][:, None])
        score = np.eye(vocab_size)[guess] - probs[:, None]
        active = done < num_live
        live = np.any(weights != 0, axis=1) & active
        gradient = np.mean(weights[:, :, None, None] * score, axis=1)
        logits = logits + rate * live[:, None, None] * gradient
        dead[np.flatnonzero(active & ~live), done[active & ~live]] += 1
        done += live
    return dead, logits


CHAINS = {
    "none": (np.array([[0.0, 0.5, 1.0, -0.5]]), [3], "none", 2),
    "leave_one_out": (np.array([[0.0, 0.5, 1.0, -0.5]]), [0], "leave_one_out", 2),
    "normalised": (np.array([[0.5, 0.0], [0.0, 1.0]]), [1, 0], "group_normalised", 3),
}


@pytest.mark.parametrize("case", CHAINS)
def test_chains_follow_the_dense_simulation(case):
    start, answer, name, size = CHAINS[case]
    num, rate, num_live = 8000, 1.0, 3
    dead, logits = chain(num, start, answer, groups.group_weights(name, size), rate, num_live)
    dense_dead, dense_logits = dense_chain(num, start, answer, name, size, rate, num_live)
    for i in range(num_live):
        assert stats.ks_2samp(dead[:, i], dense_dead[:, i]).pvalue > 0.01
    assert stats.ks_2samp(dead.sum(axis=1), dense_dead.sum(axis=1)).pvalue > 0.01
    # Policies are few: each end point, with a short or a long way there, is a cell of its own.
    middle = np.median(dense_dead.sum(axis=1))
    tables = []
    for d, x in ((dead, logits), (dense_dead, dense_logits)):
        cells = np.column_stack([np.rint(1000 * x.reshape(num, -1)), d.sum(axis=1) > middle])
        tables.append(collections.Counter(map(tuple, cells.tolist())))
    cells = [c for c in tables[1] if tables[0][c] + tables[1][c] >= 20]
    counts = np.array([[table[c] for c in cells] for table in tables])
    assert counts.sum() > 1.5 * num
    assert stats.chi2_contingency(counts).pvalue > 0.001


def test_mean_samples_of_reinforce_without_baseline():
    """B = 1: the path of policies is fixed, so the mean cost of an update is 1 / p."""
    size, num = 50, 4000
    logits, passes = np.zeros(size), []
    while (probs := np.exp(log_softmax(logits)))[0] < 0.5:
        passes.append(probs[0])
        logits = logits + np.eye(size)[0] - probs
    tables = groups.group_weights("none", 1)
    dead, found = chain(num, np.zeros((1, size)), [0], tables, 1.0, len(passes))
    np.testing.assert_allclose(found[:, 0], np.tile(logits, (num, 1)), atol=1e-5)
    p = np.array(passes)
    error = np.sqrt(np.sum((1 - p) / p**2) / num)
    assert abs((dead + 1).sum(axis=1).mean() - np.sum(1 / p)) < 3 * error
