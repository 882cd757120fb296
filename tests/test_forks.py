"""A process that was forked after JAX was used is refused, in one line."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import multiprocessing
import jax
import simrl

def refusal(sweep):
    try:
        simrl.run(sweep)
    except simrl.SpecError as error:
        return str(error)

def forked(context):
    with multiprocessing.get_context(context).Pool(1) as pool:
        return pool.map(refusal, [None])[0]

if __name__ == "__main__":
    print(forked("fork"))
    jax.devices()
    print(refusal(None), forked("fork"), forked("spawn"), refusal(None), sep="\\n")
"""


def test_a_run_in_a_forked_process_is_refused_if_jax_was_used(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    words = [sys.executable, "-W", "ignore::RuntimeWarning", script]
    lines = subprocess.check_output(words, env=environment, text=True).splitlines()
    allowed = "sweep must be a Sweep or a Spec, got None"
    assert lines[:2] + lines[3:] == [allowed] * 4
    assert lines[2].startswith("simrl.run cannot be called in a process that was forked after JAX")
    assert "multiprocessing.get_context('spawn')" in lines[2]
