"""How simrl refuses: one line that says what was wrong and what is allowed, and no other error."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


class SpecError(ValueError):
    """What cannot be run, read or written; the message is one line, for a user to read."""


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


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
