"""What every registered world, policy, learner and advantage keeps."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.measures.sequences import CHANNELS
from simrl.sweeps import spec as specs
from tests.contracts import ends
from tests.contracts.worlds import (
    COUNTING,
    POLICIES,
    WORLDS,
    build,
    laws_of,
    learner_spec,
    some_logits,
    streams,
    task_of,
    words_of,
)

NUM_DRAWS = 20_000
LEARNERS = [
    *(("policy_gradient", advantage) for advantage in specs.ADVANTAGES),
    *((name, "none") for name in specs.LEARNERS if name != "policy_gradient"),
]
WITHOUT_MOMENTS = ("actor_critic", "filtered_policy_gradient", "prefix_replay", "self_play")
GRADIENT_FREE = ("bayesian", *COUNTING)  # tests/learners/test_bayesian.py, test_counting.py
EVERY_ADVANTAGE = "sequence-token-zipf"
# The code of another one with another number: test_grouped, test_oracles have them.
VARIANTS = ("group_normalised_sample", "maxrl_centred", "pass_at_k", "expected_reward")
# Rewards are nothing to a supervised learner: one world for each way to give labels.
LABELS = ("bandit-one_right", "bandit-gaussian", "sequence-exact-fixed", "sequence-exact-zipf")
ALONE = ("bandit-gaussian", "sequence-exact-fixed", EVERY_ADVANTAGE)


def all_answers(shape):
    return np.array(list(itertools.product(range(shape.vocab_size), repeat=shape.length)), np.int32)


@pytest.mark.parametrize("world", WORLDS)
def test_world(world):
    environment = WORLDS[world].build()
    num_prompts, length, vocab_size = environment.shape
    assert WORLDS[world].problems() == []
    task = task_of(world)
    draw = jax.jit(jax.vmap(environment.prompt, (0, None)))
    prompts = np.asarray(draw(words_of(jax.random.key(4), (50,)), task))
    chex.assert_type(prompts, jnp.int32)
    assert set(prompts.tolist()) <= set(range(num_prompts))
    law = laws_of(world)[prompts[0]]
    chex.assert_shape(law, (length, vocab_size))
    chex.assert_type(law, jnp.float32)
    np.testing.assert_allclose(law.sum(axis=-1), 1, rtol=1e-6)
    assert law.min() >= 0
    assert environment.noisy == bool((law.max(axis=-1) < 1).any())
    assert environment.channel is None or environment.channel in CHANNELS
    assert environment.reward_law is None or environment.channel is None
    answers = all_answers(environment.shape)
    words = words_of(jax.random.key(5), answers.shape)
    reward = jax.jit(jax.vmap(environment.reward, (0, None, None, 0)))
    told = jax.tree.map(np.asarray, reward(words, task, prompts[0], answers))
    chex.assert_shape(told.credit, answers.shape)
    chex.assert_shape(told.success, answers.shape[:1])
    chex.assert_type([told.credit, told.success], jnp.float32)
    right = np.all(answers == np.argmax(law, axis=-1), axis=-1)
    np.testing.assert_array_equal(told.success, right)
    assert right.sum() == 1
    if environment.channel is not None and not environment.noisy:
        assert told.credit[right].min() >= told.credit.max(axis=0).min()


@pytest.mark.parametrize("world", WORLDS)
def test_labels_and_rewards_follow_their_laws(world):
    environment = WORLDS[world].build()
    length = environment.shape.length
    task, prompt = task_of(world), np.int32(0)
    law = np.float64(laws_of(world)[0])
    words = words_of(jax.random.key(6), (NUM_DRAWS, length))
    draw = jax.jit(jax.vmap(environment.label, (0, None, None)))
    labels = np.asarray(draw(words, task, prompt))
    assert labels.dtype == np.int32
    shares = (labels[..., None] == np.arange(law.shape[-1])).mean(axis=0)
    error = np.sqrt(law * (1 - law) / NUM_DRAWS)
    assert np.all(np.abs(shares - law) <= 4 * error + 1e-12)
    if environment.reward_law is None:
        return
    reward_law = jax.jit(environment.reward_law)(task, prompt)
    mean, variance = (np.asarray(x, np.float64) for x in reward_law)
    reward = jax.jit(jax.vmap(environment.reward, (0, None, None, None)))
    for arm in range(len(mean)):
        credit = reward(words, task, prompt, np.full(1, arm, np.int32)).credit
        credit = np.asarray(credit, np.float64)[:, 0]
        assert abs(credit.mean() - mean[arm]) < 4 * np.sqrt(variance[arm] / NUM_DRAWS)
        spread = (credit - mean[arm]) ** 2
        assert abs(spread.mean() - variance[arm]) < 4 * spread.std() / np.sqrt(NUM_DRAWS) + 1e-9


def test_tasks_differ_from_seed_to_seed():
    for name, world in WORLDS.items():
        init = jax.jit(jax.vmap(lambda seed: world.build().init(jax.random.key(seed))))  # noqa: B023
        drawn = [np.asarray(leaf) for leaf in jax.tree.leaves(init(np.arange(12)))]
        tasks = {b"".join(leaf[seed].tobytes() for leaf in drawn) for seed in range(12)}
        assert (len(tasks) == 1) == (name in ("bandit-one_right", "bandit-given")), name


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_policy(name, scale):
    shape = simrl.Shape(num_prompts=2, length=2, vocab_size=3)
    policy = POLICIES[name].build(shape)
    start = jax.jit(policy.init)(jax.random.key(0))
    leaves, tree = jax.tree.flatten(start)
    chex.assert_type(leaves, jnp.float32)
    drawn = [some_logits(leaf.shape, scale, i) for i, leaf in enumerate(leaves)]
    params, prompt, answers = jax.tree.unflatten(tree, drawn), np.int32(1), all_answers(shape)

    def log_prob(params, answer):
        return policy.log_prob(params, prompt, answer).sum()

    @jax.jit
    def measure(words, params, answers):
        laws = jax.vmap(policy.log_probs, (None, None, 0))(params, prompt, answers)
        own = jax.vmap(policy.log_prob, (None, None, 0))(params, prompt, answers)
        scores = jax.vmap(jax.grad(log_prob), (None, 0))(params, answers)
        return laws, own, scores, jax.vmap(policy.sample, (0, None, None))(words, params, prompt)

    words = words_of(jax.random.key(1), (NUM_DRAWS, 2))
    laws, own, scores, sampled = jax.device_get(measure(words, params, answers))
    chex.assert_shape(laws, (9, 2, 3))
    np.testing.assert_allclose(np.exp(laws).sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(own, np.take_along_axis(laws, answers[..., None], -1)[..., 0])
    probs = np.exp(own.sum(axis=1))
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-5)
    chex.assert_tree_all_finite(scores)
    identity = jax.tree.map(lambda s: np.tensordot(probs, s, 1), scores)  # E grad log pi = 0
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(identity)) < 1e-6
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(scores)) > 0.1
    chex.assert_type(sampled, jnp.int32)
    shares = np.bincount(sampled @ [3, 1], minlength=9) / NUM_DRAWS
    error = np.sqrt(probs * (1 - probs) / NUM_DRAWS)
    assert np.all(np.abs(shares - probs) <= 4 * error + 1e-4)
    assert policy.num_active_params > 0


def cases():
    """World, learner, advantage: `leave_one_out` everywhere, the others where they may differ.

    Learners that count pulls have no gradient: test_counting has them.
    `none` and `batch_mean` are `leave_one_out` with other numbers: test_moments has them.
    """
    for world in WORLDS:
        for name, advantage in LEARNERS:
            if name == "policy_gradient":
                other = not isinstance(specs.ADVANTAGES[advantage], simrl.Affine)
                other = other and advantage not in VARIANTS
                chosen = advantage == "leave_one_out" or (other and world == EVERY_ADVANTAGE)
            elif name == "exact_gradient":
                chosen = world == "bandit-gaussian"
            else:
                worlds = LABELS if name == "supervised" else ALONE
                chosen = world in worlds and name not in GRADIENT_FREE
            if chosen:
                yield pytest.param(world, name, advantage, id=f"{world}-{name}-{advantage}")


@pytest.mark.parametrize(("world", "name", "advantage"), list(cases()))
def test_learner(world, name, advantage):
    spec = learner_spec(name, advantage)
    trial = build(WORLDS[world], spec)
    environment, learner = trial.environment, trial.learner
    shape, task = environment.shape, task_of(world)
    start, told = ends.begin(trial, task)
    random = start._replace(params=some_logits(start.params.shape))
    company = ends.states(start, told, random)

    @jax.jit
    @jax.vmap
    def update(seed, state):
        looked = ends.look(trial, state, task, streams(seed))
        estimate = learner.estimate(streams(seed), state, task)
        return looked, estimate, learner.belief(looked[0], 0)

    num = 2 + len(ends.ENDS)
    (new, info, odds, seen), estimate, beliefs = jax.device_get(update(np.arange(num), company))
    chex.assert_trees_all_equal_shapes_and_dtypes(new, company)
    chex.assert_trees_all_equal_shapes_and_dtypes(estimate, company.params)
    chex.assert_tree_all_finite((new, estimate))
    size = learner.batch_size
    kind = "supervised" if name in ("supervised", "distillation") else "policy_gradient"
    assert learner.kind == kind
    chex.assert_shape(info.prompts, (num, 1))
    chex.assert_shape(info.answers, (num, 1, size, shape.length))
    chex.assert_shape(info.success, (num, 1, size))
    chex.assert_type([info.prompts, info.answers], jnp.int32)
    chex.assert_type([info.num_samples, info.num_tokens, info.flops], jnp.uint32)
    tokens = size * shape.length
    assert set(info.num_tokens.ravel().tolist()) == {tokens}
    assert set(info.num_samples.ravel().tolist()) == {tokens if kind == "supervised" else size}
    charged = {"supervised": 6, "exact_gradient": 6, "policy_gradient": 8, "distillation": 10}
    per_token = charged.get(name, 8) * shape.vocab_size
    per_token += 6 * (name == "actor_critic")  # one value a token
    whole = np.broadcast_to([0, per_token * tokens], (num, 1, 2))
    if learner.discards:  # of what is thrown away, the decoding alone
        whole = np.where(np.asarray(info.dead)[..., None] > 0, whole // 4, whole)
    np.testing.assert_array_equal(info.flops, whole)
    for quantity, values in seen.items():
        chex.assert_shape(values, (num, shape.num_prompts))
        assert np.isfinite(values[:2]).all(), quantity
    assert learner.moments or name in WITHOUT_MOMENTS
    ends.assert_numbers(*jax.tree.map(lambda leaf: leaf[2:], (odds, seen)))
    # One sgd step of rate 1 climbs its own estimate.
    np.testing.assert_allclose(new.params, company.params + estimate, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(np.exp(beliefs).sum(axis=-1), 1, rtol=1e-5)
    if world not in ALONE:
        return
    alone, told = jax.jit(learner.step)(streams(np.uint32(1)), random, task)
    second = jax.tree.map(lambda leaf: leaf[1], (new, info))
    chex.assert_trees_all_equal(told, second[1])
    chex.assert_trees_all_close(alone, second[0], rtol=1e-5, atol=1e-6)


SURROGATES = {**specs.SURROGATES, "penalised": simrl.Penalised(0.1, 0.2)}
SURROGATES["ppo, penalised"] = simrl.PPO(entropy=0.1, kl_to_start=0.2, ratio="answer")


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogate(name):
    """Finite and of one form from every state, one program for all numbers."""
    spec = learner_spec("policy_gradient", "leave_one_out", surrogate=SURROGATES[name])
    world = WORLDS[EVERY_ADVANTAGE]
    task = task_of(EVERY_ADVANTAGE)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(spec, company):
        learner = build(world, spec).learner

        def one(seed, state):
            keyed = streams(seed)
            return *learner.step(keyed, state, task), learner.estimate(keyed, state, task)

        return jax.vmap(one)(jnp.arange(1 + len(ends.ENDS)), company)

    trial = build(world, spec)
    company = ends.states(*ends.begin(trial, task))
    for value in (0.1, 0.3):
        numbers = jax.tree.map(lambda leaf: value, spec)  # noqa: B023
        new, info, estimate = update(specs.traced(numbers), company)
        chex.assert_trees_all_equal_shapes_and_dtypes(new, company)
        chex.assert_trees_all_equal_shapes_and_dtypes(estimate, company.params)
        chex.assert_tree_all_finite((new, estimate))
        chex.assert_type(info.flops, jnp.uint32)


def numbers_of(world, name, advantage):
    """The specs of one structure with different numbers in every traced field."""
    for value in (0.5, 1, np.float32(0.25), 2.0):
        parts = (WORLDS[world], POLICIES["tabular"], learner_spec(name, advantage))
        yield jax.tree.map(lambda leaf: value, parts)  # noqa: B023


@pytest.mark.parametrize(
    ("world", "name", "advantage"),
    [
        ("bandit-gaussian", "policy_gradient", "constant"),
        ("sequence-token-zipf", "policy_gradient", "leave_one_out"),
        ("sequence-exact-zipf", "supervised", "none"),
    ],
)
def test_traced_numbers_do_not_compile_anew(world, name, advantage):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(parts, seed):
        trial = specs.build(parts)
        task = trial.environment.init(streams(seed).task)
        state = trial.learner.init(streams(seed))
        return trial.learner.step(streams(seed), state, task)[0].params

    specs_of = list(numbers_of(world, name, advantage))
    assert len({type(leaf) for leaf in jax.tree.leaves(specs_of)}) == 3
    results = [update(specs.traced(parts), jnp.uint32(0)) for parts in specs_of]
    assert len({np.asarray(result).tobytes() for result in results}) == len(results)


def test_every_named_advantage_and_learner_is_met():
    met = {(name, advantage) for name, advantage in LEARNERS}
    assert {advantage for _, advantage in met} == set(specs.ADVANTAGES)
    assert {name for name, _ in met} == set(specs.LEARNERS)
    assert {world.partition("-")[0] for world in WORLDS} == set(specs.ENVIRONMENTS)


def test_running_mean_is_the_mean_of_earlier_rewards():
    advantage = simrl.RunningMean().build(batch_size=2, length=1)
    batches = np.float32([[1.0, 0.0], [1.0, 1.0], [0.0, 0.5]])
    state, seen = advantage.init(), []

    @jax.jit
    def weigh(state, credit):
        return advantage.weights(state, simrl.Rollout(0, None, credit, None, None))

    for batch in batches:
        baseline = np.mean(seen) if seen else batch.mean()  # R_1 at t = 1 is its own
        state, weights = jax.device_get(weigh(state, batch[:, None]))
        np.testing.assert_allclose(weights[:, 0], batch - baseline, rtol=1e-6, atol=1e-7)
        seen += batch.tolist()
        np.testing.assert_allclose(state.mean, np.mean(seen), rtol=1e-6)
        assert state.num_rewards == len(seen)
