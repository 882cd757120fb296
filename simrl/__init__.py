"""simrl measures how efficiently learners learn: bits, gradient noise and FLOPs, phase by phase.

    import simrl

    sweep = simrl.Sweep(simrl.Spec(environment="sequence", learner="policy_gradient"))
    data = simrl.run(sweep, seeds=1024)

`import simrl` is instant: JAX is imported at the first use of a public name, and xarray,
scipy.stats or matplotlib by the names that need them.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from simrl import forks as forks  # it must see every fork

if TYPE_CHECKING:
    from simrl import keys, measures, plots
    from simrl.api import *  # noqa: F403
    from simrl.sweeps.export import export, long_table, score_arrays
    from simrl.sweeps.planning import plan
    from simrl.sweeps.progress import Progress, ProgressBar
    from simrl.sweeps.run import open_results as open
    from simrl.sweeps.run import run, use_cpu_cores
    from simrl.sweeps.statistics import interval, pooled_ratio
    from simrl.sweeps.status import status
    from simrl.sweeps.table import (
        curve_table,
        each_cell,
        hitting_table,
        last_values,
        left_out,
        phase_table,
    )

__version__ = "0.1.0"

_MODULES = ("keys", "measures", "plots")
_HEAVY = {
    "simrl.sweeps.run": ("run", "open", "use_cpu_cores"),
    "simrl.sweeps.planning": ("plan",),
    "simrl.sweeps.status": ("status",),
    "simrl.sweeps.progress": ("Progress", "ProgressBar"),
    "simrl.sweeps.statistics": ("interval", "pooled_ratio"),
    "simrl.sweeps.table": (
        "curve_table",
        "each_cell",
        "hitting_table",
        "last_values",
        "left_out",
        "phase_table",
    ),
    "simrl.sweeps.export": ("export", "long_table", "score_arrays"),
}  # module -> public names; it imports xarray, pandas or scipy.stats. The others are in simrl.api

__all__ = [
    "PPO",
    "UCB1",
    "ActorCritic",
    "Advantage",
    "Affine",
    "Autoregressive",
    "Band",
    "Bandit",
    "Bayesian",
    "Constant",
    "Curriculum",
    "Distillation",
    "Environment",
    "ExactGradient",
    "FilteredPolicyGradient",
    "Grouped",
    "Info",
    "Learner",
    "Optimizer",
    "Oracle",
    "Outcome",
    "Penalised",
    "Phases",
    "Policy",
    "PolicyGradient",
    "PrefixReplay",
    "Prior",
    "Progress",
    "ProgressBar",
    "Rollout",
    "RunningMean",
    "SelfPlay",
    "Sequence",
    "Shape",
    "Spec",
    "SpecError",
    "Supervised",
    "Surrogate",
    "Sweep",
    "Tabular",
    "Thompson",
    "Verifier",
    "curve_table",
    "each_cell",
    "export",
    "hitting_table",
    "interval",
    "keys",
    "last_values",
    "left_out",
    "load",
    "long_table",
    "measures",
    "open",
    "own",
    "phase_table",
    "plan",
    "plots",
    "pooled_ratio",
    "run",
    "score_arrays",
    "status",
    "use_cpu_cores",
]


_SPELLINGS = {"Optimiser": "Optimizer", "Penalized": "Penalised"}
_POINTERS = {
    "A2C": "simrl.ActorCritic()",
    "Adam": 'simrl.Optimizer("adam", learning_rate=0.001)',
    "Config": "simrl.Spec()",
    "DAPO": "simrl.FilteredPolicyGradient(), which draws groups without signal again",
    "DrGRPO": 'simrl.PolicyGradient("dr_grpo")',
    "GRPO": 'simrl.PolicyGradient("grpo")',
    "REINFORCE": 'simrl.PolicyGradient("reinforce")',
    "RLOO": 'simrl.PolicyGradient("rloo")',
    "SFT": "simrl.Supervised()",
    "SGD": 'simrl.Optimizer("sgd", learning_rate=1.0)',
    "train": "simrl.run(sweep, seeds)",
}  # what is tried first -> how it is written


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"simrl.{name}")
    known = _SPELLINGS.get(name, name)
    if known not in __all__:
        from simrl.errors import meant  # noqa: PLC0415

        hint = f"; write {_POINTERS[name]}" if name in _POINTERS else meant(name, __all__)
        line = f"module 'simrl' has no attribute {name!r}{hint}"
        raise AttributeError(line, name=name, obj=sys.modules[__name__])
    module = next((module for module, names in _HEAVY.items() if known in names), "simrl.api")
    attribute = "open_results" if known == "open" else known
    value = globals()[known] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    """The public names: what is imported here on the way is not for users."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
