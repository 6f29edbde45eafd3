"""A page of an experiment as Markdown."""

from __future__ import annotations

from .columns import Cell
from .markdown_text import pipe_table, plain
from .paper import CONTRADICTED, Page


def text_of(page: Page) -> str:
    """Title, caption, what differs, tables, and the paper's statements with their verdicts."""
    parts = [f"# {plain(page.title)}", plain(page.caption)]
    if page.differs:
        parts.append("Differs from the paper:\n\n" + "\n".join(f"- {plain(line)}" for line in page.differs))
    for table in page.tables:
        parts += [f"## {plain(table.title)}", pipe_table(table.headers, table.body, table.left)]
    parts.append("## What the paper says of it")
    verdicts = page.verdicts
    body = [
        [Cell(one.says), Cell(verdict, bold=verdict == CONTRADICTED), Cell(one.evidence), Cell(one.test)]
        for one, verdict in zip(page.statements, verdicts, strict=True)
    ]
    parts.append(pipe_table(["statement", "verdict", "evidence", "test"], body, left=4))
    return "\n\n".join(parts) + "\n"
