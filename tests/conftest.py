"""Two host devices, and the compiled runs that many tests read."""

import dataclasses
import functools
import gc
import os
from pathlib import Path

import jax
import pytest

import simrl
from simrl.engine import compiling, lanes

EMITTERS = "xla_cpu_use_fusion_emitters"
LEVEL, PIECES = "xla_backend_optimization_level", "xla_cpu_parallel_codegen_split_count"
PASSES = "xla_disable_hlo_passes"
USERS = {name: compiling.CPU_OPTIONS[name] for name in (LEVEL, PASSES)} | {PIECES: 32}
# What only makes a loop quicker that runs long; the first is for cores, of which a worker has one.
NEEDLESS = (
    "cpu-parallel-task-assigner,while-loop-invariant-code-motion,while-loop-constant-sinking,"
    "simplify-while-loops,small-while-loop-hoisting"
)
QUICK: dict[str, bool | int | str] = {
    EMITTERS: False,
    LEVEL: 0,
    PIECES: 1,  # they are for cores too
    PASSES: NEEDLESS,
}
MAPS, MOST_MAPS = Path("/proc/self/maps"), 30_000  # Linux allows a process 65,530
simrl.use_cpu_cores(2)  # before any test touches JAX
_mesh_of = lanes.mesh_of


@functools.wraps(_mesh_of)
def mesh_of(num_devices=None):
    """One device unless a test asks for two: the other core is another worker's.

    A program for two goes through the partitioner, a tenth of what it takes to make one.
    """
    return _mesh_of(1 if num_devices is None else num_devices)


lanes.mesh_of = mesh_of
# What is traced is many small objects that stay: looking for garbage there is a twelfth of all.
gc.freeze()
gc.set_threshold(200_000, 50, 100)
# Where in the source an operation stands is written into every program: a tenth of the work.
jax.config.update("jax_traceback_in_locations_limit", 0)


def pytest_configure(config):
    """Workers have XLA make slower programs in half of the time: most of theirs run once.

    Its older emitters, LLVM without optimisation, all in one piece; of options that this XLA knows:
    an unknown flag would end the process. The loop names a level of its own and is given theirs:
    where it has 4,000 seeds of jumps to bring to their end it still takes less in all. Those few
    tests whose loops run much longer than they compile ask for `optimised`.
    """
    in_charge = not hasattr(config, "workerinput") and config.getoption("numprocesses", None)
    if in_charge:
        known = [
            f"--{name}={str(value).lower()}"
            for name, value in QUICK.items()
            if compiling.is_known(name, value)
        ]
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *known])
    if hasattr(config, "workerinput"):
        for options in (compiling.CPU_OPTIONS, compiling.START_OPTIONS):
            options.update({LEVEL: QUICK[LEVEL], PASSES: f"cse,{NEEDLESS}"})


def _optimise(patch):
    for options in (compiling.CPU_OPTIONS, compiling.START_OPTIONS):
        for name, value in USERS.items():
            patch.setitem(options, name, value)


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Let go of what earlier files compiled before a worker runs out of memory maps.

    A program takes ten and more of them, and where there are none left LLVM ends the process.
    """
    yield
    if MAPS.exists() and MAPS.read_text().count("\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def optimised(monkeypatch):
    """Programs of the loop by the level that it names."""
    _optimise(monkeypatch)


@pytest.fixture(scope="module")
def all_optimised():
    """The same for what tests of a file share."""
    with pytest.MonkeyPatch.context() as patch:
        _optimise(patch)
        yield


@pytest.fixture
def users_programs(optimised, monkeypatch):
    """The programs that users run, for tests of what is said of their last bits."""
    monkeypatch.setitem(compiling.CPU_OPTIONS, EMITTERS, True)


SEEDS = 192
GUESSING = simrl.Spec(
    environment=simrl.Bandit(num_arms=4),
    learner=simrl.PolicyGradient(
        simrl.Affine(),
        group_size=4,
        optimizer=simrl.Optimizer("sgd", {"learning_rate": 0.5, "momentum": 0.0}),
    ),
    max_steps=60,
    log_points=60,
    log_spacing="linear",
    keep_beliefs=True,
)
SEVERAL = dataclasses.replace(
    GUESSING,
    environment=simrl.Sequence(vocab_size=3, length=2, num_prompts=2),
    learner=simrl.PolicyGradient(
        simrl.Affine(1.0, 1.0),
        group_size=4,
        num_groups=3,
        optimizer=simrl.Optimizer("adam", {"learning_rate": 0.1}),
    ),
    max_steps=40,
    log_points=40,
)
LABELLED = dataclasses.replace(
    SEVERAL,
    learner=simrl.Supervised(
        batch_size=2, num_groups=3, optimizer=simrl.Optimizer("sgd", {"learning_rate": 0.3})
    ),
    keep_beliefs=False,
)
SMALL = simrl.Spec(
    environment=simrl.Bandit(num_arms=4), learner=simrl.Supervised(), max_steps=8, log_points=2
)


@pytest.fixture(scope="session")
def guessing():
    """One choice, told right or wrong: the cheapest policy-gradient program."""
    return GUESSING


@pytest.fixture(scope="session")
def several():
    """Two prompts, three groups an update, adam."""
    return SEVERAL


@pytest.fixture(scope="session")
def labelled():
    """The same world, told the labels."""
    return LABELLED


@pytest.fixture(scope="session")
def small():
    """The cheapest program there is."""
    return SMALL


@pytest.fixture(scope="session")
def guessed():
    """Every step of `guessing`, looked at."""
    return simrl.run(GUESSING, SEEDS).isel(cell=0)


@pytest.fixture(scope="session")
def severally():
    """Every step of `several`, looked at."""
    return simrl.run(SEVERAL, SEEDS).isel(cell=0)


@pytest.fixture(scope="session")
def taught():
    """Every step of `labelled`, looked at."""
    return simrl.run(LABELLED, SEEDS).isel(cell=0)
