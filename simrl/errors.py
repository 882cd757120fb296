"""The error for what a user wrote, and what they may have meant."""

import difflib
import functools
import re
import reprlib
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
    """What cannot be run, read or written; the message is one line, for a user to read.

    Whatever a value in it looks like, the line has at most LONGEST printable characters: longer
    ones lose their middle.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(_one_line(str(message)))


def _one_line(text: str) -> str:
    """Returns the text with control characters escaped, and its middle left out if it is long."""
    ends = text if len(text) <= LONGEST else text[:LONGEST] + text[-LONGEST:]
    line = "".join(x if x.isprintable() else repr(x)[1:-1] for x in ends)
    return line if len(line) <= LONGEST else f"{line[:200]}…{line[201 - LONGEST :]}"


class _Shortened(reprlib.Repr):
    """The repr of anything at all, on one line: also of what has none, or too long a one."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60

    def repr1(self, x: object, level: int) -> str:
        try:
            return super().repr1(x, level)
        except Exception:  # Python writes no integer of more than 4,300 digits
            return f"<{type(x).__name__}>"


_SHORTENED = _Shortened()


def brief(value: object) -> str:
    """Returns a value as code, shortened and on one line."""
    return " ".join(_SHORTENED.repr(value).split())


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
