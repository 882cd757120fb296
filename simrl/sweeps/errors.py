"""How simrl refuses: one line that says what was wrong and what is allowed, and no other error."""

import contextlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from simrl.errors import SpecError as SpecError

NOT_THE_USERS = {"simrl"} | sys.stdlib_module_names  # modules; nor what a package index gave
MOST_CHARACTERS = 120  # of an error of someone else's code
RAISED_BY_USERS = (Exception, SystemExit)  # Ctrl-C is for the process
INSTALLED = {"site-packages", "dist-packages"}  # folders


class NothingToRun(SpecError):
    """A share without a block, of seeds of which nothing is stored yet."""

    def __init__(self) -> None:
        super().__init__("nothing is stored yet of these seeds, and this share has none to run")


def in_one_line(error: BaseException) -> str:
    """The kind of an error, the first line of what it says, and where it left the user's code."""
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else ""
    line = line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 3]}..."
    return f"{type(error).__name__}: {line}{_place(error)}"


def _place(error: BaseException) -> str:
    """The last line of the user's on its way, in brackets; empty where there is none."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module, file = str(frame.f_globals.get("__name__")), Path(frame.f_code.co_filename)
        if module.partition(".")[0] not in NOT_THE_USERS and not INSTALLED & {*file.parts}:
            place = f" ({file.name}, line {line})"
    return place


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Where what the system refuses (a full disk, no permission) is said of `path` in one line."""
    try:
        yield
    except OSError as error:
        # A file where a folder is to be made is said to exist.
        inside = isinstance(error, FileExistsError)
        reason = f"{error.filename} is not a folder" if inside else error.strerror or error
        raise SpecError(f"cannot write to {path}: {reason}") from None
