"""`simrl status`: what a result folder holds."""

import argparse
import sys
from collections import Counter

import pandas as pd
from rich.console import Console

import simrl
from simrl.cli import tables
from simrl.cli.commands.run import in_words

MOST_ROWS = 24


def execute(arguments: argparse.Namespace) -> None:
    """Prints a row for each condition; exit status 1 where something is missing or damaged."""
    found = simrl.status(arguments.folder, arguments.verify)
    console, most = Console(), found.most_seeds
    rows = []
    for cell in found.cells:
        row = {**cell.coordinates, "seeds": cell.seeds, "missing": most - cell.seeds}
        if arguments.verify:
            row["damaged blocks"] = len(cell.damaged)
        row["diverged"] = "–" if cell.diverged is None else cell.diverged
        rows.append(row)
    incomplete = [row for row in rows if row["missing"] or row.get("damaged blocks")]
    title = f"{found.name}: {len(rows)} conditions, {len(rows) - len(incomplete)} complete"
    shown = (rows if len(rows) <= MOST_ROWS else incomplete or rows)[:MOST_ROWS]
    tables.show(pd.DataFrame(shown), title, console, max(1, len(found.cells[0].coordinates)))
    if len(shown) < len(rows):
        console.print(f"{len(rows) - len(shown)} more", highlight=False)
    blocks = sum(cell.blocks for cell in found.cells)
    counts = {"block": blocks, "session": found.sessions}
    blocks_, sessions = (f"{num:,} {name}{'s' * (num != 1)}" for name, num in counts.items())
    line = f"{blocks_}, {in_words(found.bytes)}, {sessions}"
    line += f"; {found.partial} files were being written" if found.partial else ""
    console.print(line, highlight=False, soft_wrap=True)
    if num_diverged := sum(cell.diverged or 0 for cell in found.cells):
        first = min(cell.bad_update for cell in found.cells if cell.bad_update is not None)
        seeds = f"{num_diverged:,} seed{'s' * (num_diverged > 1)}"
        line = f"{seeds} diverged, the first at update {first:,}"
        console.print(line, highlight=False, soft_wrap=True)
    for text, count in Counter(line for cell in found.cells for line in cell.damaged).items():
        console.print(text + (f" ({count} times)" if count > 1 else ""), soft_wrap=True)
    sys.exit(bool(incomplete))
