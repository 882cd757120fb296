"""What the commands of experiments share."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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
