"""Dynamic sampling against a replay in NumPy, its law and its bill."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simrl
from simrl.engine import observe, train
from simrl.learners import rollouts
from simrl.sweeps import spec as specs
from tests.contracts.worlds import begun, build, some_logits, streams
from tests.oracles import enumeration

SIZE, GROUPS, MOST, NUM = 2, 2, 5, 4000
RATE = simrl.Optimizer()  # of 1: a change of the params is a gradient
ADVANTAGE = specs.ADVANTAGES["leave_one_out"]


def made(num_prompts=2):
    world = simrl.Sequence(2, 2, "exact", num_prompts=num_prompts)
    trial = build(world, simrl.FilteredPolicyGradient(ADVANTAGE, SIZE, GROUPS, MOST, RATE))
    task, state = begun(trial, jax.random.key(2))
    return trial, task, state._replace(params=jnp.asarray(some_logits(state.params.shape)))


@pytest.fixture(scope="module")
def many():
    """What many updates from one state of one prompt drew, told and made of it."""
    trial, task, state = made(1)

    def one(seed):
        new, info = trial.learner.step(streams(seed), state, task)
        return new.params - state.params, info, trial.learner.estimate(streams(seed), state, task)

    return trial, task, state, jax.device_get(jax.jit(jax.vmap(one))(np.arange(NUM)))


def laws_of(state):
    powers = np.exp(np.asarray(state.params, np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_a_step_is_its_replay():
    """Group by group, as it would be written down."""
    trial, task, state = made()
    probs, before = laws_of(state), np.asarray(state.params)
    draw = jax.jit(
        lambda keys: rollouts.draw(
            keys, trial.environment, trial.policy, state.params, task, (MOST, SIZE)
        )
    )
    step = jax.jit(trial.learner.step)
    seen = set()
    for seed in range(12):
        drawn = jax.tree.map(np.asarray, draw(streams(seed)))
        live, asked, mean = 0, [], np.zeros(probs.shape)
        for prompt, answers, credit in zip(drawn.prompt, drawn.answers, drawn.credit, strict=True):
            if live == GROUPS:
                break
            rewards = credit[:, 0]
            asked.append((prompt, rewards[0] != rewards[1]))
            if rewards[0] == rewards[1]:
                continue
            live += 1
            for i in range(SIZE):
                weight = rewards[i] - rewards[1 - i]
                mean[prompt] += weight * enumeration.score(probs[prompt], answers[i]) / SIZE
        new, info = jax.device_get(step(streams(seed), state, task))
        np.testing.assert_allclose(new.params - before, mean / max(live, 1), atol=1e-5)
        unasked = MOST - len(asked)
        want = [prompt for prompt, _ in asked] + [-1] * unasked
        np.testing.assert_array_equal(info.prompts, want)
        np.testing.assert_array_equal(info.num_samples, [SIZE] * len(asked) + [0] * unasked)
        np.testing.assert_array_equal(info.num_tokens, [2 * SIZE] * len(asked) + [0] * unasked)
        tokens, params = 2 * SIZE, trial.policy.num_active_params
        bill = [(8 if alive else 2) * params * tokens for _, alive in asked] + [0] * unasked
        np.testing.assert_array_equal(info.flops[:, 1], bill)
        np.testing.assert_array_equal(
            info.dead, [SIZE * (not alive) for _, alive in asked] + [0] * unasked
        )
        seen.add((len(asked), live))
    assert len(seen) > 2


def test_dead_groups_follow_their_law(many):
    _, task, state, (_, info, _) = many
    right = enumeration.probability(laws_of(state)[0], np.asarray(task.answers)[0])
    law = right**SIZE + (1 - right) ** SIZE
    first = info.dead[:, 0] > 0
    assert abs(first.mean() - law) < 4 * np.sqrt(law * (1 - law) / NUM)


def test_the_mean_is_that_of_live_groups(many):
    _, task, state, (change, _, estimate) = many
    samples = enumeration.sequence_samples(laws_of(state)[0], np.asarray(task.answers)[0], "exact")
    chance, index = enumeration.batches(samples, SIZE)
    credit = samples.credit[index][..., 0]
    live = credit[:, 0] != credit[:, 1]
    values = enumeration.gradient(samples, index, "leave_one_out")
    of_live = np.einsum("n,nlv->lv", chance * live, values) / chance[live].sum()
    want = (1 - chance[~live].sum() ** MOST) * of_live
    got = np.asarray(estimate, np.float64)[:, 0]
    error = got.std(axis=0) / np.sqrt(NUM)
    assert np.all(np.abs(got.mean(axis=0) - want) < 4 * error)
    np.testing.assert_allclose(change, estimate, rtol=1e-5, atol=1e-6)


def test_what_is_not_drawn_is_not_charged(many):
    trial, task, state, (_, info, _) = many
    few = np.argmin(info.prompts[:, -1])  # -1: the last was not drawn
    one = jax.tree.map(lambda leaf: leaf[few], info)

    @jax.jit
    def told_of(state, task, info):
        known = observe.truth(trial, task)
        spent = train.spend(jnp.zeros((1, len(train.COUNTERS), 2), jnp.uint32), info, 50)
        return spent, observe.of_update(trial, observe.beliefs(trial, state), known, info)

    spent, told = jax.device_get(told_of(state, task, one))
    drawn = int((one.prompts >= 0).sum())
    assert drawn < MOST
    found = dict(zip(train.COUNTERS, spent[0, :, 1], strict=True))
    assert found["trajectories"] == found["samples"] == SIZE * drawn
    assert found["tokens"] == 2 * SIZE * drawn
    assert found["flops_counted"] == 10 * drawn
    assert told["success"][0] == one.success[:drawn].sum()


def test_a_run_has_a_line_of_what_was_discarded():
    spec = simrl.Spec(
        simrl.Sequence(2, 2, "exact"),
        simrl.FilteredPolicyGradient("leave_one_out", SIZE, 1, 3),
        max_steps=4,
        log_points=1,
    )
    data = simrl.run(simrl.Sweep(spec), seeds=2, out=None)
    whole, lines = data["total_flops"], ("decode", "training", "discarded")
    np.testing.assert_array_equal(whole, sum(data[f"total_flops_{line}"] for line in lines))
    tokens = 2 * data["total_dead"] * 2  # of 2 positions, 2 parameters and 2 FLOPs each
    np.testing.assert_array_equal(data["total_flops_discarded"], 2 * tokens)
    assert (data["total_dead"] > 0).any()


@pytest.mark.parametrize("engine", ["plain", "fused"])
def test_samples_and_updates_are_what_was_drawn_and_done(engine):
    """Looked at after every update, so that what happened in each can be read off.

    Of updates that differ in samples, and of others in the same sweep.
    """
    spec = simrl.Spec(
        simrl.Bandit("one_right", 4),
        max_steps=12,
        log_points=12,
        log_spacing="linear",
        observe_every=5,
        stop_pass_rate=0.99,
        engine=engine,
    )
    learners = {
        "filtered": simrl.FilteredPolicyGradient("leave_one_out", SIZE, 1, 4, RATE),
        "plain": simrl.PolicyGradient("leave_one_out", SIZE, optimizer=RATE),
    }
    whole = simrl.run(simrl.Sweep(spec, {"learner": learners}), seeds=16)
    tables = simrl.phase_table(whole), simrl.curve_table(whole, "pass_rate")
    for name in learners:
        data, (phases, curve) = whole.sel(learner=name), (t[t["learner"] == name] for t in tables)
        samples, made = (
            data["samples"].values.astype(int),
            np.diff(data["steps_done"].values, axis=1),
        )
        drawn = np.diff(samples, axis=1)
        np.testing.assert_array_equal(samples[:, -1], data["total_samples"])
        expected = {SIZE, 2 * SIZE, 3 * SIZE, 4 * SIZE} if name == "filtered" else {SIZE}
        assert set(drawn[made > 0]) == expected
        assert not drawn[made == 0].any()
        for seed, h in np.argwhere(data["hit_step"].values > 0):
            at = int(data["hit_step"].values[seed, h])
            assert samples[seed, at] == data["hit_samples"].values[seed, h]
        ends, odds = data["phase_high"].values[:-1], data["log_odds"].values[:, :-1]
        place = np.searchsorted(ends, odds, "right")[..., None]
        done = np.where(place == np.arange(len(ends) + 1), made[..., None], 0).sum(axis=1)
        np.testing.assert_allclose(data["phase_updates"], done, rtol=1e-6)
        absorbed = phases[phases["quantity"] == "absorbed_per_update"].set_index("phase")["mean"]
        with np.errstate(invalid="ignore"):
            told = data["phase_absorbed"].values.sum(axis=0) / done.sum(axis=0)
        np.testing.assert_allclose(absorbed, told, rtol=1e-6)
        assert np.isfinite(told).sum() > 2
        np.testing.assert_allclose(curve["samples"], samples.mean(axis=0))
        np.testing.assert_array_equal(data["flops"][:, -1], data["total_flops"])
        np.testing.assert_allclose(curve["flops"], data["flops"].values.mean(axis=0))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"max_groups": 1, "num_groups": 2}, "max_groups at least num_groups"),
        ({"group_size": 1}, "group_size must be at least 2"),
    ],
)
def test_what_does_not_fit_is_refused(changes, line):
    spec = simrl.Spec(learner={"name": "filtered_policy_gradient", **changes})
    with pytest.raises(simrl.SpecError, match=line):
        specs.validate(specs.resolved(spec))
    jumps = simrl.Spec(learner="filtered_policy_gradient", engine="jump")
    with pytest.raises(simrl.SpecError, match="only policy gradient"):
        specs.validate(specs.resolved(jumps))


def test_both_bills_treat_groups_without_signal_alike():
    """All trained on: 8N a token. Or such groups are decoded alone: 2N. Whoever the learner is."""
    world, size = simrl.Sequence(4, 2), 4
    num_params = 4
    learners = {"policy_gradient": False, "filtered_policy_gradient": True, "prefix_replay": False}
    for name, discards in learners.items():
        spec = simrl.Spec(world, {"name": name, "group_size": size}, max_steps=40, log_points=1)
        data = simrl.run(spec, 16).isel(cell=0)
        for place in ("total", "hit"):  # at the end, and at each threshold that was reached
            answers, dead = (np.float64(data[f"{place}_{k}"]) for k in ("trajectories", "dead"))
            assert (dead > 0).any()
            assert (answers - dead > 0).any()
            full = 8 * num_params * 2 * answers
            live = full - 6 * num_params * 2 * dead
            np.testing.assert_array_equal(data[f"{place}_flops_full"], full)
            np.testing.assert_array_equal(data[f"{place}_flops_live"], live)
            np.testing.assert_array_equal(data[f"{place}_flops"], live if discards else full)
        table = simrl.hitting_table(data.expand_dims("cell"))
        assert {"flops_full_mean", "flops_live_mean"} <= set(table)
