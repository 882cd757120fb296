"""Mutated command lines of `simrl`: each does what it says or is one line, with exit status 2."""

import contextlib
import functools
import io
import os
import random
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import simrl
from simrl import cli
from simrl.cli import distributed, process
from simrl.errors import SpecError

LINES = (
    "init other",
    "run demo.toml --seeds 64 --out out --set learner.group_size=4 --devices 1 --keep moments",
    "run demo.toml --shard 1/2 --allow numpy --strict --no-cache --dry-run",
    "run demo.toml --distributed --coordinator localhost:1 --shard 2/2",
    "status results --verify",
    "table results --kind phase --quantity absorbed --to table.csv",
    "table results --kind curve --quantity pass_rate --keep moments",
    "table results --kind hitting",
    "figure results --quantity pass_rate --x samples --to figure --style icml",
    "export results --to csv --file results.csv",
    "list learner",
    "doctor",
)
WORDS = (
    *{word for line in LINES for word in line.split()},
    *(
        "--seed",
        "--sets",
        "--",
        "-",
        "-x",
        "--out=",
        "--help",
        "",
        " ",
        "0",
        "-1",
        "1e9",
        "9" * 400,
    ),
    *("1/0", "2/1", "0/0", "a/b", "auto", "=", "a=b", "learner.name=[]", "max_steps={a=1}", "\n"),
    *("learner.optimizer.learning_rate=nan", "environment=[[[[", "é", "\x00", "\udc80", "a" * 5000),
    *("missing.toml", "/", "/dev/null", "..", "demo.toml/x", "broken.toml", "nothing", "other.csv"),
)
SWEEP = simrl.Sweep(
    simrl.Spec("bandit", max_steps=2, log_points=2), {"learner.optimizer.learning_rate": [1.0, 2.0]}
)


def line_of(rng: random.Random) -> list[str]:
    """Returns the words of a command line with up to three changes."""
    words = rng.choice(LINES).split()
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(words) + 1)
        change = rng.random()
        if change < 0.3:
            words.insert(place, rng.choice(WORDS))
        elif change < 0.7 and place < len(words):
            words[place] = rng.choice(WORDS)
        elif change < 0.85 and place < len(words):
            del words[place]
        elif place < len(words) and words[place]:
            word, at = words[place], rng.randrange(len(words[place]))
            words[place] = word[:at] + rng.choice(["", "-", "x", "/", "=", "\t"]) + word[at + 1 :]
    return words


@functools.cache
def folder() -> Path:
    """Returns a folder with a sweep file, a broken one, and a small result folder."""
    made = Path(tempfile.mkdtemp())
    (made / "broken.toml").write_bytes(b"\xff = [")
    simrl.run(SWEEP, 8, made / "results")
    with contextlib.chdir(made), contextlib.redirect_stdout(io.StringIO()):
        cli.main(["init", "demo"])
    return made


class _Accepted(Exception):
    """The command has begun to do what takes long."""


@contextlib.contextmanager
def nothing_done() -> Iterator[None]:
    """Stops commands where they would train, write or meet others."""
    names = ("run", "export", "plots.save")
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch(f"simrl.{name}", side_effect=_Accepted))
        stack.enter_context(mock.patch.object(distributed, "meet", side_effect=_Accepted))
        stack.enter_context(mock.patch.object(process, "keep_programs"))
        stack.enter_context(contextlib.chdir(folder()))
        yield


def check(rng: random.Random) -> None:
    """Runs a mutated command line. Raises SpecError with the line that refuses it."""
    words, out, err = line_of(rng), io.StringIO(), io.StringIO()
    status = 0
    before = set(os.listdir(folder()))
    with nothing_done(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                cli.main(words)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except _Accepted:
            pass
        finally:
            for name in set(os.listdir(folder())) - before:
                (folder() / name).unlink()
    text = err.getvalue()
    if status == 2:
        lines = text.rstrip("\n").split("\n")
        if len(lines) != 1 or not lines[0].startswith("error: "):
            raise AssertionError(f"{words}: {text[:600]!r}")
        raise SpecError(lines[0].removeprefix("error: "))
    if status not in (0, 1) or "Traceback" in text:
        raise AssertionError(f"{words}: status {status}, {text[:600]!r}")
