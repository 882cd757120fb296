"""The public names that need JAX and nothing heavier, imported at the first use of one of them.

All at once: a record checks its fields by the names in the registry.
"""

from simrl.environments.bandit import Bandit
from simrl.environments.sequence import Sequence
from simrl.errors import SpecError
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
    "load",
    "own",
]
