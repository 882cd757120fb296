"""How simrl refuses: one line that says what was wrong and what is allowed, and no other error."""

import contextlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

# Whose lines say nothing to a user.
LIBRARIES = {"simrl", "jax", "jaxlib", "numpy", "optax", "chex"} | sys.stdlib_module_names


class SpecError(ValueError):
    """What cannot be run, read or written; the message is one line, for a user to read."""


def first_line(error: Exception) -> str:
    """The kind of an error, the first line of what it says, and where it left the user's code."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}{_place(error)}"


def _place(error: Exception) -> str:
    """The last line on its way that is not a library's, in brackets; empty where there is none."""
    places = [
        f" ({Path(frame.f_code.co_filename).name}, line {line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in LIBRARIES
    ]
    return places[-1] if places else ""


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
