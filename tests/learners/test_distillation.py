"""On-policy distillation and smoothed labels, against float64 NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl import keys
from simrl.learners import supervised, updates
from simrl.sweeps import identity
from simrl.sweeps import spec as specs
from tests.contracts.test_moments import assert_within, redraw
from tests.contracts.worlds import begun, build, some_logits, streams

WORLD = simrl.Sequence(3, 2, "token", "zipf", num_prompts=2)
FIXED = simrl.Sequence(3, 2, "token", "fixed", num_prompts=2)
EPSILON = 0.3
SEED = 1  # draws both prompts


def softmax(logits):
    logits = np.float64(logits)
    powers = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def forward(probs, law):
    return law - probs


def reverse(probs, law):
    excess = np.log(probs) - np.log(law)
    return -probs * (excess - (probs * excess).sum(axis=-1, keepdims=True))


BY_HAND = {"forward": forward, "reverse": reverse}


def setting(world, spec, seed=1):
    """Trial, task, a state away from the start, and the laws [M, L, V] of labels."""
    trial = build(world, spec)
    task, state = begun(trial)
    state = state._replace(params=jnp.asarray(some_logits(state.params.shape, seed=seed)))
    laws = jax.jit(jax.vmap(trial.environment.target, (None, 0)))(task, np.arange(2))
    return trial, task, state, np.float64(laws)


@pytest.mark.parametrize(
    ("divergence", "world"), [("forward", FIXED), ("forward", WORLD), ("reverse", WORLD)]
)
def test_distillation_is_the_mean_over_prompts_drawn(divergence, world):
    spec = simrl.Distillation(divergence, group_size=2, num_groups=3)
    trial, task, state, laws = setting(world, spec)
    probs = softmax(state.params)
    climb = BY_HAND[divergence](probs, laws)
    after, info = jax.device_get(jax.jit(trial.learner.step)(streams(SEED), state, task))
    wanted = np.zeros_like(climb)
    np.add.at(wanted, info.prompts, climb[info.prompts] / 3)
    np.testing.assert_allclose(after.params - np.asarray(state.params), wanted, atol=1e-6)
    assert set(info.prompts.tolist()) == {0, 1}

    # The student's own guesses, from the words of its stream, told of by the teacher.
    @jax.jit
    def guesses(now, params, prompts):
        words = updates.group_words(now.sample, 3, 2, 2)
        sample = jax.vmap(jax.vmap(trial.policy.sample, (0, None, None)), (0, None, 0))
        return sample(words, params, prompts)

    np.testing.assert_array_equal(info.answers, guesses(streams(SEED), state.params, info.prompts))
    right = info.answers == np.asarray(task.answers)[info.prompts][:, None]
    np.testing.assert_array_equal(info.success, right.all(axis=-1))
    # 2N decoding, 2N teacher, 6N training for each of its tokens, each a sample.
    assert info.num_samples.tolist() == info.num_tokens.tolist() == [4, 4, 4]
    np.testing.assert_array_equal(info.flops, [[0, (2 + 2 + 6) * 3 * 4]] * 3)
    lines = {name: rate for name, rate in trial.learner.ledger.items() if rate}
    assert lines == {"decode": 6, "training": 18, "reference": 6}
    # Only the prompts are luck: (1 - 1/M) of the mean square norm over G groups.
    norms = (climb**2).sum((1, 2))
    trace, norm = jax.device_get(jax.jit(trial.learner.moments)(state, task))
    np.testing.assert_allclose(trace, norms.mean() / 2 / 3, rtol=1e-5)
    np.testing.assert_allclose(norm, norms.mean() / 2, rtol=1e-5)


def test_the_divergence_falls_and_the_teacher_is_its_fixed_point():
    for name in BY_HAND:
        spec = simrl.Distillation(name, 1, optimizer=simrl.Optimizer("sgd", {"learning_rate": 1.0}))
        world = dataclasses.replace(WORLD, num_prompts=1)
        trial = build(world, spec)
        task, start = begun(trial)

        @jax.jit
        def run(state, trial=trial, task=task):
            def update(i, state):
                return trial.learner.step(streams(0, i), state, task)[0]

            return jax.lax.fori_loop(0, 400, update, state)

        end = softmax(run(start).params)[0]
        np.testing.assert_allclose(end, trial.environment.target(task, 0), atol=1e-5)


def test_a_student_that_reads_its_prefix_is_taught_along_its_own_answers():
    """The second symbol's law given the first: rows are moved by how often they were visited."""
    world = dataclasses.replace(WORLD, num_prompts=1)
    environment = world.build()
    table = simrl.Tabular().build(environment.shape)

    def log_probs(params, prompt, answer):
        return jax.nn.log_softmax(jnp.stack([jnp.zeros(3), params[answer[0]]]))

    def sample(words, params, prompt):
        first = keys.choose(words[0], keys.cumulative(jnp.full(3, 1 / 3)))
        return jnp.stack(
            [first, keys.choose(words[1], keys.cumulative(jax.nn.softmax(params[first])))]
        )

    student = table._replace(
        init=lambda key: jnp.asarray(some_logits((3, 3), seed=2)),
        sample=sample, log_probs=log_probs, tabular=False, inverts=False,
    )  # fmt: skip
    learner = simrl.Distillation("reverse", group_size=16).build(environment, student)
    assert learner.moments is None
    task, state = jax.jit(environment.init)(streams(0).task), learner.init(streams(0))
    after, info = jax.device_get(jax.jit(learner.step)(streams(0), state, task))
    share = np.bincount(info.answers[0, :, 0], minlength=3)[:, None] / 16
    law = np.float64(environment.target(task, 0))[1]
    wanted = share * reverse(softmax(state.params), law)
    np.testing.assert_allclose(after.params - np.asarray(state.params), wanted, atol=1e-6)


def test_what_distillation_refuses():
    for divergence, world, measures, line in (
        ("reverse", FIXED, (), "rules nothing out: noisy labels"),
        ("forward", WORLD, ("known_channel",), "known_channel is about labels"),
        ("sideways", FIXED, (), "forward, reverse, not 'sideways'"),
    ):
        spec = simrl.Spec(world, simrl.Distillation(divergence), measures=measures)
        with pytest.raises(simrl.SpecError, match=line) as error:
            simrl.Sweep(spec).cells()
        assert "\n" not in str(error.value)


def test_distillation_runs_and_tells_what_labels_tell():
    spec = simrl.Spec(
        FIXED, simrl.Distillation(group_size=3), max_steps=4, log_points=1, observe_every=1
    )
    data = simrl.run(spec, 2).isel(cell=0)
    told = data["phase_realised_update"].sum("phase").values
    # From the uniform start the first update tells 2 log2 3 bits of its prompt, later ones less.
    first = 2 * np.log2(3)
    assert np.all((told > first) & (told < 4 * first))
    assert data["squared_norm"].attrs["exact"] == 1
    assert data["total_flops_reference"].values.tolist() == [4 * 6 * 2 * 3] * 2
    assert data["total_samples"].values.tolist() == [4 * 6] * 2


def test_smoothed_labels_by_hand():
    spec = simrl.Supervised(batch_size=2, num_groups=3, smoothing=EPSILON)
    trial, task, state, laws = setting(WORLD, spec)
    after, info = jax.device_get(jax.jit(trial.learner.step)(streams(0), state, task))
    probs, wanted = softmax(state.params), np.zeros(state.params.shape)
    for prompt, labels in zip(info.prompts, info.answers, strict=True):
        for label in labels:
            target = (1 - EPSILON) * np.eye(3)[label] + EPSILON / 3
            wanted[prompt] += (target - probs[prompt]) / 6
    np.testing.assert_allclose(after.params - np.asarray(state.params), wanted, atol=1e-6)
    trace, norm = jax.device_get(jax.jit(trial.learner.moments)(state, task))
    means = (((1 - EPSILON) * laws + EPSILON / 3 - probs) ** 2).sum((1, 2))
    noise = (1 - EPSILON) ** 2 * (1 - (laws**2).sum(-1)).sum(-1) / 2
    np.testing.assert_allclose(trace, (noise.mean() + means.mean() / 2) / 3, rtol=1e-5)
    np.testing.assert_allclose(norm, means.mean() / 2, rtol=1e-5)
    assert_within(redraw(trial.learner, state, task), trace, norm)


def test_without_smoothing_nothing_is_different(monkeypatch):
    plain, none = (simrl.Supervised(batch_size=2, smoothing=s) for s in (None, 0.0))
    monkeypatch.setattr(supervised, "_even_score", None)  # it is not asked
    trial, task, state, _ = setting(WORLD, plain)
    jax.eval_shape(trial.learner.step, streams(0), state, task)
    with pytest.raises(TypeError):
        jax.eval_shape(build(WORLD, none).learner.step, streams(0), state, task)
    for bad, line in ((1.0, "less than 1"), (-0.1, "at least 0"), ("x", "must be a number")):
        spec = {"name": "supervised", "smoothing": bad}
        with pytest.raises(simrl.SpecError, match=line):
            simrl.Sweep(simrl.Spec(learner=spec)).cells()
    assert "smoothing" not in identity.describe(plain)  # stored cells keep their names
    ready = specs.resolve("learner", {"name": "supervised", "smoothing": 0.1})
    assert len(jax.tree.leaves(ready)) == len(jax.tree.leaves(plain)) + 1
