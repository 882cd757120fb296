"""What the commands of experiments share."""

import fcntl
import importlib
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from experiments import __main__ as experiments_main
from experiments import command
from simrl.cli import tables
from simrl.cli.process import interrupts

ROOT = Path(__file__).parents[1]

PARENT = """
import os, sys
import jax
from experiments import command

if __name__ == "__main__":
    with command.beside() as other:
        print(other.submit(os.getpid).result(), flush=True)
        sys.stdin.readline()
        print(other.submit(jax.default_backend).result(), flush=True)
        sys.stdin.readline()
"""


def is_there(pid):
    """Whether a process is; one whose parent has not asked how it ended is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_process_beside_leaves_interrupts_to_its_parent_and_ends_with_it(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    root = Path(__file__).parents[1]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, script], cwd=root, env=environment, **pipes) as parent:
        beside = int(parent.stdout.readline())
        assert beside != parent.pid
        os.kill(beside, signal.SIGINT)
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "cpu\n"
        parent.kill()
    until = time.monotonic() + 60
    while is_there(beside) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_there(beside)


def in_terminal(arguments, columns, term, folder=ROOT):
    """Runs Python in a pseudo-terminal; returns its exit status and the bytes it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": term}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            written += os.read(ours, 4096)
        except OSError:  # EIO: the last process that held the other end has gone
            break
    os.close(ours)
    return process.wait(), written.decode()


WATCHED = """
import time
import pandas as pd
import simrl
from experiments import command
from simrl.cli import tables

console, clock = command.console(), command.Clock()
with clock.bar("runs") as bar:
    time.sleep(0.2)  # drawn before anything is reported
    bar(simrl.Progress(0, 2, {}, 0, 100, 0, "compiling", 1, 7))
    for done in (50, 100):
        bar(simrl.Progress(0, 2, {}, done, 100, 10 * done))
frame = pd.DataFrame({"claim": ["word " * 30] * 2, "measured": ["0.123456 ± 0.000012"] * 2})
for i in range(9):
    frame[f"column number {i}"] = [1 / 3, 1234567.0]
tables.show(frame, "title " * 30, console)
print(clock.summary())
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def assert_fits(text, columns):
    lines = CONTROL.sub("", text).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= columns
    assert "…" not in text.replace(" … ", "")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize("columns", [80, 120])
def test_progress_and_tables_fit_a_terminal(columns, term):
    status, text = in_terminal(["-c", WATCHED], columns, term)
    assert status == 0, text
    assert "compiling 2 of 7" in text
    assert "100 of 100 seed-runs" in text
    assert "; 100 seed-runs, 1,000 updates" in text
    assert text.count("0.123456 ± 0.000012".replace(" ", "\N{NO-BREAK SPACE}")) == 2
    assert all(f"{i}" in text for i in range(9))
    assert_fits(text, columns)


def test_an_experiment_runs_in_a_terminal(tmp_path):
    command = ["-m", "experiments", "plateaus", "--quick", "--no-cache", "--out", "mine"]
    status, text = in_terminal(command, 80, "xterm", tmp_path)
    assert status == 0, text
    assert "FAILS" not in text
    assert_fits(text, 80)
    assert (tmp_path / "mine" / "figure.png").exists()


BUSY = """
import signal
import jax
import jax.numpy as jnp
import numpy as np
from experiments import command
from simrl.cli import process


def main():
    run = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, lambda i, x: jnp.sin(x) * 1.0001, x))
    with command.beside():  # whose locks are not given back
        array = run(jnp.ones(1000), 2**31 - 1)  # an hour
        print("busy", flush=True)
        np.asarray(array)  # in C++, where Python hears of no signal


if __name__ == "__main__":
    process.GRACE = 0.1
    # A job in the background inherits that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command.guarded(main)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_whatever_it_waits_for(number, status, tmp_path):
    (tmp_path / "busy.py").write_text(BUSY)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, tmp_path / "busy.py", "--quick"]
    with subprocess.Popen(arguments, env=environment, **pipes) as process:
        try:
            assert process.stdout.readline() == "busy\n"
            process.send_signal(number)
            _, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == status
    (line,) = errors.strip().splitlines()
    assert line.startswith("interrupted; stored blocks are complete, to resume: python ")
    assert line.endswith("busy.py --quick")


STUBBORN = """
import signal
import time
from simrl.cli import process


def main():
    try:
        print("begun", flush=True)
        wait()
    except KeyboardInterrupt:
        print("finishing", flush=True)
        wait()


def wait():  # not one sleep: a signal just before it begins would be heard when it is over
    while True:
        time.sleep(0.01)


process.GRACE = 3600
signal.signal(signal.SIGINT, signal.default_int_handler)
process.guarded(main)
"""
DROPPED = """
import signal
import sys
import time
from simrl.cli import process


class Callback:
    def __del__(self):  # like JAX's callback of the garbage collection: Python drops what it raises
        signal.raise_signal(signal.SIGINT)


def callback():
    Callback()
    time.sleep(60)


def module():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:  # as jaxlib's extension does
        raise ImportError("cannot initialize the extension") from error


process.GRACE = 3600
signal.signal(signal.SIGINT, signal.default_int_handler)
process.guarded(globals()[sys.argv[1]])
"""


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_command_at_once_in_one_line(second, tmp_path):
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, tmp_path / "stubborn.py"]
    with subprocess.Popen(arguments, env=environment, **pipes) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "finishing\n"
            process.send_signal(second)
            _, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 130
    (line,) = errors.strip().splitlines()
    assert line.startswith("interrupted; stored blocks are complete, to resume: ")


@pytest.mark.parametrize("where", ["callback", "module"])
def test_an_interrupt_that_is_dropped_ends_a_command_in_one_line(where, tmp_path):
    (tmp_path / "dropped.py").write_text(DROPPED)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    called = [sys.executable, tmp_path / "dropped.py", where]
    ended = subprocess.run(called, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 130
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("interrupted; stored blocks are complete, to resume: ")


def test_a_command_that_ignores_interrupts_goes_on_doing_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job in the background
    try:
        with interrupts():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


CACHED = """
import os
import jax
from experiments import command

command.keep_programs()
print(jax.config.jax_compilation_cache_dir)
print(os.environ.get("JAX_COMPILATION_CACHE_DIR"))
"""


@pytest.mark.parametrize("chosen", [True, False])
def test_programs_are_kept_in_the_users_cache_unless_another_is_chosen(chosen, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if chosen:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "mine")
    called = [sys.executable, "-c", CACHED]
    used, inherited = subprocess.check_output(called, text=True, env=environment).splitlines()
    parent = tmp_path / "mine" if chosen else tmp_path / "xdg" / "simrl" / "programs"
    assert used == inherited
    assert Path(used) == parent if chosen else Path(used).parent == parent


@pytest.mark.parametrize("name", experiments_main.NAMES)
def test_a_folder_that_cannot_be_written_is_refused_at_once(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    words = [name, "--quick", "--out", str(tmp_path / "file" / "inside")]
    monkeypatch.setattr("simrl.run", lambda *_, **__: pytest.fail("something is run"))
    monkeypatch.setattr(command.Clock, "__init__", lambda _: pytest.fail("something is begun"))
    with pytest.raises(SystemExit) as ended:
        experiments_main.main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith("error: cannot write to ")


@pytest.mark.parametrize("name", experiments_main.NAMES)
def test_abbreviations_are_refused_and_help_has_an_example(name, monkeypatch, capsys):
    module = importlib.import_module(f"experiments.{name}")
    for option, status in (("--qui", 2), ("--help", 0)):
        monkeypatch.setattr(sys, "argv", [name, option])
        with pytest.raises(SystemExit) as ended:
            module.main()
        assert ended.value.code == status
    told = capsys.readouterr()
    assert "unrecognized arguments: --qui" in told.err
    assert f"example:\n  python -m experiments.{name} --" in told.out
    assert max(map(len, told.out.splitlines())) <= 80


def test_a_list_names_every_experiment_in_80_columns(capsys):
    experiments_main.main([])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    sources = {path.stem: path.read_text() for path in (ROOT / "experiments").glob("*.py")}
    commands = {name for name, source in sources.items() if "command.guarded(main)" in source}
    assert set(experiments_main.NAMES) == commands - {"speed_workers"}
    assert {line.strip() for line in lines} >= set(experiments_main.NAMES)


def test_an_experiment_that_is_not_there_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        experiments_main.main(["testbd"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("got 'testbd'; did you mean testbed?")


@pytest.mark.parametrize(
    ("options", "folder"), [([], "results/x"), (["--quick"], "results/x-quick")]
)
def test_a_quick_run_has_a_folder_of_its_own(options, folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--no-cache", *options])
    chosen = command.arguments("x", "About.", seeds=100, quick=10)
    assert chosen.out == Path(folder)
    assert chosen.seeds == (10 if options else 100)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_word_of_a_table_is_lost(width):
    words = ["alpha", "0.1234 ± 0.0012", "0.1 … 0.2", "a sentence of several words"]
    frame = pd.DataFrame({f"name {i} of it": [word, word] for i, word in enumerate(words * 3)})
    screen = Console(width=width, file=io.StringIO())
    tables.show(frame, "a title that is long enough to be wrapped at any of the widths", screen)
    text = screen.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")
    assert max(map(len, text.splitlines())) <= width
    for word in ("0.1234 ± 0.0012", "0.1 … 0.2"):
        assert text.count(word) == 2 * 3
    assert "several" in text
