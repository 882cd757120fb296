"""What is wrong with a specification: one line for each problem, none if it can be run."""

from typing import Any

import numpy as np

from simrl.engine import asked, clock
from simrl.learners import curricula, exact, jumping, lumping, oracles, updates
from simrl.learners.policy_gradient import PolicyGradient
from simrl.policies.dependence import MAX_ENUMERATED
from simrl.policies.tabular import Tabular
from simrl.types import Environment, Learner, TeacherForced

MOST_PATHS = 4096
_PATHS: dict[int, tuple[Any, str]] = {}  # by the identity of specs, which are kept with them


def match_problems(spec: Any) -> list[str]:
    """What does not fit together."""
    if spec.phases.coordinate == "excess_loss" and not spec.environment.build().noisy:
        return ["phases.coordinate excess_loss needs an environment with noisy labels"]
    advantage: Any = getattr(spec.learner, "advantage", None)
    if getattr(advantage, "binary_only", False) and not spec.environment.build().binary:
        return [f"advantage {advantage.rule} needs rewards that are 0 or 1"]
    unfit = fit_problems(spec, spec.environment.build())
    if unfit:
        return unfit
    oracle = getattr(advantage, "oracle", False)
    if oracle and not (isinstance(spec.learner, PolicyGradient) and _has_statistics(spec)):
        told = "policy_gradient, a tabular policy and a closed law of rewards"
        return [f"advantage {advantage.rule} needs {told}"]
    found = (
        oracle_problems(spec)
        or surrogate_problems(spec)
        or prompt_problems(spec, spec.environment.build())
    )
    if found:
        return found
    if spec.engine == "jump":
        problem = jump_problem(spec, spec.environment.build())
        return [] if problem is None else [f"engine jump is not exact here: {problem}"]
    return length_problems(spec)


def _has_statistics(spec: Any) -> bool:
    """Whether the score statistics of a guess have a closed form."""
    environment = spec.environment.build()
    tabular = spec.policy.build(environment.shape).tabular
    return tabular and exact.statistics(environment, lambda *given: None) is not None


def fit_problems(spec: Any, environment: Environment) -> list[str]:
    """Why a learner cannot be run here, or what is asked for is not defined."""
    policy = spec.policy.build(environment.shape)
    obstacle = getattr(spec.learner, "obstacle", None)
    reason = None if obstacle is None else obstacle(environment, policy)
    if reason is not None:
        return [f"learner: {reason}"]
    if policy.pretrain is not None and environment.right is not None:
        return ["policy: the start pretrained needs one right answer"]
    if isinstance(policy, TeacherForced):
        unknown = teacher_forced_problems(spec, environment)
        if unknown:
            return unknown
    if not spec.measures:
        return []
    learner = spec.learner.build(environment, policy)
    found = asked.problems(environment, policy, learner, spec.measures)
    # Labels that are not noisy are known to be right; but some worlds have no channel at all.
    channel = environment.label_channel if environment.noisy else environment.channel
    if "known_channel" in spec.measures and channel is None and learner.kind != "supervised":
        found.append("measures known_channel needs labels or rewards that tell of a right answer")
    return found


def teacher_forced_problems(spec: Any, environment: Environment) -> list[str]:
    """What needs the distribution over all answers of a policy that only tells that of one."""
    wanted = {
        "keep_beliefs": spec.keep_beliefs,
        "phases.coordinate excess_loss": spec.phases.coordinate == "excess_loss",
        "several right answers": environment.right is not None,
        "measure regret of noisy labels": environment.noisy and "regret" in spec.measures,
    }
    most = f"vocab_size^length must be at most {MAX_ENUMERATED} to enumerate its answers"
    reason = f"its positions depend on each other, and {most}, got {environment.shape}"
    return [
        f"{name} cannot be combined with this policy: {reason}"
        for name, asked in wanted.items()
        if asked
    ]


def oracle_problems(spec: Any) -> list[str]:
    """Why the natural gradient's baseline is not known here."""
    learner, environment = spec.learner, spec.environment.build()
    advantage = oracles.serving(
        getattr(learner, "advantage", None), getattr(learner, "surrogate", None)
    )
    natural = getattr(advantage, "rule", None) == oracles.NATURAL
    if not natural or environment.shape.length == 1 or environment.channel == "token":
        return []
    return [
        f"{learner.advantage.rule} cannot be combined with natural here: the baseline of answers "
        "of several symbols is known for reward token alone; score_minimum_variance is the score's"
    ]


def surrogate_problems(spec: Any) -> list[str]:
    """Why the surrogate does not do for the policy."""
    if not hasattr(spec.learner, "surrogate"):
        return []
    built = spec.learner.surrogate.build()
    if built.tabular and not spec.policy.build(spec.environment.build().shape).tabular:
        return ["surrogate natural needs a policy that is a table of logits"]
    if built.whole and getattr(spec.learner, "stop_below", None) is not None:
        return ["ratio answer needs whole answers, of which stop_below cuts some short"]
    return []


def prompt_problems(spec: Any, environment: Environment) -> list[str]:
    """What does not go with prompts that rule out symbols, or that are not drawn uniformly."""
    graded, learner = environment.allowed is not None, spec.learner
    policy = spec.policy.build(environment.shape)
    if graded and not policy.tabular:
        return ["revealed and vocab_sizes need a policy that is a table of logits"]
    if graded and getattr(learner, "smoothing", None) is not None:
        return ["smoothing teaches symbols that revealed and vocab_sizes rule out"]
    name = getattr(getattr(learner, "optimizer", None), "name", "sgd")
    if graded and name not in updates.KEEPING:
        return [f"revealed and vocab_sizes need one of {', '.join(updates.KEEPING)}, not {name}"]
    natural = hasattr(learner, "surrogate") and learner.surrogate.build().tabular
    if natural and graded:
        return ["surrogate natural needs prompts that rule out no symbols"]
    course = getattr(learner, "curriculum", curricula.Uniform())
    obstacle = course.obstacle(environment, policy)
    if obstacle is not None:
        return [obstacle]
    if natural and (environment.prompt_law is not None or isinstance(course, curricula.Band)):
        return ["surrogate natural needs prompts that are drawn uniformly"]
    return []


def length_problems(spec: Any) -> list[str]:
    """Too many updates for a loop that makes each of them."""
    if spec.max_steps <= clock.NUM_EACH or path(spec).startswith("jump"):
        return []
    problem = jump_problem(spec, spec.environment.build())
    way = (
        "engine jump takes more" if problem is None else f"engine jump is not exact here: {problem}"
    )
    return [
        f"max_steps must be in 1 ... {clock.NUM_EACH} where engine {spec.engine} makes every "
        f"update, not {spec.max_steps} ({way})"
    ]


def total_problems(spec: Any, learner: Learner, counted: int) -> list[str]:
    """Totals that could pass 2^64, for a learner of which `counted` FLOPs an update were counted.

    A user's own learner is charged what it says; it is taken to be no more than that.
    """
    tokens = learner.batch_size * spec.environment.build().shape.length
    billed = tokens * max(sum((learner.ledger or {}).values()), 1)
    charge = max(billed, counted)
    if charge * spec.max_steps < 2**64:
        return []
    return [
        f"max_steps must be at most {(2**64 - 1) // charge}, not {spec.max_steps}: an update is "
        f"charged {charge} FLOPs, and a run's must stay below 2^64 to be exact"
    ]


def jump_problem(spec: Any, environment: Environment) -> str | None:
    """Why the loop cannot jump over updates that change nothing; None if it can."""
    if not isinstance(spec.learner, PolicyGradient):
        return "only policy gradient does"
    return jumping.obstacle(environment, spec.policy.build(environment.shape), spec.learner)


def path(spec: Any) -> str:
    """How the loop goes: "plain", "fused", "jump", or "jump, lumped": answers alike as one.

    "auto" jumps where it can and where at the start fewer than one update in 64 changes anything.
    Asked many times in a run, of the same few specs, each time a learner would be built.
    """
    known = _PATHS.get(id(spec))
    if known is None or known[0] is not spec:
        if len(_PATHS) >= MOST_PATHS:
            _PATHS.clear()
        known = _PATHS[id(spec)] = spec, _path(spec)
    return known[1]


def _path(spec: Any) -> str:
    if spec.engine == "plain":
        return "plain"
    environment = spec.environment.build()
    _, length, vocab_size = environment.shape
    guesses = 64 * getattr(spec.learner, "group_size", np.inf)
    trained = getattr(spec.policy, "start", "") == "pretrained"
    chance = spec.policy.pass_rate if trained else 1 / vocab_size**length
    if environment.verifier is not None:
        chance += environment.verifier.false_positive
    rare = guesses * chance < 1
    jumps = spec.engine == "auto" and rare and jump_problem(spec, environment) is None
    if jumps or spec.engine == "jump":
        return "jump, lumped" if _entries(spec, environment) else "jump"
    learner = spec.learner.build(environment, spec.policy.build(environment.shape))
    return "plain" if learner.fused is None else "fused"


def lump_sizes(spec: Any) -> tuple[int, ...]:
    """Numbers of entries to carry the answers of a valid spec by, in turn; () without lumps."""
    lumped = path(spec) == "jump, lumped"
    return _entries(spec, spec.environment.build()) if lumped else ()


def _entries(spec: Any, environment: Environment) -> tuple[int, ...]:
    """The sizes for a spec that jumps; () where lumps are no gain.

    They need a uniform start, one token, and verdicts that are always true. What is asked for
    besides looks at every answer.
    """
    uniform = isinstance(spec.policy, Tabular) and spec.policy.start == "uniform"
    whole = environment.verifier is None and environment.shape.length == 1
    if not uniform or not whole or spec.measures:
        return ()
    _, failure = spec.learner.advantage.tables(spec.learner.group_size)
    return lumping.sizes(environment.shape.vocab_size, np.asarray(failure))
