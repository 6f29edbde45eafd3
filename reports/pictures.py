"""Still pictures for papers and READMEs, as PNG or SVG."""

from __future__ import annotations

from collections.abc import Sequence

from peftbench import report
from peftbench.tables.table import Table

from ._drawing import picture


@report("png", suffix=".png")
def png(tables: Sequence[Table]) -> bytes:
    """Quality against memory and against trained numbers, latency as bars: pixels, 200 an inch."""
    return picture(tables, "png")


@report("svg", suffix=".svg")
def svg(tables: Sequence[Table]) -> str:
    """The same as lines and letters, which scale."""
    return picture(tables, "svg").decode("utf-8")
