"""The error for what a user wrote, and what they may have meant."""

import difflib
import functools
import re
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

MEANT = {
    "agent": "learner",
    "algorithm": "learner",
    "arms": "num_arms",
    "baseline": "advantage",
    "batch_size": "group_size",
    "center": "centre",
    "env": "environment",
    "epochs": "num_epochs",
    "group_size": "batch_size",
    "iterations": "max_steps",
    "lr": "learning_rate",
    "metrics": "measures",
    "model": "policy",
    "num_steps": "max_steps",
    "num_updates": "max_steps",
    "optimiser": "optimizer",
    "steps": "max_steps",
    "updates": "max_steps",
    "world": "environment",
}  # names that users of other libraries try first -> ours
LONGEST = 300  # characters of a message


class SpecError(ValueError):
    """What cannot be run, read or written; the message is one line, for a user to read."""


def shallow(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes a public function raise a SpecError from its own frame, not from deep within."""

    @functools.wraps(function)
    def called(*values: Arguments.args, **named: Arguments.kwargs) -> Result:
        try:
            return function(*values, **named)
        except SpecError as error:
            raise error.with_traceback(None) from None

    return called


def spelling(name: str) -> str:
    """Returns a name as simrl spells names: lower case, underscores, British -ise and centre."""
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    plain = re.sub(r"center(?=ed|$|_)", "centre", plain).replace("centreed", "centred")
    return re.sub(r"(?<=[a-z]{3})iz(e[dr]?|ing|ation)(?![a-z])", r"is\1", plain)


def meant(name: object, allowed: Iterable[str]) -> str:
    """Returns "; did you mean ...?" with the allowed names most like a name, or nothing."""
    names = {spelling(known): known for known in allowed}
    text = spelling(str(name))
    near = [x for x in (text, MEANT.get(text)) if x in names][:1]
    near = near or [x for x in names if len(text) > 2 and x.startswith(text)][:2]
    near = near or difflib.get_close_matches(text, names, n=2, cutoff=0.65)
    near = [names[x] for x in near]
    return f"; did you mean {' or '.join(near)}?" if near else ""
