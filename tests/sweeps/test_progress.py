"""What a run says of itself while it runs."""

import io
import signal
import subprocess
import sys
import threading

import pytest

import simrl
from simrl.engine import batch, pool
from simrl.sweeps import pools, progress
from simrl.sweeps.progress import COMPILING, RUNNING, Estimate, Progress, describe

STATE = Progress(0, 2, {}, 0, 300, 0, RUNNING, 1, 7, 0, 4096)


def test_time_left_does_not_count_what_was_spent_compiling():
    estimate = Estimate()
    for now, stage, done in [
        (10.0, COMPILING, 0),
        (100.0, RUNNING, 0),  # 90 s were spent compiling
        (120.0, COMPILING, 100),
        (200.0, RUNNING, 100),  # 80 s more
        (230.0, RUNNING, 200),
    ]:
        state = STATE._replace(stage=stage, seeds_done=done)
        estimate.update(state, now)
    assert estimate.left(state) == 25.0  # 100 seeds, at 200 in 50 s
    assert estimate.left(state._replace(stage=COMPILING)) is None
    assert estimate.left(state._replace(seeds_done=0)) is None


def test_each_stage_is_named():
    assert describe(None, None) == "preparing"
    assert describe(STATE._replace(stage=COMPILING), None) == "compiling 2 of 7"
    assert describe(STATE, None) == "0 of 300 seed-runs"
    assert describe(STATE._replace(step=512), None) == "0 of 300 seed-runs, update 512 of 4,096"
    assert describe(STATE._replace(seeds_done=100), 600.0).endswith("about 10 min left")
    assert describe(STATE._replace(seeds_total=0), None) == "every block is stored already"


def test_lines_come_at_once_and_while_nothing_is_reported(monkeypatch):
    second = threading.Event()

    class Pipe(io.StringIO):
        def write(self, text):
            if self.getvalue():
                second.set()
            return super().write(text)

    monkeypatch.setattr(progress, "SILENCE", 0.0)
    monkeypatch.setattr(progress, "REFRESH", 0.01)
    pipe = Pipe()
    with simrl.ProgressBar("rates", pipe) as bar:
        assert pipe.getvalue().startswith("rates: preparing [0:00]\n")
        assert second.wait(60)
        bar(STATE._replace(stage=COMPILING))
        assert "rates: compiling 2 of 7 [" in pipe.getvalue()


class Listening(simrl.ProgressBar):
    def __init__(self):
        super().__init__("test", io.StringIO())
        self.states = []

    def __call__(self, state):
        self.states.append(state)
        super().__call__(state)


def test_a_bar_hears_of_programs_and_of_pools_under_way(small, monkeypatch):
    """Two kinds of programs, of which the second takes longer."""
    monkeypatch.setattr(pools, "_PREPARED", set())
    reported = [threading.Event(), threading.Event()]  # compiling, with so many programs done
    calls = iter(reported)
    prepare = pool.prepare

    def slow(setup, *rest):
        assert next(calls).wait(60)
        return prepare(setup, *rest)

    class Waiting(Listening):
        def __call__(self, state):
            super().__call__(state)
            if state.programs_done < 2 and state.stage == COMPILING:
                reported[state.programs_done].set()

    monkeypatch.setattr(pool, "prepare", slow)
    bar = Waiting()
    sweep = simrl.Sweep(small, {"keep_beliefs": [False, True]})
    simrl.run(sweep, 4, progress=bar)
    assert {state.programs_total for state in bar.states[1:]} == {2}
    stages = [(s.stage, s.programs_done, s.seeds_done) for s in bar.states]
    assert (COMPILING, 0, 0) in stages
    assert (COMPILING, 1, 4) in stages  # what is ready is run meanwhile
    assert stages[-1] == (RUNNING, 2, 8)
    assert [s.step for s in bar.states if s.step][-1] == small.max_steps
    assert "compiling 1 of 2" in bar._file.getvalue()


def test_true_shows_progress_and_false_none(small, capsys):
    simrl.run(small, 4, progress=True)
    assert "4 of 4 seed-runs" in capsys.readouterr().err
    simrl.run(small, 4, progress=False)
    assert capsys.readouterr().err == ""


def test_a_function_is_called_once_a_block_whatever_compiles(small, monkeypatch):
    monkeypatch.setattr(pools, "_PREPARED", set())
    states = []
    simrl.run(simrl.Sweep(small, {"base_seed": [0, 1]}), 4, progress=states.append)
    assert [state.seeds_done for state in states] == [4, 8]
    assert states[0][:3] == (0, 2, {"base_seed": 0})


ENDLESS = """
import signal
import jax
import jax.numpy as jnp
from simrl.engine import batch

# A job in the background inherits that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
run = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, lambda i, x: jnp.sin(x) * 1.0001, x))
array = run(jnp.ones(1000), 2**31 - 1)  # an hour


class Watched:
    def is_ready(self):
        print("waiting", flush=True)
        self.is_ready = array.is_ready
        return False


batch.wait_for(Watched())
"""


def test_a_process_leaves_what_it_computes_after_an_interrupt():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", ENDLESS], **pipes) as process:
        try:
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_waiting_ends_when_the_array_is_there():
    class Array:
        turns = 3

        def is_ready(self):
            self.turns -= 1
            return self.turns == 0

    array = Array()
    batch.wait_for(array)
    assert array.turns == 0


@pytest.mark.parametrize("seconds", [(5, "5 s"), (600, "10 min"), (7200, "2.0 h")])
def test_times_have_one_unit(seconds):
    assert progress.span(seconds[0]) == seconds[1]
