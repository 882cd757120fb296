"""What is installed: simrl alone; the experiments run from a checkout."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_holds_simrl_alone():
    """A package called experiments would shadow, or be shadowed by, a user's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["simrl"]}
    for file in (ROOT / "simrl").rglob("*.py"):
        assert "import experiments" not in file.read_text("utf-8")
        assert "from experiments" not in file.read_text("utf-8")


def test_experiments_run_from_the_checkout(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = [sys.executable, "-m", "experiments.efficiency_map", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--quick" in shown
