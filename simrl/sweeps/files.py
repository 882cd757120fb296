"""Files that appear under their name only when complete and on the disk, and are never replaced."""

import contextlib
import hashlib
import json
import os
import platform
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from simrl.sweeps.errors import SpecError

FORMAT = 3  # of a result folder: raised when its files change
_PARTIAL = re.compile(r"\.partial-(?:([0-9a-f]{8})-(\d+)-)?.*")
_OLD = 24 * 3600  # seconds after which no process still writes a partial file


def create(target: Path, write: Callable[[Any], None]) -> bool:
    """Creates a file from what `write` does to an open binary file; makes missing folders.

    Returns False, and leaves the file as it is, where it exists already: of processes that create
    one name at the same time, exactly one succeeds.
    """
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".partial-{_machine()}-{os.getpid()}-"
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=target.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # mkstemp lets nobody else read
            file.flush()
            os.fsync(file.fileno())
        created = _link(name, target)
        _sync(target.parent)
        return created
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _sync(folder: Path) -> None:
    """Puts the names in a folder and in the one above on the disk, where the system can do it."""
    for place in (folder, folder.parent):
        with contextlib.suppress(OSError):  # a folder cannot be opened on every system
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _machine() -> str:
    """Returns 8 hexadecimal digits of what numbers processes: the host, or the container on it."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not on every system
        space = 0
    return digest([platform.node(), space])[:8]


def remove_partial(folders: Iterable[Path]) -> int:
    """Removes partial files that dead processes left in some folders; returns how many.

    A process is known to be dead on its own machine alone; of others, files a day old are removed.
    """
    removed = 0
    for file in (file for folder in folders for file in entries(folder)):
        match = _PARTIAL.fullmatch(file.name)
        with contextlib.suppress(OSError):  # another process removes it as well
            if match and file.is_file() and _abandoned(file, match[1], match[2]):
                file.unlink()
                removed += 1
    return removed


def _abandoned(file: Path, machine: str | None, process: str | None) -> bool:
    """Whether no process writes a partial file any more."""
    if time.time() - file.stat().st_mtime > _OLD:
        return True
    if machine != _machine() or process is None:
        return False
    try:
        os.kill(int(process), 0)  # asks only whether it exists
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # of another user
        return False
    return False


def entries(folder: Path) -> list[Path]:
    """Returns the files and folders in a folder; none where there is no such folder.

    Raises SpecError, one line, where it cannot be read, or is a file.
    """
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        places = (folder, *folder.parents)
        file = next((place for place in places if os.path.lexists(place)), folder)
        raise SpecError(f"{file} is not a folder") from None
    except OSError as error:
        raise SpecError(f"cannot read {folder}: {error.strerror}") from None


def time_of(file: Path) -> int:
    """Returns when a file was last changed, in ns; SpecError, one line, where it cannot be read."""
    try:
        return file.stat().st_mtime_ns
    except OSError as error:
        raise SpecError(f"cannot read {file}: {error.strerror}") from None


def read(file: Path) -> bytes:
    """Returns the content of a regular file.

    Raises SpecError, one line, where it cannot be read; a pipe is refused, not waited for.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise SpecError(f"{file} is not a regular file")
        return file.read_bytes()
    except FileNotFoundError:
        raise SpecError(f"{file} is not there any more; run again") from None
    except OSError as error:
        raise SpecError(f"cannot read {file}: {error.strerror}") from None


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
        content = json.loads(read(file).decode("utf-8"))
    except SpecError:
        raise
    except (ValueError, RecursionError) as error:  # not JSON, or not even text
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
