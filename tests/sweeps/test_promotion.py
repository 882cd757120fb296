"""Strict promotion, as users set it to check their own code, changes nothing."""

import os
import subprocess
import sys

PROGRAM = """
import simrl
simrl.use_cpu_cores(1)
for engine in ("fused", "plain"):
    for learner in ("grpo", "supervised"):
        spec = simrl.Spec(simrl.Sequence(3, 1), learner, max_steps=2, log_points=1, engine=engine)
        simrl.Sweep(spec).describe()
        simrl.plan(spec, 2)
simrl.run(spec, 2)
"""


def test_simrl_runs_under_both_strict_settings():
    strict = {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    result = subprocess.run(command, env=os.environ | strict, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
