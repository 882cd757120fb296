"""How a figure for a paper looks: widths, fonts, colours, panel letters, files."""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

ONE_COLUMN, TWO_COLUMNS = 3.35, 7.0  # inches
HEIGHT = 2.4
WIDTHS = {  # name -> inches of one column and of the page
    "single": (ONE_COLUMN, TWO_COLUMNS),
    "icml": (3.25, 6.75),
    "neurips": (5.5, 5.5),  # has one column
}

# Okabe and Ito (2008): told apart with every common colour blindness, and by lightness.
BLUE, VERMILLION, ORANGE, GREEN = "#0072B2", "#D55E00", "#E69F00", "#009E73"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#767676"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)

COLOURS = {  # the learners, in small letters, that have a colour of their own in every figure
    "supervised": BLUE,
    "leave_one_out": VERMILLION,
    "policy_gradient": VERMILLION,
    "none": ORANGE,
    "reinforce": ORANGE,
    "rloo": VERMILLION,
    "grpo": GREEN,
    "batch_mean": PURPLE,
    "group_mean": PURPLE,
    "group_normalised": GREEN,
    "maxrl": SKY,
}

RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.3,
    "legend.columnspacing": 1.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.labelpad": 2.5,
    "axes.prop_cycle": cycler(color=CYCLE),
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.2,
    "lines.markeredgewidth": 0.7,
    "figure.figsize": (ONE_COLUMN, HEIGHT),
    "figure.constrained_layout.use": True,  # labels are not cut off
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType, so that text stays text; publishers refuse Type 3
    "ps.fonttype": 42,
}
# No creation date: the same figure is the same file.
UNDATED: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


@contextmanager
def paper(
    style: str = "single",
    *,
    columns: int = 1,
    width: float | None = None,
    height: float = HEIGHT,
    **changes: Any,
) -> Iterator[None]:
    """Draw inside `with simrl.plots.paper():`, in the type, the width and the colours of a paper.

    Fonts are looked up at saving too: save inside the block, or with `save`.

    Args:
      style: "single" (3.35 in a column, 7 in the page), "icml" (3.25 and 6.75 in) or "neurips"
        (5.5 in, which has one column).
      columns: 1 or 2, how many columns a figure is wide.
      width: of a figure in inches, instead of the style's.
      height: of a figure in inches.
      **changes: further rcParams, dots as underscores: `font_size=9`.

    Raises:
      ValueError: an unknown style or rcParam, a width or a height that is not positive.
    """
    if style not in WIDTHS:
        raise ValueError(f"style: must be one of {', '.join(WIDTHS)}, got {style!r}")
    if columns not in (1, 2):
        raise ValueError(f"columns: must be 1 or 2, got {columns!r}")
    size = (WIDTHS[style][columns - 1] if width is None else width, height)
    for name, inches in zip(("width", "height"), size, strict=True):
        if not inches > 0:
            raise ValueError(f"{name}: must be positive, got {inches!r}")
    names = {name.replace(".", "_"): name for name in matplotlib.rcParams}
    for name in changes:
        if name not in names:
            close = ", ".join(get_close_matches(name, names, 3))
            hint = f", such as {close}" if close else ""
            raise ValueError(f"{name}: must be an rcParam with dots as underscores{hint}")
    own = {names[name]: value for name, value in changes.items()}
    with matplotlib.rc_context({**RC, "figure.figsize": size, **own}):
        yield


def panel_letter(ax: Axes, letter: str, title: str = "") -> Axes:
    """Put a bold letter above the corner of the panel and, from its left edge on, its title."""
    ax.set_title(title, loc="left", pad=5)
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    ax.annotate(letter, (0, 1), (-20, 5), fontsize=10, fontweight="bold", **place)
    return ax


PASS_RATE_TICKS = (1e-5, 1e-4, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


def log_odds_axis(
    ax: Axes,
    low: float | None = None,
    high: float | None = None,
    ticks: tuple[float, ...] = PASS_RATE_TICKS,
) -> Axes:
    """Make x a pass rate spaced by its log-odds, labelled with the pass rates themselves.

    The axis reaches all that is drawn, before or after, unless it is to end at `low` or `high`.
    """
    ax.set_xscale("logit")
    if low is not None or high is not None:
        ends = ax.get_xlim()
        ax.set_xlim(ends[0] if low is None else low, ends[1] if high is None else high)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:.9f}".strip("0")))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    return ax


def save(figure: Figure, path: Path | str) -> list[Path]:
    """Write `path` in the format of its ending, or without one `path`.pdf and `path`.png.

    Makes the folder. PNGs have 300 dpi. Returns the paths written.
    """
    whole = Path(path)
    whole.parent.mkdir(parents=True, exist_ok=True)
    files = [whole.with_name(f"{whole.name}.{ending}") for ending in ("pdf", "png")]
    if whole.suffix[1:].lower() in figure.canvas.get_supported_filetypes():
        files = [whole]
    engine = figure.get_layout_engine()
    with paper(figure_autolayout=False, figure_constrained_layout_use=False):
        if engine is not None:
            engine.execute(figure)
        figure.set_layout_engine(None)  # else each file is laid out anew: half of its time
        try:
            for file in files:
                figure.savefig(file, dpi=300, metadata=UNDATED.get(file.suffix[1:].lower()))
        finally:
            figure.set_layout_engine(engine)
    return files
