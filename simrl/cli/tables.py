"""Tables on the screen, as wide as it is: words are wrapped, and nothing is cut off."""

import textwrap

import pandas as pd
from rich.console import Console

GAP = 2  # spaces between columns
PROSE = 28  # characters that a column of longer text is not made narrower than
NUMBER = r"[-+]?[\d.,]+(e[-+]?\d+)?\*?|[-+]?inf|–"  # of a column aligned to the right
GLUE = str.maketrans({" ": "\N{NO-BREAK SPACE}"})  # textwrap does not break there


def show(frame: pd.DataFrame, title: str, console: Console, keys: int = 1) -> None:
    """Prints a table; columns that do not fit go below it, beside the first `keys` again."""
    cells = frame.map(number)
    for line in textwrap.wrap(title, console.width):
        console.print(line, style="bold", markup=False, highlight=False)
    numeric = {name: cells[name].str.fullmatch(NUMBER).all() for name in cells}
    for names in parts(cells, console.width, keys):
        sizes = widths(cells[names], console.width)
        header = dict(zip(names, (str(name).strip() for name in names), strict=True))
        rows = [header, *cells[names].to_dict("records")]
        for i, row in enumerate(rows):
            texts = [(row[name], size, numeric[name]) for name, size in zip(names, sizes)]  # noqa: B905
            for line in wrapped(texts):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            if i == 0:
                console.print("─" * (sum(sizes) + GAP * (len(sizes) - 1)), soft_wrap=True)
        console.print()


def wrapped(cells: list[tuple[str, int, bool]]) -> list[str]:
    """Returns the lines of a row of (text, width, whether to align it right)."""
    columns = [textwrap.wrap(glued(text), size, break_long_words=False) for text, size, _ in cells]
    lines = []
    for i in range(max(map(len, columns), default=0)):
        pieces = [column[i] if i < len(column) else "" for column in columns]
        sides = zip(pieces, cells, strict=True)
        placed = [x.rjust(size) if right else x.ljust(size) for x, (_, size, right) in sides]
        lines.append((" " * GAP).join(placed).rstrip())
    return lines


def glued(text: str) -> str:
    """Returns text in which a number and its error, or the ends of an interval, are one word."""
    for sign in (" ± ", " … ", " s.e."):
        text = text.replace(sign, sign.translate(GLUE))
    return text


def parts(cells: pd.DataFrame, width: int, keys: int = 1) -> list[list[str]]:
    """Returns the columns of each table that a frame of text is printed as, `width` characters.

    Words stay whole, so a column is at least as wide as the longest of them; tables after the first
    repeat the first `keys` columns.
    """
    names = list(cells)
    sizes = {name: least(cells[name]) + GAP for name in names}
    start = width + GAP - sum(sizes[name] for name in names[:keys])
    tables, room = [names[:keys]], start
    for name in names[keys:]:
        if sizes[name] > room and len(tables[-1]) > keys:
            tables.append(names[:keys])
            room = start
        tables[-1].append(name)
        room -= sizes[name]
    return tables


def widths(cells: pd.DataFrame, width: int) -> list[int]:
    """Returns the width of each column: of its longest word, and of more where there is room."""
    sizes = [least(cells[name]) for name in cells]
    room = width - sum(sizes) - GAP * (len(sizes) - 1)
    for i, name in enumerate(cells):
        whole = max(len(text) for text in [str(name).strip(), *cells[name]])
        more = max(0, min(room, whole - sizes[i]))
        sizes[i] += more
        room -= more
    return sizes


def least(column: pd.Series) -> int:
    """Returns the least width of a column of text: whole words, a name of about three lines."""
    texts = [glued(text) for text in [str(column.name), *column]]
    longest = max(len(word) for text in texts for word in [*text.split(" "), ""])
    whole = max(map(len, column), default=0)
    return max(longest, min(PROSE, whole), -(-len(str(column.name)) // 3))


def marked(values: pd.Series, marks: pd.Series) -> pd.Series:
    """Returns values as they are printed, an asterisk behind those that are marked."""
    return values.map(number) + marks.map({True: "*", False: ""})


def number(value: object) -> str:
    """Returns a cell of a printed table: three digits, a dash for what is not defined."""
    if isinstance(value, float):
        return "–" if value != value else f"{value:.3g}"
    return str(value)
