"""Figures with their captions: the picture has two lines at most, the rest is a text beside it."""

import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from simrl import plots

WIDTH = 100  # characters of a line of the text


def save(figure: Figure, folder: Path | str, caption: str, name: str = "figure") -> list[Path]:
    """Write <name>.pdf, <name>.png (300 dpi) and the caption, <name>.txt; returns the paths."""
    paths = plots.save(figure, Path(folder) / name)
    text = Path(folder) / f"{name}.txt"
    text.write_text(textwrap.fill(" ".join(caption.split()), WIDTH) + "\n", encoding="utf-8")
    return [*paths, text]


def note(figure: Figure, text: str, width: int = 125) -> None:
    """Write a note of two lines at most below the panels, in the smallest type."""
    lines = textwrap.wrap(" ".join(text.split()), width)
    if len(lines) > 2:
        raise ValueError(f"text: must be two lines of {width} characters at most, got {len(lines)}")
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7, linespacing=1.3)
