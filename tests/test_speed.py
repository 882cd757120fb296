"""The parts of `experiments.speed` that measure nothing: counts, floors, verdicts, tables."""

import sys
from collections import Counter
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.special

import simrl
from experiments import (
    command,
    speed,
    speed_costs,
    speed_figure,
    speed_peaks,
    speed_roofline,
    speed_table,
    speed_trace,
    speed_workers,
    speed_workloads,
)
from experiments.peers import problems

RATES = {"threefry blocks": 2e9, "normals": 1e9, "exponentials": 4e9}
RATES |= {"comparisons": 5e10, "multiply-adds": 1e11, "bytes": 2e10}


class Counted:
    """Arithmetic that counts itself."""

    def __init__(self):
        self.num = Counter()

    def exp(self, x):
        self.num["exponentials"] += 1
        return np.exp(x)

    def multiply_add(self, a, b, c):
        self.num["multiply-adds"] += 1
        return a * b + c

    def where(self, condition, then, otherwise):
        self.num["comparisons"] += 1
        return then if condition else otherwise

    def edges(self, logits):
        """Running sums of exp(logits - largest), and these powers."""
        largest = logits[0]
        for logit in logits[1:]:
            largest = self.where(logit > largest, logit, largest)
        powers = [self.exp(self.multiply_add(1, logit, -largest)) for logit in logits]
        sums = [0.0]
        for power in powers:
            sums.append(self.multiply_add(1, power, sums[-1]))
        return sums[1:], powers


def dense_push(logits, arm, weight):
    probs = np.exp(logits) / np.exp(logits).sum()
    return weight * (np.eye(len(logits))[arm] - probs)


def test_a_pull_needs_what_is_counted():
    rng = np.random.default_rng(3)
    problem = problems.TenArmed(num_arms=7)
    logits, means = rng.standard_normal((2, 7))
    uniform, noise, rate, earlier, count = 0.61, 0.4, 0.3, 0.2, 5
    do = Counted()
    edges, powers = do.edges(logits)
    below = do.multiply_add(uniform, edges[-1], 0)
    arm = sum(do.where(below >= edge, 1, 0) for edge in edges[:-1])
    mean = sum(do.where(k == arm, means[k], 0) for k in range(7))
    reward = do.multiply_add(1, mean, noise)
    baseline = do.multiply_add(1, reward, -earlier)
    after = do.multiply_add(baseline, 1 / (count + 1), earlier)
    push = do.multiply_add(rate, baseline, 0)
    share = do.multiply_add(push, 1 / edges[-1], 0)
    moved = [do.multiply_add(-share, powers[k], logits[k]) for k in range(7)]
    moved = [do.where(k == arm, moved[k] + push, moved[k]) for k in range(7)]
    expected = np.searchsorted(np.cumsum(np.exp(logits)) / np.exp(logits).sum(), uniform)
    assert arm == expected
    dense = logits + dense_push(logits, arm, rate * (means[arm] + noise - earlier))
    np.testing.assert_allclose(moved, dense)
    assert after == pytest.approx((5 * earlier + means[arm] + noise) / 6)
    claimed = {work.kind: work.number for work in speed_roofline.ten_armed(problem)}
    assert dict(do.num) == {kind: claimed[kind] for kind in do.num}
    assert set(claimed) - set(do.num) == {"threefry blocks", "normals", "bytes"}


def test_a_token_needs_what_is_counted():
    rng = np.random.default_rng(4)
    problem = problems.Guessing(vocab_size=5, length=1, batch=16)
    logits, uniforms, secret = rng.standard_normal(5), rng.random(16), 3
    do = Counted()
    edges, _ = do.edges(logits)
    cdf = [do.multiply_add(edge, 1 / edges[-1], 0) for edge in edges]
    above = [16] + [sum(do.where(u >= edge, 1, 0) for u in uniforms) for edge in cdf[:-1]]
    counts = [do.multiply_add(-1, b, a) for a, b in zip(above, [*above[1:], 0], strict=True)]
    hits = counts[secret] / 16
    scale = problem.rate / 16
    shifted = [do.multiply_add(-scale * hits, counts[v], logits[v]) for v in range(5)]
    moved = [do.multiply_add(scale * counts[v], v == secret, shifted[v]) for v in range(5)]
    probs = np.exp(logits) / np.exp(logits).sum()
    answers = np.searchsorted(np.cumsum(probs), uniforms)
    rewards = (answers == secret) - np.mean(answers == secret)
    pushes = [dense_push(logits, a, r) for a, r in zip(answers, rewards, strict=True)]
    np.testing.assert_allclose(moved, logits + scale * np.sum(pushes, axis=0))
    claimed = {work.kind: 16 * work.number for work in speed_roofline.guessing(problem)}
    assert dict(do.num) == {kind: claimed[kind] for kind in do.num}
    assert claimed["bytes"] == pytest.approx(16 * 5 * 2 * 4 / 16 / problem.steps)


def test_floors_add_what_is_counted():
    work = speed_roofline.ten_armed(problems.TenArmed())
    floor = speed_roofline.floor(work, RATES)
    by_hand = 1 / 2e9 + 1 / 1e9 + 10 / 4e9 + 38 / 5e10 + 36 / 1e11
    assert floor == pytest.approx((by_hand, 136 / 100 / 2e10))
    table = speed_roofline.work_table({"W1": problems.TenArmed(), "W3": None}, RATES)
    arithmetic = table[table["kind"] != "bytes"]["ns"].sum()
    assert arithmetic == pytest.approx(1e9 * by_hand)


@pytest.mark.parametrize(
    ("shares", "limit"),
    [
        ((0.1, 0.8, 0.1, 0.1), "launches"),
        ((0.1, 0.2, 0.1, 0.1), "host, idle cores"),
        ((0.1, np.nan, 0.1, 0.1), "host, idle cores"),
        ((np.nan, 0.0, 0.6, 0.2), "not traced"),
        ((0.9, np.nan, 0.6, 0.2), "arithmetic"),
        ((0.9, 0.1, 0.1, 0.7), "memory"),
        ((0.6, 0.1, 0.35, 0.1), "arithmetic"),  # of the time that it is busy
        ((1.0, 0.0, 0.2, np.nan), "work beyond the count"),
    ],
)
def test_limits(shares, limit):
    assert speed_roofline.limit(*shares) == limit


KERNELS = {
    "exponentials": lambda x: np.exp(-np.exp(-np.exp(-x))),
    "normals": lambda x: 0.5 * scipy.special.erfinv(x) + 0.25,
    "multiply-adds": lambda x: 0.525 * x + 0.475,
    "comparisons": lambda x: np.floor(4 * x + 1) / 4,
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_do_what_they_are_timed_for(name):
    num = {"exponentials": 3, "comparisons": 4}.get(name, 1)
    kernel = speed_peaks.KERNELS[name]
    x = np.array(kernel.make(16))
    turn = jnp.int32(0 if name == "comparisons" else 3)
    after = np.asarray(jax.jit(kernel.turn, static_argnums=2)(x, turn, num))
    np.testing.assert_allclose(after, KERNELS[name](x.astype(np.float64)), rtol=3e-6)


def test_a_block_is_a_word_of_jax():
    x = np.arange(5, dtype=np.uint32)
    after = jax.jit(speed_peaks.blocks, static_argnums=2)(x, jnp.int32(9), 1)
    drawn = jax.random.bits(jax.random.fold_in(jax.random.key(0), 9), (5,))
    np.testing.assert_array_equal(after, x ^ np.asarray(drawn))


def test_busy_time_is_the_union_of_spans():
    rng = np.random.default_rng(0)
    begin = rng.integers(0, 200, 60)
    spans = np.stack([begin, begin + rng.integers(0, 9, 60)], axis=1)
    covered = {tick for a, b in spans for tick in range(a, b)}
    assert speed_trace.union(spans.astype(float)) == len(covered)


def test_a_trace_is_read():
    def line(name, *spans):
        events = [SimpleNamespace(start_ns=a, duration_ns=b - a) for a, b in spans]
        return SimpleNamespace(name=name, events=events)

    streams = [line("Stream #13(Compute)", (0, 4), (2, 6)), line("Stream #14", (5, 9))]
    gpu = SimpleNamespace(name="/device:GPU:0", lines=[*streams, line("XLA Ops", (0, 100))])
    host = SimpleNamespace(name="/host:CPU", lines=[line("Stream #1", (0, 50))])
    assert speed_trace.summary(1.0, [host, gpu]) == pytest.approx((1.0, 9e-9, 3))
    wall, busy, kernels = speed_trace.summary(1.0, [host])
    assert (wall, kernels) == (1.0, 0)
    assert np.isnan(busy)


def looks_of(side):
    return 2 if side == "plain JAX" else 10


def measured(sides, backend="cpu"):
    keys = ("seconds", "cores", "compile_s", "first_s", "late_s", "peak_mb", "above_mb")
    rest = dict.fromkeys([*keys, "device_mb", "load", "last_pass_rate", "extrapolated"], 1.0)
    rows = [
        {
            "workload": workload,
            "side": side,
            "value": value * factor,
            **rest,
            "looks": looks_of(side),
        }
        for (workload, side), value in sides.items()
        for factor in (0.9, 1.0, 3.0)
    ]
    return speed_table.with_shares(
        speed_table.summary(pd.DataFrame(rows).assign(extrapolated=0.0), backend), RATES, backend
    )


TIMES = {("W1", "simrl"): 20.0, ("W1", "plain JAX"): 150.0, ("W1", "NumPy"): 60.0}
TIMES |= {("W2", "simrl"): 4.0, ("W2", "plain JAX"): 480.0}
TIMES |= {("W3 GRPO V=100", "simrl"): 1e-3, ("W3 GRPO V=100", "plain JAX"): 0.03}


def test_ratios_stand_beside_what_was_asked():
    table = measured(TIMES).set_index(["workload", "side"])
    assert table.loc[("W1", "plain JAX"), "over simrl"] == pytest.approx(7.5)
    assert table["verdict"].to_dict() == {
        ("W1", "simrl"): "",
        ("W1", "plain JAX"): "met",
        ("W1", "NumPy"): "below",
        ("W2", "simrl"): "",
        ("W2", "plain JAX"): "goal",
        ("W3 GRPO V=100", "simrl"): "",
        ("W3 GRPO V=100", "plain JAX"): "met",
    }
    assert table.loc[("W2", "plain JAX"), "how"] == "2 of 10 looks"
    floor = 1e9 * speed_roofline.floor(speed_roofline.ten_armed(problems.TenArmed()), RATES)[0]
    assert table.loc[("W1", "NumPy"), "arithmetic"] == pytest.approx(floor / 60)
    assert table.loc["W3 GRPO V=100", "arithmetic"].isna().all()


def test_cpu_sides_have_no_share_of_a_gpu():
    table = measured(TIMES, "gpu").set_index(["workload", "side"])
    assert table.loc[("W1", "NumPy"), "on"] == "cpu"
    assert np.isnan(table.loc[("W1", "NumPy"), "arithmetic"])
    assert table.loc[("W1", "plain JAX"), "memory"] > 0
    assert speed_workers.PLATFORMS[table.loc[("W1", "simrl"), "on"]] == "cuda"


def test_what_was_asked_is_timed():
    for workload, side in speed_table.ASKED:
        assert side in speed_workloads.sides_of(speed_workloads.WORKLOADS[workload])
    for workload, side in speed_workloads.CUT:
        known = speed_workloads.WORKLOADS[workload]
        whole = speed_workloads.problem_for(speed_workloads.SIMRL, known, False)
        assert speed_workloads.problem_for(side, known, False).units() < whole.units()


def test_large_sizes_are_for_an_accelerator(monkeypatch):
    for backend, wanted in (("cpu", False), ("gpu", True)):
        monkeypatch.setattr(sys, "argv", ["speed", "--backend", backend])
        assert (speed_workloads.LARGE in speed.arguments().only) == wanted
    monkeypatch.setattr(sys, "argv", ["speed", "--only", "large"])
    assert speed.arguments().only == ["large"]
    for name in ("W1", "W2"):
        small, large = (speed_workloads.WORKLOADS[n].problem for n in (name, f"{name} large"))
        assert large.units() >= 30 * small.units()
        assert speed_roofline.work_of(f"{name} large", large)


def test_a_call_that_compiles_is_not_timed(monkeypatch):
    """Of each number of looks the first call compiles."""
    asked = []

    def solve(problem, seed):
        asked.append((problem.looks, seed))
        if asked.count(asked[-1]) == 1:
            jax.jit(lambda x: x + 1)(jnp.zeros(problem.looks)).block_until_ready()
        return problems.Curves(np.full((1, 1, problem.looks), 0.5), np.zeros(1))

    peer = SimpleNamespace(ten_armed=solve)
    monkeypatch.setattr(speed_workloads, "peer", lambda side: peer)
    workload = speed_workloads.WORKLOADS["W1"]
    found = speed_workloads.measure("simrl", workload, True, 4)
    assert asked == [(1, 4), (10, 5), (10, 5)]
    assert found["compile_s"] > 0
    assert found["late_s"] == 0


def test_chosen_sides_take_turns(monkeypatch, tmp_path):
    asked = []

    def ask(platform, job, *given):
        asked.append((job, *given[:2]))
        return {"load": 0.0, "per_unit": 1e-9, "extrapolated": 0.0}

    monkeypatch.setattr(speed_workers, "ask", ask)
    chosen = ["--only", "W1", "--rounds", "2", "--sides", "NumPy", "simrl", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["speed", *chosen])
    speed.timed(speed.Bench(speed.arguments(), command.console()))
    assert asked == [("side", "simrl", "W1"), ("side", "NumPy", "W1")] * 2


def test_the_figure_shows_the_measured_floors():
    table = measured(TIMES, "gpu")
    made = speed_figure.figure(table)
    first = made.axes[0]
    floor = speed_roofline.floor(speed_roofline.ten_armed(problems.TenArmed()), RATES)
    assert first.lines[-1].get_xdata() == pytest.approx([1e9 * max(floor)] * 2)
    labels = [tick.get_text() for tick in first.get_yticklabels()]
    assert labels == ["NumPy (CPU)", "plain JAX", "simrl"]


def test_programs_are_told_by_their_stages():
    programs = command.Programs()
    events = [
        ("jaxpr_trace_duration", "step", 0.5),
        ("jaxpr_trace_duration", "chunk", 1.0),
        ("jaxpr_to_mlir_module_duration", "jit(chunk)", 2.0),
        ("something_else", "jit(chunk)", 50.0),
        ("backend_compile_duration", "jit(chunk)", 4.0),
        ("jaxpr_trace_duration", "chunk", 8.0),
        ("backend_compile_duration", "jit(look)", 16.0),
        ("backend_compile_duration", "jit(chunk)", 32.0),
    ]
    for event, name, seconds in events:
        programs.heard(f"/jax/core/compile/{event}", seconds, fun_name=name)
    found = list(zip(programs.names, programs.seconds, strict=True))
    assert found == [("chunk", 7.0), ("look", 16.0), ("chunk", 40.0)]


def test_memory_is_a_difference_over_a_difference():
    def told(per_run, kept, runs):
        return {"peak": 7e8 + per_run * runs, "returned": 1e4 + kept * runs}

    runs = (100, 1000)
    rounds = [(900, 500), (901, 500), (1900, 500)], [(1200, 600), (1300, 700), (1100, 800)]
    peaks = {
        steps: [[told(*per_run, n) for n in runs] for per_run in each]
        for steps, each in zip((10, 90), rounds, strict=True)
    }
    few, many, apart = speed_costs.memory_rows(peaks, runs)
    assert (few.measured, many.measured) == ([400.0, 401.0, 1400.0], [600.0, 600.0, 300.0])
    assert apart.measured == [199.0]
    verdicts = speed_costs.table([few, many, apart])["verdict"].tolist()
    assert verdicts == ["met", "not met", "not met"]


def test_costs_are_judged_by_their_medians():
    told = [{"names": ["start", "chunk"], "seconds": [1.0, s]} for s in (2.0, 9.0, 2.5)]
    most, whole = speed_costs.compile_rows("cell", told)
    found = {"look_s": [3e-7, 1e-7, 4e-7], "share": [0.1, 0.2, 0.12]}
    table = speed_costs.table([most, whole, *speed_costs.look_rows(found)])
    assert table["median"].tolist() == pytest.approx([2.5, 3.5, 0.3, 0.12])
    assert table["verdict"].tolist() == ["met", "", "not met", "met"]
    assert table["note"][0] == "slowest program: chunk"


def test_the_cells_that_are_compiled_are_valid():
    for spec in speed_costs.cells().values():
        assert len(simrl.Sweep(spec).cells()) == 1


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch, capsys):
    refused = SimpleNamespace(returncode=1, stdout="", stderr="no")
    monkeypatch.setattr(speed_workers.subprocess, "run", lambda *_, **__: refused)
    monkeypatch.setattr(sys, "argv", ["speed", "--backend", "gpu"])
    with pytest.raises(SystemExit) as ended:
        command.guarded(speed.main)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: no GPU can be had: JAX sees none here (pip install .[cuda12])"
    ]
