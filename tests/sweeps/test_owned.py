"""Components of a user's own that break their contract are refused in one line."""

import jax
import jax.numpy as jnp
import pytest

import simrl
from simrl import keys
from simrl.learners import updates
from simrl.policies import dependence
from simrl.sweeps import contracts, trials
from simrl.sweeps import spec as specs
from tests.contracts.worlds import build

SHAPE = simrl.Shape(num_prompts=2, length=3, vocab_size=4)


def law(params, prompt):
    return jax.nn.log_softmax(params[prompt])


def own_policy(shape=SHAPE, **changes):
    """A table of logits that does not say what it is, with some functions changed."""

    def sample(words, params, prompt):
        probs = jnp.exp(law(params, prompt))
        return jax.vmap(keys.choose)(words, jax.vmap(keys.cumulative)(probs))

    functions = {
        "init": lambda key: jnp.zeros(shape),
        "sample": sample,
        "log_prob": lambda params, prompt, answer: law(params, prompt)[
            jnp.arange(shape.length), answer
        ],
        "log_probs": lambda params, prompt, answer: law(params, prompt),
    }
    return simrl.Policy(**{**functions, **changes}, num_active_params=4)


def problems_of(policy, shape=SHAPE):
    return contracts.policy_problems(policy, shape) or trials.policy_problems(policy, shape)


def assert_named(problems, *words):
    """One line of at most 300 characters."""
    assert len(problems) == 1
    assert len(problems[0]) <= 300
    assert "\n" not in problems[0]
    for word in words:
        assert word in problems[0]


class Layer:
    """What Equinox makes of a layer: a pytree whose leaves are its fields."""

    def __init__(self, weight, activation):
        self.weight, self.activation = weight, activation


def _with_names(layer):
    name = jax.tree_util.GetAttrKey
    return ((name("weight"), layer.weight), (name("activation"), layer.activation)), None


jax.tree_util.register_pytree_with_keys(Layer, _with_names, lambda _, leaves: Layer(*leaves))

POLICIES = {
    "probabilities": (
        {"log_prob": lambda params, prompt, answer: jnp.full(3, 0.25)},
        ["policy.log_prob: must equal log_probs", "got 0.25", "-1.386"],
    ),
    "raw logits": (
        {"log_probs": lambda params, prompt, answer: params[prompt]},
        ["policy.log_probs: must be normalised", "got a logsumexp of 1.386"],
    ),
    "a row": (
        {"log_probs": lambda params, prompt, answer: jnp.zeros(4)},
        ["policy.log_probs", "(3, 4)", "got float32 of shape (4,)"],
    ),
    "summed": (
        {"log_prob": lambda params, prompt, answer: jnp.sum(law(params, prompt)[0])},
        ["policy.log_prob", "(3,), one for each position", "got float32 of shape ()"],
    ),
    "a key": (
        {
            "sample": lambda words, params, prompt: jax.random.categorical(
                words, law(params, prompt)
            )
        },
        ["policy.sample fails: TypeError", "test_owned.py", "random words", "simrl.keys.choose"],
    ),
    "floats": (
        {"sample": lambda words, params, prompt: jnp.zeros(3)},
        ["policy.sample: must return integers", "got float32"],
    ),
    "no symbol": (
        {"sample": lambda words, params, prompt: jnp.full(3, 4)},
        ["policy.sample", "0 ... 3", "got 4"],
    ),
    "greedy": (
        {"sample": lambda words, params, prompt: jnp.argmax(law(params, prompt), axis=-1)},
        ["policy.sample: must follow log_probs", "1024 of 1024"],
    ),
    "without a key": ({"init": lambda: 3}, ["policy.init: must take init(key), got init()"]),
    "a function": (
        {"init": lambda key: {"block": Layer(jnp.zeros(SHAPE), jax.nn.relu)}},
        ["policy.init: must return arrays", "a function at ['block'].activation", "eqx.partition"],
    ),
    "integers": (
        {"init": lambda key: {"table": jnp.zeros(SHAPE), "count": jnp.int32(0)}},
        ["policy.init: must return floats", "int32 at ['count']"],
    ),
    "nan": (
        {"log_probs": lambda params, prompt, answer: jnp.full((3, 4), jnp.nan)},
        ["policy.log_probs", "got nan"],
    ),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_of_ones_own_keeps_its_contract(name):
    changes, words = POLICIES[name]
    assert_named(problems_of(own_policy(**changes)), *words)


def test_one_position_is_checked_as_well():
    one = simrl.Shape(1, 1, 8)
    for changes in (
        {"log_probs": lambda params, prompt, answer: jnp.zeros(3)},
        {"log_prob": lambda params, prompt, answer: law(params, prompt)[0, answer[0]]},
    ):
        assert_named(problems_of(own_policy(one, **changes), one), *changes)


def test_a_position_may_only_read_those_before_it():
    def logits(params, prompt, answer, shift):
        shifted = jnp.roll(answer, shift).at[:shift].set(0)
        return jax.nn.log_softmax(params[prompt] + jax.nn.one_hot(shifted, 4), axis=-1)

    def sample(words, params, prompt):
        answer = jnp.zeros(3, jnp.int32)
        for t in range(3):
            probs = jnp.exp(logits(params, prompt, answer, 1)[t])
            answer = answer.at[t].set(keys.choose(words[t], keys.cumulative(probs)))
        return answer

    def shifted_by(shift):
        def log_probs(params, prompt, answer):
            return logits(params, prompt, answer, shift)

        def log_prob(params, prompt, answer):
            return log_probs(params, prompt, answer)[jnp.arange(3), answer]

        return own_policy(sample=sample, log_prob=log_prob, log_probs=log_probs)

    assert problems_of(shifted_by(1)) == []
    assert_named(problems_of(shifted_by(0)), "policy.log_probs: row t", "shift the answer")


def test_policies_that_keep_their_contract_are_not_refused():
    assert problems_of(own_policy()) == []
    never = own_policy(init=lambda key: jnp.zeros(SHAPE).at[..., 3].set(-jnp.inf))
    assert problems_of(never) == []  # a symbol that is ruled out


WORLD = simrl.Sequence(4, 2, num_prompts=2)


def paid(credit=0.0, success=0.0):
    return lambda words, task, prompt, answer: simrl.Outcome(credit, success)


WORLDS = {
    "success": ({"reward": paid(0.0, 5.0)}, ["success must be 0 or 1, got 5"]),
    "never": ({"reward": paid()}, ["success must be 1 for the likeliest symbols", "got 0"]),
    "nan": ({"reward": paid(jnp.nan, 1.0)}, ["credit must be finite, got nan"]),
    "binary": ({"reward": paid(0.5, 1.0)}, ["environment.binary", "got 0.5"]),
    "target": (
        {"target": lambda task, prompt: jnp.full((2, 4), 0.5)},
        ["environment.target: must sum to 1", "got 2"],
    ),
    "negative": (
        {"target": lambda task, prompt: jnp.tile(jnp.array([1.5, -0.5, 0, 0]), (2, 1))},
        ["environment.target: must lie in 0 ...", "got 1.5"],
    ),
    "float label": (
        {"label": lambda words, task, prompt: jnp.zeros(2)},
        ["environment.label: must return integers", "got float32"],
    ),
    "no label": (
        {"label": lambda words, task, prompt: jnp.array([0, 4])},
        ["environment.label: must lie in 0 ... 3, got 4"],
    ),
    "prompt": (
        {"prompt": lambda word, task: jnp.int32(7)},
        ["environment.prompt: must lie in 0 ... 1, got 7"],
    ),
    "a scalar": (
        {"reward": lambda words, task, prompt, answer: jnp.float32(1)},
        ["environment.reward: must return simrl.Outcome", "got float32 of shape ()"],
    ),
    "three arguments": (
        {"reward": lambda words, prompt, answer: paid()},
        ["environment.reward: must take reward(words, task, prompt, answer)", "got reward(words,"],
    ),
    "channel": ({"channel": "binary"}, ["environment.channel: must be None or one of", "'binary'"]),
}


@pytest.mark.parametrize("name", WORLDS)
def test_an_environment_of_ones_own_keeps_its_contract(name):
    changes, words = WORLDS[name]
    world = WORLD.build()._replace(**changes)
    problems = contracts.environment_problems(world) or trials.environment_problems(world)
    assert_named(problems, *words)


@pytest.mark.parametrize("world", [WORLD, simrl.Sequence(4, 2, labels="zipf")])
def test_environments_that_keep_their_contract_are_not_refused(world):
    built = world.build()
    assert contracts.environment_problems(built) + trials.environment_problems(built) == []


def test_equal_rewards_leave_numbers():
    def scaled(by):
        def weights(state, rollout):
            centred = rollout.credit - jnp.mean(rollout.credit, axis=0)
            return state, centred / (jnp.std(rollout.credit, axis=0) + by)

        return simrl.Advantage(tuple, weights)

    assert trials.advantage_problems(scaled(1e-6), 4, 2) == []
    assert_named(trials.advantage_problems(scaled(0.0), 4, 2), "must be finite", "equal", "nan")


class Net:
    """A module that is called with its input."""

    def __call__(self, x):
        return x


MAKERS = {
    "a network": ({"policy": Net()}, ["policy: must be a simrl.Policy", "Net object", "returned"]),
    "one level": (
        {"learner": simrl.PolicyGradient(lambda rewards: rewards - rewards.mean())},
        ["advantage: must be", "function (batch_size, length) -> simrl.Advantage", "(rewards)"],
    ),
    "too many": (
        {"environment": lambda num_arms: 3},
        ["environment: must be", "function () -> simrl.Environment", "(num_arms)"],
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_makes_a_component_is_told_what_it_is_given(name):
    fields, words = MAKERS[name]
    with pytest.raises(simrl.SpecError) as caught:
        simrl.Sweep(simrl.Spec(**fields)).cells()
    assert_named([str(caught.value)], *words)


def own_learner(**changes):
    """Supervised learning as a user may write it."""

    def make(environment, policy):
        built = specs.resolve("learner", simrl.Supervised()).build(environment, policy)
        belief = updates.belief(policy._replace(listed=None), environment.shape.length)
        plain = built._replace(belief=belief, listed=False, fused=None, moments=None)
        return plain._replace(**{name: change(plain) for name, change in changes.items()})

    return make


def stepped(change):
    def make(learner):
        return lambda keys, state, task: change(*learner.step(keys, state, task))

    return make


LEARNERS = {
    "state": (
        {"step": stepped(lambda state, info: (state.params, info))},
        ["learner.step", "a state of the form that init makes"],
    ),
    "no pair": ({"step": stepped(lambda state, info: state)}, ["learner.step", "simrl.Info"]),
    "answers": (
        {"step": stepped(lambda state, info: (state, info._replace(answers=info.answers[0])))},
        ["Info.answers", "got int32 of shape (1, 2)"],
    ),
    "belief": (
        {"belief": lambda learner: lambda state, prompt: state.params[prompt, 0]},
        ["learner.belief", "(2, 4)", "got float32 of shape (4,)"],
    ),
    "arguments": ({"step": lambda learner: lambda state, task: 3}, ["step(keys, state, task)"]),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_of_ones_own_keeps_its_contract(name):
    changes, words = LEARNERS[name]
    trial = build(WORLD, specs.resolve("learner", own_learner(**changes)))
    assert_named(contracts.learner_problems(trial.learner, *trial[:2]), *words)


def test_a_learner_of_ones_own_is_told_that_positions_depend():
    trial = build(WORLD, specs.resolve("learner", own_learner()))
    assert contracts.learner_problems(trial.learner, *trial[:2]) == []
    trial = build(WORLD, specs.resolve("learner", own_learner()), simrl.Autoregressive())
    problems = contracts.learner_problems(trial.learner, *trial[:2])
    assert_named(problems, "learner.listed: must be True", "policy.listed")


def test_a_learner_of_ones_own_is_given_the_answer_to_go_on_from(monkeypatch):
    monkeypatch.setattr(dependence, "MAX_ENUMERATED", 3)
    tree = simrl.Autoregressive().build(simrl.Shape(2, 2, 4))
    policy = specs.resolve("policy", lambda shape: simrl.Policy(*tree[:4], num_active_params=4))
    trial = build(WORLD, specs.resolve("learner", own_learner()), policy)
    assert contracts.learner_problems(trial.learner, *trial[:2]) == []
    blind = trial.learner._replace(belief=lambda state, prompt: jnp.zeros((2, 4)))
    problems = contracts.learner_problems(blind, *trial[:2])
    assert_named(problems, "learner.belief: must take belief(state, prompt, answer)")


def test_run_refuses_what_breaks_its_contract():
    policy = own_policy(simrl.Shape(2, 2, 4), log_probs=POLICIES["raw logits"][0]["log_probs"])
    with pytest.raises(simrl.SpecError, match="must be normalised"):
        simrl.run(simrl.Spec(WORLD, policy=policy, max_steps=2), 2)
    world = WORLD.build()._replace(reward=paid(0.0, 5.0))
    with pytest.raises(simrl.SpecError, match="0 or 1, got 5"):
        simrl.run(simrl.Spec(world, max_steps=2), 2)


def test_a_script_is_no_module_to_name():
    with pytest.raises(simrl.SpecError, match=r"simrl.own: must name a module .*'__main__:env'"):
        simrl.own("__main__:env", "1")


def matching(wrong=0.0, lucky=False, right=1.0):
    """A secret that is drawn, and paid as the arguments say; it names no channel."""

    def reward(words, task, prompt, answer):
        hit = jnp.all(answer == task)
        credit = jnp.where(hit, right, wrong)
        luck = simrl.keys.uniform(words[0]) < 2.0  # always, but read from the words
        return simrl.Outcome(credit * luck if lucky else credit, 1.0 * hit)

    return simrl.Environment(
        init=lambda key: simrl.keys.below(simrl.keys.words(key, (2,)), 3).astype(jnp.int32),
        prompt=lambda word, task: jnp.int32(0),
        label=lambda words, task, prompt: task,
        reward=reward,
        target=lambda task, prompt: jax.nn.one_hot(task, 3),
        shape=simrl.Shape(num_prompts=1, length=2, vocab_size=3),
    )


CHANNELS = {
    "exact": (matching(), "exact"),
    "half": (matching(right=0.5), None),
    "penalty": (matching(wrong=-1.0), None),
    "luck": (matching(lucky=True), None),
    "many": (matching()._replace(shape=simrl.Shape(1, 2, 65)), None),
    "named": (matching()._replace(channel="token"), "token"),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_an_exact_match_needs_no_channel(name):
    world, channel = CHANNELS[name]
    built = specs.resolve("environment", lambda: world).build()
    assert (built.channel, built.binary) == (channel, name == "exact")
