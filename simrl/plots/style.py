"""How a figure for a paper looks: widths, fonts, colours, panel letters, files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

ONE_COLUMN, TWO_COLUMNS = 3.35, 7.0  # inches

# Okabe and Ito (2008): told apart with every common colour blindness, and by lightness.
BLUE, VERMILLION, ORANGE, GREEN = "#0072B2", "#D55E00", "#E69F00", "#009E73"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#767676"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)

COLOURS = {  # the learners that have a colour of their own in every figure
    "supervised": BLUE,
    "leave_one_out": VERMILLION,
    "policy_gradient": VERMILLION,
    "none": ORANGE,
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
    "figure.figsize": (ONE_COLUMN, 2.4),
    "figure.constrained_layout.use": True,  # labels are not cut off
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType, so that text stays text; publishers refuse Type 3
    "ps.fonttype": 42,
}


@contextmanager
def paper(**changes: Any) -> Iterator[None]:
    """Draw inside `with simrl.plots.paper():`; changes are further rcParams, dots as underscores.

    Fonts are looked up at saving too: save inside the block, or with `save`.
    """
    names = {name.replace(".", "_"): name for name in matplotlib.rcParams}
    unknown = sorted(set(changes) - set(names))
    if unknown:
        raise ValueError(f"no such rcParam: {', '.join(unknown)}")
    with matplotlib.rc_context({**RC, **{names[name]: v for name, v in changes.items()}}):
        yield


def panel_letter(ax: Axes, letter: str, title: str = "") -> Axes:
    """A bold letter above the corner of the panel and, from its left edge on, what it shows."""
    ax.set_title(title, loc="left", pad=5)
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    ax.annotate(letter, (0, 1), (-20, 5), fontsize=10, fontweight="bold", **place)
    return ax


PASS_RATE_TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99)


def log_odds_axis(
    ax: Axes, low: float = 6e-4, high: float = 0.993, ticks: tuple[float, ...] = PASS_RATE_TICKS
) -> Axes:
    """Make x a pass rate spaced by its log-odds, labelled with the pass rates themselves."""
    ax.set_xscale("logit")
    ax.set_xlim(low, high)
    shown = [tick for tick in ticks if low <= tick <= high]
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}".lstrip("0") for tick in shown]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    return ax


def save(figure: Figure, path: Path | str) -> list[Path]:
    """Write `path`.pdf and `path`.png (300 dpi); makes the folder. Returns the two paths."""
    stem = Path(path)
    stem.parent.mkdir(parents=True, exist_ok=True)
    made = [stem.with_name(f"{stem.name}.{ending}") for ending in ("pdf", "png")]
    engine = figure.get_layout_engine()
    with paper(figure_autolayout=False, figure_constrained_layout_use=False):
        if engine is not None:
            engine.execute(figure)
        figure.set_layout_engine(None)  # else each file is laid out anew: half of its time
        try:
            # No creation date: the same figure is the same file.
            figure.savefig(made[0], metadata={"CreationDate": None})
            figure.savefig(made[1], dpi=300)
        finally:
            figure.set_layout_engine(engine)
    return made
