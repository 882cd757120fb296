"""`python -m experiments` lists the experiments; with a name and options it runs one."""

import ast
import importlib
import sys
import textwrap
from pathlib import Path
from typing import Any

from simrl.cli import process
from simrl.cli.parser import near

NAMES = (
    "efficiency_map",
    "testbed",
    "committal",
    "plateaus",
    "regret",
    "search",
    "proxies",
    "difficulty",
    "coverage",
    "reliability",
    "speed",
)
USAGE = "usage: python -m experiments [NAME [options]]    (NAME --help: its options)"


def summary(name: str) -> str:
    """Returns the first line of an experiment's docstring, without importing it."""
    source = (Path(__file__).parent / f"{name}.py").read_text("utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]


def listing() -> str:
    """Returns a line or two for each experiment, at most 80 columns wide."""
    indent: dict[str, Any] = {"initial_indent": " " * 6, "subsequent_indent": " " * 6}
    return "\n".join(f"  {name}\n{textwrap.fill(summary(name), 79, **indent)}" for name in NAMES)


def main(arguments: list[str]) -> None:
    """Lists the experiments or runs one; refuses another name in one line with status 2."""
    process.print_in_any_encoding()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{USAGE}\n\n{listing()}")
        return
    name, *rest = arguments
    if name.replace("-", "_") not in NAMES:
        text = f"must be one of {', '.join(NAMES)}, got {name[:60]!r}{near(name, NAMES)}"
        print(f"error: experiment: {text}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [name, *rest]
    from experiments import command  # noqa: PLC0415  (a list needs no JAX)

    module = importlib.import_module(f"experiments.{name.replace('-', '_')}")
    command.guarded(module.main)


if __name__ == "__main__":
    main(sys.argv[1:])
