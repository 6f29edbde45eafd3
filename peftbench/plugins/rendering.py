"""Tables as text, or as the bytes of a file, by the report of a name."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..tables.latency import LatencyTable
from ..tables.table import Table
from . import registry


def render_latency(made: Sequence[LatencyTable], report: str) -> str:
    """The same of latency tables.

    Raises:
        UsageError: the report has none.
    """
    latency = registry.get("report", report).declared.latency
    if latency is None:
        raise UsageError(f"report {report!r} has no latency tables; use --format markdown, csv or json")
    with registry.contained():
        text: str = latency(made)
    return text


def render(made: Sequence[Table], report: str) -> str | bytes:
    """The tables as text, or as the bytes of a file, by the report of that name."""
    target = registry.get("report", report).target
    with registry.contained():
        text: str | bytes = target(made)
    return text
