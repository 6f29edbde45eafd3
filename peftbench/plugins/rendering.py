"""Tables as text, or as the bytes of a file, by the report of a name."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from .. import defaults
from ..errors import UsageError
from ..tables.latency import LatencyTable
from ..tables.table import Table
from . import registry


def check_report(report: str) -> None:
    """Whether there is one of that name.

    Raises:
        UsageError: there is none.
    """
    if report != defaults.REPORT:
        registry.get("report", report)


def render_latency(made: Sequence[LatencyTable], report: str) -> str:
    """The same of latency tables.

    Raises:
        UsageError: the report has none.
    """
    latency = registry.get(
        "report", defaults.WIDE_REPORT if report == defaults.REPORT else report
    ).declared.latency
    if latency is None:
        raise UsageError(f"report {report!r} has no latency tables; use --format markdown, csv or json")
    with registry.contained():
        text: str = latency(made)
    return text


def render(made: Sequence[Table], report: str, shown: bool = True) -> str | bytes:
    """The tables as text, or as the bytes of a file, by the report of that name.

    Args:
        shown: it is written to stdout.
    """
    if report == defaults.REPORT:
        text = render(made, defaults.WIDE_REPORT)
        assert isinstance(text, str)
        wide = max((len(line) for line in text.splitlines() if line.startswith("|")), default=0)
        narrow = shown and sys.stdout.isatty() and wide > shutil.get_terminal_size().columns
        return render(made, defaults.NARROW_REPORT) if narrow else text
    target = registry.get("report", report).target
    with registry.contained():
        rendered: str | bytes = target(made)
    return rendered
