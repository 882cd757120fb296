"""What every command shares: errors in one line, interrupts, compiled programs kept on disk."""

import codecs
import gc
import hashlib
import io
import os
import shlex
import signal
import socket
import sys
import tempfile
import threading
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from simrl.errors import SpecError
from simrl.sweeps.errors import writing

GRACE = 3.0  # seconds after Ctrl-C or SIGTERM for what is being written
# JAX's 1 s would leave out the programs of 0.1 to 0.5 s, of which a command has about ten.
NEAREST = {"±": "+-", "–": "-", "−": "-", "─": "-", "×": "x", "→": "->", "≤": "<=", "≥": ">="}
LEAST_COMPILE = 0.1  # seconds: quicker programs are not kept on disk


def keep_programs() -> None:
    """Keeps compiled programs in the user's cache folder; JAX_COMPILATION_CACHE_DIR goes first.

    By processor: XLA makes programs for the one that it finds, and a home may be shared by several.
    """
    import jax  # noqa: PLC0415  (a command that fails on its arguments does not need it)

    if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        return
    for name, value in (
        ("jax_compilation_cache_dir", str(program_folder())),
        ("jax_persistent_cache_min_compile_time_secs", LEAST_COMPILE),
    ):
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)  # of the process beside this one


def program_folder() -> Path:
    """Returns where commands keep compiled programs, for this kind of processor."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "simrl" / "programs" / processor()


def processor() -> str:
    """Returns a short name of this kind of processor, from what it can do."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    features = [line for line in lines if line.lower().startswith(("flags", "features"))]
    text = f"{os.uname().machine} {features[:1]}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def refuse_unwritable(folder: Path) -> None:
    """Makes a result folder; raises SpecError, one line, where no file can be written to it."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def print_in_any_encoding() -> None:
    """Has stdout and stderr write the nearest ASCII for what their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_nearest.__name__)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """The ASCII nearest to what an encoding lacks, and where to go on; see `codecs`."""
    assert isinstance(error, UnicodeEncodeError)
    pieces = []
    for character in error.object[error.start : error.end]:
        plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        pieces.append(NEAREST.get(character, plain or "?"))
    return "".join(pieces), error.end


codecs.register_error(_nearest.__name__, _nearest)


def guarded(main: Callable[[], None]) -> None:
    """Runs a command; what the user can mend is one line on stderr and exit status 2.

    Ctrl-C and SIGTERM end it with status 130 and 143, and one line on how to go on.
    """
    # What is imported stays, and what is traced is many small objects: to look for garbage among
    # them as often as Python does is 2 % of what it takes to make the programs.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    warnings.formatwarning = _in_one_line
    print_in_any_encoding()
    try:
        with interrupts():
            main()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python flushes to it
        sys.exit(0)
    except (SpecError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        leave(*(interrupt.args or (signal.SIGINT,)))


def _in_one_line(message: object, *about: object, **more: object) -> str:
    """A warning without the line of code that it came from, which is not the user's."""
    return f"warning: {message}\n"


@contextmanager
def interrupts() -> Iterator[None]:
    """Turns the first Ctrl-C or SIGTERM into KeyboardInterrupt; a second one ends the process.

    So does GRACE, if the main thread takes longer. The main thread hears of no signal while it
    waits for a compiler or a device in C++, so another one does. No block is damaged: one has its
    name only when it is complete.
    """
    ears, mouth = socket.socketpair()
    mouth.setblocking(False)
    first: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        first.append(number)
        for deaf in (signal.SIGINT, signal.SIGTERM):  # `_listen` is not, as it would be by SIG_IGN
            signal.signal(deaf, _pass)
        raise KeyboardInterrupt(number)

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as it is in `command &` of a script
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    wakeup = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    hook, sys.unraisablehook = sys.unraisablehook, _leave_where_ignored
    threading.Thread(target=_listen, args=(ears,), daemon=True).start()
    try:
        yield
    except Exception:
        if first:  # C++ that initialises a module makes an ImportError of an interrupt
            leave(first[0])
        raise
    finally:
        sys.unraisablehook = hook
        signal.set_wakeup_fd(wakeup)
        mouth.close()
        for number, handler in before.items() if not first else ():  # else deaf until `leave`
            signal.signal(number, handler)


def _pass(number: int, frame: object) -> None:
    """Does nothing: a second KeyboardInterrupt would interrupt what the first one began."""


def _leave_where_ignored(error: "sys.UnraisableHookArgs") -> None:
    """Leaves where Python prints and drops an interrupt: one that falls in a callback from C++."""
    if isinstance(error.exc_value, KeyboardInterrupt):
        leave(*(error.exc_value.args or (signal.SIGINT,)))
    sys.__unraisablehook__(error)


def _listen(ears: socket.socket) -> None:
    """Ends the process with the second signal, or some time after the first."""
    number = ears.recv(1)
    if not number:
        ears.close()
        return
    ears.settimeout(GRACE)  # and open: Python prints an error for a signal it cannot write
    with suppress(TimeoutError):
        if not ears.recv(1):  # the command has ended, and its process ends by itself
            time.sleep(GRACE)
    leave(number[0])


_LEAVING = threading.Lock()


def leave(number: int) -> NoReturn:
    """Ends the process at once, whatever its threads do: says how to go on, once."""
    _LEAVING.acquire()  # whoever has it ends the process
    words = sys.orig_argv[1:]
    script = bool(words) and Path(words[0]).name == "simrl"
    resume = shlex.join(["simrl", *words[1:]] if script else ["python", *words])
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # a bar hides the cursor
    text = f"{shown}\ninterrupted; stored blocks are complete, to resume: {resume}"
    with suppress(OSError, RuntimeError, ValueError):  # closed, or interrupted while it writes
        print(text, file=sys.stderr, flush=True)
        sys.stdout.flush()
    os._exit(128 + number)
