"""The `simrl` command: parses its arguments, calls the public functions, prints."""

import importlib
import sys

from simrl.cli import parser, process


def main(words: list[str] | None = None) -> None:
    """Runs the command that the words (default `sys.argv`) name; exit status 2 on bad input."""
    process.print_in_any_encoding()
    name, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    if name in ("-h", "--help"):
        print(parser.usage())
        return
    if name == "--version":
        import simrl  # noqa: PLC0415

        print(f"simrl {simrl.__version__}")
        return
    if name == "experiments":
        _experiments(rest)
        return
    if name not in parser.COMMANDS:
        allowed = [*parser.COMMANDS, "experiments"]
        hint = parser.near(name, allowed)
        line = f"COMMAND: must be one of {', '.join(allowed)}, got {name[:60]!r}{hint}"
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    arguments = parser.parser(name).parse_args(rest)

    def execute() -> None:
        importlib.import_module(f"simrl.cli.commands.{name}").execute(arguments)

    process.guarded(execute)


def _experiments(words: list[str]) -> None:
    """Runs `python -m experiments` where the repository is at hand."""
    try:
        gallery = importlib.import_module("experiments.__main__")
    except ModuleNotFoundError:
        text = "experiments: must be run in a clone of simrl's repository, which holds them"
        print(f"error: {text}", file=sys.stderr)
        sys.exit(2)
    gallery.main(words)
