"""Specifications: every name simrl knows, one plain dict per family, and what makes a spec valid.

A spec is a frozen dataclass whose numbers are traced and whose structure is static. A new
environment, policy, learner or advantage is one file plus one line here.
"""

import contextlib
import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import jax
import numpy as np

from simrl import records
from simrl.environments.bandit import Bandit
from simrl.environments.sequence import Sequence
from simrl.errors import LONGEST, MEANT, SpecError, brief, spelling
from simrl.learners import advantages, curricula, grouped, lumping, oracles, surrogates
from simrl.learners.actor_critic import ActorCritic
from simrl.learners.bayesian import Bayesian
from simrl.learners.distillation import Distillation
from simrl.learners.exact_gradient import ExactGradient
from simrl.learners.filtering import FilteredPolicyGradient
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
from simrl.sweeps import aliases, checks, contracts, memory, owned, ranges
from simrl.sweeps.owned import Own
from simrl.types import Trial

ENVIRONMENTS: dict[str, Any] = {"bandit": Bandit, "sequence": Sequence}
POLICIES: dict[str, Any] = {"tabular": Tabular, "autoregressive": Autoregressive}
LEARNERS: dict[str, Any] = {
    "supervised": Supervised,
    "policy_gradient": PolicyGradient,
    "actor_critic": ActorCritic,
    "filtered_policy_gradient": FilteredPolicyGradient,
    "prefix_replay": PrefixReplay,
    "self_play": SelfPlay,
    "exact_gradient": ExactGradient,
    "distillation": Distillation,
    "bayesian": Bayesian,
    "thompson": Thompson,
    "ucb1": UCB1,
}
ADVANTAGES: dict[str, Any] = {**advantages.NAMED, **grouped.NAMED, **oracles.NAMED}
CURRICULA: dict[str, Any] = {**curricula.NAMED}
SURROGATES: dict[str, Any] = {**surrogates.NAMED, "penalised": Penalised(), "ppo": PPO()}
FAMILIES: dict[str, dict[str, Any]] = {
    "environment": ENVIRONMENTS,
    "policy": POLICIES,
    "learner": LEARNERS,
    "advantage": ADVANTAGES,
    "surrogate": SURROGATES,
    "curriculum": CURRICULA,
}
for _named in (ADVANTAGES, SURROGATES, CURRICULA):
    records.show_by_name(_named)
_OF_SPEC = ("environment", "policy", "learner")


@records.readable
@dataclass(frozen=True)
class Phases:
    """Bins of the state before an update, over which measures are summed.

    Attributes:
        coordinate: "log_odds" of the pass rate, nats; or "excess_loss", log2 of KL(labels ||
            belief) in bits, for environments with noisy labels.
        low: lower end of the first bin; states below it have a bin of their own.
        high: upper end of the last bin; so have states above it.
        num: bins between the two, of equal width.
    """

    coordinate: Literal["log_odds", "excess_loss"] = "log_odds"
    low: float = -7.0
    high: float = 5.0
    num: int = 12


@records.readable
@dataclass(frozen=True)
class Spec:
    """One condition: an environment, a learner, a policy, and how long to train and when to look.

    Names, dicts with a `name` (`{"name": "bandit", "num_arms": 3}`) and objects are all taken.

    Attributes:
        environment: "sequence", "bandit", a `Sequence` or `Bandit`, or a `simrl.Environment` or a
            function () -> one.
        learner: "policy_gradient" ("grpo", "rloo", "reinforce", "dr_grpo", "ppo"), "supervised",
            "actor_critic", "filtered_policy_gradient", "prefix_replay", "self_play",
            "exact_gradient", "distillation", "bayesian", "thompson", "ucb1", or one of their
            objects, or a `simrl.Learner` or a function (environment, policy) -> one.
        policy: "tabular", "autoregressive", a `Tabular` or `Autoregressive`, or a `simrl.Policy` or
            a function (shape) -> one.
        max_steps: updates; up to 2^31 - 1, or 2^53 where the engine jumps.
        stop_pass_rate: a seed is frozen once its pass rate is this high.
        log_points: how many times to measure everything, besides the start.
        log_spacing: of these times: "log" or "linear".
        observe_every: 1 measures the state before every update for the averages by phase. k > 1
            measures once in k updates within a phase and takes that for all of them: up to 7 times
            as fast, and biased by up to 40 % where the state moves meanwhile. What is measured of
            updates (learned bits, joint information, samples, FLOPs) is exact with any.
        phases: bins over which measures are summed.
        thresholds: pass rates whose first crossings are recorded.
        keep_beliefs: store the policy's probabilities at every log point.
        num_redraws: samples for what has no closed form: gradients at log points, bits.
        measures: more measures: "bias", "known_channel", "redraws", "cosine", "two_batch",
            "regret", "information_ratio", "duel".
        engine: "fused" executes every update, many seeds at once where the learner can; "plain" is
            its reference, one seed's code; "jump" skips updates without a gradient, with the same
            distribution of results but other random numbers; "auto" is "jump" where it is exact and
            fewer than one update in 64 has a gradient at the start, else "fused".
        base_seed: of the random streams; seed i draws from stream i of it.
    """

    environment: Any = field(default_factory=Sequence)
    learner: Any = field(default_factory=PolicyGradient)
    policy: Any = field(default_factory=Tabular)
    max_steps: int = 1000
    stop_pass_rate: float = 1.0
    log_points: int = 20
    log_spacing: Literal["log", "linear"] = "log"
    observe_every: int = 1
    phases: Phases = field(default_factory=Phases)
    thresholds: tuple[float, ...] = (0.5, 0.9, 0.99)
    keep_beliefs: bool = False
    num_redraws: int = 64
    measures: tuple[str, ...] = ()
    engine: Literal["fused", "plain", "jump", "auto"] = "fused"
    base_seed: int = 0

    def __post_init__(self) -> None:
        """Refuses names that nothing has, before anything is built or run."""
        for family in _OF_SPEC:
            resolve(family, getattr(self, family))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Asked:
    """What a spec asks of the loop, as static structure."""

    measures: tuple[str, ...] = field(default=(), metadata={"static": True})
    path: str = field(default="plain", metadata={"static": True})
    entries: int = field(default=0, metadata={"static": True})  # that carry the answers; 0: all do


def resolve(family: str, value: Any) -> Any:
    """A name, a dict with a `name`, or a thing of the user's own, as a frozen dataclass.

    None is the advantage without a baseline.
    """
    known = FAMILIES[family]
    if value is None and family == "advantage":
        value = "none"
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, dict):
        return _from_dict(family, dict(value), known)
    if isinstance(value, Own):
        return owned.of_family(family, value.thing, value.source, value.version)
    if isinstance(value, tuple(owned.KINDS.values())) or (
        callable(value) and not isinstance(value, type)
    ):
        return owned.of_family(family, value)
    homes = _homes(value)
    other = bool(homes) and family not in homes
    if isinstance(value, type | Optimizer) or not hasattr(value, "build") or other:
        allowed = f"{family} must be one of {', '.join(known)} or a thing of your own"
        if not other:
            raise SpecError(f"{allowed}, not {brief(value)}")
        kind = type(value).__name__
        raise SpecError(f"{allowed}, not {kind}, which is {_place(kind, homes)}")
    return _spelt(value)


def _spelt(record: Any) -> Any:
    """A record whose names out of a fixed set (`reward`, `engine`) are in simrl's spelling."""
    fields = dataclasses.fields(record) if dataclasses.is_dataclass(record) else ()
    changes = {}
    for name, allowed in ((f.name, get_args(f.type)) for f in fields):
        value: Any = getattr(record, name)
        if isinstance(value, str) and value not in allowed and spelling(value) in allowed:
            changes[name] = spelling(value)
    return dataclasses.replace(record, **changes) if changes else record


def _homes(value: Any) -> list[str]:
    """The families that have this kind of thing."""
    kinds = {
        home: [kind if isinstance(kind, type) else type(kind) for kind in known.values()]
        for home, known in FAMILIES.items()
    }
    return [home for home in kinds if type(value) in kinds[home]]


def _place(kind: str, homes: list[str]) -> str:
    """What something is, and where it is passed."""
    home = homes[0]
    article = "an" if home[0] in "ae" else "a"
    keyword = f"{home}=simrl.{kind}(...)"
    where = keyword if home in _OF_SPEC else f"learner=simrl.PolicyGradient({keyword})"
    return f"{article} {home}: pass it as {where}"


def _from_dict(family: str, value: dict[str, Any], known: dict[str, Any]) -> Any:
    name = value.get("name")
    if not isinstance(name, str):
        raise SpecError(f"{family} needs a name: one of {', '.join(known)}; got {brief(value)}")
    if ":" in name:
        return _imported(family, value)
    if name not in known:
        value = aliases.without_alias(family, {**value, "name": spelling(name)})
    entry = value.pop("name")
    if entry not in known:
        hint = aliases.hint(family, entry, known)
        raise SpecError(f"{family} must be one of {', '.join(known)}, not {brief(name)}{hint}")
    base = known[entry]() if isinstance(known[entry], type) else known[entry]
    for key, item in value.items():
        base = put(base, key, item)
    return _spelt(base)


def _imported(family: str, value: dict[str, Any]) -> Any:
    """A thing of the user's own by its "module:attribute"."""
    more = [key for key in value if key not in ("name", "version")]
    if more:
        raise SpecError(f"{value['name']} takes a version alone, not {brief(more)}")
    version = value.get("version", "")
    if not isinstance(version, str | int | float):
        raise SpecError(f"version of {value['name']} must be text, not {brief(version)}")
    return resolve(family, owned.own(value["name"], str(version)))


def put(thing: Any, path: str, value: Any) -> Any:
    """`thing` with the field at a dotted path replaced, e.g. `learner.optimizer.learning_rate`."""
    if not isinstance(path, str):
        kind = type(thing).__name__
        raise SpecError(f"fields of {kind} must be named by text, not {brief(path)}")
    head, _, rest = path.partition(".")
    own_names = {f.name for f in dataclasses.fields(Optimizer)}
    if isinstance(value, list) and isinstance(getattr(thing, head, None), tuple):
        value = tuple(value)
    if isinstance(thing, Optimizer) and head not in own_names and not rest:
        return dataclasses.replace(thing, numbers={**thing.numbers, head: value})
    names = [f.name for f in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else []
    if head not in names:
        paths = records.paths(thing, head) or records.paths(thing, MEANT.get(head, head))
        hint = f"; did you mean {' or '.join(paths)}?" if paths else ""
        raise SpecError(records.no_field_line(type(thing).__name__, head, names, hint))
    if isinstance(value, list) and isinstance(getattr(thing, head), tuple):
        value = tuple(value)
    if rest:
        value = put(getattr(thing, head), rest, value)
    elif head in FAMILIES:
        value = resolve(head, value)
    elif head.endswith("optimizer"):
        value = _optimizer(value)
    elif head == "phases" and not isinstance(value, Phases):
        if not isinstance(value, dict):
            rule = "phases must be simrl.Phases, or its fields by name"
            raise SpecError(f"{rule}, not {brief(value)}")
        value = _fields(Phases(), value)
    return dataclasses.replace(thing, **{head: value})


def _fields(thing: Any, values: dict[str, Any]) -> Any:
    for key, item in values.items():
        thing = put(thing, key, item)
    return thing


def _optimizer(value: Any) -> Optimizer:
    if isinstance(value, dict):
        numbers = {"name": "sgd", "schedule": "", "clip": "", **value}
        name, schedule, clip = (numbers.pop(part) for part in ("name", "schedule", "clip"))
        return Optimizer(name, numbers, schedule, clip).resolved()
    return (value if isinstance(value, Optimizer) else Optimizer(value)).resolved()


records.check_fields({family: functools.partial(resolve, family) for family in FAMILIES})


def resolved(spec: Spec) -> Spec:
    """The spec with every name replaced by the thing it names."""
    for family in _OF_SPEC:
        spec = put(spec, family, getattr(spec, family))
    learner = _learner_resolved(spec.learner)
    thresholds = spec.thresholds
    with contextlib.suppress(ValueError):  # rows of unlike lengths: refused like other text
        thresholds = tuple(np.atleast_1d(np.asarray(thresholds)).tolist())
    names = (spec.measures,) if isinstance(spec.measures, str) else spec.measures
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise SpecError(f"measures must be a list of names, not {brief(names)}")
    spec = _spelt(put(spec, "phases", spec.phases))
    spec = dataclasses.replace(spec, phases=_spelt(spec.phases))
    return dataclasses.replace(
        spec, learner=learner, thresholds=thresholds, measures=tuple(sorted(set(names)))
    )


def _learner_resolved(learner: Any) -> Any:
    """A learner with every name in its fields replaced by the thing it names."""
    fields = dataclasses.fields(learner) if dataclasses.is_dataclass(learner) else ()
    for name in (f.name for f in fields):
        if name in FAMILIES or name.endswith("optimizer"):
            learner = put(learner, name, getattr(learner, name))
    return learner


def validate(spec: Spec) -> None:
    """Raise SpecError with one line that says what is wrong and what is allowed."""
    found = ranges.type_problems(spec) or memory.problems(spec)
    if not found:
        found += [f"environment: {line}" for line in spec.environment.problems()]
    if not found:
        environment = spec.environment.build()
        found += [f"environment: {line}" for line in contracts.shape_problems(environment)]
    if not found:
        found += [f"policy: {line}" for line in spec.policy.problems(environment.shape)]
        found += [f"learner: {line}" for line in spec.learner.problems()]
        found += ranges.run_problems(spec)
    if not found:
        found += checks.match_problems(spec) or memory.problems(spec, checks.path(spec))
    if found:
        raise SpecError(_joined(found))


def _joined(lines: list[str]) -> str:
    """As many lines as a message may hold, and how many there are besides."""
    for num in range(len(lines), 1, -1):
        rest = [f"{len(lines) - num} more"] if num < len(lines) else []
        text = "; ".join([*lines[:num], *rest])
        if len(text) <= LONGEST:
            return text
    return lines[0]


def build(parts: tuple[Any, ...]) -> Trial:
    """(environment, policy, learner, Asked) to a Trial; called inside the trace, numbers traced."""
    environment_spec, policy_spec, learner_spec, *asked = parts
    environment = environment_spec.build()
    policy = policy_spec.build(environment.shape)
    learner = learner_spec.build(environment, policy)
    wanted = asked[0] if asked else Asked()
    if wanted.entries:
        learner = lumping.lumped(learner, environment, policy, learner_spec, wanted.entries)
    return Trial(environment, policy, learner, wanted.measures, wanted.path)


def parts(spec: Spec, entries: int | None = None) -> tuple[Any, Any, Any, Asked]:
    """What a compiled program is built from; `entries`: other than the first of `lump_sizes`."""
    path = checks.path(spec).split(",")[0]
    size = next(iter(checks.lump_sizes(spec)), 0) if entries is None else entries
    environment = spec.environment
    if isinstance(spec.learner, Supervised) and isinstance(environment, Sequence):
        # Worlds that differ in their rewards alone are one to it: they share a program.
        environment = environment if spec.measures else environment.of_labels()
    return environment, spec.policy, spec.learner, Asked(tuple(spec.measures), path, size)


def traced(tree: Any) -> Any:
    """Every number as float32, so that float, int and np.float32 are one program and not three."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)
