"""A page of an experiment as Markdown."""

from __future__ import annotations

from ..render.columns import Cell
from ..render.markdown import pipe_table, plain_text
from .page import CONTRADICTED, Page, Picture


def pictures_of(page: Page, name: str) -> dict[str, Picture]:
    """The files beside a page of that name."""
    return {f"{name}-{i}.svg": picture for i, picture in enumerate(page.pictures, 1)}


def page_markdown(page: Page, name: str | None = None) -> str:
    """Title, caption, what differs, pictures, tables, and the paper's statements with their verdicts.

    Args:
        name: of the page's files; None: it stands alone, and its pictures are in the HTML file.
    """
    parts = [f"# {plain_text(page.title)}", plain_text(page.caption)]
    if page.differs:
        parts.append(
            "Differs from the paper:\n\n" + "\n".join(f"- {plain_text(line)}" for line in page.differs)
        )
    if name is None and page.pictures:
        titles = "; ".join(picture.title for picture in page.pictures)
        parts.append(plain_text(f"Drawn with --out FOLDER: {titles}."))
    elif name is not None:
        parts += [f"![{plain_text(one.title)}]({file})" for file, one in pictures_of(page, name).items()]
    for table in page.tables:
        parts += [f"## {plain_text(table.title)}", pipe_table(table.headers, table.body, table.left)]
    parts += ["## What the paper says of it", page.how_judged]
    verdicts = page.verdicts
    body = [
        [Cell(one.says), Cell(verdict, bold=verdict == CONTRADICTED), Cell(one.evidence), Cell(one.test)]
        for one, verdict in zip(page.statements, verdicts, strict=True)
    ]
    parts.append(pipe_table(["statement", "verdict", "evidence", "test"], body, left=4))
    return "\n\n".join(parts) + "\n"
