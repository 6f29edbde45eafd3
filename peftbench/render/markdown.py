"""Markdown from words that users and the network may have written: tables, and lines of plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

from .columns import Cell


def plain_text(text: str) -> str:
    """In one line, without control characters, and with no tag that a browser would take for one."""
    visible = "".join(char for char in " ".join(text.split()) if char.isprintable())
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", visible)


def in_table(cell: Cell) -> str:
    """A cell whose pipes end no column."""
    text = plain_text(cell.text).replace("|", "\\|")
    return f"**{text}**" if cell.bold else text


def pipe_table(headers: Sequence[str], body: Sequence[Sequence[Cell]], left: int = 1) -> str:
    """A table whose first `left` columns stand to the left, the others to the right."""
    return tabulate(
        [[in_table(cell) for cell in line] for line in body],
        [in_table(Cell(header)) for header in headers],
        tablefmt="github",
        disable_numparse=True,
        colalign=["left"] * left + ["right"] * (len(headers) - left),
    )
