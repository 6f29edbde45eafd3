"""A table that fits a narrow terminal: what a choice rests on, and of the footnotes those that warn."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from peftbench import report
from peftbench.printable import printable
from peftbench.render.columns import MISSING, Cell, percent_of, score, text_rows, with_interval
from peftbench.render.in_words import in_words
from peftbench.render.trouble import trouble
from peftbench.tables.notes import Explains
from peftbench.tables.quantities import PEAK, SLOWDOWN, STEP, TRAINED, Measure
from peftbench.tables.table import Row, Table
from peftbench.tables.titles import titles_of

from .markdown import over_several

LEAST_WIDTH = 40  # characters; what is narrower is scrolled
BETWEEN = 2  # characters between two columns
NEVER_LEFT_OUT = 3  # columns: the method, its quality, the difference
MORE = (
    "All columns and footnotes: --format markdown. What they mean, and how they are measured: README.md, "
    "docs/measurement.md."
)


@report("compact", suffix=".txt")
def compact(tables: Sequence[Table]) -> str:
    """As wide as the terminal: the last columns are left out where there is no room for them."""
    width = max(LEAST_WIDTH, shutil.get_terminal_size((100, 24)).columns)
    # While a report is made, what it prints goes elsewhere: it is the program's own stdout that is asked.
    colour = sys.__stdout__ is not None and sys.__stdout__.isatty() and not os.environ.get("NO_COLOR")
    file = io.StringIO()
    console = Console(
        file=file,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
    )
    for table, title in zip(tables, titles_of(tables), strict=True):
        _write(console, table, title)
    if several := over_several(tables):
        console.print(_text(several))
    console.print(_text(MORE, "dim"))
    return file.getvalue()


def _write(console: Console, table: Table, title: str) -> None:
    console.print(_text(title, "bold"))
    console.print(_text(table.caption))
    headers, body = text_rows(table) if table.columns else _columns(table)
    kept = _that_fit([[Cell(text) for text in headers], *body], console.width)
    grid = Grid(box=None, pad_edge=False, padding=(0, BETWEEN, 0, 0), header_style="dim")
    for place in range(kept):
        grid.add_column(_text(headers[place]), justify="left" if place == 0 else "right", no_wrap=True)
    for row, line in zip(table.shown_rows, body, strict=True):
        style = "red" if row.failed_checks or row.failed_seeds or row.status != "ok" else ""
        grid.add_row(*(_text(c.text, "bold" if c.bold else "") for c in line[:kept]), style=style)
    console.print(grid)
    if said_in_words := in_words(table):
        console.print(_text(said_in_words, "bold"))
    said = [f"{row.label} {trouble(row)}" for row in table.shown_rows if row.reason]
    for note in (*said, *(note for note in table.footnotes if not isinstance(note, Explains))):
        console.print(_text(f"- {note.replace('**', '')}"))
    console.print()


def _text(text: str, style: str = "") -> Text:
    """Words of users and of the network among it."""
    return Text(printable(text), style)


def _columns(table: Table) -> tuple[list[str], list[list[Cell]]]:
    """Those that a choice rests on, the first the most."""
    percent, unit = percent_of(table), f" {table.unit}" if table.unit else ""
    columns: list[tuple[str, Callable[[Row], Cell]]] = [
        ("method", _name),
        (f"{table.metric}{unit}", lambda row: score(row, percent)),
        (f"vs {table.reference}", lambda row: _difference(row, percent)),
        (TRAINED.label, lambda row: _figure(row, TRAINED)),
        ("peak MB", lambda row: _figure(row, PEAK)),
        ("step ms", lambda row: _figure(row, STEP)),
        ("slow-down %", lambda row: _figure(row, SLOWDOWN)),
    ]
    if not table.reference:
        del columns[2]
    return [header for header, _ in columns], [[cell(row) for _, cell in columns] for row in table.shown_rows]


def _name(row: Row) -> Cell:
    if row.status != "ok":
        return Cell(f"{row.label} {row.status}")
    failed = f" {len(row.failed_seeds)}/{row.seeds_good} failed" if row.failed_seeds else ""
    lost = f" {row.seeds_good}/{row.seeds_tried} seeds" if row.seeds_good < row.seeds_tried else ""
    return Cell(row.label + lost + failed + (" FAIL" if row.failed_checks else ""))


def _difference(row: Row, percent: float) -> Cell:
    return Cell(MISSING if row.difference is None else with_interval(row.difference, percent, sign="+"))


def _figure(row: Row, measure: Measure) -> Cell:
    figure = row.costs.of(measure)
    return Cell(MISSING if figure is None else measure.text(figure))


def _that_fit(lines: Sequence[Sequence[Cell]], width: int) -> int:
    """How many columns there is room for, from the left."""
    widths = [max(len(cell.text) for cell in column) + BETWEEN for column in zip(*lines, strict=True)]
    kept = len(widths)
    while kept > NEVER_LEFT_OUT and sum(widths[:kept]) - BETWEEN > width:
        kept -= 1
    return kept
