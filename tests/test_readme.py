"""The README's code runs as printed and is as short as it promises."""

import re
from pathlib import Path

import matplotlib
import pytest

import simrl
from simrl.engine import observe
from simrl.sweeps import spec as specs

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
SWEEP, OWN, MEASURES = BLOCKS


def lines(block: str) -> int:
    return sum(bool(line.strip()) for line in block.splitlines())


# Loops that run longer than they compile.
pytestmark = pytest.mark.usefixtures("optimised")


def test_the_examples_are_short():
    assert lines(SWEEP) <= 12
    assert lines(OWN) <= 25


def test_sweep_plots_eight_rates(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    exec(SWEEP, space)
    space["plt"].close("all")
    assert space["data"].sizes["learning_rate"] == 8
    assert space["data"].sizes["seed"] == 1024
    assert (tmp_path / "rates.pdf").stat().st_size > 0
    # The claim of the figure: every rate learns from the uniform start, 8^-3.
    final = space["data"]["pass_rate"].isel(log_point=-1).mean("seed")
    assert float(space["data"]["pass_rate"].isel(log_point=0).max()) == pytest.approx(8.0**-3)
    assert (final > 0.5).all()


def test_own_environment_and_advantage_learn():
    space: dict = {}
    exec(OWN, space)
    data = space["data"]
    assert data.sizes["seed"] == 256
    assert data["trace_covariance"].attrs["exact"] == 0
    rate = data["pass_rate"].isel(cell=0)
    assert float(rate.isel(log_point=-1).mean()) > 10 * float(rate.isel(log_point=0).mean())


def test_measures_stand_alone():
    space: dict = {}
    exec(MEASURES.replace("flops.count", "counted = flops.count"), space)
    assert space["counted"] == 2 * 8 * 16 * 4 == 1024


def test_the_functions_behind_the_numbers_exist():
    table = README.split("## What each number means")[1].split("\n\n")[2]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()[2:]]
    assert len(rows) > 20
    named = [name for row in rows for name in re.findall(r"`([a-z_.]+)`", row[-1])]
    assert len(named) > 25
    room = None
    for name in named:
        if name.startswith("simrl."):
            assert hasattr(simrl, name.removeprefix("simrl."))
            continue
        module, _, function = name.rpartition(".")
        room = getattr(simrl.measures, module) if module else room
        assert callable(getattr(room, function)), name


def test_the_registered_names_are_told():
    told = README.split("Things that come with simrl")[1].split("## What")[0]
    families = {**specs.ENVIRONMENTS, **specs.POLICIES, **specs.LEARNERS, **observe.ASKED}
    for name in (*families, *specs.ADVANTAGES):
        parts = (name, name.removesuffix("_leave_one_out"), name.removesuffix("_sample"))
        assert any(f"`{part.removesuffix('_centred')}`" in told for part in parts), name
