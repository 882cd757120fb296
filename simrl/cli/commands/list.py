"""`simrl list`: what is registered, with fields, defaults and documentation."""

import argparse
import dataclasses
import inspect
import textwrap
from typing import Any

from simrl.cli.parser import near
from simrl.errors import SpecError
from simrl.sweeps import aliases
from simrl.sweeps.spec import FAMILIES, Spec

WIDTH = 79
VARIANTS = {  # names that share a record
    "none": "The reward itself, without a baseline (REINFORCE).",
    "batch_mean": "Reward less the mean of its group (Dr. GRPO, Liu et al. 2025).",
    "leave_one_out": "Reward less the mean of the others in its group (RLOO, Ahmadian et al. "
    "2024).",
    "group_normalised": "Reward less the group's mean, over its standard deviation (GRPO, Shao et "
    "al. 2024).",
    "group_normalised_sample": "As group_normalised, with the sample standard deviation.",
    "maxrl": "Reward over the group's mean: with rewards of 0 or 1 the mean over its successes.",
    "maxrl_centred": "As maxrl, less 1.",
    "pass_at_k": "Gradient of 1 - (1 - p)^k (Walder & Karkhanis 2025).",
    "pass_at_k_leave_one_out": "As pass_at_k, with a leave-one-out baseline.",
    "minimum_variance": "Oracle: reward less the baseline of least variance of the estimator.",
    "score_minimum_variance": "Oracle: the same, of the score function whatever the estimator.",
    "natural_minimum_variance": "Oracle: the same, of the natural gradient.",
    "expected_reward": "Oracle: reward less its exact expectation.",
    "band": "Prompts in proportion to p (1 - p) of their estimated pass rates.",
    "oracle_band": "Prompts in proportion to p (1 - p) of their exact pass rates.",
}


def execute(arguments: argparse.Namespace) -> None:
    """Prints every family, one family, or one registered name; SpecError for another word."""
    word = arguments.name
    if word is None:
        print("\n\n".join(family(name, brief=True) for name in FAMILIES))
        print("\nsimrl list FAMILY: with documentation; simrl list NAME: with fields")
        return
    if word in FAMILIES:
        print(family(word))
        return
    if word == "spec":
        print(record("spec", Spec))
        return
    homes = [home for home, known in FAMILIES.items() if word in {*known, *aliases_of(home)}]
    if not homes:
        names = {name for home, known in FAMILIES.items() for name in (home, *known, "spec")}
        line = f"must be one of {', '.join(FAMILIES)}, or a name in one, got {word[:60]!r}"
        raise SpecError(f"NAME: {line}{near(word, sorted(names))}")
    for home in homes:
        known = FAMILIES[home]
        if word not in known:
            print(f"{word}: {home} {aliases_of(home)[word]!r}")
        else:
            print(record(f"{home} {word}", known[word]))


def aliases_of(home: str) -> dict[str, Any]:
    """Returns what other names of the field stand for in a family."""
    return aliases.ALIASES.get(home, {})


def family(name: str, brief: bool = False) -> str:
    """Returns the names of a family; unless `brief` with the first sentence of each."""
    known = FAMILIES[name]
    if brief:
        return f"{name}\n{textwrap.indent(textwrap.fill(', '.join(known), WIDTH - 2), '  ')}"
    lines = []
    for entry, value in known.items():
        lines += [
            f"  {entry}",
            textwrap.indent(textwrap.fill(sentence(entry, value), WIDTH - 6), " " * 6),
        ]
    own = aliases_of(name)
    also = f"\n  also: {', '.join(own)}" if own else ""
    return "\n".join([name, *lines]) + also


def sentence(name: str, value: Any) -> str:
    """Returns the first paragraph of the documentation of a registered name."""
    kind = value if isinstance(value, type) else type(value)
    return VARIANTS.get(name) or " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def record(title: str, value: Any) -> str:
    """Returns a record's documentation and its fields with their defaults."""
    kind = value if isinstance(value, type) else type(value)
    text = inspect.getdoc(kind) or ""
    default = value() if isinstance(value, type) else value
    return f"{title}\n\n{textwrap.indent(text, '  ')}\n\nfields and defaults\n{table(default)}"


def table(default: Any) -> str:
    """Returns a line for each field of a record: its name and its value."""
    names = [field.name for field in dataclasses.fields(default)]
    width = max(map(len, names), default=0)
    rows = [f"  {name.ljust(width)}  {named(getattr(default, name))}" for name in names]
    return "\n".join(rows) or "  none"


def named(value: Any) -> str:
    """Returns the registered name of a value, in quotes, or its repr."""
    pairs = [pair for known in FAMILIES.values() for pair in known.items()]
    return next((repr(name) for name, own in pairs if own == value), repr(value))
