"""A page of an experiment as one HTML file that opens from disk, light and dark, and asks no network for anything."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from ..render.columns import Cell
from .page import CONFIRMED, CONTRADICTED, Page

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #2a7d4f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --good: #6fcf97; --bad: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
.wide { overflow-x: auto; }
figure { margin: 1rem 0; } img { background: white; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem; text-align: right; vertical-align: top; }
th.left, td.left { text-align: left; }
.confirmed { color: var(--good); } .contradicted { color: var(--bad); font-weight: bold; }
"""


def page_html(page: Page) -> str:
    """The same content as the Markdown."""
    parts = [f"<h1>{escape(page.title)}</h1>", f"<p>{escape(page.caption)}</p>"]
    if page.differs:
        lines = "".join(f"<li>{escape(line)}</li>" for line in page.differs)
        parts.append(f"<p>Differs from the paper:</p><ul>{lines}</ul>")
    for picture in page.pictures:
        data = base64.b64encode(picture.svg.encode("utf-8")).decode("ascii")
        title = escape(picture.title)
        parts.append(
            f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{title}"><figcaption>{title}</figcaption></figure>'
        )
    for table in page.tables:
        parts += [f"<h2>{escape(table.title)}</h2>", _table(table.headers, table.body, table.left)]
    parts += ["<h2>What the paper says of it</h2>", f"<p>{escape(page.how_judged)}</p>"]
    body = [
        (Cell(one.says), Cell(verdict), Cell(one.evidence), Cell(one.test))
        for one, verdict in zip(page.statements, page.verdicts, strict=True)
    ]
    parts.append(_table(("statement", "verdict", "evidence", "test"), body, 4))
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(page.title)}</title>\n<style>{STYLE}</style>\n'
        f"</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _table(headers: Sequence[str], body: Sequence[Sequence[Cell]], left: int) -> str:
    head = "".join(f"<th{_side(i, left)}>{escape(text)}</th>" for i, text in enumerate(headers))
    rows = "\n".join(
        "<tr>" + "".join(_cell(cell, i, left) for i, cell in enumerate(line)) + "</tr>" for line in body
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
    )


def _cell(cell: Cell, place: int, left: int) -> str:
    text = escape(cell.text)
    if cell.text in (CONFIRMED, CONTRADICTED):
        text = f'<span class="{cell.text}">{text}</span>'
    return f"<td{_side(place, left)}>{f'<b>{text}</b>' if cell.bold else text}</td>"


def _side(place: int, left: int) -> str:
    return ' class="left"' if place < left else ""
