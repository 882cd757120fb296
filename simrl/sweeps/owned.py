"""User-defined components: what a family accepts as one, and errors for what is none."""

import functools
import importlib
import inspect
from dataclasses import dataclass, field
from typing import Any

import jax

from simrl.errors import brief, shallow
from simrl.policies import dependence
from simrl.sweeps import contracts, trials
from simrl.sweeps.errors import RAISED_BY_USERS, SpecError, in_one_line
from simrl.sweeps.given import has_control
from simrl.types import Advantage, Environment, Learner, Policy, Shape, Surrogate, Trial

KINDS: dict[str, Any] = {
    "environment": Environment,
    "policy": Policy,
    "learner": Learner,
    "advantage": Advantage,
    "surrogate": Surrogate,
}  # by family; a curriculum is one of simrl's
BUILT_FROM: dict[str, tuple[str, ...]] = {
    "environment": (),
    "policy": ("shape",),
    "learner": ("environment", "policy"),
    "advantage": ("batch_size", "length"),
    "surrogate": (),
}  # by family: the arguments of a function that makes one


_CHECKED: set[Any] = set()  # parts without problems, and the sizes that they are built for


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Own:
    """A user's own thing; `source` is "module:attribute" (stored, with a version) or "" (not).

    `thing` is what its family takes (`KINDS`), or a function that makes one from what the family's
    `build` is given.
    """

    thing: Any = field(metadata={"static": True})
    source: str = field(default="", metadata={"static": True})
    version: str = field(default="", metadata={"static": True})
    family: str = field(default="", metadata={"static": True})  # that it was given as

    def problems(self, *given: Any) -> list[str]:
        """Nothing is known to be wrong with a user's own thing."""
        return []

    def build(self, *given: Any) -> Any:
        """The thing, made from what the family gives if it is a function."""
        made = self._made(given)
        if self.family == "policy" and _is_dependent(self, *given):
            return dependence.completed(made, *given)
        if self.family == "environment" and _is_exact_match(self):
            return made._replace(channel="exact", binary=True)
        return made

    def _made(self, given: tuple[Any, ...]) -> Any:
        kind = KINDS[self.family]
        if isinstance(self.thing, kind):
            return self.thing
        if not contracts.accepts(self.thing, len(given)):
            raise SpecError(f"{_wanted(self.family)}, got {self._called}{_signature(self.thing)}")
        try:
            made = self.thing(*given)
        except SpecError:
            raise
        except RAISED_BY_USERS as error:
            raise SpecError(f"{self.family} {self._called} fails: {in_one_line(error)}") from None
        if not isinstance(made, kind):
            returned = f"{self._called}({', '.join(BUILT_FROM[self.family])}) returned"
            raise SpecError(f"{_wanted(self.family)}; {returned} {short(made)}")
        return made

    @property
    def _called(self) -> str:
        kind = type(self.thing).__name__
        return self.source or getattr(self.thing, "__name__", f"the {kind} object")


@functools.lru_cache(maxsize=256)
def _is_dependent(own: Own, shape: Shape) -> bool:
    """Whether a policy's positions depend on each other: traced once, built anew in each trace."""
    try:
        return dependence.is_dependent(own._made((shape,)), shape)
    except RAISED_BY_USERS:  # `contracts` says what
        return False


@functools.lru_cache(maxsize=256)
def _is_exact_match(own: Own) -> bool:
    """Whether an environment that names no channel has the channel "exact": tried once."""
    try:
        with jax.ensure_compile_time_eval():  # where it is built in a trace
            return trials.is_exact_match(own._made(()))
    except RAISED_BY_USERS:  # `contracts` says what
        return False


def _signature(function: Any) -> str:
    """The arguments of a function that `accepts` others, in brackets."""
    return str(inspect.signature(function))


def short(value: Any) -> str:
    """What a value is, in at most 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _wanted(family: str) -> str:
    makes = f"function ({', '.join(BUILT_FROM[family])}) -> simrl.{KINDS[family].__name__}"
    return f"{family}: must be a simrl.{KINDS[family].__name__} or a {makes}"


def problems(spec: Any, trial: Trial) -> list[str]:
    """Returns lines on what is wrong with the user-defined components of a spec in a trial."""
    world, length = trial.environment, trial.environment.shape.length
    learner = trial.learner, world, trial.policy
    advantage, surrogate = (
        getattr(spec.learner, name, None) for name in ("advantage", "surrogate")
    )
    size = getattr(spec.learner, "group_size", 1)
    lines = _problems_of(spec.environment, world)
    lines = lines or _problems_of(spec.policy, trial.policy, world.shape)
    if isinstance(advantage, Own):
        lines = lines or _problems_of(advantage, advantage.build(size, length), size, length)
    if isinstance(spec.learner, Own) or isinstance(surrogate, Own):
        lines = lines or contracts.learner_problems(*learner)
    return lines


def _problems_of(part: Any, *built: Any) -> list[str]:
    """What breaks the contract of a family: by shapes, then by values; once for each part."""
    form = part, *built[1:]
    if not isinstance(part, Own) or form in _CHECKED:
        return []
    check = f"{part.family}_problems"
    lines = getattr(contracts, check)(*built) or getattr(trials, check)(*built)
    if not lines:
        _CHECKED.add(form)
    return lines


def of_family(family: str, thing: Any, source: str = "", version: str = "") -> Own:
    """A user's own thing for a family, which must be of its kind or a function."""
    kind = KINDS.get(family)
    if kind is None:
        raise SpecError(f"a {family} of your own cannot be given, only one of simrl's")
    other = isinstance(thing, tuple(KINDS.values())) and not isinstance(thing, kind)
    if other or not (isinstance(thing, kind) or callable(thing)):
        raise SpecError(f"{_wanted(family)}, got {source or type(thing).__name__}")
    return Own(thing, source, version, family)


@shallow
def own(source: str, version: str) -> Own:
    """A user's own thing by the name of where it lives, `"package.module:attribute"`.

    The name and the version enter the hash of what is stored; change the version with the code.
    """
    if isinstance(source, str) and source.partition(":")[0] == "__main__":
        allowed = "a module that other scripts can import, with the component in it"
        raise SpecError(f"simrl.own: must name {allowed}, got {source!r}")
    for what, text in (("source, as 'module:attribute',", source), ("version", version)):
        if not isinstance(text, str) or has_control(text):
            raise SpecError(f"simrl.own: {what} must be text, got {brief(text)}")
    if not version:
        raise SpecError(f"{source!r} needs a version, to tell results of its changes apart")
    module, _, attribute = source.partition(":")
    try:
        thing = getattr(importlib.import_module(module), attribute)
    except RAISED_BY_USERS as error:
        rule = "must be an importable module:attribute"
        raise SpecError(f"{source!r} {rule}: {in_one_line(error)}") from None
    return Own(thing, source, version)
