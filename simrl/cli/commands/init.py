"""`simrl init`: a sweep file to begin with."""

import argparse
import re
from pathlib import Path

from simrl.errors import SpecError

TEMPLATE = Path(__file__).parents[1] / "template.toml"


def execute(arguments: argparse.Namespace) -> None:
    """Writes NAME.toml; raises SpecError where there is such a file or the name is none."""
    file = Path(arguments.name)
    if file.suffix != ".toml":
        file = file.with_name(f"{file.name}.toml")
    if not re.fullmatch(r"[\w.-]+", file.stem):
        allowed = "letters, digits, _, - and ."
        raise SpecError(f"NAME: must be of {allowed}, got {arguments.name[:60]!r}")
    text = TEMPLATE.read_text("utf-8").replace("NAME", file.stem)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise SpecError(f"NAME: must be of a new file, got {file}, which exists") from None
    print(f"wrote {file}; next: simrl run {file}")
