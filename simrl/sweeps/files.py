"""Files that appear under their name only when complete and on the disk, and are never replaced."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simrl.sweeps.errors import SpecError

FORMAT = 3  # of a result folder: raised when its files change


def create(target: Path, write: Callable[[Any], None]) -> bool:
    """Creates a file from what `write` does to an open binary file; makes missing folders.

    Returns False, and leaves the file as it is, where it exists already: of processes that create
    one name at the same time, exactly one succeeds.
    """
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".partial-", suffix=target.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # mkstemp lets nobody else read
            file.flush()
            os.fsync(file.fileno())
        return _link(name, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _link(name: str, target: Path) -> bool:
    """Gives a complete file its final name, unless the name is taken."""
    try:
        os.link(name, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if target.exists():
            return False
        os.replace(name, target)
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def digest(value: Any) -> str:
    """Returns the SHA-256 of the canonical JSON of plain values, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def create_document(target: Path, content: dict[str, Any]) -> bool:
    """Creates a JSON file of plain values with its format and checksum; see `create`."""
    content = {"format": FORMAT, **content}
    text = json.dumps({**content, "sha256": digest(content)}, indent=1) + "\n"
    return create(target, lambda file: file.write(text.encode()))


def read_document(file: Path) -> dict[str, Any]:
    """Returns the content of a JSON file that `create_document` wrote.

    Raises SpecError, one line, on a damaged file, whatever was changed in it, or another format.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:  # not JSON, or not even text
        raise SpecError(f"{file} is damaged: {error}") from None
    if not isinstance(content, dict) or "format" not in content:
        raise SpecError(f"{file} is damaged: it is not a description of simrl")
    if content["format"] != FORMAT:
        raise SpecError(
            f"{file} is of format {content['format']!r}, and this version of simrl reads format "
            f"{FORMAT} alone: give out another folder"
        )
    if content.pop("sha256", None) != digest(content):
        raise SpecError(
            f"{file} is damaged: its checksum is wrong; restore it, or delete it "
            "and run again (blocks stay)"
        )
    return content
