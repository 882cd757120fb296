"""The critic and what it makes of rewards, against sums by definition and lists of every answer."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.engine import observe
from simrl.learners import critic
from simrl.measures import flops
from simrl.sweeps import spec as specs
from tests.contracts.worlds import begun, build, some_logits, streams
from tests.oracles import enumeration as oracle

WORLD = simrl.Sequence(vocab_size=3, length=3)
DRAWS = 40_000

advantages_of = jax.jit(critic.advantages)
places_of = jax.jit(critic.places, static_argnums=(0, 2))
paid_of = jax.jit(critic.paid, static_argnums=1)


def returns_of(rewards, values, decay, decoded=None):
    """Advantages of one answer by definition: mixtures of n-step returns, less the value."""
    length = len(rewards)
    end = length if decoded is None else decoded
    after = [*values, 0.0] if end == length else values
    found = np.zeros(length)
    for t in range(end):
        steps = [sum(rewards[t : t + n]) + after[t + n] for n in range(1, end - t + 1)]
        mixed = sum((1 - decay) * decay**n * g for n, g in enumerate(steps[:-1]))
        found[t] = mixed + decay ** (len(steps) - 1) * steps[-1] - values[t]
    return found


def test_advantages_worked_by_hand():
    rewards, values = np.float32([0.0, 0.0, 1.0]), np.float32([0.2, 0.5, 0.4])
    # delta = .5 - .2, .4 - .5, 1 - .4; .6, then -.1 + .3, then .3 + .1
    found = advantages_of(rewards, values, np.ones(3, bool), 0.5)
    np.testing.assert_allclose(found, [0.4, 0.2, 0.6], rtol=1e-6)
    # Stopped after one token, it is credited .5 for good.
    found = advantages_of(rewards, values, np.array([True, False, False]), 0.5)
    np.testing.assert_allclose(found, [0.3, 0.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
def test_advantages_are_mixtures_of_returns(decay):
    rng = np.random.default_rng(1)
    rewards, values = rng.normal(size=(2, 20, 5))
    decoded = rng.integers(1, 6, 20)
    live = np.arange(5) < decoded[:, None]
    wanted = [
        returns_of(*row, decay, end) for *row, end in zip(rewards, values, decoded, strict=True)
    ]
    found = advantages_of(rewards, values, live, decay)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_what_credits_pay():
    match = np.float32(list(itertools.product([0, 1], repeat=3)))
    for reward in oracle.REWARDS:
        credit = np.float32([oracle.credit(row, (1, 1, 1), reward) for row in match])
        rewards = paid_of(credit, reward)
        wanted = match if reward in critic.BY_POSITION else credit * [0, 0, 1]
        np.testing.assert_array_equal(rewards, wanted)


@pytest.mark.parametrize("features", critic.FEATURES)
def test_every_prefix_has_a_place(features):
    answers = oracle.answers(3, 3)
    found = np.asarray(places_of(features, np.array(answers), 3))
    owners = {
        "prompt": lambda answer, t: 0,
        "position": lambda answer, t: t,
        "prefix": lambda answer, t: answer[:t],
    }[features]
    pairs = {(owners(a, t), found[i, t]) for i, a in enumerate(answers) for t in range(3)}
    size = critic.num_values(features, WORLD.build())
    assert len(pairs) == size  # one to one
    assert {place for _, place in pairs} == set(range(size))


def listed(task, probs, reward="exact"):
    """Every answer to prompt 0 with its probability, rewards and score."""
    secret = tuple(np.asarray(task.answers)[0].tolist())
    for answer in oracle.answers(*probs.shape):
        credit = np.array(oracle.credit(answer, secret, reward), float)
        rewards = credit if reward == "token" else credit * [0, 0, 1]
        yield answer, oracle.probability(probs, answer), rewards, oracle.score(probs, answer)


@pytest.fixture(scope="module")
def drawn():
    """Many estimates of one guess each, for any values and decay: one program."""
    learner = simrl.ActorCritic(group_size=1)
    environment = WORLD.build()
    task = jax.jit(environment.init)(jax.random.key(3))
    logits = some_logits(environment.shape)

    @jax.jit
    def moments(values, decay):
        spec = simrl.ActorCritic(group_size=1, trace_decay=decay)
        built = build(WORLD, spec).learner
        state = built.init(streams(0))
        known = state.advantage._replace(values=values[None])
        state = state._replace(params=jnp.asarray(logits), advantage=known)
        one = jax.vmap(lambda seed: built.estimate(streams(seed), state, task))
        found = one(jnp.arange(DRAWS))
        return jnp.mean(found, axis=0)[0], jnp.std(found, axis=0)[0] / np.sqrt(DRAWS)

    assert learner.problems() == []
    odds = np.exp(np.float64(logits[0]))
    return SimpleNamespace(
        moments=moments, task=task, probs=odds / odds.sum(axis=-1, keepdims=True)
    )


def true_values(task, probs):
    """Chance to be right after each prefix, by listing every answer."""
    total, right = {}, {}
    for answer, chance, rewards, _ in listed(task, probs):
        for t in range(3):
            total[answer[:t]] = total.get(answer[:t], 0) + chance
            right[answer[:t]] = right.get(answer[:t], 0) + chance * rewards[-1]
    return {prefix: right[prefix] / total[prefix] for prefix in total}


def test_only_wrong_values_and_a_short_trace_are_biased(drawn):
    rng = np.random.default_rng(5)
    truth = true_values(drawn.task, drawn.probs)
    wrong = {prefix: rng.uniform(0, 0.5) for prefix in truth}
    gradient = sum(p * r[-1] * s for _, p, r, s in listed(drawn.task, drawn.probs))
    for values, decay, unbiased in [(wrong, 1.0, True), (truth, 0.0, True), (wrong, 0.3, False)]:
        mean = sum(
            p * returns_of(r, [values[a[:t]] for t in range(3)], decay)[:, None] * s
            for a, p, r, s in listed(drawn.task, drawn.probs)
        )
        assert np.allclose(mean, gradient, atol=1e-12) == unbiased
        table = np.zeros(13, np.float32)
        for prefix, value in values.items():
            table[tree_place(prefix)] = value
        found, error = jax.device_get(drawn.moments(table, decay))
        assert np.all(np.abs(found - mean) <= 4 * error)
        if not unbiased:
            assert np.any(np.abs(found - gradient) > 8 * error)


def tree_place(prefix, size=3):
    """The nodes of a tree, level by level."""
    level = sum(size**t for t in range(len(prefix)))
    return level + int("".join(map(str, prefix)) or "0", size)


@pytest.mark.parametrize("features", ["prompt", "position"])
def test_exact_moments_by_every_answer(features):
    world = simrl.Sequence(vocab_size=2, length=3, reward="token", num_prompts=2)
    spec = simrl.ActorCritic(group_size=2, features=features, trace_decay=0.6)
    trial = build(world, spec)
    learner, environment = trial.learner, trial.environment
    task, state = begun(trial, jax.random.key(3))
    values = np.random.default_rng(2).uniform(0, 2, state.advantage.values.shape)
    known = state.advantage._replace(values=np.float32(values))
    logits = some_logits(environment.shape)
    state = state._replace(params=logits, advantage=known)
    odds = np.exp(np.float64(logits))
    probs = odds / odds.sum(axis=-1, keepdims=True)
    squares, means = [], []
    for m, secret in enumerate(np.asarray(task.answers).tolist()):
        chances, estimates = [], []
        for answer in oracle.answers(3, 2):
            weights = returns_of(
                np.array(oracle.credit(answer, secret, "token")),
                np.broadcast_to(values[m], 3),
                0.6,
            )
            chances.append(oracle.probability(probs[m], answer))
            estimates.append(weights[:, None] * oracle.score(probs[m], answer))
        chances, estimates = np.array(chances), np.array(estimates)
        mean = np.tensordot(chances, estimates, 1)
        spread = (chances * ((estimates - mean) ** 2).sum(axis=(1, 2))).sum()
        squares.append(spread / 2 + (mean**2).sum())
        means.append(mean / 2)  # a prompt is drawn half the time
    norm = (np.array(means) ** 2).sum()
    found = np.asarray(jax.jit(learner.moments)(state, task))
    np.testing.assert_allclose(found, [np.mean(squares) - norm, norm], rtol=1e-5)
    by_itself = build(world, simrl.PolicyGradient(group_size=2)).learner
    plain = by_itself.init(streams(0))._replace(params=state.params)
    np.testing.assert_allclose(found[1], jax.jit(by_itself.moments)(plain, task)[1], rtol=1e-5)


@pytest.mark.parametrize(("features", "decay"), [("prefix", 0.5), ("position", 0.0)])
def test_critic_finds_the_true_values_of_an_actor_at_rest(features, decay):
    world = simrl.Sequence(vocab_size=2, length=2)
    spec = simrl.ActorCritic(
        group_size=4,
        features=features,
        trace_decay=decay,
        optimizer=simrl.Optimizer("sgd", {"learning_rate": 0.0}),
        critic_optimizer=simrl.Optimizer("sgd", {"learning_rate": 0.2}),
    )
    learner, environment = build(world, spec).learner, world.build()
    task = jax.jit(environment.init)(jax.random.key(3))

    @jax.jit
    @jax.vmap
    def values(seed):
        def update(state, step):
            return learner.step(streams(seed, step), state, task)[0], None

        state, _ = jax.lax.scan(update, learner.init(streams(seed)), jnp.arange(200))
        return state.advantage.values[0], state.params

    found, params = map(np.float64, values(np.arange(500)))
    assert not params.any()
    first = int(np.asarray(task.answers)[0, 0])
    truth = {"position": [0.25, 0.25], "prefix": [0.25, 0.5 * (first == 0), 0.5 * (first == 1)]}
    error = np.std(found, axis=0) / np.sqrt(500)
    assert error[0] > 1e-3  # it goes on to be moved by luck
    gap = np.mean(found, axis=0) - np.array(truth[features])
    assert np.all(np.abs(gap) <= 4 * error + 1e-9)  # the wrong prefix is never paid: 0, no luck


STOPPING = simrl.Spec(
    environment=WORLD,
    learner=simrl.ActorCritic(
        group_size=8,
        trace_decay=0.9,
        stop_below=0.02,
        stop_after=30,
        stop_exploration=0.2,
        optimizer=simrl.Optimizer("sgd", {"learning_rate": 0.5}),
        critic_optimizer=simrl.Optimizer("sgd", {"learning_rate": 0.3}),
    ),
    max_steps=60,
    log_points=1,
)


def replayed(answers, explores, secret, spec):
    """Tokens decoded at each update of B answers, with a critic kept in dictionaries."""
    values, visits, tokens = {}, {}, []
    for batch, free in zip(answers, explores, strict=True):
        errors, counts = {}, []
        for answer, unstopped in zip(map(tuple, batch.tolist()), free, strict=True):
            prefixes = [answer[:t] for t in range(3)]
            low = [
                t
                for t in (1, 2)
                if values.get(prefixes[t], 0) < spec.stop_below
                and visits.get(prefixes[t], 0) >= spec.stop_after
            ]
            end = 3 if unstopped else min([*low, 3])
            rewards = [0, 0, float(answer == secret and end == 3)]
            known = [values.get(prefix, 0) for prefix in prefixes]
            for t, error in enumerate(returns_of(rewards, known, spec.trace_decay, end)[:end]):
                errors.setdefault(prefixes[t], []).append(error)
            counts.append(end)
        for prefix, found in errors.items():
            rate = spec.critic_optimizer.numbers["learning_rate"]
            values[prefix] = values.get(prefix, 0) + rate * np.mean(found)
            visits[prefix] = visits.get(prefix, 0) + len(found)
        tokens.append(sum(counts))
    return np.array(tokens), values


def test_what_is_charged_is_what_was_decoded():
    spec, seed = specs.resolved(STOPPING), 5
    trial = specs.build(specs.parts(spec))
    data = simrl.run(STOPPING, 8)
    own = jax.jit(keys.streams)(jax.random.key(spec.base_seed), np.uint32(seed))
    task = trial.environment.init(own.task)

    @jax.jit
    def trained():
        def update(state, step):
            now = keys.at_step(own, step)
            after, info = trial.learner.step(now, state, task)
            return after, (info, keys.uniform(keys.words(now.label, (8,))))

        return jax.lax.scan(update, trial.learner.init(own), jnp.arange(60))

    state, (info, luck) = jax.device_get(trained())
    explores = luck < spec.learner.stop_exploration
    secret = tuple(np.asarray(task.answers)[0].tolist())
    answers = info.answers[:, 0]
    tokens, values = replayed(answers, explores, secret, spec.learner)
    np.testing.assert_array_equal(info.num_tokens[:, 0], tokens)
    assert tokens.min() < 8 * 3 == tokens.max()
    lines = flops.ledger_lines(3, 1, "policy_gradient", critic_params=1)
    assert lines == trial.learner.ledger
    assert lines["critic"] == 6
    np.testing.assert_array_equal(info.flops[:, 0, 1], (8 * 3 + 6) * tokens)
    assert set(info.num_samples.ravel().tolist()) == {8}
    for prefix, value in values.items():
        np.testing.assert_allclose(
            state.advantage.values[0, tree_place(prefix)], value, rtol=1e-3, atol=1e-6
        )
    cell = data.isel(cell=0, seed=seed)
    assert int(cell["total_tokens"]) == int(cell["phase_tokens"].sum()) == tokens.sum()
    assert int(cell["total_flops"]) == 30 * tokens.sum()
    found = {name: int(cell[f"total_flops_{name}"]) for name in ("decode", "training", "critic")}
    assert found == {name: lines[name] * tokens.sum() for name in found}
    assert observe.information_form(trial) is observe.joint_channel(trial) is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"features": "suffix"}, "features must be one of prompt, position, prefix"),
        ({"trace_decay": 1.5}, "trace_decay must be between 0 and 1, not 1.5"),
        ({"features": "position", "stop_below": 0.1}, "stop_below needs the features prefix"),
        ({"stop_below": 0.1, "stop_after": 0.0}, "stop_after must be at least 1 guess"),
        ({"stop_below": 0.1, "stop_exploration": 1.0}, "stop_exploration must be a share below 1"),
        ({"stop_below": "low"}, "stop_below must be a number"),
        ({"critic_optimizer": "sgdd"}, "critic_optimizer: optimizer must name an optax optimiser"),
    ],
)
def test_what_cannot_be_run_is_refused(changes, line):
    learner = {"name": "actor_critic", **changes}
    with pytest.raises(simrl.SpecError, match=line):
        simrl.run(simrl.Spec(learner=learner), 1)


def test_a_tree_that_is_too_large_is_refused():
    learner = {"name": "actor_critic", "features": "prefix"}
    with pytest.raises(simrl.SpecError, match="features prefix has 19173961 values"):
        simrl.run(simrl.Spec(simrl.Sequence(8, 9), learner), 1)
