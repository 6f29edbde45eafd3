"""One HTML file that opens from disk: the table to sort and filter, plots, and every run behind them. It asks no network for anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

from peftbench import report
from peftbench.tables.table import Table

from ._page_content import content_of

PAGE = Path(__file__).with_name("_page")


@report("html", suffix=".html")
def html(tables: Sequence[Table]) -> str:
    """A page for a browser; `--out report.html` writes it to a file."""
    from plotly.offline import get_plotlyjs

    # Inside a script element a browser looks for its end and for comments alone.
    content = content_of(tables).replace("<", "\\u003c")
    read = {name: (PAGE / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    return Template(read["html"]).substitute(
        style=read["css"], content=content, plotly=get_plotlyjs(), script=read["js"]
    )
