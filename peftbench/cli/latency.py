"""`peftbench latency`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ..option import Option, options_of, read
from .options import load_reports, write


def options() -> list[Option]:
    """What the command takes."""
    from ..comparison.session import LATENCY_OPTIONS, Printed

    return [*LATENCY_OPTIONS, *options_of(Printed)]


def latency_command(given: Mapping[str, Any]) -> None:
    """Time inference of the base and of every method, unmerged and merged, in turns over one shared base."""
    from ..comparison.compare import compare_latency
    from ..comparison.latency_request import LatencyRequest
    from ..comparison.session import Printed, Session
    from ..engine.named import engine_named
    from ..engine.sweep import Execution
    from ..plugins.rendering import render_latency
    from ..records.joint import record_parts
    from ..records.store import Store
    from ..tables.latency import latency_tables
    from .display import Display

    asked, how = read(LatencyRequest, given), read(Execution, given)
    session, printed = read(Session, given), read(Printed, given)
    load_reports(asked.plugins)
    render_latency([], printed.report)
    with engine_named(session.engine) as engine, Display(printed.quiet) as display:
        records = compare_latency(asked, Store(Path(session.store)), engine, how, display)
    write(render_latency(latency_tables(records), printed.report))
    if any(part.status != "ok" for record in records for part in record_parts(record)):
        raise typer.Exit(1)
