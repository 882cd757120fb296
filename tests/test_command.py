"""What the commands of experiments share."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

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


def in_terminal(arguments, columns, term):
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
import simrl
from experiments import command

console, clock = command.console(), command.Clock()
with command.Watch("runs", console, clock) as watch:
    time.sleep(0.2)  # drawn before anything is known
    for done in (50, 100):
        watch(simrl.Progress(0, 2, {}, done, 100, 10 * done))
print("watched to the end")
"""


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize("columns", [80, 120])
def test_progress_is_drawn_in_a_terminal(columns, term):
    status, text = in_terminal(["-c", WATCHED], columns, term)
    assert status == 0, text
    assert "watched to the end" in text
