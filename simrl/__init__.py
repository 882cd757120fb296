"""simrl measures how efficiently learners learn: bits, gradient noise and FLOPs, phase by phase.

    import simrl

    sweep = simrl.Sweep(simrl.Spec(environment="sequence", learner="policy_gradient"))
    data = simrl.run(sweep, seeds=1024)

The heavy rooms (xarray, scipy.stats, matplotlib) are opened at their first use.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from simrl import keys, measures
from simrl.environments.bandit import Bandit
from simrl.environments.sequence import Sequence
from simrl.errors import SpecError, meant
from simrl.learners.actor_critic import ActorCritic
from simrl.learners.advantages import Affine, Constant, RunningMean
from simrl.learners.bayesian import Bayesian
from simrl.learners.curricula import Band
from simrl.learners.distillation import Distillation
from simrl.learners.exact_gradient import ExactGradient
from simrl.learners.filtering import FilteredPolicyGradient
from simrl.learners.grouped import Grouped
from simrl.learners.oracles import Oracle
from simrl.learners.penalised import Penalised
from simrl.learners.policy_gradient import PolicyGradient
from simrl.learners.ppo import PPO
from simrl.learners.replay import PrefixReplay
from simrl.learners.self_play import SelfPlay
from simrl.learners.supervised import Supervised
from simrl.learners.thompson import Thompson
from simrl.learners.ucb import UCB1
from simrl.learners.updates import Optimizer
from simrl.policies.autoregressive import Autoregressive
from simrl.policies.tabular import Tabular
from simrl.sweeps.config import load
from simrl.sweeps.grid import Sweep
from simrl.sweeps.owned import own
from simrl.sweeps.spec import Phases, Spec
from simrl.types import (
    Advantage,
    Curriculum,
    Environment,
    Info,
    Learner,
    Outcome,
    Policy,
    Prior,
    Rollout,
    Shape,
    Surrogate,
    Verifier,
)

if TYPE_CHECKING:
    from simrl import plots
    from simrl.sweeps.export import export, long_table, score_arrays
    from simrl.sweeps.progress import Progress, ProgressBar
    from simrl.sweeps.run import open_results as open
    from simrl.sweeps.run import run, use_cpu_cores
    from simrl.sweeps.statistics import interval, pooled_ratio
    from simrl.sweeps.table import (
        curve_table,
        each_cell,
        hitting_table,
        last_values,
        left_out,
        phase_table,
    )

__version__ = "0.1.0"

_LAZY = {
    "run": ("simrl.sweeps.run", "run"),
    "open": ("simrl.sweeps.run", "open_results"),
    "use_cpu_cores": ("simrl.sweeps.run", "use_cpu_cores"),
    "Progress": ("simrl.sweeps.progress", "Progress"),
    "ProgressBar": ("simrl.sweeps.progress", "ProgressBar"),
    "phase_table": ("simrl.sweeps.table", "phase_table"),
    "pooled_ratio": ("simrl.sweeps.statistics", "pooled_ratio"),
    "hitting_table": ("simrl.sweeps.table", "hitting_table"),
    "curve_table": ("simrl.sweeps.table", "curve_table"),
    "each_cell": ("simrl.sweeps.table", "each_cell"),
    "last_values": ("simrl.sweeps.table", "last_values"),
    "left_out": ("simrl.sweeps.table", "left_out"),
    "interval": ("simrl.sweeps.statistics", "interval"),
    "export": ("simrl.sweeps.export", "export"),
    "long_table": ("simrl.sweeps.export", "long_table"),
    "score_arrays": ("simrl.sweeps.export", "score_arrays"),
    "plots": ("simrl.plots", None),
}

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
    "plots",
    "pooled_ratio",
    "run",
    "score_arrays",
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
    if name in _SPELLINGS:
        return globals()[_SPELLINGS[name]]
    if name not in _LAZY:
        hint = f"; write {_POINTERS[name]}" if name in _POINTERS else meant(name, __all__)
        line = f"module 'simrl' has no attribute {name!r}{hint}"
        raise AttributeError(line, name=name, obj=sys.modules[__name__])
    module, attribute = _LAZY[name]
    found = importlib.import_module(module)
    return found if attribute is None else getattr(found, attribute)


def __dir__() -> list[str]:
    """The public names: what is imported here on the way is not for users."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
