"""The arguments of every `simrl` command, on this page; imports nothing that takes time."""

import argparse
import difflib
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

LONGEST = 300  # characters of an error
MOST_SEEDS = 2**32  # their numbers are 32-bit words


class Parser(argparse.ArgumentParser):
    """A parser that refuses abbreviations, and whose errors are one line with exit status 2."""

    def __init__(self, prog: str, about: str, example: str) -> None:
        paragraphs = [textwrap.fill(part, 79) for part in about.strip().split("\n\n")]
        self._options: list[str] = []
        super().__init__(
            prog=prog,
            description="\n\n".join(paragraphs),
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """Adds an argument; see `argparse`."""
        self._options += [name for name in names if name.startswith("-")]
        return super().add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        """Ends the process with a line on what is wrong and what was probably meant."""
        message = re.sub(r"^argument ([^:]*/)?([^:/]+): ", r"\2: ", message)
        unknown = re.fullmatch(r"unrecognized arguments: ((\S+?)(=.*|\s.*)?)", message, re.DOTALL)
        if unknown:
            message += near(unknown[2], self._options)
        message, hint = " ".join(message.split()), f" (options: {self.prog} --help)"
        most = LONGEST - len(hint)
        line = message if len(message) <= most else f"{message[: most - 1]}…"
        self.exit(2, f"error: {line}{hint}\n")


def near(word: str, allowed: Iterable[str]) -> str:
    """Returns "; did you mean X?" where a word is close to one that is allowed, else ""."""
    close = difflib.get_close_matches(word, list(allowed), 1)
    return f"; did you mean {close[0]}?" if close else ""


def positive(text: str) -> int:
    """Returns a whole number of at least 1, for argparse."""
    number = int(text) if text.isdecimal() and len(text) < 20 else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return number


def seeds(text: str) -> int:
    """Returns a number of seeds, for argparse."""
    number = positive(text)
    if number > MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"must be in 1 ... {MOST_SEEDS}, got {text!r}")
    return number


def one_of(*allowed: str) -> Callable[[str], str]:
    """Returns a type for argparse: one of some words."""

    def word(text: str) -> str:
        if text not in allowed:
            line = f"must be one of {', '.join(allowed)}, got {text!r}{near(text, allowed)}"
            raise argparse.ArgumentTypeError(line)
        return text

    return word


def results(text: str) -> Path:
    """Returns a result folder: a sweep's name stands for results/<name>, where `run` puts it."""
    folder, named = Path(text), Path("results") / text
    try:
        return named if not folder.exists() and named.exists() else folder
    except (OSError, ValueError):  # too long a name, or a zero byte: refused where it is opened
        return folder


def shard(text: str) -> tuple[int, int] | str:
    """Returns (i, n) of "i/n", or "auto"."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if text != "auto" and not (match and 1 <= int(match[1]) <= int(match[2])):
        line = f"must be i/n with 1 <= i <= n, or auto, got {text!r}"
        raise argparse.ArgumentTypeError(line)
    return (int(match[1]), int(match[2])) if match else text


def address(text: str) -> str:
    """Returns HOST:PORT, for argparse."""
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch(r"\d{1,5}", port) or int(port) >= 2**16:
        raise argparse.ArgumentTypeError(f"must be HOST:PORT, got {text!r}")
    return text


def change(text: str) -> tuple[str, str]:
    """Returns (path, value) of "path=value"."""
    path, sign, value = text.partition("=")
    if not sign or not path.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"must be path=value, got {text!r}")
    return path.strip(), value.strip()


class Command(NamedTuple):
    """A command: what it does, what help says of it, an example, and its arguments."""

    summary: str
    about: str
    example: str
    add: Callable[[Parser], None]


def _init(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the sweep; writes NAME.toml")


def _run(parser: Parser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE.toml", type=Path, help="a sweep; `simrl init` writes one")
    add("--seeds", type=seeds, default=256, metavar="N", help="seeds per condition (default 256)")
    add("--out", type=Path, metavar="DIR", help="result folder (default results/<name>)")
    text = "a field's value, instead of the file's: learner.optimizer.learning_rate=0.5"
    add("--set", type=change, action="append", default=[], metavar="PATH=VALUE", help=text)
    text = "run the i-th of n shares of the sweep, or the one that a scheduler's variables name"
    add("--shard", type=shard, metavar="i/n|auto", help=text)
    text = "wait for the other processes of this program, then run the share of this one"
    add("--distributed", action="store_true", help=text)
    text = "where the first process listens, unless the cluster says so; with --shard i/n, of each"
    add("--coordinator", metavar="HOST:PORT", type=address, help=text)
    add("--devices", type=positive, metavar="N", help="how many devices (default all)")
    _keep(parser, "moments: hold no value of a seed, for millions of them (default seeds)")
    add("--dry-run", action="store_true", help="say what would be run and what it takes")
    text = "a module of your own, here or installed, that the file may name"
    add("--allow", action="append", default=[], metavar="MODULE", help=text)
    text = "stop as soon as a finished block holds a seed that diverged: NaN or infinite"
    add("--strict", action="store_true", help=text)
    text = "do not keep compiled programs in the user's cache folder"
    add("--no-cache", action="store_true", help=text)


def _keep(parser: Parser, text: str) -> None:
    kept = one_of("seeds", "moments")
    parser.add_argument("--keep", type=kept, default="seeds", metavar="WHAT", help=text)


def _folder(parser: Parser) -> None:
    text = "a result folder of simrl run; NAME is short for results/NAME"
    parser.add_argument("folder", metavar="DIR", type=results, help=text)


def _status(parser: Parser) -> None:
    _folder(parser)
    text = "read every block and check it against its checksums"
    parser.add_argument("--verify", action="store_true", help=text)


def _table(parser: Parser) -> None:
    _folder(parser)
    add = parser.add_argument
    text = "curve: over training; phase: by pass rate; hitting: samples to a pass rate (default)"
    kind = one_of("curve", "phase", "hitting")
    add("--kind", type=kind, default="hitting", metavar="KIND", help=text)
    add("--quantity", metavar="NAME", help="of a curve (default pass_rate) or of phases")
    _keep(parser, "moments: do without medians, in the memory of a block (default seeds)")
    text = "write all rows and columns to a file, .csv or .parquet, instead"
    add("--to", type=Path, metavar="FILE", help=text)


def _figure(parser: Parser) -> None:
    _folder(parser)
    add = parser.add_argument
    add("--quantity", default="pass_rate", metavar="NAME", help="vertical axis (default pass_rate)")
    horizontal = one_of("samples", "flops", "flops_counted", "step", "pass_rate")
    text = "samples (default), flops, flops_counted, step, or pass_rate: by phase"
    add("--x", type=horizontal, default="samples", metavar="NAME", help=text)
    text = "file without suffix; .pdf and .png are written (default DIR/<quantity>)"
    add("--to", type=Path, metavar="FILE", help=text)
    style = one_of("neurips", "icml", "single")
    add("--style", type=style, default="neurips", metavar="NAME", help="neurips, icml or single")


def _export(parser: Parser) -> None:
    _folder(parser)
    add = parser.add_argument
    form = one_of("netcdf", "parquet", "csv")
    add("--to", type=form, required=True, metavar="FORMAT", help="netcdf, parquet or csv")
    add("--file", type=Path, metavar="FILE", help="where to (default DIR/<folder's name>.<suffix>)")


def _list(parser: Parser) -> None:
    text = "a family (learner) or a name (policy_gradient)"
    parser.add_argument("name", nargs="?", metavar="FAMILY|NAME", help=text)


def _doctor(parser: Parser) -> None:
    del parser


COMMANDS = {
    "init": Command(
        "write a sweep file that runs as it is",
        "Writes NAME.toml, a commented sweep that runs as it is. Replaces no file.",
        "simrl init demo",
        _init,
    ),
    "run": Command(
        "run what is missing of a sweep",
        "Runs a sweep, or what is missing of it, and says what was found. Finished blocks of "
        "seeds are not run twice, also after an interrupt; any number of jobs may share a folder.",
        "simrl run demo.toml --seeds 1024 --set learner.group_size=16",
        _run,
    ),
    "status": Command(
        "say what a result folder holds",
        "Says what is done, missing, damaged and diverged, from the folder alone, of a sweep that "
        "runs or that has ended.",
        "simrl status results/demo",
        _status,
    ),
    "table": Command(
        "print a table of stored results",
        "Prints a table with intervals over seeds, from stored results alone.",
        "simrl table results/demo --kind phase --quantity noise_scale",
        _table,
    ),
    "figure": Command(
        "draw a figure of stored results",
        "Draws a quantity over training, or by phase, from stored results alone; writes pdf and "
        "png.",
        "simrl figure results/demo --quantity pass_rate --x flops",
        _figure,
    ),
    "export": Command(
        "write stored results to netCDF, parquet or csv",
        "Writes the values of every seed to one file, with specification, versions and commit.",
        "simrl export results/demo --to netcdf",
        _export,
    ),
    "list": Command(
        "list environments, policies, learners, advantages, …",
        "Lists every registered name with its fields and defaults.",
        "simrl list policy_gradient",
        _list,
    ),
    "doctor": Command(
        "say what simrl runs on",
        "Prints versions, devices, precision and cache, and warns of what slows simrl down.",
        "simrl doctor",
        _doctor,
    ),
}


def parser(name: str) -> Parser:
    """Returns the parser of a command."""
    command = COMMANDS[name]
    made = Parser(f"simrl {name}", command.about, command.example)
    command.add(made)
    return made


def usage() -> str:
    """Returns what `simrl --help` prints, at most 80 columns wide."""
    summaries = {name: command.summary for name, command in COMMANDS.items()}
    summaries["experiments"] = "list or run the experiments of the repository"
    width = max(map(len, summaries)) + 2
    rows = [f"  {name.ljust(width)}{text}" for name, text in summaries.items()]
    start = "simrl init demo && simrl run demo.toml && simrl figure demo"
    return "\n".join(
        [
            "usage: simrl COMMAND [options]    (simrl COMMAND --help: its options)",
            "",
            "Measures how efficiently learners learn: bits, gradient noise and FLOPs.",
            "",
            *rows,
            "",
            f"example:\n  {start}",
        ]
    )
